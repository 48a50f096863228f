"""Line searches that still work where function values differ by less than their rounding."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "CONDITIONS",
    "SEARCHES",
    "Condition",
    "LineSearchResult",
    "Search",
    "SearchRule",
    "Trial",
    "line_search",
    "straight",
]

Search: TypeAlias = Literal["zoom", "hager-zhang", "backtracking"]
Condition: TypeAlias = Literal["armijo", "goldstein", "wolfe", "strong-wolfe"]
SEARCHES: tuple[Search, ...] = ("zoom", "hager-zhang", "backtracking")
CONDITIONS: tuple[Condition, ...] = ("armijo", "goldstein", "wolfe", "strong-wolfe")

DECREASE = 1e-4
"""Fraction of the predicted decrease that is asked for (Armijo's condition)."""


class SearchRule(NamedTuple):
    """Which steps are tried, and which one is accepted.

    Attributes:
        shrinks: whether every step is `decrease_factor` times the last one; otherwise a bracket
            around a zero of the slope is narrowed by secants.
        condition: what is asked for beside Armijo's condition.
        curvature: fraction of the first slope that "wolfe" and "strong-wolfe" accept.
        maxls: most steps tried.
        decrease_factor: between steps that shrink.
        max_stepsize: longest step.
    """

    shrinks: bool
    condition: Condition
    curvature: float
    maxls: int
    decrease_factor: float
    max_stepsize: float


class Trial(NamedTuple):
    """A function at one point of a path.

    Attributes:
        value: the function.
        gradient: its gradient.
        slope: its derivative along the path.
        predicted: change of the function's linear model at the beginning of the path.
        closer: whether the gradient alone tells of a point nearer to the minimum.
    """

    value: Float[Array, ""]
    gradient: Float[Array, " n"]
    slope: Float[Array, ""]
    predicted: Float[Array, ""]
    closer: Bool[Array, ""]


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
    low_enough: Bool[Array, ""]
    found: LineSearchResult


def straight(
    evaluate: Callable[[Float[Array, " n"]], tuple[Array, Array]],
    x: Float[Array, " n"],
    direction: Float[Array, " n"],
    slope_0: Float[Array, ""],
) -> Callable[[Float[Array, ""]], Trial]:
    """The path t -> x + t direction.

    Arguments:
        evaluate: x -> the function and its gradient.
        x: where the path begins.
        direction: of descent.
        slope_0: the function's slope there.

    Returns:
        The function on the path. Nearer to the minimum is, as Hager & Zhang 2005, SIAM J. Optim.
        16, 170, have it in equation 4.1, where the slope has changed as it does where Armijo's
        condition is fulfilled.
    """

    def path(t: Array) -> Trial:
        value, gradient = evaluate(x + t * direction)
        slope = jnp.vdot(gradient, direction)
        return Trial(value, gradient, slope, t * slope_0, slope <= (2 * DECREASE - 1) * slope_0)

    return path


def line_search(
    path: Callable[[Float[Array, ""]], Trial],
    value: Float[Array, ""],
    gradient: Float[Array, " n"],
    slope_0: Float[Array, ""],
    first: Float[Array, ""],
    rule: SearchRule,
) -> LineSearchResult:
    """Find a step along a path of descent that lowers a function and fulfils a condition.

    Arguments:
        path: multiple of the direction -> the function there.
        value: the function where the path begins.
        gradient: its gradient there.
        slope_0: its slope there, negative.
        first: multiple of the direction to try first.
        rule: which steps are tried and accepted.

    Returns:
        A step t that meets Armijo's condition or, where the values agree to rounding, is nearer to
        the minimum by its gradient alone; and the rule's condition (Nocedal & Wright 2006,
        equations 3.6, 3.7 and 3.11). Where shorter steps cannot fulfil that one, steps that shrink
        do without it.
    """
    rounding = 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)

    def trial(s: _Search) -> _Search:
        t = s.next_stepsize
        new = path(t)
        armijo = (new.value <= value + DECREASE * new.predicted) & (new.predicted < 0)
        level = (new.value <= value + rounding) & new.closer
        low_enough = (armijo | level) & jnp.isfinite(new.value) & jnp.isfinite(new.slope)
        low_enough &= jnp.all(jnp.isfinite(new.gradient))
        fulfilled = _fulfilled(rule, new, value, slope_0, level)
        fulfilled |= (t >= rule.max_stepsize) & (new.slope < 0)
        if rule.shrinks:
            fulfilled |= new.slope < rule.curvature * slope_0
        too_far = ~low_enough | (new.slope > 0)
        low, low_slope = _choose(too_far, (s.low, s.low_slope), (t, new.slope))
        high = jnp.where(too_far, t, s.high)
        if rule.shrinks:
            next_stepsize = t * rule.decrease_factor
        else:
            next_stepsize = _secant(s, t, new.slope, low, high)
        next_stepsize = jnp.minimum(next_stepsize, rule.max_stepsize)
        found = LineSearchResult(t, low_enough & fulfilled, new.value, new.gradient)
        return _Search(next_stepsize, low, low_slope, high, s.trials + 1, low_enough, found)

    zero, no = jnp.zeros_like(value), jnp.asarray(False)
    nothing = LineSearchResult(zero, no, value, gradient)
    first = jnp.minimum(first.astype(value.dtype), rule.max_stepsize)
    start = _Search(first, zero, slope_0, zero + jnp.inf, jnp.asarray(0), no, nothing)
    end = jax.lax.while_loop(lambda s: ~s.found.accepted & (s.trials < rule.maxls), trial, start)
    found = end.found
    # A last trial that is no worse and has a smaller gradient is progress all the same.
    better = (found.value <= value + rounding) & (
        jnp.linalg.norm(found.gradient) < jnp.linalg.norm(gradient)
    )
    accepted = found.accepted | better | (end.low_enough & rule.shrinks)
    return _choose(accepted, found._replace(accepted=accepted), nothing)


def _fulfilled(
    rule: SearchRule, new: Trial, value: Array, slope_0: Array, level: Array
) -> Bool[Array, ""]:
    if rule.condition == "armijo":
        return jnp.asarray(True)
    if rule.condition == "goldstein":
        return (new.value >= value + (1 - DECREASE) * new.predicted) | level
    steep = rule.curvature * slope_0
    if rule.condition == "wolfe":
        return new.slope >= steep
    return jnp.abs(new.slope) <= jnp.abs(steep)


def _secant(s: _Search, t: Array, slope: Array, low: Array, high: Array) -> Array:
    """The zero of the slope by the secant, kept inside the bracket or not far outside."""
    rising = slope > s.low_slope
    rise = jnp.where(rising, slope - s.low_slope, 1)
    secant = jnp.where(rising, s.low - (t - s.low) * s.low_slope / rise, jnp.inf)
    width = jnp.where(jnp.isfinite(high), high - low, 0)
    middle = jnp.where(jnp.isfinite(secant), secant, low + 0.5 * width)
    inside = jnp.clip(middle, low + 0.1 * width, low + 0.9 * width)
    longer = jnp.clip(secant, 1.5 * t, 5 * t)
    return jnp.where(jnp.isfinite(high), inside, longer)


def _choose(condition: Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)
