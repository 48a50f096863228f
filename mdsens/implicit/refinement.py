"""Derivatives at a point nearby, refined from those found here: what tells the error of those."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from mdsens.arrays import in_numpy
from mdsens.implicit.arguments import stacked_count
from mdsens.implicit.block_solver import BlockSolver, solve_block
from mdsens.implicit.linearisation import compiled_change, compiled_product, compiled_pull_back

__all__ = ["refined_jvp", "refined_vjp"]


def refined_jvp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    found: PyTree,
    solve: BlockSolver,
    left_by: Callable[[PyTree], PyTree] | None = None,
) -> tuple[PyTree, PyTree]:
    """Tangents at a point, by one step of iterative refinement from those of a point nearby.

    Of one direction, or of K.

    With a distance d between the points their error is of order d^2, and so is that of the point
    itself where d is a Newton step.

    Arguments:
        optimality_fun: F, as in `root_jvp`.
        sol: the point, a pytree of floating-point arrays.
        args: the other arguments of F.
        tangents: one direction or K, as in `root_jvp`.
        found: the tangents of the point nearby.
        solve: made for the point nearby; a few digits are enough.
        left_by: what tangents leave of the linear system there, where there is more to say than of
            any F; `None`: it is computed.

    Returns:
        The tangents, in NumPy where nothing is traced; and what those found leave of the linear
        system there, dF/dx v + dF/dtheta w.
    """
    several = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(found)) is not None
    if left_by is None:
        left = compiled_change(optimality_fun, sol, args, tangents, found)
    else:
        left = left_by(found)
    found, change = in_numpy((found, solve_block(solve.solve, left, several).value))
    return jax.tree.map(operator.sub, found, change), left


def refined_vjp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    cotangents: PyTree,
    found: PyTree,
    solve: BlockSolver,
    product: Callable[[PyTree], PyTree] | None = None,
    pull: Callable[[PyTree], tuple[Any, ...]] | None = None,
) -> tuple[Any, ...]:
    """Cotangents of the arguments at a point, refined likewise, of an F with a symmetric dF/dx.

    Arguments:
        optimality_fun: F, as in `root_vjp`.
        sol: the point, a pytree of floating-point arrays.
        args: the other arguments of F, floating-point arrays.
        cotangents: K of the solution there.
        found: the values of the K linear solutions of the point nearby, as of `vjp_solution`.
        solve: made for the point nearby; a few digits are enough.
        product: K products with dF/dx there, where there is more to say than of any F; `None`: they
            are computed.
        pull: as in `vjp_solution`, there.

    Returns:
        What `root_vjp` returns.
    """
    if product is None:
        products = compiled_product(optimality_fun, sol, args, found)
    else:
        products = product(found)
    # Scaled to serve best here: that of an energy vanishes at its minimum.
    parts = -_inner(products, cotangents) / np.maximum(_inner(products, products), 1e-300)

    def scaled(leaf: Any) -> np.ndarray:
        return parts.reshape(-1, *[1] * (np.ndim(leaf) - 1)) * np.asarray(leaf)

    left = jax.tree.map(lambda c, p: -np.asarray(c) - scaled(p), cotangents, products)
    change = solve.solve_transposed(left).value
    weights = jax.tree.map(lambda f, c: scaled(f) + np.asarray(c), found, change)
    if pull is None:
        return compiled_pull_back(optimality_fun, sol, args, weights)
    return pull(weights)


def _inner(first: PyTree, second: PyTree) -> np.ndarray:
    """The scalar product of each of K with its counterpart."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    products = [np.asarray(a) * np.asarray(b) for a, b in pairs]
    return np.sum([p.reshape(len(p), -1).sum(axis=1) for p in products], axis=0)
