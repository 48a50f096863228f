"""Metals whose cohesion is a root of a density, in closed form: Gupta and Finnis-Sinclair."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.embedded_atom import (
    EmbeddedAtomPotential,
    RadialFunctions,
    minus_root,
    of_species,
)
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.tabulated import WrittenAsTables


class Gupta(EmbeddedAtomPotential, WrittenAsTables):
    """The second-moment potential of metals by Gupta, as Cleri and Rosato have it.

    E = sum_i sum_j A exp(-p (r_ij/r0 - 1)) - sum_i sqrt(sum_j xi^2 exp(-2 q (r_ij/r0 - 1))).

    Arguments:
        A: strength of the repulsion, energy; one value or a species-by-species table.
        xi: hopping integral, energy; one value or a table.
        p: decay of the repulsion; one value or a table.
        q: decay of the hopping integral; one value or a table.
        r0: distance of nearest neighbours, length; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 r0"``.
        species: names of the tables' rows, e.g. ``("Cu", "Au")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: a parameter that is not positive, or a cutoff that is no positive length.

    F. Cleri, V. Rosato, Phys. Rev. B 48, 22 (1993); R. P. Gupta, Phys. Rev. B 23, 6265 (1981).
    """

    A: Parameter = parameter("energy", positive=True)
    xi: Parameter = parameter("energy", positive=True)
    p: Parameter = parameter("1", positive=True)
    q: Parameter = parameter("1", positive=True)
    r0: Parameter = parameter("length", positive=True)

    def __init__(
        self,
        A: Any,
        xi: Any,
        p: Any,
        q: Any,
        r0: Any,
        cutoff: float | str,
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.A, self.xi, self.p, self.q, self.r0 = A, xi, p, q, r0
        self.cutoff, self.onset, self.species = cutoff, onset, species

    def pair_energies(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """2 A exp(-p (r/r0 - 1)), of which each of the two atoms has half, in units of energy."""
        return 2.0 * self.A * jnp.exp(-self.p * (r / self.r0 - 1.0))

    def densities(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """xi^2 exp(-2 q (r/r0 - 1)), in units of energy squared."""
        return self.xi**2 * jnp.exp(-2.0 * self.q * (r / self.r0 - 1.0))

    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """-sqrt(rho), in units of energy."""
        return minus_root(density)


class FinnisSinclair(WrittenAsTables):
    """The potential of transition metals by Finnis and Sinclair.

    E = 1/2 sum_i sum_j V(r_ij) - sum_i A sqrt(sum_j Phi(r_ij)), with
    V(r) = (r - c)^2 (c0 + c1 r + c2 r^2) up to c, and Phi(r) = (r - d)^2 + beta (r - d)^3 / d up to
    d. Its second derivative jumps at c and at d, where the potential was made to end: sensitivities
    jump as a shell of neighbours crosses one.

    Arguments:
        A: strength of the cohesion, energy/length; one value or one for each species.
        d: distance at which the density ends, length; one value or a species-by-species table.
        beta: strength of its cubic term; one value or a table.
        c: distance at which the repulsion ends, length; one value or a table.
        c0: its coefficients, energy/length^2; one value or a table.
        c1: energy/length^3, likewise.
        c2: energy/length^4, likewise.
        species: names of the tables' rows, e.g. ``("Fe", "Cr")``.

    Raises:
        InputError: a distance that is not positive.

    M. W. Finnis, J. E. Sinclair, Phil. Mag. A 50, 45 (1984), and erratum 53, 161 (1986).
    """

    A: Parameter = parameter("energy/length", per="atom")
    d: Parameter = parameter("length", positive=True)
    beta: Parameter = parameter("1")
    c: Parameter = parameter("length", positive=True)
    c0: Parameter = parameter("energy/length^2")
    c1: Parameter = parameter("energy/length^3")
    c2: Parameter = parameter("energy/length^4")
    species: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        A: Any,
        d: Any,
        beta: Any,
        c: Any,
        c0: Any,
        c1: Any,
        c2: Any,
        species: Any = None,
    ):
        self.A, self.d, self.beta = A, d, beta
        self.c, self.c0, self.c1, self.c2 = c, c0, c1, c2
        self.species = species

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The largest of c and d, in units of length."""
        ends = in_numpy((self.c, self.d))
        return on_device(array_module(ends).maximum(ends[0].max(), ends[1].max()))

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Where repulsion and density end: the second derivative of the energy jumps there."""
        return jnp.stack(jnp.broadcast_arrays(self.c, self.d))

    def radial_functions(self, edges: Edges) -> RadialFunctions:
        """The function r -> (V, Phi) of these edges, zero where there is no edge."""
        pair = self.per_pair(edges)

        def functions(r: Float[Array, "K C"]) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
            square = (r - pair.c) ** 2
            energies = square * (pair.c0 + r * (pair.c1 + r * pair.c2))
            inward = r - pair.d
            densities = inward**2 * (1.0 + pair.beta * inward / pair.d)
            return (
                jnp.where(edges.mask & (r < pair.c), energies, 0.0),
                jnp.where(edges.mask & (r < pair.d), densities, 0.0),
            )

        return functions

    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """-A sqrt(rho), in units of energy."""
        return of_species(self.A, species) * minus_root(density)
