"""How a nonlinear program ended: its state, the verdict, and the errors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.errors import InputError
from mdsens.implicit.host import raise_where
from mdsens.layers.nonlinear_kkt import Functions, polish, stays_violated
from mdsens.layers.program import (
    INFEASIBLE,
    INFINITE,
    SOLVED,
    UNBOUNDED,
    UNSOLVED,
    InfeasibleError,
    UnboundedError,
    UnsolvedError,
)

__all__ = ["NonlinearProgramState", "judged", "raise_unless_minimum"]

SADDLE = 6


class NonlinearProgramState(NamedTuple):
    """How a nonlinear program was solved.

    Attributes:
        iter_num: iterations of the solver.
        error: largest relative error in the optimality conditions.
        converged: whether a minimum was found.
        status: index of the reason where it was not, as in the errors: 3 infeasible, 4 unbounded,
            5 not solved to the tolerance, 6 a saddle point, 1 not finite at the start; else 0.
        unique: whether solution and multipliers are unique, locally; where not, their derivatives
            are those of least norm.
        strict: whether no active row has a multiplier of zero; where one has, the derivative is
            one of the one-sided ones.
        value: the objective at the solution, with its derivatives.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    unique: Bool[Array, ""]
    strict: Bool[Array, ""]
    value: Any = None


def judged(
    functions: Functions,
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    status: Int[Array, ""],
    count: Int[Array, ""],
    tol: float,
) -> tuple[Float[Array, " n"], Float[Array, " m"], NonlinearProgramState]:
    """The exact solution next to an approximate one, and the verdict.

    Arguments:
        functions: the program.
        x: what a solver found, (n,).
        y: its multipliers, (m,).
        status: the solver's own, of `mdsens.layers.program`.
        count: its iterations.
        tol: largest error, relative.

    Returns:
        x, y, and the state.
    """
    solution = polish(functions, x, y)
    # Solvers stop by their own measure; where the active rows are not told apart, multipliers and
    # distances are both of the size of the square root of the tolerance.
    accept = jnp.where(status == SOLVED, tol**0.5, tol)
    # A Newton step from where the objective has fallen without end may go anywhere.
    good = (solution.error <= accept) & (status != UNBOUNDED)
    status = jnp.where(good, SOLVED, jnp.where(status == SOLVED, UNSOLVED, status))
    status = jnp.where(good & ~solution.minimum, SADDLE, status)
    infeasible = stays_violated(functions, solution.x, status == UNSOLVED, tol**0.5)
    infeasible |= jnp.any(functions.lower > functions.upper)
    status = jnp.where(infeasible, INFEASIBLE, status)
    state = NonlinearProgramState(
        iter_num=count,
        error=solution.error,
        converged=status == SOLVED,
        status=status,
        unique=solution.unique,
        strict=solution.strict,
    )
    return solution.x, solution.y, state


def raise_unless_minimum(
    x: Float[Array, " n"], y: Float[Array, " m"], state: NonlinearProgramState
) -> tuple[tuple[Float[Array, " n"], Float[Array, " m"]], NonlinearProgramState]:
    """The same, or the error that no minimum was found.

    Arguments:
        x: the solution, (n,).
        y: its multipliers, (m,).
        state: the verdict.

    Returns:
        ((x, y), state), to be used in place of the arguments.

    Raises:
        InputError: with its subclasses, at once where the status is known; inside compiled code the
            runtime's error with the same message.
    """
    errors: dict[int, tuple[type[InputError], str]] = {
        INFINITE: (
            InputError,
            "the functions of the nonlinear program are not finite at the start; give another "
            "init_params, or bounds that keep x where they are.",
        ),
        INFEASIBLE: (
            InfeasibleError,
            "the nonlinear program is infeasible near its start: no small step lessens the "
            "violation of its rows; relax or remove some, or begin elsewhere.",
        ),
        UNBOUNDED: (
            UnboundedError,
            "the nonlinear program is unbounded: its objective falls without end; add bounds or "
            "rows.",
        ),
        UNSOLVED: (
            UnsolvedError,
            "the nonlinear program was not solved to its tolerance; raise maxiter or tol, rescale "
            "the problem, begin elsewhere, or choose another solver; throw=False only flags it.",
        ),
        SADDLE: (
            UnsolvedError,
            "the nonlinear program ended at a saddle point, which is no minimum; begin elsewhere, "
            "not on a line of symmetry.",
        ),
    }
    if isinstance(state.status, jax.core.Tracer):
        problem = jnp.full_like(state.status, -1)
        for index, status in enumerate(errors):
            problem = jnp.where(state.status == status, index, problem)
        return (raise_where(x, problem, [message for _, message in errors.values()]), y), state
    if int(state.status) != SOLVED:
        error, message = errors[int(state.status)]
        raise error(message)
    return (x, y), state
