"""The loops of `HalfStored`, compiled by numba: imported by what runs one of them alone."""

from typing import Any

import numba
import numpy as np

#: Sums may be taken in any order; what is not a number stays so.
_compiled = numba.njit(
    nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy"
)


@_compiled
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


@_compiled
def _is_block(components: Any) -> bool:
    """Whether there is anything in the block of an edge; one that is not a number is something."""
    return (
        components[0] != 0.0 or components[1] != 0.0 or components[2] != 0.0
        or components[3] != 0.0 or components[4] != 0.0 or components[5] != 0.0
    )  # fmt: skip


@_compiled
def count_kept(
    components: Any, ends: Any, owners: Any, start: int, begin: int, known: int, counts: Any
) -> None:
    """Of some atoms of a block, how many edges lead to a later atom and have a block.

    Components of shape (K, 6, c) are those of K slots of c atoms, whose ends begin at `start` in a
    block of atoms that begins at `begin`; of the first `known` of them nothing is asked.
    """
    last = len(counts)
    for c in range(known, components.shape[2]):
        i = begin + start + c
        if i >= last:
            break
        count = 0
        for k in range(components.shape[0]):
            j = owners[ends[k, start + c]]
            if i < j < last and _is_block(components[k, :, c]):
                count += 1
        counts[i] = count


@_compiled
def fill(
    components: Any, ends: Any, owners: Any, start: int, begin: int, known: int, own: Any,
    starts: Any, columns: Any, blocks: Any,
) -> None:  # fmt: skip
    """Put the blocks of these edges to their places, and their sums on the diagonal."""
    last = len(own)
    for c in range(known, components.shape[2]):
        i = begin + start + c
        if i >= last:
            break
        place = starts[i]
        for k in range(components.shape[0]):
            xx, xy, xz = components[k, 0, c], components[k, 1, c], components[k, 2, c]
            yy, yz, zz = components[k, 3, c], components[k, 4, c], components[k, 5, c]
            if not _is_block(components[k, :, c]):
                continue
            own[i, 0] += xx
            own[i, 1] += xy
            own[i, 2] += xz
            own[i, 3] += yy
            own[i, 4] += yz
            own[i, 5] += zz
            j = owners[ends[k, start + c]]
            if i < j < last:
                columns[place] = j
                blocks[place, 0], blocks[place, 1], blocks[place, 2] = -xx, -xy, -xz
                blocks[place, 3], blocks[place, 4], blocks[place, 5] = -yy, -yz, -zz
                place += 1


@_compiled
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


@_compiled
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


@_compiled
def _expand(block: Any, to: Any) -> None:
    to[0, 0], to[0, 1], to[0, 2] = block[0], block[1], block[2]
    to[1, 0], to[1, 1], to[1, 2] = block[1], block[3], block[4]
    to[2, 0], to[2, 1], to[2, 2] = block[2], block[4], block[5]


@_compiled
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
