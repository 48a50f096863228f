"""Edge lists without the skin, for what is computed at one structure alone."""

import dataclasses

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.mechanics.enthalpy import Landscape
from mdsens.particles.edges import EdgeList
from mdsens.potentials.potential import Potential

#: Atoms below which another program would take longer to compile than it saves.
FEWEST_ATOMS = 4000
#: How far beyond their range edges are kept, as a part of it, so that they serve nearby too:
#: what is out of range has no energy.
BEYOND = 1e-3
#: Slots are left out where no more than this part of them is kept, and are made in such steps.
WORTH, STEP = 0.75, 4


def near_landscape(landscape: Landscape, q: Float[Array, "R D"]) -> Landscape:
    """A landscape without the edges that are out of range at a point, if that saves enough.

    Where the skin of a list holds a shell of neighbours it is most of what forces look at: of
    silicon's 16 edges within reach of a relaxation 4 are bonds.

    Arguments:
        landscape: the landscape.
        q: degrees of freedom, shape (R, D).

    Returns:
        The landscape, which serves as long as `serves_at` says so.
    """
    potential, edge_list = landscape.potential, landscape.edge_list
    suits = (
        edge_list.atom_count >= FEWEST_ATOMS
        and potential.acts_along_edges
        and not (potential.of_structure or potential.made_by_calls)
    )
    if not suits:
        return landscape
    system = landscape.system_at(q)
    positions, images = np.asarray(system.positions), np.asarray(edge_list.ghost_images)
    kinds, owners = np.asarray(potential.species_index(system)), np.asarray(edge_list.ghost_owners)
    blank = np.zeros((1, positions.shape[1]))
    ghosts = positions[owners] + images @ np.asarray(system.cell)
    near = _near_edges(
        edge_list,
        np.concatenate([positions, ghosts, blank]),
        np.concatenate([kinds, kinds[owners], kinds[:1]]),
        ranges_of(potential, int(kinds.max(initial=0))),
    )
    if near.neighbors.shape[1] > WORTH * edge_list.neighbors.shape[1]:
        return landscape
    return eqx.tree_at(lambda landscape: landscape.edge_list, landscape, near)


def serves_at(near: Landscape, q: Float[Array, "R D"], there: Float[Array, "R D"]) -> bool:
    """Whether a `near_landscape` at a point has all edges that are in range at another.

    Arguments:
        near: made at q.
        q: degrees of freedom, shape (R, D).
        there: likewise.
    """
    spare = BEYOND * float(ranges_of(near.potential, 0).min())
    return bool(near.displacement_bound(there, q) <= spare)


def ranges_of(potential: Potential, last: int) -> Float[np.ndarray, "S S"]:
    """The range of each pair of species, length.

    Arguments:
        potential: the potential.
        last: the largest index of a species.
    """
    if (ranges := potential.pair_ranges) is not None:
        return np.array(ranges)
    return np.full((1 + last, 1 + last), float(potential.interaction_range))


def _near_edges(
    edge_list: EdgeList,
    positions: Float[np.ndarray, "E D"],
    kinds: Int[np.ndarray, " E"],
    ranges: Float[np.ndarray, "S S"],
) -> EdgeList:
    """The edges of a list within these ranges and a little more, in as few slots as hold them."""
    from mdsens.mechanics.near_edge_loops import put_near, put_reverse, rank_near

    neighbors, blank = np.asarray(edge_list.neighbors), len(positions) - 1
    blocks, _, size = neighbors.shape
    counts = np.zeros(edge_list.atom_count, np.int32)
    ranks = np.empty(neighbors.shape, np.int32)
    rank_near(neighbors, positions, kinds, ((1.0 + BEYOND) * ranges) ** 2, counts, ranks)
    width = max(STEP, -(-int(counts.max(initial=0)) // STEP) * STEP)
    near = np.full((blocks, width, size), blank, np.int32)
    put_near(neighbors, ranks, near)
    reverse = None
    if edge_list.reverse is not None:
        places = np.arange(near.size, dtype=np.int32).reshape(near.shape)
        put_reverse(np.asarray(edge_list.reverse), ranks, near, places, blank)
        reverse = on_device(places)
    return dataclasses.replace(
        edge_list, neighbors=on_device(near), reverse=reverse, slots_used=None,
        reach=on_device((1.0 + BEYOND) * ranges.max()),
    )  # fmt: skip
