"""The Euclidean projection onto a box section: bounds, and one weighted sum."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from mdsens.errors import InputError
from mdsens.layers.checks import members, require
from mdsens.layers.parameters import number, vector
from mdsens.values import is_traced

__all__ = ["clip", "projection_box_section"]


def projection_box_section(
    x: Real[ArrayLike, "n"],
    hyperparams: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike],
    check_feasible: bool = True,
) -> Float[Array, "n"]:
    """The nearest point between two bounds with a given weighted sum.

    Arguments:
        x: the vector to project, **shape** (n,).
        hyperparams: `(alpha_lower, alpha_upper, w, c)`: bounds, which may be infinite, and
            positive weights of **shape** (n,) or one number for all, and the sum w . p = c.
        check_feasible: whether to check the hyperparameters.

    Returns:
        A vector of **shape** (n,).

    Raises:
        InputError: if a lower bound is above the upper one, a weight is not positive, or c is out
            of reach, not between w . alpha_lower and w . alpha_upper.

    p = min(max(x + tau w, alpha_lower), alpha_upper) with the tau that gives the sum.
    """
    x = vector("x", x)
    parts = ("alpha_lower", "alpha_upper", "w", "c")
    lower, upper, w, c = (
        number(name, value, x.dtype)
        for name, value in zip(parts, members("hyperparams", hyperparams, parts), strict=True)
    )
    for name, value, shape in (
        ("alpha_lower", lower, x.shape),
        ("alpha_upper", upper, x.shape),
        ("w", w, x.shape),
        ("c", c, ()),
    ):
        if value.shape not in ((), shape):
            raise InputError(f"{name} has shape {value.shape}; allowed is {shape} or one number.")
    lower, upper, w = (jnp.broadcast_to(value, x.shape) for value in (lower, upper, w))
    if check_feasible:
        # Numbers that are known are looked at on the host, where nothing is compiled.
        xp: Any = jnp if is_traced((lower, upper, w, c)) else np
        positive = xp.greater(w, 0)
        w = require(w, positive, "w has an entry that is not positive; allowed are weights > 0.")
        upper = require(
            upper,
            xp.less_equal(lower, upper),
            "alpha_lower is above alpha_upper somewhere, which leaves no p; exchange them.",
        )
        # The extreme sums themselves are in reach, however they are rounded.
        given = xp.asarray(c)
        least, most = xp.dot(w, lower), xp.dot(w, upper)
        slack = 4 * x.size * jnp.finfo(x.dtype).eps * xp.abs(given)
        c = require(
            c,
            (least <= given + slack) & (given - slack <= most),
            "c is out of reach; allowed is a sum from w . alpha_lower to w . alpha_upper.",
        )
    return _box_section(x, lower, upper, w, c)[0]


def clip(x: Array, lower: Array, upper: Array) -> Array:
    """The nearest number between the bounds; on a bound, the bound with its derivative."""
    return jnp.where(x <= lower, lower, jnp.where(x >= upper, upper, x))


# One program each: eager operations are compiled each on its own.
@jax.custom_jvp
@jax.jit
def _box_section(x: Array, lower: Array, upper: Array, w: Array, c: Array) -> tuple[Array, Array]:
    """The projection and its multiplier tau."""
    enters, leaves = (lower - x) / w, (upper - x) / w
    breakpoints = jnp.sort(jnp.concatenate([enters, leaves]))

    def sum_at(tau: Array) -> Array:
        return jnp.dot(w, clip(x + w * tau, lower, upper))

    def halve(_: Int[Array, ""], bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        first, last = bracket
        middle = (first + last) // 2
        below = sum_at(breakpoints[middle]) <= c
        return jnp.where(below, middle, first), jnp.where(below, last, middle)

    # The sum grows with tau and is linear between neighbouring breakpoints.
    steps = math.ceil(math.log2(2 * x.size)) + 1
    first, last = jax.lax.fori_loop(0, steps, halve, (jnp.asarray(0), jnp.asarray(2 * x.size - 1)))
    start, end = breakpoints[first], breakpoints[last]
    free = (enters <= start) & (leaves >= end) & (enters < leaves)
    fixed = jnp.where(leaves <= start, upper, lower)
    weight = jnp.sum(jnp.where(free, w**2, 0))
    missing = c - jnp.sum(w * jnp.where(free, x, fixed))
    flat = jnp.clip(0, start, end)  # any tau between: the sum does not depend on it
    tau = jnp.where(weight > 0, missing / jnp.where(weight > 0, weight, 1), flat)
    return clip(jnp.where(free, x + w * tau, fixed), lower, upper), tau


@_box_section.defjvp
@jax.jit
def _box_section_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    x, lower, upper, w, _ = primals
    x_dot, lower_dot, upper_dot, w_dot, c_dot = tangents
    p, tau = _box_section(*primals)
    free = (lower < p) & (p < upper)
    # In a corner nothing is free; as the sum changes, the entry next to its breakpoint moves.
    distance = jnp.minimum(jnp.abs(lower - x - w * tau), jnp.abs(upper - x - w * tau)) / w
    next_free = jnp.arange(x.size) == jnp.argmin(jnp.where(lower < upper, distance, jnp.inf))
    free = jnp.where(jnp.any(free), free, next_free & (lower < upper))
    bound_dot = jnp.where(p <= lower, lower_dot, upper_dot)
    given_dot = jnp.where(free, x_dot + tau * w_dot, bound_dot)
    weight = jnp.sum(jnp.where(free, w**2, 0))
    missing = c_dot - jnp.dot(w_dot, p) - jnp.dot(w, given_dot)
    tau_dot = jnp.where(weight > 0, missing / jnp.where(weight > 0, weight, 1), 0)
    return (p, tau), (jnp.where(free, given_dot + w * tau_dot, given_dot), tau_dot)
