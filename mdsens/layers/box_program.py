"""Quadratic programs with bounds on unknowns, or on linear functions of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.checks import float_array, members
from mdsens.layers.program_operators import FlatProgram, ProgramByFunctions
from mdsens.layers.program_solution import solve_program, statement_of
from mdsens.layers.program_solver import Pair, ProgramSolver
from mdsens.layers.quadratic_program import quadratic_objective, require_shape
from mdsens.layers.solution import OptStep

__all__ = ["BoxConstrainedQP", "BoxQP"]


class BoxQP(ProgramSolver):
    """min 1/2 x'Qx + c'x subject to lower <= x <= upper.

    Arguments:
        solver: as in `QuadraticProgram`.
        tol: as in `QuadraticProgram`.
        maxiter: as in `QuadraticProgram`.
    """

    def run(
        self,
        init_params: Any = None,
        params_obj: Pair | None = None,
        params_ineq: Pair | None = None,
    ) -> OptStep:
        """The solution of one program.

        Arguments:
            init_params: not used.
            params_obj: (Q, c) of shapes (n, n) and (n,).
            params_ineq: (lower, upper), numbers or of shape (n,), may be infinite or equal.

        Returns:
            An `OptStep` of x (n,) and a `ProgramState`.

        Raises:
            InputError: as `QuadraticProgram.run`.
        """
        _, c = quadratic_objective(params_obj)
        identity = jnp.eye(len(c), dtype=c.dtype)
        general = BoxConstrainedQP(self.solver, self.tol, self.maxiter)
        params, state = general.run(init_params, params_obj, identity, params_ineq)
        return OptStep(params.primal[0], state)

    def optimality_fun(
        self, params: Float[Array, " n"], params_obj: Pair, params_ineq: Pair
    ) -> Float[Array, " n"]:
        """One projected gradient step minus the parameters, zero at a solution."""
        Q, c, lower, upper = map(jnp.asarray, (*params_obj, *params_ineq))
        return jnp.clip(params - Q @ params - c, lower, upper) - params


class BoxConstrainedQP(ProgramByFunctions):
    """min 1/2 x'Qx + c'x subject to lower <= A x <= upper.

    A row whose bounds are equal is an equation. Derivatives are as those of `QuadraticProgram`;
    those of an equation's value are shared by its two bounds, the upper one has them.

    Arguments:
        solver: as in `QuadraticProgram`.
        tol: as in `QuadraticProgram`.
        maxiter: as in `QuadraticProgram`.
        matvec_Q, matvec_A, fun: functions in place of matrices, as in `QuadraticProgram`; x, and
            both bounds alike, may be pytrees.
    """

    def run(
        self,
        init_params: Any = None,
        params_obj: Any = None,
        params_eq: Any = None,
        params_ineq: Any = None,
    ) -> OptStep:
        """The solution of one program.

        Arguments:
            init_params: an example of the solution, for `fun`.
            params_obj: (Q, c) of shapes (n, n) and (n,).
            params_eq: A of shape (m, n).
            params_ineq: (lower, upper), numbers or of shape (m,), may be infinite or equal.

        Returns:
            An `OptStep` of a `KKTSolution` with primal (x, A x), dual_eq y (m,) with
            Q x + c + A'y = 0, and dual_ineq, the positive and the negative part of y; and a
            `ProgramState`.

        Raises:
            InputError: as `QuadraticProgram.run`.
        """
        if params_ineq is None or (params_eq is None and self.matvec_A is None):
            raise InputError("params_eq and params_ineq are needed: give A and (lower, upper).")
        if self.operators.needed(params_obj, params_ineq):
            flat = self._flattened(init_params, params_obj, params_eq, params_ineq)
            general = BoxConstrainedQP(self.solver, self.tol, self.maxiter)
            params, state = general.run(None, *flat.problem)
            return OptStep(flat.restored(params), state)
        Q, c = quadratic_objective(params_obj)
        A = float_array("params_eq", params_eq)
        require_shape("params_eq", A, (len(A) if A.ndim else 0, len(c)))
        bounds = []
        parts = ("lower", "upper")
        for name, value in zip(parts, members("params_ineq", params_ineq, parts), strict=True):
            bound = float_array(name, value)
            bounds.append(jnp.full(len(A), bound) if bound.ndim == 0 else bound)
            require_shape(name, bounds[-1], (len(A),))
        statement = statement_of(Q, c, (A,), *bounds)
        x, y, state = solve_program(
            statement, "quadratic program", self.solver, self.tol, self.maxiter
        )
        signs = (jnp.where(y > 0, y, 0), jnp.where(y < 0, -y, 0))
        return OptStep(KKTSolution((x, statement.values(x)), y, signs), state)

    def _flattened(
        self, init_params: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> "_FlatBox":
        lower, upper = members("params_ineq", params_ineq, ("lower", "upper"))
        if isinstance(init_params, KKTSolution):
            init_params = init_params.primal[0]
        if self.matvec_A is not None:
            # A number is the bound of every row, as beside a matrix.
            x = params_obj[1] if self.fun is None else init_params
            rows = jax.eval_shape(self.matvec_A, params_eq, x)
            if isinstance(rows, jax.ShapeDtypeStruct):
                lower, upper = (
                    jnp.full(rows.shape, bound) if jnp.ndim(bound) == 0 else bound
                    for bound in (lower, upper)
                )
        program = self.operators.flattened(init_params, params_obj, (params_eq, lower), None)
        return _FlatBox(program, program.flat(KKTSolution(None, upper, None)).dual_eq)

    def optimality_fun(
        self, params: KKTSolution, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> KKTSolution:
        """The conditions of (x, z) with A x = z between the bounds, zero at a solution."""
        if self.operators.needed(params_obj, params_ineq):
            flat = self._flattened(params, params_obj, params_eq, params_ineq)
            plain = BoxConstrainedQP().optimality_fun(flat.flat(params), *flat.problem)
            return flat.restored(plain)
        Q, c, lower, upper = map(jnp.asarray, (*params_obj, *params_ineq))
        A, y, (above, below) = jnp.asarray(params_eq), params.dual_eq, params.dual_ineq
        x, z = params.primal
        stationarity = (Q @ x + c + y @ A, above - below - y)
        slackness = (
            above * jnp.where(jnp.isinf(upper), 1, z - upper),
            below * jnp.where(jnp.isinf(lower), 1, lower - z),
        )
        return KKTSolution(stationarity, A @ x - z, slackness)


class _FlatBox(NamedTuple):
    """A program of vectors and matrices between bounds, and the way back."""

    program: FlatProgram
    upper: Float[Array, " m"]

    @property
    def problem(self) -> tuple[Any, ...]:
        """What `BoxConstrainedQP` takes after the start."""
        A, lower = self.program.equalities or (None, None)
        return self.program.objective, A, (lower, self.upper)

    def restored(self, solution: KKTSolution) -> KKTSolution:
        """The solution in pytrees."""
        return self._by(self.program.restored, solution)

    def flat(self, solution: KKTSolution) -> KKTSolution:
        """The solution in vectors."""
        return self._by(self.program.flat, solution)

    @staticmethod
    def _by(function: Callable[[KKTSolution], KKTSolution], solution: KKTSolution) -> KKTSolution:
        x, z = solution.primal
        rows = (z, solution.dual_eq, *solution.dual_ineq)
        primals, rows = zip(*(function(KKTSolution(x, one, None))[:2] for one in rows), strict=True)
        return KKTSolution((primals[0], rows[0]), rows[1], rows[2:])
