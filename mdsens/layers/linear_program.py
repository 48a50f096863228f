"""Linear programs as a layer."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import ArrayLike

from mdsens.errors import InputError
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.checks import float_array
from mdsens.layers.program_solution import solve_program, statement_of
from mdsens.layers.program_solver import Pair, ProgramSolver, kkt_residual
from mdsens.layers.quadratic_program import bounds_of, kkt_solution, linear_rows
from mdsens.layers.solution import OptStep
from mdsens.layers.warm_start import flat_start

__all__ = ["LinearProgram"]


class LinearProgram(ProgramSolver):
    """min c'x subject to A x = b and G x <= h.

    At a vertex that is the only solution, where exactly n independent rows are active, x is smooth
    in A, b, G and h and constant in c, the multipliers the other way round, and all derivatives
    are theirs. Where the optimum is a whole face, the solution is the solver's, an inner point of
    it, and the derivative that of least norm with the active rows; likewise where more rows than n
    meet. `state.unique` is then false.

    Arguments:
        solver: "interior-point" (in JAX, on any device), "clarabel" (on the host, a batch as one
            callback), "osqp", or "auto", which is the interior point: as exact as Clarabel, and
            faster from a handful of unknowns on, alone and in batches.
        tol: as in `QuadraticProgram`.
        maxiter: as in `QuadraticProgram`.

    The derivative is that of `mdsens.layers.active_set` with Q = 0.
    """

    def run(
        self,
        init_params: Any = None,
        params_obj: ArrayLike | None = None,
        params_eq: Pair | None = None,
        params_ineq: Pair | None = None,
    ) -> OptStep:
        """The solution of one program; use `jax.vmap` for a batch.

        Arguments:
            init_params: a solution of a program nearby, to begin from, or None.
            params_obj: c of shape (n,).
            params_eq: (A, b) of shapes (p, n) and (p,), or `None`.
            params_ineq: (G, h) of shapes (m, n) and (m,), or `None`.

        Returns:
            An `OptStep` of a `KKTSolution` with primal (n,), dual_eq (p,) and dual_ineq (m,), not
            negative, and a `ProgramState`. c + A' dual_eq + G' dual_ineq = 0.

        Raises:
            InputError: as `QuadraticProgram.run`.
        """
        if params_obj is None:
            raise InputError("params_obj is None; allowed is the vector c of the objective c'x.")
        c = float_array("c", params_obj)
        if c.ndim != 1 or not c.size:
            raise InputError(f"c has the shape {c.shape}; allowed is (n,) with n at least 1.")
        A, b = linear_rows("params_eq", params_eq, c)
        G, h = linear_rows("params_ineq", params_ineq, c)
        nothing = jnp.zeros((len(c), len(c)), c.dtype)
        statement = statement_of(nothing, c, (A, G), *bounds_of(b, h))
        start = flat_start(init_params, len(c), len(b), len(h))
        x, y, state = solve_program(
            statement, "linear program", self.solver, self.tol, self.maxiter, start
        )
        return OptStep(kkt_solution(x, y, params_eq, params_ineq, len(b)), state)

    def optimality_fun(
        self,
        params: KKTSolution,
        params_obj: ArrayLike,
        params_eq: Pair | None = None,
        params_ineq: Pair | None = None,
    ) -> KKTSolution:
        """Stationarity, equalities and complementary slackness, zero at a solution."""
        c = jnp.asarray(params_obj)
        nothing = jnp.zeros((c.size, c.size), c.dtype)
        residual: KKTSolution = kkt_residual(params, (nothing, c), params_eq, params_ineq)
        return residual
