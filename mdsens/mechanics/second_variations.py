"""Second derivatives of an energy along edges, in a few changes of positions and cell at a time.

Of a few directions alone they are sums over the edges of each atom, which need no other atom's:
no force on an atom is added up, nothing is read from the other end of an edge, and no matrix of
all positions is made. What the potential says of itself decides, as in `sparse_hessian`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.mechanics.closed_form_hessian import embedded_edges
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    Sites,
    edges_between,
    extended_positions,
    map_blocks,
)
from mdsens.particles.system import System
from mdsens.potentials.edge_sums import along_rows, sum_over_slots
from mdsens.potentials.potential import Potential


def second_variations(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    moves: Float[Array, "V N D"],
    strains: Float[Array, "V D D"],
) -> Float[Array, "V V"]:
    """Second derivatives of the energy along V changes of all edge vectors, dR = du + R S.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential, one that acts along edges.
        edge_list: all edges within its range.
        moves: displacements u of the atoms, shape (V, N, D), length.
        strains: S, shape (V, D, D).

    Returns:
        Shape (V, V), energy.
    """
    species = potential.species_index(system)
    extended, sites = extended_positions(system.positions, system.cell, species, edge_list)
    (blocks, _, size), axes = edge_list.neighbors.shape, range(system.dimension)
    reach, blank = potential.interaction_range, extended.positions.shape[1] - 1
    moved = jnp.moveaxis(moves, 2, 0)
    nowhere = jnp.zeros((*moved.shape[:2], 1))
    ends = jnp.concatenate([moved, moved[..., edge_list.ghost_owners], nowhere], axis=2)
    own = jnp.moveaxis(edge_list.in_blocks(moved).reshape(*moved.shape[:2], blocks, size), 2, 0)

    def seen(neighbors: Int[Array, "k C"], sites: Sites, own: Array) -> tuple[Edges, Any]:
        """Edges, and how each of them changes; what is no edge does not."""
        edges = edges_between(extended, neighbors, sites)
        inside = [jnp.where(edges.mask, component, 0.0) for component in edges.vectors]

        def change(axis: int) -> Float[Array, "k V C"]:
            there = ends[axis].at[:, neighbors].get(mode="promise_in_bounds")
            there = jnp.moveaxis(there, 1, 0)
            apart = jnp.where(edges.mask[:, None], there - own[axis][None], 0.0)
            turned = (strains[None, :, row, axis, None] * inside[row][:, None] for row in axes)
            return sum(turned, start=apart)

        return edges, tuple(map(change, axes))

    def one_block(block: tuple[Any, ...]) -> Float[Array, "V V"]:
        neighbors, *of_atoms = block
        near = edges_between(extended, neighbors, of_atoms[0])
        neighbors = _within_reach(near, neighbors, reach, blank)
        if potential.embedded:
            return _embedded(potential, seen, neighbors, of_atoms)
        if not potential.pairwise:
            return potential.second_variations(*seen(neighbors, *of_atoms))

        def add_slot(total: Array, neighbors: Int[Array, " C"]) -> Array:
            return total + potential.second_variations(*seen(neighbors[None], *of_atoms))

        held = jnp.any(neighbors != blank, axis=1)
        return sum_over_slots(add_slot, jnp.zeros((len(moves), len(moves))), neighbors, held)

    return jnp.sum(map_blocks(one_block, edge_list.neighbors, sites, own), axis=0)


def _within_reach(
    edges: Edges, neighbors: Int[Array, "K C"], reach: Any, blank: int
) -> Int[Array, "K C"]:
    """Neighbours within reach in the first slots, as many as there are; none in all others."""
    inside = edges.mask & (edges.distances < reach)
    place = jnp.where(inside, jnp.cumsum(inside, axis=0) - 1, len(neighbors))
    nobody = jnp.full_like(neighbors, blank)
    return nobody.at[place, jnp.arange(neighbors.shape[1])].set(neighbors, mode="drop")


def _embedded(
    potential: Potential, seen: Any, neighbors: Int[Array, "K C"], of_atoms: Any
) -> Float[Array, "V V"]:
    """Those of half the pair energies and of each atom's own embedding, slot by slot."""
    everything, _ = seen(neighbors, *of_atoms)
    slopes, weights = potential.embedding_derivatives(everything)
    elsewhere = jnp.zeros((1, len(slopes)))

    def add_slot(total: Any, neighbors: Int[Array, " C"]) -> Any:
        edges, changes = seen(neighbors[None], *of_atoms)
        # Twice the slope: of two halves of the pair energy one is this atom's.
        rows, gradients = embedded_edges(potential, edges, 2.0 * slopes[None], elsewhere)
        densities = sum(g * c[0] for g, c in zip(gradients, changes, strict=True))
        return total[0] + along_rows(rows, changes), total[1] + densities

    count = len(of_atoms[-1][0])
    start = jnp.zeros((count, count)), jnp.zeros((count, len(slopes)))
    held = jnp.any(everything.mask, axis=1)
    found, densities = sum_over_slots(add_slot, start, neighbors, held)
    return 0.5 * found + (weights[None] * densities) @ densities.T
