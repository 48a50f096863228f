"""Pairs of discs that touch or nearly do, each once, and their forces: loops that are compiled.

The box is divided into cells no smaller than the reach of the list, in rows along its second
lattice vector; a cell knows of itself, the next one, and the three above. All are sorted by cells,
so that three cells in a row are one run through memory. What numba has for whole arrays takes it
seconds to compile, and loops none.
"""

import math
from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled, host_compiled_sums

#: Pairs whose forces are computed at a time, and then added up.
TOGETHER = 512


@host_compiled
def _with_room(rows: Any) -> Any:
    """The same rows, twice as long."""
    longer = np.empty((rows.shape[0], 2 * rows.shape[1]), rows.dtype)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            longer[i, j] = rows[i, j]
    return longer


@host_compiled
def find_pairs(
    x: Any, cell: Any, inverse: Any, shape: Any, species: Any, distances: Any, epsilon: Any,
    skin: float,
) -> Any:  # fmt: skip
    """All pairs nearer than they must be to touch and a skin.

    Arguments:
        x: positions, shape (N, 2), length; discs may lie outside the box.
        cell: shape (2, 2), lattice vectors as rows.
        inverse: of the cell.
        shape: cells along each lattice vector, 3 or more of each.
        species: shape (N,).
        distances: at which pairs touch, shape (S, S), length.
        epsilon: energy scales, shape (S, S).
        skin: length.

    Returns:
        Both ends, shape (2, P); 1 / distance and epsilon of each, shape (2, P); and for the last Q
        of them, which cross a boundary, what to add to the vector between their ends, shape (2, Q).
    """
    count, (columns, rows) = x.shape[0], shape
    bins, away = np.empty(count, np.int32), np.empty((count, 2), np.int32)
    begin = np.zeros(columns * rows + 1, np.int32)
    for i in range(count):
        first = x[i, 0] * inverse[0, 0] + x[i, 1] * inverse[1, 0]
        second = x[i, 0] * inverse[0, 1] + x[i, 1] * inverse[1, 1]
        away[i, 0], away[i, 1] = math.floor(first), math.floor(second)
        column = min(int((first - away[i, 0]) * columns), columns - 1)
        row = min(int((second - away[i, 1]) * rows), rows - 1)
        bins[i] = row * columns + column
        begin[bins[i] + 1] += 1
    for k in range(columns * rows):
        begin[k + 1] += begin[k]
    # Everything by cells.
    place, order = np.empty(columns * rows, np.int32), np.empty(count, np.uint32)
    for k in range(columns * rows):
        place[k] = begin[k]
    inside, images = np.empty((count, 2)), np.empty((count, 2), np.int32)
    kinds = np.empty(count, np.int32)
    for i in range(count):
        c = place[bins[i]]
        place[bins[i]] += 1
        order[c], kinds[c] = i, species[i]
        for axis in range(2):
            images[c, axis] = away[i, axis]
            shift = away[i, 0] * cell[0, axis] + away[i, 1] * cell[1, axis]
            inside[c, axis] = x[i, axis] - shift
    squares = np.empty(distances.shape)
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            squares[i, j] = (distances[i, j] + skin) ** 2
    capacity = 6 * count + 64
    near, far = np.empty((3, capacity), np.uint32), np.empty((3, capacity // 4), np.uint32)
    shifts = np.empty((2, capacity // 4))
    near_count, far_count = 0, 0
    for k in range(columns * rows):
        row = k // columns
        column = k - row * columns
        above, up = (row + 1, 0) if row + 1 < rows else (0, 1)
        left, right = max(column - 1, 0), min(column + 1, columns - 1)
        # Runs of cells: from where to where, and the lattice vectors to add. The first begins
        # after the disc itself.
        runs = np.zeros((5, 4), np.int32)
        runs[0, 1] = begin[row * columns + right + 1]
        runs[1, 0] = begin[above * columns + left]
        runs[1, 1], runs[1, 3] = begin[above * columns + right + 1], up
        run_count = 2
        if column == columns - 1:
            for line in range(2):
                there = (above if line else row) * columns
                runs[run_count, 0], runs[run_count, 1] = begin[there], begin[there + 1]
                runs[run_count, 2], runs[run_count, 3] = 1, up * line
                run_count += 1
        if column == 0:
            there = above * columns + columns - 1
            runs[run_count, 0], runs[run_count, 1] = begin[there], begin[there + 1]
            runs[run_count, 2], runs[run_count, 3] = -1, up
            run_count += 1
        for a in range(begin[k], begin[k + 1]):
            runs[0, 0] = a + 1
            for run in range(run_count):
                along, up_there = runs[run, 2], runs[run, 3]
                fx = along * cell[0, 0] + up_there * cell[1, 0] - inside[a, 0]
                fy = along * cell[0, 1] + up_there * cell[1, 1] - inside[a, 1]
                for b in range(runs[run, 0], runs[run, 1]):
                    dx, dy = inside[b, 0] + fx, inside[b, 1] + fy
                    if dx * dx + dy * dy >= squares[kinds[a], kinds[b]]:
                        continue
                    across = along + images[a, 0] - images[b, 0]
                    upwards = up_there + images[a, 1] - images[b, 1]
                    kind = kinds[a] * distances.shape[0] + kinds[b]
                    if across == 0 and upwards == 0:
                        if near_count == near.shape[1]:
                            near = _with_room(near)
                        near[0, near_count], near[1, near_count] = order[a], order[b]
                        near[2, near_count] = kind
                        near_count += 1
                    else:
                        if far_count == far.shape[1]:
                            far, shifts = _with_room(far), _with_room(shifts)
                        far[0, far_count], far[1, far_count] = order[a], order[b]
                        far[2, far_count] = kind
                        for axis in range(2):
                            shift = across * cell[0, axis] + upwards * cell[1, axis]
                            shifts[axis, far_count] = shift
                        far_count += 1
    total = near_count + far_count
    ends, laws = np.empty((2, total), np.uint32), np.empty((2, total))
    for p in range(total):
        source, at = (near, p) if p < near_count else (far, p - near_count)
        ends[0, p], ends[1, p] = source[0, at], source[1, at]
        first_kind = source[2, at] // distances.shape[0]
        second_kind = source[2, at] - first_kind * distances.shape[0]
        laws[0, p] = 1.0 / distances[first_kind, second_kind]
        laws[1, p] = epsilon[first_kind, second_kind]
    added = np.empty((2, far_count))
    for p in range(far_count):
        added[0, p], added[1, p] = shifts[0, p], shifts[1, p]
    return ends, laws, added


@host_compiled_sums
def _pushes(
    x: Any, ends: Any, laws: Any, alpha: float, start: int, stop: int, pushes: Any
) -> float:
    """Forces of pairs on their first ends, with the sign of a gradient; their energy."""
    first, second, inverses, scales = ends[0], ends[1], laws[0], laws[1]
    energy = 0.0
    for p in range(start, stop):
        i, j = first[p], second[p]
        dx, dy = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1]
        r = math.sqrt(dx * dx + dy * dy)
        overlap = max(1.0 - r * inverses[p], 0.0)
        push = scales[p] * overlap
        if alpha == 2.5:
            push *= math.sqrt(overlap)
        elif alpha != 2.0:
            push *= overlap ** (alpha - 2.0)
        energy += push * overlap
        push *= inverses[p] / r
        pushes[0, p - start], pushes[1, p - start] = push * dx, push * dy
    return energy


@host_compiled
def energy_and_gradient(
    x: Any, ends: Any, laws: Any, shifts: Any, alpha: float, gradient: Any
) -> float:
    """The energy, and its gradient written over an array.

    Arguments:
        x: positions, shape (N, 2), length.
        ends: of pairs, as of `find_pairs`, as are the next two.
        laws: 1 / distance and epsilon of each.
        shifts: of those that cross a boundary.
        alpha: exponent of the overlap.
        gradient: shape (N, 2), energy/length.

    Returns:
        The energy.
    """
    pushes = np.empty((2, TOGETHER))
    for i in range(x.shape[0]):
        gradient[i, 0], gradient[i, 1] = 0.0, 0.0
    energy, near = 0.0, ends.shape[1] - shifts.shape[1]
    for start in range(0, near, TOGETHER):
        stop = min(start + TOGETHER, near)
        energy += _pushes(x, ends, laws, alpha, start, stop, pushes)
        # Pairs of one disc follow one another.
        i = ends[0, start]
        gx, gy = gradient[i, 0], gradient[i, 1]
        for p in range(start, stop):
            if ends[0, p] != i:
                gradient[i, 0], gradient[i, 1] = gx, gy
                i = ends[0, p]
                gx, gy = gradient[i, 0], gradient[i, 1]
            fx, fy = pushes[0, p - start], pushes[1, p - start]
            gx += fx
            gy += fy
            j = ends[1, p]
            gradient[j, 0] -= fx
            gradient[j, 1] -= fy
        gradient[i, 0], gradient[i, 1] = gx, gy
    for q in range(shifts.shape[1]):
        i, j = ends[0, near + q], ends[1, near + q]
        dx = x[j, 0] - x[i, 0] + shifts[0, q]
        dy = x[j, 1] - x[i, 1] + shifts[1, q]
        r, inverse = math.sqrt(dx * dx + dy * dy), laws[0, near + q]
        overlap = 1.0 - r * inverse
        if overlap <= 0.0:
            continue
        push = laws[1, near + q] * overlap ** (alpha - 1.0)
        energy += push * overlap
        push *= inverse / r
        gradient[i, 0] += push * dx
        gradient[i, 1] += push * dy
        gradient[j, 0] -= push * dx
        gradient[j, 1] -= push * dy
    return energy / alpha
