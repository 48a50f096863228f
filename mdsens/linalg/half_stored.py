"""Symmetric matrices of which one half is stored: a third of a product's memory and time."""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.resources import available_cores, on_all_cores

#: Components of the upper triangle of a symmetric block, and where each of the nine is among them.
UPPER, PLACES = 6, (0, 1, 2, 1, 3, 4, 2, 4, 5)
#: Columns from which on a product of all of them takes less time than one after the other
#: (measured: three fifths of it for 8, two fifths for 16; for 4 as long).
SIDE_BY_SIDE = 8


class HalfStored:
    """A symmetric matrix in symmetric 3 x 3 blocks, one for each pair of rows that are coupled.

    Compiled loops of numba multiply it: SciPy, which asks for both halves and all nine numbers of a
    block, reads three times as much.

    Arguments:
        own: shape (N, 6), blocks on the diagonal: xx, xy, xz, yy, yz, zz.
        starts: shape (N + 1,), where the blocks of each row begin.
        columns: shape (M,), the other row of each block.
        blocks: shape (M, 6).

    Attributes:
        shape: (3 N, 3 N).
        blocksize: (3, 3).
        stored: what it is made from.
        parts: rows for each core, of about as many blocks.
    """

    def __init__(
        self,
        own: Float[np.ndarray, "N 6"],
        starts: Int[np.ndarray, " S"],
        columns: Int[np.ndarray, " M"],
        blocks: Float[np.ndarray, "M 6"],
    ) -> None:
        self.own, self.stored = own, (own, starts, columns, blocks)
        self.shape, self.blocksize = (3 * len(own), 3 * len(own)), (3, 3)
        cuts = np.searchsorted(starts, np.linspace(0, starts[-1], available_cores() + 1))
        cuts[0], cuts[-1] = 0, len(own)
        self.parts = list(itertools.pairwise(cuts.tolist()))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(array.nbytes for array in self.stored)

    def __matmul__(self, vectors: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The product with one vector or with a column each."""
        from mdsens.linalg.half_stored_loops import multiply, multiply_columns

        if vectors.ndim > 1:
            flat = vectors.reshape(len(vectors), -1)
            if flat.shape[1] >= SIDE_BY_SIDE:
                columns = np.ascontiguousarray(flat, float).reshape(-1, 3, flat.shape[1])
                found = _by_all_cores(multiply_columns, self.stored, columns, self.parts)
                return found.reshape(vectors.shape)
            images = [
                self @ np.ascontiguousarray(flat[:, column]) for column in range(flat.shape[1])
            ]
            return np.stack(images, axis=1).reshape(vectors.shape)
        vector = np.ascontiguousarray(vectors, float).reshape(-1, 3)
        return _by_all_cores(multiply, self.stored, vector, self.parts).reshape(-1)

    def in_single_precision(self) -> "HalfStoredColumns":
        """The same for products with many columns."""
        return HalfStoredColumns(self)

    def rows_of(
        self, chosen: Int[np.ndarray, " C"]
    ) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"], Float[np.ndarray, "T 3 3"]]:
        """Whole rows of blocks.

        Arguments:
            chosen: shape (C,), which, each once.

        Returns:
            Row and column of each block, and the blocks; of each row together.
        """
        from mdsens.linalg.half_stored_loops import rows_of

        row, column, blocks = rows_of(*self.stored, chosen.astype(np.int64))
        return row, column, blocks[:, PLACES].reshape(-1, 3, 3)

    def own_blocks(self, rows: Int[np.ndarray, " C"]) -> Float[np.ndarray, "C 3 3"]:
        """Blocks on the diagonal."""
        return self.own[rows][:, PLACES].reshape(-1, 3, 3)

    def strain_sums(
        self,
        fractional: Float[np.ndarray, "N 3"],
        cell: Float[np.ndarray, "3 3"],
        periodic: Float[np.ndarray, " 3"],
    ) -> tuple[Float[np.ndarray, "N 9 3"], Float[np.ndarray, "9 9"]]:
        """Sums over all blocks with the differences of positions, as `strain_derivatives` asks for.

        Arguments:
            fractional: positions in units of the cell's vectors.
            cell: lattice vectors as rows, length.
            periodic: 1 where a direction is periodic, 0 elsewhere.

        Returns:
            sum_j H_ij,ac R_ij,b at [i, (a, c), b], and -1/2 sum_ij R_ij,a R_ij,c H_ij,bd at
            [(a, c), (b, d)].
        """
        from mdsens.linalg.half_stored_loops import strain_sums

        given = np.ascontiguousarray(fractional), np.ascontiguousarray(cell), periodic
        mixed, waves = strain_sums(*self.stored[1:], *given)
        return mixed[:, PLACES], waves[np.ix_(PLACES, PLACES)]

    @functools.cached_property
    def whole(self) -> scipy.sparse.bsr_array:
        """Both halves, for what asks for them."""
        from mdsens.linalg.half_stored_loops import whole

        data, columns, starts = whole(*self.stored)
        return scipy.sparse.bsr_array((data, columns, starts), shape=self.shape)

    def toarray(self) -> Float[np.ndarray, "n n"]:
        """The dense matrix."""
        return self.whole.toarray()

    def tocsr(self) -> scipy.sparse.csr_array:
        """Both halves in compressed rows."""
        return self.whole.tocsr()


class HalfStoredColumns:
    """A `HalfStored` matrix in single precision, for products with columns of all rows.

    Vectors have shape (N, 3, P), as of a `ClusteredMatrix` whose rows are in their own order.

    Arguments:
        matrix: in double precision.

    Attributes:
        rows: shape (N,), the row of blocks at each place.
        scale: what single precision holds is the matrix divided by this, its largest entry.
    """

    def __init__(self, matrix: HalfStored) -> None:
        own, starts, columns, blocks = matrix.stored
        self.rows: Int[np.ndarray, " N"] = np.arange(len(own))
        # At a minimum none is larger than the largest on the diagonal.
        self.scale = float(np.abs(own).max(initial=0.0)) or 1.0
        single = [np.empty(array.shape, np.float32) for array in (own, blocks)]
        for to, array in zip(single, (own, blocks), strict=True):
            np.multiply(array, 1.0 / self.scale, out=to, casting="same_kind")
        self._stored, self._parts = (single[0], starts, columns, single[1]), matrix.parts

    def __matmul__(self, vectors: Float[np.ndarray, "N 3 P"]) -> Float[np.ndarray, "N 3 P"]:
        """The product with P columns."""
        from mdsens.linalg.half_stored_loops import multiply_columns

        return _by_all_cores(multiply_columns, self._stored, vectors, self._parts)


def _by_all_cores(
    multiply: Callable[..., None],
    stored: tuple[np.ndarray, ...],
    vectors: Float[np.ndarray, "N 3 ..."],
    parts: list[tuple[int, int]],
) -> Float[np.ndarray, "N 3 ..."]:
    """The sum of what the rows of each core add to a product."""
    images = [np.empty_like(vectors) for _ in parts]
    on_all_cores(
        lambda number: multiply(*stored, vectors, images[number], *parts[number]),
        range(len(parts)),
    )
    for image in images[1:]:
        images[0] += image
    return images[0]
