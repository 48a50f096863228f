"""Many right-hand sides with one matrix: conjugate gradients in single precision, refined."""

from typing import TypeAlias

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from mdsens.linalg.clustered_matrix import ClusteredMatrix
from mdsens.linalg.conjugate_gradients import Trial
from mdsens.linalg.half_stored import HalfStored, HalfStoredColumns
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner
from mdsens.linalg.local_solves import LocallyExact
from mdsens.resources import on_all_cores

#: The part of a residual down to which single precision goes before double precision looks at it;
#: where no more than the other number is asked for, nobody looks.
SINGLE_RTOL, ROUGH = 3e-5, 1e-3
#: What double precision finds must be no more than this part of what it found before.
GAIN = 0.3
#: The difference between residuals in single and double precision is taken for so much more.
MARGIN = 3.0
#: Rows whose products are added up in single precision.
ADDED_UP = 256

#: P columns of d components for each of M rows of blocks.
Columns: TypeAlias = Float[np.ndarray, "M d P"]


class ColumnsTogether:
    """Solves A x = b for many columns with a matrix that stands on a lattice.

    Every product, transform and step is one of all columns in single precision, of which the cache
    holds twice as many. What is left is computed anew in double precision from time to time, and
    the iterations go on from there, in the directions that they had (H. A. van der Vorst, Q. Ye,
    SIAM J. Sci. Comput. 22, 835 (2000)).

    Arguments:
        matrix: shape (N d, N d), in d x d blocks, symmetric.
        preconditioner: by the average over its lattice.
        null_space: shape (m, N d), orthonormal null vectors.
    """

    def __init__(
        self,
        matrix: scipy.sparse.bsr_array | HalfStored,
        preconditioner: LatticePreconditioner | LocallyExact,
        null_space: Float[np.ndarray, "m n"],
    ) -> None:
        self._matrix = matrix
        self._single: HalfStoredColumns | ClusteredMatrix = (
            matrix.in_single_precision() if isinstance(matrix, HalfStored)
            else ClusteredMatrix(matrix, preconditioner.order)
        )  # fmt: skip
        self._rows, self._size = self._single.rows, matrix.blocksize[0]
        self._there = np.flatnonzero(self._rows < matrix.shape[0] // self._size)
        self._inverse = preconditioner.for_many_columns(self._rows, self._single.scale)
        self._null_space = self._taken(null_space.T).reshape(-1, len(null_space)).T.copy()

    def solve(
        self,
        b: Float[np.ndarray, "n P"],
        rtol: Float[np.ndarray, " P"],
        max_steps: int,
        trial: Trial | None = None,
    ) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Solutions as far as they come.

        A column that has ended waits for the others; one that meets negative curvature ends.

        Arguments:
            b: shape (n, P), outside the null space; columns may be zero.
            rtol: shape (P,), relative residuals at which to stop.
            max_steps: steps to take at most.
            trial: where those of a column end early; None: nowhere.

        Returns:
            Solutions, shape (n, P); relative residuals, shape (P,); steps of each, shape (P,).
        """
        norms = np.linalg.norm(b, axis=0)
        residuals, steps = (norms > 0.0).astype(float), np.zeros(b.shape[1], int)
        solutions, going = np.zeros_like(b), residuals > rtol
        # Of what is left at length 1: its length, and by how much single precision is off.
        sizes, off = np.where(norms > 0.0, norms, 1.0), np.where(rtol < ROUGH, np.inf, 0.0)
        r = self._taken(b / sizes)
        x, p, squares = np.zeros_like(r), np.zeros_like(r), np.ones(b.shape[1])

        def look(columns: Int[np.ndarray, " c"]) -> None:
            # Without copies where all of them are looked at.
            some = slice(None) if len(columns) == b.shape[1] else columns
            anew = b[:, some] - self._product(solutions[:, some])
            apart = anew - self._returned(r[:, :, some]) * sizes[some]
            off[some] = np.linalg.norm(apart, axis=0) / sizes[some]
            size = np.maximum(np.linalg.norm(anew, axis=0), 1e-300)
            residuals[some] = size / norms[some]
            going[some] = size <= GAIN * sizes[some]
            part, sizes[some] = sizes[some] / size, size
            r[:, :, some] = self._taken(anew / size)
            p[:, :, some] *= part
            squares[some] *= part**2

        for step in range(1, max_steps + 1):
            if not going.any():
                break
            z = self._project(self._inverse(r))
            before, squares[:] = squares.copy(), _inner(r, z)
            p *= _parts(squares, before, going & (step > 1))
            p += z
            image = self._project(self._single @ p)
            curvatures = _inner(p, image)
            going &= (curvatures > 0.0) & (squares > 0.0)
            lengths = _parts(squares, curvatures, going)
            x += lengths * p
            r -= lengths * image
            steps += going
            left = np.sqrt(_inner(r, r))
            relative = left * sizes / np.where(norms > 0.0, norms, 1.0)
            residuals[going] = relative[going]
            if trial is not None and step == trial.steps:
                going &= residuals <= np.maximum(trial.residual, rtol)
            aims = np.maximum(0.5 * rtol * norms / sizes, SINGLE_RTOL)
            if step < max_steps and (left > aims)[going].any():
                continue
            solutions += self._returned(self._project(x)) * (sizes / self._single.scale)
            x[:] = 0.0
            # The matrix of single precision is off by as much of what is left as it was of all.
            residuals[going] = ((left + MARGIN * off) * sizes)[going] / norms[going]
            if len(unsure := np.flatnonzero(going & ~(residuals <= rtol))):
                look(unsure)
            going &= residuals > rtol
        return solutions, residuals, steps

    def _taken(self, columns: Float[np.ndarray, "n P"]) -> Columns:
        """Columns in single precision, in the order of the clusters."""
        found = np.zeros((len(self._rows), self._size, columns.shape[1]), np.float32)
        blocks = columns.reshape(-1, self._size, columns.shape[1])
        found[self._there] = blocks[self._rows[self._there]]
        return found

    def _returned(self, columns: Columns) -> Float[np.ndarray, "n P"]:
        """The inverse of `_taken`."""
        found = np.empty((len(self._there), *columns.shape[1:]))
        found[self._rows[self._there]] = columns[self._there]
        return found.reshape(-1, columns.shape[2])

    def _product(self, columns: Float[np.ndarray, "n P"]) -> Float[np.ndarray, "n P"]:
        """The product with the matrix in double precision."""
        if isinstance(self._matrix, HalfStored):
            return self._matrix @ columns
        # SciPy takes less time over one after the other.
        return np.stack(on_all_cores(self._matrix.__matmul__, list(columns.T.copy())), axis=1)

    def _project(self, columns: Columns) -> Columns:
        flat = columns.reshape(-1, columns.shape[2])
        flat -= self._null_space.T @ (self._null_space @ flat)
        return columns


def _parts(
    above: Float[np.ndarray, " P"], below: Float[np.ndarray, " P"], where: Bool[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Quotients in single precision, where they count; zero elsewhere."""
    found = np.zeros(len(above), np.float32)
    np.divide(above, below, out=found, where=where, casting="same_kind")
    return found


def _inner(first: Columns, second: Columns) -> Float[np.ndarray, " P"]:
    """The scalar product of each column with its counterpart.

    Single precision loses no digits in sums of some hundred products.
    """
    columns = first.shape[2]
    one, other = first.reshape(-1, columns), second.reshape(-1, columns)
    sums = [
        np.einsum("ip,ip->p", one[start : start + ADDED_UP], other[start : start + ADDED_UP])
        for start in range(0, len(one), ADDED_UP)
    ]
    return np.sum(sums, axis=0, dtype=float)
