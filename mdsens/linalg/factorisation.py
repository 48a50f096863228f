"""Sparse factorisations of a symmetric matrix on the host: CHOLMOD's where it is installed, or LU.

CHOLMOD (Y. Chen et al., ACM Trans. Math. Softw. 35, 22 (2008)) works on dense blocks of the factor
and is several times faster. It comes with the package cvxopt, which is optional, as its licence,
GPL 3, is not that of this package.
"""

import functools
import types
from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float

#: What solves with a factor for one right-hand side, shape (n,), or several, shape (n, P).
Solve = Callable[[np.ndarray], np.ndarray]

#: The smallest pivot of a factor that is not singular, as a fraction of the largest.
SMALLEST_PIVOT = 1e-14


class Factorisation:
    """A symmetric sparse matrix in factors, which solve A x = b when called.

    A singular matrix is made regular by holding as many unknowns at zero as it has null vectors,
    chosen by a pivoted QR factorisation; where the right-hand side is balanced this gives an exact
    solution, from which the null space is to be projected out. A matrix that CHOLMOD has found not
    to be positive definite is factorised by LU when that is first asked for: who goes down an
    energy does not need it.

    Arguments:
        matrix: shape (n, n), symmetric.
        null_space: shape (m, n), orthonormal vectors that the matrix sends to zero.

    Attributes:
        positive_definite: whether the matrix is that outside its null space.

    Raises:
        RuntimeError: if the matrix is singular beyond its null space.
        MemoryError: if its factor does not fit.
    """

    def __init__(self, matrix: scipy.sparse.sparray, null_space: Float[np.ndarray, "m n"]) -> None:
        self._free = np.ones(matrix.shape[0], bool)
        if len(null_space):
            pivots = scipy.linalg.qr(null_space, mode="r", pivoting=True)[1]
            self._free[pivots[: len(null_space)]] = False
        columns = scipy.sparse.csc_array(matrix)
        if not self._free.all():
            columns = columns[self._free][:, self._free].tocsc()
        self._unfactored: scipy.sparse.csc_array | None = columns
        if has_cholmod():
            solve = _solve_by_cholesky(columns)
            if solve is not None:
                self._solve, self._kind, self.positive_definite = solve, "CHOLMOD", True
                self._unfactored = None
            else:
                self._kind, self.positive_definite = "SuperLU", False
        else:
            self.complete()

    def complete(self) -> None:
        """Make the factors of a matrix that is not positive definite, unless they are there.

        Raises:
            RuntimeError: if the matrix is singular.
            MemoryError: if its factor does not fit.
        """
        if self._unfactored is not None:
            self._solve, self.positive_definite = _solve_by_lu(self._unfactored)
            self._kind, self._unfactored = "SuperLU", None

    def __call__(self, b: np.ndarray) -> np.ndarray:
        """The solution of A x = b, shape (n,) or (n, P), zero where an unknown is constrained."""
        self.complete()
        x = np.zeros_like(b)
        x[self._free] = self._solve(np.ascontiguousarray(b[self._free]))
        return x

    def __str__(self) -> str:
        return self._kind


def has_cholmod() -> bool:
    """Whether CHOLMOD is installed."""
    return _cholmod() is not None


@functools.cache
def _cholmod() -> types.ModuleType | None:
    """CHOLMOD's interface; None where it is not installed."""
    try:
        import cvxopt.cholmod
    except ImportError:
        return None
    return cvxopt.cholmod


def _solve_by_cholesky(matrix: scipy.sparse.csc_array) -> Solve | None:
    """What solves with L L^T; None where the matrix is not positive definite."""
    import cvxopt

    if matrix.shape[0] == 0:
        return np.copy

    cholmod = _cholmod()
    assert cholmod is not None
    lower = scipy.sparse.tril(matrix, format="coo")
    entries = cvxopt.spmatrix(lower.data, *lower.coords, matrix.shape)
    factor = cholmod.symbolic(entries)
    try:
        cholmod.numeric(entries, factor)
    except ArithmeticError:
        return None
    _check_regular(np.array(cholmod.diag(factor)) ** 2)

    def solve(b: np.ndarray) -> np.ndarray:
        x = cvxopt.matrix(b)
        cholmod.solve(factor, x)
        return np.array(x).reshape(b.shape)

    return solve


def _solve_by_lu(matrix: scipy.sparse.csc_array) -> tuple[Solve, bool]:
    """What solves with L U, with rows ordered as columns; whether the matrix is positive definite.

    The number of negative pivots is that of the negative eigenvalues (Sylvester's law of inertia).
    """
    if matrix.shape[0] == 0:
        return np.copy, True
    factor = scipy.sparse.linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    pivots = factor.U.diagonal()
    _check_regular(pivots)
    return factor.solve, bool((pivots > 0).all())


def _check_regular(pivots: np.ndarray) -> None:
    sizes = np.abs(pivots)
    if not np.isfinite(sizes).all() or sizes.min() < SMALLEST_PIVOT * sizes.max():
        raise RuntimeError("the factor is singular")
