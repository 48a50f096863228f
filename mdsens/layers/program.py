"""A convex program with bounded rows: its normal form, its optimality, and its errors."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.implicit.host import raise_where

__all__ = [
    "INFEASIBLE",
    "INFINITE",
    "NONCONVEX",
    "SOLVED",
    "UNBOUNDED",
    "UNSOLVED",
    "InfeasibleError",
    "Program",
    "Statement",
    "UnboundedError",
    "UnsolvedError",
    "harmless",
    "inspect",
    "is_convex",
    "kkt_error",
    "largest",
    "proves_infeasible",
    "proves_unbounded",
    "raise_unless_solved",
    "rescale",
]

SOLVED, INFINITE, NONCONVEX, INFEASIBLE, UNBOUNDED, UNSOLVED = range(6)


class InfeasibleError(InputError):
    """The constraints of a program contradict one another."""


class UnboundedError(InputError):
    """The objective of a program falls without end along a feasible direction."""


class UnsolvedError(InputError):
    """The solver of a program did not reach its tolerance."""


class Program(NamedTuple):
    """min 1/2 x'Qx + c'x subject to lower <= A x <= upper.

    Rows with lower == upper are equations. Bounds may be infinite. The multiplier of a row is
    positive where the upper bound holds x back and negative where the lower bound does, so that
    Q x + c + A' y = 0.

    Attributes:
        Q: symmetric positive semi-definite matrix, (n, n).
        c: (n,).
        A: (m, n).
        lower: (m,).
        upper: (m,).
    """

    Q: Float[Array, "n n"]
    c: Float[Array, " n"]
    A: Float[Array, "m n"]
    lower: Float[Array, " m"]
    upper: Float[Array, " m"]

    def statement(self) -> "Statement":
        """The same program as it could have been given."""
        return Statement(self.Q, self.c, (self.A,), self.lower, self.upper)


class Statement(NamedTuple):
    """A program as it was given, of which batches need no second copy.

    Attributes:
        Q: as in `Program`, of which the symmetric part counts, (n, n).
        c: (n,).
        blocks: matrices of n columns, whose rows together are A.
        lower: (m,).
        upper: (m,).
    """

    Q: Float[Array, "n n"]
    c: Float[Array, " n"]
    blocks: tuple[Array, ...]
    lower: Float[Array, " m"]
    upper: Float[Array, " m"]

    def program(self) -> Program:
        """Its normal form."""
        Q = (self.Q + self.Q.T) / 2
        return Program(Q, self.c, jnp.concatenate(self.blocks), self.lower, self.upper)

    def curvature(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Q x."""
        return (self.Q @ x + x @ self.Q) / 2

    def values(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        """A x."""
        return jnp.concatenate([block @ x for block in self.blocks])

    def pull(self, y: Float[Array, " m"]) -> Float[Array, " n"]:
        """A' y."""
        ends = list(itertools.accumulate(len(block) for block in self.blocks[:-1]))
        parts = zip(jnp.split(y, ends), self.blocks, strict=True)
        return sum((part @ block for part, block in parts), jnp.zeros_like(self.c))


def largest(value: Float[Array, "..."]) -> Float[Array, ""]:
    """The largest magnitude; 0 of an empty array."""
    return jnp.max(jnp.abs(value), initial=0)


def rescale(program: Program) -> tuple[Program, Float[Array, " m"], Float[Array, ""]]:
    """The same program with rows of norm 1 and an objective of magnitude 1.

    The factors are constants of differentiation: every choice of them gives the same solution.

    Arguments:
        program: any program.

    Returns:
        The program with the same x, the factor of each row, and that of the objective; multipliers
        of the original program are y * rows / objective.
    """
    rows = jnp.linalg.norm(jax.lax.stop_gradient(program.A), axis=1)
    rows = 1 / jnp.where((rows > 0) & jnp.isfinite(rows), rows, 1)
    magnitude = jax.lax.stop_gradient(jnp.maximum(largest(program.Q), largest(program.c)))
    objective = 1 / jnp.where((magnitude > 0) & jnp.isfinite(magnitude), magnitude, 1)
    scaled = Program(
        objective * program.Q,
        objective * program.c,
        rows[:, None] * program.A,
        rows * program.lower,
        rows * program.upper,
    )
    return scaled, rows, objective


def kkt_error(program: Program, x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, ""]:
    """The largest relative error in the optimality conditions of x and its multipliers y.

    The rows' condition is z = clip(z + y, lower, upper) with z = A x, which says feasible,
    complementary and of the right sign at once.
    """
    z, gradient, pull = program.A @ x, program.Q @ x, y @ program.A
    rows = largest(z - jnp.clip(z + y, program.lower, program.upper))
    stationarity = largest(gradient + program.c + pull)
    size = jnp.maximum(largest(program.c), jnp.maximum(largest(gradient), largest(pull)))
    return jnp.maximum(rows / (1 + largest(z)), stationarity / (1 + size))


def proves_infeasible(program: Program, y: Float[Array, " m"], tolerance: float) -> Bool[Array, ""]:
    """Whether y shows by Farkas' lemma that no x shorter than 1 / tolerance is feasible.

    y'A x = 0, but y'z < 0 for every z between the bounds.
    """
    bound = jnp.where(y > 0, program.upper, program.lower)
    support = jnp.sum(jnp.where(y == 0, 0, y * jnp.where(y == 0, 0, bound)))
    return (support < 0) & (largest(y @ program.A) < tolerance * -support)


def proves_unbounded(program: Program, x: Float[Array, " n"], tolerance: float) -> Bool[Array, ""]:
    """Whether x is feasible and the objective falls along it for ever.

    Q x = 0, c'x < 0, and no bound in the way.
    """
    fall = -program.c @ x
    z = program.A @ x
    nearest = jnp.clip(z, program.lower, program.upper)
    feasible = largest(z - nearest) < tolerance * (1 + largest(jnp.where(z == nearest, 0, nearest)))
    blocked = jnp.maximum(
        jnp.where(jnp.isfinite(program.upper), z, 0), jnp.where(jnp.isfinite(program.lower), -z, 0)
    )
    slope = jnp.maximum(largest(program.Q @ x), jnp.max(blocked, initial=0))
    return feasible & (fall > 0) & (slope < tolerance * fall)


def is_convex(Q: Float[Array, "n n"]) -> Bool[Array, ""]:
    """Whether Q has no negative eigenvalue beyond rounding, the square root of the precision."""
    # A factorisation that breaks down costs a small part of the eigenvalues.
    shift = jnp.finfo(Q.dtype).eps ** 0.5 * largest(Q) + jnp.finfo(Q.dtype).tiny ** 0.5
    factor = jnp.linalg.cholesky(Q + shift * jnp.eye(len(Q), dtype=Q.dtype))
    return jnp.all(jnp.isfinite(factor))


def inspect(program: Program) -> tuple[Program, Int[Array, ""]]:
    """The program if solvers can work on it, else a harmless one, and what is wrong.

    Arguments:
        program: any program.

    Returns:
        A program, and SOLVED (nothing is wrong so far), INFINITE, NONCONVEX or INFEASIBLE.
    """
    Q, c, A, lower, upper = program
    finite = [jnp.all(jnp.isfinite(value)) for value in (Q, c, A)]
    bounds = jnp.all(lower < jnp.inf) & jnp.all(upper > -jnp.inf)  # NaN compares as false
    sound = finite[0] & finite[1] & finite[2] & ~jnp.any(jnp.isnan(lower) | jnp.isnan(upper))
    # All that follows depends on the outcome, also because factorisations of batches that run at
    # the same time can wait for one another for ever in the thread pool of a small machine.
    convex = is_convex(Q)
    status = jnp.where(bounds & jnp.all(lower <= upper), SOLVED, INFEASIBLE)
    status = jnp.where(convex, status, NONCONVEX)
    status = jnp.where(sound, status, INFINITE)
    return harmless(program, status == SOLVED), status


def harmless(program: Program, usable: Bool[Array, ""]) -> Program:
    """The program, or one of the same shape that is solved at once where it is not usable."""
    unit = jnp.eye(len(program.Q), dtype=program.Q.dtype)
    zeros = (jnp.zeros_like(part) for part in program[1:])
    return jax.tree.map(
        lambda given, safe: jnp.where(usable, given, safe), program, Program(unit, *zeros)
    )


def raise_unless_solved(value: PyTree, status: Int[Array, ""], name: str) -> PyTree:
    """The value, or the error that the status stands for.

    Arguments:
        value: a pytree of arrays, handed through.
        status: SOLVED, INFINITE, NONCONVEX, INFEASIBLE, UNBOUNDED or UNSOLVED.
        name: what kind of program it is.

    Returns:
        `value`, which has to be used in place of the argument.

    Raises:
        InputError: at once where the status is known, and one of its subclasses where the status
            is INFEASIBLE, UNBOUNDED or UNSOLVED; inside compiled code the runtime's error with the
            same message.
    """
    errors: list[tuple[type[InputError], str]] = [
        (InputError, f"the {name} holds numbers that are not finite; only absent bounds may be."),
        (
            InputError,
            f"the {name} is not convex: its quadratic matrix has a negative eigenvalue; allowed "
            "are positive semi-definite matrices.",
        ),
        (
            InfeasibleError,
            f"the constraints of the {name} are infeasible: no point fulfils them all; relax or "
            "remove some.",
        ),
        (
            UnboundedError,
            f"the {name} is unbounded: its objective falls without end along a feasible direction; "
            "add constraints.",
        ),
        (
            UnsolvedError,
            f"the {name} was not solved to its tolerance; raise maxiter or tol, rescale the "
            "problem, or choose another solver.",
        ),
    ]
    if isinstance(status, jax.core.Tracer):
        messages = [message for _, message in errors]
        return raise_where(value, status - 1, messages)
    if status > 0:
        error, message = errors[int(status) - 1]
        raise error(message)
    return value
