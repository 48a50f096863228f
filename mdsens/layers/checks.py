"""What all layers ask of their inputs: numbers of the right kind, and values that are allowed."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from mdsens.errors import InputError
from mdsens.implicit.host import raise_where
from mdsens.values import boolean, integer, is_traced, real, shown

__all__ = [
    "booleans",
    "callables",
    "counts",
    "float_array",
    "known_real",
    "members",
    "require",
]


def callables(solver: Any, *names: str) -> None:
    """An error if one of the solver's fields is no function."""
    for name in names:
        value = getattr(solver, name)
        if not callable(value):
            raise InputError(f"{name} = {shown(value)}: give a function")


def booleans(solver: Any, *names: str) -> None:
    """An error if one of the solver's fields is neither True nor False."""
    for name in names:
        boolean(getattr(solver, name), name)


def counts(solver: Any, *names: str) -> None:
    """An error if one of the solver's fields is not a whole number of at least 1."""
    for name in names:
        integer(getattr(solver, name), name, at_least=1)


def known_real(value: Any, name: str, **bounds: float) -> None:
    """An error if a value is no number within bounds; one that JAX traces is none yet."""
    if not is_traced(value):
        real(value, name, **bounds)


def members(name: str, value: Any, parts: tuple[str, ...]) -> tuple[Any, ...]:
    """The members of a tuple or list that must have as many as there are names of parts."""
    if not isinstance(value, tuple | list) or len(value) != len(parts):
        raise InputError(f"{name} = {shown(value)}: give a tuple ({', '.join(parts)})")
    return tuple(value)


def float_array(name: str, value: ArrayLike, finite: bool = False) -> Float[Array, "..."]:
    """The value as a floating-point array.

    Arguments:
        name: what to call the value in the error.
        value: an array of any shape, or a Python number.
        finite: whether each number must be finite; inside compiled code it is not looked at.

    Returns:
        The same numbers; Python numbers and integers become arrays of the default precision.

    Raises:
        InputError: if the value is no array, or one of booleans or complex numbers.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = float(value)
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.integer):
            array = array.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} = {shown(value)}: give real numbers, in an array") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{name} holds {array.dtype}; allowed are real numbers: convert it with astype(float)."
        )
    if finite and not is_traced(array) and not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity; allowed are finite numbers.")
    return array


def require(value: PyTree, allowed: Bool[ArrayLike, "..."], message: str) -> PyTree:
    """The value, or an error if something is not allowed.

    Arguments:
        value: a pytree with at least one floating-point array, handed through.
        allowed: whether all is well; an array means all of it.
        message: what was given, what is allowed, what to do, in one line.

    Returns:
        `value`. Use it in place of the argument: under a transformation the check is made where
        the result is computed, and an unused result would be dropped together with its check.

    Raises:
        InputError: at once where `allowed` is known; inside compiled code the runtime's error with
            the same message.
    """
    if not is_traced(allowed):
        if not np.all(allowed):
            raise InputError(message)
        return value
    return raise_where(value, jnp.where(jnp.all(allowed), -1, 0), [message])
