"""The loop that makes forces of slopes at both ends of edges, compiled by numba for some blocks."""

import numpy as np

from mdsens.host_compilation import host_compiled


@host_compiled
def sum_over_ends(
    start: int, stop: int, slopes: np.ndarray, reverse: np.ndarray, forces: np.ndarray
) -> None:
    """Forces on the atoms of some blocks: sums of g minus g of the reverse edge.

    Arguments:
        start: the first block.
        stop: the one after the last.
        slopes: shape (D, E), derivatives of each atom's energy with respect to its edge vectors.
        reverse: shape (B, K, C), the place of the same edge seen from its other end; its own where
            there is none.
        forces: shape (N, D), to be filled.
    """
    _, slots, size = reverse.shape
    dimension = len(slopes)
    total = np.empty((dimension, size))
    for block in range(start, min(stop, len(reverse))):
        total[:] = 0.0
        for slot in range(slots):
            first = (block * slots + slot) * size
            for atom in range(size):
                there = reverse[block, slot, atom]
                for axis in range(dimension):
                    total[axis, atom] += slopes[axis, first + atom] - slopes[axis, there]
        for atom in range(block * size, min((block + 1) * size, len(forces))):
            for axis in range(dimension):
                forces[atom, axis] = total[axis, atom - block * size]
