"""Sparse matrices whose products all cores compute side by side."""

from itertools import pairwise

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mdsens.resources import available_cores, side_by_side

#: Bytes from which on a matrix is worth more than one core.
SHARED_BYTES = 2**22


class RowSlices:
    """A sparse matrix in slices of rows, one for each core; it shares the memory of the matrix.

    **Arguments:**

    - `matrix`: shape (n, m), in blocks or compressed rows.
    - `slices`: how many.
    """

    def __init__(
        self, matrix: scipy.sparse.bsr_array | scipy.sparse.csr_array, slices: int
    ) -> None:
        self.shape = matrix.shape
        size = matrix.blocksize[0] if isinstance(matrix, scipy.sparse.bsr_array) else 1
        # Equal work: where the stored entries are cut into equal parts.
        wanted = np.linspace(0, matrix.indptr[-1], slices + 1)[1:-1]
        cuts = np.searchsorted(matrix.indptr, wanted)
        bounds = np.concatenate([[0], cuts, [len(matrix.indptr) - 1]])
        self._slices = []
        for first, last in pairwise(bounds):
            begin, end = matrix.indptr[first], matrix.indptr[last]
            parts = (
                matrix.data[begin:end], matrix.indices[begin:end],
                matrix.indptr[first : last + 1] - begin,
            )  # fmt: skip
            shape = ((last - first) * size, matrix.shape[1])
            rows = slice(first * size, last * size)
            self._slices.append((rows, type(matrix)(parts, shape=shape)))

    def __matmul__(self, vectors: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "n ..."]:
        """The product with one vector or with a column each."""
        image = np.empty((self.shape[0], *vectors.shape[1:]))

        def multiply(part: tuple) -> None:
            rows, matrix = part
            image[rows] = matrix @ vectors

        side_by_side(multiply, self._slices)
        return image


def shared_by_cores(
    matrix: scipy.sparse.bsr_array | scipy.sparse.csr_array,
) -> scipy.sparse.bsr_array | scipy.sparse.csr_array | RowSlices:
    """The matrix, in slices if it is large and there is more than one core."""
    cores = available_cores()
    if cores < 2 or matrix.data.nbytes < SHARED_BYTES:
        return matrix
    return RowSlices(matrix, cores)
