"""Quadratic programs with equations alone: one linear system, by factors or by products."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from mdsens.implicit.backends import probe
from mdsens.implicit.conditions import KKTSolution
from mdsens.implicit.linear import solve as linear_solve
from mdsens.layers.program_operators import ProgramByFunctions
from mdsens.layers.program_solution import solve_equations, statement_of
from mdsens.layers.program_solver import ProgramState, kkt_residual
from mdsens.layers.quadratic_program import linear_rows, quadratic_objective
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import without_derivatives
from mdsens.layers.trees import norm

__all__ = ["EqualityConstrainedQP"]

#: Relative deviation of a known solution that tells of a null space: one that is ill-conditioned to
#: more than this over the tolerance counts as one.
_NULL = 1e-4
_EXACT = "one factorisation solves it exactly; leave it out"


@positional(
    "matvec_Q",
    "matvec_A",
    "fun",
    gone={
        "solve": (..., _EXACT),
        "refine_maxiter": (10, _EXACT),
        "refine_regularization": (0.0, _EXACT),
        "implicit_diff_solve": (None, "derivatives come from the same factorisation; leave it out"),
        "jit": (True, "it is always compiled; leave it out"),
    },
)
class EqualityConstrainedQP(ProgramByFunctions):
    """min 1/2 x'Qx + c'x subject to A x = b, by one linear solve.

    Derivatives are as those of `QuadraticProgram`. Rows may be redundant: the multipliers, and the
    derivatives in b, are then those of least norm.

    Arguments:
        solver: "auto" factorises; "minres" iterates by products alone and forms no matrix, for
            thousands of unknowns. It does not look whether Q is positive semi-definite. Whether the
            solution is unique, a second solve tells, for a vector that is known.
        tol, maxiter: relative residual at which "minres" stops, 1e-12 without one (or as little as
            there is in single precision), and its most iterations, ten for each unknown; "auto"
            meets them in any case.
        matvec_Q, matvec_A, fun: functions in place of matrices, as in `QuadraticProgram`.
    """

    solver: Literal["auto", "minres"] = "auto"  # type: ignore[assignment]  # no inequalities

    solvers: ClassVar[tuple[str, ...]] = ("auto", "minres")

    def run(
        self,
        init_params: Any = None,
        params_obj: Any = None,
        params_eq: Any = None,
    ) -> OptStep:
        """The solution of one program.

        Arguments:
            init_params: an example of the solution, for `fun`.
            params_obj: (Q, c) of shapes (n, n) and (n,).
            params_eq: (A, b) of shapes (p, n) and (p,), or `None`.

        Returns:
            An `OptStep` of a `KKTSolution` with primal (n,) and dual_eq (p,), and a `ProgramState`.

        Raises:
            InputError: as `QuadraticProgram.run`.
            mdsens.errors.LinearSolveError: if "minres" does not converge, as with equations that
                contradict one another.

        Solves [[Q, A'], [A, 0]] (x, y) = (-c, b).
        """
        if self.solver == "minres":
            return self._by_products(init_params, params_obj, params_eq)
        if self.operators.needed(params_obj, params_eq):
            flat = self.operators.flattened(init_params, params_obj, params_eq, None)
            params, state = EqualityConstrainedQP().run(None, flat.objective, flat.equalities)
            return OptStep(flat.restored(params), state)
        Q, c = quadratic_objective(params_obj)
        A, b = linear_rows("params_eq", params_eq, c)
        x, y, state = solve_equations(statement_of(Q, c, (A,), b, b), "quadratic program")
        return OptStep(KKTSolution(x, None if params_eq is None else y, None), state)

    def _by_products(self, init_params: Any, params_obj: Any, params_eq: Any) -> OptStep:
        product, right = self.operators.equality_system(init_params, params_obj, params_eq)
        given: dict[str, Any] = {
            "solver": "minres",
            "symmetric": True,
            "definite": False,
            "rtol": 1e-12 if self.tol is None else self.tol,
            "max_steps": self.maxiter,
        }
        tolerance = None if self.tol is None else self.tol**0.5
        solution = linear_solve(product, right, tolerance=tolerance, **given)
        steps, residual = jnp.asarray(solution.steps), jnp.asarray(solution.residual)

        def deviation() -> Array:
            # A solution of least norm lacks what the null space has of a vector without structure.
            zeros, restored = ravel_pytree(right)
            vector = probe(zeros.size, zeros.dtype)
            found = linear_solve(product, product(restored(vector)), throw=False, **given).value
            return norm(ravel_pytree(found)[0] - vector) / norm(vector)

        unique = without_derivatives(deviation) < _NULL
        x, y = solution.value
        return OptStep(KKTSolution(x, y, None), ProgramState(steps, residual, unique))

    def optimality_fun(
        self, params: KKTSolution, params_obj: Any, params_eq: Any = None
    ) -> KKTSolution:
        """Stationarity and equalities, zero at a solution."""
        if self.solver == "minres":
            given = (params.primal, params.dual_eq)
            product, right = self.operators.equality_system(params.primal, params_obj, params_eq)
            x, y = jax.tree.map(jnp.subtract, product(given), right)
            return KKTSolution(x, y, None)
        if self.operators.needed(params_obj, params_eq):
            flat = self.operators.flattened(params, params_obj, params_eq, None)
            return flat.restored(kkt_residual(flat.flat(params), flat.objective, flat.equalities))
        residual: KKTSolution = kkt_residual(params, params_obj, params_eq)
        return residual
