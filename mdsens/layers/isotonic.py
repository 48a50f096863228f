"""Isotonic regression: the nearest sequence that only rises, or only falls.

The pool-adjacent-violators algorithm (Barlow et al. 1972; Best & Chakravarti 1990, Math. Program.
47, 425) merges neighbours that are in the wrong order into blocks of one value, in one pass of O(n)
steps. Where blocks stay what they are the solution is a mean over each, and so is its derivative,
in both modes and of any order (Blondel et al. 2020, arXiv 2002.08871, section 5). Where two blocks
just meet, it is a derivative of one side.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from mdsens.errors import InputError
from mdsens.layers.checks import require
from mdsens.layers.parameters import number, vector
from mdsens.values import boolean, is_traced

__all__ = ["isotonic_kl_pav", "isotonic_l2_pav"]

Merge = Callable[[Array, Array], Array]


def isotonic_l2_pav(
    y: Real[ArrayLike, " n"],
    y_min: ArrayLike = -jnp.inf,
    y_max: ArrayLike = jnp.inf,
    increasing: bool = True,
) -> Float[Array, " n"]:
    """The nearest vector whose entries only rise, in the Euclidean norm.

    Arguments:
        y: the vector, **shape** (n,); `jax.vmap` for many.
        y_min: the smallest value allowed.
        y_max: the largest value allowed.
        increasing: False: one whose entries only fall.

    Returns:
        argmin of |v - y|^2 over y_min <= v_1 <= ... <= v_n <= y_max, **shape** (n,).

    Raises:
        InputError: if y_min is above y_max, or a number is not finite.

    A block's value is the mean of its entries.
    """
    y = vector("y", y)
    lower, upper = _range(y_min, y_max, y.dtype)
    return _means(y, lower, upper, _sign(increasing))


# One program: eager operations are compiled each on its own.
@functools.partial(jax.jit, static_argnames="sign")
def _means(
    y: Float[Array, " n"], lower: Float[Array, ""], upper: Float[Array, ""], sign: int
) -> Float[Array, " n"]:
    """The nearest vector in the Euclidean norm: means over blocks."""
    ordered, ones = sign * y, jnp.ones_like(y)
    blocks = _blocks(ordered, ones, jnp.add, jnp.divide)

    def mean(values: Array) -> Array:
        sums = jax.ops.segment_sum(values, blocks, len(y), indices_are_sorted=True)
        return (sums / _sizes(blocks, y.dtype))[blocks]

    value = mean(y)
    # Once more for what is left: sums of long blocks round.
    return jnp.clip(value + mean(y - value), lower, upper)


def isotonic_kl_pav(
    y: Real[ArrayLike, " n"],
    w: Real[ArrayLike, " n"] | None = None,
    y_min: ArrayLike = -jnp.inf,
    y_max: ArrayLike = jnp.inf,
    increasing: bool = True,
) -> Float[Array, " n"]:
    """The nearest rising vector in the sense of the relative entropy, for logarithms.

    Arguments:
        y: logarithms, **shape** (n,); `jax.vmap` for many.
        w: logarithms of weights, **shape** (n,); `None`: 0.
        y_min: the smallest value allowed.
        y_max: the largest value allowed.
        increasing: False: one whose entries only fall.

    Returns:
        argmin of sum exp(y_i - v_i) + exp(w_i) v_i over y_min <= v_1 <= ... <= v_n <= y_max,
        **shape** (n,).

    Raises:
        InputError: if y_min is above y_max, a number is not finite, or shapes differ.

    A block's value is logsumexp(y) - logsumexp(w) of its entries: Blondel et al. 2020, arXiv
    2002.08871, section 5.
    """
    y = vector("y", y)
    w = jnp.zeros_like(y) if w is None else vector("w", w).astype(y.dtype)
    if w.shape != y.shape:
        raise InputError(f"w has shape {w.shape}: give that of y, {y.shape}")
    lower, upper = _range(y_min, y_max, y.dtype)
    return _log_ratios(y, w, lower, upper, _sign(increasing))


@functools.partial(jax.jit, static_argnames="sign")
def _log_ratios(
    y: Float[Array, " n"],
    w: Float[Array, " n"],
    lower: Float[Array, ""],
    upper: Float[Array, ""],
    sign: int,
) -> Float[Array, " n"]:
    """The nearest vector in the relative entropy: logarithms of ratios of sums over blocks."""
    if sign > 0:
        blocks = _blocks(y, w, jnp.logaddexp, jnp.subtract)
    else:
        blocks = _blocks(w, y, jnp.logaddexp, jnp.subtract)

    def logsumexp(values: Array) -> Array:
        known = jax.lax.stop_gradient(values)
        largest = jax.ops.segment_max(known, blocks, len(y), indices_are_sorted=True)
        relative = jnp.exp(values - largest[blocks])
        sums = jax.ops.segment_sum(relative, blocks, len(y), indices_are_sorted=True)
        return largest[blocks] + jnp.log(sums[blocks])

    return jnp.clip(logsumexp(y) - logsumexp(w), lower, upper)


def _sign(increasing: bool) -> int:
    return 1 if boolean(increasing, "increasing") else -1


def _range(y_min: ArrayLike, y_max: ArrayLike, dtype: jnp.dtype) -> tuple[Array, Array]:
    lower, upper = number("y_min", y_min, dtype), number("y_max", y_max, dtype)
    message = "y_min is above y_max or not a number, which leaves no value; exchange them."
    ordered = jnp.less_equal if is_traced((lower, upper)) else np.less_equal
    return require((lower, upper), ordered(lower, upper), message)


def _sizes(blocks: Int[Array, " n"], dtype: jnp.dtype) -> Array:
    """Entries in each block; 1 where there is no block."""
    counts = jax.ops.segment_sum(
        jnp.ones(len(blocks), dtype), blocks, len(blocks), indices_are_sorted=True
    )
    return jnp.maximum(counts, 1)


class _Stack(NamedTuple):
    """Blocks below the one on top, and this one by itself.

    Of each block two statistics, whose quotient or difference is its value, and its first entry.
    """

    blocks: Float[Array, "3 n"]
    height: Int[Array, ""]  # blocks below the one on top
    top: Float[Array, "3"]
    taken: Int[Array, ""]  # entries in blocks


def _blocks(first: Array, second: Array, merge: Merge, value: Merge) -> Int[Array, " n"]:
    """The number of the block that each entry belongs to, for values that shall only rise."""
    size = len(first)
    if size * float(jnp.finfo(first.dtype).eps) > 1:
        raise InputError(f"y has {size} numbers, too many to count in {first.dtype}: give float64")
    # One array for all, of which three numbers are written in a step: XLA does that in place.
    entries = jax.lax.stop_gradient(jnp.stack([first, second, jnp.arange(size, dtype=first.dtype)]))
    rows = jnp.arange(3)

    # In every step the same is done, whether it merges or takes an entry, so that a batch takes no
    # more steps than one vector.
    def step(_: Array, s: _Stack) -> _Stack:
        below = jnp.maximum(s.height - 1, 0)
        under = s.blocks[rows, below]
        merges = (s.height > 0) & (value(under[0], under[1]) > value(s.top[0], s.top[1]))
        takes = ~merges & (s.taken < size)
        together = jnp.stack([merge(under[0], s.top[0]), merge(under[1], s.top[1]), under[2]])
        entry = entries[:, jnp.minimum(s.taken, size - 1)]
        place = jnp.where(takes, s.height, below)
        return _Stack(
            s.blocks.at[rows, place].set(jnp.where(takes, s.top, under)),
            s.height + jnp.where(takes, 1, jnp.where(merges, -1, 0)),
            jnp.where(merges, together, jnp.where(takes, entry, s.top)),
            s.taken + takes.astype(int),
        )

    stack = _Stack(jnp.zeros_like(entries), jnp.asarray(0), entries[:, 0], jnp.asarray(1))
    stack = jax.lax.fori_loop(0, 2 * size - 2, step, stack)
    starts = jnp.where(jnp.arange(size) < stack.height, stack.blocks[2], size).astype(int)
    marks = jnp.zeros(size, int).at[starts].set(1, mode="drop")
    return jnp.cumsum(marks.at[stack.top[2].astype(int)].set(1)) - 1
