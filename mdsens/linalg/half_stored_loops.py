"""The loops of `HalfStored`, compiled by numba: imported by what runs one of them alone."""

from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled, host_compiled_sums

#: Atoms whose edges are read together.
TILE = 64


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
    """What some rows add to the product with P columns, shape (N, 3, P)."""
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
            # Apart, as more columns are then multiplied at a time.
            for p in range(count):
                w0, w1, w2 = there[0, p], there[1, p], there[2, p]
                sums[0, p] += xx * w0 + xy * w1 + xz * w2
                sums[1, p] += xy * w0 + yy * w1 + yz * w2
                sums[2, p] += xz * w0 + yz * w1 + zz * w2
            for p in range(count):
                v0, v1, v2 = here[0, p], here[1, p], here[2, p]
                to[0, p] += xx * v0 + xy * v1 + xz * v2
                to[1, p] += xy * v0 + yy * v1 + yz * v2
                to[2, p] += xz * v0 + yz * v1 + zz * v2
        for axis in range(3):
            for p in range(count):
                image[i, axis, p] += sums[axis, p]


@host_compiled
def _take_edges(neighbors: Any, first: int, last: int, tile: Any) -> None:
    """Edges of some atoms, a row each: slots are a power of two apart, too many for one cache."""
    size, start = neighbors.shape[2], first
    while start < last:
        block, begin = start // size, start % size
        count = min(last - start, size - begin)
        for k in range(neighbors.shape[1]):
            for c in range(count):
                tile[start - first + c, k] = neighbors[block, k, begin + c]
        start += count


@host_compiled
def find_pairs(
    neighbors: Any, owners: Any, positions: Any, kinds: Any, limits: Any, first: int, last: int,
    counts: Any, ends: Any,
) -> int:  # fmt: skip
    """Note the edges of some atoms, shape (B, K, C), that lead to later ones within reach.

    They lead to positions of shape (E, 3), of which the owners are atoms, N for none, and which
    have kinds; `limits` are squared distances for each pair of these. There is room for one more
    than there are: each is written before it is known to count, which nobody can predict.
    """
    count, tile, found = len(counts), np.empty((TILE, neighbors.shape[1]), np.int32), 0
    later = np.empty(neighbors.shape[1] + 1, np.int32)
    for i in range(first, last):
        if (i - first) % TILE == 0:
            _take_edges(neighbors, i, min(i + TILE, last), tile)
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        before, number = found, 0
        for end in tile[(i - first) % TILE]:
            later[number] = end
            number += (i < owners[end]) & (owners[end] < count)
        # Half of them, of which alone it matters where they are.
        for end in later[:number]:
            rx, ry, rz = positions[end, 0] - x, positions[end, 1] - y, positions[end, 2] - z
            ends[found] = end
            found += rx * rx + ry * ry + rz * rz < limits[kinds[i], kinds[end]]
        counts[i] = found - before
    return found


@host_compiled
def take_vectors(
    ends: Any, starts: Any, positions: Any, kinds: Any, first: int, last: int, vectors: Any,
    species: Any, several: bool,
) -> None:  # fmt: skip
    """Vectors along the pairs of some atoms, shape (3, P), and the kinds of both of their ends.

    Where there are not several kinds these are all zero already.
    """
    for i in range(first, last):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        for e in range(starts[i], starts[i + 1]):
            p, end = e - starts[first], ends[e]
            vectors[0, p] = positions[end, 0] - x
            vectors[1, p] = positions[end, 1] - y
            vectors[2, p] = positions[end, 2] - z
            if several:
                species[0, p], species[1, p] = kinds[i], kinds[end]


@host_compiled_sums
def fill(
    stiffness: Any, vectors: Any, columns: Any, starts: Any, first: int, last: int, own: Any,
    blocks: Any,
) -> None:  # fmt: skip
    """Put the blocks -(a R R^T + b) of pairs to their places, and add their sums to the diagonal.

    With a and b of each pair from `stiffness`, shape (2, P), and R from `vectors`, shape (3, P).
    """
    begin = starts[first]
    for i in range(first, last):
        all_xx, all_xy, all_xz, all_yy, all_yz, all_zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for e in range(starts[i], starts[i + 1]):
            p = e - begin
            j, a, b = columns[e], stiffness[0, p], stiffness[1, p]
            rx, ry, rz = vectors[0, p], vectors[1, p], vectors[2, p]
            xx, xy, xz = a * rx * rx + b, a * rx * ry, a * rx * rz
            yy, yz, zz = a * ry * ry + b, a * ry * rz, a * rz * rz + b
            all_xx += xx
            all_xy += xy
            all_xz += xz
            all_yy += yy
            all_yz += yz
            all_zz += zz
            own[j, 0] += xx
            own[j, 1] += xy
            own[j, 2] += xz
            own[j, 3] += yy
            own[j, 4] += yz
            own[j, 5] += zz
            blocks[e, 0], blocks[e, 1], blocks[e, 2] = -xx, -xy, -xz
            blocks[e, 3], blocks[e, 4], blocks[e, 5] = -yy, -yz, -zz
        own[i, 0] += all_xx
        own[i, 1] += all_xy
        own[i, 2] += all_xz
        own[i, 3] += all_yy
        own[i, 4] += all_yz
        own[i, 5] += all_zz


@host_compiled_sums
def add_along(
    weights: Any, vectors: Any, columns: Any, starts: Any, first: int, last: int, sums: Any
) -> None:
    """Add w R of the pairs of some atoms to their later ones, and take it off the others."""
    for i in range(first, last):
        x, y, z = 0.0, 0.0, 0.0
        for e in range(starts[i], starts[i + 1]):
            p, j = e - starts[first], columns[e]
            w = weights[p]
            wx, wy, wz = w * vectors[0, p], w * vectors[1, p], w * vectors[2, p]
            sums[j, 0] += wx
            sums[j, 1] += wy
            sums[j, 2] += wz
            x += wx
            y += wy
            z += wz
        sums[i, 0] -= x
        sums[i, 1] -= y
        sums[i, 2] -= z


@host_compiled_sums
def take_growths(
    vectors: Any, moves: Any, columns: Any, starts: Any, first: int, last: int, growths: Any
) -> None:
    """R d of the pairs of some atoms, as of `add_products`; zero beyond them."""
    for i in range(first, last):
        mx, my, mz = moves[i, 0], moves[i, 1], moves[i, 2]
        for e in range(starts[i], starts[i + 1]):
            p, j = e - starts[first], columns[e]
            dx, dy, dz = moves[j, 0] - mx, moves[j, 1] - my, moves[j, 2] - mz
            growths[p] = vectors[0, p] * dx + vectors[1, p] * dy + vectors[2, p] * dz
    growths[starts[last] - starts[first] :] = 0.0


@host_compiled_sums
def add_products(
    stiffness: Any, vectors: Any, moves: Any, columns: Any, starts: Any, first: int, last: int,
    sums: Any, grown: bool,
) -> None:  # fmt: skip
    """Add (a R R^T + b) d of the pairs of some atoms to their later ones, and take it off others.

    With a and b of each pair from `stiffness`, shape (2, P), R from `vectors`, shape (3, P), and d
    the difference of the moves of both ends, shape (N, 3). Where they are `grown`, a R + b d: what
    R^T d does is in a already.
    """
    for i in range(first, last):
        mx, my, mz = moves[i, 0], moves[i, 1], moves[i, 2]
        x, y, z = 0.0, 0.0, 0.0
        for e in range(starts[i], starts[i + 1]):
            p, j = e - starts[first], columns[e]
            rx, ry, rz = vectors[0, p], vectors[1, p], vectors[2, p]
            dx, dy, dz = moves[j, 0] - mx, moves[j, 1] - my, moves[j, 2] - mz
            along, b = stiffness[0, p], stiffness[1, p]
            if not grown:
                along *= rx * dx + ry * dy + rz * dz
            px, py, pz = along * rx + b * dx, along * ry + b * dy, along * rz + b * dz
            sums[j, 0] += px
            sums[j, 1] += py
            sums[j, 2] += pz
            x += px
            y += py
            z += pz
        sums[i, 0] -= x
        sums[i, 1] -= y
        sums[i, 2] -= z


@host_compiled
def rows_of(own: Any, starts: Any, columns: Any, blocks: Any, chosen: Any) -> Any:
    """Row, column and components of all blocks of some rows."""
    count = len(own)
    # What nearly all pairs are asked, whether their later row counts, stays in the nearest cache.
    counts, number = np.zeros(count, np.uint8), np.empty(count, np.int64)
    for c in range(len(chosen)):
        counts[chosen[c]], number[chosen[c]] = 1, c
    held, size = np.empty(starts[count], np.int64), 0
    for e in range(starts[count]):
        held[size] = e
        size += counts[columns[e]]
    places = np.zeros(len(chosen) + 1, np.int64)
    for c in range(len(chosen)):
        places[c + 1] = 1 + starts[chosen[c] + 1] - starts[chosen[c]]
    for e in held[:size]:
        places[number[columns[e]] + 1] += 1
    places = np.cumsum(places)
    total = places[-1]
    row, column = np.empty(total, np.int64), np.empty(total, np.int64)
    found = np.empty((total, 6))
    for c in range(len(chosen)):
        i, place = chosen[c], places[c]
        row[place : places[c + 1]] = i
        column[place], found[place] = i, own[i]
        for e in range(starts[i], starts[i + 1]):
            place += 1
            column[place], found[place] = columns[e], blocks[e]
        places[c] = place + 1
    i = 0
    for e in held[:size]:
        while starts[i + 1] <= e:
            i += 1
        c = number[columns[e]]
        column[places[c]], found[places[c]] = i, blocks[e]
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
