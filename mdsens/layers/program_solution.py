"""How quadratic and linear programs are solved: what is common to all their layers.

All that has no derivative is one function of a program, which takes a part of a batch at a time;
of each program it leaves the solution and the factors of its active rows' system. These and the
program as it was given are what derivatives need.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mdsens.compilation import compiled
from mdsens.layers.active_set import ActiveSet, find_active_set, with_derivatives
from mdsens.layers.chunks import in_chunks
from mdsens.layers.host_solvers import host_program
from mdsens.layers.interior_point import interior_point
from mdsens.layers.program import (
    INFEASIBLE,
    SOLVED,
    UNBOUNDED,
    UNSOLVED,
    Program,
    Statement,
    inspect,
    kkt_error,
    raise_unless_solved,
    rescale,
)
from mdsens.layers.program_solver import MAXITER, ProgramState
from mdsens.layers.warm_start import Start, warm_start
from mdsens.values import is_traced

__all__ = ["solve_equations", "solve_program", "statement_of"]


#: Numbers computed, each loop once, from which on fast code is worth the longer time to compile it:
#: up to twenty unknowns take as long in code that was compiled in a hurry, to a twentieth.
_LITTLE = 150_000


class _Answer(NamedTuple):
    """What a solver found of a rescaled program."""

    x: Float[Array, " n"]
    y: Float[Array, " m"]
    status: Int[ArrayLike, ""]
    iterations: Int[ArrayLike, ""]


class _Outcome(NamedTuple):
    """The solution of a program, and what its derivatives need."""

    x: Float[Array, " n"]
    y: Float[Array, " m"]
    state: ProgramState
    status: Int[Array, ""]
    found: ActiveSet


class _Limits(NamedTuple):
    """Where the solver stops, after how many iterations, and the error that is still accepted."""

    tol: float
    maxiter: int
    accept: float


def statement_of(
    Q: Float[Array, "n n"],
    c: Float[Array, " n"],
    blocks: tuple[Array, ...],
    lower: Float[Array, " m"],
    upper: Float[Array, " m"],
) -> Statement:
    """The program of these arrays, in their common precision."""
    dtype = jnp.result_type(Q, c, *blocks, lower, upper)
    return jax.tree.map(
        lambda value: jnp.asarray(value, dtype), Statement(Q, c, blocks, lower, upper)
    )


def solve_program(
    statement: Statement,
    name: str,
    solver: str,
    tol: float | None,
    maxiter: int | None,
    start: Start | None = None,
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState]:
    """The solution of a program and its multipliers, differentiable in the program.

    Arguments:
        statement: the program.
        name: what to call it in errors.
        solver: "auto", "interior-point", "clarabel" or "osqp".
        tol: as in `QuadraticProgram`.
        maxiter: as in `QuadraticProgram`.
        start: a solution nearby and its multipliers, None for the solver's own start.

    Returns:
        x (n,), the multipliers (m,) of the rows, and how it was solved.

    Raises:
        InputError: as `QuadraticProgram.run`.
    """
    solver = "interior-point" if solver == "auto" else solver
    epsilon = float(jnp.finfo(statement.c.dtype).eps)
    if tol is None:
        tol = {"interior-point": max(1e-10, epsilon**0.625), "osqp": 1e-7}.get(solver, 1e-10)
    maxiter = MAXITER[solver] if maxiter is None else maxiter
    limits = _Limits(tol, maxiter, max(tol, epsilon) ** 0.5)
    constant = jax.lax.stop_gradient(statement)
    start = jax.lax.stop_gradient(start)
    if solver == "interior-point":
        outcome = _by_interior_point(constant, start, limits)
    else:
        scaled, warm = _for_host(constant, start, limits)
        answer = _Answer(*host_program(scaled, solver, tol, maxiter))
        outcome = _next_to(constant, answer, warm, limits)
    return _differentiable(statement, outcome, name)


def solve_equations(
    statement: Statement, name: str
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState]:
    """The solution of a program whose rows are all equations, by one linear solve.

    Arguments:
        statement: the program.
        name: what to call it in errors.

    Returns:
        As `solve_program`.

    Raises:
        InputError: as `QuadraticProgram.run`.
    """
    constant = jax.lax.stop_gradient(statement)
    one, solved = jnp.asarray(1), jnp.asarray(SOLVED)
    nothing = _Answer(jnp.zeros_like(constant.c), jnp.zeros_like(constant.lower), solved, one)
    epsilon = float(jnp.finfo(constant.c.dtype).eps)
    outcome = _next_to(constant, nothing, None, _Limits(epsilon, 1, epsilon**0.5))
    return _differentiable(statement, outcome, name)


def _differentiable(
    statement: Statement, outcome: _Outcome, name: str
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState]:
    x, y = outcome.x, outcome.y
    # What has no tangents is the solution already.
    if is_traced(statement):
        x, y = _with_derivatives(statement, x, y, outcome.found)
    result: tuple[Array, Array, ProgramState] = raise_unless_solved(
        (x, y, outcome.state), outcome.status, name
    )
    return result


_with_derivatives = compiled(with_derivatives)


def _numbers(statement: Statement) -> int:
    return (len(statement.c) + len(statement.lower)) ** 2


@compiled(heavy=True, much=_LITTLE)
def _by_interior_point(statement: Statement, start: Start | None, limits: _Limits) -> _Outcome:
    def solve(statement: Statement, start: Start | None) -> _Outcome:
        program, verdict = inspect(statement.program())
        left, warm = _begun(program, start, limits)
        answer = _Answer(*interior_point(rescale(left)[0], limits.tol, limits.maxiter))
        return _polished(program, verdict, answer, warm, limits)

    return in_chunks(solve, _numbers(statement))(statement, start)


@compiled(heavy=True, much=_LITTLE)
def _for_host(statement: Statement, start: Start | None, limits: _Limits) -> tuple[Program, Any]:
    """What is left to solve on the host, and what was found by the start."""

    def prepare(statement: Statement, start: Start | None) -> tuple[Program, Any]:
        left, warm = _begun(inspect(statement.program())[0], start, limits)
        return rescale(left)[0], warm

    return in_chunks(prepare, _numbers(statement))(statement, start)


@compiled(heavy=True, much=_LITTLE)
def _next_to(statement: Statement, answer: _Answer, warm: Any, limits: _Limits) -> _Outcome:
    """The outcome next to what a solver found."""

    def solve(statement: Statement, answer: _Answer, warm: Any) -> _Outcome:
        return _polished(*inspect(statement.program()), answer, warm, limits)

    return in_chunks(solve, _numbers(statement))(statement, answer, warm)


def _begun(program: Program, start: Start | None, limits: _Limits) -> tuple[Program, Any]:
    """What is left to solve, and x, y and whether they are the solution; None without a start."""
    if start is None:
        return program, None
    left, *warm = warm_start(program, start, limits.tol)
    return left, tuple(warm)


def _polished(
    program: Program,
    verdict: Int[Array, ""],
    answer: _Answer,
    warm: tuple[Float[Array, " n"], Float[Array, " m"], Bool[Array, ""]] | None,
    limits: _Limits,
) -> _Outcome:
    """The exact solution next to an approximate one of the rescaled program."""
    x, y, status, iterations = answer
    if warm is not None:
        x, y = (jnp.where(warm[2], w, given) for w, given in zip(warm, (x, y), strict=False))
        status = jnp.where(warm[2], SOLVED, status)
        iterations = jnp.where(warm[2], 0, iterations)
    scaled, rows, objective = rescale(program)
    polished_x, polished_y, found = find_active_set(scaled, rows, objective, x, y)
    before, after = kkt_error(scaled, x, y), kkt_error(scaled, polished_x, polished_y)
    # Where the active rows were not told apart, the value of the solver with their derivative.
    better = after <= before
    error = jnp.where(better, after, before)
    x, y = jnp.where(better, polished_x, x), jnp.where(better, polished_y, y)
    z = scaled.A @ x
    equations = scaled.lower == scaled.upper
    missed = jnp.where(equations, jnp.abs(z - scaled.upper) / (1 + jnp.abs(z)), 0)
    # A linear system has no iterations that diverge, but what it cannot solve tells why.
    infeasible = jnp.max(missed, initial=0) > limits.accept
    reason = jnp.where(infeasible, INFEASIBLE, UNBOUNDED)
    reason = jnp.where(jnp.all(equations), reason, UNSOLVED)
    status = jnp.where((status == INFEASIBLE) | (status == UNBOUNDED), status, reason)
    status = jnp.where(error <= limits.accept, SOLVED, status)
    status = jnp.where(verdict == SOLVED, status, verdict)
    state = ProgramState(jnp.asarray(iterations), error, found.unique)
    return _Outcome(x, rows * y / objective, state, status, found)
