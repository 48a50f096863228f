"""The optimum of a program as the solution of the linear system that its active rows fix.

Near a solution the rows that are active stay so, and x and the multipliers y solve

    [Q   R'] [x]   [-c]        R: the active rows of A, b: their bounds;
    [R   0 ] [y] = [ b]        y = 0 of the other rows.

A solve of this system makes an approximate solution exact, and differentiating it gives all
derivatives in all inputs: the implicit derivatives of Amos and Kolter 2017 (arXiv 1703.00443,
equation 6), to any order, with a factorisation that value and derivatives share. A row that is just
touched, with multiplier 0, counts as active or not, whichever is nearer: a one-sided derivative.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from mdsens.implicit import backends
from mdsens.layers.chunks import in_chunks
from mdsens.layers.program import Program, kkt_error

__all__ = ["solve_on_active_set"]

T = TypeVar("T", bound=PyTree)

_ATTEMPTS = 5


class _Factors(NamedTuple):
    """The matrix [[Q, R'], [R, -(inactive)]], ready for solves.

    With H = Q + R'R and S = R H^-1 R' + (inactive), both positive definite if it is regular. Their
    triangular factors are inverted, so that solves, of which derivatives have many, are products:
    faster in batches, and on a small machine batches of triangular solves that run at the same time
    can wait for one another for ever.
    """

    H: Float[Array, "n n"]  # inverse of the lower Cholesky factor
    S: Float[Array, "m m"]
    coupling: Float[Array, "n m"]  # H^-1/2 R'
    failed: Bool[Array, ""]
    singular: Bool[Array, ""]


class _System(NamedTuple):
    """Which rows are active, at which bound, and the factorised matrix that belongs to them."""

    active: Bool[Array, " m"]
    at_upper: Bool[Array, " m"]
    factors: _Factors


def solve_on_active_set(
    program: Program, x: Float[Array, " n"], y: Float[Array, " m"], attempts: int = _ATTEMPTS
) -> tuple[Float[Array, " n"], Float[Array, " m"], Bool[Array, ""]]:
    """The solution with the active rows of an approximate one, differentiable in the program.

    Arguments:
        program: the program; rows of about norm 1 and an objective of about magnitude 1 make
            multipliers and distances comparable.
        x: an approximate solution, (n,). A constant of differentiation, as y is.
        y: its multipliers, (m,).
        attempts: most sets of active rows that are tried.

    Returns:
        x and y, and whether they are unique. Where they are not, they are those nearest to the
        given ones, and derivatives are those of least norm.
    """
    find = in_chunks(functools.partial(_find_active_set, attempts), (len(x) + len(y)) ** 2)
    x, y, system = find(*jax.lax.stop_gradient((program, x, y)))
    # From a point that already solves the system: then this step adds no more than the derivative
    # and a refinement, and what the system does not fix stays what it was.
    dx, dy = _step(program, x, y, system)
    return x + dx, y + dy, ~system.factors.singular


def _find_active_set(
    attempts: int, program: Program, x: Array, y: Array
) -> tuple[Array, Array, _System]:
    """Steps of the primal-dual active-set method while they lower the error.

    One is enough unless the given point leaves open whether some row is active. Hintermüller, Ito
    and Kunisch 2002, SIAM J. Optim. 13, 865.
    """
    target = float(jnp.finfo(x.dtype).eps) ** 0.75

    def attempt(x: Array, y: Array) -> tuple[Array, Array, _System]:
        z = program.A @ x
        at_upper = (y > program.upper - z) | (program.lower == program.upper)
        active = at_upper | (-y > z - program.lower)
        rows = jnp.where(active[:, None], program.A, 0)
        factors = _factorise(program.Q, rows, jnp.where(active, 0, 1).astype(x.dtype))
        system = _System(active, at_upper, factors)
        dx, dy = _step(program, x, y, system)
        return x + dx, y + dy, system

    def improve(state: tuple[Any, ...]) -> tuple[Any, ...]:
        best, lowest, count, _ = state
        new = attempt(*best[:2])
        error = kkt_error(program, *new[:2])
        # The first attempt stands in any case, if only for its derivative.
        improved = (error < lowest) | (count == 0)
        best = jax.tree.map(lambda a, b: jnp.where(improved, a, b), new, best)
        return best, jnp.where(improved, error, lowest), count + 1, improved & (error > target)

    shapes = jax.eval_shape(attempt, x, y)
    unknown = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[2])
    start = ((x, y, unknown), jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0), jnp.asarray(True))
    best, *_ = jax.lax.while_loop(lambda s: s[3] & (s[2] < attempts), improve, start)
    return best


def _step(program: Program, x: Array, y: Array, system: _System) -> tuple[Array, Array]:
    """The step from x and y to the solution of the system."""
    Q, c, A, lower, upper = program
    active, at_upper, factors = system
    rows = jnp.where(active[:, None], A, 0)
    bounds = jnp.where(active, jnp.where(at_upper, upper, lower), 0)

    inactive = jnp.where(active, 0, 1).astype(x.dtype)

    def product(point: Array) -> Array:
        x, y = jnp.split(point, [len(c)])
        return jnp.concatenate([Q @ x + y @ rows, rows @ x - jnp.where(active, 0, y)])

    residual = jnp.concatenate([-c, bounds]) - product(jnp.concatenate([x, y]))
    step = jax.lax.custom_linear_solve(
        product,
        residual,
        solve=lambda _, b: _solve(factors, *jax.lax.stop_gradient((Q, rows, inactive)), b),
        symmetric=True,
    )
    return step[: len(c)], step[len(c) :]


def _factorise(Q: Array, rows: Array, inactive: Array) -> _Factors:
    size, epsilon = len(Q) + len(rows), float(jnp.finfo(Q.dtype).eps)
    H = _inverse_factor(Q + rows.T @ rows)
    coupling = H @ rows.T
    S = _inverse_factor(coupling.T @ coupling + jnp.diag(inactive))
    false = jnp.zeros((), bool)
    factors = _Factors(H, S, coupling, false, false)
    # A vector without structure shows how large the inverse is, and how good.
    probe = backends.probe(size, Q.dtype)
    probe = probe / jnp.linalg.norm(probe)
    grown = _solve(factors, Q, rows, inactive, probe)
    x, y = jnp.split(grown, [len(Q)])
    missed = jnp.concatenate([Q @ x + y @ rows, rows @ x - inactive * y]) - probe
    length = jnp.sqrt(jnp.sum(Q**2) + 2 * jnp.sum(rows**2) + jnp.sum(inactive))
    good = jnp.linalg.norm(missed) < epsilon**0.75
    good &= jnp.linalg.norm(grown) * length * max(size, 16) * epsilon < 1
    singular = _only_if(
        ~good, lambda _: _by_eigenvectors(~good, Q, rows, inactive, probe)[1], false
    )
    return _Factors(H, S, coupling, ~good, singular)


@jax.custom_batching.sequential_vmap  # type: ignore[untyped-decorator]
def _by_eigenvectors(
    wanted: Array, Q: Array, rows: Array, inactive: Array, b: Array
) -> tuple[Array, Array]:
    """The solution of least norm by the pseudo-inverse, if wanted; and whether it is singular.

    One of a batch after the other: a decomposition needs many times the memory of its matrix, and
    few of a batch, if any, need one. Hence it is not kept either.
    """

    def solve(b: Array) -> tuple[Array, Array]:
        matrix = jnp.block([[Q, rows.T], [rows, -jnp.diag(inactive)]])
        values, vectors = jnp.linalg.eigh(matrix)
        least = 100 * max(len(b), 16) * jnp.finfo(b.dtype).eps * jnp.max(jnp.abs(values))
        null = jnp.abs(values) < least
        parts = jnp.where(null, 0, 1 / jnp.where(null, 1, values)) * (b @ vectors)
        return vectors @ parts, jnp.any(null)

    return jax.lax.cond(wanted, solve, lambda b: (b, jnp.zeros((), bool)), b)


def _inverse_factor(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Inverse of the lower Cholesky factor."""
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = jnp.linalg.cholesky(matrix)
    inverse: Array = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    return inverse


def _solve(
    factors: _Factors, Q: Array, rows: Array, inactive: Array, b: Float[Array, " k"]
) -> Float[Array, " k"]:
    """The solution, of least norm where there are several, of the part of b that can be solved."""
    # Elimination of x from the first rows, to which R' times the others have been added.
    first, second = jnp.split(b, [len(factors.H)])
    half = factors.H @ (first + second @ rows)
    y = (factors.S @ (half @ factors.coupling - second)) @ factors.S
    x = (half - factors.coupling @ y) @ factors.H
    solution = jnp.concatenate([x, y])
    failed = factors.failed
    return _only_if(failed, lambda _: _by_eigenvectors(failed, Q, rows, inactive, b)[0], solution)


def _only_if(condition: Bool[Array, ""], function: Callable[[T], T], value: T) -> T:
    """function(value) if the condition holds, else the value.

    Under vmap `lax.cond` would always evaluate the function; this does where one element needs it.
    """
    return jax.lax.while_loop(
        lambda state: state[0],
        lambda state: (jnp.zeros_like(state[0]), function(state[1])),
        (condition, value),
    )[1]
