"""Pair potentials, and how they are cut off."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import UNSHARED_STEPS
from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.cutoffs import checked_length, length_of
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import Potential
from mdsens.values import choice, is_traced, real, shown

#: How a pair energy may end at its cutoff.
TRUNCATIONS = ("none", "shifted", "force-shifted", "smooth")
#: Where the smooth switch begins, as a fraction of the cutoff.
ONSET_FRACTION = 0.9


class PairPotential(Potential):
    """Half a sum over edges of a function of the distance alone."""

    pairwise: ClassVar[bool] = True
    compiler_options: ClassVar[Mapping[str, Any]] = UNSHARED_STEPS

    @abc.abstractmethod
    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair at distance r; parameters are already those of each pair.

        Arguments:
            r: distances, shape (K, C) or one alone, in units of length.

        Returns:
            Energies, in units of energy.
        """

    def truncated_pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair as it enters the sum; here the pair energy itself."""
        return self.pair_energies(r)

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Half the energies of the atom's edges, shape (C,), in units of energy."""
        energies = self.per_pair(edges).truncated_pair_energies(edges.distances)
        return 0.5 * jnp.sum(jnp.where(edges.mask, energies, 0.0), axis=0)

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients, half of each pair's forces."""
        energies, weights = self.site_energies_and_weights(edges)
        return energies, tuple(0.5 * weights * component for component in edges.vectors)

    def site_energies_and_weights(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], Float[Array, "K C"]]:
        """Site energies, and phi'/r from the slope of the pair energy along r.

        One forward derivative in a scalar; twice as fast as the general reverse derivative.
        """
        r = edges.distances
        pair = self.per_pair(edges)
        energies, slopes = jax.jvp(pair.truncated_pair_energies, (r,), (jnp.ones_like(r),))
        energies = jnp.where(edges.mask, energies, 0.0)
        return 0.5 * jnp.sum(energies, axis=0), jnp.where(edges.mask, slopes / r, 0.0)

    def edge_hessians(self, edges: Edges) -> list[list[Float[Array, "K C"]]]:
        """Second derivatives of each edge's whole pair energy with respect to its vector.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            D rows of D components, each (K, C), energy/length^2; zero where there is no edge.
        """
        return radial_hessian(edges, *self.slopes_and_curvatures(edges))

    def slopes_and_curvatures(
        self, edges: Edges
    ) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
        """First and second derivative of each edge's pair energy in its length.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (K, C) each, in energy/length and energy/length^2; zero where there is no edge.
        """
        r = edges.distances
        pair, ones = self.per_pair(edges), jnp.ones_like(r)

        def slope_at(r: Float[Array, "K C"]) -> Float[Array, "K C"]:
            return jax.jvp(pair.truncated_pair_energies, (r,), (ones,))[1]

        slope, curvature = jax.jvp(slope_at, (r,), (ones,))
        return jnp.where(edges.mask, slope, 0.0), jnp.where(edges.mask, curvature, 0.0)


def radial_hessian(
    edges: Edges, slope: Float[Array, "K C"], curvature: Float[Array, "K C"]
) -> list[list[Float[Array, "K C"]]]:
    """Second derivatives of a function phi of each edge's length with respect to its vector.

    phi'' u u^T + (phi' / r) (1 - u u^T) with u = R / r.

    Arguments:
        edges: D components of edge vectors, each (K, C), in units of length; mask.
        slope: phi', shape (K, C).
        curvature: phi'', shape (K, C).

    Returns:
        D rows of D components, each (K, C); zero where there is no edge.
    """
    r = edges.distances
    transverse = jnp.where(edges.mask, slope / r, 0.0)
    radial = (jnp.where(edges.mask, curvature, 0.0) - transverse) / (r * r)
    axes = range(len(edges.vectors))
    return [
        [
            radial * edges.vectors[i] * edges.vectors[j] + (transverse if i == j else 0.0)
            for j in axes
        ]
        for i in axes
    ]


class CutOffPotential(Potential):
    """A potential that ends at a distance, perhaps by a smooth switch.

    A cutoff or an onset given as a multiple of a parameter, such as ``"2.5 sigma"``, is that of
    each pair of species where the parameter is a table, and moves with it: a derivative in sigma is
    one of the whole energy, whose cutoff is made anew. Of an energy that jumps at the cutoff that
    is the derivative with the same pairs inside; a shift or a switch has no such jump.

    Arguments:
        cutoff: distance from which on there is no interaction, in units of length, or a multiple of
            a parameter that is a length, as text.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.
        species: names of the rows of the parameters' tables; None where all species are alike.

    Raises:
        InputError: a cutoff that is not positive, an onset outside the cutoff, or a multiple of
            what is no parameter or no length.
    """

    cutoff: float | str = eqx.field(static=True, kw_only=True)
    onset: float | str | None = eqx.field(static=True, kw_only=True, default=None)
    species: tuple[str, ...] | None = eqx.field(static=True, kw_only=True, default=None)

    def __check_init__(self) -> None:
        label = type(self).__name__
        cutoff = checked_length(self, self.cutoff, f"{label}: cutoff")
        object.__setattr__(self, "cutoff", cutoff)
        if self.onset is not None:
            onset = checked_length(self, self.onset, f"{label}: onset", at_least=0.0)
            if isinstance(onset, float) and isinstance(cutoff, float):
                real(onset, f"{label}: onset", at_least=0.0, below=cutoff)
            object.__setattr__(self, "onset", onset)

    def _check_settings(self) -> None:
        onset, cutoff = in_numpy((self.onset_distance, self.cutoff_distance))
        if not is_traced((onset, cutoff)) and np.any(onset >= cutoff):
            raise InputError(
                f"{type(self).__name__}: onset = {shown(self.onset)} is not below cutoff = "
                f"{shown(self.cutoff)}: give a smaller onset"
            )

    @property
    def cutoff_distance(self) -> float | Float[Array, "..."]:
        """The cutoff in units of length: of all pairs, or with the shape of the table it is of."""
        return length_of(self, self.cutoff)

    @property
    def onset_distance(self) -> float | Float[Array, "..."]:
        """Where the smooth switch begins, in units of length, as `cutoff_distance`."""
        if self.onset is None:
            return ONSET_FRACTION * self.cutoff_distance
        return length_of(self, self.onset)

    @property
    def interaction_range(self) -> float | Float[Array, ""]:
        """The cutoff, in units of length; the largest where pairs of species have their own."""
        if isinstance(self.cutoff, float):
            return self.cutoff
        return on_device(in_numpy(self.cutoff_distance).max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The cutoff of each pair of species, in units of length; None where it is one for all."""
        cutoff = self.cutoff_distance
        if isinstance(cutoff, float) or cutoff.ndim == 0:
            return None
        return (cutoff + cutoff.T) / 2

    @property
    def switch_interval(self) -> tuple[Any, Any] | None:
        """Onset and cutoff of the smooth switch, in units of length, or tables over species."""
        return self.onset_distance, self.cutoff_distance

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Where the switch begins and ends: its third derivative jumps there."""
        return self._table_of(self.onset_distance, self.cutoff_distance)

    def _table_of(self, *lengths: Any) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Lengths below one another, of which some may be of pairs of species."""
        return jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, lengths)))

    def switch(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The smooth switch from 1 at the onset to 0 at the cutoff."""
        onset, cutoff = self.onset_distance, self.cutoff_distance
        return smooth_switch((r - onset) / (cutoff - onset))


class TruncatedPairPotential(CutOffPotential, PairPotential):
    """A pair potential that is cut off at a distance, in one of four ways.

    A subclass declares its parameters and gives `pair_energies`; that is all.

    Arguments:
        cutoff: distance from which on there is no interaction, in units of length, or a multiple of
            a parameter that is a length, as in ``"2.5 sigma"``.
        truncation: how the energy phi(r) ends at the cutoff c:
            ``"none"``: phi(r), which jumps to zero;
            ``"shifted"``: phi(r) - phi(c), continuous;
            ``"force-shifted"``: phi(r) - phi(c) - (r - c) phi'(c), once differentiable (LAMMPS's
            lj/smooth/linear);
            ``"smooth"``: phi(r) S((r - onset) / (c - onset)) with the switch
            S(t) = 1 - 10 t^3 + 15 t^4 - 6 t^5 (OpenMM user guide, NonbondedForce), twice
            continuously differentiable, so that sensitivities do not jump as a pair crosses.
        onset: where the smooth switch begins; 0.9 cutoff by default.
        species: names of the rows of the parameters' tables; None where all species are alike.

    Raises:
        InputError: a parameter outside its domain, an unknown truncation, a cutoff that is not
            positive, or an onset outside the cutoff.
    """

    truncation: str = eqx.field(static=True, kw_only=True, default="smooth")

    def __check_init__(self) -> None:
        choice(self.truncation, f"{type(self).__name__}: truncation", TRUNCATIONS)

    @property
    def switch_interval(self) -> tuple[Any, Any] | None:
        """Onset and cutoff of the smooth truncation, in units of length; None for another."""
        return super().switch_interval if self.truncation == "smooth" else None

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """The cutoff, and where a smooth switch begins."""
        if self.truncation == "smooth":
            return super().kink_distances
        return self._table_of(self.cutoff_distance)

    def truncated_pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair with the chosen truncation, zero from the cutoff on."""
        energies = self.pair_energies(r)
        if self.truncation == "smooth":
            energies = energies * self.switch(r)
        elif self.truncation != "none":
            edge = jnp.asarray(self.cutoff_distance)
            energy, slope = jax.jvp(self.pair_energies, (edge,), (jnp.ones_like(edge),))
            energies = energies - energy
            if self.truncation == "force-shifted":
                energies = energies - (r - edge) * slope
        return jnp.where(r < self.cutoff_distance, energies, 0.0)


def smooth_switch(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """The quintic switch 1 - 10 t^3 + 15 t^4 - 6 t^5 from 1 at t = 0 to 0 at t = 1, C2 at both."""
    t = jnp.clip(t, 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t))


def require_cutoff_above(potential: Any, name: str) -> None:
    """Raise InputError unless the potential's cutoff exceeds one of its lengths."""
    length, cutoff = in_numpy((getattr(potential, name), potential.cutoff_distance))
    if not is_traced((length, cutoff)) and np.any(cutoff <= length):
        given = potential.cutoff
        given = f"{given:g}" if isinstance(given, float) else shown(given)
        raise InputError(
            f"{type(potential).__name__}: cutoff = {given} is not above "
            f"{name} = {np.max(length):g}: give a larger cutoff"
        )


class LennardJones(TruncatedPairPotential):
    """The 12-6 Lennard-Jones potential, phi(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6).

    Arguments:
        epsilon: depth of the well, energy; one value or a species-by-species table.
        sigma: distance at which the energy is zero, length; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 sigma"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("Ar", "Kr")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: epsilon or sigma not positive, or a cutoff below sigma.

    J. E. Lennard-Jones, Proc. R. Soc. Lond. A 106, 463 (1924).
    """

    epsilon: Parameter = parameter("energy", positive=True)
    sigma: Parameter = parameter("length", positive=True)

    def __init__(
        self,
        epsilon: Any,
        sigma: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.epsilon, self.sigma = epsilon, sigma
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def check_relations(self) -> None:
        """Raise InputError unless the cutoff is above sigma."""
        require_cutoff_above(self, "sigma")

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """4 epsilon ((sigma/r)^12 - (sigma/r)^6), in units of energy."""
        x = (self.sigma / r) ** 2
        x6 = x * x * x
        return 4.0 * self.epsilon * x6 * (x6 - 1.0)


class Morse(TruncatedPairPotential):
    """The Morse potential, phi(r) = epsilon (exp(-2 alpha (r - r0)) - 2 exp(-alpha (r - r0))).

    Arguments:
        epsilon: depth of the well, energy; one value or a species-by-species table.
        alpha: inverse width of the well, 1/length; one value or a table.
        r0: distance of the minimum, length; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 r0"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("Cu", "Ni")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: a parameter that is not positive, or a cutoff below r0.

    P. M. Morse, Phys. Rev. 34, 57 (1929).
    """

    epsilon: Parameter = parameter("energy", positive=True)
    alpha: Parameter = parameter("1/length", positive=True)
    r0: Parameter = parameter("length", positive=True)

    def __init__(
        self,
        epsilon: Any,
        alpha: Any,
        r0: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.epsilon, self.alpha, self.r0 = epsilon, alpha, r0
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def check_relations(self) -> None:
        """Raise InputError unless the cutoff is above r0."""
        require_cutoff_above(self, "r0")

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Epsilon (y^2 - 2 y) with y = exp(-alpha (r - r0)), in units of energy."""
        y = jnp.exp(-self.alpha * (r - self.r0))
        return self.epsilon * y * (y - 2.0)
