"""Batches that are worked on a part at a time, so that memory does not grow with the batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["in_chunks"]

#: Numbers in the matrices of the programs that are side by side. XLA's batched factorisations and
#: products of matrices take longer than one after the other; tiny ones are a matter of dispatch.
_NUMBERS_AT_ONCE = 20_000


def in_chunks(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """The same function, which under `jax.vmap` takes a part of a large batch at a time.

    On accelerators it takes all, since these are fastest with all at once.

    Arguments:
        function: of pytrees of arrays, to be called with what has no derivatives.
        size: numbers in the matrices of one element.

    Returns:
        The function.
    """
    run = jax.custom_batching.custom_vmap(function)

    @run.def_vmap
    def batch(count: int, is_batched: Any, *args: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(is_batched))
        length = max(_NUMBERS_AT_ONCE // size, 1)
        if jax.default_backend() != "cpu" or length >= count:
            found = jax.vmap(function, axes)(*args)
        elif length == 1:
            found = _in_parts(run, axes, args, count, 1)
        else:
            found = _in_parts(jax.vmap(function, axes), axes, args, count, length)
        return found, jax.tree.map(lambda _: True, found)

    return run


def _in_parts(of_part: Callable[..., Any], axes: Any, args: Any, count: int, length: int) -> Any:
    """The function of one part after the other, each written into the place of its results.

    The last part begins early enough to be whole. Of parts of length 1 the function takes the
    element itself.
    """

    def part(start: Any) -> Any:
        def chosen(axis: int | None, leaf: Any) -> Any:
            if axis is None:
                return leaf
            leaf = jax.lax.dynamic_slice_in_dim(jnp.asarray(leaf), start, length)
            return leaf[0] if length == 1 else leaf

        found = of_part(*jax.tree.map(chosen, axes, args, is_leaf=lambda axis: axis is None))
        return jax.tree.map(lambda leaf: leaf[None], found) if length == 1 else found

    def step(index: Any, found: Any) -> Any:
        start = jnp.minimum(index * length, count - length)
        return jax.tree.map(
            lambda all_of, some: jax.lax.dynamic_update_slice_in_dim(all_of, some, start, 0),
            found,
            part(start),
        )

    shapes = jax.eval_shape(part, jnp.asarray(0))
    nothing = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, -(-count // length), step, nothing)
