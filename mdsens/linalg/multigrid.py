"""Preconditioners for symmetric sparse matrices on the host: multigrid, and diagonal blocks."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.linalg.null_space import is_null
from mdsens.linalg.sparse_plus_low_rank import RowSlices, shared_by_cores
from mdsens.resources import on_all_cores

if TYPE_CHECKING:
    from pyamg.multilevel import MultilevelSolver

#: r -> approximately A^-1 r, symmetric and positive definite; of a vector, or of each column.
HostPreconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: Blocks per row up to which the whole matrix counts as strongly coupled.
STRONG_BLOCKS = 24
#: A block is a strong coupling if it is at least this strong, relative to the strongest of
#: either of its rows.
STRONG_FRACTION = 0.1
#: Unknowns of the coarsest level, which is solved by a dense pseudo-inverse.
COARSEST = 300
#: Rows of blocks that are looked at together: their blocks should fit the cache.
CHUNK = 1024
#: Degree of the smoothing polynomials; they damp the eigenvalues above this fraction of the
#: largest, which is believed to be this many times its estimate.
DEGREE, SMOOTHED_FRACTION, SAFETY = 2, 0.1, 1.1


def strong_couplings(matrix: scipy.sparse.bsr_array) -> scipy.sparse.bsr_array:
    """The strongest couplings of a symmetric matrix, with the diagonal that keeps its row sums.

    A multigrid hierarchy of these alone costs a fraction of one of the whole matrix, whose weak,
    far couplings it does not need (measured on argon with a cutoff of 2.5 sigma: a sixth of the
    blocks, the same number of iterations). Rows of short-ranged matrices are kept whole.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric.

    Returns:
        A matrix of the same shape and block size, symmetric.
    """
    rows = matrix.shape[0] // matrix.blocksize[0]
    if len(matrix.indices) <= STRONG_BLOCKS * rows:
        return matrix
    size = matrix.blocksize[0]
    starts = [min(start, rows) for start in range(0, rows + CHUNK, CHUNK)]
    chunks = [(matrix.indptr[a], matrix.indptr[b], a, b) for a, b in pairwise(starts) if b > a]
    row = row_of_blocks(matrix)
    diagonal = row == matrix.indices
    strength, strongest = np.empty(len(row)), np.empty(rows)

    def measure(chunk: tuple[Any, ...]) -> None:
        first, last, begin, end = chunk
        data = matrix.data[first:last]
        np.einsum("eij,eij->e", data, data, out=strength[first:last])
        strength[first:last][diagonal[first:last]] = 0.0
        strongest[begin:end] = np.maximum.reduceat(
            strength[first:last], matrix.indptr[begin:end] - first
        )

    kept = np.empty(len(row), bool)

    def keep(chunk: tuple[Any, ...]) -> np.ndarray:
        first, last, begin, end = chunk
        within = slice(first, last)
        needed = np.minimum(strongest[row[within]], strongest[matrix.indices[within]])
        strong = (strength[within] >= STRONG_FRACTION**2 * needed) & (strength[within] > 0)
        kept[within] = diagonal[within] | strong
        data, inside = matrix.data[within], kept[within]
        piece = data[inside]
        # What is left out goes to the diagonal, so that translations stay without a force.
        counts = np.add.reduceat(inside, matrix.indptr[begin:end] - first, dtype=int)
        whole = np.add.reduceat(data, matrix.indptr[begin:end] - first)
        part = np.add.reduceat(piece, np.concatenate([[0], np.cumsum(counts)[:-1]]))
        own = diagonal[within][inside]
        piece[own] += (whole - part)[row[within][inside][own] - begin]
        return piece

    on_all_cores(measure, chunks)
    pieces = on_all_cores(keep, chunks)
    totals = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, matrix.indptr[:-1], dtype=int))])
    return scipy.sparse.bsr_array(
        (np.concatenate(pieces), matrix.indices[kept], totals.astype(np.int32)),
        shape=matrix.shape,
        blocksize=(size, size),
    )


def positive_semidefinite_projection(matrix: scipy.sparse.bsr_array) -> scipy.sparse.bsr_array:
    """The couplings of a symmetric matrix without what curves down, as if each were a spring.

    Of each pair of rows what pushes them apart when they have moved apart is left out, and so is
    what pushes a row away from where it is (like the elements of J. Teran et al., Symp. Computer
    Animation (2005), p. 181): the matrix is positive semidefinite.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric, with a diagonal block in each row.

    Returns:
        A matrix of the same shape, block size and places of blocks.
    """
    own = row_of_blocks(matrix) == matrix.indices
    couplings = -matrix.data
    couplings[own] = np.add.reduceat(matrix.data, matrix.indptr[:-1])
    values, vectors = np.linalg.eigh((couplings + couplings.transpose(0, 2, 1)) / 2)
    couplings = np.einsum("eij,ej,ekj->eik", vectors, np.maximum(values, 0.0), vectors)
    data = -couplings
    data[own] = np.add.reduceat(couplings, matrix.indptr[:-1])
    return scipy.sparse.bsr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


class Multigrid:
    """One V-cycle of smoothed aggregation, as a preconditioner (P. Vanek, J. Mandel, M. Brezina,
    Computing 56, 179 (1996), with the hierarchy of PyAMG).

    Rows and columns are scaled by the mean stiffness of each diagonal block, so that soft and stiff
    parts are smoothed alike. The smoothers are Chebyshev polynomials (M. Adams et al., J. Comput.
    Phys. 188, 593 (2003)); the cycle begins at zero and computes no residual that it does not need,
    which makes it nearly twice as fast as a cycle of PyAMG.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric; its strong couplings are enough.
        near_null_space: shape (n, m), vectors that the matrix nearly sends to zero: rigid motions.

    Raises:
        Exception: whatever PyAMG raises where it cannot build a hierarchy.
        ValueError: if what it built is not finite or not positive.
    """

    def __init__(
        self, matrix: scipy.sparse.bsr_array, near_null_space: Float[np.ndarray, "n m"]
    ) -> None:
        size = matrix.blocksize[0]
        row = row_of_blocks(matrix)
        own = row == matrix.indices
        stiffness = np.zeros(matrix.shape[0] // size)
        stiffness[row[own]] = np.abs(np.einsum("eii->e", matrix.data[own])) / size
        largest = stiffness.max(initial=0.0) or 1.0
        stiffness[stiffness <= 1e-12 * largest] = largest
        scale = 1.0 / np.sqrt(stiffness)
        data = matrix.data * (scale[row] * scale[matrix.indices])[:, None, None]
        scaled = scipy.sparse.bsr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
        self._scale = np.repeat(scale, size)
        # PyAMG takes this as the spectral radius, whose own estimate costs as much as all the rest.
        scaled.rho = spectral_radius(scaled)
        # Small systems do without, and it takes long to import.
        import pyamg
        from pyamg.relaxation.chebyshev import chebyshev_polynomial_coefficients

        with warnings.catch_warnings(), _repeatable_random_numbers():
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
        values, vectors = np.linalg.eigh(self.hierarchy.levels[-1].A.toarray())
        # In size: a preconditioner is positive, be the matrix so or not.
        kept = ~is_null(values)
        self._coarsest = (vectors[:, kept] / np.abs(values[kept])) @ vectors[:, kept].T
        probe = np.random.default_rng(0).normal(size=matrix.shape[0])
        value = probe @ self(probe)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"the multigrid hierarchy is not positive: r.M r = {value}")

    def __call__(self, residual: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """One V-cycle from zero, for one vector or for a column each.

        Many columns take it in single precision, which reads half as much: it is but a guess at the
        solution, which conjugate gradients correct in double precision.
        """
        if residual.ndim == 1:
            return self._scale * self._cycle(self._levels, 0, self._scale * residual)
        scaled = self._scale[:, None] * residual
        # At length one, whatever the units, no column is out of reach of single precision.
        lengths = np.maximum(np.linalg.norm(scaled, axis=0), 1e-300)
        found = self._cycle(self._wide_levels, 0, (scaled / lengths).astype(np.float32))
        return self._scale[:, None] * (lengths * found)

    @functools.cached_property
    def _levels(self) -> list[tuple[Any, ...]]:
        """Matrix, prolongation and restriction of each level but the coarsest."""
        return [
            tuple(shared_by_cores(matrix) for matrix in (level.A, level.P, level.R))
            for level in self.hierarchy.levels[:-1]
        ]

    @functools.cached_property
    def _wide_levels(self) -> list[tuple[Any, ...]]:
        """The same in the format and precision that are faster for many vectors at once."""
        return [
            tuple(
                shared_by_cores(matrix.tocsr().astype(np.float32))
                for matrix in (level.A, level.P, level.R)
            )
            for level in self.hierarchy.levels[:-1]
        ]

    def _cycle(
        self, levels: list[tuple[Any, ...]], depth: int, b: Float[np.ndarray, "n ..."]
    ) -> Float[np.ndarray, "n ..."]:
        if depth == len(levels):
            return (self._coarsest @ b).astype(b.dtype)
        matrix, prolongation, restriction = levels[depth]
        polynomial = self._polynomials[depth]
        x = _polynomial_product(polynomial, matrix, b)
        x += prolongation @ self._cycle(levels, depth + 1, restriction @ (b - matrix @ x))
        x += _polynomial_product(polynomial, matrix, b - matrix @ x)
        return x

    def __str__(self) -> str:
        sizes = [level.A.shape[0] for level in self.hierarchy.levels]
        return f"multigrid, {len(sizes)} levels ({', '.join(f'{size:,}' for size in sizes)})"


@contextlib.contextmanager
def _repeatable_random_numbers() -> Iterator[None]:
    """PyAMG draws from NumPy's global generator: the same numbers each time, and none used up."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _polynomial_product(
    coefficients: Float[np.ndarray, " k"],
    matrix: scipy.sparse.sparray | RowSlices,
    vector: Float[np.ndarray, "n ..."],
) -> Float[np.ndarray, "n ..."]:
    """A polynomial of a matrix times vectors, highest coefficient first."""
    # Python's numbers leave the precision of arrays as it is.
    first, *others = coefficients.tolist()
    result = first * vector
    for coefficient in others:
        result = matrix @ result
        result += coefficient * vector
    return result


def spectral_radius(matrix: scipy.sparse.sparray, steps: int = 10) -> float:
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


def row_of_blocks(matrix: scipy.sparse.sparray) -> Int[np.ndarray, " blocks"]:
    """The row of blocks in which each stored block of a matrix is."""
    rows = len(matrix.indptr) - 1
    return np.repeat(np.arange(rows, dtype=np.int32), np.diff(matrix.indptr))


class BlockJacobi:
    """The inverse of the diagonal blocks, each made positive, as a preconditioner.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric.
    """

    def __init__(self, matrix: scipy.sparse.sparray) -> None:
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

    def __call__(self, residual: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """Each block's inverse times its part of the vector, or of each column."""
        count, size, _ = self._blocks.shape
        product = self._blocks @ residual.reshape(count, size, -1)
        return product.reshape(residual.shape)

    def __str__(self) -> str:
        return "diagonal blocks"
