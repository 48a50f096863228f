"""Arrays of NumPy and of JAX, one made from the other without a program for each shape."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from mdsens.values import is_traced

T = TypeVar("T")

#: Bytes that a processor reads at a time, and XLA asks arrays to begin at.
CACHE_LINE = 64


def on_device(value: ArrayLike, dtype: Any = None) -> Array:
    """An array of JAX's; `jax.numpy.asarray` compiles a program for each shape that it is given.

    Arguments:
        value: a number, a list of numbers, or an array.
        dtype: its type; None: as it is.

    Returns:
        The array: memory of its own, unless it was one of JAX's already.
    """
    if isinstance(value, jax.Array):
        return value if dtype is None or value.dtype == dtype else value.astype(dtype)
    # What is given may be changed as soon as this returns, and JAX reads it when it sees fit.
    return jax.device_put(np.array(value, dtype), may_alias=False)


def on_cache_lines(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of NumPy's that compiled code takes as it lies, for it begins at a cache's line.

    Of any other it takes a copy, at each call.

    Arguments:
        shape: its shape.
        dtype: its type.

    Returns:
        The array, not set to anything.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    begin = -memory.ctypes.data % CACHE_LINE
    found: np.ndarray = memory[begin : begin + size].view(dtype).reshape(shape)
    return found


def all_finite(tree: Any) -> bool:
    """Whether all numbers in the arrays of a tree are finite; on the host."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def in_numpy(tree: Any) -> Any:
    """NumPy's arrays for leaves, of which nothing has to be compiled, where none is traced."""
    if isinstance(tree, np.ndarray):
        return tree
    return tree if is_traced(tree) else jax.tree.map(np.asarray, tree)


def array_module(tree: Any) -> Any:
    """What computes with these arrays: `jax.numpy` where one is traced, else `numpy`."""
    return jnp if is_traced(tree) else np


def of_one_type(tree: T) -> T:
    """The same arrays, none of a weak type, which has programs of its own: `jax.grad` makes some.

    Leaves that JAX traces stay as they are.
    """

    def weak(leaf: Any) -> bool:
        return isinstance(leaf, jax.Array) and not is_traced(leaf) and bool(leaf.weak_type)

    if not any(map(weak, jax.tree.leaves(tree))):
        return tree
    found: T = jax.tree.map(lambda leaf: on_device(np.asarray(leaf)) if weak(leaf) else leaf, tree)
    return found


def scalar_product(x: Any, y: Any) -> Any:
    """The sum of x y over all entries, of two arrays of one shape.

    XLA adds up products a sixth as slowly as it makes the product of two long vectors, which
    `jax.numpy.vdot` asks for (measured: 2.8 and 17 us for 16 thousand numbers).
    """
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return np.vdot(x, y)
    return jnp.sum(x * y)


def squared_lengths(rows: Float[Any, "R D"]) -> Float[Any, " R"]:
    """The squared length of each row, in NumPy where it is given arrays that are not traced."""
    rows = in_numpy(rows)
    if isinstance(rows, np.ndarray):
        # Component by component: of 16 thousand short rows a quarter of the time of any sum along
        # them (0.05 ms; einsum 0.18, linalg.norm 0.42).
        squares = rows * rows
        return sum((squares[:, axis] for axis in range(1, squares.shape[1])), start=squares[:, 0])
    return jnp.sum(rows**2, axis=1)


def column_sums(rows: Float[Any, "R D"]) -> Float[Any, " D"]:
    """The sum of all rows, in NumPy where it is given arrays that are not traced."""
    if isinstance(rows, np.ndarray):
        # NumPy adds up one long column ten times as fast as many short rows.
        return np.array([column.sum() for column in rows.T])
    return jnp.sum(rows, axis=0)


def centred(rows: Float[Any, "R D"]) -> Float[np.ndarray, "R D"]:
    """Rows less their mean, in new memory, on the host."""
    moved = np.array(rows, float)
    for column in moved.T:
        column -= column.mean()
    return moved


def numbered(
    keys: Int[np.ndarray, "..."], bound: int
) -> tuple[Int[np.ndarray, " F"], Int[np.ndarray, "..."]]:
    """Different keys in order, and which of them each is; `numpy.unique` sorts all of them.

    Arguments:
        keys: whole numbers of at least 0.
        bound: what all are below; where it is not much more than there are keys, nothing is sorted.

    Returns:
        The F different keys; of each key its place among these, of the shape of the keys.
    """
    if bound > 16 * keys.size:
        chosen, which = np.unique(keys, return_inverse=True)
        return chosen, which.reshape(keys.shape)
    there = np.zeros(bound, bool)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there, dtype=np.int32) - np.int32(1))[keys]
