"""Solvers that are not written in JAX, called from code that JAX traces."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from mdsens.implicit.arguments import is_differentiable

HOST_CODE_ERRORS = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
)
"""What JAX raises when host code reads a traced value."""


def is_traced(tree: Any) -> bool:
    """Whether any leaf is a value that JAX is tracing."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def call_on_host(call: Callable[[Any], Any], dynamic: Any, result_shape: Any) -> Any:
    """Call a function of arrays with their numbers, when the compiled code runs.

    Under `vmap` it is called once for each element, in turn.

    **Arguments:**

    - `call`: host code; gets `dynamic` with NumPy arrays for leaves.
    - `dynamic`: a pytree of arrays.
    - `result_shape`: structure, shapes and types of what it returns.

    **Returns:** the result, as JAX arrays.
    """
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), result_shape
    )

    def run(values: Any) -> Any:
        # NumPy's own arrays: a callback that waits for JAX could wait forever.
        result = call(jax.tree.map(np.asarray, values))
        structures: Any = jax.tree.structure(result), jax.tree.structure(expected)
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(result)]
        allowed = [leaf.shape for leaf in jax.tree.leaves(expected)]
        if structures[0] != structures[1] or shapes != allowed:
            raise ValueError(
                f"the solver returned {structures[0]} with shapes {shapes}, but {structures[1]} "
                f"with shapes {allowed} was announced; pass its result_shape."
            )
        return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), result, expected)

    return jax.pure_callback(run, expected, dynamic, vmap_method="sequential")


def announced_shape(result_shape: Any, has_aux: bool, init: Any, args: tuple, kwargs: dict) -> Any:
    """What a solver on the host will return: as it was said, or else what it starts from.

    **Arguments:**

    - `result_shape`: as in `custom_root`.
    - `has_aux`: whether the solver returns `(sol, aux)`.
    - `init`, `args`, `kwargs`: its arguments.

    **Returns:** `(sol, aux)` of arrays or `jax.ShapeDtypeStruct`.

    **Raises:** `TypeError` if nothing was said and the start does not tell.
    """
    if callable(result_shape):
        result_shape = result_shape(init, *args, **kwargs)
    if result_shape is not None:
        return result_shape if has_aux else (result_shape, None)
    leaves = jax.tree.leaves(init)
    if has_aux or not leaves or not all(map(is_differentiable, leaves)):
        raise TypeError(
            "the solver is not written in JAX, and what it returns under jit or vmap cannot be "
            "known from its start alone; pass result_shape with jax.ShapeDtypeStruct leaves."
        )
    return jax.tree.map(jnp.asarray, init), None


def arrays_only(aux: Any) -> tuple[Any, Any]:
    """What of aux JAX can carry, and the rest (words, objects)."""
    return eqx.partition(aux, eqx.is_array_like)
