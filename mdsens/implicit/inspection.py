"""A look at a condition before its derivative is taken, to say early and plainly what is wrong."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from mdsens.implicit import backends
from mdsens.implicit.derivatives import linearise
from mdsens.implicit.linear import raise_if
from mdsens.implicit.null_space import flat_null_space, project_out
from mdsens.implicit.pseudo_inverse import pseudo_inverse

__all__ = ["problem_of_condition", "raise_problem"]

_TOLERANCE = 1e-6

_MESSAGES = [
    "the condition or its derivative holds NaN or infinity at the solution; look at what the "
    "condition returns there, and whether the solver has converged.",
    "symmetric=True was given, but dF/dx is not symmetric; pass symmetric=False.",
    "the vectors given as null_space are not in the null space of the condition's derivative; give "
    "those for which dF/dx v = 0 at the solution, and check that the solver has converged.",
    "an argument moves the condition out of the range of its singular derivative, so that no "
    "solution follows it; pass least_squares=True for the derivative of smallest residual.",
]


def problem_of_condition(
    condition: Callable,
    sol: Any,
    args: tuple,
    varied: tuple[bool, ...],
    solve: Any,
    symmetric: bool,
    null_space: Any,
) -> Array:
    """Which of the messages applies, or -1.

    **Arguments:**

    - `condition`, `sol`, `args`, `solve`, `symmetric`, `null_space`: as in `root_jvp`.
    - `varied`: for every leaf of `args`, whether it changes.

    **Returns:** the index of a message, or -1.
    """
    matvec, vectors = linearise(condition, sol, args, null_space)
    flat, unravel = ravel_pytree(sol)

    def product(v: Array) -> Array:
        return ravel_pytree(matvec(unravel(v)))[0]

    _, asymmetry, finite = backends.probe_matrix(product, lambda v: v, flat.size, flat.dtype)
    asymmetric = symmetric & (asymmetry > jnp.finfo(flat.dtype).eps ** 0.5)
    found = jnp.where(finite, jnp.where(asymmetric, 1, -1), 0)
    if solve != "svd" and vectors is None:
        return found
    singular = _problem_of_range(condition, sol, args, varied, solve, product, vectors)
    return jnp.where(found >= 0, found, singular)


def _problem_of_range(
    condition: Callable,
    sol: Any,
    args: tuple,
    varied: tuple[bool, ...],
    solve: Any,
    product: Callable,
    vectors: Any,
) -> Array:
    """Whether a solution with a singular dF/dx still moves smoothly with every argument.

    No direction of the arguments is at hand, so all are looked at together: a random vector of the
    left null space must vanish when it is pulled back through dF/dtheta.
    """
    flat, _ = ravel_pytree(sol)
    size, dtype = flat.size, flat.dtype
    probe = backends.probe(size, dtype)
    if solve == "svd":
        matrix = backends.materialise(product, size, dtype)
        loose = probe - matrix @ (pseudo_inverse(matrix) @ probe)
        wrong = jnp.zeros((), bool)
    else:
        basis = flat_null_space(vectors, sol)
        loose = probe - project_out(basis, probe)
        moved, typical = jax.lax.map(product, jnp.stack([loose, probe]))
        # Relative to what the matrix does to a vector without structure.
        wrong = _relative(moved, typical) * _relative(probe, loose) > _TOLERANCE
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
        lambda w: ravel_pytree(pull_back(w)[0])[0], jnp.stack([loose, probe])
    )
    outside = _relative(pulled, typical) * _relative(probe, loose) > _TOLERANCE
    return jnp.where(wrong, 2, jnp.where(outside, 3, -1))


def raise_problem(sol: Any, problem: Array) -> Any:
    """The solution, or the error that the problem stands for."""
    return raise_if(sol, problem, _MESSAGES)


def _relative(vector: Array, other: Array) -> Array:
    size = jnp.linalg.norm(other)
    return jnp.linalg.norm(vector) / jnp.where(size > 0, size, 1)
