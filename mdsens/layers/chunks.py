"""Batches that are worked on a part at a time, so that memory does not grow with the batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["in_chunks"]

#: Numbers in the matrices of the programs that are side by side.
_NUMBERS_AT_ONCE = 300_000


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
        of_all = jax.vmap(function, axes)
        parts = -(-count * size // _NUMBERS_AT_ONCE)
        if parts > 1 and jax.default_backend() == "cpu":
            found = _in_parts(of_all, tuple(is_batched), args, count, min(parts, count))
        else:
            found = of_all(*args)
        return found, jax.tree.map(lambda _: True, found)

    return run


def _in_parts(
    of_all: Callable[..., Any], is_batched: Any, args: Any, count: int, parts: int
) -> Any:
    """The function of one part after the other; the last one is filled up from the beginning."""
    length = -(-count // parts)
    parts = -(-count // length)
    index = (jnp.arange(parts * length) % count).reshape(parts, length)

    def of_part(index: Any) -> Any:
        chosen = jax.tree.map(
            lambda batched, leaf: jnp.asarray(leaf)[index] if batched else leaf,
            is_batched,
            args,
        )
        return of_all(*chosen)

    found = jax.lax.map(of_part, index)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)
