"""What all layers ask of their inputs: numbers of the right kind, and values that are allowed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from mdsens.errors import InputError

__all__ = ["float_array", "require"]


def float_array(name: str, value: ArrayLike) -> Float[Array, "..."]:
    """The value as a floating-point array.

    Arguments:
        name: what to call the value in the error.
        value: an array of any shape, or a Python number.

    Returns:
        The same numbers; Python numbers become arrays of the default precision.

    Raises:
        InputError: if the value is an array of integers, booleans or complex numbers, in which
            there would be no derivative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return jnp.asarray(float(value))
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{name} holds {array.dtype}; allowed are real floating-point numbers: convert it with "
            "astype(float)."
        )
    return array


def require(value: PyTree, allowed: Bool[ArrayLike, "..."], message: str) -> PyTree:
    """The value, or an error if something is not allowed.

    Arguments:
        value: a pytree with at least one array, handed through.
        allowed: whether all is well; an array means all of it.
        message: what was given, what is allowed, what to do, in one line.

    Returns:
        `value`. Use it in place of the argument: under a transformation the check is made where
        the result is computed, and an unused result would be dropped together with its check.

    Raises:
        InputError: at once where `allowed` is known; inside compiled code the runtime's error with
            the same message.
    """
    if not isinstance(allowed, jax.core.Tracer):
        if not np.all(allowed):
            raise InputError(message)
        return value
    dynamic, static = eqx.partition(value, eqx.is_array)
    checked: Any = eqx.error_if(dynamic, jnp.logical_not(jnp.all(allowed)), message)
    return eqx.combine(checked, static)
