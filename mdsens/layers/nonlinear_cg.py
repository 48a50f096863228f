"""Nonlinear conjugate gradients."""

from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.searching import SearchingMinimiser
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import norm
from mdsens.values import choice

__all__ = ["NonlinearCG", "NonlinearCGState"]


class NonlinearCGState(NamedTuple):
    """The state of nonlinear conjugate gradients.

    Attributes:
        iter_num: iterations done.
        error: norm of the gradient.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        value: the objective.
        grad: its gradient, flattened.
        direction: direction of the last step, flattened.
        stepsize: multiple of the direction that was taken last; 0: none was found.
        expected: multiple of `direction` that is tried first.
        aux: auxiliary output of `fun`.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    grad: Float[Array, " n"]
    direction: Float[Array, " n"]
    stepsize: Float[Array, ""]
    expected: Float[Array, ""]
    aux: Any


@positional(
    "fun", "value_and_grad", "has_aux", "maxiter", "tol", "method", "linesearch",
    "linesearch_init", "condition", "maxls", "decrease_factor", "increase_factor", "max_stepsize",
    "min_stepsize", "implicit_diff", "implicit_diff_solve", "jit", "unroll", "verbose",
)  # fmt: skip
class NonlinearCG(SearchingMinimiser):
    """Minimise a smooth function along conjugate directions; the memory is one vector.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        method: "polak-ribiere" (not below zero), "fletcher-reeves" or "hestenes-stiefel".
        stepsize, linesearch, linesearch_init, stop_if_linesearch_fails, condition, maxls,
            decrease_factor, increase_factor, max_stepsize, min_stepsize: as in
            `SearchingMinimiser`; the strong Wolfe conditions ask for a tenth of the first slope.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the derivative is "implicit", since that of the iterations
            with constant step sizes does not converge.

    Use `run(init_params, *args, **kwargs)`.

    d <- -g + beta d: Nocedal & Wright 2006, equations 5.41 and 5.45-5.46, with the line search of
    Hager & Zhang 2005. The condition is Blondel et al. 2021, equation 4.
    """

    method: Literal["polak-ribiere", "fletcher-reeves", "hestenes-stiefel"] = eqx.field(
        kw_only=True, default="polak-ribiere"
    )

    increase_factor: float = eqx.field(kw_only=True, default=1.2)

    derivatives: ClassVar[tuple[str, ...]] = ("implicit",)
    symmetric: ClassVar[bool] = True
    curvature: ClassVar[float] = 0.1

    def __check_init__(self) -> None:
        choice(self.method, "method", ("polak-ribiere", "fletcher-reeves", "hestenes-stiefel"))

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> NonlinearCGState:
        """The state before the first iteration."""
        fields = self.start(init_params, args, kwargs)
        gradient = fields["grad"]
        return NonlinearCGState(**fields, direction=-gradient, expected=_first_length(gradient))

    def update(self, params: PyTree, state: NonlinearCGState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        # Steps that only shrink must begin with longer ones to grow at all.
        natural = state.expected * (2 if self.linesearch == "backtracking" else 1)
        params, found, fields = self.step_along(
            state.direction, natural, params, state, args, kwargs
        )
        direction = self._weight(found.gradient, state) * state.direction - found.gradient
        slope = jnp.vdot(found.gradient, direction)
        conjugate = found.accepted & (slope < 0)
        direction = jnp.where(conjugate, direction, -found.gradient)
        # As long as what the last step would have gained: Nocedal & Wright, after equation 3.60.
        last_slope = jnp.vdot(state.grad, state.direction)
        gain = found.stepsize * last_slope / jnp.where(conjugate, slope, 1)
        expected = jnp.where(conjugate, gain, _first_length(found.gradient)).astype(gain.dtype)
        return OptStep(params, state._replace(**fields, direction=direction, expected=expected))

    def _weight(self, gradient: Array, state: NonlinearCGState) -> Array:
        change = gradient - state.grad
        if self.method == "hestenes-stiefel":
            weight, scale = jnp.vdot(gradient, change), jnp.vdot(state.direction, change)
        elif self.method == "fletcher-reeves":
            weight, scale = jnp.vdot(gradient, gradient), jnp.vdot(state.grad, state.grad)
        else:
            weight = jnp.maximum(jnp.vdot(gradient, change), 0)
            scale = jnp.vdot(state.grad, state.grad)
        return jnp.where(scale == 0, 0, weight / jnp.where(scale == 0, 1, scale))


def _first_length(gradient: Float[Array, " n"]) -> Float[Array, ""]:
    """The multiple of the gradient that is a step of at most 1."""
    return jnp.minimum(1, 1 / jnp.maximum(norm(gradient), jnp.finfo(gradient.dtype).tiny))
