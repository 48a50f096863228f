"""Quadratic programs as layers; names and arguments follow JAXopt 0.8."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from mdsens.errors import InputError
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.checks import float_array, members
from mdsens.layers.program_operators import ProgramByFunctions
from mdsens.layers.program_solution import solve_program, statement_of
from mdsens.layers.program_solver import Pair, kkt_residual
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.warm_start import flat_start

__all__ = [
    "QuadraticProgram",
    "bounds_of",
    "kkt_solution",
    "linear_rows",
    "quadratic_objective",
    "require_shape",
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
            InputError: for wrong shapes; for numbers that are not finite and for Q
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
        x, y, state = solve_program(
            statement_of(Q, c, (A, G), *bounds_of(b, h)),
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


def bounds_of(b: Array, h: Array) -> tuple[Array, Array]:
    """The lower and the upper bounds of the rows A x = b and G x <= h."""
    dtype = jnp.result_type(b, h)
    lower = jnp.concatenate([b.astype(dtype), jnp.full(len(h), -jnp.inf, dtype)])
    return lower, jnp.concatenate([b.astype(dtype), h.astype(dtype)])


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
