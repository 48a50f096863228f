"""A few dense rows and columns beside a sparse matrix: products, and what preconditions them."""

import dataclasses
import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.linalg.null_space import is_null
from mdsens.linalg.sparse_plus_low_rank import RowSlices, SparsePlusLowRank

#: Relative length of a null vector's part in the border below which it is one of the matrix alone.
INSIDE = 1e-8


@dataclasses.dataclass(frozen=True)
class Border:
    """The columns C and the corner S of the symmetric matrix [A C; C^T S].

    Attributes:
        columns: C, shape (n, U).
        corner: S, shape (U, U), symmetric.
    """

    columns: Float[np.ndarray, "n U"]
    corner: Float[np.ndarray, "U U"]

    @property
    def is_finite(self) -> bool:
        """Whether all entries are."""
        return bool(np.isfinite(self.columns).all() and np.isfinite(self.corner).all())

    def null_vectors_inside(self, null_space: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "j n"]:
        """Those combinations of null vectors of the whole that are null vectors of A alone.

        Arguments:
            null_space: orthonormal null vectors, shape (m, n + U).

        Returns:
            Shape (k, n), orthonormal.
        """
        count = len(self.columns)
        mixed, sizes, _ = np.linalg.svd(null_space[:, count:])
        sizes = np.pad(sizes, (0, len(mixed) - len(sizes)))
        return mixed[:, sizes <= INSIDE].T @ null_space[:, :count]


class Bordered:
    """The matrix [A C; C^T S], for products.

    Arguments:
        matrix: A, shape (n, n).
        border: C and S.
    """

    def __init__(
        self, matrix: scipy.sparse.sparray | RowSlices | SparsePlusLowRank, border: Border
    ) -> None:
        size = matrix.shape[0] + len(border.corner)
        self.matrix, self.border, self.shape = matrix, border, (size, size)

    def __matmul__(self, vectors: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "m ..."]:
        """The product with one vector or with a column each."""
        columns, corner = self.border.columns, self.border.corner
        above, below = vectors[: len(columns)], vectors[len(columns) :]
        image = np.empty_like(vectors)
        image[: len(columns)] = self.matrix @ np.ascontiguousarray(above)
        image[: len(columns)] += columns @ below
        image[len(columns) :] = columns.T @ above + corner @ below
        return image


class BorderedPreconditioner:
    """An approximate inverse of [A C; C^T S] by block elimination, from one of A.

    With P for A^-1 and T = P C the border is eliminated by the congruence that subtracts T from the
    unknowns of A: what is left of the corner is S~ = S - C^T T - T^T C + T^T A T, the energy of the
    border where the rest follows it by -T. It lies above the Schur complement, by the square of
    the error of T; where P is the inverse, so is this.

    Arguments:
        inner: P, symmetric.
        matrix: A, shape (n, n).
        border: C and S.
        signed: whether negative eigenvalues of S~ are inverted as they are; if not by their size,
            which leaves the whole positive where P is.
    """

    def __init__(
        self,
        inner: HostPreconditioner,
        matrix: scipy.sparse.sparray | RowSlices | SparsePlusLowRank,
        border: Border,
        signed: bool,
    ) -> None:
        self.inner, self._matrix, self._border, self._signed = inner, matrix, border, signed

    @functools.cached_property
    def _eliminated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """T, and the eigenvalues and eigenvectors of S~ that are not null."""
        columns = self._border.columns
        follows = self.inner(columns)
        coupling = columns.T @ follows
        reduced = self._border.corner - coupling - coupling.T
        reduced += follows.T @ (self._matrix @ follows)
        values, vectors = np.linalg.eigh((reduced + reduced.T) / 2)
        kept = ~is_null(values)
        return follows, values[kept], vectors[:, kept]

    @functools.cached_property
    def _inverse(self) -> Float[np.ndarray, "U U"]:
        """That of S~, or of its eigenvalues' sizes, where it is not null."""
        _, values, vectors = self._eliminated
        return (vectors / (values if self._signed else np.abs(values))) @ vectors.T

    @property
    def definite(self) -> bool:
        """Whether no part of the border lowers the energy where the rest follows it."""
        return bool((self._eliminated[1] > 0.0).all())

    @property
    def lift(self) -> Float[np.ndarray, "U U"]:
        """What makes the corner such that S~ has the sizes of its eigenvalues."""
        _, values, vectors = self._eliminated
        return (vectors * (np.abs(values) - values)) @ vectors.T

    def of_border(self, residual: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "m ..."]:
        """The part of the product that moves the border, and the rest with it."""
        follows, count = self._eliminated[0], len(self._border.columns)
        moved = self._inverse @ (residual[count:] - follows.T @ residual[:count])
        found = np.empty_like(residual)
        np.matmul(follows, -moved, out=found[:count])
        found[count:] = moved
        return found

    def __call__(self, residual: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "m ..."]:
        """The product with a vector, or with each column."""
        found = self.of_border(residual)
        count = len(self._border.columns)
        found[:count] += self.inner(np.ascontiguousarray(residual[:count]))
        return found

    def __str__(self) -> str:
        return str(self.inner)
