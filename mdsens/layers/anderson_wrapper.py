"""Anderson acceleration of the steps of another solver."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.implicit.linear import Solver
from mdsens.layers.anderson_history import AndersonHistory
from mdsens.layers.checks import counts, known_real
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import Derivative, IterativeSolver
from mdsens.values import shown

__all__ = ["AndersonWrapper", "AndersonWrapperState"]


class AndersonWrapperState(NamedTuple):
    """The state of an accelerated solver.

    Attributes:
        iter_num: iterations done.
        error: that of the solver.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        solver_state: the solver's own.
        history: differences of the points where its steps began, and of these steps.
        last_params: where the last step began, flattened.
        last_residual: the last step.
        aux: auxiliary output, None without.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    solver_state: Any
    history: AndersonHistory
    last_params: Float[Array, " n"]
    last_residual: Float[Array, " n"]
    aux: Any


class AndersonWrapper(IterativeSolver):
    """Accelerate a solver by beginning its steps where combinations of the last ones lead.

    Arguments:
        solver: the solver, whose `maxiter`, `tol` and `throw` hold here too; a plain method gains
            most, such as `GradientDescent(fun, acceleration=False)`.
        history_size: number of past differences combined.
        mixing_frequency: every how many steps they are; None: `history_size`.
        beta: part of the last step that is added, 1 without damping.
        verbose, implicit_diff, implicit_diff_solve, jit, unroll, derivative: as in
            `IterativeSolver`.
        ridge: regularisation of the least-squares problem, relative to the residuals' lengths.

    Use `run` with the arguments of the solver's own.

    What is returned is always the end of a step of the solver, and its error the solver's: Walker &
    Ni 2011, SIAM J. Numer. Anal. 49, 1715, equation 2.1, with the solver's step for the map. The
    condition is that of the solver.
    """

    solver: IterativeSolver
    history_size: int
    mixing_frequency: int | None
    beta: float
    ridge: float

    def __init__(
        self,
        solver: IterativeSolver,
        history_size: int = 5,
        mixing_frequency: int | None = None,
        beta: float = 1.0,
        ridge: float = 1e-10,
        verbose: bool | int = False,
        implicit_diff: bool = True,
        implicit_diff_solve: Solver | None = None,
        jit: bool = True,
        unroll: Literal["auto"] | bool = "auto",
        *,
        derivative: Derivative = "implicit",
    ):
        if not isinstance(solver, IterativeSolver):
            raise InputError(f"solver = {shown(solver)}: give a solver, such as GradientDescent(f)")
        self.solver, self.history_size, self.mixing_frequency = (
            solver,
            history_size,
            mixing_frequency,
        )
        self.beta, self.ridge, self.verbose = beta, ridge, verbose
        self.maxiter, self.tol, self.throw = solver.maxiter, solver.tol, solver.throw
        self.implicit_diff, self.implicit_diff_solve = implicit_diff, implicit_diff_solve
        self.jit, self.unroll, self.derivative = jit, unroll, derivative

    def __check_init__(self) -> None:
        counts(self, "history_size")
        if self.mixing_frequency is not None:
            counts(self, "mixing_frequency")
        known_real(self.beta, "beta", above=0.0)
        known_real(self.ridge, "ridge", at_least=0.0)

    @property
    def symmetric(self) -> bool:  # type: ignore[override]  # that of the solver
        """Whether the derivative of the condition is symmetric."""
        return self.solver.symmetric

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The condition of the solver."""
        return self.solver.optimality_fun(params, *args, **kwargs)

    def residual(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The value of the solver's condition, without auxiliary output."""
        return self.solver.residual(params, *args, **kwargs)

    def one_step(
        self, params: PyTree, state: AndersonWrapperState, *args: Any, **kwargs: Any
    ) -> PyTree:
        """The solver's own step."""
        return self.solver.one_step(params, state.solver_state, *args, **kwargs)

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> AndersonWrapperState:
        """The state before the first iteration."""
        x = ravel_pytree(init_params)[0]
        inner = self.solver.init_state(init_params, *args, **kwargs)
        return AndersonWrapperState(
            iter_num=jnp.asarray(0),
            error=inner.error,
            converged=jnp.asarray(False),
            solver_state=inner,
            history=AndersonHistory.empty(self.history_size, x),
            last_params=x,
            last_residual=jnp.zeros_like(x),
            aux=getattr(inner, "aux", None),
        )

    def update(
        self, params: PyTree, state: AndersonWrapperState, *args: Any, **kwargs: Any
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        plain, unravel = ravel_pytree(params)
        mixed = state.last_params + self.beta * state.last_residual
        mixed -= state.history.correction(state.last_residual, self.beta, self.ridge)
        every = self.history_size if self.mixing_frequency is None else self.mixing_frequency
        # Two steps make a difference; what is not finite leads nowhere.
        due = (state.iter_num > 1) & (state.iter_num % every == 0) & jnp.all(jnp.isfinite(mixed))
        x = jnp.where(due, mixed, plain)
        dynamic, static = eqx.partition(state.solver_state, eqx.is_array)

        def begin(x: Array) -> Any:
            return eqx.filter(self.solver.init_state(unravel(x), *args, **kwargs), eqx.is_array)

        dynamic = jax.lax.cond(due, begin, lambda _: dynamic, x)
        params, inner = self.solver.update(
            unravel(x), eqx.combine(dynamic, static), *args, **kwargs
        )
        residual = ravel_pytree(params)[0] - x

        state = AndersonWrapperState(
            iter_num=state.iter_num + 1,
            error=inner.error,
            converged=state.converged,
            solver_state=inner,
            history=state.history.remembered(
                state.iter_num, x - state.last_params, residual - state.last_residual
            ),
            last_params=x,
            last_residual=residual,
            aux=getattr(inner, "aux", None),
        )
        return OptStep(params, state)
