"""Programs begun from a solution nearby, such as that of the last step of a training loop."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdsens.errors import InputError
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.active_set import find_active_set
from mdsens.layers.checks import float_array
from mdsens.layers.program import Program, harmless, kkt_error, rescale

__all__ = ["Start", "flat_start", "warm_start"]

Start = tuple[Float[Array, " n"], Float[Array, " m"]]
"""x and the multipliers of all rows."""


def flat_start(init_params: Any, unknowns: int, equations: int, inequalities: int) -> Start | None:
    """The start that a solution of another program is; None for what is none.

    Arguments:
        init_params: a `KKTSolution` of vectors; multipliers that are None are zero.
        unknowns: the length of its primal.
        equations: that of its dual_eq.
        inequalities: that of its dual_ineq.

    Returns:
        x (n,) and y (m,).

    Raises:
        InputError: if lengths do not go together.
    """
    if not isinstance(init_params, KKTSolution):
        return None
    parts = []
    for name, part, size in zip(
        KKTSolution._fields, init_params, (unknowns, equations, inequalities), strict=True
    ):
        vector = jnp.zeros(size) if part is None else float_array(f"init_params.{name}", part)
        if vector.shape != (size,):
            raise InputError(
                f"init_params.{name} has the shape {vector.shape}; allowed is {(size,)} here."
            )
        parts.append(vector)
    return parts[0], jnp.concatenate(parts[1:])


def warm_start(
    program: Program, start: Start, tol: float
) -> tuple[Program, Float[Array, " n"], Float[Array, " m"], Bool[Array, ""]]:
    """The solution by the active rows of a solution nearby, where these lead to it.

    One linear solve tells: the rows that are active at the start, by it and its multipliers, have
    a solution, which either fulfils the conditions or not. More rows than these are not tried,
    since that soon costs as much as a solver; in a batch each element is on its own.

    Arguments:
        program: the program, a constant of differentiation.
        start: a solution nearby and its multipliers.
        tol: relative error of the optimality conditions up to which it is one.

    Returns:
        What is left to solve, the program or in its place one that is solved at once; the solution
        and the multipliers of the rescaled program; and whether they are those.
    """
    scaled, rows, objective = rescale(program)
    x, y = (part.astype(program.c.dtype) for part in start)
    x, y, _ = find_active_set(scaled, rows, objective, x, y * objective / rows, attempts=1)
    # A comparison that is false where something is not a number.
    good = kkt_error(scaled, x, y) <= tol
    return harmless(program, ~good), x, y, good
