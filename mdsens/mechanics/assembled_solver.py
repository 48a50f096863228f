"""Solves with an assembled Hessian for many right-hand sides at once, as derivatives ask for."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import LinearSolveError
from mdsens.implicit import BlockSolver, LinearSolution, MatrixFreeSolver
from mdsens.implicit.block_solver import ROUGH_RTOL
from mdsens.implicit.linearisation import compiled_product
from mdsens.mechanics.hessian_solver import HessianSolver

#: Relative residual of the solves for derivatives: their errors are then some 1e-10, and told.
RTOL = 1e-9
#: Relative difference between the assembled Hessian and the derivative of the forces, at most.
AGREEMENT = 1e-8
#: Right-hand sides within constraints that are less than this part of those given are rounding.
ROUNDING = 1e-6


class AssembledSolver(BlockSolver):
    """From the assembled Hessian: one factorisation or hierarchy, and a column for each solve.

    Arguments:
        condition: F(q, *arguments), of which the Hessian is the derivative in q.
        q: degrees of freedom, shape (R, D).
        arguments: the other arguments of F.
        hessian: linear solves with the Hessian at q.
        rtol: relative residual to reach.
        one_by_one: as of every BlockSolver.
        unchecked: whether `confirm` is going to be called with what is found.
    """

    def __init__(
        self,
        condition: Any,
        q: Float[Array, "R D"],
        arguments: tuple[Any, ...],
        hessian: HessianSolver,
        rtol: float = RTOL,
        one_by_one: bool = False,
        unchecked: bool = False,
    ) -> None:
        self._given, self._hessian, self._rtol = (condition, q, arguments), hessian, rtol
        self.one_by_one, self._unchecked = one_by_one, unchecked

    def roughly(self) -> "AssembledSolver":
        """With the same factorisation or hierarchy."""
        return AssembledSolver(*self._given, self._hessian, ROUGH_RTOL, self.one_by_one)

    def solve(self, columns: Float[Array | np.ndarray, "P R D"]) -> LinearSolution:
        """As of every BlockSolver."""
        columns = np.asarray(columns)
        found, solution = self._hessian.solve(columns, self._rtol)
        checks_itself = self._unchecked or self._hessian.checks_itself
        if self._rtol <= AGREEMENT and not checks_itself:
            self._require_solved(columns, found)
        nothing = np.zeros(len(found))
        return LinearSolution(found, solution.residuals, nothing, solution.steps)

    def unchecked(self) -> "AssembledSolver":
        """The same for who calls `confirm` with what is found."""
        return AssembledSolver(*self._given, self._hessian, self._rtol, self.one_by_one, True)

    def confirm(
        self,
        rights: Float[np.ndarray, "P R D"],
        found: Float[np.ndarray, "P R D"],
        left: Float[np.ndarray, " P"],
    ) -> None:
        """Check solutions with the derivative of the forces, unless they are known to agree.

        Arguments:
            rights: the right-hand sides.
            found: their solutions.
            left: what these leave of the system by the derivative of the forces, at a point where
                they should leave as little; energy/length/unit.

        Raises:
            LinearSolveError: they do not solve the system.
        """
        if self._hessian.checks_itself:
            return
        norms = [np.linalg.norm(self._hessian.project(right)) for right in rights]
        if not (left <= AGREEMENT * np.array(norms)).all():
            self._require_solved(rights, found)

    def _require_solved(
        self, rights: Float[np.ndarray, "P R D"], found: Float[np.ndarray, "P R D"]
    ) -> None:
        """Put a mix of the solutions into the derivative of the forces, which knows no matrix.

        Raises:
            LinearSolveError: they do not solve the system.
        """
        norms = np.linalg.norm(rights.reshape(len(rights), -1), axis=1)
        weights = np.random.default_rng(0).normal(size=len(norms)) / np.where(norms > 0, norms, 1.0)
        mixed = np.tensordot(weights, found, 1)
        image = self._hessian.project(np.asarray(compiled_product(*self._given, mixed)))
        right = self._hessian.project(np.tensordot(weights, rights, 1))
        scale = max(float(np.linalg.norm(right)), float(np.linalg.norm(image)), 1e-300)
        scale = max(scale, ROUNDING * float(np.linalg.norm(np.tensordot(weights, rights, 1))))
        disagreement = float(np.linalg.norm(image - right)) / scale
        if not disagreement <= AGREEMENT:
            raise LinearSolveError(
                f"the solution of the linear system does not satisfy it: relative residual "
                f"{disagreement:.1e}, allowed {AGREEMENT:.0e}; relax to a smaller fmax"
            )


def response_solver(
    condition: Any,
    q: Float[Array, "R D"],
    arguments: tuple[Any, ...],
    hessian: HessianSolver | None,
    null_vectors: Float[Any, "M R D"] | None,
    rtol: float = RTOL,
    one_by_one: bool = False,
) -> BlockSolver:
    """What solves for the response of degrees of freedom to changes of a condition's arguments.

    Arguments:
        condition: F(q, *arguments).
        q: degrees of freedom, shape (R, D).
        arguments: the other arguments of F.
        hessian: linear solves with the Hessian at q; None: products with it alone.
        null_vectors: of the Hessian, shape (M, R, D); only products alone ask for them.
        rtol: relative residual to reach.
        one_by_one: as of every BlockSolver.

    Returns:
        The BlockSolver.
    """
    if hessian is not None:
        return AssembledSolver(condition, q, arguments, hessian, rtol, one_by_one)
    # Iterations leave as much as they may, a factorisation less.
    return MatrixFreeSolver(condition, q, arguments, null_vectors, 0.1 * rtol)
