"""The projection onto a polyhedron, a quadratic program."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from mdsens.errors import InputError
from mdsens.layers.checks import float_array, members
from mdsens.layers.quadratic_program import QuadraticProgram
from mdsens.values import boolean

__all__ = ["projection_polyhedron"]


def projection_polyhedron(
    x: Real[ArrayLike, "n"], hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = True
) -> Float[Array, " n"]:
    """The nearest point with A y = b and G y <= h.

    Arguments:
        x: (n,).
        hyperparams: (A, b, G, h) of shapes (p, n), (p,), (m, n) and (m,); A and b, or G and h, may
            be `None`.
        check_feasible: without effect: constraints that contradict one another are an error, in
            compiled code as well.

    Returns:
        The nearest point, (n,), with derivatives in x and in all of `hyperparams`.

    Raises:
        InputError: for wrong shapes, and as `InfeasibleError` if no point fulfils the
            constraints.

    Solves min |y - x|^2 / 2 by `QuadraticProgram`.
    """
    boolean(check_feasible, "check_feasible")
    x = float_array("x", x)
    A, b, G, h = members("hyperparams", hyperparams, ("A", "b", "G", "h"))
    if (A is None) != (b is None) or (G is None) != (h is None):
        raise InputError("hyperparams has a matrix without bounds, or bounds without a matrix.")
    identity = jnp.eye(x.shape[0] if x.ndim else 1, dtype=x.dtype)
    solution: Array = (
        QuadraticProgram()
        .run(
            params_obj=(identity, -x),
            params_eq=None if A is None else (A, b),
            params_ineq=None if G is None else (G, h),
        )
        .params.primal
    )
    return solution
