"""Vectors that are pytrees: the few operations that first-order methods are made of."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

__all__ = ["difference", "dtype_of", "in_precision", "inner", "moved", "norm"]


def inner(first: PyTree, second: PyTree) -> Float[Array, ""]:
    """The inner product of two pytrees of the same structure."""
    products = jax.tree.leaves(jax.tree.map(jnp.vdot, first, second))
    return sum(products, start=jnp.zeros((), dtype_of(first)))


def norm(tree: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all entries, without a derivative, which it lacks at zero."""
    tree = jax.lax.stop_gradient(tree)
    return jnp.sqrt(inner(tree, tree))


def difference(first: PyTree, second: PyTree) -> PyTree:
    """`first - second`, leaf by leaf."""
    return jax.tree.map(jnp.subtract, first, second)


def moved(origin: PyTree, length: Float[Array, ""] | float, direction: PyTree) -> PyTree:
    """`origin + length * direction`, in the precision of the origin."""
    return jax.tree.map(lambda x, d: x + jnp.asarray(length, x.dtype) * d, origin, direction)


def dtype_of(tree: PyTree) -> jnp.dtype:
    """The floating-point type that holds every leaf."""
    # An array made of a Python number counts as any other: loops forget where it came from.
    return jnp.result_type(*map(jnp.result_type, jax.tree.leaves(tree)))


def in_precision(values: PyTree, params: PyTree) -> PyTree:
    """What a function of the parameters returns, in their precision: data may be of another.

    Arguments:
        values: of any structure; floating-point leaves are converted, others are as they are.
        params: a value of the same structure gets the precision leaf by leaf, any other that which
            holds every leaf.

    Returns:
        The values as arrays.
    """

    def converted(value: Any, dtype: jnp.dtype) -> Array:
        value = jnp.asarray(value)
        return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    structure: Any = jax.tree.structure(values)
    if structure == jax.tree.structure(params):
        return jax.tree.map(lambda v, p: converted(v, jnp.result_type(p)), values, params)
    dtype = dtype_of(params)
    return jax.tree.map(lambda v: converted(v, dtype), values)
