"""Vectors that are pytrees: the few operations that first-order methods are made of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

__all__ = ["difference", "dtype_of", "inner", "moved", "norm"]


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
    return jnp.result_type(*jax.tree.leaves(tree))
