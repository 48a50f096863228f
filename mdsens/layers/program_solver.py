"""What layers that solve a convex program share: their options, and the contract of all solvers."""

import abc
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.implicit.conditions import kkt
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import norm
from mdsens.values import choice, integer, real

__all__ = [
    "MAXITER",
    "Pair",
    "ProgramLayer",
    "ProgramSolver",
    "ProgramState",
    "SolverName",
    "check_options",
    "kkt_residual",
]

Pair: TypeAlias = tuple[ArrayLike, ArrayLike]
SolverName: TypeAlias = Literal["auto", "interior-point", "clarabel", "osqp"]

MAXITER = {"interior-point": 100, "clarabel": 200, "osqp": 100_000}


class ProgramState(NamedTuple):
    """How a program was solved.

    Attributes:
        iter_num: iterations of the solver.
        error: largest relative error in the optimality conditions.
        unique: whether solution and multipliers are unique, so that they have derivatives; where
            not, derivatives are the active rows' of least norm.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    unique: Bool[Array, ""]


class ProgramLayer(eqx.Module):
    """The contract of all solvers, for those that solve a program whole."""

    @abc.abstractmethod
    def run(self, init_params: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """The solution of one program, and how it was solved."""

    @abc.abstractmethod
    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The conditions of optimality, zero at a solution, with the structure of its params."""

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The state before a program is solved: no iterations, and an infinite error."""
        del init_params, args, kwargs
        return ProgramState(jnp.asarray(0), jnp.asarray(jnp.inf), jnp.asarray(False))

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """The solution: iterations are the solver's own, and an update makes all of them."""
        del state
        return self.run(params, *args, **kwargs)

    def run_iterator(self, init_params: Any, iterator: Any, *args: Any, **kwargs: Any) -> OptStep:
        """An error: a program has no batches of data."""
        del init_params, iterator, args, kwargs
        raise InputError(
            f"{type(self).__name__} takes no batches of data: give all of them to run, or use "
            "jax.vmap for a program of each"
        )

    def l2_optimality_error(self, params: PyTree, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """The Euclidean norm of the conditions, which vanishes at a solution."""
        return norm(self.optimality_fun(params, *args, **kwargs))


class ProgramSolver(ProgramLayer):
    """A solver of convex programs.

    Arguments:
        solver: "auto" or the name of a solver.
        tol: where it stops, relative; None: as tight as the solver can.
        maxiter: most iterations; None: the solver's own.
    """

    solver: SolverName = "auto"
    tol: float | None = None
    maxiter: int | None = None

    solvers: ClassVar[tuple[str, ...]] = ("auto", *MAXITER)

    def __check_init__(self) -> None:
        check_options(self.solver, self.tol, self.maxiter, self.solvers)


def kkt_residual(
    params: PyTree,
    objective: Pair,
    params_eq: Pair | None = None,
    params_ineq: Pair | None = None,
) -> PyTree:
    """The conditions of Karush, Kuhn and Tucker of a quadratic program.

    Arguments:
        params: the `KKTSolution`.
        objective: (Q, c).
        params_eq: (A, b), or None.
        params_ineq: (G, h), or None; rows with an infinite h have no slackness.

    Returns:
        A `KKTSolution` of stationarity, equalities and complementary slackness.
    """

    def ineq_fun(x: Array, rows: Any) -> Array:
        return jnp.where(jnp.isinf(rows[1]), 1, rows[0] @ x - rows[1])

    condition = kkt(
        lambda x, pair: 0.5 * x @ pair[0] @ x + pair[1] @ x,
        None if params_eq is None else lambda x, rows: rows[0] @ x - rows[1],
        None if params_ineq is None else ineq_fun,
    )
    given = (objective, params_eq, params_ineq)
    return condition(params, *(None if p is None else tuple(map(jnp.asarray, p)) for p in given))


def check_options(
    solver: Any, tol: Any, maxiter: Any, allowed: Iterable[str] = ("auto", *MAXITER)
) -> None:
    """An error if there is no solver of this name, or tol or maxiter are no such numbers."""
    choice(solver, "solver", allowed)
    if tol is not None:
        real(tol, "tol", above=0.0)
    if maxiter is not None:
        integer(maxiter, "maxiter", at_least=1)
