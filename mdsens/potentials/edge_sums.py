"""Sums over the edges of atoms: of second derivatives along changes, and of one slot at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def along_rows(
    rows: list[list[Float[Array, "K C"]]], changes: tuple[Float[Array, "K V C"], ...]
) -> Float[Array, "V V"]:
    """The sum over all edges of second derivatives along V changes of their vectors.

    Arguments:
        rows: D rows of D components of the second derivatives in each vector, each (K, C).
        changes: D components of the changes, each (K, V, C).

    Returns:
        Shape (V, V).
    """
    nothing = jnp.zeros_like(changes[0])
    pushed = [
        sum((entry[:, None] * d for entry, d in zip(row, changes, strict=True)), start=nothing)
        for row in rows
    ]
    return sum_of_products(changes, pushed, ((0, 2), (0, 2)))


def sum_of_products(one: Sequence[Array], other: Sequence[Array], axes: Any) -> Array:
    """The sum over D components of products of arrays, each summed over these axes."""
    products = [jnp.tensordot(a, b, axes) for a, b in zip(one, other, strict=True)]
    return sum(products[1:], start=products[0])


def sum_over_slots(
    add: Callable[[Any, Any], Any], start: Any, slots: Any, held: Bool[Array, " K"]
) -> Any:
    """A sum over slots of edges, which leaves out those that no atom has an edge in.

    Arguments:
        add: from a total and what is of one slot to the next total.
        start: the first total.
        slots: what is of each slot, in a first axis of arrays.
        held: shape (K,), whether some atom has an edge in each slot.

    Returns:
        The last total.
    """

    def add_if_held(total: Any, slot: tuple[Any, Any]) -> tuple[Any, None]:
        some, of_slot = slot
        return jax.lax.cond(some, add, lambda total, _: total, total, of_slot), None

    return jax.lax.scan(add_if_held, start, (held, slots))[0]


def of_slots_held(function: Callable[[Any], Any], slots: Any, held: Bool[Array, " K"]) -> Any:
    """What a function gives for each slot of edges, and zeros where no atom has an edge in it.

    Arguments:
        function: of what is of one slot, of arrays.
        slots: what is of each slot, in a first axis of arrays.
        held: shape (K,), whether some atom has an edge in each slot.

    Returns:
        The results, in a first axis of arrays.
    """
    first = jax.tree.map(lambda array: array[0], slots)
    shapes = jax.eval_shape(function, first)

    def nothing(_: Any) -> Any:
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def of_slot(slot: tuple[Any, Any]) -> Any:
        some, of_one = slot
        return jax.lax.cond(some, function, nothing, of_one)

    return jax.lax.map(of_slot, (held, slots))
