"""Quadratic programs as layers; names and arguments follow JAXopt 0.8."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mdsens.errors import InputError
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.active_set import solve_on_active_set
from mdsens.layers.checks import float_array, members
from mdsens.layers.chunks import in_chunks
from mdsens.layers.host_solvers import host_program
from mdsens.layers.interior_point import interior_point
from mdsens.layers.program import (
    INFEASIBLE,
    SOLVED,
    UNBOUNDED,
    UNSOLVED,
    Program,
    inspect,
    kkt_error,
    raise_unless_solved,
    rescale,
)
from mdsens.layers.program_operators import ProgramByFunctions
from mdsens.layers.program_solver import (
    MAXITER,
    Pair,
    ProgramState,
    kkt_residual,
)
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.warm_start import Start, flat_start, warm_start

__all__ = [
    "QuadraticProgram",
    "as_program",
    "kkt_solution",
    "linear_rows",
    "quadratic_objective",
    "require_shape",
    "solve_equations",
    "solve_program",
    "stack_rows",
]


@positional("solver", "tol", "maxiter")
class QuadraticProgram(ProgramByFunctions):
    """min 1/2 x'Qx + c'x subject to A x = b and G x <= h, for positive semi-definite Q.

    The solution x, and the multipliers of both kinds of rows, have derivatives of any order and
    in both modes in Q, c, A, b, G and h. Of Q the symmetric part counts. A bound h of infinity is
    no bound. Where the active rows are dependent, or leave a direction in which the objective is
    flat, the derivative is that of least norm and `state.unique` is false; at a row that is just
    touched it is one of the one-sided derivatives.

    Arguments:
        solver: "interior-point" runs in JAX on any device, "clarabel" and "osqp" on the host, a
            batch as one callback. "auto" is the interior point, the fastest in batches and on
            accelerators.
        tol: where the solver stops, relative; `None`: 1e-10 (1e-7 for OSQP; 5e-5 for the interior
            point in single precision). One linear solve with the active rows then makes the
            solution exact to rounding. Results worse than the square root of tol are an error.
        maxiter: most iterations; `None`: 100, or 200 for Clarabel and 100 000 for OSQP.
        matvec_Q, matvec_A, matvec_G, fun: functions in place of matrices, as in
            `ProgramOperators`; the matrices are formed. With or without them x, b and h may be
            pytrees, and so is then the solution.

    The algorithm: `mdsens.layers.interior_point`; the derivative: `mdsens.layers.active_set`.
    """

    matvec_G: Callable[..., Any] | None = eqx.field(kw_only=True, default=None)

    def run(
        self,
        init_params: Any = None,
        params_obj: Any = None,
        params_eq: Any = None,
        params_ineq: Any = None,
    ) -> OptStep:
        """The solution of one program; use `jax.vmap` for a batch.

        Arguments:
            init_params: a solution of a program nearby, to begin from; or, for `fun`, an example of
                x. None: the solver chooses its own start.
            params_obj: (Q, c) of shapes (n, n) and (n,).
            params_eq: (A, b) of shapes (p, n) and (p,), or `None`.
            params_ineq: (G, h) of shapes (m, n) and (m,), or `None`.

        Returns:
            An `OptStep` of a `KKTSolution` with primal (n,), dual_eq (p,) and dual_ineq (m,), not
            negative, and a `ProgramState`. Q x + c + A' dual_eq + G' dual_ineq = 0.

        Raises:
            InputError: for wrong shapes or integers; for numbers that are not finite and for Q
                with a negative eigenvalue; and its subclasses `InfeasibleError`, `UnboundedError`
                and `UnsolvedError`. Inside compiled code the latter ones are the runtime's.
        """
        if self.operators.needed(params_obj, params_eq, params_ineq):
            program = self.operators.flattened(init_params, params_obj, params_eq, params_ineq)
            solver: Any = self.solver.lower()
            plain = QuadraticProgram(solver, self.tol, self.maxiter)
            start = program.flat(init_params) if isinstance(init_params, KKTSolution) else None
            params, state = plain.run(
                start, program.objective, program.equalities, program.inequalities
            )
            return OptStep(program.restored(params), state)
        Q, c = quadratic_objective(params_obj)
        A, b = linear_rows("params_eq", params_eq, c)
        G, h = linear_rows("params_ineq", params_ineq, c)
        matrix, lower, upper = stack_rows(A, b, G, h)
        x, y, state = solve_program(
            as_program(Q, c, matrix, lower, upper),
            "quadratic program",
            self.solver.lower(),
            self.tol,
            self.maxiter,
            flat_start(init_params, len(c), len(b), len(h)),
        )
        return OptStep(kkt_solution(x, y, params_eq, params_ineq, len(b)), state)

    def optimality_fun(
        self,
        params: KKTSolution,
        params_obj: Any,
        params_eq: Any = None,
        params_ineq: Any = None,
    ) -> KKTSolution:
        """Stationarity, equalities and complementary slackness, zero at a solution."""
        if self.operators.needed(params_obj, params_eq, params_ineq):
            program = self.operators.flattened(params, params_obj, params_eq, params_ineq)
            flat = (program.objective, program.equalities, program.inequalities)
            return program.restored(kkt_residual(program.flat(params), *flat))
        residual: KKTSolution = kkt_residual(params, params_obj, params_eq, params_ineq)
        return residual


def solve_program(
    program: Program,
    name: str,
    solver: str,
    tol: float | None,
    maxiter: int | None,
    start: Start | None = None,
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState]:
    """The solution of a program and its multipliers, differentiable in the program.

    Arguments:
        program: the program.
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
    epsilon = float(jnp.finfo(program.c.dtype).eps)
    if tol is None:
        tol = {"interior-point": max(1e-10, epsilon**0.625), "osqp": 1e-7}.get(solver, 1e-10)
    maxiter = MAXITER[solver] if maxiter is None else maxiter
    program, verdict = _inspect(program)
    constant = jax.lax.stop_gradient(program)
    if start is not None:
        constant, *warm = _warm_start(constant, start, tol)
    if solver == "interior-point":
        found = _interior_point(constant, tol, maxiter)
    else:
        found = host_program(_rescaled(constant), solver, tol, maxiter)
    if start is not None:
        found = _better(found, *warm)
    accept = max(tol, epsilon) ** 0.5
    x, y, state, status = _finish(program, verdict, *found, accept)
    result: tuple[Array, Array, ProgramState] = raise_unless_solved((x, y, state), status, name)
    return result


def solve_equations(
    program: Program, name: str
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState]:
    """The solution of a program whose rows are all equations, by one linear solve.

    Arguments:
        program: the program.
        name: what to call it in errors.

    Returns:
        As `solve_program`.

    Raises:
        InputError: as `QuadraticProgram.run`.
    """
    program, verdict = _inspect(program)
    start = (jnp.zeros_like(program.c), jnp.zeros_like(program.lower))
    accept = float(jnp.finfo(program.c.dtype).eps) ** 0.5
    x, y, state, status = _finish(program, verdict, *start, SOLVED, 1, accept)
    result: tuple[Array, Array, ProgramState] = raise_unless_solved((x, y, state), status, name)
    return result


_inspect = jax.jit(inspect)
_warm_start = jax.jit(warm_start, static_argnames=("tol",))


@jax.jit
def _better(found: tuple[Any, ...], x: Array, y: Array, good: Bool[Array, ""]) -> tuple[Any, ...]:
    warm = (x, y, jnp.asarray(SOLVED), jnp.asarray(0))
    return tuple(jnp.where(good, w, f) for w, f in zip(warm, found, strict=True))


@functools.partial(jax.jit, static_argnames=("tol", "maxiter"))
def _interior_point(program: Program, tol: float, maxiter: int) -> tuple[Any, ...]:
    def solve(program: Program) -> tuple[Any, ...]:
        return interior_point(rescale(program)[0], tol, maxiter)

    return in_chunks(solve, (len(program.c) + len(program.lower)) ** 2)(program)


@jax.jit
def _rescaled(program: Program) -> Program:
    return rescale(program)[0]


@functools.partial(jax.jit, static_argnames=("accept",))
def _finish(
    program: Program,
    verdict: Int[Array, ""],
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    status: Int[ArrayLike, ""],
    iterations: Int[ArrayLike, ""],
    accept: float,
) -> tuple[Float[Array, " n"], Float[Array, " m"], ProgramState, Int[Array, ""]]:
    """The exact, differentiable solution next to an approximate one of the rescaled program."""
    scaled, rows, objective = rescale(program)
    constant = jax.lax.stop_gradient(scaled)
    polished_x, polished_y, unique = solve_on_active_set(scaled, x, y)
    before = kkt_error(constant, *jax.lax.stop_gradient((x, y)))
    after = kkt_error(constant, *jax.lax.stop_gradient((polished_x, polished_y)))
    better = after <= before
    error = jnp.where(better, after, before)

    # Where the active rows were not told apart, the value of the solver with their derivative.
    def chosen(polished: Array, given: Array) -> Array:
        return polished + jnp.where(better, 0, jax.lax.stop_gradient(given - polished))

    x, y = chosen(polished_x, x), chosen(polished_y, y)
    z = constant.A @ jax.lax.stop_gradient(x)
    equations = constant.lower == constant.upper
    missed = jnp.where(equations, jnp.abs(z - constant.upper) / (1 + jnp.abs(z)), 0)
    only_equations = jnp.all(equations)
    # A linear system has no iterations that diverge, but what it cannot solve tells why.
    reason = jnp.where(jnp.max(missed, initial=0) > accept, INFEASIBLE, UNBOUNDED)
    reason = jnp.where(only_equations, reason, UNSOLVED)
    status = jnp.where((status == INFEASIBLE) | (status == UNBOUNDED), status, reason)
    status = jnp.where(error <= accept, SOLVED, status)
    status = jnp.where(verdict == SOLVED, status, verdict)
    state = ProgramState(jnp.asarray(iterations), error, unique)
    return x, rows * y / objective, state, status


def as_program(
    Q: Float[Array, "n n"],
    c: Float[Array, " n"],
    A: Float[Array, "m n"],
    lower: Float[Array, " m"],
    upper: Float[Array, " m"],
) -> Program:
    """The program of these arrays, in their common precision and with the symmetric part of Q."""
    dtype = jnp.result_type(Q, c, A, lower, upper)
    Q, c, A, lower, upper = (jnp.asarray(value, dtype) for value in (Q, c, A, lower, upper))
    return Program((Q + Q.T) / 2, c, A, lower, upper)


def quadratic_objective(params_obj: Pair | None) -> tuple[Array, Array]:
    """Q and c, of shapes that go together."""
    quadratic, linear = members("params_obj", params_obj, ("Q", "c"))
    Q, c = float_array("Q", quadratic), float_array("c", linear)
    if c.ndim != 1 or not c.size:
        raise InputError(f"c has the shape {c.shape}; allowed is (n,) with n at least 1.")
    require_shape("Q", Q, (len(c), len(c)))
    return Q, c


def linear_rows(name: str, params: Pair | None, like: Array) -> tuple[Array, Array]:
    """The matrix and the bounds of some rows for unknowns like c; no rows for None."""
    size = len(like)
    if params is None:
        return jnp.zeros((0, size), like.dtype), jnp.zeros(0, like.dtype)
    first, second = members(name, params, ("matrix", "bounds"))
    matrix, bounds = float_array(f"{name}[0]", first), float_array(f"{name}[1]", second)
    if bounds.ndim != 1:
        raise InputError(f"{name}[1] has the shape {bounds.shape}; allowed is (rows,).")
    require_shape(f"{name}[0]", matrix, (len(bounds), size))
    return matrix, bounds


def stack_rows(A: Array, b: Array, G: Array, h: Array) -> tuple[Array, Array, Array]:
    """The rows A x = b and G x <= h as one matrix with lower and upper bounds."""
    dtype = jnp.result_type(b, h)
    lower = jnp.concatenate([b.astype(dtype), jnp.full(len(h), -jnp.inf, dtype)])
    upper = jnp.concatenate([b.astype(dtype), h.astype(dtype)])
    return jnp.concatenate([A, G]), lower, upper


def kkt_solution(
    x: Array, y: Array, params_eq: Any, params_ineq: Any, equations: int
) -> KKTSolution:
    """The solution with the multipliers split, None for rows that were not given."""
    return KKTSolution(
        x,
        None if params_eq is None else y[:equations],
        None if params_ineq is None else y[equations:],
    )


def require_shape(name: str, value: Array, shape: tuple[int, ...]) -> None:
    """An error if an array has another shape."""
    if value.shape != shape:
        raise InputError(f"{name} has the shape {value.shape}; allowed is {shape} here.")
