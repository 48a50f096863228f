"""Large sparse matrices on the host: products by all cores, and parts of low rank."""

import copy
import functools
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mdsens.linalg.half_stored import HalfStored
from mdsens.resources import available_cores, on_all_cores

#: Bytes from which on a matrix is worth more than one core.
SHARED_BYTES = 2**22
#: Bytes of a large array that are looked at together.
PIECE_BYTES = 2**20


class RowSlices:
    """A sparse matrix in slices of rows, one for each core; it shares the memory of the matrix.

    Arguments:
        matrix: shape (n, m), in blocks or compressed rows.
        slices: how many.
    """

    def __init__(
        self, matrix: scipy.sparse.bsr_array | scipy.sparse.csr_array, slices: int
    ) -> None:
        self.shape, self.dtype = matrix.shape, matrix.dtype
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
        image = np.empty((self.shape[0], *vectors.shape[1:]), np.result_type(self.dtype, vectors))

        def multiply(part: tuple[Any, ...]) -> None:
            rows, matrix = part
            image[rows] = matrix @ vectors

        on_all_cores(multiply, self._slices)
        return image


def shared_by_cores(
    matrix: scipy.sparse.bsr_array | scipy.sparse.csr_array,
) -> scipy.sparse.bsr_array | scipy.sparse.csr_array | RowSlices:
    """The matrix, in slices if it is large and there is more than one core."""
    cores = available_cores()
    if cores < 2 or matrix.data.nbytes < SHARED_BYTES:
        return matrix
    return RowSlices(matrix, cores)


class SparsePlusLowRank:
    """The symmetric matrix A + G^T diag(w) G with sparse A and G.

    A site whose energy is a nonlinear function of a sum over its neighbours couples all of them in
    pairs: with 80 neighbours 6400 blocks, which G keeps as 80.

    Arguments:
        sparse: A, shape (n, n), in d x d blocks, symmetric.
        gradients: G, shape (s, n), in 1 x d blocks.
        weights: w, shape (s,).
    """

    def __init__(
        self,
        sparse: scipy.sparse.bsr_array,
        gradients: scipy.sparse.bsr_array,
        weights: Float[np.ndarray, " s"],
    ) -> None:
        self.sparse, self.gradients, self.weights = sparse, gradients, weights
        self.shape, self.blocksize = sparse.shape, sparse.blocksize

    @functools.cached_property
    def _products(self) -> tuple[Any, ...]:
        parts = (self.sparse, self.gradients, self.gradients.T.asformat(self.gradients.format))
        return tuple(shared_by_cores(part) for part in parts)

    def __matmul__(self, vectors: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The product with one vector or with a column each."""
        weights = self.weights.reshape(-1, *(1 for _ in vectors.shape[1:]))
        sparse, gradients, transposed = self._products
        image = sparse @ vectors
        image += transposed @ (weights * (gradients @ vectors))
        return image

    def for_many_columns(self) -> "SparsePlusLowRank":
        """The same in the format that is faster for many vectors at once."""
        other = copy.copy(self)
        other.__dict__.pop("_products", None)
        other.sparse, other.gradients = self.sparse.tocsr(), self.gradients.tocsr()
        return other

    def to_bsr(self) -> scipy.sparse.bsr_array:
        """The sum as one sparse matrix in blocks, sorted by column."""
        gradients = self.gradients.tocsr()
        weighted = scipy.sparse.diags_array(self.weights) @ gradients
        whole = scipy.sparse.csr_array(self.sparse.tocsr() + gradients.T @ weighted)
        whole.sort_indices()
        return whole.tobsr(self.blocksize)

    def toarray(self) -> Float[np.ndarray, "n n"]:
        """The dense matrix."""
        return self.to_bsr().toarray()


#: A matrix on the host: its blocks, those of one half, or blocks and a part of low rank.
SymmetricMatrix: TypeAlias = scipy.sparse.bsr_array | SparsePlusLowRank | HalfStored


def blocks_of(
    matrix: SymmetricMatrix,
) -> scipy.sparse.bsr_array:
    """The sparse part of a matrix in parts, or the sparse matrix itself; both halves of a half."""
    if isinstance(matrix, HalfStored):
        return matrix.whole
    return matrix.sparse if isinstance(matrix, SparsePlusLowRank) else matrix


def to_bsr(
    matrix: SymmetricMatrix,
) -> scipy.sparse.bsr_array:
    """The whole of a matrix in parts, or the sparse matrix itself."""
    if isinstance(matrix, HalfStored):
        return matrix.whole
    return matrix.to_bsr() if isinstance(matrix, SparsePlusLowRank) else matrix


def is_finite(matrix: SymmetricMatrix) -> bool:
    """Whether all entries are."""
    if isinstance(matrix, HalfStored):
        # One that is not is part of a sum on the diagonal.
        return bool(np.isfinite(matrix.own).all())
    parts = [blocks_of(matrix).data]
    if isinstance(matrix, SparsePlusLowRank):
        parts += [matrix.gradients.data, matrix.weights]
    pieces = [
        piece
        for part in parts
        for piece in np.array_split(part.reshape(-1), 1 + part.nbytes // PIECE_BYTES)
    ]
    return all(on_all_cores(lambda piece: bool(np.isfinite(piece).all()), pieces))
