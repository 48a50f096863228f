"""L-BFGS with bounds on the variables, by two-metric projection."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mdsens.implicit import conditions
from mdsens.layers.checks import counts, float_array, members, require
from mdsens.layers.lbfgs import LBFGSState, flat_value_and_gradient
from mdsens.layers.line_search import DECREASE
from mdsens.layers.objective import Minimiser
from mdsens.layers.parameters import leafwise, number
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import difference
from mdsens.lbfgs_history import LBFGSHistory

__all__ = ["LBFGSB"]


class LBFGSB(Minimiser):
    """Minimise a smooth function of variables between bounds.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        history_size: number of past steps that model the curvature.
        maxls: most steps tried in one line search.
        maxiter, tol, throw, derivative, implicit_diff_solve: as in `IterativeSolver`; the
            derivative is "implicit". The error is |x - clip(x - grad f(x))|.

    Use `run(init_params, bounds, *args, **kwargs)`, where `bounds` is `(lower, upper)`, each with
    the structure of the parameters or one number; infinite numbers are no bounds. The solution is
    differentiated in the bounds too.

    Variables that a bound holds follow the gradient, the others the quasi-Newton direction of
    their subspace, and the path is projected: Bertsekas 1982, SIAM J. Control Optim. 20, 221,
    equations 32-37; Schmidt, Kim & Sra 2009, algorithm 11.3. The condition is Blondel et al. 2021,
    equation 9.
    """

    history_size: int = eqx.field(kw_only=True, default=10)
    maxls: int = eqx.field(kw_only=True, default=40)

    derivatives: ClassVar[tuple[str, ...]] = ("implicit",)

    def __check_init__(self) -> None:
        counts(self, "history_size", "maxls")

    def run(
        self, init_params: PyTree, bounds: tuple[PyTree, PyTree], *args: Any, **kwargs: Any
    ) -> OptStep:
        """As `IterativeSolver.run`, with the bounds after `init_params`.

        Raises:
            InputError: also if a lower bound is above its upper bound.
        """
        init_params = jax.tree.map(lambda leaf: float_array("init_params", leaf), init_params)
        pair = members("bounds", bounds, ("lower", "upper"))
        lower, upper = (_like(bound, init_params) for bound in pair)
        ordered = ravel_pytree(lower)[0] <= ravel_pytree(upper)[0]
        message = "a lower bound is above its upper bound; allowed are lower <= upper: swap them."
        lower = require(lower, ordered, message)
        return super().run(init_params, (lower, upper), *args, **kwargs)

    def init_state(
        self, init_params: PyTree, bounds: tuple[PyTree, PyTree], *args: Any, **kwargs: Any
    ) -> LBFGSState:
        """The state before the first iteration, which begins at the nearest feasible point."""
        lower, upper = (ravel_pytree(_like(bound, init_params))[0] for bound in bounds)
        flat, unravel = ravel_pytree(init_params)
        x = jnp.clip(flat, lower, upper)
        value, aux, gradient = self.evaluate(unravel(x), *args, **kwargs)
        g = ravel_pytree(gradient)[0]
        return LBFGSState(
            iter_num=jnp.asarray(0),
            # An infeasible start is no solution, whatever the gradient at its projection.
            error=self.error_or_nan(jnp.linalg.norm(flat - jnp.clip(x - g, lower, upper)), value),
            converged=jnp.asarray(False),
            value=value,
            grad=g,
            stepsize=jnp.ones((), g.dtype),
            history=LBFGSHistory.none(self.history_size, g),
            aux=aux,
        )

    def update(
        self,
        params: PyTree,
        state: LBFGSState,
        bounds: tuple[PyTree, PyTree],
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        lower, upper = (ravel_pytree(_like(bound, params))[0] for bound in bounds)
        x, unravel = ravel_pytree(params)
        x = jnp.clip(x, lower, upper)
        gradient = state.grad
        # Bounds that are near and towards which the variable would go hold it (equation 32).
        reach = jnp.minimum(jnp.linalg.norm(x - jnp.clip(x - gradient, lower, upper)), 1e-3)
        at_bound = ((x <= lower + reach) & (gradient > 0)) | ((x >= upper - reach) & (gradient < 0))
        subspace = state.history.restricted(~at_bound)
        newton = -subspace.inverse_hessian_product(jnp.where(at_bound, 0, gradient))
        descends = jnp.vdot(newton, gradient) < 0
        direction = jnp.where(at_bound | ~descends, -gradient, newton)
        unknown = jnp.all(subspace.inverses == 0) | ~descends
        length = jnp.maximum(jnp.linalg.norm(direction), jnp.finfo(x.dtype).tiny)
        first = jnp.where(unknown, jnp.minimum(1, 1 / length), 1).astype(x.dtype)

        evaluate = flat_value_and_gradient(self, unravel, args, kwargs)
        rounding = 10 * jnp.finfo(x.dtype).eps * jnp.abs(state.value)

        def projected(t: Array) -> Array:
            return jnp.clip(x + t * direction, lower, upper)

        def error_at(y: Array, g: Array) -> Array:
            return jnp.linalg.norm(y - jnp.clip(y - g, lower, upper))

        def trial(search: tuple[Any, ...]) -> tuple[Any, ...]:
            t, _, _, _, count = search
            y = projected(t)
            value, g = evaluate(y)
            slope = jnp.vdot(gradient, y - x)
            # Where values differ by rounding only, a smaller error shows that it goes down.
            level = (value <= state.value + rounding) & (error_at(y, g) < state.error)
            accepted = (value <= state.value + DECREASE * slope) & (slope < 0) | level
            accepted = accepted & jnp.all(jnp.isfinite(g))
            return jnp.where(accepted, t, 0.5 * t), accepted, value, g, count + 1

        t, accepted, value, new_gradient, _ = jax.lax.while_loop(
            lambda search: ~search[1] & (search[-1] < self.maxls),
            trial,
            (first, jnp.asarray(False), state.value, gradient, jnp.asarray(0)),
        )
        new_x = jnp.where(accepted, projected(t), x)
        value = jnp.where(accepted, value, state.value)
        new_gradient = jnp.where(accepted, new_gradient, gradient)
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
            stepsize=jnp.where(accepted, t, 0),
            history=history,
            aux=self.objective(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)

    def optimality_fun(
        self, params: PyTree, bounds: tuple[PyTree, PyTree], *args: Any, **kwargs: Any
    ) -> PyTree:
        """One projected gradient step of size 1 minus the parameters."""

        def clip(point: PyTree, bounds: tuple[PyTree, PyTree]) -> PyTree:
            return jax.tree.map(jnp.clip, point, *(_like(bound, point) for bound in bounds))

        fixed_point_fun = conditions.projected_gradient(self.value, clip)
        return difference(fixed_point_fun(params, bounds, *args, **kwargs), params)


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
