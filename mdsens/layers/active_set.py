"""The optimum of a program as the solution of the linear system that its active rows fix.

Near a solution the rows that are active stay so, and x and the multipliers y solve

    [Q   R'] [x]   [-c]        R: the active rows of A, b: their bounds;
    [R   0 ] [y] = [ b]        y = 0 of the other rows.

A solve of this system makes an approximate solution exact, and differentiating it gives all
derivatives in all inputs: the implicit derivatives of Amos and Kolter 2017 (arXiv 1703.00443,
equation 6), to any order, with a factorisation that value and derivatives share. A row that is just
touched, with multiplier 0, counts as active or not, whichever is nearer: a one-sided derivative.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from mdsens.implicit import backends
from mdsens.layers.program import Program, Statement, kkt_error

__all__ = ["ActiveSet", "find_active_set", "with_derivatives"]

T = TypeVar("T", bound=PyTree)

_ATTEMPTS = 5


class _Factors(NamedTuple):
    """The matrix [[Q, R'], [R, -(inactive)]], ready for solves.

    With H = Q + R'R and S = R H^-1 R' + (inactive), both positive definite if it is regular. Their
    triangular factors are inverted, so that solves, of which derivatives have many, are products:
    faster in batches, and on a small machine batches of triangular solves that run at the same time
    can wait for one another for ever. What else a solve needs is formed again, since batches keep
    the factors of all elements for the derivative.
    """

    H: Float[Array, "n n"]  # inverse of the lower Cholesky factor
    S: Float[Array, "m m"]
    failed: Bool[Array, ""]


class ActiveSet(NamedTuple):
    """The system of the active rows of a rescaled program.

    Attributes:
        active: which rows are active.
        at_upper: which of them are so at their upper bound.
        rows: the factor of each row in the rescaled program.
        objective: the factor of the objective.
        unique: whether the system is regular.
        factors: its matrix, ready for solves.
    """

    active: Bool[Array, " m"]
    at_upper: Bool[Array, " m"]
    rows: Float[Array, " m"]
    objective: Float[Array, ""]
    unique: Bool[Array, ""]
    factors: _Factors


class _System(NamedTuple):
    """The same system as products, with the matrices as they were given."""

    statement: Statement
    active: Bool[Array, " m"]
    rows: Float[Array, " m"]
    objective: Float[Array, ""]

    def product(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The matrix of the program that is not rescaled, times a vector."""
        pulled = self.statement.pull(jnp.where(self.active, y, 0))
        values = jnp.where(self.active, self.statement.values(x), -y)
        return self.statement.curvature(x) + pulled, values

    def scaled_pull(self, y: Array) -> Array:
        """R' y of the rescaled program."""
        return self.statement.pull(jnp.where(self.active, self.rows * y, 0))

    def scaled_values(self, x: Array) -> Array:
        """R x of the rescaled program; 0 of rows that are not active."""
        return jnp.where(self.active, self.rows * self.statement.values(x), 0)


def _of_rescaled(program: Program, active: Bool[Array, " m"]) -> _System:
    one = jnp.ones((), program.c.dtype)
    return _System(program.statement(), active, jnp.ones_like(program.lower), one)


def find_active_set(
    program: Program,
    rows: Float[Array, " m"],
    objective: Float[Array, ""],
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    attempts: int = _ATTEMPTS,
) -> tuple[Float[Array, " n"], Float[Array, " m"], ActiveSet]:
    """The solution with the active rows of an approximate one.

    Steps of the primal-dual active-set method while they lower the error: Hintermüller, Ito and
    Kunisch 2002, SIAM J. Optim. 13, 865. One is enough unless the given point leaves open whether
    some row is active.

    Arguments:
        program: the rescaled program, whose multipliers and distances can be compared.
        rows: the factor of each row in it.
        objective: the factor of its objective.
        x: an approximate solution, (n,).
        y: its multipliers, (m,).
        attempts: most sets of active rows that are tried.

    Returns:
        x, y and their active set. Where they are not unique, they are those nearest to the given
        ones.
    """
    target = float(jnp.finfo(x.dtype).eps) ** 0.75

    def attempt(x: Array, y: Array) -> tuple[Array, Array, ActiveSet]:
        z = program.A @ x
        at_upper = (y > program.upper - z) | (program.lower == program.upper)
        active = at_upper | (-y > z - program.lower)
        factors, system = _factorise(program, active), _of_rescaled(program, active)
        bounds = jnp.where(at_upper, program.upper, program.lower)

        def refined(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, y, _ = state
            first, second = system.product(x, y)
            missing = (-program.c - first, jnp.where(active, bounds, 0) - second)
            (dx, dy), singular = _solve(factors, system, *missing)
            return x + dx, y + dy, singular

        # A loop: one copy of the solve to compile.
        x, y, singular = jax.lax.fori_loop(0, 2, refined, (x, y, jnp.zeros((), bool)))
        return x, y, ActiveSet(active, at_upper, rows, objective, ~singular, factors)

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
    (x, y, found), *_ = jax.lax.while_loop(lambda s: s[3] & (s[2] < attempts), improve, start)
    return x, y, found


def with_derivatives(
    statement: Statement, x: Float[Array, " n"], y: Float[Array, " m"], found: ActiveSet
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """A solution of a program, differentiable in the program.

    Arguments:
        statement: the program as it was given.
        x: the solution, a constant of differentiation, as all that follow.
        y: its multipliers.
        found: its active set.

    Returns:
        x and y. Where they are not unique, derivatives are those of least norm.
    """
    x, y, found = jax.lax.stop_gradient((x, y, found))
    constant = jax.lax.stop_gradient(statement)
    active, factors = found.active, found.factors
    system = _System(statement, active, found.rows, found.objective)
    bounds = jnp.where(active, jnp.where(found.at_upper, statement.upper, statement.lower), 0)

    # One vector, since cotangents of a part of a solution are lost on custom_linear_solve.
    def product(point: Array) -> Array:
        return jnp.concatenate(system.product(*jnp.split(point, [len(x)])))

    def solve(_: Any, b: Array) -> Array:
        # y of the program that was given is rows / objective times that of the rescaled one.
        first, second = jnp.split(b, [len(x)])
        ratio = found.rows / found.objective
        second = jnp.where(active, found.rows, 1 / ratio) * second
        fixed = _System(constant, active, found.rows, found.objective)
        (dx, dy), _ = _solve(factors, fixed, found.objective * first, second)
        return jnp.concatenate([dx, ratio * dy])

    missing = jnp.concatenate([-statement.c, bounds]) - product(jnp.concatenate([x, y]))
    # Its value is the caller's and stays what it was: only what it varies by counts.
    missing = missing - jax.lax.stop_gradient(missing)
    step = jax.lax.custom_linear_solve(product, missing, solve=solve, symmetric=True)
    return x + step[: len(x)], y + step[len(x) :]


def _factorise(program: Program, active: Bool[Array, " m"]) -> _Factors:
    """The factors of a rescaled program's matrix."""
    Q, rows = program.Q, jnp.where(active[:, None], program.A, 0)
    size, epsilon = len(Q) + len(rows), float(jnp.finfo(Q.dtype).eps)
    inactive = jnp.where(active, 0, 1).astype(Q.dtype)
    H = _inverse_factor(Q + rows.T @ rows)
    coupling = H @ rows.T
    S = _inverse_factor(coupling.T @ coupling + jnp.diag(inactive))
    system = _of_rescaled(program, active)
    # A vector without structure shows how large the inverse is, and how good.
    probe = backends.probe(size, Q.dtype)
    probe = probe / jnp.linalg.norm(probe)
    grown = _eliminated(H, S, system, *jnp.split(probe, [len(Q)]))
    missed = jnp.concatenate(system.product(*grown)) - probe
    length = jnp.sqrt(jnp.sum(Q**2) + 2 * jnp.sum(rows**2) + jnp.sum(inactive))
    good = jnp.linalg.norm(missed) < epsilon**0.75
    growth = jnp.linalg.norm(jnp.concatenate(grown))
    good &= growth * length * max(size, 16) * epsilon < 1
    return _Factors(H, S, ~good)


def _inverse_factor(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Inverse of the lower Cholesky factor."""
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = jnp.linalg.cholesky(matrix)
    inverse: Array = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    return inverse


def _solve(
    factors: _Factors, system: _System, first: Float[Array, " n"], second: Float[Array, " m"]
) -> tuple[tuple[Float[Array, " n"], Float[Array, " m"]], Bool[Array, ""]]:
    """The solution of the rescaled system, and whether that is singular.

    Then it is the one of least norm of the part that can be solved.
    """
    H, S, failed = factors
    solution = _eliminated(H, S, system, first, second)
    return _only_if(
        failed,
        lambda _: _of_least_norm(failed, system, (first, second)),
        (solution, jnp.zeros((), bool)),
    )


def _eliminated(
    H: Float[Array, "n n"],
    S: Float[Array, "m m"],
    system: _System,
    first: Float[Array, " n"],
    second: Float[Array, " m"],
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """The solution by the factors: x eliminated from the first rows plus R' times the others."""
    half = H @ (first + system.scaled_pull(second))
    y = (S @ (system.scaled_values(half @ H) - second)) @ S
    x = (half - H @ system.scaled_pull(y)) @ H
    return x, y


@jax.custom_batching.sequential_vmap  # type: ignore[untyped-decorator]
def _of_least_norm(
    wanted: Array, system: _System, b: tuple[Array, Array]
) -> tuple[tuple[Array, Array], Array]:
    """The solution of least norm by the pseudo-inverse, if wanted; and whether it is singular.

    One of a batch after the other: a decomposition needs many times the memory of its matrix, and
    few of a batch, if any, need one. Hence it is not kept either.
    """

    def solve(b: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        given = system.statement.program()
        Q = system.objective * given.Q
        rows = jnp.where(system.active[:, None], system.rows[:, None] * given.A, 0)
        inactive = jnp.where(system.active, 0, 1).astype(Q.dtype)
        values, vectors = jnp.linalg.eigh(jnp.block([[Q, rows.T], [rows, -jnp.diag(inactive)]]))
        least = 100 * max(len(values), 16) * jnp.finfo(Q.dtype).eps * jnp.max(jnp.abs(values))
        null = jnp.abs(values) < least
        parts = jnp.where(null, 0, 1 / jnp.where(null, 1, values))
        solution = vectors @ (parts * (jnp.concatenate(b) @ vectors))
        first, second = jnp.split(solution, [len(Q)])
        return (first, second), jnp.any(null)

    return jax.lax.cond(wanted, solve, lambda b: (b, jnp.zeros((), bool)), b)


def _only_if(condition: Bool[Array, ""], function: Callable[[T], T], value: T) -> T:
    """function(value) if the condition holds, else the value.

    Under vmap `lax.cond` would always evaluate the function; this does where one element needs it.
    """
    return jax.lax.while_loop(
        lambda state: state[0],
        lambda state: (jnp.zeros_like(state[0]), function(state[1])),
        (condition, value),
    )[1]
