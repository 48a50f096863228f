"""Second derivatives of the energy: products with vectors, and the dense matrix."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.mechanics.forces import forces
from mdsens.particles.edges import EdgeList, Edges, edges_between, extended_positions, map_blocks
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

    Of a sum over pairs each edge gives a block, which the potential says; of any other potential
    columns are products with unit vectors.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        batch_size: columns computed at a time; bounds the memory.

    Returns:
        Shape (N D, N D), in units of energy/length^2; symmetric to rounding.
    """
    if has_closed_form(potential):
        return _pair_hessian(system, potential, edge_list)
    size = system.positions.size

    def column(index: Array) -> Float[Array, " ND"]:
        vector = jnp.zeros(size).at[index].set(1.0).reshape(system.positions.shape)
        return hessian_vector_product(system, potential, edge_list, vector).reshape(-1)

    return jax.lax.map(column, jnp.arange(size), batch_size=min(batch_size, size)).T


def has_closed_form(potential: Potential) -> bool:
    """Whether the potential is a sum over pairs, each of which gives a block of the Hessian."""
    return potential.pairwise and not potential.of_structure


def site_matrices(potential: Potential, edges: Edges) -> Float[Array, "C W W D D"]:
    """Second derivatives of site energies in the places of each atom and its K neighbours.

    Arguments:
        potential: the potential.
        edges: K slots of C atoms.

    Returns:
        Shape (C, K + 1, K + 1, D, D), energy/length^2: the atom itself first, which moves against
        all its edges.
    """
    matrix = potential.site_hessians(edges)
    with_row = jnp.concatenate([-jnp.sum(matrix, axis=1, keepdims=True), matrix], axis=1)
    return jnp.concatenate([-jnp.sum(with_row, axis=2, keepdims=True), with_row], axis=2)


def _pair_hessian(
    system: System, potential: Potential, edge_list: EdgeList
) -> Float[Array, "ND ND"]:
    """That of a sum over pairs; an edge's opposite adds to the block of the atom it begins at."""
    count, dimension = system.positions.shape
    species = potential.species_index(system)
    extended, sites = extended_positions(system.positions, system.cell, species, edge_list)

    def one_block(block: tuple[Any, ...]) -> Array:
        rows = potential.edge_hessians(edges_between(extended, *block))
        return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)

    entries = map_blocks(one_block, edge_list.neighbors, sites)
    nothing = jnp.full(1, count, jnp.int32)
    owners = jnp.concatenate([jnp.arange(count, dtype=jnp.int32), edge_list.ghost_owners, nothing])
    blocks, _, size = edge_list.neighbors.shape
    own = jnp.arange(blocks * size, dtype=jnp.int32).reshape(blocks, 1, size)
    own = jnp.broadcast_to(own, edge_list.neighbors.shape)
    matrix = jnp.zeros((count, dimension, count, dimension))
    # Beyond the last atom there are only places without an edge.
    matrix = matrix.at[own, :, owners[edge_list.neighbors], :].add(-entries, mode="drop")
    diagonal = jnp.sum(entries, axis=1)
    matrix = matrix.at[own[:, 0], :, own[:, 0], :].add(diagonal, mode="drop")
    return matrix.reshape(count * dimension, count * dimension)
