"""Functions of the edges of atoms, some of them at a time, so that what is computed is in cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mdsens.particles.edges import Edges


def in_groups(function: Callable[[Edges], Any], edges: Edges, most: int, axis: int = -1) -> Any:
    """A function of the edges of atoms, some of them at a time.

    Arguments:
        function: takes the Edges of some atoms, returns a pytree of arrays.
        edges: of C atoms.
        most: how many atoms are taken at a time.
        axis: which axis of what is returned counts atoms.

    Returns:
        What the function would return for all of them.
    """
    atoms = edges.mask.shape[1]
    groups = -(-atoms // most)
    if groups == 1:
        return function(edges)
    size = -(-atoms // groups)

    def split(array: Array) -> Array:
        filled = [(0, 0)] * (array.ndim - 1) + [(0, groups * size - atoms)]
        padded = jnp.pad(array, filled, mode="edge")
        return jnp.moveaxis(padded.reshape(*array.shape[:-1], groups, size), -2, 0)

    def joined(array: Array) -> Array:
        place = array.ndim - 1 + axis if axis < 0 else axis
        moved = jnp.moveaxis(array, 0, place)
        shape = moved.shape
        whole = moved.reshape(*shape[:place], groups * size, *shape[place + 2 :])
        return jax.lax.slice_in_dim(whole, 0, atoms, axis=place)

    return jax.tree.map(joined, jax.lax.map(function, jax.tree.map(split, edges)))
