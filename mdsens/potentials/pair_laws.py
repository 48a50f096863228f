"""Laws of pairs by the names of those who wrote them down: Mie, Buckingham, Yukawa, powers, ZBL."""

from typing import Any

import ase.units
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.particles.edges import Edges
from mdsens.potentials.pair import CutOffPotential, PairPotential, TruncatedPairPotential
from mdsens.potentials.parameters import Parameter, parameter, require_higher_power

#: The square of the elementary charge over 4 pi epsilon_0, eV Angstrom.
COULOMB = ase.units.Hartree * ase.units.Bohr


class Mie(TruncatedPairPotential):
    """The Mie potential, phi(r) = c epsilon ((sigma/r)^n - (sigma/r)^m).

    c = n / (n - m) (n/m)^(m / (n - m)) makes epsilon the depth of the well.

    Arguments:
        epsilon: depth of the well, energy; one value or a species-by-species table.
        sigma: distance at which the energy is zero, length; one value or a table.
        n: exponent of the repulsion; one value or a table.
        m: exponent of the attraction, below n; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 sigma"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("Ar", "Kr")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: a parameter that is not positive, or n not above m.

    G. Mie, Ann. Phys. 316, 657 (1903).
    """

    epsilon: Parameter = parameter("energy", positive=True)
    sigma: Parameter = parameter("length", positive=True)
    n: Parameter = parameter("1", positive=True)
    m: Parameter = parameter("1", positive=True)

    def __init__(
        self,
        epsilon: Any,
        sigma: Any,
        n: Any,
        m: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.epsilon, self.sigma, self.n, self.m = epsilon, sigma, n, m
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def check_relations(self) -> None:
        """Raise InputError unless the repulsion is of higher power than the attraction."""
        require_higher_power(self, "n", "m")

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        n, m = self.n, self.m
        c = n / (n - m) * jnp.exp(m / (n - m) * jnp.log(n / m))
        logarithm = jnp.log(self.sigma / r)
        return c * self.epsilon * (jnp.exp(n * logarithm) - jnp.exp(m * logarithm))


class Buckingham(TruncatedPairPotential):
    """The Buckingham potential, phi(r) = A exp(-r/rho) - C/r^6.

    At short distances it falls without end: what must not come there needs a repulsion beside it,
    as in ``Buckingham(...) + InversePower(...)``.

    Arguments:
        A: strength of the repulsion, energy; one value or a species-by-species table.
        rho: its range, length; one value or a table.
        C: strength of the dispersion, energy length^6; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 rho"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("Si", "O")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: A or C below zero, or rho not positive.

    R. A. Buckingham, Proc. R. Soc. Lond. A 168, 264 (1938).
    """

    A: Parameter = parameter("energy", minimum=0.0)
    rho: Parameter = parameter("length", positive=True)
    C: Parameter = parameter("energy*length^6", minimum=0.0)

    def __init__(
        self,
        A: Any,
        rho: Any,
        C: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.A, self.rho, self.C = A, rho, C
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        square = r * r
        return self.A * jnp.exp(-r / self.rho) - self.C / (square * square * square)


class Yukawa(TruncatedPairPotential):
    """The Yukawa potential, phi(r) = A exp(-kappa r) / r.

    Arguments:
        A: strength, energy length; of either sign; one value or a species-by-species table.
        kappa: inverse screening length, 1/length; one value or a table.
        cutoff: distance from which on there is no interaction, length.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("small", "large")``.
        onset: where the smooth switch begins, length; 0.9 cutoff by default.

    Raises:
        InputError: kappa below zero.

    H. Yukawa, Proc. Phys.-Math. Soc. Jpn. 17, 48 (1935).
    """

    A: Parameter = parameter("energy*length")
    kappa: Parameter = parameter("1/length", minimum=0.0)

    def __init__(
        self,
        A: Any,
        kappa: Any,
        cutoff: float,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | None = None,
    ):
        self.A, self.kappa = A, kappa
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        return self.A * jnp.exp(-self.kappa * r) / r


class InversePower(TruncatedPairPotential):
    """The inverse power law, phi(r) = epsilon (sigma/r)^n.

    Arguments:
        epsilon: strength, energy; of either sign; one value or a species-by-species table.
        sigma: length scale; one value or a table.
        n: exponent; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 sigma"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("small", "large")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: sigma or n not positive.
    """

    epsilon: Parameter = parameter("energy")
    sigma: Parameter = parameter("length", positive=True)
    n: Parameter = parameter("1", positive=True)

    def __init__(
        self,
        epsilon: Any,
        sigma: Any,
        n: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.epsilon, self.sigma, self.n = epsilon, sigma, n
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        return self.epsilon * jnp.exp(self.n * jnp.log(self.sigma / r))


class OfSpecies(CutOffPotential, PairPotential):
    """A pair potential of numbers that the two species have each: charges, atomic numbers."""

    def per_pair(self, edges: Edges) -> Any:
        """This potential with the pairs of numbers of each edge in place of the species' own.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            A potential whose leaves of one number for each species have the shape (2, K, C).
        """

        def value(leaf: Parameter) -> Parameter:
            if leaf.ndim != 1:
                return leaf
            here = jnp.broadcast_to(leaf[edges.species][None], edges.mask.shape)
            return jnp.stack([here, leaf[edges.neighbor_species]])

        return jax.tree.map(value, super().per_pair(edges))


class ZBL(OfSpecies):
    """The repulsion of nuclei behind their electrons, by Ziegler, Biersack and Littmark.

    phi(r) = Z_i Z_j e^2 / (4 pi epsilon_0 r) f(r / a) + S(r), with the screening
    f(x) = 0.18175 exp(-3.19980 x) + 0.50986 exp(-0.94229 x) + 0.28022 exp(-0.40290 x)
    + 0.02817 exp(-0.20162 x) and a = 0.46850 Angstrom / (Z_i^0.23 + Z_j^0.23). S brings energy,
    slope and curvature to zero at the cutoff: a constant up to the onset, and beyond it one with
    terms in (r - onset)^3 and (r - onset)^4, as in LAMMPS's pair_style zbl.

    Arguments:
        Z: atomic numbers; one value, or one for each species.
        cutoff: distance from which on there is no interaction, Angstrom.
        species: names of the species, e.g. ``("Si", "C")``.
        onset: where S begins to change, Angstrom; 0.9 cutoff by default.

    Raises:
        InputError: a number that is not positive, or an onset outside the cutoff.

    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (1985).
    """

    Z: Parameter = parameter("1", positive=True, per="atom")

    def __init__(self, Z: Any, cutoff: float, species: Any = None, onset: float | None = None):
        self.Z, self.cutoff, self.species, self.onset = Z, cutoff, species, onset

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The screened repulsion without S, eV."""
        first, second = (self.Z, self.Z) if self.Z.ndim == 0 else (self.Z[0], self.Z[1])
        x = r * (first**0.23 + second**0.23) / 0.46850
        screening = (
            0.18175 * jnp.exp(-3.19980 * x)
            + 0.50986 * jnp.exp(-0.94229 * x)
            + 0.28022 * jnp.exp(-0.40290 * x)
            + 0.02817 * jnp.exp(-0.20162 * x)
        )
        return COULOMB * first * second * screening / r

    def truncated_pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair, zero from the cutoff on, eV."""
        onset = self.onset_distance
        width = self.cutoff_distance - onset
        # Its own shape, so that what differs between pairs differs there too.
        edge = jnp.full(r.shape, self.cutoff_distance)
        ones = jnp.ones(r.shape)

        def slope_at(edge: Float[Array, "..."]) -> tuple[Array, Array]:
            energy, slope = jax.jvp(self.pair_energies, (edge,), (ones,))
            return slope, energy

        slope, curvature, energy = jax.jvp(slope_at, (edge,), (ones,), has_aux=True)
        third = (width * curvature - 3.0 * slope) / (3.0 * width**2)
        fourth = (2.0 * slope - width * curvature) / (4.0 * width**3)
        constant = 0.5 * width * slope - energy - width**2 * curvature / 12.0
        t = jnp.maximum(r - onset, 0.0)
        whole = self.pair_energies(r) + constant + t**3 * (third + fourth * t)
        return jnp.where(r < self.cutoff_distance, whole, 0.0)


class DampedShiftedCoulomb(OfSpecies):
    """Coulomb's law of point charges, damped and shifted to end smoothly at the cutoff c.

    phi(r) = k q_i q_j (erfc(alpha r)/r - erfc(alpha c)/c + (r - c) (erfc(alpha c)/c^2
    + 2 alpha exp(-alpha^2 c^2) / (sqrt(pi) c))), whose force goes to zero there too; beside it each
    atom has the energy -k q_i^2 (erfc(alpha c)/c + alpha (1 + exp(-alpha^2 c^2))/sqrt(pi)), half of
    what phi without 1/r would be at its own place, as in LAMMPS's coul/dsf. Its second derivative
    jumps at the cutoff.

    Arguments:
        q: charges, elementary charges; one value, or one for each species.
        alpha: damping, 1/length.
        cutoff: distance from which on there is no interaction, length.
        species: names of the species, e.g. ``("Na", "Cl")``.
        constant: k, energy length: that of eV and Angstrom by default.

    Raises:
        InputError: alpha below zero, or a cutoff that is no positive length.

    C. J. Fennell, J. D. Gezelter, J. Chem. Phys. 124, 234104 (2006), eq. 19; D. Wolf et al., J.
    Chem. Phys. 110, 8254 (1999), for the energy of each atom.
    """

    q: Parameter = parameter("1", per="atom")
    alpha: Parameter = parameter("1/length", minimum=0.0, per="all")
    constant: Parameter = parameter("energy*length", positive=True, per="all")

    def __init__(
        self,
        q: Any,
        alpha: Any,
        cutoff: float,
        species: Any = None,
        constant: Any = COULOMB,
    ):
        self.q, self.alpha, self.constant = q, alpha, constant
        self.cutoff, self.species = cutoff, species

    @property
    def switch_interval(self) -> None:
        """There is no switch."""
        return None

    @property
    def kink_distances(self) -> Float[Array, " M"]:
        """The cutoff."""
        return self._table_of(self.cutoff_distance)

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Coulomb's law itself, damped, in units of energy."""
        product = self.q**2 if self.q.ndim == 0 else self.q[0] * self.q[1]
        return self.constant * product * jax.scipy.special.erfc(self.alpha * r) / r

    def truncated_pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair, shifted, zero from the cutoff on, in units of energy."""
        edge = jnp.full(r.shape, self.cutoff_distance)
        energy, slope = jax.jvp(self.pair_energies, (edge,), (jnp.ones(r.shape),))
        shifted = self.pair_energies(r) - energy - (r - edge) * slope
        return jnp.where(r < self.cutoff_distance, shifted, 0.0)

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"]:
        """The energy of each charge in its own cloud, shape (N,), in units of energy."""
        charges = self.q if self.q.ndim == 0 else self.q[species]
        reach = self.alpha * self.cutoff_distance
        cloud = self.alpha * (1.0 + jnp.exp(-(reach**2))) / jnp.sqrt(jnp.pi)
        of_one = self.constant * (jax.scipy.special.erfc(reach) / self.cutoff_distance + cloud)
        return -of_one * charges**2 * jnp.ones(species.shape)
