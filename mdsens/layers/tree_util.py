"""Arithmetic of pytrees, by the names that JAXopt 0.8.5 has for it; real numbers alone."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map, tree_reduce
from jaxtyping import Array, ArrayLike, PyTree

from mdsens.errors import InputError
from mdsens.layers.trees import inner

__all__ = [
    "broadcast_pytrees",
    "tree_add",
    "tree_add_scalar_mul",
    "tree_div",
    "tree_dot",
    "tree_inf_norm",
    "tree_l2_norm",
    "tree_map",
    "tree_mul",
    "tree_negative",
    "tree_ones_like",
    "tree_reduce",
    "tree_scalar_mul",
    "tree_sub",
    "tree_sum",
    "tree_vdot",
    "tree_where",
    "tree_zeros_like",
]

tree_add = functools.partial(tree_map, operator.add)
tree_sub = functools.partial(tree_map, operator.sub)
tree_mul = functools.partial(tree_map, operator.mul)
tree_div = functools.partial(tree_map, operator.truediv)


def tree_scalar_mul(scalar: ArrayLike, tree_x: PyTree) -> PyTree:
    """The multiple `scalar * tree_x`."""
    return tree_map(lambda x: scalar * x, tree_x)


def tree_add_scalar_mul(tree_x: PyTree, scalar: ArrayLike, tree_y: PyTree) -> PyTree:
    """The sum `tree_x + scalar * tree_y`."""
    return tree_map(lambda x, y: x + scalar * y, tree_x, tree_y)


def tree_negative(tree: PyTree) -> PyTree:
    """The tree with the opposite sign."""
    return tree_scalar_mul(-1, tree)


def tree_dot(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """The products of matrices or vectors, leaf by leaf."""
    return tree_map(jnp.dot, tree_x, tree_y)


def tree_vdot(tree_x: PyTree, tree_y: PyTree) -> Array:
    """The inner product of all numbers."""
    return inner(tree_x, tree_y)


def tree_sum(tree_x: PyTree) -> Array:
    """The sum of all numbers."""
    total: Array = tree_reduce(operator.add, tree_map(jnp.sum, tree_x))
    return total


def tree_l2_norm(tree_x: PyTree, squared: bool = False) -> Array:
    """The Euclidean norm of all numbers, or its square."""
    square = tree_sum(tree_map(jnp.square, tree_x))
    return square if squared else jnp.sqrt(square)


def tree_inf_norm(tree_x: PyTree) -> Array:
    """The largest absolute value."""
    leaves = [jnp.ravel(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree_x)]
    return jnp.max(jnp.concatenate(leaves))


def tree_zeros_like(tree_x: PyTree) -> PyTree:
    """Zeros of the same structure."""
    return tree_map(jnp.zeros_like, tree_x)


def tree_ones_like(tree_x: PyTree) -> PyTree:
    """Ones of the same structure."""
    return tree_map(jnp.ones_like, tree_x)


def tree_where(cond: PyTree, a: PyTree, b: PyTree) -> PyTree:
    """The numbers of `a` where `cond` is true, those of `b` elsewhere; each may be one array."""
    return tree_map(jnp.where, *broadcast_pytrees(cond, a, b))


def broadcast_pytrees(*trees: PyTree) -> tuple[PyTree, ...]:
    """The trees in one structure: what is a single array stands for each leaf of the others.

    Raises:
        InputError: if two of them that are no single arrays have different structures.
    """
    structures: list[Any] = [jax.tree.structure(tree) for tree in trees]
    proper = [found for found in structures if not jax.tree_util.treedef_is_leaf(found)]
    if any(found != proper[0] for found in proper):
        raise InputError(f"trees have the structures {proper}: give trees of one, or arrays")
    if not proper:
        return trees
    return tuple(
        jax.tree.unflatten(proper[0], [tree] * proper[0].num_leaves)
        if jax.tree_util.treedef_is_leaf(found)
        else tree
        for tree, found in zip(trees, structures, strict=True)
    )
