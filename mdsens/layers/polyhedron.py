"""The projection onto a polyhedron, a quadratic program."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.layers.checks import float_array, members
from mdsens.layers.quadratic_program import QuadraticProgram

__all__ = ["projection_polyhedron"]


def projection_polyhedron(
    x: Float[Array, " n"], hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = True
) -> Float[Array, " n"]:
    """The nearest point with A y = b and G y <= h.

    Arguments:
        x: (n,).
        hyperparams: (A, b, G, h) of shapes (p, n), (p,), (m, n) and (m,); A and b, or G and h, may
            be `None`.
        check_feasible: True: what has no solution is always an error.

    Returns:
        The nearest point, (n,), with derivatives in x and in all of `hyperparams`.

    Raises:
        InputError: for wrong shapes or integers, and as `InfeasibleError` if no point fulfils the
            constraints.

    Solves min |y - x|^2 / 2 by `QuadraticProgram`.
    """
    if check_feasible is not True:
        raise InputError(
            f"check_feasible = {check_feasible}: allowed is True, constraints that contradict one "
            "another have no nearest point; look for InfeasibleError instead"
        )
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
