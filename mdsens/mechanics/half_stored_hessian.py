"""The Hessian of a large crystal of pairs, of which one half is stored."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.linalg.half_stored import UPPER, HalfStored
from mdsens.mechanics.closed_form_hessian import piece_of_block, some_at_a_time
from mdsens.mechanics.edge_ends import EdgeEnds, edge_ends
from mdsens.particles.edges import EdgeList, edges_between
from mdsens.particles.lattice import heights
from mdsens.particles.system import System
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.potential import Potential
from mdsens.resources import on_all_cores

#: Atoms below which products are no burden, and what compiles their loops would be one.
FEWEST_ATOMS = 4000
#: Places for edges of the atoms that are taken together.
PIECE_PLACES = 640_000


def suits_half_storage(system: System, potential: Potential, edge_list: EdgeList) -> bool:
    """Whether the Hessian has a symmetric block for each pair, once, and is large.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
    """
    suits = (
        system.atom_count >= FEWEST_ATOMS
        and system.dimension == 3
        and potential.pairwise
        # Along the edge the second derivatives are one number, across it another.
        and potential.invariant
        and potential.acts_along_edges
        and not (potential.embedded or potential.of_structure or potential.made_by_calls)
    )
    if not suits:
        return False
    # No two edges of an atom may lead to images of the same other.
    least = heights(np.asarray(system.cell), system.pbc).min(initial=np.inf)
    return bool(least > 2.0 * float(edge_list.reach))


def follows_from_energy(potential: Potential) -> bool:
    """Whether second derivatives of pairs are those of their energy, which JAX differentiates.

    Then there is no formula beside that of the forces, with which it could disagree.

    Arguments:
        potential: the potential.
    """
    kind = type(potential)
    return isinstance(potential, PairPotential) and all(
        getattr(kind, name) is getattr(PairPotential, name)
        for name in ("edge_hessians", "slopes_and_curvatures")
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
    owners = np.asarray(geometry.owners)
    positions = np.ascontiguousarray(np.asarray(geometry.extended.positions).T)
    block_size = edge_list.neighbors.shape[2]
    own, starts = np.zeros((count, UPPER)), np.zeros(count + 1, np.int64)
    counts = np.zeros(count, np.int64)
    # Memory that is never written to is never taken: half as much is needed.
    room = edge_list.edge_count
    columns, blocks = np.empty(room, np.int32), np.empty((room, UPPER))
    done = 0
    for pieces in some_at_a_time(edge_list, PIECE_PLACES):

        def look(piece: Any) -> tuple[Any, ...]:
            given = potential, geometry, edge_list.neighbors, *piece.place, piece.size
            stiffness, ends = map(np.asarray, _stiffness(*given))
            first = piece.block * block_size + piece.start
            looked_at = stiffness, ends, owners, first, piece.known
            count_kept(*looked_at, counts)
            return looked_at

        def put(of_piece: tuple[Any, ...]) -> None:
            stiffness, ends, owners, first, known = of_piece
            given = positions, own, starts, columns, blocks
            fill(stiffness, ends, owners, first, known, *given)

        found = on_all_cores(look, pieces)
        last = pieces[-1]
        filled = min(last.block * block_size + last.start + last.size, count)
        np.cumsum(counts[done:filled], out=starts[done + 1 : filled + 1])
        starts[done + 1 : filled + 1] += starts[done]
        done = filled
        on_all_cores(put, found)
    return HalfStored(own, starts, columns[: starts[-1]], blocks[: starts[-1]])


@compiled
def _stiffness(
    potential: Potential,
    geometry: EdgeEnds,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    start: Int[Array, ""],
    length: int,
) -> tuple[Float[Array, "c K 2"], Int[Array, "c K"]]:
    """For each edge R of some atoms a and b of its a R R^T + b, and where it leads to."""
    ends, sites, _, _ = piece_of_block(geometry, neighbors, block, start, length)

    def one_slot(end: Int[Array, " c"]) -> Float[Array, "2 c"]:
        edges = edges_between(geometry.extended, end[None], sites)
        rows, vector = potential.edge_hessians(edges), edges.vectors
        axes, square = range(len(vector)), sum(part * part for part in vector)
        along = sum(rows[i][j] * vector[i] * vector[j] for i in axes for j in axes) / square
        across = (sum(rows[i][i] for i in axes) - along) / (len(vector) - 1)
        return jnp.concatenate([(along - across) / square, across])

    return jax.lax.map(one_slot, ends).transpose(2, 0, 1), ends.T
