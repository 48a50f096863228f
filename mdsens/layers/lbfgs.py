"""L-BFGS, the limited-memory quasi-Newton method."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.checks import booleans, counts
from mdsens.layers.line_search import straight
from mdsens.layers.searching import SearchingMinimiser, flat_value_and_gradient
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import norm
from mdsens.lbfgs_history import LBFGSHistory

__all__ = ["LBFGS", "LBFGSState"]


class LBFGSState(NamedTuple):
    """The state of L-BFGS.

    Attributes:
        iter_num: iterations done.
        error: norm of the gradient, for `LBFGSB` of the projected gradient step.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        value: the objective.
        grad: its gradient, flattened.
        stepsize: multiple of the quasi-Newton step that was taken last; 0: none was found.
        history: the model of the curvature, flattened.
        aux: auxiliary output of `fun`.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    grad: Float[Array, " n"]
    stepsize: Float[Array, ""]
    history: LBFGSHistory
    aux: Any


@positional(
    "fun", "value_and_grad", "has_aux", "maxiter", "tol", "stepsize", "linesearch",
    "linesearch_init", "stop_if_linesearch_fails", "condition", "maxls", "decrease_factor",
    "increase_factor", "max_stepsize", "min_stepsize", "history_size", "use_gamma",
    "implicit_diff", "implicit_diff_solve", "jit", "unroll", "verbose",
)  # fmt: skip
class LBFGS(SearchingMinimiser):
    """Minimise a smooth function with a limited-memory model of its Hessian.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, linesearch, linesearch_init, stop_if_linesearch_fails, condition, maxls,
            decrease_factor, increase_factor, max_stepsize, min_stepsize: as in
            `SearchingMinimiser`.
        history_size: number of past steps that model the curvature.
        use_gamma: whether the model begins with the curvature along the last step, or with 1.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, *args, **kwargs)`.

    Liu & Nocedal 1989, Math. Program. 45, 503, with the line search of Hager & Zhang 2005. The
    condition is Blondel et al. 2021, equation 4.
    """

    history_size: int = eqx.field(kw_only=True, default=10)
    use_gamma: bool = eqx.field(kw_only=True, default=True)

    symmetric: ClassVar[bool] = True

    def __check_init__(self) -> None:
        counts(self, "history_size")
        booleans(self, "use_gamma")

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> LBFGSState:
        """The state before the first iteration."""
        value, aux, gradient = self.evaluate(init_params, *args, **kwargs)
        flat = ravel_pytree(gradient)[0]
        return LBFGSState(
            iter_num=jnp.asarray(0),
            error=self.error_or_nan(norm(flat), value),
            converged=jnp.asarray(False),
            value=value,
            grad=flat,
            stepsize=jnp.full((), self.longest, flat.dtype),
            history=LBFGSHistory.none(self.history_size, flat),
            aux=aux,
        )

    def update(self, params: PyTree, state: LBFGSState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)
        direction = -state.history.inverse_hessian_product(state.grad, self.use_gamma)
        descends = jnp.vdot(direction, state.grad) < 0
        direction = jnp.where(descends, direction, -state.grad)
        fresh = state.history.empty | ~descends
        length = jnp.maximum(norm(direction), jnp.finfo(x.dtype).tiny)
        natural = jnp.where(fresh, jnp.minimum(1, 1 / length), 1).astype(x.dtype)
        slope_0 = jnp.vdot(state.grad, direction)
        evaluate = flat_value_and_gradient(self, unravel, args, kwargs)
        found = self.search(straight(evaluate, x, direction, slope_0), state, slope_0, natural)
        step = found.stepsize * direction
        history = state.history.with_step(step, found.gradient - state.grad, found.accepted)
        # A search that fails forgets the model and begins again with the gradient.
        history = history.forgotten(~found.accepted)
        params = unravel(x + step)
        state = state._replace(
            iter_num=state.iter_num + 1,
            error=norm(found.gradient),
            value=found.value,
            grad=found.gradient,
            stepsize=found.stepsize,
            history=history,
            aux=self.objective(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)
