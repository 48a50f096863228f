"""The potentials that a study can name, and what each is made from: all that needs no JAX.

Tests hold these tables against the classes of `mdsens.potentials`.
"""

from typing import NamedTuple


class PotentialEntry(NamedTuple):
    """What there is to say of a type of potential.

    Attributes:
        description: what it is.
        made_from: its arguments, each with the dimension of its numbers after a colon, and its
            default after a sign of equality; empty where it is read from files alone.
        endings: of the files that it is read from; empty where there are none.
        of_files: what else a study may give beside a file.
    """

    description: str
    made_from: str
    endings: str = ""
    of_files: str = ""


#: Every potential by the name that a study calls it.
POTENTIALS: dict[str, PotentialEntry] = {
    "adp": PotentialEntry(
        "An angular-dependent potential of tables",
        "",
        ".adp",
        "elements pair_scale density_scale embedding_scale dipole_scale quadrupole_scale "
        "length_scale knots",
    ),
    "angles": PotentialEntry(
        "Harmonic angles between two bonds of an atom, E = sum k (theta - theta0)^2 / 2",
        "triples stiffness:energy angle:angle types=None images=None",
    ),
    "bonds": PotentialEntry(
        "Harmonic springs between pairs of atoms, E = sum k (r - r0)^2 / 2: an elastic network",
        "pairs stiffness:energy/length^2 length:length types=None images=None",
    ),
    "ace": PotentialEntry(
        "An atomic cluster expansion: `ACE.from_file` reads it, as LAMMPS's pair_style pace does",
        "",
        ".ace .yace",
        "elements radial",
    ),
    "buckingham": PotentialEntry(
        "The Buckingham potential, phi(r) = A exp(-r/rho) - C/r^6",
        "A:energy rho:length C:energy*length^6 cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "damped-shifted-coulomb": PotentialEntry(
        "Coulomb's law of point charges, damped and shifted to end smoothly at the cutoff c",
        "q:1 alpha:1/length cutoff:length species=None constant:energy*length=14.399645351950548",
    ),
    "dihedrals": PotentialEntry(
        "Torsions about a bond, E = sum k (1 + cos(n phi - phase))",
        "quadruples stiffness:energy phase:angle=0.0 multiplicity=1 types=None images=None",
    ),
    "inverse-power": PotentialEntry(
        "The inverse power law, phi(r) = epsilon (sigma/r)^n",
        "epsilon:energy sigma:length n:1 cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "eam": PotentialEntry(
        "An embedded-atom potential of tables",
        "",
        ".eam .eam.alloy .eam.fs",
        "elements pair_scale density_scale embedding_scale length_scale knots style",
    ),
    "edip": PotentialEntry(
        "The environment-dependent interatomic potential, for one or several species",
        "A:energy B:length a:length c:length alpha:1 beta:1 eta:1 gamma:length lambda_:energy "
        "mu:1 rho:1 sigma:length Q0:1 u1:1 u2:1 u3:1 u4:1 species=None",
        ".edip",
        "elements",
    ),
    "finnis-sinclair": PotentialEntry(
        "The potential of transition metals by Finnis and Sinclair",
        "A:energy/length d:length beta:1 c:length c0:energy/length^2 c1:energy/length^3 "
        "c2:energy/length^4 species=None",
    ),
    "gaussian-core": PotentialEntry(
        "The Gaussian core model, phi(r) = epsilon exp(-(r/sigma)^2), of coils that may overlap",
        "epsilon:energy sigma:length cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "gupta": PotentialEntry(
        "The second-moment potential of metals by Gupta, as Cleri and Rosato have it",
        "A:energy xi:energy p:1 q:1 r0:length cutoff:length species=None onset:length=None",
    ),
    "lennard-jones": PotentialEntry(
        "The 12-6 Lennard-Jones potential, phi(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6)",
        "epsilon:energy sigma:length cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "mie": PotentialEntry(
        "The Mie potential, phi(r) = c epsilon ((sigma/r)^n - (sigma/r)^m)",
        "epsilon:energy sigma:length n:1 m:1 cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "morse": PotentialEntry(
        "The Morse potential, phi(r) = epsilon (exp(-2 alpha (r - r0)) - 2 exp(-alpha (r - r0)))",
        "epsilon:energy alpha:1/length r0:length cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "snap": PotentialEntry(
        "The spectral neighbor analysis potential (SNAP), linear or quadratic in the bispectrum",
        "beta:energy species radii weights rcutfac twojmax rfac0=0.99363 rmin0=0.0 "
        "bzeroflag=True bnormflag=False switchflag=True quadraticflag=False chemflag=False "
        "wselfallflag=False switchinnerflag=False sinner=None dinner=None",
        ".snap .snapcoeff",
        "elements parameters",
    ),
    "soft-sphere": PotentialEntry(
        "Spheres that repel where they overlap, phi(r) = (epsilon / alpha) (1 - r/d)^alpha for "
        "r < d",
        "diameter:length epsilon:energy=1.0 alpha=2.0 species=None",
    ),
    "spring": PotentialEntry(
        "Springs between all that are near enough, phi(r) = stiffness (r - r0)^2 / 2",
        "stiffness:energy/length^2 r0:length cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "stillinger-weber": PotentialEntry(
        "Stillinger-Weber: a two-body term and a three-body term that favours one bond angle",
        "epsilon:energy sigma:length a:1 lambda_:1 gamma:1 costheta0:1 A:1 B:1 p:1 q:1 "
        "species=None",
        ".sw",
        "elements",
    ),
    "stillinger-weber-triplets": PotentialEntry(
        "Stillinger-Weber with parameters of the three-body term for each triplet of species",
        "epsilon:energy sigma:length a:1 lambda_:1 gamma:1 costheta0:1 A:1 B:1 p:1 q:1 "
        "species=None",
        ".sw",
        "elements",
    ),
    "sutton-chen": PotentialEntry(
        "The Sutton-Chen potential of metals",
        "epsilon:energy a:length c:1 n:1 m:1 cutoff:length species=None onset:length=None",
    ),
    "tersoff": PotentialEntry(
        "Tersoff's potential, for one or several species",
        "m gamma:1 lambda3:1/length c:1 d:1 costheta0:1 n:1 beta:1 lambda2:1/length B:energy "
        "R:length D:length lambda1:1/length A:energy species=None",
        ".tersoff",
        "elements",
    ),
    "tersoff-mod": PotentialEntry(
        "Tersoff's potential as modified for the melting and elasticity of silicon",
        "m lambda3:1/length h:1 eta:1 beta:1 lambda2:1/length B:energy R:length D:length "
        "lambda1:1/length A:energy n:1 c1:1 c2:1 c3:1 c4:1 c5:1 c0:energy=0.0 species=None",
        ".tersoff.mod .tersoff.modc",
        "elements",
    ),
    "tersoff-zbl": PotentialEntry(
        "Tersoff's potential with the repulsion of bare nuclei at short distances",
        "m gamma:1 lambda3:1/length c:1 d:1 costheta0:1 n:1 beta:1 lambda2:1/length B:energy "
        "R:length D:length lambda1:1/length A:energy Z_i:1 Z_j:1 ZBLcut:length "
        "ZBLexpscale:1/length species=None",
        ".tersoff.zbl",
        "elements",
    ),
    "vashishta": PotentialEntry(
        "Vashishta's potential of oxides, carbides and semiconductors, for one or several species",
        "H:energy eta:1 Zi:1 Zj:1 lambda1:length D:energy*length^4 lambda4:length "
        "W:energy*length^6 rc:length B:energy gamma:length r0:length C:1 costheta0:1 "
        "species=None",
        ".vashishta",
        "elements",
    ),
    "trap": PotentialEntry(
        "Harmonic wells that hold atoms, E = sum k |x - c|^2 / 2",
        "centre:length stiffness:energy/length^2 atoms=None",
    ),
    "uniform-force": PotentialEntry(
        "A force that is the same wherever an atom is, E = -sum f . x",
        "force:energy/length atoms=None",
    ),
    "wall": PotentialEntry(
        "A flat wall that pushes atoms behind it back, E = sum k max(0, w - x.n)^2 / 2",
        "normal:1 position:length stiffness:energy/length^2 atoms=None",
    ),
    "wca": PotentialEntry(
        "The repulsive part of Lennard-Jones, 4 epsilon (x^12 - x^6) + epsilon for r < 2^(1/6) "
        "sigma",
        "epsilon:energy sigma:length species=None",
    ),
    "yukawa": PotentialEntry(
        "The Yukawa potential, phi(r) = A exp(-kappa r) / r",
        "A:energy*length kappa:1/length cutoff:length truncation='smooth' species=None "
        "onset:length=None",
    ),
    "zbl": PotentialEntry(
        "The repulsion of nuclei behind their electrons, by Ziegler, Biersack and Littmark",
        "Z:1 cutoff:length species=None onset:length=None",
    ),
    "zhou-eam": PotentialEntry(
        "The embedded-atom potential of X. W. Zhou, R. A. Johnson and H. N. G. Wadley",
        "r_e:length f_e:1 rho_e:1 rho_s:1 alpha:1 beta:1 A:energy B:energy kappa:1 lambda_:1 "
        "Fn0:energy Fn1:energy Fn2:energy Fn3:energy F0:energy F1:energy F2:energy F3:energy "
        "eta:1 Fe:energy cutoff:length species=None onset:length=None inner:1=0.85 outer:1=1.15",
    ),
    "sum": PotentialEntry(
        "The sum of several potentials, each in a table of its own",
        "parts",
    ),
    "jax-md": PotentialEntry(
        "An energy of jax-md, with its parameters and settings by their names there",
        "energy species=None",
    ),
    "calculator": PotentialEntry(
        "A calculator of ASE that is known by name: emt, effective medium theory",
        "calculator elements values=None",
    ),
}
