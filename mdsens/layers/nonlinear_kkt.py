"""Optimality of a nonlinear program: its condition, its linear systems, and Newton steps on them.

A program is: minimise f(x) with lower <= r(x) <= upper. Near a solution the rows that are active
stay so, and x and the multipliers y solve

    grad f + J'y = 0,    r = its bound for active rows,    y = 0 for the others,

whose Jacobian [[W, R'], [R, -(inactive)]] is symmetric, with W the Hessian of the Lagrangian and R
the active rows of J. Its pseudo-inverse gives derivatives where rows are dependent, and its
negative eigenvalues tell a minimum from a saddle: there is one for each row, and no more (Nocedal &
Wright 2006, Numerical Optimization, theorem 16.3).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from mdsens.implicit import backends
from mdsens.layers.program import largest

__all__ = [
    "Functions",
    "KKTSolver",
    "Local",
    "as_vector",
    "condition",
    "linearised",
    "natural_error",
    "polish",
    "residuals",
    "stays_violated",
    "violation",
]

_ATTEMPTS = 8
_LEAST_SQUARES_STEPS = 100


class Functions(NamedTuple):
    """min f(x) subject to lower <= r(x) <= upper, for vectors x.

    Rows with lower == upper are equations; bounds may be infinite. Multipliers are positive where
    the upper bound holds the row back and negative where the lower bound does.

    Attributes:
        objective: f, of a vector, gives a scalar.
        rows: r, of a vector, gives a vector (m,).
        lower: (m,).
        upper: (m,).
        box: whether the last rows are x itself.
    """

    objective: Callable[[Array], Array]
    rows: Callable[[Array], Array]
    lower: Float[Array, " m"]
    upper: Float[Array, " m"]
    box: bool


class Local(NamedTuple):
    """The functions to second order at a point.

    Attributes:
        slope: gradient of the Lagrangian, (n,).
        rows: r, (m,).
        jacobian: of r, (m, n).
        hessian: of the Lagrangian, (n, n).
    """

    slope: Float[Array, " n"]
    rows: Float[Array, " m"]
    jacobian: Float[Array, "m n"]
    hessian: Float[Array, "n n"]


def linearised(functions: Functions, x: Float[Array, " n"], y: Float[Array, " m"]) -> Local:
    """The functions to second order at x, with multipliers y."""

    def first_order(x: Array) -> Any:
        slope = jax.grad(lambda x: functions.objective(x) + y @ functions.rows(x))(x)
        rows = functions.rows(x)
        return (slope, rows), (slope, rows)

    (hessian, jacobian), (slope, rows) = jax.jacfwd(first_order, has_aux=True)(x)
    return Local(slope, rows, jacobian, (hessian + hessian.T) / 2)


def natural_error(functions: Functions, local: Local, y: Float[Array, " m"]) -> Float[Array, ""]:
    """The largest relative error in the optimality conditions.

    The rows' condition is r = clip(r + y, lower, upper), which says feasible, complementary and of
    the right sign at once.
    """
    _, r, jacobian, _ = local
    pull = y @ jacobian
    missed = largest(r - jnp.clip(r + y, functions.lower, functions.upper)) / (1 + largest(r))
    size = jnp.maximum(largest(local.slope - pull), largest(pull))
    return jnp.maximum(missed, largest(local.slope) / (1 + size))


def active_rows(
    functions: Functions, r: Array, y: Array, weights: Array | float = 1.0
) -> tuple[Bool[Array, " m"], Bool[Array, " m"]]:
    """Which rows are active, and which of these at their upper bound."""
    at_upper = (weights * y >= functions.upper - r) | (functions.lower == functions.upper)
    return at_upper | (-weights * y >= r - functions.lower), at_upper


def condition(functions: Functions, x: Array, y: Array) -> tuple[Array, Array]:
    """The condition F(x, y) = 0 of a solution, whose Jacobian is symmetric."""
    r = functions.rows(x)
    active, at_upper = jax.lax.stop_gradient(active_rows(functions, r, y))
    held = jnp.where(active, y, 0)
    slope = jax.grad(lambda x: functions.objective(x) + held @ functions.rows(x))(x)
    bound = jnp.where(at_upper, functions.upper, functions.lower)
    # What is not active may have an infinite bound, whose derivative would not be a number.
    bound = jnp.where(active, bound, 0)
    return slope, jnp.where(active, r - bound, -y)


def residuals(functions: Functions, x: Array, y: Array) -> tuple[Array, Array]:
    """The gradient of the Lagrangian, and what the rows miss: r - clip(r + y, lower, upper)."""
    r = functions.rows(x)
    slope = jax.grad(lambda x: functions.objective(x) + y @ functions.rows(x))(x)
    return slope, r - jnp.clip(r + y, functions.lower, functions.upper)


class _Inverse(NamedTuple):
    matrix: Float[Array, "k k"]
    singular: Bool[Array, ""]
    negative: Array


def _pseudo_inverse(matrix: Float[Array, "k k"]) -> _Inverse:
    """The pseudo-inverse of a symmetric matrix, balanced so that units do not matter."""
    scale = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(3):
        sizes = jnp.max(jnp.abs(matrix * scale[:, None] * scale[None, :]), axis=1)
        scale = scale / jnp.sqrt(jnp.where((sizes > 0) & jnp.isfinite(sizes), sizes, 1))
    values, vectors = jnp.linalg.eigh(matrix * scale[:, None] * scale[None, :])
    epsilon = jnp.finfo(matrix.dtype).eps
    null = jnp.abs(values) <= 100 * max(len(matrix), 16) * epsilon * largest(values)
    inverse = (vectors * jnp.where(null, 0, 1 / jnp.where(null, 1, values))[None, :]) @ vectors.T
    negative = jnp.sum((values < 0) & ~null)
    return _Inverse(inverse * scale[:, None] * scale[None, :], jnp.any(null), negative)


class KKTSolver:
    """Solves with the symmetric matrix of a solution by its pseudo-inverse.

    Where rows depend on each other it gives the multipliers' change of least norm, and where the
    solution is not unique that of least norm, both in balanced units.
    """

    # Where the matrix is singular a right-hand side may leave its range: that is no error here.
    tolerance = float("inf")

    def __call__(self, matvec: Callable[[Any], Any], b: PyTree) -> PyTree:
        """The solution, with the structure of b."""
        flat, unravel = ravel_pytree(b)
        matrix = backends.materialise(
            lambda v: ravel_pytree(matvec(unravel(v)))[0], flat.size, flat.dtype
        )
        return unravel(_pseudo_inverse((matrix + matrix.T) / 2).matrix @ flat)


class Polished(NamedTuple):
    """A solution after Newton steps with its active rows.

    Attributes:
        x: (n,).
        y: (m,).
        error: largest relative error in the optimality conditions.
        unique: whether the matrix of its linear system is regular.
        strict: whether no active row has a multiplier of zero.
        minimum: whether no direction along the active rows is one of negative curvature.
    """

    x: Float[Array, " n"]
    y: Float[Array, " m"]
    error: Float[Array, ""]
    unique: Bool[Array, ""]
    strict: Bool[Array, ""]
    minimum: Bool[Array, ""]


def polish(functions: Functions, x: Float[Array, " n"], y: Float[Array, " m"]) -> Polished:
    """Newton steps on the active rows while they lower the error.

    Arguments:
        functions: the program.
        x: an approximate solution, (n,).
        y: its multipliers, (m,).

    Returns:
        What they lead to. Hintermüller, Ito & Kunisch 2002, SIAM J. Optim. 13, 865.
    """
    equal = functions.lower == functions.upper
    epsilon = float(jnp.finfo(x.dtype).eps)

    def weighed(local: Local, y: Array) -> tuple[Array, Array, Array]:
        """Which rows are active, at the upper bound, and multipliers in units of distance."""
        gradient = largest(local.slope - y @ local.jacobian)
        weights = jnp.sum(local.jacobian**2, axis=1) / jnp.where(gradient > 0, gradient, 1)
        weights = jnp.where(weights > 0, weights, 1)
        return *active_rows(functions, local.rows, y, weights), weights * y

    def system(local: Local, active: Array) -> Array:
        rows = jnp.where(active[:, None], local.jacobian, 0)
        return jnp.block([[local.hessian, rows.T], [rows, -jnp.diag(jnp.where(active, 0.0, 1.0))]])

    def attempt(state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, y, local, error, count, _ = state
        active, at_upper, _ = weighed(local, y)
        bound = jnp.where(active, jnp.where(at_upper, functions.upper, functions.lower), 0)
        held = jnp.where(active, y, 0)
        right = [
            (y - held) @ local.jacobian - local.slope,
            jnp.where(active, bound - local.rows, 0),
        ]
        matrix = system(local, active).astype(x.dtype)
        step = _pseudo_inverse(matrix).matrix @ jnp.concatenate(right)
        next_x, next_y = x + step[: len(x)], held + step[len(x) :]
        new = (next_x, next_y, linearised(functions, next_x, next_y))
        reached = natural_error(functions, new[2], next_y)
        improved = reached < error
        best = jax.tree.map(lambda a, b: jnp.where(improved, a, b), new, (x, y, local))
        return *best, jnp.where(improved, reached, error), count + 1, improved

    def goes_on(state: tuple[Any, ...]) -> Array:
        *_, error, count, improved = state
        return improved & (error > 4 * epsilon) & (count < _ATTEMPTS)

    local = linearised(functions, x, y)
    error = natural_error(functions, local, y)
    start = (x, y, local, error, jnp.asarray(0), jnp.asarray(True))
    x, y, local, error, *_ = jax.lax.while_loop(goes_on, attempt, start)
    active, at_upper, strength = weighed(local, y)
    inverse = _pseudo_inverse(system(local, active).astype(x.dtype))
    distance = jnp.where(at_upper, functions.upper - local.rows, local.rows - functions.lower)
    near = epsilon**0.5 * (1 + largest(x))
    touched = (jnp.abs(strength) < near) & (jnp.abs(distance) < near) & ~equal
    other = jnp.minimum(functions.upper - local.rows, local.rows - functions.lower)
    touched |= ~active & (other < near)
    minimum = inverse.negative <= len(y)
    unique, strict = ~inverse.singular, ~jnp.any(touched)
    return Polished(x, y, error, unique, strict, minimum)


def violation(functions: Functions, r: Float[Array, " m"]) -> Float[Array, " m"]:
    """How far each row is outside its bounds, with its sign."""
    return r - jnp.clip(r, functions.lower, functions.upper)


def stays_violated(
    functions: Functions, x: Float[Array, " n"], suspect: Bool[Array, ""], tol: float
) -> Bool[Array, ""]:
    """Whether rows remain violated where least squares have lessened their violation.

    Arguments:
        functions: the program.
        x: where to begin, (n,).
        suspect: whether to look at all.
        tol: what is no violation.

    Returns:
        Whether the steps of Levenberg and Marquardt end at a violation above `tol` that no small
        step lessens.
    """

    def first_order(x: Array) -> tuple[Array, Array]:
        outside = violation(functions, functions.rows(x))
        jacobian = jnp.where(outside[:, None] != 0, jax.jacfwd(functions.rows)(x), 0)
        return outside, jacobian

    def stationary(outside: Array, jacobian: Array) -> Array:
        size = jnp.maximum(jnp.linalg.norm(jacobian), 1)
        return largest(outside @ jacobian) <= 1e-3 * jnp.linalg.norm(outside) * size

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, outside, jacobian, damping, count = state
        matrix = jacobian.T @ jacobian + damping * jnp.eye(len(x), dtype=x.dtype)
        new = x - jnp.linalg.solve(matrix, outside @ jacobian)
        reached = first_order(new)
        better = jnp.sum(reached[0] ** 2) < jnp.sum(outside**2)
        kept = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (new, *reached), (x, outside, jacobian)
        )
        return *kept, jnp.where(better, damping / 5, 5 * damping), count + 1

    def goes_on(state: tuple[Any, ...]) -> Array:
        _, outside, jacobian, _, count = state
        unfinished = (largest(outside) > tol) & ~stationary(outside, jacobian)
        return suspect & unfinished & (count < _LEAST_SQUARES_STEPS)

    start = (x, *first_order(x), jnp.ones((), x.dtype), jnp.asarray(0))
    _, outside, jacobian, *_ = jax.lax.while_loop(goes_on, step, start)
    return suspect & (largest(outside) > tol) & stationary(outside, jacobian)


def as_vector(tree: PyTree, dtype: Any) -> Float[Array, " n"]:
    """All numbers of a pytree."""
    leaves = [jnp.ravel(jnp.asarray(leaf, dtype)) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0, np.dtype(dtype))
