"""A sparse matrix as dense ones of rows that are near one another, for products with many columns.

Rows of atoms that are neighbours have most of their columns in common: a few such rows with all
columns that any of them has are a dense matrix, not half of it zeros, whose product with many
columns is one of the library's for dense matrices, at several times the speed of a sparse one.
"""

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.resources import available_cores, on_all_cores

#: Rows of blocks in a cluster, and clusters whose products are computed together, which then stay
#: in a core's cache.
CLUSTER, TOGETHER = 4, 16


class ClusteredMatrix:
    """A symmetric matrix in single precision, for products with columns of all rows in its order.

    Vectors have shape (M, d, P): a row of d components for each of the N rows of blocks, in the
    order of `rows`, and zeros for what fills the last cluster.

    Arguments:
        matrix: shape (N d, N d), in d x d blocks, each place stored once.
        order: shape (N,), rows of blocks in an order in which neighbours are near one another.

    Attributes:
        rows: shape (M,), the row of blocks at each place; N where there is none.
        scale: what single precision holds is the matrix divided by this, its largest entry.
    """

    def __init__(self, matrix: scipy.sparse.bsr_array, order: Int[np.ndarray, " N"]) -> None:
        self.size, count = matrix.blocksize[0], len(order)
        clusters = -(-count // CLUSTER)
        # Without a copy of the matrix.
        self.scale = float(max(matrix.data.max(initial=0.0), -matrix.data.min(initial=0.0))) or 1.0
        cluster_of = np.empty(count, np.int32)
        cluster_of[order] = np.arange(count) // CLUSTER
        columns = _columns(matrix, cluster_of, clusters)
        # Clusters of about as many columns are multiplied together, filled with zeros.
        widths = np.diff(columns.indptr)
        by_width = np.argsort(widths, kind="stable")
        filled = np.full(clusters * CLUSTER, count)
        filled[:count] = order
        self.rows: Int[np.ndarray, " M"] = filled.reshape(clusters, CLUSTER)[by_width].reshape(-1)
        place = np.empty(count + 1, np.int32)
        place[self.rows] = np.arange(len(self.rows))

        def part(first: int) -> tuple[slice, np.ndarray, np.ndarray]:
            return self._part(
                matrix, columns, place, first, by_width[first : first + TOGETHER], widths
            )

        self._parts = on_all_cores(part, range(0, clusters, TOGETHER))

    def _part(
        self,
        matrix: scipy.sparse.bsr_array,
        columns: scipy.sparse.csr_array,
        place: Int[np.ndarray, " _"],
        first: int,
        chosen: Int[np.ndarray, " c"],
        widths: np.ndarray,
    ) -> tuple[slice, np.ndarray, np.ndarray]:
        """Some clusters: their rows, the columns of each, and their dense matrices."""
        width, size = int(widths[chosen].max(initial=1)), self.size
        own = slice(first * CLUSTER, (first + len(chosen)) * CLUSTER)
        ends = np.zeros((len(chosen), width), np.int32)
        slot, whole = np.zeros(len(place), np.int32), 1.0 / self.scale
        dense = np.zeros((len(chosen), CLUSTER, size, width, size), np.float32)
        for number, cluster in enumerate(chosen.tolist()):
            of_cluster = columns.indices[columns.indptr[cluster] : columns.indptr[cluster + 1]]
            ends[number, : len(of_cluster)] = place[of_cluster]
            slot[of_cluster] = np.arange(len(of_cluster))
            for member in range(CLUSTER):
                row = self.rows[(first + number) * CLUSTER + member]
                if row == len(matrix.indptr) - 1:
                    continue
                entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
                where = slot[matrix.indices[entries]]
                blocks = matrix.data[entries] * whole
                dense[number, member][:, where] = blocks.transpose(1, 0, 2)
        return own, ends.reshape(-1), dense.reshape(len(chosen), CLUSTER * size, width * size)

    def __matmul__(self, vectors: Float[np.ndarray, "M d P"]) -> Float[np.ndarray, "M d P"]:
        """The product with P columns."""
        image, columns = np.empty_like(vectors), vectors.shape[2]
        flat = vectors.reshape(len(vectors), -1)

        def multiply(parts: list[Any]) -> None:
            for rows, ends, dense in parts:
                gathered = flat.take(ends, axis=0, mode="clip").reshape(len(dense), -1, columns)
                np.matmul(dense, gathered, out=image[rows].reshape(len(dense), -1, columns))

        # Parts of about the same width for each core.
        cores = available_cores()
        on_all_cores(multiply, [self._parts[core::cores] for core in range(cores)])
        return image


def _columns(
    matrix: scipy.sparse.bsr_array, cluster_of: Int[np.ndarray, " N"], clusters: int
) -> scipy.sparse.csr_array:
    """Which columns of blocks each cluster has, each once."""
    count = len(cluster_of)
    belongs = scipy.sparse.csr_array(
        (np.ones(count, np.int8), (cluster_of, np.arange(count))), shape=(clusters, count)
    )
    pattern = scipy.sparse.csr_array(
        (np.ones(len(matrix.indices), np.int8), matrix.indices, matrix.indptr),
        shape=(count, count),
    )
    return (belongs @ pattern).tocsr()
