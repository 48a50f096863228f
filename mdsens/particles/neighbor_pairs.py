"""The search for pairs: all atoms, and periodic images of them, that are near one another."""

from collections.abc import Callable

import numpy as np
import vesin
from jaxtyping import Bool, Float, Int

from mdsens.errors import InputError
from mdsens.particles.lattice import completed_cell, expected_edges
from mdsens.resources import available_cores, available_memory

#: Cells that the search for pairs divides a box into at most, and how many must be left of each
#: direction, with some to spare, where it makes them fewer.
SEARCH_CELLS, SAFE_CELLS = 1e5, 4.0
#: Distance of atoms from the origin, in cutoffs or cells, at most.
FARTHEST = 1e12
#: Cutoff, in units of length, from which on a search across the lattice would take long.
LONG_REACH = 50.0
#: Cells of the search for each atom, from which on almost all of them are empty.
SPARSE = 10.0
#: Cutoff, in units of length, below which vesin refuses to search.
SHORT_REACH = 1e-6
#: Memory that an edge takes at least while edges are found, and a number that fits anywhere.
BYTES_PER_EDGE, FEW_EDGES = 24, 1e6
#: Bytes of a slot for an edge, with its reverse, on the host and in JAX.
BYTES_PER_SLOT = 16


def neighbor_pairs(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool, ...],
    reach: float,
    reach_of: Callable[[Int[np.ndarray, "P 2"]], Float[np.ndarray, " P"]] | None = None,
) -> tuple[Int[np.ndarray, "P 2"], Int[np.ndarray, " X"], Int[np.ndarray, "X D"]]:
    """All pairs of atoms within reach, each once, periodic images included.

    Arguments:
        positions: shape (N, D), in units of length; atoms may lie outside the cell.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        reach: distance within which pairs are found, in units of length.
        reach_of: the same for each of P pairs, where some reach less far.

    Returns:
        Both atoms of each of P pairs; which X of them cross a boundary; and, for these, the cells
        between their atoms, in lattice vectors.

    Raises:
        InputError: two atoms at one point, or what `require_searchable` refuses.
    """
    require_searchable(positions, cell, pbc, reach)
    count, dimension = positions.shape
    spatial = np.zeros((count, 3))
    spatial[:, :dimension] = positions
    box = np.eye(3)
    box[:dimension, :dimension] = completed_cell(cell, pbc)
    periodic = np.array([*pbc, *([False] * (3 - dimension))])
    away = np.floor(spatial @ np.linalg.inv(box)).astype(np.int64) * periodic
    far = bool((np.abs(away) > 1).any())
    if far:
        # Atoms many cells away are brought back: the search would divide the space between them,
        # and takes minutes for four atoms of a wire.
        spatial -= away @ box
    diameter = float(np.linalg.norm(_extents(spatial)))
    if not periodic.any() and reach > LONG_REACH:
        # No further than there are atoms: a search over any distance would take for ever.
        reach = min(reach, max(2.0 * diameter, 1.0))
    if reach < SHORT_REACH:
        raise InputError(
            f"a range of {reach:.3g} is too short to search for pairs: give all lengths in a "
            "smaller unit"
        )
    wider = _reach_of_search(spatial, box, periodic, reach)
    # Across the lattice the search looks as many boxes of unit length away as the cutoff is long;
    # in a box that no image reaches out of, it looks for images in the next one only, and it does
    # not visit what is empty: minutes for a few atoms far apart.
    across = _extents(spatial @ np.linalg.inv(box))[~periodic]
    if wider > LONG_REACH or np.prod(1.0 + across / wider) > SPARSE * count:
        box[~periodic] *= 1.01 * (diameter + wider)
        periodic = np.ones(3, bool)
        # Images that it would find by reaching further are further than asked.
        wider = _reach_of_search(spatial, box, periodic, wider)
    search = vesin.NeighborList(cutoff=wider, full_list=False, n_threads=available_cores())
    # Without copies: these arrays live as long as the search.
    pairs, shifts, lengths = search.compute(spatial, box, periodic, "PSd", copy=False)
    if wider > reach or reach_of is not None:
        near = np.flatnonzero(lengths <= (reach if reach_of is None else reach_of(pairs)))
        pairs, shifts, lengths = (found.take(near, axis=0) for found in (pairs, shifts, lengths))
    if len(lengths) and lengths.min() == 0.0:
        raise at_one_point(*pairs[np.argmin(lengths)])
    if far:
        shifts = shifts + away[pairs[:, 0]] - away[pairs[:, 1]]
    crosses = shifts[:, 0]
    for axis in range(1, dimension):
        crosses = crosses | shifts[:, axis]
    crossing = np.flatnonzero(crosses)
    return pairs.astype(np.int32), crossing, shifts[crossing, :dimension].astype(np.int64)


def require_searchable(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool, ...],
    reach: float,
) -> None:
    """Raise InputError for positions not finite or too far out, or too many pairs for the memory.

    Arguments:
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        reach: distance within which pairs are to be found, in units of length.
    """
    if not np.isfinite(positions).all():
        rows = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise InputError(f"positions of atoms {rows[:8].tolist()} are not finite: mend them")
    farthest = float(np.abs(positions).max(initial=0.0))
    if farthest > FARTHEST * max(reach, float(np.abs(cell).max(initial=0.0))):
        raise InputError(
            f"atoms are up to {farthest:.1e} from the origin, where distances have no digits left: "
            "move them to where the others are"
        )
    _refuse_too_many(positions, cell, pbc, reach)


def require_slots(atom_count: int, widest: int) -> None:
    """Raise InputError where every atom can have no room for as many edges as one atom has.

    Arguments:
        atom_count: number of atoms.
        widest: edges of the atom that has most.
    """
    slots = float(atom_count) * widest
    if slots < FEW_EDGES:
        return
    room = min(2.0**31, available_memory() / BYTES_PER_SLOT)
    if slots > room:
        raise InputError(
            f"an atom has {widest} neighbours, and room for as many of each of {atom_count} atoms "
            f"is {slots:.1e} edges, of which memory has room for {room:.1e}: move crowded atoms "
            "apart, or choose a shorter cutoff or fewer atoms"
        )


def at_one_point(first: int | np.integer, second: int | np.integer) -> InputError:
    """The error for two atoms without a direction between them."""
    return InputError(f"atoms {first} and {second} are at the same point: move or remove one")


def _extents(rows: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " 3"]:
    """From the least to the most of each column; along long columns in a row, 20 times as fast."""
    return np.ptp(np.ascontiguousarray(rows.T), axis=1)


def _reach_of_search(
    spatial: Float[np.ndarray, "N 3"],
    box: Float[np.ndarray, "3 3"],
    periodic: Bool[np.ndarray, " 3"],
    reach: float,
) -> float:
    """The distance to search to: further than asked where the search would divide by zero.

    It divides the box into cells, and, if they would be too many, each direction into fewer: into
    none at all, where a direction has few (vesin up to 0.6.2; large flat packings, long chains).
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    along = spatial @ (box / np.linalg.norm(box, axis=1, keepdims=True)).T
    extents = np.where(periodic, heights, _extents(along) if len(spatial) else 0.0)
    while True:
        cells = np.maximum(np.trunc(extents / reach), 1.0)
        fewer = np.cbrt(SEARCH_CELLS / cells.prod())
        if fewer >= 1.0 or cells.min() * fewer >= SAFE_CELLS:
            return reach
        reach *= 1.05


def _refuse_too_many(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], reach: float
) -> None:
    """Raise InputError for edges that nobody could keep, before the search takes minutes."""
    expected = expected_edges(positions, cell, pbc, reach)
    if expected < FEW_EDGES:
        return
    room = min(2.0**31, available_memory() / BYTES_PER_EDGE)
    # The estimate is of atoms that are spread evenly, and some are not.
    if expected > 2.0 * room:
        raise InputError(
            f"a cutoff of {reach:.6g} would make about {expected:.1e} edges, and there is memory "
            f"for {room:.1e}: choose a shorter cutoff or fewer atoms"
        )
