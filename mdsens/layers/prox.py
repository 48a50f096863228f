"""Proximal operators, argmin_y |x - y|^2 / 2 + scaling g(y), of functions of a pytree or an array.

Derivatives are those of the smooth piece that the point lies on; where pieces meet, of one of them,
an element of the generalised Jacobian. With a regulariser of 0 each is the identity on its domain,
and so is its derivative. Names and the order of arguments follow JAXopt 0.8.

A negative regulariser is an error everywhere. The scaling is a solver's step size: it is checked
where it is a known number, and costs nothing inside compiled loops.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from mdsens.layers.checks import members
from mdsens.layers.nuclear_norm import prox_nuclear_norm
from mdsens.layers.parameters import leafwise, nonnegative, norm, point, step_size
from mdsens.layers.total_variation import prox_total_variation_1d

__all__ = [
    "make_prox_from_projection",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_lasso",
    "prox_log_barrier",
    "prox_non_negative_lasso",
    "prox_non_negative_ridge",
    "prox_none",
    "prox_nuclear_norm",
    "prox_ridge",
    "prox_total_variation_1d",
]

Prox = Callable[..., PyTree[Array]]


def prox_none(x: PyTree, hyperparams: Any = None, scaling: ArrayLike = 1.0) -> PyTree:
    """The proximal operator of g(y) = 0, the identity.

    Arguments:
        x: a pytree.
        hyperparams: ignored; there for solvers that pass it.
        scaling: ignored.

    Returns:
        `x`.
    """
    return x


def prox_lasso(
    x: PyTree[ArrayLike], l1reg: PyTree[ArrayLike] | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = l1reg |y|_1, soft thresholding.

    Arguments:
        x: a pytree of arrays of any shape.
        l1reg: one number or array >= 0 for all leaves, or a pytree like `x`; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        sign(x) max(|x| - scaling l1reg, 0), with the structure of `x`.

    Raises:
        InputError: if `l1reg` or `scaling` is negative.
    """
    return _entrywise(_soft_threshold, x, {"l1reg": l1reg}, scaling)


def prox_non_negative_lasso(
    x: PyTree[ArrayLike], l1reg: PyTree[ArrayLike] | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = l1reg |y|_1 for y >= 0, infinite elsewhere.

    Arguments:
        x: a pytree of arrays of any shape.
        l1reg: one number or array >= 0 for all leaves, or a pytree like `x`; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        max(x - scaling l1reg, 0), with the structure of `x`.

    Raises:
        InputError: if `l1reg` or `scaling` is negative.
    """
    return _entrywise(
        lambda x, scaling, l1reg: _positive_part(x - scaling * l1reg), x, {"l1reg": l1reg}, scaling
    )


def prox_elastic_net(
    x: PyTree[ArrayLike],
    hyperparams: tuple[PyTree[ArrayLike], PyTree[ArrayLike]] | None = (1.0, 1.0),
    scaling: ArrayLike = 1.0,
) -> PyTree[Array]:
    """The proximal operator of g(y) = l1reg (|y|_1 + ratio |y|_2^2 / 2).

    Arguments:
        x: a pytree of arrays of any shape.
        hyperparams: `(l1reg, ratio)`, each one number or array >= 0 for all leaves or a pytree
            like `x`; `None` means (1, 1).
        scaling: a number >= 0 that multiplies g.

    Returns:
        The soft-thresholded `x` over 1 + scaling l1reg ratio, with the structure of `x`.

    Raises:
        InputError: if a regulariser or `scaling` is negative.
    """
    given = (1.0, 1.0) if hyperparams is None else hyperparams
    l1reg, ratio = members("hyperparams", given, ("l1reg", "ratio"))
    return _entrywise(
        lambda x, scaling, l1reg, ratio: (
            _soft_threshold(x, scaling, l1reg) / (1 + scaling * l1reg * ratio)
        ),
        x,
        {"l1reg": l1reg, "ratio": ratio},
        scaling,
    )


def prox_ridge(
    x: PyTree[ArrayLike], l2reg: PyTree[ArrayLike] | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = l2reg |y|_2^2 / 2.

    Arguments:
        x: a pytree of arrays of any shape.
        l2reg: one number or array >= 0 for all leaves, or a pytree like `x`; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        x / (1 + scaling l2reg), with the structure of `x`.

    Raises:
        InputError: if `l2reg` or `scaling` is negative.
    """
    return _entrywise(
        lambda x, scaling, l2reg: x / (1 + scaling * l2reg), x, {"l2reg": l2reg}, scaling
    )


def prox_non_negative_ridge(
    x: PyTree[ArrayLike], l2reg: PyTree[ArrayLike] | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = l2reg |y|_2^2 / 2 for y >= 0, infinite elsewhere.

    Arguments:
        x: a pytree of arrays of any shape.
        l2reg: one number or array >= 0 for all leaves, or a pytree like `x`; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        max(x, 0) / (1 + scaling l2reg), with the structure of `x`.

    Raises:
        InputError: if `l2reg` or `scaling` is negative.
    """
    return _entrywise(
        lambda x, scaling, l2reg: _positive_part(x) / (1 + scaling * l2reg),
        x,
        {"l2reg": l2reg},
        scaling,
    )


def prox_group_lasso(
    x: PyTree[ArrayLike], l2reg: ArrayLike | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = l2reg |y|_2 over all entries, block soft thresholding.

    Arguments:
        x: a pytree of arrays of any shape, one block; use `jax.vmap` for many.
        l2reg: a number >= 0; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        x max(1 - scaling l2reg / |x|_2, 0), with the structure of `x`.

    Raises:
        InputError: if `l2reg` or `scaling` is negative.
    """
    x = point(x)
    dtype = jax.tree.leaves(x)[0].dtype
    l2reg = nonnegative("l2reg", 1.0 if l2reg is None else l2reg, dtype)
    threshold = l2reg * step_size(scaling, dtype)
    length = norm(x)
    safe = jnp.where(length == 0, 1, length)
    return jax.tree.map(
        lambda leaf: jnp.where(length < threshold, 0, leaf - threshold * (leaf / safe)), x
    )


def prox_log_barrier(
    x: PyTree[ArrayLike], reg: PyTree[ArrayLike] | None = 1.0, scaling: ArrayLike = 1.0
) -> PyTree[Array]:
    """The proximal operator of g(y) = -reg sum log y.

    Arguments:
        x: a pytree of arrays of any shape.
        reg: one number or array >= 0 for all leaves, or a pytree like `x`; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        (x + sqrt(x^2 + 4 scaling reg)) / 2, with the structure of `x`. Where `x` and the
        regulariser are 0 there is no derivative in the regulariser; returned is 0.

    Raises:
        InputError: if `reg` or `scaling` is negative.
    """
    return _entrywise(_log_barrier, x, {"reg": reg}, scaling)


def make_prox_from_projection(projection: Callable[..., PyTree]) -> Prox:
    """The proximal operator of the function that is 0 on a set and infinite elsewhere.

    Arguments:
        projection: the projection onto the set, called as `projection(x, hyperparams)`.

    Returns:
        A function `prox(x, hyperparams=None, scaling=1.0)`; the scaling has no effect.
    """

    def prox(x: PyTree, hyperparams: Any = None, scaling: ArrayLike = 1.0) -> PyTree:
        return projection(x, hyperparams)

    return prox


def _entrywise(
    function: Callable[..., Array],
    x: PyTree,
    regularisers: dict[str, PyTree | None],
    scaling: ArrayLike,
) -> PyTree:
    """`function(entries, scaling, *regularisers)` of every leaf."""
    x = point(x)
    leaves = jax.tree.leaves(x)
    columns = [
        [
            nonnegative(name, one, leaf.dtype, single=False)
            for one, leaf in zip(
                leafwise(name, 1.0 if value is None else value, x), leaves, strict=True
            )
        ]
        for name, value in regularisers.items()
    ]
    results = [
        function(leaf, step_size(scaling, leaf.dtype), *values)
        for leaf, *values in zip(leaves, *columns, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(x), results)


def _soft_threshold(x: Array, scaling: Array, l1reg: Array) -> Array:
    threshold = scaling * l1reg
    return jnp.where(jnp.abs(x) < threshold, 0, x - jnp.sign(x) * threshold)


def _positive_part(x: Array) -> Array:
    return jnp.where(x < 0, 0, x)


def _log_barrier(x: Array, scaling: Array, reg: Array) -> Array:
    square = x**2 + 4 * scaling * reg
    root = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
    # The sum cancels where x is negative.
    difference = jnp.where(x < 0, root - x, 1)
    return jnp.where(x < 0, 2 * scaling * reg / difference, (x + root) / 2)
