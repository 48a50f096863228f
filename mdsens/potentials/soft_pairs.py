"""Pairs of soft matter: Gaussian cores, and springs."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.potentials.pair import TruncatedPairPotential, require_cutoff_above
from mdsens.potentials.parameters import Parameter, parameter


class GaussianCore(TruncatedPairPotential):
    """The Gaussian core model, phi(r) = epsilon exp(-(r/sigma)^2), of coils that may overlap.

    Arguments:
        epsilon: energy where two are in one place, of either sign; one value or a
            species-by-species table.
        sigma: width, length; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"4 sigma"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("small", "large")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: sigma that is not positive, or a cutoff that is no positive length.

    F. H. Stillinger, J. Chem. Phys. 65, 3968 (1976).
    """

    epsilon: Parameter = parameter("energy")
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

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        return self.epsilon * jnp.exp(-((r / self.sigma) ** 2))


class Spring(TruncatedPairPotential):
    """Springs between all that are near enough, phi(r) = stiffness (r - r0)^2 / 2.

    There is no list of bonds: a network is one of springs as long as its neighbours, and no others,
    are within the onset of the cutoff. Springs that only push are `SoftSphere`.

    Arguments:
        stiffness: of a spring, energy/length^2; one value or a species-by-species table.
        r0: its length at rest; one value or a table.
        cutoff: distance from which on there is no spring, length, or as ``"1.5 r0"``.
        truncation: ``"none"``, ``"shifted"``, ``"force-shifted"`` or ``"smooth"``.
        species: names of the tables' rows, e.g. ``("A", "B")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: stiffness below zero, r0 that is not positive, or a cutoff that is not above it.
    """

    stiffness: Parameter = parameter("energy/length^2", minimum=0.0)
    r0: Parameter = parameter("length", positive=True)

    def __init__(
        self,
        stiffness: Any,
        r0: Any,
        cutoff: float | str,
        truncation: str = "smooth",
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.stiffness, self.r0 = stiffness, r0
        self.cutoff, self.truncation, self.onset = cutoff, truncation, onset
        self.species = species

    def check_relations(self) -> None:
        """Raise InputError unless the cutoff is above the length at rest."""
        require_cutoff_above(self, "r0")

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The law, in units of energy."""
        return 0.5 * self.stiffness * (r - self.r0) ** 2
