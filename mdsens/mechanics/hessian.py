"""Second derivatives of the energy: products with vectors, and the dense matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.mechanics.forces import forces
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential


def hessian_vector_product(
    system: System, potential: Potential, edge_list: EdgeList, vector: Float[Array, "N D"]
) -> Float[Array, "N D"]:
    """Product of the Hessian d2E/dx2 with a vector: minus the change of the forces along it.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        vector: shape (N, D), a displacement, in units of length.

    Returns:
        Shape (N, D), in units of energy/length.
    """

    def forces_at(positions: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return forces(system.with_positions(positions), potential, edge_list)

    return -jax.jvp(forces_at, (system.positions,), (vector,))[1]


def hessian(
    system: System, potential: Potential, edge_list: EdgeList, batch_size: int = 64
) -> Float[Array, "ND ND"]:
    """The dense Hessian d2E/dx2, atoms before components: index D i + a.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        batch_size: columns computed at a time; bounds the memory.

    Returns:
        Shape (N D, N D), in units of energy/length^2; symmetric to rounding.
    """
    size = system.positions.size

    def column(index: Array) -> Float[Array, " ND"]:
        vector = jnp.zeros(size).at[index].set(1.0).reshape(system.positions.shape)
        return hessian_vector_product(system, potential, edge_list, vector).reshape(-1)

    return jax.lax.map(column, jnp.arange(size), batch_size=min(batch_size, size)).T
