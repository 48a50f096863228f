"""Preconditioners for symmetric sparse matrices on the host: multigrid, and diagonal blocks."""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pyamg
import scipy.linalg
import scipy.sparse
from jaxtyping import Float, Int
from pyamg.multilevel import MultilevelSolver
from pyamg.relaxation.chebyshev import chebyshev_polynomial_coefficients

#: r -> approximately A^-1 r, symmetric and positive definite.
HostPreconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: Blocks per row up to which the whole matrix is the stiff part of itself.
STIFF_BLOCKS = 24
#: A block belongs to the stiff part if it is at least this strong, relative to the strongest of
#: either of its rows.
STIFF_FRACTION = 0.1
#: Unknowns of the coarsest level, which is solved by a dense pseudo-inverse.
COARSEST = 300
#: Degree of the smoothing polynomials; they damp the eigenvalues above this fraction of the
#: largest, which is believed to be this many times its estimate.
DEGREE, SMOOTHED_FRACTION, SAFETY = 2, 0.1, 1.1


def stiff_part(matrix: scipy.sparse.bsr_array) -> scipy.sparse.bsr_array:
    """The strongest couplings of a symmetric matrix, with the diagonal that keeps its row sums.

    A multigrid hierarchy of these alone costs a fraction of one of the whole matrix, whose weak,
    far couplings it does not need (measured on argon with a cutoff of 2.5 sigma: a sixth of the
    blocks, the same number of iterations). Rows of short-ranged matrices are kept whole.

    **Arguments:**

    - `matrix`: shape (n, n), in d x d blocks, symmetric.

    **Returns:** a matrix of the same shape and block size, symmetric.
    """
    rows = matrix.shape[0] // matrix.blocksize[0]
    if len(matrix.indices) <= STIFF_BLOCKS * rows:
        return matrix
    row = row_of_blocks(matrix)
    column, diagonal = matrix.indices, row == matrix.indices
    strength = np.einsum("eij,eij->e", matrix.data, matrix.data)
    strength[diagonal] = 0.0
    strongest = np.maximum.reduceat(strength, matrix.indptr[:-1])
    needed = STIFF_FRACTION**2 * np.minimum(strongest[row], strongest[column])
    kept = diagonal | (strength >= needed) & (strength > 0)
    data = matrix.data[kept]
    # What is left out goes to the diagonal, so that translations stay without a force.
    left_out = np.flatnonzero(~kept)
    size = matrix.blocksize[0]
    ones = np.ones(len(left_out))
    addition = scipy.sparse.csr_array((ones, (row[left_out], left_out)), (rows, len(row)))
    sums = (addition @ matrix.data.reshape(len(row), -1)).reshape(rows, size, size)
    data[diagonal[kept]] += sums[row[diagonal]]
    starts = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, matrix.indptr[:-1], dtype=int))])
    return scipy.sparse.bsr_array((data, column[kept], starts.astype(np.int32)), shape=matrix.shape)


class Multigrid:
    """One V-cycle of smoothed aggregation, as a preconditioner (P. Vanek, J. Mandel, M. Brezina,
    Computing 56, 179 (1996), with the hierarchy of PyAMG).

    Rows and columns are scaled by the mean stiffness of each diagonal block, so that soft and stiff
    parts are smoothed alike. The smoothers are Chebyshev polynomials (M. Adams et al., J. Comput.
    Phys. 188, 593 (2003)); the cycle begins at zero and computes no residual that it does not need,
    which makes it nearly twice as fast as a cycle of PyAMG.

    **Arguments:**

    - `matrix`: shape (n, n), in d x d blocks, symmetric; its stiff part is enough.
    - `near_null_space`: shape (n, m), vectors that the matrix nearly sends to zero: rigid motions.

    **Raises:** whatever PyAMG raises where it cannot build a hierarchy, and `ValueError` if what
    it built is not finite or not positive.
    """

    def __init__(
        self, matrix: scipy.sparse.bsr_array, near_null_space: Float[np.ndarray, "n m"]
    ) -> None:
        size = matrix.blocksize[0]
        row = row_of_blocks(matrix)
        own = row == matrix.indices
        stiffness = np.zeros(matrix.shape[0] // size)
        stiffness[row[own]] = np.abs(np.einsum("eii->e", matrix.data[own])) / size
        stiffness[stiffness <= 1e-12 * stiffness.max(initial=0.0)] = stiffness.max(initial=1.0)
        scale = 1.0 / np.sqrt(stiffness)
        data = matrix.data * (scale[row] * scale[matrix.indices])[:, None, None]
        scaled = scipy.sparse.bsr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
        self._scale = np.repeat(scale, size)
        # PyAMG takes this as the spectral radius, whose own estimate costs as much as all the rest.
        scaled.rho = spectral_radius(scaled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.hierarchy: MultilevelSolver = pyamg.smoothed_aggregation_solver(
                scaled,
                B=np.ascontiguousarray(near_null_space / self._scale[:, None]),
                symmetry="symmetric",
                strength=("symmetric", {"theta": 0.0}),
                smooth="richardson",
                improve_candidates=None,
                presmoother=None,
                postsmoother=None,
                max_coarse=COARSEST,
            )
        self._polynomials = []
        for level in self.hierarchy.levels[:-1]:
            largest = SAFETY * (getattr(level.A, "rho", None) or spectral_radius(level.A))
            bounds = (SMOOTHED_FRACTION * largest, largest)
            self._polynomials.append(-chebyshev_polynomial_coefficients(*bounds, DEGREE)[:-1])
        probe = np.random.default_rng(0).normal(size=matrix.shape[0])
        value = probe @ self(probe)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"the multigrid hierarchy is not positive: r.M r = {value}")

    def __call__(self, residual: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """One V-cycle from zero."""
        return self._scale * self._cycle(0, self._scale * residual)

    def _cycle(self, depth: int, b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        level = self.hierarchy.levels[depth]
        if depth == len(self.hierarchy.levels) - 1:
            return np.ravel(self.hierarchy.coarse_solver(level.A, b))
        polynomial = self._polynomials[depth]
        x = _polynomial_product(polynomial, level.A, b)
        x += level.P @ self._cycle(depth + 1, level.R @ (b - level.A @ x))
        x += _polynomial_product(polynomial, level.A, b - level.A @ x)
        return x

    def __str__(self) -> str:
        sizes = [level.A.shape[0] for level in self.hierarchy.levels]
        return f"multigrid, {len(sizes)} levels ({', '.join(f'{size:,}' for size in sizes)})"


def _polynomial_product(
    coefficients: Float[np.ndarray, " k"],
    matrix: scipy.sparse.bsr_array,
    vector: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """A polynomial of a matrix times a vector, highest coefficient first."""
    result = coefficients[0] * vector
    for coefficient in coefficients[1:]:
        result = matrix @ result
        result += coefficient * vector
    return result


def spectral_radius(matrix: scipy.sparse.bsr_array, steps: int = 10) -> float:
    """The largest eigenvalue of a symmetric matrix, some percent too low: a few Lanczos steps."""
    vector = np.random.default_rng(0).normal(size=matrix.shape[0])
    vector /= np.linalg.norm(vector)
    before, coupling = np.zeros_like(vector), 0.0
    diagonal: list[float] = []
    couplings: list[float] = []
    for _ in range(min(steps, matrix.shape[0])):
        image = matrix @ vector - coupling * before
        diagonal.append(float(vector @ image))
        image -= diagonal[-1] * vector
        coupling = float(np.linalg.norm(image))
        if coupling <= 1e-12 * abs(diagonal[0]):
            break
        couplings.append(coupling)
        before, vector = vector, image / coupling
    values = scipy.linalg.eigvalsh_tridiagonal(diagonal, couplings[: len(diagonal) - 1])
    return float(np.abs(values).max())


def row_of_blocks(matrix: scipy.sparse.bsr_array) -> Int[np.ndarray, " blocks"]:
    """The row of blocks in which each stored block of a matrix is."""
    rows = len(matrix.indptr) - 1
    return np.repeat(np.arange(rows, dtype=np.int32), np.diff(matrix.indptr))


class BlockJacobi:
    """The inverse of the diagonal blocks, each made positive, as a preconditioner.

    **Arguments:**

    - `matrix`: shape (n, n), in d x d blocks, symmetric.
    """

    def __init__(self, matrix: scipy.sparse.bsr_array) -> None:
        size = matrix.blocksize[0]
        rows = matrix.shape[0] // size
        row = row_of_blocks(matrix)
        own = row == matrix.indices
        blocks = np.zeros((rows, size, size))
        np.add.at(blocks, row[own], matrix.data[own])
        values, vectors = np.linalg.eigh((blocks + blocks.transpose(0, 2, 1)) / 2)
        sizes = np.abs(values)
        floor = 1e-8 * sizes.max(initial=0.0)
        inverse = 1.0 / np.where(sizes > floor, sizes, max(floor, 1e-300))
        inverse[sizes <= floor] = 1.0 / max(sizes.max(initial=0.0), 1e-300)
        self._blocks = np.einsum("nij,nj,nkj->nik", vectors, inverse, vectors)

    def __call__(self, residual: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Each block's inverse times its part of the vector."""
        count, size, _ = self._blocks.shape
        return np.einsum("nij,nj->ni", self._blocks, residual.reshape(count, size)).ravel()

    def __str__(self) -> str:
        return "diagonal blocks"
