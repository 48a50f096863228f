"""A primal-dual interior-point method for convex quadratic programs, dense and in JAX.

Mehrotra's predictor and corrector (Mehrotra 1992, SIAM J. Optim. 2, 575) as OptNet (Amos and Kolter
2017, arXiv 1703.00443) and qpax (Tracy and Manchester 2024, arXiv 2406.11749) batch it. Equations
enter through proximal terms (Pougkakiotis and Gondzio 2021, Comput. Optim. Appl. 78, 307), so that
dependent rows and matrices without full rank do no harm and each iteration factorises one matrix of
the size of x.
"""

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
from mdsens.layers.slacks import Point, Sides, moved, multipliers, share_to_boundary

__all__ = ["interior_point"]

_STEP_TO_BOUNDARY = 0.995
_CERTIFICATE = 1e-7
_WEAK_CERTIFICATE = 1e-4


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
    bounds = Sides.between(lower, upper)
    equal, has_lower, has_upper, _, lower, upper = bounds
    sides = jnp.maximum(jnp.sum(has_lower) + jnp.sum(has_upper), 1).astype(Q.dtype)
    proximal = float(jnp.finfo(c.dtype).eps) ** 0.5
    Q_proximal = Q + proximal * jnp.eye(len(c), dtype=c.dtype)

    def factorise(weights: Array) -> Array:
        return jnp.linalg.cholesky(Q_proximal + A.T @ (weights[:, None] * A))

    def solve(factor: Array, b: Array) -> Array:
        return jax.scipy.linalg.cho_solve((factor, True), b)

    def complementarity(point: Point) -> Array:
        products = point.slack_lower @ point.y_lower + point.slack_upper @ point.y_upper
        return products / sides

    def error(point: Point) -> Array:
        z, gradient, pull = A @ point.x, Q @ point.x, multipliers(point) @ A
        rows, stationarity = bounds.residuals(point, z), gradient + c + pull
        size = jnp.maximum(largest(c), jnp.maximum(largest(gradient), largest(pull)))
        infeasibility = jnp.max(jnp.stack([largest(row) for row in rows])) / (1 + largest(z))
        gap = complementarity(point) / (1 + jnp.abs(c @ point.x) + jnp.abs(gradient @ point.x))
        return jnp.maximum(largest(stationarity) / (1 + size), jnp.maximum(infeasibility, gap))

    def direction(point: Point, factor: Array, centre_lower: Array, centre_upper: Array) -> Point:
        """The Newton step on the residuals and on slack * multiplier = 0 plus what is given."""
        stationarity = Q @ point.x + c + multipliers(point) @ A
        rows = bounds.residuals(point, A @ point.x)

        def pushed(push: Array) -> tuple[Array, Array]:
            dx = solve(factor, -stationarity - push @ A)
            return dx, A @ dx

        return bounds.direction(point, rows, centre_lower, centre_upper, proximal, pushed)

    def longest_step(point: Point, step: Point) -> Array:
        """The largest fraction of the step, up to 1, that keeps slacks and multipliers positive."""
        return jnp.minimum(1, share_to_boundary(point[2:], step[2:]))

    def iterate(state: tuple[Point, Array, Array, Array]) -> tuple[Point, Array, Array, Array]:
        point, _, _, count = state
        factor = factorise(bounds.weights(point, proximal))
        nothing = jnp.zeros_like(lower)
        affine = direction(point, factor, nothing, nothing)
        gap = complementarity(point)
        affine_gap = complementarity(moved(point, affine, longest_step(point, affine)))
        centre = gap * jnp.clip(affine_gap / jnp.where(gap > 0, gap, 1), 0, 1) ** 3
        step = direction(
            point,
            factor,
            jnp.where(has_lower, centre - affine.slack_lower * affine.y_lower, 0),
            jnp.where(has_upper, centre - affine.slack_upper * affine.y_upper, 0),
        )
        length = longest_step(point, step)
        new = moved(point, step, jnp.where(length < 1, _STEP_TO_BOUNDARY * length, 1))
        finite = jnp.all(jnp.isfinite(jnp.concatenate(new)))
        new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, point)
        status = verdict(new, jnp.where(finite, SOLVED, UNSOLVED), _CERTIFICATE)
        return new, error(new), status, count + 1

    def verdict(point: Point, status: Array, tolerance: float) -> Int[Array, ""]:
        unbounded = proves_unbounded(program, point.x, tolerance)
        infeasible = proves_infeasible(program, multipliers(point), tolerance)
        return jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, status))

    def goes_on(state: tuple[Point, Array, Array, Array]) -> Bool[Array, ""]:
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
    start = Point(
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
