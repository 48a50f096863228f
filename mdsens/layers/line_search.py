"""A line search that still works where function values differ by less than their rounding."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["LineSearchResult", "wolfe_search"]

DECREASE = 1e-4
"""Fraction of the predicted decrease that is asked for (Armijo's condition)."""


class LineSearchResult(NamedTuple):
    """Where a line search ended.

    Attributes:
        stepsize: multiple of the direction; 0 if nothing was accepted.
        accepted: whether a step was found.
        value: the function there.
        gradient: its gradient there.
    """

    stepsize: Float[Array, ""]
    accepted: Bool[Array, ""]
    value: Float[Array, ""]
    gradient: Float[Array, " n"]


class _Search(NamedTuple):
    next_stepsize: Array
    low: Array
    low_slope: Array
    high: Array
    trials: Int[Array, ""]
    found: LineSearchResult


def wolfe_search(
    value_and_gradient: Callable[[Float[Array, " n"]], tuple[Array, Array]],
    x: Float[Array, " n"],
    value: Float[Array, ""],
    gradient: Float[Array, " n"],
    direction: Float[Array, " n"],
    first: Float[Array, ""],
    curvature: float,
    maxls: int,
) -> LineSearchResult:
    """Find a step along a direction of descent that lowers a function and flattens its slope.

    Arguments:
        value_and_gradient: x -> the function and its gradient.
        x: where to begin.
        value: the function there.
        gradient: its gradient there.
        direction: of descent.
        first: multiple of the direction to try first.
        curvature: fraction of the first slope that is accepted.
        maxls: most steps tried.

    Returns:
        A step t with |slope(t)| <= curvature |slope(0)| that meets Armijo's condition or, where
        the values agree to rounding, whose slope alone shows that it goes down: the approximate
        Wolfe conditions of Hager & Zhang 2005, SIAM J. Optim. 16, 170, equation 4.1.
    """
    slope_0 = jnp.vdot(gradient, direction)
    rounding = 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)

    def trial(s: _Search) -> _Search:
        t = s.next_stepsize
        new_value, new_gradient = value_and_gradient(x + t * direction)
        slope = jnp.vdot(new_gradient, direction)
        armijo = new_value <= value + DECREASE * t * slope_0
        level = (new_value <= value + rounding) & (slope <= (2 * DECREASE - 1) * slope_0)
        low_enough = (armijo | level) & jnp.isfinite(new_value) & jnp.isfinite(slope)
        flat = jnp.abs(slope) <= curvature * jnp.abs(slope_0)
        too_far = ~low_enough | (slope > 0)
        low, low_slope = _choose(too_far, (s.low, s.low_slope), (t, slope))
        high = jnp.where(too_far, t, s.high)
        # The zero of the slope by the secant, kept inside the bracket or not far outside.
        rising = slope > s.low_slope
        rise = jnp.where(rising, slope - s.low_slope, 1)
        secant = jnp.where(rising, s.low - (t - s.low) * s.low_slope / rise, jnp.inf)
        width = jnp.where(jnp.isfinite(high), high - low, 0)
        middle = jnp.where(jnp.isfinite(secant), secant, low + 0.5 * width)
        inside = jnp.clip(middle, low + 0.1 * width, low + 0.9 * width)
        longer = jnp.clip(secant, 1.5 * t, 5 * t)
        next_stepsize = jnp.where(jnp.isfinite(high), inside, longer)
        found = LineSearchResult(t, low_enough & flat, new_value, new_gradient)
        return _Search(next_stepsize, low, low_slope, high, s.trials + 1, found)

    zero = jnp.zeros_like(value)
    nothing = LineSearchResult(zero, jnp.asarray(False), value, gradient)
    start = _Search(
        first.astype(value.dtype), zero, slope_0, zero + jnp.inf, jnp.asarray(0), nothing
    )
    found = jax.lax.while_loop(lambda s: ~s.found.accepted & (s.trials < maxls), trial, start).found
    # A last trial that is no worse and has a smaller gradient is progress all the same.
    better = (found.value <= value + rounding) & (
        jnp.linalg.norm(found.gradient) < jnp.linalg.norm(gradient)
    )
    accepted = found.accepted | better
    return _choose(accepted, found._replace(accepted=accepted), nothing)


def _choose(condition: Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)
