"""A look at a condition before its derivative is taken, to say early and plainly what is wrong."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from mdsens.errors import UnreliableDerivativeError
from mdsens.implicit import backends
from mdsens.implicit.derivatives import SolveOptions
from mdsens.implicit.linear import DENSE_FIRST, SINGULAR, raise_if
from mdsens.implicit.linearisation import linearise
from mdsens.implicit.null_space import flat_null_space, project_out
from mdsens.implicit.pseudo_inverse import pseudo_inverse

__all__ = ["problem_of_condition", "raise_problem"]

_TOLERANCE = 1e-6

_NEAR_ZERO = 0.1
"""Size of an unknown, in its own units, below which its error counts relative to this size."""

_MESSAGES = [
    "the condition or its derivative holds NaN or infinity at the solution; look at what the "
    "condition returns there, and whether the solver has converged.",
    "dF/dx is zero: the condition does not depend on the solution there; give a condition "
    "F(sol, *args) that sol fulfils.",
    "the solver returned no root: F(sol, *args) is far from zero; let the solver converge, give "
    "the condition that its solutions fulfil, or pass a larger root_tol (None: do not look).",
    "symmetric=True was given, but dF/dx is not symmetric; pass symmetric=False.",
    "the vectors given as null_space are not in the null space of the condition's derivative; give "
    "those for which dF/dx v = 0 at the solution, and check that the solver has converged.",
    "an argument moves the condition out of the range of its singular derivative, so that no "
    "solution follows it; pass least_squares=True for the derivative of smallest residual.",
    SINGULAR,
]
_NOT_FINITE, _CONSTANT, _NO_ROOT, _ASYMMETRIC, _NOT_NULL, _OUT_OF_RANGE, _SINGULAR = range(7)


def problem_of_condition(
    condition: Callable[..., Any],
    sol: Any,
    args: tuple[Any, ...],
    varied: tuple[bool, ...],
    options: SolveOptions,
    root_tol: float | None,
    traced: bool,
) -> Array:
    """Which of the messages applies, or -1.

    Arguments:
        condition: F, as in `root_jvp`.
        sol: the solution.
        args: the other arguments of F.
        varied: for every leaf of `args`, whether it changes.
        options: how its linear systems are solved.
        root_tol: as in `custom_root`.
        traced: leave out what the linear solve itself finds out in compiled code: whether dF/dx is
            symmetric and, if it is small, regular.

    Returns:
        The index of a message, or -1.
    """
    matvec, vectors = linearise(condition, sol, args), options.null_vectors(sol, args)
    solve = options.solve
    flat, unravel = ravel_pytree(sol)
    size, dtype = flat.size, flat.dtype

    def product(v: Array) -> Array:
        return ravel_pytree(matvec(unravel(v)))[0].astype(dtype)

    value = ravel_pytree(condition(sol, *args))[0].astype(dtype)
    # Along F the error of the solution is corrected, along the probe dF/dx has its usual size.
    anywhere = backends.probe(size, dtype)
    direction = _relative_to(value, value) + 0.5 * _relative_to(anywhere, anywhere)
    singular = solve == "svd" or vectors is not None
    found = jnp.asarray(-1)
    if traced and not singular:
        # One product, and no copy of it for a loop: compiling takes longer than computing.
        moved = product(direction)
        stretch, finite = _relative(moved, direction), jnp.all(jnp.isfinite(moved))
    else:
        if singular:
            found = _problem_of_range(condition, sol, args, varied, solve, product, vectors)
        elif size <= DENSE_FIRST and solve in (None, "auto", "dense"):
            matrix = backends.materialise(product, size, dtype)
            found = jnp.where(backends.dense(matrix, False).singular, _SINGULAR, found)
        probed = backends.probe_matrix(product, lambda v: v, size, dtype, (direction,))
        asymmetric = options.symmetric & (probed.asymmetry > jnp.finfo(dtype).eps ** 0.5)
        found = jnp.where(asymmetric, _ASYMMETRIC, found)
        stretch, finite = probed.stretch, probed.finite
    if root_tol is not None:
        # |F| / |dF/dx| is less than the distance to the root where dF/dx differs between
        # directions: rather a wrong root that passes than one that is refused for no reason.
        allowed = root_tol * (jnp.linalg.norm(flat) + _NEAR_ZERO * size**0.5)
        found = jnp.where(jnp.linalg.norm(value) > allowed * stretch, _NO_ROOT, found)
    found = jnp.where(stretch == 0, _CONSTANT, found)
    return jnp.where(finite, found, _NOT_FINITE)


def _problem_of_range(
    condition: Callable[..., Any],
    sol: Any,
    args: tuple[Any, ...],
    varied: tuple[bool, ...],
    solve: Any,
    product: Callable[..., Any],
    vectors: Any,
) -> Array:
    """Whether a solution with a singular dF/dx still moves smoothly with every argument.

    No direction of the arguments is at hand, so all are looked at together: a random vector of the
    left null space must vanish when it is pulled back through dF/dtheta.
    """
    flat, _ = ravel_pytree(sol)
    size, dtype = flat.size, flat.dtype
    probe = backends.probe(size, dtype)
    half_the_digits = float(jnp.finfo(dtype).eps) ** 0.5
    tolerance = max(_TOLERANCE, half_the_digits)
    if solve == "svd":
        matrix = backends.materialise(product, size, dtype)
        null_part = probe - matrix @ (pseudo_inverse(matrix) @ probe)
    else:
        basis = flat_null_space(vectors, sol)
        null_part = probe - project_out(basis, probe)
    # What a regular matrix leaves is rounding, and no direction.
    null_part = jnp.where(_relative(null_part, probe) > half_the_digits, null_part, 0)
    if solve != "svd":
        moved, typical = jax.lax.map(product, jnp.stack([null_part, probe]))
        # Relative to what the matrix does to a vector without structure.
        wrong = _relative(moved, typical) * _relative(probe, null_part) > tolerance
    else:
        wrong = jnp.zeros((), bool)
    leaves, structure = jax.tree.flatten(args)
    chosen = [jnp.asarray(leaf) for leaf, moves in zip(leaves, varied, strict=True) if moves]

    def of_chosen(values: list[Array]) -> Array:
        remaining = iter(values)
        filled = [
            next(remaining) if moves else leaf for leaf, moves in zip(leaves, varied, strict=True)
        ]
        value = condition(sol, *jax.tree.unflatten(structure, filled))
        return ravel_pytree(value)[0].astype(dtype)

    pull_back = jax.vjp(of_chosen, chosen)[1]
    pulled, typical = jax.lax.map(
        lambda w: ravel_pytree(pull_back(w)[0])[0], jnp.stack([null_part, probe])
    )
    outside = _relative(pulled, typical) * _relative(probe, null_part) > tolerance
    return jnp.where(wrong, _NOT_NULL, jnp.where(outside, _OUT_OF_RANGE, -1))


def raise_problem(sol: Any, problem: Array) -> Any:
    """The solution, or the error that the problem stands for."""
    if not isinstance(problem, jax.core.Tracer) and problem == _NO_ROOT:
        raise UnreliableDerivativeError(_MESSAGES[_NO_ROOT])
    return raise_if(sol, problem, _MESSAGES)


def _relative_to(vector: Array, other: Array) -> Array:
    size = jnp.linalg.norm(other)
    return vector / jnp.where(size > 0, size, 1)


def _relative(vector: Array, other: Array) -> Array:
    return jnp.linalg.norm(_relative_to(vector, other))
