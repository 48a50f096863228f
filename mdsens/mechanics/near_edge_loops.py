"""The loops of `near_edges`, compiled by numba: imported by what runs one of them alone."""

from typing import Any

from mdsens.host_compilation import host_compiled


@host_compiled
def rank_near(
    neighbors: Any, positions: Any, kinds: Any, limits: Any, counts: Any, ranks: Any
) -> None:
    """Number the edges of each atom, shape (B, K, C), that are within reach; -1 for all others.

    They lead to positions of shape (E, D), the last of which is for none, and which have kinds;
    `limits` are squared distances for each pair of these.
    """
    blank, size = len(positions) - 1, neighbors.shape[2]
    for block in range(neighbors.shape[0]):
        for slot in range(neighbors.shape[1]):
            for c in range(size):
                i, end = block * size + c, neighbors[block, slot, c]
                ranks[block, slot, c] = -1
                if end == blank or i >= len(counts):
                    continue
                square = 0.0
                for axis in range(positions.shape[1]):
                    apart = positions[end, axis] - positions[i, axis]
                    square += apart * apart
                if square < limits[kinds[i], kinds[end]]:
                    ranks[block, slot, c] = counts[i]
                    counts[i] += 1


@host_compiled
def put_near(neighbors: Any, ranks: Any, near: Any) -> None:
    """Put edges that have a rank to the slot of that number, shape (B, k, C)."""
    for block in range(neighbors.shape[0]):
        for slot in range(neighbors.shape[1]):
            for c in range(neighbors.shape[2]):
                rank = ranks[block, slot, c]
                if rank >= 0:
                    near[block, rank, c] = neighbors[block, slot, c]


@host_compiled
def put_reverse(reverse: Any, ranks: Any, near: Any, reverse_near: Any, blank: int) -> None:
    """The places of edges that have a rank from their other ends, and none where those have none.

    At the very end of the reach an edge may be within for one of its ends alone.
    """
    slots, size = ranks.shape[1], ranks.shape[2]
    for block in range(ranks.shape[0]):
        for slot in range(slots):
            for c in range(size):
                rank = ranks[block, slot, c]
                if rank < 0:
                    continue
                there, opposite = divmod(reverse[block, slot, c], size)
                other = ranks[there // slots, there % slots, opposite]
                if other < 0:
                    near[block, rank, c] = blank
                else:
                    place = (there // slots * near.shape[1] + other) * size + opposite
                    reverse_near[block, rank, c] = place
