"""Repulsive pair potentials whose range follows from their parameters: soft spheres and WCA."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.overlap_law import OverlapLaw
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import looked_up
from mdsens.values import choice, real

#: Exponents of the overlap by the names of their laws.
SOFT_SPHERE_LAWS = {"harmonic": 2.0, "hertzian": 2.5}


class SoftSphere(PairPotential):
    """Spheres that repel where they overlap, phi(r) = (epsilon / alpha) (1 - r/d)^alpha for r < d.

    The second derivative of the harmonic law jumps at contact: sensitivities hold as long as the
    same spheres touch.

    Arguments:
        diameter: length; one value, one per species (the contact distance of two spheres is then
            the mean of their diameters), or a species-by-species table of contact distances.
        epsilon: energy scale; one value or a species-by-species table.
        alpha: exponent of the overlap: 2 or ``"harmonic"``, 2.5 or ``"hertzian"``, or any number
            from 2 on; not a parameter that is differentiated.
        species: names of the tables' rows, e.g. ``("large", "small")``.

    Raises:
        InputError: a diameter or epsilon that is not positive, or an exponent below 2.

    C. S. O'Hern et al., Phys. Rev. E 68, 011306 (2003), eq. 1.
    """

    contact: ClassVar[bool] = True

    alpha: float = eqx.field(static=True)
    species: tuple[str, ...] | None = eqx.field(static=True)
    diameter: Parameter = parameter("length", positive=True, per="species")
    epsilon: Parameter = parameter("energy", positive=True)

    def __init__(
        self,
        diameter: Any,
        epsilon: Any = 1.0,
        alpha: float | str = 2.0,
        species: Any = None,
    ):
        self.diameter, self.epsilon, self.species = diameter, epsilon, species
        if isinstance(alpha, str):
            alpha = SOFT_SPHERE_LAWS[choice(alpha, "SoftSphere: alpha", SOFT_SPHERE_LAWS)]
        self.alpha = real(alpha, "SoftSphere: alpha", at_least=2.0)

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The largest contact distance, in units of length."""
        return on_device(in_numpy(self.diameter).max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The contact distance of each pair of species, in units of length."""
        if self.diameter.ndim == 0:
            return None
        if self.diameter.ndim == 1:
            return (self.diameter[:, None] + self.diameter[None]) / 2
        return (self.diameter + self.diameter.T) / 2

    @property
    def overlap_law(self) -> OverlapLaw:
        """The law, of each pair of species."""
        kinds = 1 if self.species is None else len(self.species)
        diameter, epsilon = np.asarray(self.diameter), np.asarray(self.epsilon)
        if diameter.ndim == 1:
            diameter = np.broadcast_to(diameter, (kinds, kinds))
        distances, scales = (
            np.array(np.broadcast_to((table + table.T) / 2, (kinds, kinds)))
            for table in (diameter, epsilon)
        )
        return OverlapLaw(distances, scales, self.alpha)

    def per_pair(self, edges: Edges) -> "SoftSphere":
        """This potential with the contact distance and epsilon of each edge."""
        found = super().per_pair(edges)
        if self.diameter.ndim == 1:
            contacts = (self.diameter[:, None] + self.diameter[None]) / 2
            mean = looked_up(contacts, edges.species[None], edges.neighbor_species)
            found = eqx.tree_at(lambda potential: potential.diameter, found, mean)
        return found

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """(epsilon / alpha) (1 - r/diameter)^alpha where spheres overlap, in units of energy."""
        overlap = 1.0 - r * (1.0 / self.diameter)
        # A power of a positive number in both branches: the branch not taken must have a gradient.
        touching = jnp.where(overlap > 0, overlap, 1.0)
        power = touching * touching if self.alpha == 2.0 else touching**self.alpha
        return jnp.where(overlap > 0, self.epsilon / self.alpha * power, 0.0)


class WCA(PairPotential):
    """The repulsive part of Lennard-Jones, 4 epsilon (x^12 - x^6) + epsilon for r < 2^(1/6) sigma.

    Its second derivative jumps at contact, as that of soft spheres does.

    Arguments:
        epsilon: energy scale; one value or a species-by-species table.
        sigma: distance at which the unshifted energy is zero, length; one value or a table.
        species: names of the tables' rows, e.g. ``("A", "B")``.

    Raises:
        InputError: epsilon or sigma not positive.

    J. D. Weeks, D. Chandler, H. C. Andersen, J. Chem. Phys. 54, 5237 (1971), eq. 4.
    """

    contact: ClassVar[bool] = True

    epsilon: Parameter = parameter("energy", positive=True)
    sigma: Parameter = parameter("length", positive=True)
    species: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(self, epsilon: Any, sigma: Any, species: Any = None):
        self.epsilon, self.sigma, self.species = epsilon, sigma, species

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """2^(1/6) times the largest sigma, in units of length."""
        return on_device(2.0 ** (1.0 / 6.0) * in_numpy(self.sigma).max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """2^(1/6) sigma of each pair of species, in units of length."""
        if self.sigma.ndim == 0:
            return None
        return 2.0 ** (1.0 / 6.0) * (self.sigma + self.sigma.T) / 2

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """4 epsilon (x^12 - x^6) + epsilon with x = sigma/r within the minimum, else zero."""
        x = (self.sigma / r) ** 2
        x6 = x * x * x
        return jnp.where(x6 > 0.5, self.epsilon * (4.0 * x6 * (x6 - 1.0) + 1.0), 0.0)
