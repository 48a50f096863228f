"""Euclidean projections onto the cones of conic programs, their duals and their products."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from mdsens.errors import InputError
from mdsens.layers.parameters import norm, vector
from mdsens.values import integer, shown

__all__ = [
    "Cones",
    "projection_cone",
    "projection_dual_cone",
    "projection_exponential_cone",
    "projection_second_order_cone",
]


@dataclass(frozen=True)
class Cones:
    """A product of cones; a vector in it lists its parts in the order of SCS and Clarabel.

    Attributes:
        zero: the number of entries that are 0; they are free in the dual.
        nonnegative: the number of entries >= 0.
        second_order: the length of each second-order cone { (t, z): |z| <= t }, at least 1.
        exponential: the number of exponential cones, the closures of
            { (x, y, z): y > 0, y exp(x / y) <= z }, of three entries each.
    """

    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    exponential: int = 0

    def __post_init__(self) -> None:
        for name in ("zero", "nonnegative", "exponential"):
            object.__setattr__(self, name, integer(getattr(self, name), name, at_least=0))
        lengths = self.second_order
        if isinstance(lengths, str) or not isinstance(lengths, Iterable):
            raise InputError(f"second_order = {shown(lengths)}: give the lengths in a tuple")
        lengths = tuple(
            integer(length, "a length of second_order", at_least=1) for length in lengths
        )
        object.__setattr__(self, "second_order", lengths)

    @property
    def dimension(self) -> int:
        """The length of a vector in the product."""
        return self.zero + self.nonnegative + sum(self.second_order) + 3 * self.exponential


def projection_cone(x: Real[ArrayLike, "n"], cones: Cones) -> Float[Array, "n"]:
    """The nearest point of a product of cones.

    Arguments:
        x: the vector to project, **shape** (n,).
        cones: the cones whose parts make up `x`, in their order; n is `cones.dimension`.

    Returns:
        A vector of **shape** (n,). On the boundary of a cone the derivative is one of the
        generalised Jacobian.

    Raises:
        InputError: if the length of `x` is not that of the product.
    """
    return _product(x, cones, jnp.zeros_like)


def projection_dual_cone(x: Real[ArrayLike, "n"], cones: Cones) -> Float[Array, "n"]:
    """The nearest point of the dual of a product of cones, { y: y . s >= 0 for all s in it }.

    Arguments:
        x: the vector to project, **shape** (n,).
        cones: the cones whose duals' parts make up `x`, in their order.

    Returns:
        A vector of **shape** (n,).

    Raises:
        InputError: if the length of `x` is not that of the product.

    Moreau's decomposition x = P(x) - P*(-x), with P onto the cone and P* onto its dual. The cone
    { 0 } has the whole space for its dual, the non-negative and second-order ones themselves.
    """
    return _product(x, cones, lambda part: part, dual=True)


def projection_second_order_cone(x: Real[ArrayLike, "n"]) -> Float[Array, "n"]:
    """The nearest point of the second-order cone { (t, z): |z| <= t }, with t the first entry.

    Arguments:
        x: the vector (t, z) to project, **shape** (n,), t first as in SCS and Clarabel.

    Returns:
        A vector of **shape** (n,).

    Raises:
        InputError: if `x` is not a vector.

    Projection and derivative: Ali, Wong and Kolter 2017, arXiv 1511.02204.
    """
    return _second_order(vector("x", x))


def projection_exponential_cone(x: Real[ArrayLike, "3"]) -> Float[Array, "3"]:
    """The nearest point of the exponential cone, the closure of { y > 0, y exp(x / y) <= z }.

    Arguments:
        x: the vector (x, y, z) to project, **shape** (3,), in the order of SCS and Clarabel.

    Returns:
        A vector of **shape** (3,), accurate to rounding relative to the largest entry of `x`.

    Raises:
        InputError: if `x` has not three entries.

    The root of one increasing function: Friberg 2023, Optim. Methods Softw. 38, 457.
    """
    x = vector("x", x)
    if x.size != 3:
        raise InputError(f"x has shape {x.shape}; allowed is (3,): the numbers x, y and z.")
    return _exponential(x)


def _product(
    x: ArrayLike, cones: Cones, zero_part: Callable[[Array], Array], dual: bool = False
) -> Array:
    """Every part projected; equal neighbours at once."""
    x = vector("x", x)
    if x.size != cones.dimension:
        raise InputError(
            f"x has {x.size} entries; allowed are {cones.dimension}, the dimension of {cones}."
        )
    zero, rest = jnp.split(x, [cones.zero])
    positive, rest = jnp.split(rest, [cones.nonnegative])
    parts = [zero_part(zero), jnp.where(positive <= 0, 0, positive)]
    for length, group in itertools.groupby(cones.second_order):
        count = len(list(group))
        several, rest = jnp.split(rest, [count * length])
        parts.append(jax.vmap(_second_order)(several.reshape(count, length)).ravel())
    if cones.exponential:
        triples = rest.reshape(cones.exponential, 3)
        project = jax.vmap(_exponential)
        parts.append((triples + project(-triples) if dual else project(triples)).ravel())
    return jnp.concatenate(parts)


def _second_order(x: Array) -> Array:
    t, z = x[0], x[1:]
    length = norm(z) if z.size else jnp.zeros_like(t)
    safe = jnp.where(length == 0, 1, length)
    on_boundary = jnp.concatenate([jnp.ones_like(x, shape=1), z / safe]) * (t + length) / 2
    return jnp.where(length <= t, x, jnp.where(length <= -t, 0, on_boundary))


def _exponential(v: Array) -> Array:
    """The projection of (r, s, t); letters and signs are those of Friberg.

    The projection and what it takes away are multiples of (e^rho, 1, rho) and of
    (-e^-rho, 1 - rho, 1) in the order t, s, r. The entries s and r of their sum give the two
    multiples as functions of rho; entry t gives rho.
    """
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(v)))
    scale = jnp.where(scale == 0, 1, scale)
    r, s, t = v / scale
    safe_s, safe_r = jnp.where(s == 0, 1, s), jnp.where(r == 0, 1, r)
    inside = (s > 0) & (t >= s * jnp.exp(r / safe_s))
    polar = (r > 0) & (-t >= r * jnp.exp(s / safe_r - 1))
    face = (s <= 0) & (r <= 0)

    # Both multiples are positive between these two. Beyond the limit the cone cannot be told from
    # its flat faces.
    limit = -2 * math.log(jnp.finfo(v.dtype).eps)
    least = jnp.where(r > 0, 1 - s / safe_r, -jnp.inf)
    most = jnp.where(s > 0, r / safe_s, jnp.inf)
    low = (most <= -limit) | ((least < -limit) & (_excess(-limit, r, s, t) >= 0))
    high = (least >= limit) | ((most > limit) & (_excess(limit, r, s, t) <= 0))

    # A harmless point stands in where there is no root, so that its derivatives stay finite.
    smooth = ~(inside | polar | face | low | high)
    bracket = jnp.where(
        smooth, jnp.clip(jnp.stack([least, most]), -limit, limit), jnp.array([0, 1], v.dtype)
    )
    r_safe, s_safe, t_safe = jnp.where(smooth, jnp.stack([r, s, t]), jnp.array([1, 1, 0], v.dtype))
    rho = _root(r_safe, s_safe, t_safe, jax.lax.stop_gradient(bracket))
    primal, dual = _multiples(r_safe, s_safe, rho)
    decay = jnp.exp(-jnp.abs(rho))
    # Each of the two ways to compute entry t cancels where the other does not.
    height = jnp.where(rho > 0, t_safe + dual * decay, primal * decay)

    zero, rises = jnp.zeros_like(t), jnp.where(t <= 0, 0, t)
    projected = jnp.select(
        [polar, face, low, high],
        [
            jnp.zeros_like(v),
            jnp.stack([r, zero, rises]),
            jnp.stack([r, s, rises]),
            jnp.stack([zero, zero, rises]),
        ],
        jnp.stack([r_safe - dual, primal, height]),
    )
    return jnp.where(inside, v, scale * projected)


def _multiples(r: Array, s: Array, rho: Array | float) -> tuple[Any, Any]:
    """How much of (e^rho, 1, rho) and of (-e^-rho, 1 - rho, 1) there is in entries s and r."""
    determinant = rho * (rho - 1) + 1
    return ((rho - 1) * r + s) / determinant, (r - rho * s) / determinant


def _excess(rho: Array | float, r: Array, s: Array, t: Array) -> Any:
    """Entry t of the sum, less what it has to be; it increases with rho."""
    primal, dual = _multiples(r, s, rho)
    return primal * jnp.exp(rho) - dual * jnp.exp(-rho) - t


def _excess_and_slope(rho: Array, r: Array, s: Array, t: Array) -> tuple[Array, Array]:
    return jax.jvp(lambda rho: _excess(rho, r, s, t), (rho,), (jnp.ones_like(rho),))


@jax.custom_jvp
def _root(r: Array, s: Array, t: Array, bracket: Array) -> Array:
    """The rho in the bracket at which the excess vanishes."""

    def go_on(state: tuple[Array, ...]) -> Array:
        low, high, rho, step, count = state
        tiny = 2 * jnp.finfo(rho.dtype).eps * jnp.maximum(jnp.abs(rho), 1)
        return (count < 200) & (high - low > tiny) & (jnp.abs(step) > tiny)

    def refine(state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, rho, step, count = state
        value, slope = _excess_and_slope(rho, r, s, t)
        low, high = jnp.where(value <= 0, rho, low), jnp.where(value >= 0, rho, high)
        newton = rho - value / slope
        # Newton's method crawls along an exponential, with steps that do not shrink.
        shrinks = jnp.abs(newton - rho) <= jnp.abs(step) / 2
        usable = (newton >= low) & (newton <= high) & shrinks
        new = jnp.where(usable, newton, (low + high) / 2)
        return low, high, new, new - rho, count + 1

    low, high = bracket
    state: tuple[Array, ...] = (
        low,
        high,
        (low + high) / 2,
        jnp.full_like(r, jnp.inf),
        jnp.asarray(0),
    )
    return jax.lax.while_loop(go_on, refine, state)[2]


@_root.defjvp
def _root_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    rho = _root(*primals)
    _, slope = _excess_and_slope(rho, *primals[:3])
    _, change = jax.jvp(lambda *v: _excess(rho, *v), primals[:3], tangents[:3])
    return rho, -change / slope
