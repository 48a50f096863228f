"""Many right-hand sides with a matrix on a lattice that has a few dense rows beside it."""

import numpy as np
from jaxtyping import Float, Int

from mdsens.linalg.border import Border
from mdsens.linalg.columns_together import ColumnsTogether
from mdsens.linalg.conjugate_gradients import Trial
from mdsens.linalg.null_space import is_null

#: The parts of a relative residual that solves with the matrix alone may leave of a right-hand side
#: and, where there are many of these, of a column of the border.
OF_RIGHT, OF_COLUMN = 0.5, 0.1


class BorderedColumns:
    """Solves with [A C; C^T S] for many columns, by elimination of the border.

    With T = A^-1 C, which is solved for once, and Y = A^-1 b,

        (S - C^T T) y = c - C^T Y,    x = Y - T y

    solve A x + C y = b, C^T x + S y = c but for what is left of Y and T.

    Arguments:
        inside: solves for many columns with A.
        border: C and S.
        null_space: shape (m, n), orthonormal, all null vectors; none has a part in the border.
    """

    def __init__(
        self, inside: ColumnsTogether, border: Border, null_space: Float[np.ndarray, "m n"]
    ) -> None:
        self._inside, self._border = inside, border
        columns = border.columns
        self._columns = columns - null_space.T @ (null_space @ columns)
        self._follows = np.zeros_like(columns)
        self._left = np.ones(columns.shape[1])

    def solve(
        self,
        b: Float[np.ndarray, "m P"],
        rtol: Float[np.ndarray, " P"],
        max_steps: int,
        trial: Trial | None = None,
    ) -> tuple[Float[np.ndarray, "m P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """As `ColumnsTogether.solve`; residuals are upper bounds.

        Where the Schur complement of A is singular nothing is solved, as the residuals say.
        """
        count = len(self._columns)
        above, below = b[:count], b[count:]
        norms, sizes = np.linalg.norm(b, axis=0), np.linalg.norm(above, axis=0)
        aims = OF_RIGHT * rtol * norms / np.where(sizes > 0.0, sizes, 1.0)
        of_columns = OF_COLUMN * rtol.min()
        if (self._left > of_columns).any():
            # By themselves: they are smooth, and would wait for many that are not.
            few = np.full(len(self._left), of_columns)
            self._follows, self._left, _ = self._inside.solve(self._columns, few, max_steps, trial)
        found, left, steps = self._inside.solve(above, aims, max_steps, trial)
        coupling = self._columns.T @ self._follows
        reduced = self._border.corner - coupling
        if is_null(np.linalg.eigvalsh((reduced + reduced.T) / 2)).any():
            return np.zeros_like(b), (norms > 0.0).astype(float), steps
        moved = np.linalg.solve(reduced, below - self._columns.T @ found)
        solutions = np.concatenate([found - self._follows @ moved, moved])
        more = (self._left * np.linalg.norm(self._columns, axis=0)) @ np.abs(moved)
        residuals = (left * sizes + more) / np.where(norms > 0.0, norms, 1.0)
        return solutions, residuals, steps
