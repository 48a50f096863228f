"""One symmetric sparse matrix in the forms that products, blocks and many columns ask for."""

import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mdsens.linalg.border import Border, Bordered
from mdsens.linalg.bordered_columns import BorderedColumns
from mdsens.linalg.columns_together import ColumnsTogether
from mdsens.linalg.conjugate_gradients import Operator
from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner
from mdsens.linalg.local_solves import LocallyExact
from mdsens.linalg.sparse_plus_low_rank import (
    SparsePlusLowRank,
    SymmetricMatrix,
    blocks_of,
    shared_by_cores,
)

#: Bytes of a matrix up to which a second copy, for many vectors at once, is made.
WIDE_LIMIT = 2**31


class MatrixForms:
    """A matrix with its border, each form of it made when it is first asked for.

    Arguments:
        matrix: shape (n, n), in d x d blocks.
        border: dense rows and columns beside it; None: there are none.
    """

    def __init__(self, matrix: SymmetricMatrix, border: Border | None) -> None:
        self._matrix, self._border = matrix, border

    @functools.cached_property
    def blocks(self) -> scipy.sparse.bsr_array:
        """The sparse part of the matrix, both halves of it."""
        return blocks_of(self._matrix)

    @functools.cached_property
    def operator(self) -> Operator:
        """The matrix with its border, for products with one vector."""
        return self._with_border(self.without_border)

    @functools.cached_property
    def wide_operator(self) -> Operator:
        """The same in the format that is twice as fast for many vectors, if that is no burden."""
        if self.blocks.data.nbytes > WIDE_LIMIT:
            return self.operator
        if isinstance(self._matrix, SparsePlusLowRank):
            return self._with_border(self._matrix.for_many_columns())
        return self._with_border(shared_by_cores(self.blocks.tocsr()))

    @functools.cached_property
    def without_border(self) -> Operator:
        """The matrix alone, for products."""
        by_itself = isinstance(self._matrix, (SparsePlusLowRank, HalfStored))
        return self._matrix if by_itself else shared_by_cores(self._matrix)

    @functools.cached_property
    def largest_entry(self) -> float:
        """The largest absolute entry of the sparse part."""
        # Of a half the largest entries are on the diagonal, which are sums of all others.
        given = self._matrix
        entries = given.own if isinstance(given, HalfStored) else self.blocks.data
        return float(max(entries.max(initial=0.0), -entries.min(initial=0.0)))

    @property
    def stored_blocks(self) -> scipy.sparse.bsr_array | HalfStored:
        """The blocks as they are stored: one half of them where that is all there is."""
        return self._matrix if isinstance(self._matrix, HalfStored) else self.blocks

    def columns_together(
        self, preconditioner: object, null_space: Float[np.ndarray, "m n"]
    ) -> ColumnsTogether | BorderedColumns | None:
        """Solves for many columns with a lattice.

        Arguments:
            preconditioner: what the solver has.
            null_space: shape (m, n), orthonormal.

        Returns:
            The solver of columns; None where there is more than a sparse matrix, where a null
            vector has a part in its border, or where there is no lattice.
        """
        if isinstance(self._matrix, SparsePlusLowRank):
            return None
        if not isinstance(preconditioner, LatticePreconditioner | LocallyExact):
            return None
        given = self.stored_blocks
        size = given.nbytes if isinstance(given, HalfStored) else given.data.nbytes
        if size > WIDE_LIMIT:
            return None
        if self._border is None:
            return ColumnsTogether(given, preconditioner, null_space)
        inside = self._border.null_vectors_inside(null_space)
        if len(inside) < len(null_space):
            return None
        return BorderedColumns(ColumnsTogether(given, preconditioner, inside), self._border, inside)

    def _with_border(self, matrix: Operator) -> Operator:
        return matrix if self._border is None else Bordered(matrix, self._border)
