"""A primal-dual interior-point method for nonlinear programs, dense and in JAX.

Newton steps on the barrier problem with the exact Hessian of the Lagrangian, which is shifted
until the step descends (Wächter & Biegler 2006, Math. Program. 106, 25, algorithm IC), a line
search on an l1 merit function with a second-order correction, and their rule for the barrier
(equation 7).
Equations enter through proximal terms, so that one Cholesky factor of the size of x serves a step,
dependent rows do no harm, and a factor that exists says that the step descends.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.layers.nonlinear_kkt import Functions, Local, linearised, violation
from mdsens.layers.program import INFINITE, SOLVED, UNBOUNDED, UNSOLVED, largest
from mdsens.layers.slacks import Point, Sides, moved, multipliers, share_to_boundary

__all__ = ["nonlinear_interior_point"]

_ARMIJO = 1e-4
_BACKTRACKS = 30
_FAILURES = 8
_SHIFTS = 60


class _State(NamedTuple):
    point: Point
    local: Local  # the functions there: one copy of them to compile
    barrier: Float[Array, ""]
    penalty: Float[Array, ""]
    shift: Float[Array, ""]  # the last one that was needed
    least_shift: Float[Array, ""]  # what the next step begins with
    failures: Int[Array, ""]
    iterations: Int[Array, ""]
    error: Float[Array, ""]


def nonlinear_interior_point(
    functions: Functions, x: Float[Array, " n"], tol: float, maxiter: int
) -> tuple[Float[Array, " n"], Float[Array, " m"], Int[Array, ""], Int[Array, ""]]:
    """Find a local minimum.

    Arguments:
        functions: the program; f and r are evaluated strictly inside the box alone.
        x: where to begin, (n,).
        tol: stationarity, infeasibility and complementarity at which to stop.
        maxiter: most iterations.

    Returns:
        x (n,), the multipliers (m,) of the rows, a status of `mdsens.layers.program`, and the
        number of iterations.
    """
    x = _inside(functions, x)
    scaled, objective_scale, row_scale = _rescaled(functions, x)
    dtype = x.dtype
    epsilon = float(jnp.finfo(dtype).eps)
    proximal = epsilon**0.5
    bounds = Sides.between(scaled.lower, scaled.upper)
    _, has_lower, has_upper, _, lower, upper = bounds

    def error(point: Point, slope: Array, r: Array, barrier: Array | float) -> Array:
        y = multipliers(point)
        weight = jnp.maximum(100, jnp.mean(jnp.abs(y))) / 100 if y.size else 1.0
        missed = largest(jnp.concatenate(bounds.residuals(point, r)))
        gaps = [
            largest(jnp.where(has_lower, point.slack_lower * point.y_lower - barrier, 0)),
            largest(jnp.where(has_upper, point.slack_upper * point.y_upper - barrier, 0)),
        ]
        complementarity = jnp.maximum(*gaps) / weight
        return jnp.maximum(jnp.maximum(largest(slope) / weight, missed), complementarity)

    def merit(point: Point, barrier: Array, penalty: Array) -> tuple[Array, Array, Any]:
        value, r = scaled.objective(point.x), scaled.rows(point.x)
        inside = jnp.sum(jnp.log(point.slack_lower)) + jnp.sum(jnp.log(point.slack_upper))
        left = bounds.residuals(point, r)
        missed = sum((jnp.sum(jnp.abs(part)) for part in left), jnp.zeros((), dtype))
        return value - barrier * inside + penalty * missed, missed, (r, left)

    def factorised(matrix: Array, state: _State) -> tuple[Array, Array]:
        """A factor of the matrix with the smallest shift, among those tried, that has one."""
        size = jnp.maximum(largest(jnp.diagonal(matrix)), 1e-8)
        identity = jnp.eye(len(matrix), dtype=dtype)

        def factor_of(shift: Array) -> Array:
            # A part of the matrix is rounding, below which a shift is of no use.
            return jnp.linalg.cholesky(matrix + (shift + epsilon * size) * identity)

        def next_try(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            shift, _, count = carry
            first = jnp.where(state.shift > 0, jnp.maximum(1e-12, state.shift / 3), 1e-4)
            shift = jnp.where(shift == 0, first, 8 * shift)
            return shift, factor_of(shift), count + 1

        def fails(carry: tuple[Array, Array, Array]) -> Bool[Array, ""]:
            return ~jnp.all(jnp.isfinite(carry[1])) & (carry[2] < _SHIFTS)

        start = (state.least_shift, factor_of(state.least_shift), jnp.asarray(0))
        shift, factor, _ = jax.lax.while_loop(fails, next_try, start)
        return factor, shift

    def longest(values: tuple[Array, ...], changes: tuple[Array, ...], keep: Array) -> Array:
        return jnp.minimum(1, keep * share_to_boundary(values, changes)).astype(dtype)

    def iterate(state: _State) -> _State:
        point, barrier = state.point, state.barrier
        slope, r, jacobian, hessian = state.local
        # The barrier falls once its problem is solved well enough.
        done = error(point, slope, r, barrier) <= 10 * barrier
        smaller = jnp.maximum(tol / 10, jnp.minimum(0.2 * barrier, barrier**1.5))
        barrier = jnp.where(done, smaller, barrier)
        penalty = jnp.where(done, 1.0, state.penalty).astype(dtype)

        weights = bounds.weights(point, proximal)
        curvature = hessian + jacobian.T @ (weights[:, None] * jacobian)
        factor, shift = factorised(curvature, state)

        def pushed(push: Array) -> tuple[Array, Array]:
            dx = jax.scipy.linalg.cho_solve((factor, True), -slope - push @ jacobian)
            return dx, jacobian @ dx

        def direction(*left: Array) -> Point:
            equation, below, above = left
            rows = (equation, below, above)
            return bounds.direction(point, rows, barrier, barrier, proximal, pushed)

        left = bounds.residuals(point, r)
        step = direction(*left)
        gradient = slope - multipliers(point) @ jacobian
        fall = gradient @ step.x - barrier * (
            jnp.sum(step.slack_lower / point.slack_lower)
            + jnp.sum(step.slack_upper / point.slack_upper)
        )
        missed = sum((jnp.sum(jnp.abs(part)) for part in left), jnp.zeros((), dtype))
        bend = jnp.maximum(step.x @ (hessian @ step.x) + shift * step.x @ step.x, 0)
        needed = (fall + bend / 2) / (0.7 * jnp.where(missed > 0, missed, 1))
        penalty = jnp.where((missed > 0) & (needed > penalty), 1.5 * needed, penalty)
        rate = jnp.minimum(fall - penalty * missed, 0)

        keep = jnp.maximum(0.99, 1 - barrier).astype(dtype)
        slacks = (point.slack_lower, point.slack_upper)
        full = longest(slacks, (step.slack_lower, step.slack_upper), keep)
        before, *_ = merit(point, barrier, penalty)
        rounding = 10 * epsilon * (jnp.abs(before) + penalty * missed)

        def accepted(value: Array, length: Array) -> Bool[Array, ""]:
            return value <= before + _ARMIJO * length * rate + rounding

        value, _, (_, left_there) = merit(moved(point, step, full), barrier, penalty)
        good = accepted(value, full)
        # The full step, corrected for the curvature of the rows.
        corrected = direction(*(full * a + b for a, b in zip(left, left_there, strict=True)))
        far = longest(slacks, (corrected.slack_lower, corrected.slack_upper), keep)
        corrected_good = accepted(merit(moved(point, corrected, far), barrier, penalty)[0], far)
        corrects = ~good & corrected_good

        def shorter(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            length, _, count = carry
            length = length / 2
            value, *_ = merit(moved(point, step, length), barrier, penalty)
            return length, accepted(value, length), count + 1

        length, found, _ = jax.lax.while_loop(
            lambda carry: ~carry[1] & (carry[2] < _BACKTRACKS),
            shorter,
            (full, good | corrects, jnp.asarray(0)),
        )
        step = jax.tree.map(lambda a, b: jnp.where(corrects, a, b), corrected, step)
        length = jnp.where(corrects, far, length)
        finite = jnp.all(jnp.isfinite(jnp.concatenate(step)))
        found = found & finite
        dual = longest((point.y_lower, point.y_upper), (step.y_lower, step.y_upper), keep)
        new = moved(point, step, length)
        new = new._replace(
            y_lower=point.y_lower + dual * step.y_lower, y_upper=point.y_upper + dual * step.y_upper
        )
        new = jax.tree.map(lambda a, b: jnp.where(found, a, b), new, point)
        r = scaled.rows(new.x)
        # Slacks that are too small may follow their rows: no function grows by that.
        new = new._replace(
            slack_lower=jnp.where(has_lower, jnp.maximum(new.slack_lower, r - lower), 1),
            slack_upper=jnp.where(has_upper, jnp.maximum(new.slack_upper, upper - r), 1),
        )
        new = new._replace(
            y_lower=_near(new.y_lower, barrier / new.slack_lower, has_lower),
            y_upper=_near(new.y_upper, barrier / new.slack_upper, has_upper),
        )
        local = linearised(scaled, new.x, multipliers(new))
        return _State(
            point=new,
            local=local,
            barrier=barrier,
            penalty=penalty,
            shift=shift,
            least_shift=jnp.where(found, 0, jnp.maximum(10 * shift, 1e-2)).astype(dtype),
            failures=jnp.where(found, 0, state.failures + 1),
            iterations=state.iterations + 1,
            error=error(new, local.slope, local.rows, 0.0),
        )

    def fallen(state: _State) -> Bool[Array, ""]:
        """Whether the objective is lower than any that ends, at a feasible point."""
        value = scaled.objective(state.point.x)
        feasible = largest(violation(scaled, state.local.rows)) < 1
        return (value < -0.1 / epsilon) & feasible

    def goes_on(state: _State) -> Bool[Array, ""]:
        unfinished = (
            (state.error > tol) & (state.iterations < maxiter) & (state.failures < _FAILURES)
        )
        return unfinished & ~fallen(state)

    r = scaled.rows(x)
    barrier = jnp.asarray(0.1, dtype)
    margin = jnp.asarray(1e-2, dtype)
    slack_lower = jnp.where(has_lower, jnp.maximum(r - lower, margin), 1)
    slack_upper = jnp.where(has_upper, jnp.maximum(upper - r, margin), 1)
    if scaled.box:  # these are exact: x stays strictly inside
        own = jnp.arange(len(r)) >= len(r) - len(x)
        slack_lower = jnp.where(own & has_lower, r - lower, slack_lower)
        slack_upper = jnp.where(own & has_upper, upper - r, slack_upper)
    point = Point(
        x,
        jnp.zeros_like(r),
        slack_lower,
        slack_upper,
        jnp.where(has_lower, barrier / slack_lower, 0),
        jnp.where(has_upper, barrier / slack_upper, 0),
    )
    local = linearised(scaled, x, multipliers(point))
    usable = jnp.all(jnp.isfinite(local.slope)) & jnp.all(jnp.isfinite(r))
    usable &= jnp.isfinite(scaled.objective(x))
    nothing = jnp.zeros((), dtype)
    state = _State(
        point,
        local,
        barrier,
        jnp.ones((), dtype),
        nothing,
        nothing,
        jnp.where(usable, 0, _FAILURES),
        jnp.asarray(0),
        jnp.where(usable, error(point, local.slope, r, 0.0), jnp.inf),
    )
    state = jax.lax.while_loop(goes_on, iterate, state)
    status = jnp.where(state.error <= tol, SOLVED, UNSOLVED)
    status = jnp.where(fallen(state), UNBOUNDED, status)
    status = jnp.where(usable, status, INFINITE)
    y = multipliers(state.point) * row_scale / objective_scale
    return state.point.x, y, status, state.iterations


def _near(y: Array, central: Array, exists: Array) -> Array:
    """The multiplier, not more than ten orders of magnitude from where the barrier has it."""
    return jnp.where(exists, jnp.clip(y, 1e-10 * central, 1e10 * central), 0)


def _inside(functions: Functions, x: Array) -> Array:
    """A point strictly inside the box, as near as a hundredth of its size."""
    if not functions.box:
        return x
    lower, upper = functions.lower[-len(x) :], functions.upper[-len(x) :]
    width = jnp.where(jnp.isfinite(lower) & jnp.isfinite(upper), 1e-2 * (upper - lower), jnp.inf)
    below = jnp.where(jnp.isfinite(lower), lower, 0)
    above = jnp.where(jnp.isfinite(upper), upper, 0)
    below = below + jnp.minimum(1e-2 * jnp.maximum(1, jnp.abs(below)), width)
    above = above - jnp.minimum(1e-2 * jnp.maximum(1, jnp.abs(above)), width)
    x = jnp.where(jnp.isfinite(lower), jnp.maximum(x, below), x)
    return jnp.where(jnp.isfinite(upper), jnp.minimum(x, above), x)


def _rescaled(functions: Functions, x: Array) -> tuple[Functions, Array, Array]:
    """The program with gradients of at most 100 at x, and the factors of objective and rows.

    Wächter & Biegler 2006, section 3.8.
    """

    def factor(size: Array) -> Array:
        return jnp.where(jnp.isfinite(size) & (size > 100), 100 / size, 1)

    objective = factor(largest(jax.grad(functions.objective)(x)))
    jacobian = jax.jacfwd(functions.rows)(x)
    rows = factor(jnp.max(jnp.abs(jacobian), axis=1, initial=0))
    scaled = Functions(
        lambda x: objective * functions.objective(x),
        lambda x: rows * functions.rows(x),
        rows * functions.lower,
        rows * functions.upper,
        functions.box,
    )
    return scaled, objective, rows
