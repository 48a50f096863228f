"""Points and parameters of projections and proximal operators: how they are read and measured."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from mdsens.errors import InputError
from mdsens.layers.checks import float_array, require
from mdsens.values import is_traced

__all__ = [
    "is_number",
    "leafwise",
    "nonnegative",
    "norm",
    "number",
    "point",
    "step_size",
    "vdot",
    "vector",
]


def is_number(value: Any) -> bool:
    """Whether the value is a Python number, which takes the precision of what it meets."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def point(x: PyTree) -> PyTree:
    """The point to project, with floating-point arrays for leaves; it has at least one."""
    if not jax.tree.leaves(x):
        raise InputError("x has no arrays; allowed is an array or a pytree of at least one array.")
    return jax.tree.map(lambda leaf: float_array("x", leaf, finite=True), x)


def vector(name: str, x: ArrayLike, excluded: bool = False) -> Float[Array, "n"]:
    """The value as a vector with at least one entry, which may be -inf where `excluded` says so."""
    array = float_array(name, x, finite=not excluded)
    if excluded and not is_traced(array) and not (np.isfinite(array) | (array == -np.inf)).all():
        raise InputError(f"{name} holds NaN or infinity; allowed are finite numbers and -inf.")
    if array.ndim != 1 or array.size == 0:
        raise InputError(
            f"{name} has shape {array.shape}; allowed is a vector of one or more entries: use "
            "jax.vmap for many vectors and ravel() for other shapes."
        )
    return array


def number(name: str, value: ArrayLike, dtype: Any, finite: bool = False) -> Float[Array, "..."]:
    """The value as an array; Python numbers take the given precision."""
    if is_number(value):
        value = jnp.asarray(value, dtype)
    return float_array(name, value, finite)


def nonnegative(
    name: str, value: ArrayLike, dtype: Any, single: bool = True, finite: bool = True
) -> Float[Array, "..."]:
    """As `number`, with the check that nothing is negative; one number unless `single` is false."""
    array = number(name, value, dtype)
    if single and array.shape != ():
        raise InputError(f"{name} has shape {array.shape}; allowed is one number.")
    # A known number is judged on the host: under jit that saves a check at run time, elsewhere a
    # program.
    given = array if is_traced(value) else np.asarray(value)
    shown = f" = {value}" if is_number(value) else ""
    return require(
        array,
        (given >= 0) & (given < np.inf) if finite else given >= 0,
        f"{name}{shown} is negative, infinite or not a number; allowed are finite numbers >= 0."
        if finite
        else f"{name}{shown} is negative or not a number; allowed are numbers >= 0.",
    )


def step_size(value: ArrayLike, dtype: Any) -> Float[Array, "..."]:
    """The scaling of a proximal operator; a traced one, a solver's own, is not checked."""
    if isinstance(value, jax.core.Tracer):
        return number("scaling", value, dtype)
    return nonnegative("scaling", value, dtype)


def leafwise(name: str, value: PyTree, x: PyTree) -> list[Any]:
    """The value that belongs to each leaf of x, from one for all or from a pytree like x."""
    structure: Any = jax.tree.structure(x)
    given: Any = jax.tree.structure(value)
    if given == structure:
        values = jax.tree.leaves(value)
    elif jax.tree_util.treedef_is_leaf(given):
        values = [value] * structure.num_leaves
    else:
        raise InputError(
            f"{name} has the structure {given}; allowed is one number or array for all, or the "
            f"structure of x, {structure}."
        )
    for one, leaf in zip(values, jax.tree.leaves(x), strict=True):
        one = one if is_number(one) else float_array(name, one)
        try:
            fits = np.broadcast_shapes(np.shape(one), np.shape(leaf)) == np.shape(leaf)
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"{name} has shape {np.shape(one)} where x has {np.shape(leaf)}; allowed is a "
                "shape that broadcasts to that of x."
            )
    return values


@jax.jit
def vdot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The inner product of two pytrees of the same structure."""
    return sum(jax.tree.leaves(jax.tree.map(lambda u, v: jnp.sum(u * v), a, b)), jnp.asarray(0.0))


@jax.jit
def norm(x: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all entries, without overflow; its derivatives are 0 where it is 0."""
    largest = jax.lax.stop_gradient(
        jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(x)]))
    )
    scale = jnp.where(largest == 0, 1, largest)
    square = sum(jnp.sum((leaf / scale) ** 2) for leaf in jax.tree.leaves(x))
    zero = square == 0
    return scale * jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
