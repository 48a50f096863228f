"""What the arguments of a solver are to JAX: their binding, their tangents, their kinds."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from mdsens.errors import InputError


def bind_arguments(
    function: Callable[..., Any], sol: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments that F gets, by the signature that tells where keyword arguments belong."""
    try:
        bound = inspect.signature(function).bind(sol, *args, **kwargs)
    except TypeError as error:
        raise InputError(
            f"the solver's keyword arguments {sorted(kwargs)} do not fit the signature of "
            f"{getattr(function, '__name__', function)} ({error}); pass a function with the "
            "solver's arguments as reference_signature."
        ) from None
    bound.apply_defaults()
    return bound


def split_result(result: Any, has_aux: bool) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
    """What a solver returned: solution, aux, and what puts the two together again.

    A named tuple, such as the one that JAXopt's solvers return, becomes one again.
    """
    if not has_aux:
        return result, None, lambda sol, aux: sol
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise InputError(
            f"has_aux=True, but the solver returned a {type(result).__name__}: return (sol, aux)"
        )
    named = getattr(type(result), "_make", tuple)
    return result[0], result[1], lambda sol, aux: named((sol, aux))


def hashable(tree: Any) -> bool:
    """Whether the leaves that are not arrays can be keys of the cache of compiled functions."""
    try:
        hash(tuple(leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, np.ndarray)))
    except TypeError:
        return False
    return True


def floats_to_arrays(leaf: Any) -> Any:
    """An array in place of a Python float, each value of which would be compiled anew."""
    return jnp.asarray(leaf) if isinstance(leaf, float) else leaf


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf is a floating-point number or array."""
    # equinox.is_inexact_array_like fails on the tracers of jax 0.10.
    return isinstance(leaf, float | complex) or (
        hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def directions_of(args: tuple[Any, ...], tangents: tuple[Any, ...]) -> list[Any]:
    """One tangent per leaf of the arguments, None where nothing changes."""
    if len(args) != len(tangents):
        raise InputError(
            f"{len(tangents)} tangents were given for {len(args)} arguments; give one for each "
            "(None: no change)."
        )
    directions: list[Any] = []
    for argument, tangent in zip(args, tangents, strict=True):
        structure: Any = jax.tree.structure(argument)
        if tangent is None:
            directions += [None] * structure.num_leaves
        else:
            directions += [without_zeros(leaf) for leaf in structure.flatten_up_to(tangent)]
    return directions


def stacked_count(leaves: Sequence[Any], stacked: Sequence[Any]) -> int | None:
    """How many arrays lie along an extra leading axis of each leaf; None if there is no such axis.

    Arguments:
        leaves: arrays or numbers.
        stacked: for each leaf one of its shape or of (K, *shape), or `None`.

    Returns:
        K.

    Raises:
        InputError: shapes that are neither, or differ in K.
    """
    pairs = zip(leaves, stacked, strict=True)
    shapes = [(jnp.shape(leaf), jnp.shape(given)) for leaf, given in pairs if given is not None]
    if all(given == shape for shape, given in shapes):
        return None
    counts = {given[0] if given and given[1:] == shape else None for shape, given in shapes}
    count = counts.pop()
    if counts or count is None:
        raise InputError(
            f"arrays of shapes {[given for _, given in shapes]} were given for "
            f"{[shape for shape, _ in shapes]}; allowed are these shapes, or for several at once "
            "all of these with the same extra leading axis."
        )
    return count


def is_symbolic_zero(tangent: Any) -> bool:
    """Whether JAX knows that this tangent is zero."""
    return isinstance(tangent, SymbolicZero)


def without_zeros(tangent: Any) -> Any:
    """The tangent, or None if it is known to vanish."""
    if tangent is None or is_symbolic_zero(tangent):
        return None
    return None if jnp.result_type(tangent) == jax.dtypes.float0 else tangent


def zero_tangents(tree: Any) -> Any:
    """Zeros of the kind that JAX expects as tangents: float0 for integers."""

    def zero(leaf: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            return jnp.zeros_like(leaf)
        return np.zeros(jnp.shape(leaf), jax.dtypes.float0)

    return jax.tree.map(zero, tree)
