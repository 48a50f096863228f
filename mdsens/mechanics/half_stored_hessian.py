"""The Hessian of a large crystal of pairs, of which one half is stored."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.linalg.half_stored import UPPER, HalfStored
from mdsens.mechanics.closed_form_hessian import piece_of_block, some_at_a_time, upper_triangle
from mdsens.mechanics.edge_ends import EdgeEnds, edge_ends
from mdsens.particles.edges import EdgeList, edges_between
from mdsens.particles.lattice import heights
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.resources import on_all_cores

#: Atoms below which products are no burden, and what compiles their loops would be one.
FEWEST_ATOMS = 4000


def suits_half_storage(system: System, potential: Potential, edge_list: EdgeList) -> bool:
    """Whether the Hessian has a symmetric block for each pair, once, and is large.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
    """
    return (
        system.atom_count >= FEWEST_ATOMS
        and system.dimension == 3
        and potential.pairwise
        and potential.acts_along_edges
        and not (potential.embedded or potential.of_structure or potential.made_by_calls)
        # No two edges of an atom lead to images of the same other.
        and heights(np.asarray(system.cell), system.pbc).min(initial=np.inf)
        > 2.0 * float(edge_list.reach)
    )


def half_stored_hessian(system: System, potential: Potential, edge_list: EdgeList) -> HalfStored:
    """The Hessian of a pair potential, of atoms that all may move.

    Arguments:
        system: N atoms in three dimensions.
        potential: of a kind that `suits_half_storage`.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (3 N, 3 N), energy/length^2.
    """
    from mdsens.linalg.half_stored_loops import count_kept, fill

    count = system.atom_count
    geometry = edge_ends(system, potential, edge_list, on_device(np.ones(count, bool)))
    ends, owners = np.asarray(edge_list.neighbors), np.asarray(geometry.owners)
    block_size = edge_list.neighbors.shape[2]
    own, starts = np.zeros((count, UPPER)), np.zeros(count + 1, np.int64)
    counts = np.zeros(count, np.int64)
    # Memory that is never written to is never taken: half as much is needed.
    room = edge_list.edge_count
    columns, blocks = np.empty(room, np.int32), np.empty((room, UPPER))
    done = 0
    for pieces in some_at_a_time(edge_list):
        found: dict[int, tuple[Any, ...]] = {}

        def look(number: int) -> None:
            piece = pieces[number]
            given = potential, geometry, edge_list.neighbors, *piece.place, piece.size
            components = np.asarray(_edge_components(*given))
            places = ends[piece.block], owners, piece.start, piece.block * block_size, piece.known
            found[number] = components, *places
            count_kept(components, *places, counts)

        def put(number: int) -> None:
            fill(*found[number], own, starts, columns, blocks)

        on_all_cores(look, range(len(pieces)))
        last = pieces[-1]
        filled = min(last.block * block_size + last.start + last.size, count)
        np.cumsum(counts[done:filled], out=starts[done + 1 : filled + 1])
        starts[done + 1 : filled + 1] += starts[done]
        done = filled
        on_all_cores(put, range(len(pieces)))
    return HalfStored(own, starts, columns[: starts[-1]], blocks[: starts[-1]])


@compiled
def _edge_components(
    potential: Potential,
    geometry: EdgeEnds,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    start: Int[Array, ""],
    length: int,
) -> Float[Array, "K U c"]:
    """Upper triangles of the second derivatives of each edge of some atoms of a block."""
    ends, sites, _, _ = piece_of_block(geometry, neighbors, block, start, length)

    def one_slot(end: Int[Array, " c"]) -> Float[Array, "U c"]:
        edges = edges_between(geometry.extended, end[None], sites)
        return upper_triangle(potential.edge_hessians(edges))

    return jax.lax.map(one_slot, ends)
