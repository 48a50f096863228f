"""The search of large systems for edges: by cells, into blocks of slots, on all cores.

The images of atoms that any edge may lead to are written down as points of their own; what is left
is a search in open space, the same for every boundary. Cells are half as wide as edges are long.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdsens.particles.lattice import completed_cell
from mdsens.particles.neighbor_pairs import require_slots
from mdsens.resources import on_all_cores

#: Atoms from which on it is faster. Of fewer the compiled loops, of which the first search loads
#: some code, gain less than that takes.
FEWEST_ATOMS = 8000
#: Points per atom, images among them, and how far atoms reach beyond one period, at most.
MOST_POINTS, FARTHEST_PERIODS = 8.0, 1.5
#: Cells per point, and cutoffs along an axis, at most: else atoms are far from one another, or
#: there are few digits left of distances.
MOST_CELLS, MOST_CUTOFFS = 8.0, 1e5
#: Points that a window of cells holds at most, for each atom.
MOST_LOOKED_AT = 20.0
#: Cells that an edge is long; more are visited at more cost each.
CELLS_PER_REACH = 2.0
#: Room for edges that the first attempt has, of what is expected.
FIRST_ROOM = 1.3
#: Atoms that a core takes at a time.
AT_ONCE = 1024


class Neighborhoods(NamedTuple):
    """What is within reach of each atom.

    Attributes:
        found: shape (N, W), the neighbours of each atom: atoms, and after these ghosts.
        counts: shape (N,), how many there are.
        owners: shape (M,), the atom that each atom or ghost is an image of.
        images: shape (M, D), lattice vectors from there.
        coincident: two atoms at one point, or at images of it; None: there are none.
    """

    found: Int[np.ndarray, "N W"]
    counts: Int[np.ndarray, " N"]
    owners: Int[np.ndarray, " M"]
    images: Int[np.ndarray, "M D"]
    coincident: tuple[int, int] | None

    @property
    def widest(self) -> int:
        """Edges of the atom that has most."""
        return int(self.counts.max(initial=0))


def neighborhoods(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool, ...],
    limits: Float[np.ndarray, "S S"],
    species: Int[np.ndarray, " N"],
    expected: float,
    nearest_first: bool = False,
) -> Neighborhoods | None:
    """All atoms and images within reach of each atom, of a system that is large and filled evenly.

    Arguments:
        positions: shape (N, D), finite, in units of length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        limits: shape (S, S), distance within which pairs of species are found.
        species: shape (N,), row of each atom in that table.
        expected: neighbours of an atom to make room for at first.
        nearest_first: whether the neighbours of each atom are ordered by their distance.

    Returns:
        The neighbourhoods; None where atoms are too far apart, or too far out, for this search.

    Raises:
        InputError: one atom has so many neighbours that there is no room for as many of each.
    """
    from mdsens.particles.cell_list_kernels import find_neighbors

    count, dimension = positions.shape
    reach = float(limits.max())
    box = completed_cell(cell, pbc)
    inverse = np.linalg.inv(box)
    across = np.linalg.norm(inverse, axis=0)
    margins = reach * across * (1.0 + 1e-9)
    fractions = np.ascontiguousarray((positions @ inverse).T)
    low, high = fractions.min(axis=1), fractions.max(axis=1)
    periodic = np.array(pbc, bool)
    if (high - low > np.where(periodic, FARTHEST_PERIODS, MOST_CUTOFFS * margins)).any():
        return None
    if (margins * MOST_CUTOFFS < 1.0)[periodic].any():
        return None
    if np.prod(1.0 + 2.0 * margins[periodic]) > MOST_POINTS:
        return None
    low, high = (edge + sign * periodic * margins for edge, sign in ((low, -1.0), (high, 1.0)))
    owners, images = _with_ghosts(fractions, low, high, periodic)
    shifts = np.zeros((3, len(owners)))
    # Axis by axis, so that opposite images are opposite to the last digit.
    for axis in range(dimension):
        shifts[3 - dimension :] += images[:, axis] * box[axis][:, None]
    atoms = np.zeros((3, count))
    atoms[3 - dimension :] = positions.T
    grid = _Grid(fractions[:, owners] + images.T, low, high, margins)
    if grid.looked_at > MOST_LOOKED_AT * max(expected, 30.0) * count:
        return None
    points = np.ascontiguousarray((atoms[:, owners] + shifts)[:, grid.order])
    squares, kinds = np.square(np.asarray(limits, float)), np.array(species, np.int32)
    width = max(8, math.ceil(FIRST_ROOM * expected))
    while True:
        found, counts = np.empty((count, width), np.int32), np.empty(count, np.int32)

        def search(start: int, found: np.ndarray = found, counts: np.ndarray = counts) -> int:
            answer: int = find_neighbors(
                start, min(start + AT_ONCE, count), points, grid.order, grid.starts,
                grid.cells, grid.shape, grid.window, grid.most, atoms, owners, shifts, kinds,
                squares, nearest_first, found, counts,
            )  # fmt: skip
            return answer

        coincident = max(on_all_cores(search, range(0, count, AT_ONCE)), default=-1)
        if coincident >= 0:
            apart = fractions - fractions[:, coincident, None]
            apart -= np.round(apart) * periodic[:, None]
            distances = np.abs(apart).max(axis=0)
            distances[coincident] = np.inf
            first, second = sorted((coincident, int(distances.argmin())))
            nothing = found[:, :0], np.zeros_like(counts)
            return Neighborhoods(*nothing, owners, images, (first, second))
        answer = Neighborhoods(found, counts, owners, images, None)
        if answer.widest <= width:
            return answer
        require_slots(count, answer.widest)
        width = answer.widest


def in_blocks(
    found: Neighborhoods, shape: tuple[int, int, int], blank: int, with_reverse: bool
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Neighbours, and the places of reverse edges, in B blocks of K slots of C atoms.

    Arguments:
        found: what is within reach.
        shape: B, K, C.
        blank: what slots hold that hold no edge.
        with_reverse: whether to find which edges are one another's reverse.

    Returns:
        Both of shape (B, K, C), the second None where it is not asked for; None where an edge has
        no reverse.
    """
    from mdsens.particles.cell_list_kernels import find_reverse, put_in_blocks

    (_, width, size), count = shape, len(found.counts)

    def put(rows: np.ndarray, blank: int) -> np.ndarray:
        blocks = np.empty(shape, np.int32)

        def put_some(start: int) -> None:
            put_in_blocks(start, min(start + AT_ONCE, places), rows, found.counts, blank, blocks)

        places = shape[0] * size
        on_all_cores(put_some, range(0, places, AT_ONCE))
        return blocks

    neighbors = put(found.found, blank)
    if not with_reverse:
        return neighbors, None
    farthest = np.abs(found.images).max(axis=0, initial=0)
    numbers = np.zeros(len(found.owners), np.int32)
    for axis, most in enumerate(farthest):
        numbers = numbers * np.int32(2 * most + 1) + (found.images[:, axis] + most).astype(np.int32)
    opposite = int(np.prod(2 * farthest + 1)) - 1
    places = np.empty_like(found.found)

    def find_some(start: int) -> int:
        missing: int = find_reverse(
            start, min(start + AT_ONCE, count), found.found, found.counts, found.owners, numbers,
            opposite, width, size, places,
        )  # fmt: skip
        return missing

    if any(on_all_cores(find_some, range(0, count, AT_ONCE))):
        return None
    return neighbors, put(places, -1)


def _with_ghosts(
    fractions: Float[np.ndarray, "D N"],
    low: Float[np.ndarray, " D"],
    high: Float[np.ndarray, " D"],
    periodic: np.ndarray,
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, "M D"]]:
    """Owners and images of all atoms and, after these, of their images between the bounds."""
    dimension, count = fractions.shape
    owners = np.arange(count, dtype=np.int32)
    images = np.zeros((count, dimension), np.int64)
    for axis in np.flatnonzero(periodic):
        along = fractions[axis, owners]
        first, last = math.ceil(low[axis] - along.max()), math.floor(high[axis] - along.min())
        more = [(owners, images)]
        for shift in range(first, last + 1):
            if shift == 0:
                continue
            inside = np.flatnonzero((along + shift >= low[axis]) & (along + shift <= high[axis]))
            moved = images[inside]
            moved[:, axis] = shift
            more.append((owners[inside], moved))
        owners, images = (np.concatenate(parts) for parts in zip(*more, strict=True))
    return owners, images


class _Grid:
    """Points in cells.

    Arguments:
        fractions: shape (D, M), in lattice vectors.
        low: the least of each, or less.
        high: the most of each, or more.
        margins: how far edges reach, in lattice vectors.
    """

    def __init__(
        self,
        fractions: Float[np.ndarray, "D M"],
        low: Float[np.ndarray, " D"],
        high: Float[np.ndarray, " D"],
        margins: Float[np.ndarray, " D"],
    ) -> None:
        from mdsens.particles.cell_list_kernels import sort_by_cell

        dimension, count = fractions.shape
        extents = high - low
        numbers = np.maximum(np.floor(extents * CELLS_PER_REACH / margins), 1.0)
        while numbers.prod() > MOST_CELLS * count + 64.0:
            numbers = np.maximum(np.floor(0.8 * numbers), 1.0)
        widths = np.where(extents > 0.0, extents / numbers, 1.0)
        # Axes that are missing come first: cells in a row along the last are one run of points.
        self.shape = np.ones(3, np.int64)
        self.shape[3 - dimension :] = numbers
        self.window = np.zeros(3, np.int64)
        self.window[3 - dimension :] = np.minimum(np.ceil(margins / widths), numbers)
        cells = np.zeros(count, np.int32)
        for axis in range(dimension):
            along = (fractions[axis] - low[axis]) / widths[axis]
            within = np.clip(along, 0.0, numbers[axis] - 1.0).astype(np.int32)
            cells = cells * np.int32(numbers[axis]) + within
        starts = np.zeros(int(self.shape.prod()) + 2, np.int32)
        self.cells, self.order = cells, np.empty(count, np.int32)
        sort_by_cell(cells, starts, self.order)
        self.starts = starts[:-1]
        held = np.diff(self.starts).reshape(self.shape)
        around = held.astype(np.int64)
        for axis, reach in enumerate(self.window):
            around = _window_sums(around, axis, int(reach))
        #: Points that a window holds at most, and those that all windows of points hold together.
        self.most, self.looked_at = int(around.max()), float((around * held).sum())


def _window_sums(numbers: np.ndarray, axis: int, reach: int) -> np.ndarray:
    """The sum over so many entries before and after each, along an axis."""
    size = numbers.shape[axis]
    sums = np.concatenate(
        [np.zeros_like(numbers.take([0], axis=axis)), np.cumsum(numbers, axis=axis)], axis=axis
    )
    places = np.arange(size)
    after = np.minimum(places + reach + 1, size)
    return sums.take(after, axis=axis) - sums.take(np.maximum(places - reach, 0), axis=axis)
