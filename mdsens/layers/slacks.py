"""Slacks of rows with bounds, and Newton steps on them, which both interior-point methods take.

For rows r with lower <= r <= upper there are slacks r - lower and upper - r with multipliers, both
positive, whose products fall to zero; equations enter through proximal terms.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["Point", "Sides", "moved", "multipliers", "share_to_boundary"]


class Point(NamedTuple):
    """What a step changes; where a bound is absent the slack is 1 and the multiplier 0."""

    x: Float[Array, " n"]
    y: Float[Array, " m"]  # of equations
    slack_lower: Float[Array, " m"]
    slack_upper: Float[Array, " m"]
    y_lower: Float[Array, " m"]
    y_upper: Float[Array, " m"]


class Sides(NamedTuple):
    """Which bounds there are, with zeros for those that there are not."""

    equal: Bool[Array, " m"]
    has_lower: Bool[Array, " m"]
    has_upper: Bool[Array, " m"]
    target: Float[Array, " m"]
    lower: Float[Array, " m"]
    upper: Float[Array, " m"]

    @staticmethod
    def between(lower: Float[Array, " m"], upper: Float[Array, " m"]) -> "Sides":
        """Those of rows between bounds, which may be infinite or the same."""
        equal = lower == upper
        has_lower, has_upper = jnp.isfinite(lower) & ~equal, jnp.isfinite(upper) & ~equal
        return Sides(
            equal, has_lower, has_upper, jnp.where(equal, lower, 0),
            jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0),
        )  # fmt: skip

    def residuals(self, point: Point, rows: Float[Array, " m"]) -> tuple[Array, Array, Array]:
        """What equations, and slacks of lower and upper bounds, miss."""
        return (
            jnp.where(self.equal, rows - self.target, 0),
            jnp.where(self.has_lower, rows - self.lower - point.slack_lower, 0),
            jnp.where(self.has_upper, self.upper - rows - point.slack_upper, 0),
        )

    def weights(self, point: Point, proximal: float) -> Float[Array, " m"]:
        """The curvature that each row adds along its gradient."""
        of_sides = point.y_lower / point.slack_lower + point.y_upper / point.slack_upper
        return of_sides + jnp.where(self.equal, 1 / proximal, 0)

    def direction(
        self,
        point: Point,
        residuals: tuple[Array, Array, Array],
        centre_lower: Array,
        centre_upper: Array,
        proximal: float,
        solve: Callable[[Array], tuple[Array, Array]],
    ) -> Point:
        """The Newton step on residuals, and on slack * multiplier = what is given.

        Arguments:
            point: where.
            residuals: of the rows, see `residuals`.
            centre_lower: what the products at lower bounds are to be, a number or (m,).
            centre_upper: likewise at upper bounds.
            proximal: of the equations.
            solve: a push on the rows (m,) -> what x and what the rows change.
        """
        equation, below, above = residuals
        push_lower = (centre_lower - point.y_lower * below) / point.slack_lower - point.y_lower
        push_upper = (centre_upper - point.y_upper * above) / point.slack_upper - point.y_upper
        push_lower = jnp.where(self.has_lower, push_lower, 0)
        push_upper = jnp.where(self.has_upper, push_upper, 0)
        dx, dr = solve(equation / proximal + push_upper - push_lower)
        return Point(
            dx,
            jnp.where(self.equal, (dr + equation) / proximal, 0),
            jnp.where(self.has_lower, below + dr, 0),
            jnp.where(self.has_upper, above - dr, 0),
            jnp.where(self.has_lower, push_lower - point.y_lower * dr / point.slack_lower, 0),
            jnp.where(self.has_upper, push_upper + point.y_upper * dr / point.slack_upper, 0),
        )


def multipliers(point: Point) -> Float[Array, " m"]:
    """Of the rows, positive where the upper bound holds them back."""
    return point.y + point.y_upper - point.y_lower


def share_to_boundary(values: tuple[Array, ...], changes: tuple[Array, ...]) -> Float[Array, ""]:
    """The share of a step at which the first positive value vanishes; infinite where none does."""
    value, change = jnp.concatenate(values), jnp.concatenate(changes)
    ratios = jnp.where(change < 0, -value / jnp.where(change < 0, change, 1), jnp.inf)
    return jnp.min(ratios, initial=jnp.inf)


def moved(point: Point, step: Point, length: Array) -> Point:
    """The point after a share of a step."""
    return Point(*(value + length * change for value, change in zip(point, step, strict=True)))
