"""L-BFGS with bounds on the variables, by two-metric projection."""

from typing import Any, ClassVar, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mdsens.errors import InputError
from mdsens.implicit import conditions
from mdsens.layers.checks import booleans, counts, float_array, members, require
from mdsens.layers.lbfgs import LBFGSState
from mdsens.layers.line_search import Condition, Search, Trial
from mdsens.layers.parameters import leafwise, number
from mdsens.layers.searching import SearchingMinimiser, flat_value_and_gradient
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import difference, norm
from mdsens.lbfgs_history import LBFGSHistory

__all__ = ["LBFGSB"]

Bounds: TypeAlias = tuple[PyTree, PyTree] | None


@positional(
    "fun", "value_and_grad", "has_aux", "maxiter", "tol", "stepsize", "linesearch",
    "linesearch_init", "stop_if_linesearch_fails", "condition", "maxls", "decrease_factor",
    "increase_factor", "max_stepsize", "min_stepsize", "theta", "history_size", "use_gamma",
    "implicit_diff", "implicit_diff_solve", "jit", "unroll", "verbose",
)  # fmt: skip
class LBFGSB(SearchingMinimiser):
    """Minimise a smooth function of variables between bounds.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, linesearch, linesearch_init, stop_if_linesearch_fails, condition, maxls,
            decrease_factor, increase_factor, max_stepsize, min_stepsize: as in
            `SearchingMinimiser`, along the projected path; it is searched by "backtracking", with
            the condition "armijo" where nothing else is said.
        theta: curvature with which the model begins before the first step, 1.
        history_size: number of past steps that model the curvature.
        use_gamma: whether the model begins with the curvature along the last step.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`. The error is |x - clip(x - grad f(x))|.

    Use `run(init_params, bounds, *args, **kwargs)`, where `bounds` is `(lower, upper)`, each with
    the structure of the parameters or one number; infinite numbers are no bounds, and neither is
    None in place of both. The solution is differentiated in the bounds too.

    Variables that a bound holds follow the gradient, the others the quasi-Newton direction of
    their subspace, and the path is projected: Bertsekas 1982, SIAM J. Control Optim. 20, 221,
    equations 32-37; Schmidt, Kim & Sra 2009, algorithm 11.3. The condition is Blondel et al. 2021,
    equation 9.
    """

    linesearch: Search = eqx.field(kw_only=True, default="backtracking")
    maxls: int = eqx.field(kw_only=True, default=40)
    theta: float = eqx.field(kw_only=True, default=1.0)
    history_size: int = eqx.field(kw_only=True, default=10)
    use_gamma: bool = eqx.field(kw_only=True, default=True)

    backtracking_condition: ClassVar[Condition] = "armijo"

    def __check_init__(self) -> None:
        counts(self, "history_size")
        booleans(self, "use_gamma")
        if self.theta != 1.0:
            raise InputError(
                f"theta = {self.theta}: allowed is 1, with which the model of the curvature begins "
                "only until the first step; scale the objective instead"
            )

    def run(self, init_params: PyTree, bounds: Bounds = None, *args: Any, **kwargs: Any) -> OptStep:
        """As `IterativeSolver.run`, with the bounds after `init_params`.

        Raises:
            InputError: also if a lower bound is above its upper bound.
        """
        init_params = jax.tree.map(lambda leaf: float_array("init_params", leaf), init_params)
        lower, upper = _pair(bounds, init_params)
        ordered = ravel_pytree(lower)[0] <= ravel_pytree(upper)[0]
        message = "a lower bound is above its upper bound; allowed are lower <= upper: swap them."
        lower = require(lower, ordered, message)
        return super().run(init_params, (lower, upper), *args, **kwargs)

    def init_state(
        self, init_params: PyTree, bounds: Bounds = None, *args: Any, **kwargs: Any
    ) -> LBFGSState:
        """The state before the first iteration, which begins at the nearest feasible point."""
        lower, upper = (ravel_pytree(bound)[0] for bound in _pair(bounds, init_params))
        flat, unravel = ravel_pytree(init_params)
        x = jnp.clip(flat, lower, upper)
        value, aux, gradient = self.evaluate(unravel(x), *args, **kwargs)
        g = ravel_pytree(gradient)[0]
        return LBFGSState(
            iter_num=jnp.asarray(0),
            # An infeasible start is no solution, whatever the gradient at its projection.
            error=self.error_or_nan(norm(flat - jnp.clip(x - g, lower, upper)), value),
            converged=jnp.asarray(False),
            value=value,
            grad=g,
            stepsize=jnp.full((), self.longest, g.dtype),
            history=LBFGSHistory.none(self.history_size, g),
            aux=aux,
        )

    def update(
        self,
        params: PyTree,
        state: LBFGSState,
        bounds: Bounds = None,
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        lower, upper = (ravel_pytree(bound)[0] for bound in _pair(bounds, params))
        x, unravel = ravel_pytree(params)
        x = jnp.clip(x, lower, upper)
        gradient = state.grad
        at_bound, subspace, newton = self._direction(x, gradient, lower, upper, state.history)
        descends = jnp.vdot(newton, gradient) < 0
        direction = jnp.where(at_bound | ~descends, -gradient, newton)
        unknown = jnp.all(subspace.inverses == 0) | ~descends
        length = jnp.maximum(norm(direction), jnp.finfo(x.dtype).tiny)
        natural = jnp.where(unknown, jnp.minimum(1, 1 / length), 1).astype(x.dtype)
        evaluate = flat_value_and_gradient(self, unravel, args, kwargs)

        def projected(t: Array) -> Array:
            return jnp.clip(x + t * direction, lower, upper)

        def error_at(y: Array, g: Array) -> Array:
            return norm(y - jnp.clip(y - g, lower, upper))

        def slope_at(y: Array, g: Array) -> Array:
            leaving = ((y <= lower) & (direction < 0)) | ((y >= upper) & (direction > 0))
            return jnp.vdot(g, jnp.where(leaving, 0, direction))

        def path(t: Array) -> Trial:
            y = projected(t)
            value, g = evaluate(y)
            # Where values differ by rounding only, a smaller error shows that it goes down.
            closer = error_at(y, g) < state.error
            return Trial(value, g, slope_at(y, g), jnp.vdot(gradient, y - x), closer)

        found = self.search(path, state, slope_at(x, gradient), natural)
        t, accepted, value, new_gradient = found
        new_x = jnp.where(accepted, projected(t), x)
        history = state.history.with_step(new_x - x, new_gradient - gradient, accepted)
        # A search that fails forgets the model and begins again with the gradient.
        history = history.forgotten(~accepted)
        params = unravel(new_x)
        state = LBFGSState(
            iter_num=state.iter_num + 1,
            error=error_at(new_x, new_gradient),
            converged=state.converged,
            value=value,
            grad=new_gradient,
            stepsize=t,
            history=history,
            aux=self.objective(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)

    def one_step(
        self, params: PyTree, state: LBFGSState, bounds: Bounds = None, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One projected quasi-Newton step with the last model of the curvature."""
        lower, upper = (ravel_pytree(bound)[0] for bound in _pair(bounds, params))
        x, unravel = ravel_pytree(params)
        gradient = ravel_pytree(self.evaluate(params, *args, **kwargs)[2])[0]
        at_bound, _, newton = self._direction(x, gradient, lower, upper, state.history)
        return unravel(jnp.clip(x + jnp.where(at_bound, -gradient, newton), lower, upper))

    def _direction(
        self, x: Array, gradient: Array, lower: Array, upper: Array, history: LBFGSHistory
    ) -> tuple[Array, LBFGSHistory, Array]:
        """Which variables are held, the curvature of the others, and their direction."""
        # Bounds that are near and towards which the variable would go hold it (equation 32).
        reach = jnp.minimum(norm(x - jnp.clip(x - gradient, lower, upper)), 1e-3)
        at_bound = ((x <= lower + reach) & (gradient > 0)) | ((x >= upper - reach) & (gradient < 0))
        subspace = history.restricted(~at_bound)
        free = jnp.where(at_bound, 0, gradient)
        return at_bound, subspace, -subspace.inverse_hessian_product(free, self.use_gamma)

    def optimality_fun(
        self, params: PyTree, bounds: Bounds = None, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One projected gradient step of size 1 minus the parameters."""

        def clip(point: PyTree, bounds: Bounds) -> PyTree:
            return jax.tree.map(jnp.clip, point, *_pair(bounds, point))

        fixed_point_fun = conditions.projected_gradient(self.value, clip)
        return difference(fixed_point_fun(params, bounds, *args, **kwargs), params)


def _pair(bounds: Bounds, params: PyTree) -> tuple[PyTree, PyTree]:
    """Both bounds with the structure and the shapes of the parameters."""
    pair = (-jnp.inf, jnp.inf) if bounds is None else bounds
    lower, upper = (_like(b, params) for b in members("bounds", pair, ("lower", "upper")))
    return lower, upper


def _like(bound: PyTree, params: PyTree) -> PyTree:
    """The bound with the structure and the shapes of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    bounds = leafwise("a bound", bound, params)
    return jax.tree.unflatten(
        structure,
        [
            jnp.broadcast_to(number("a bound", b, x.dtype).astype(x.dtype), x.shape)
            for b, x in zip(bounds, leaves, strict=True)
        ],
    )
