"""Solvers that belong to one solution and solve for a block of right-hand sides at once."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from mdsens.compilation import compiled
from mdsens.implicit.backends import for_each_in_turn
from mdsens.implicit.linear import TOLERANCE, LinearSolution
from mdsens.implicit.linear import solve as linear_solve
from mdsens.implicit.linearisation import linearise

#: Relative residual that is enough to estimate an error.
ROUGH_RTOL = 1e-2


class BlockSolver(abc.ABC):
    """Solves with dF/dx at one solution, for K right-hand sides at once.

    It may hold a factorisation, or be host code: `root_jvp` and `root_vjp` then run outside
    `jax.jit`, and compile the derivatives of F themselves, once for each F. Written in JAX, it also
    serves inside compiled code.

    Attributes:
        one_by_one: whether derivatives of F along many directions take less time one after the
            other than side by side.
    """

    one_by_one: bool = False

    @abc.abstractmethod
    def solve(self, columns: PyTree[Float[Array | np.ndarray, "K ..."]]) -> LinearSolution:
        """Solve dF/dx v = b.

        Arguments:
            columns: K right-hand sides, with the structure of the solution and an extra leading
                axis on every leaf.

        Returns:
            The LinearSolution of all, stacked likewise; of smallest norm where dF/dx is singular.

        Raises:
            LinearSolveError: a right-hand side is not solved for.
        """

    def solve_transposed(
        self, columns: PyTree[Float[Array | np.ndarray, "K ..."]]
    ) -> LinearSolution:
        """The same of the transposed system; here that of a symmetric dF/dx."""
        return self.solve(columns)

    def roughly(self) -> "BlockSolver":
        """What solves to a few digits, where that takes less time: for estimates of errors."""
        return self


def solve_block(
    solve: Callable[[Any], LinearSolution], right: PyTree, several: bool
) -> LinearSolution:
    """The solution of a block, or of one right-hand side as a block of one.

    Arguments:
        solve: one of the methods of a BlockSolver.
        right: K right-hand sides, or one.
        several: whether there is the axis of K.

    Returns:
        The LinearSolution, with the axis of K if there was one.
    """
    if several:
        return solve(right)
    solution = solve(jax.tree.map(lambda leaf: leaf[None], right))
    return jax.tree.map(lambda leaf: leaf[0], solution)


class MatrixFreeSolver(BlockSolver):
    """Conjugate gradients on products with a symmetric definite dF/dx, compiled once for each F.

    Arguments:
        optimality_fun: F; what it holds as a pytree is an argument of the compiled code.
        sol: the solution, or a point near it.
        args: the other arguments of F.
        null_space: vectors that span the null space, as in `linear.solve`; `None`: there is none.
        rtol: relative residual at which iterations stop.
    """

    def __init__(
        self,
        optimality_fun: Callable[..., PyTree],
        sol: PyTree,
        args: tuple[Any, ...],
        null_space: PyTree = None,
        rtol: float = 1e-12,
    ) -> None:
        self._given = optimality_fun, sol, args, null_space
        self._accuracy = np.asarray(rtol), np.asarray(max(TOLERANCE, 2.0 * rtol))

    def roughly(self) -> "MatrixFreeSolver":
        """By the same compiled code. Iterations leave as much as they may, a factorisation less."""
        return MatrixFreeSolver(*self._given, rtol=0.1 * ROUGH_RTOL)

    def solve(self, columns: PyTree[Float[Array | np.ndarray, "K ..."]]) -> LinearSolution:
        """As of every BlockSolver, one after the other, stacked in NumPy."""
        count = len(jax.tree.leaves(columns)[0])
        solved: LinearSolution = for_each_in_turn(
            lambda column: _solve_by_products(*self._given, column, *self._accuracy), columns, count
        )
        return solved


@compiled
def _solve_by_products(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    null_space: PyTree,
    right: PyTree,
    rtol: Any,
    tolerance: Any,
) -> LinearSolution:
    return linear_solve(
        linearise(optimality_fun, sol, args), right, solver="cg", symmetric=True,
        null_space=null_space, least_squares=True, rtol=rtol, tolerance=tolerance,
    )  # fmt: skip
