"""The inner loops of the search by cells, compiled by numba: each for a range of atoms.

They let go of Python's interpreter, so that ranges are taken by all cores, and no entry that one
range writes is read or written by another: the result does not depend on the number of cores.
"""

import numpy as np

from mdsens.host_compilation import host_compiled_for

#: Atoms whose edges are turned from rows to columns together.
TILE = 128
#: Part of a squared distance by which rounding may change it.
UNSURE = 1e-9


@host_compiled_for("void(int32[::1], int32[::1], int32[::1])")
def sort_by_cell(cells: np.ndarray, starts: np.ndarray, order: np.ndarray) -> None:
    """Order points by their cell, and those of a cell as they are.

    Arguments:
        cells: shape (M,), the cell of each point.
        starts: shape (cells + 2,), zeros; then from its second entry on where the points of each
            cell begin.
        order: shape (M,), to be filled with the points in order.
    """
    for cell in cells:
        starts[cell + 2] += 1
    for cell in range(2, len(starts)):
        starts[cell] += starts[cell - 1]
    for point in range(len(cells)):
        place = starts[cells[point] + 1]
        order[place] = point
        starts[cells[point] + 1] = place + 1


@host_compiled_for(
    "int64(int64, int64, float64[:, ::1], int32[::1], int32[::1], int32[::1], int64[::1], "
    "int64[::1], int64, float64[:, ::1], int32[::1], float64[:, ::1], int32[::1], "
    "float64[:, ::1], boolean, int32[:, ::1], int32[::1])"
)
def find_neighbors(
    first: int,
    last: int,
    points: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    cells: np.ndarray,
    shape: np.ndarray,
    window: np.ndarray,
    most: int,
    atoms: np.ndarray,
    owners: np.ndarray,
    shifts: np.ndarray,
    species: np.ndarray,
    limits: np.ndarray,
    nearest_first: bool,
    found: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Find what is within reach of the atoms of a range.

    Arguments:
        first: the first atom of the range.
        last: the atom after its last.
        points: shape (3, M), atoms and ghosts in the order of their cells, length.
        order: shape (M,), which atom or ghost each point is.
        starts: where the points of each cell begin.
        cells: the cell of each atom.
        shape: three numbers of cells.
        window: how many cells away to look, along each axis.
        most: points that a window holds at most.
        atoms: shape (3, N), length.
        owners: shape (M,), the atom that each atom or ghost is an image of.
        shifts: shape (3, M), from there to the image, length.
        species: shape (N,), row of each atom in the table of limits.
        limits: shape (S, S), squared distances within which pairs are found.
        nearest_first: whether the neighbours of each atom are ordered by their distance.
        found: shape (N, W), to be filled with the neighbours of each atom.
        counts: shape (N,), to be filled with their numbers, which may be larger than W.

    Returns:
        An atom that another one is at the point of; -1: there is none.
    """
    wide, single = found.shape[1], limits.shape[0] == 1
    farthest = limits.max()
    hits = np.empty(most + 1, np.int32)
    squares, unsorted = np.empty(wide), np.empty(wide, np.int32)
    for atom in range(first, last):
        x, y, z = atoms[0, atom], atoms[1, atom], atoms[2, atom]
        cell = cells[atom]
        along = cell % shape[2]
        across = cell // shape[2] % shape[1]
        above = cell // (shape[2] * shape[1])
        begin = max(along - window[2], 0)
        end = min(along + window[2], shape[2] - 1) + 1
        near = np.uint64(0)
        limit = farthest * (1.0 + UNSURE)
        for layer in range(max(above - window[0], 0), min(above + window[0] + 1, shape[0])):
            for line in range(max(across - window[1], 0), min(across + window[1] + 1, shape[1])):
                row = (layer * shape[1] + line) * shape[2]
                # Without a sign, or each index would be looked at for one.
                run = np.uint64(starts[row + begin]), np.uint64(starts[row + end])
                for point in range(*run):
                    dx, dy, dz = points[0, point] - x, points[1, point] - y, points[2, point] - z
                    hits[near] = point
                    near += np.uint64(dx * dx + dy * dy + dz * dz <= limit)
        count = 0
        for hit in range(np.int64(near)):
            point = hits[hit]
            end_point = order[point]
            if end_point == atom:
                continue
            dx, dy, dz = points[0, point] - x, points[1, point] - y, points[2, point] - z
            squared = dx * dx + dy * dy + dz * dz
            limit = farthest if single else limits[species[atom], species[owners[end_point]]]
            if squared == 0.0:
                return atom
            if squared > limit * (1.0 - UNSURE):
                # Seen from the other end all of this has the other sign, and no other digits.
                owner = owners[end_point]
                dx = (atoms[0, owner] - x) + shifts[0, end_point]
                dy = (atoms[1, owner] - y) + shifts[1, end_point]
                dz = (atoms[2, owner] - z) + shifts[2, end_point]
                if dx * dx + dy * dy + dz * dz > limit:
                    continue
            if count < wide:
                found[atom, count] = end_point
                squares[count] = squared
            count += 1
        counts[atom] = count
        if nearest_first and count <= wide:
            # Each counts how many are nearer: no step of it depends on another.
            unsorted[:count] = found[atom, :count]
            for one in range(count):
                own, place = squares[one], 0
                for other in range(one):
                    place += squares[other] <= own
                for other in range(one + 1, count):
                    place += squares[other] < own
                found[atom, place] = unsorted[one]
    return -1


@host_compiled_for(
    "int64(int64, int64, int32[:, ::1], int32[::1], int32[::1], int32[::1], int32, int64, int64, "
    "int32[:, ::1])"
)
def find_reverse(
    first: int,
    last: int,
    found: np.ndarray,
    counts: np.ndarray,
    owners: np.ndarray,
    images: np.ndarray,
    opposite: int,
    width: int,
    size: int,
    places: np.ndarray,
) -> int:
    """Find the other end of each edge of a range of atoms.

    Arguments:
        first: the first atom of the range.
        last: the atom after its last.
        found: shape (N, W), neighbours of each atom.
        counts: shape (N,), their numbers.
        owners: shape (M,), the atom that each atom or ghost is an image of.
        images: shape (M,), the number of that image.
        opposite: the sum of the numbers of two images that are opposite.
        width: K, slots of a block.
        size: C, atoms of a block.
        places: shape (N, W), to be filled with the places of reverse edges among (B, K, C).

    Returns:
        How many edges have none.
    """
    missing = 0
    for atom in range(first, last):
        for slot in range(counts[atom]):
            end_point = found[atom, slot]
            owner, wanted = owners[end_point], opposite - images[end_point]
            at = 0
            for other in range(counts[owner]):
                back = found[owner, other]
                if owners[back] == atom and images[back] == wanted:
                    break
                at += 1
            missing += at == counts[owner]
            places[atom, slot] = (owner // size * width + at) * size + owner % size
    return missing


@host_compiled_for("void(int64, int64, int32[:, ::1], int32[::1], int32, int32[:, :, ::1])")
def put_in_blocks(
    first: int, last: int, rows: np.ndarray, counts: np.ndarray, blank: int, blocks: np.ndarray
) -> None:
    """Turn the rows of a range of atoms into columns of blocks.

    Arguments:
        first: the first place for an atom in the range.
        last: the place after its last; those after the last atom have no edges.
        rows: shape (N, W), an entry for each edge of an atom.
        counts: shape (N,), their numbers.
        blank: what slots hold that hold no edge; below zero: their own place.
        blocks: shape (B, K, C), to be filled.
    """
    _, width, size = blocks.shape
    start = first
    while start < last:
        block, place = start // size, start % size
        some = min(TILE, size - place, last - start)
        filled = width
        for step in range(some):
            filled = min(filled, counts[start + step] if start + step < len(counts) else 0)
        for slot in range(width):
            column = blocks[block, slot, place : place + some]
            if slot < filled:
                for step in range(some):
                    column[step] = rows[start + step, slot]
                continue
            own = (block * width + slot) * size + place
            for step in range(some):
                if start + step < len(counts) and slot < counts[start + step]:
                    column[step] = rows[start + step, slot]
                else:
                    column[step] = own + step if blank < 0 else blank
        start += some
