"""Preconditioned conjugate gradients on the host: of one right-hand side, of many, of a block."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.linalg.border import Bordered
from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.linalg.sparse_plus_low_rank import RowSlices, SparsePlusLowRank


@dataclasses.dataclass(frozen=True)
class ProductsAlone:
    """A matrix that is known by its products alone.

    Attributes:
        function: multiplies it with columns, shape (n, P).
    """

    function: Callable[[Float[np.ndarray, "n P"]], Float[np.ndarray, "n P"]]

    def __matmul__(self, vectors: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        columns = vectors.reshape(len(vectors), -1)
        return self.function(columns).reshape(vectors.shape)


#: What vectors are multiplied with.
Operator: TypeAlias = (
    scipy.sparse.sparray | RowSlices | SparsePlusLowRank | HalfStored | Bordered | ProductsAlone
)


@dataclasses.dataclass(frozen=True)
class Iterations:
    """Where conjugate gradients ended.

    Attributes:
        value: shape (n,), the solution reached, or a direction of negative curvature.
        residual: relative to the right-hand side.
        steps: products with the matrix.
        negative_curvature: whether a direction in which the matrix, or the preconditioner, is not
            positive ended them.
        direction: shape (n,), the last direction.
        image: shape (n,), the product of the matrix with the value.
    """

    value: Float[np.ndarray, " n"]
    residual: float
    steps: int
    negative_curvature: bool
    direction: Float[np.ndarray, " n"]
    image: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """When iterations are looked at, and where they have to be for more of them to be taken.

    Attributes:
        steps: iterations after which.
        residual: the relative residual above which there are no more.
    """

    steps: int
    residual: float

    def of_solve_to(self, rtol: float) -> "Trial":
        """The same of iterations that go no further than to this relative residual."""
        return Trial(self.steps, max(self.residual, rtol))

    def ends(self, steps: int, residual: float) -> bool:
        """Whether iterations that are so far end here."""
        return steps == self.steps and residual > self.residual


def conjugate_gradients(
    matrix: Operator,
    b: Float[np.ndarray, " n"],
    preconditioner: HostPreconditioner,
    project: Callable[[np.ndarray], np.ndarray],
    rtol: float,
    max_steps: int,
    trial: Trial | None = None,
) -> Iterations:
    """Preconditioned conjugate gradients that end at a direction of negative curvature.

    Met at the first step that direction itself is the result, later the solution so far, which goes
    downhill on the quadratic model: T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983).

    Arguments:
        matrix: shape (n, n), symmetric.
        b: shape (n,), outside the null space.
        preconditioner: r -> approximately A^-1 r.
        project: onto the complement of the null space.
        rtol: relative residual at which to stop.
        max_steps: steps to take at most.
        trial: where they end early; None: nowhere.

    Returns:
        The `Iterations`.
    """
    x, r = np.zeros_like(b), b.copy()
    norm = float(np.linalg.norm(b))
    z = project(preconditioner(r))
    p, square, steps, residual = z, float(r @ z), 0, 1.0
    while residual > rtol and steps < max_steps:
        image = project(matrix @ p)
        curvature = float(p @ image)
        steps += 1
        if not curvature > 0.0 or not square > 0.0:
            reached = (p, image) if steps == 1 else (x, b - r)
            return Iterations(reached[0], residual, steps, True, p, reached[1])
        length = square / curvature
        x += length * p
        r -= length * image
        residual = float(np.linalg.norm(r)) / norm
        if residual <= rtol or (trial is not None and trial.ends(steps, residual)):
            break
        z = project(preconditioner(r))
        before, square = square, float(r @ z)
        p = z + (square / before) * p
    x = project(x)
    return Iterations(x, residual, steps, False, p, b - r)


def conjugate_gradients_side_by_side(
    matrix: Operator,
    b: Float[np.ndarray, "n P"],
    preconditioner: HostPreconditioner,
    project: Callable[[np.ndarray], np.ndarray],
    rtol: Float[np.ndarray, " P"],
    max_steps: int,
    trial: Trial | None = None,
) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """The iterations of `conjugate_gradients` for many right-hand sides, which share products.

    One reading of the matrix serves them all; nothing else is shared, so that all the rest, whose
    vectors are then contiguous, takes no longer than it does for each by itself. A column that
    meets negative curvature is left where it is.

    Arguments:
        matrix: shape (n, n), symmetric; in a format that is fast for many columns.
        b: shape (n, P), outside the null space; columns may be zero.
        preconditioner: r -> approximately A^-1 r.
        project: onto the complement of the null space.
        rtol: shape (P,), relative residuals at which to stop.
        max_steps: steps to take at most.
        trial: where those of a column end early; None: nowhere.

    Returns:
        Solutions, shape (n, P); relative residuals, shape (P,); steps of each, shape (P,).
    """
    norms = np.linalg.norm(b, axis=0)
    residuals, steps = (norms > 0.0).astype(float), np.zeros(len(norms), int)
    solutions = np.zeros_like(b)
    # The columns that go on: which they are, and a row of each array for each of them.
    going = np.flatnonzero(residuals > rtol)
    r = np.ascontiguousarray(b.T[going])
    x, p, squares = np.zeros_like(r), np.zeros_like(r), np.zeros(len(going))
    for step in range(max_steps):
        for row in range(len(going)):
            z = project(preconditioner(r[row]))
            before, squares[row] = squares[row], r[row] @ z
            p[row] *= squares[row] / before if step else 0.0
            p[row] += z
        images = np.ascontiguousarray((matrix @ np.ascontiguousarray(p.T)).T)
        steps[going] += 1
        ended = np.zeros(len(going), bool)
        for row, column in enumerate(going.tolist()):
            image = project(images[row])
            curvature = p[row] @ image
            if not curvature > 0.0 or not squares[row] > 0.0:
                ended[row] = True
                continue
            length = squares[row] / curvature
            x[row] += length * p[row]
            r[row] -= length * image
            residuals[column] = np.linalg.norm(r[row]) / norms[column]
            unpromising = trial is not None and trial.ends(step + 1, float(residuals[column]))
            ended[row] = unpromising or residuals[column] <= rtol[column]
        if step == max_steps - 1:
            ended[:] = True
        if ended.any():
            for row in np.flatnonzero(ended).tolist():
                solutions[:, going[row]] = project(x[row])
            going, squares = going[~ended], squares[~ended]
            r, x, p = r[~ended], x[~ended], p[~ended]
        if len(going) == 0:
            break
    return solutions, residuals, steps


def block_conjugate_gradients(
    matrix: Operator,
    b: Float[np.ndarray, "n P"],
    preconditioner: HostPreconditioner,
    project: Callable[[np.ndarray], np.ndarray],
    rtol: float,
    max_steps: int,
) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], int]:
    """Preconditioned conjugate gradients that minimise over the directions of P right-hand sides.

    One reading of the matrix serves them all, and each profits from what the others found: the P
    softest modes slow none of them down (D. P. O'Leary, Linear Algebra Appl. 29, 293 (1980)).
    Directions that have become dependent are left out (H. Ji, Y. Li, BIT 57, 379 (2017)). It ends
    where a direction of negative curvature is met, and the residuals say so.

    Arguments:
        matrix: shape (n, n), symmetric.
        b: shape (n, P), outside the null space; columns may be zero or dependent.
        preconditioner: r -> approximately A^-1 r, of each column.
        project: onto the complement of the null space.
        rtol: relative residual of every column at which to stop.
        max_steps: steps to take at most.

    Returns:
        Solutions, shape (n, P); relative residuals, shape (P,); the steps taken.
    """
    norms = np.linalg.norm(b, axis=0)
    given = norms > 0
    residuals, steps = given.astype(float), 0
    x, r = np.zeros((len(b), given.sum())), b[:, given] / norms[given]
    sizes = np.ones(r.shape[1])
    p, image, curvatures = np.zeros((len(b), 0)), np.zeros((len(b), 0)), np.zeros((0, 0))
    while (sizes > rtol).any() and steps < max_steps:
        # Only the span of the directions counts: columns far and near their ends weigh the same.
        z = project(preconditioner(r / sizes))
        z -= p @ np.linalg.solve(curvatures, image.T @ z)
        lengths = np.linalg.norm(z, axis=0)
        # None where they are not finite, which ends the iterations.
        along = (lengths > 0) & np.isfinite(lengths).all()
        p = orthonormal_rows((z[:, along] / lengths[along]).T, passes=1).T
        image = project(matrix @ p)
        curvatures = p.T @ image
        curvatures = (curvatures + curvatures.T) / 2
        steps += 1
        if p.shape[1] == 0 or not np.linalg.eigvalsh(curvatures)[0] > 0.0:
            break
        lengths = np.linalg.solve(curvatures, p.T @ r)
        x += p @ lengths
        r -= image @ lengths
        sizes = np.maximum(np.linalg.norm(r, axis=0), 1e-300)
    residuals[given] = sizes
    solutions = np.zeros_like(b)
    solutions[:, given] = project(x) * norms[given]
    return solutions, residuals, steps
