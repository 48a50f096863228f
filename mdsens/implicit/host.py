"""Solvers that are not written in JAX, called from code that JAX traces."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mdsens.errors import InputError, MdsensError
from mdsens.implicit.arguments import is_differentiable
from mdsens.values import listing

HOST_CODE_ERRORS = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
)
"""What JAX raises when host code reads a traced value."""


def call_on_host(call: Callable[[Any], Any], dynamic: Any, result_shape: Any) -> Any:
    """Call a function of arrays with their numbers, when the compiled code runs.

    Under `vmap` it is called once for each element, in turn.

    Arguments:
        call: host code; gets `dynamic` with NumPy arrays for leaves.
        dynamic: a pytree of arrays.
        result_shape: structure, shapes and types of what it returns.

    Returns:
        The result, as JAX arrays.
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
            raise InputError(
                f"the solver returned {structures[0]} with shapes {shapes}, but {structures[1]} "
                f"with shapes {allowed} was announced; pass its result_shape."
            )
        return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), result, expected)

    return jax.pure_callback(run, expected, dynamic, vmap_method="sequential")


def raise_where(
    value: Any, problem: Any, messages: Sequence[str], error: type[MdsensError] = InputError
) -> Any:
    """The value, or an error from inside compiled code, which the runtime of JAX wraps in its own.

    Arguments:
        value: a pytree with at least one floating-point array, handed through.
        problem: index of the message that applies, or -1. Of several, as those of the members of a
            `vmap`, those that have one are named.
        messages: one line each.
        error: what is raised.

    Returns:
        `value`, which has to be used in place of the argument.
    """

    def report(problem: np.ndarray) -> None:
        problem = np.asarray(problem)
        indices = np.argwhere(problem >= 0).tolist()
        members = [index[0] if len(index) == 1 else index for index in indices]
        plural = "s" if len(members) > 1 else ""
        which = f"member{plural} {listing(members)} of a batch: " if problem.size > 1 else ""
        raise error(which + messages[problem[problem >= 0][0]])

    def fail(problem: Array) -> Array:
        shape = jax.ShapeDtypeStruct(problem.shape, bool)
        failed: Array = jax.pure_callback(report, shape, problem, vmap_method="expand_dims")
        return failed

    # One condition for all members of a batch, so that the host is only called if there is need,
    # and one outcome, so that a value that is the same for all of them stays so.
    any_problem = eqxi.unvmap_any(problem >= 0)
    failed = jax.lax.cond(any_problem, fail, lambda p: jnp.zeros_like(p, bool), problem)
    failed = eqxi.unvmap_any(failed)
    return jax.tree.map(
        lambda leaf: jnp.where(failed, jnp.nan, leaf) if eqx.is_inexact_array(leaf) else leaf, value
    )


def announced_shape(
    result_shape: Any, has_aux: bool, init: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What a solver on the host will return: as it was said, or else what it starts from.

    Arguments:
        result_shape: as in `custom_root`.
        has_aux: whether the solver returns `(sol, aux)`.
        init: where it starts.
        args: its other arguments.
        kwargs: those by name.

    Returns:
        `(sol, aux)` of arrays or `jax.ShapeDtypeStruct`.

    Raises:
        InputError: if nothing was said and the start does not tell.
    """
    if callable(result_shape):
        result_shape = result_shape(init, *args, **kwargs)
    if result_shape is not None:
        return result_shape if has_aux else (result_shape, None)
    leaves = jax.tree.leaves(init)
    if has_aux or not leaves or not all(map(is_differentiable, leaves)):
        raise InputError(
            "the solver is not written in JAX, and what it returns under jit or vmap cannot be "
            "known from its start alone; pass result_shape with jax.ShapeDtypeStruct leaves."
        )
    return jax.tree.map(jnp.asarray, init), None


def arrays_only(aux: Any) -> tuple[Any, Any]:
    """What of aux JAX can carry, and the rest (words, objects)."""
    return eqx.partition(aux, eqx.is_array_like)
