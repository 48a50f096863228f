"""The loops of `HalfStored`, compiled by numba: imported by what runs one of them alone."""

from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled, host_compiled_sums


@host_compiled_sums
def multiply(
    own: Any, starts: Any, columns: Any, blocks: Any, vector: Any, image: Any, first: int, last: int
) -> None:
    """What some rows add to the product with a vector, shape (N, 3)."""
    image[:] = 0.0
    for i in range(first, last):
        v0, v1, v2 = vector[i, 0], vector[i, 1], vector[i, 2]
        a0 = own[i, 0] * v0 + own[i, 1] * v1 + own[i, 2] * v2
        a1 = own[i, 1] * v0 + own[i, 3] * v1 + own[i, 4] * v2
        a2 = own[i, 2] * v0 + own[i, 4] * v1 + own[i, 5] * v2
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            xx, xy, xz = blocks[e, 0], blocks[e, 1], blocks[e, 2]
            yy, yz, zz = blocks[e, 3], blocks[e, 4], blocks[e, 5]
            w0, w1, w2 = vector[j, 0], vector[j, 1], vector[j, 2]
            a0 += xx * w0 + xy * w1 + xz * w2
            a1 += xy * w0 + yy * w1 + yz * w2
            a2 += xz * w0 + yz * w1 + zz * w2
            image[j, 0] += xx * v0 + xy * v1 + xz * v2
            image[j, 1] += xy * v0 + yy * v1 + yz * v2
            image[j, 2] += xz * v0 + yz * v1 + zz * v2
        image[i, 0] += a0
        image[i, 1] += a1
        image[i, 2] += a2


@host_compiled_sums
def multiply_columns(
    own: Any, starts: Any, columns: Any, blocks: Any, vectors: Any, image: Any, first: int,
    last: int,
) -> None:  # fmt: skip
    """What some rows add to the product with P columns, shape (N, 3, P), in single precision."""
    count = vectors.shape[2]
    image[:] = 0.0
    sums = np.empty((3, count), vectors.dtype)
    for i in range(first, last):
        here = vectors[i]
        for p in range(count):
            sums[0, p] = own[i, 0] * here[0, p] + own[i, 1] * here[1, p] + own[i, 2] * here[2, p]
            sums[1, p] = own[i, 1] * here[0, p] + own[i, 3] * here[1, p] + own[i, 4] * here[2, p]
            sums[2, p] = own[i, 2] * here[0, p] + own[i, 4] * here[1, p] + own[i, 5] * here[2, p]
        for e in range(starts[i], starts[i + 1]):
            xx, xy, xz = blocks[e, 0], blocks[e, 1], blocks[e, 2]
            yy, yz, zz = blocks[e, 3], blocks[e, 4], blocks[e, 5]
            there, to = vectors[columns[e]], image[columns[e]]
            for p in range(count):
                v0, v1, v2 = here[0, p], here[1, p], here[2, p]
                w0, w1, w2 = there[0, p], there[1, p], there[2, p]
                sums[0, p] += xx * w0 + xy * w1 + xz * w2
                sums[1, p] += xy * w0 + yy * w1 + yz * w2
                sums[2, p] += xz * w0 + yz * w1 + zz * w2
                to[0, p] += xx * v0 + xy * v1 + xz * v2
                to[1, p] += xy * v0 + yy * v1 + yz * v2
                to[2, p] += xz * v0 + yz * v1 + zz * v2
        for axis in range(3):
            for p in range(count):
                image[i, axis, p] += sums[axis, p]


@host_compiled
def count_kept(stiffness: Any, ends: Any, owners: Any, first: int, known: int, counts: Any) -> None:
    """How many edges of some atoms lead to a later atom and are stiff.

    Stiffness of shape (c, K, 2) is that of K slots of c atoms, which begin with the first, and ends
    of shape (c, K) say where they lead to; of `known` of the atoms nothing is asked.
    """
    count = len(counts)
    for c in range(known, min(len(ends), count - first)):
        found, i = 0, first + c
        for k in range(ends.shape[1]):
            j = owners[ends[c, k]]
            stiff = (stiffness[c, k, 0] != 0.0) | (stiffness[c, k, 1] != 0.0)
            found += stiff & (i < j) & (j < count)
        counts[i] = found


@host_compiled_sums
def fill(
    stiffness: Any, ends: Any, owners: Any, first: int, known: int, positions: Any, own: Any,
    starts: Any, columns: Any, blocks: Any,
) -> None:  # fmt: skip
    """Put the blocks -(a R R^T + b) of these edges to their places, their sums on the diagonal.

    With a and b of each edge from `stiffness`, and R between positions of shape (E, 3).
    """
    count, slots = len(own), ends.shape[1]
    kept = np.empty((2, slots + 1), np.int64)
    for c in range(known, min(len(ends), count - first)):
        i = first + c
        # Lists first, of earlier and of later atoms: which an edge leads to nobody can predict.
        earlier, later = 0, 0
        for k in range(slots):
            j = owners[ends[c, k]]
            stiff = (stiffness[c, k, 0] != 0.0) | (stiffness[c, k, 1] != 0.0)
            ahead = (i < j) & (j < count)
            kept[0, earlier] = k
            kept[1, later] = k
            earlier += stiff & ~ahead
            later += stiff & ahead
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        all_xx, all_xy, all_xz, all_yy, all_yz, all_zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for side in range(2):
            for place in range(later if side else earlier):
                k = kept[side, place]
                a, b, end = stiffness[c, k, 0], stiffness[c, k, 1], ends[c, k]
                rx, ry, rz = positions[end, 0] - x, positions[end, 1] - y, positions[end, 2] - z
                xx, xy, xz = a * rx * rx + b, a * rx * ry, a * rx * rz
                yy, yz, zz = a * ry * ry + b, a * ry * rz, a * rz * rz + b
                all_xx += xx
                all_xy += xy
                all_xz += xz
                all_yy += yy
                all_yz += yz
                all_zz += zz
                if side:
                    e = starts[i] + place
                    columns[e] = owners[end]
                    blocks[e, 0], blocks[e, 1], blocks[e, 2] = -xx, -xy, -xz
                    blocks[e, 3], blocks[e, 4], blocks[e, 5] = -yy, -yz, -zz
        own[i, 0], own[i, 1], own[i, 2] = all_xx, all_xy, all_xz
        own[i, 3], own[i, 4], own[i, 5] = all_yy, all_yz, all_zz


@host_compiled
def rows_of(own: Any, starts: Any, columns: Any, blocks: Any, chosen: Any) -> Any:
    """Row, column and components of all blocks of some rows."""
    count = len(own)
    number = np.full(count, -1)
    lengths = np.ones(len(chosen), np.int64)
    for c in range(len(chosen)):
        number[chosen[c]] = c
        lengths[c] += starts[chosen[c] + 1] - starts[chosen[c]]
    for e in range(starts[count]):
        if number[columns[e]] >= 0:
            lengths[number[columns[e]]] += 1
    places = np.zeros(len(chosen) + 1, np.int64)
    places[1:] = np.cumsum(lengths)
    total = places[-1]
    row, column = np.empty(total, np.int64), np.empty(total, np.int64)
    found = np.empty((total, 6))
    for c in range(len(chosen)):
        row[places[c] : places[c + 1]] = chosen[c]
        column[places[c]] = chosen[c]
        found[places[c]] = own[chosen[c]]
        places[c] += 1
    for i in range(count):
        for e in range(starts[i], starts[i + 1]):
            for side in range(2):
                here, there = (i, columns[e]) if side == 0 else (columns[e], i)
                c = number[here]
                if c >= 0:
                    column[places[c]] = there
                    found[places[c]] = blocks[e]
                    places[c] += 1
    return row, column, found


@host_compiled
def whole(own: Any, starts: Any, columns: Any, blocks: Any) -> Any:
    """Both halves: blocks, shape (T, 3, 3), their columns, and where rows begin."""
    count = len(own)
    pointers = np.zeros(count + 1, np.int32)
    for i in range(count):
        pointers[i + 1] += 1 + starts[i + 1] - starts[i]
        for e in range(starts[i], starts[i + 1]):
            pointers[columns[e] + 1] += 1
    for i in range(count):
        pointers[i + 1] += pointers[i]
    place = pointers[:-1].copy()
    data = np.empty((pointers[-1], 3, 3))
    found = np.empty(pointers[-1], np.int32)

    for i in range(count):
        found[place[i]] = i
        _expand(own[i], data[place[i]])
        place[i] += 1
    for i in range(count):
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            found[place[i]], found[place[j]] = j, i
            _expand(blocks[e], data[place[i]])
            _expand(blocks[e], data[place[j]])
            place[i] += 1
            place[j] += 1
    return data, found, pointers


@host_compiled
def _expand(block: Any, to: Any) -> None:
    to[0, 0], to[0, 1], to[0, 2] = block[0], block[1], block[2]
    to[1, 0], to[1, 1], to[1, 2] = block[1], block[3], block[4]
    to[2, 0], to[2, 1], to[2, 2] = block[2], block[4], block[5]


@host_compiled_sums
def strain_sums(
    starts: Any, columns: Any, blocks: Any, fractional: Any, cell: Any, periodic: Any
) -> Any:
    """The sums of `HalfStored.strain_sums`."""
    count = len(fractional)
    mixed, waves = np.zeros((count, 6, 3)), np.zeros((6, 6))
    apart, moved, products = np.empty(3), np.empty(3), np.empty(6)
    for i in range(count):
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            for axis in range(3):
                apart[axis] = fractional[j, axis] - fractional[i, axis]
                apart[axis] -= periodic[axis] * np.rint(apart[axis])
            for axis in range(3):
                moved[axis] = (
                    apart[0] * cell[0, axis] + apart[1] * cell[1, axis] + apart[2] * cell[2, axis]
                )
            products[0], products[1], products[2] = (
                moved[0] * moved[0], moved[0] * moved[1], moved[0] * moved[2]
            )  # fmt: skip
            products[3], products[4], products[5] = (
                moved[1] * moved[1], moved[1] * moved[2], moved[2] * moved[2]
            )  # fmt: skip
            for b in range(6):
                block = blocks[e, b]
                for axis in range(3):
                    mixed[i, b, axis] += block * moved[axis]
                    mixed[j, b, axis] -= block * moved[axis]
                for a in range(6):
                    # Twice, once from each end, of which one half counts.
                    waves[a, b] -= products[a] * block
    return mixed, waves
