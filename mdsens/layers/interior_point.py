"""A primal-dual interior-point method for convex quadratic programs, dense and in JAX.

Mehrotra's predictor and corrector (Mehrotra 1992, SIAM J. Optim. 2, 575) as OptNet (Amos and Kolter
2017, arXiv 1703.00443) and qpax (Tracy and Manchester 2024, arXiv 2406.11749) batch it. Equations
enter through proximal terms (Pougkakiotis and Gondzio 2021, Comput. Optim. Appl. 78, 307), so that
dependent rows and matrices without full rank do no harm and each iteration factorises one matrix of
the size of x.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.layers.program import (
    INFEASIBLE,
    SOLVED,
    UNBOUNDED,
    UNSOLVED,
    Program,
    largest,
    proves_infeasible,
    proves_unbounded,
)

__all__ = ["interior_point"]

_STEP_TO_BOUNDARY = 0.995
_CERTIFICATE = 1e-7
_WEAK_CERTIFICATE = 1e-4


class _Point(NamedTuple):
    """Everything that a step changes; where a bound is absent the slack is 1, the multiplier 0."""

    x: Float[Array, " n"]
    y: Float[Array, " m"]  # of equations
    slack_lower: Float[Array, " m"]
    slack_upper: Float[Array, " m"]
    y_lower: Float[Array, " m"]
    y_upper: Float[Array, " m"]


def interior_point(
    program: Program, tol: float, maxiter: int
) -> tuple[Float[Array, " n"], Float[Array, " m"], Int[Array, ""], Int[Array, ""]]:
    """Solve a quadratic program.

    Arguments:
        program: rows of norm 1 and an objective of magnitude 1 are what the proximal terms expect.
        tol: relative residual and complementarity at which to stop.
        maxiter: most iterations.

    Returns:
        x (n,), the multipliers (m,) of the rows, a status of `mdsens.layers.program`, and the
        number of iterations.
    """
    Q, c, A, lower, upper = program
    equal = lower == upper
    has_lower = jnp.isfinite(lower) & ~equal
    has_upper = jnp.isfinite(upper) & ~equal
    target = jnp.where(equal, lower, 0)
    lower, upper = jnp.where(has_lower, lower, 0), jnp.where(has_upper, upper, 0)
    sides = jnp.maximum(jnp.sum(has_lower) + jnp.sum(has_upper), 1).astype(Q.dtype)
    proximal = jnp.finfo(c.dtype).eps ** 0.5
    Q_proximal = Q + proximal * jnp.eye(len(c), dtype=c.dtype)

    def factorise(weights: Array) -> Array:
        return jnp.linalg.cholesky(Q_proximal + A.T @ (weights[:, None] * A))

    def solve(factor: Array, b: Array) -> Array:
        return jax.scipy.linalg.cho_solve((factor, True), b)

    def multipliers(point: _Point) -> Array:
        return point.y + point.y_upper - point.y_lower

    def complementarity(point: _Point) -> Array:
        products = point.slack_lower @ point.y_lower + point.slack_upper @ point.y_upper
        return products / sides

    def residuals(point: _Point) -> tuple[Array, Array, Array, Array]:
        z = A @ point.x
        return (
            Q @ point.x + c + multipliers(point) @ A,
            jnp.where(equal, z - target, 0),
            jnp.where(has_lower, z - lower - point.slack_lower, 0),
            jnp.where(has_upper, upper - z - point.slack_upper, 0),
        )

    def error(point: _Point) -> Array:
        stationarity, *rows = residuals(point)
        z, gradient, pull = A @ point.x, Q @ point.x, multipliers(point) @ A
        size = jnp.maximum(largest(c), jnp.maximum(largest(gradient), largest(pull)))
        infeasibility = jnp.max(jnp.stack([largest(row) for row in rows])) / (1 + largest(z))
        gap = complementarity(point) / (1 + jnp.abs(c @ point.x) + jnp.abs(gradient @ point.x))
        return jnp.maximum(largest(stationarity) / (1 + size), jnp.maximum(infeasibility, gap))

    def direction(point: _Point, factor: Array, centre_lower: Array, centre_upper: Array) -> _Point:
        """The Newton step on the residuals and on slack * multiplier = 0 plus what is given."""
        stationarity, equation, below, above = residuals(point)
        push_lower = (centre_lower - point.y_lower * below) / point.slack_lower - point.y_lower
        push_upper = (centre_upper - point.y_upper * above) / point.slack_upper - point.y_upper
        push = equation / proximal + push_upper - push_lower
        dx = solve(factor, -stationarity - push @ A)
        dz = A @ dx
        return _Point(
            dx,
            jnp.where(equal, (dz + equation) / proximal, 0),
            jnp.where(has_lower, below + dz, 0),
            jnp.where(has_upper, above - dz, 0),
            jnp.where(has_lower, push_lower - point.y_lower * dz / point.slack_lower, 0),
            jnp.where(has_upper, push_upper + point.y_upper * dz / point.slack_upper, 0),
        )

    def longest_step(point: _Point, step: _Point) -> Array:
        """The largest fraction of the step, up to 1, that keeps slacks and multipliers positive."""
        values, changes = jnp.concatenate(point[2:]), jnp.concatenate(step[2:])
        ratios = jnp.where(changes < 0, -values / jnp.where(changes < 0, changes, 1), jnp.inf)
        return jnp.minimum(1, jnp.min(ratios, initial=jnp.inf))

    def move(point: _Point, step: _Point, length: Array) -> _Point:
        return _Point(*(value + length * change for value, change in zip(point, step, strict=True)))

    def iterate(state: tuple[_Point, Array, Array, Array]) -> tuple[_Point, Array, Array, Array]:
        point, _, _, count = state
        weights = point.y_lower / point.slack_lower + point.y_upper / point.slack_upper
        factor = factorise(weights + jnp.where(equal, 1 / proximal, 0))
        nothing = jnp.zeros_like(lower)
        affine = direction(point, factor, nothing, nothing)
        gap = complementarity(point)
        affine_gap = complementarity(move(point, affine, longest_step(point, affine)))
        centre = gap * jnp.clip(affine_gap / jnp.where(gap > 0, gap, 1), 0, 1) ** 3
        step = direction(
            point,
            factor,
            jnp.where(has_lower, centre - affine.slack_lower * affine.y_lower, 0),
            jnp.where(has_upper, centre - affine.slack_upper * affine.y_upper, 0),
        )
        length = longest_step(point, step)
        new = move(point, step, jnp.where(length < 1, _STEP_TO_BOUNDARY * length, 1))
        finite = jnp.all(jnp.isfinite(jnp.concatenate(new)))
        new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, point)
        status = verdict(new, jnp.where(finite, SOLVED, UNSOLVED), _CERTIFICATE)
        return new, error(new), status, count + 1

    def verdict(point: _Point, status: Array, tolerance: float) -> Int[Array, ""]:
        unbounded = proves_unbounded(program, point.x, tolerance)
        infeasible = proves_infeasible(program, multipliers(point), tolerance)
        return jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, status))

    def goes_on(state: tuple[_Point, Array, Array, Array]) -> Bool[Array, ""]:
        _, reached, status, count = state
        return (reached > tol) & (status == SOLVED) & (count < maxiter)

    # Start where all rows act as springs of strength 1 towards their interval, and far enough
    # inside all bounds that the first steps are long.
    springs = jnp.where(equal, 1 / proximal, jnp.where(has_lower | has_upper, 1.0, 0.0))
    rest = jnp.clip(0, program.lower, program.upper)
    x = solve(factorise(springs), (springs * rest) @ A - c)
    z = A @ x
    deep = jnp.maximum(jnp.where(has_lower, lower - z, 0), jnp.where(has_upper, z - upper, 0))
    margin = jnp.maximum(1, largest(jnp.maximum(deep, 0)))
    start = _Point(
        x,
        jnp.zeros_like(lower),
        jnp.where(has_lower, jnp.maximum(z - lower, margin), 1),
        jnp.where(has_upper, jnp.maximum(upper - z, margin), 1),
        jnp.where(has_lower, 1, 0).astype(c.dtype),
        jnp.where(has_upper, 1, 0).astype(c.dtype),
    )
    usable = jnp.all(jnp.isfinite(x))
    status = jnp.where(usable, SOLVED, UNSOLVED)
    point, reached, status, count = jax.lax.while_loop(
        goes_on, iterate, (start, jnp.asarray(jnp.inf, c.dtype), status, jnp.asarray(0))
    )
    # Iterates that diverge until they overflow tell why, if less clearly.
    failed = (status == UNSOLVED) | ((status == SOLVED) & ~(reached <= tol))
    status = jnp.where(failed, verdict(point, jnp.asarray(UNSOLVED), _WEAK_CERTIFICATE), status)
    return point.x, multipliers(point), status, count
