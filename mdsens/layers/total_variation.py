"""The proximal operator of the total variation of a sequence, exactly."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from mdsens.layers.parameters import nonnegative, step_size, vector

__all__ = ["prox_total_variation_1d"]


def prox_total_variation_1d(
    x: Real[ArrayLike, "n"], reg: ArrayLike | None = 1.0, scaling: ArrayLike = 1.0
) -> Float[Array, "n"]:
    """The proximal operator of g(y) = reg sum_i |y_(i+1) - y_i|, the fused lasso signal.

    Arguments:
        x: the sequence, **shape** (n,).
        reg: a number >= 0; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        A sequence of **shape** (n,), constant on segments, exact to rounding. The derivative in
        `x` is the mean over each segment.

    Raises:
        InputError: if `reg` or `scaling` is negative or `x` is not a vector.

    The signs of the jumps by splitting at levels: Hochbaum 2001, J. ACM 48, 686. With them, the
    optimality condition summed over a segment of length m that jumps by l into it and by r out of
    it says y = mean(x) + scaling reg (sign(r) - sign(l)) / m.
    """
    x = vector("x", x)
    weight = nonnegative("reg", 1.0 if reg is None else reg, x.dtype) * step_size(scaling, x.dtype)
    jumps, unequal = _jumps(*jax.lax.stop_gradient((x, weight)))
    return _levels(x, weight, jumps, unequal)


def _levels(x: Array, weight: Array, jumps: Array, split: Array) -> Array:
    """The best constant on each segment, given the signs of the jumps between them."""
    starts = jnp.concatenate([jnp.zeros(1, bool), split])
    return _total(x + weight * _pull(jumps), starts) / _total(jnp.ones_like(x), starts)


def _pull(jumps: Array) -> Array:
    """How the jumps before and after each entry pull at it."""
    nothing = jnp.zeros_like(jumps, shape=1)
    return jnp.diff(jnp.concatenate([nothing, jumps, nothing]))


def _total(values: Array, starts: Array) -> Array:
    """The sum over the segment that each entry belongs to."""
    segment = jnp.cumsum(starts)
    return jax.ops.segment_sum(values, segment, values.size, indices_are_sorted=True)[segment]


def _jumps(x: Array, weight: Array) -> tuple[Array, Array]:
    """The signs of the jumps between neighbours in the solution, and where segments meet.

    Starts from one segment. For every segment at once it is asked which entries of the solution
    are above and below the best constant; if there are any, the segment splits there, if not, the
    constant is the solution.
    """
    rounding = 4 * jnp.finfo(x.dtype).eps * math.log2(2 * x.size)
    x = x - jnp.mean(x)

    def split(state: tuple[Array, Array]) -> tuple[Array, Array]:
        jumps, _ = state
        starts = jnp.concatenate([jnp.zeros(1, bool), jumps != 0])
        away = _levels(x, weight, jumps, jumps != 0) - x
        before = _messages(away, weight, jumps)
        after = _messages(away[::-1], weight, -jumps[::-1])[::-1]
        # The derivative of the cost at the constant, with all other entries at their best.
        slope = away + before + after
        noise = rounding * (_total(jnp.abs(away), starts) + weight)
        side = jnp.where(jnp.abs(slope) <= noise, 0, -jnp.sign(slope))
        new = jnp.where(jumps != 0, jumps, jnp.diff(side))
        return jnp.sign(new), jnp.any(new != jumps)

    # Without a weight every entry is a segment.
    first = jnp.where(weight == 0, jnp.sign(jnp.diff(x)), 0)
    jumps, _ = jax.lax.while_loop(lambda state: state[1], split, (first, jnp.asarray(True)))
    return jumps, (jumps != 0) | (weight == 0)


def _messages(away: Array, weight: Array, jumps: Array) -> Array:
    """The derivative of the best cost of all earlier entries in the value of each entry.

    Each is the one before, plus what its entry adds, clipped to [-weight, weight]; after a jump it
    is known. Such maps m -> clip(m + shift, low, high) can be composed in any grouping.
    """

    def compose(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
        shift, low, high = second
        return (
            first[0] + shift,
            jnp.clip(first[1] + shift, low, high),
            jnp.clip(first[2] + shift, low, high),
        )

    known = jumps * weight
    nothing = jnp.zeros_like(away, shape=1)  # comes before the first entry
    shift = jnp.concatenate([nothing, away[:-1]])
    low = jnp.concatenate([nothing, jnp.where(jumps != 0, known, -weight)])
    high = jnp.concatenate([nothing, jnp.where(jumps != 0, known, weight)])
    return jax.lax.associative_scan(compose, (shift, low, high))[1]
