"""L-BFGS, the limited-memory quasi-Newton method."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.checks import booleans, counts
from mdsens.layers.searching import SearchingMinimiser, descending
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
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
        fields = self.start(init_params, args, kwargs)
        return LBFGSState(**fields, history=LBFGSHistory.none(self.history_size, fields["grad"]))

    def update(self, params: PyTree, state: LBFGSState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        proposed = -state.history.inverse_hessian_product(state.grad, self.use_gamma)
        direction, _, natural = descending(proposed, state.grad, state.history.empty)
        params, found, fields = self.step_along(direction, natural, params, state, args, kwargs)
        step, change = found.stepsize * direction, found.gradient - state.grad
        history = state.history.with_step(step, change, found.accepted)
        # A search that fails forgets the model and begins again with the gradient.
        return OptStep(params, state._replace(**fields, history=history.forgotten(~found.accepted)))

    def one_step(self, params: PyTree, state: LBFGSState, *args: Any, **kwargs: Any) -> PyTree:
        """One quasi-Newton step with the last model of the curvature."""

        def product(gradient: Array) -> Array:
            return state.history.inverse_hessian_product(gradient, self.use_gamma)

        return self.quasi_newton_step(product, params, args, kwargs)
