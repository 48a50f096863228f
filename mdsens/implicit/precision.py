"""How wrong is an implicit derivative that was taken at an approximate solution."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from mdsens.implicit.derivatives import NullSpace, linearise, root_jvp
from mdsens.implicit.linear import Solver
from mdsens.implicit.linear import solve as linear_solve

__all__ = ["JacobianError", "jacobian_error_estimate", "newton_step"]


class JacobianError(eqx.Module):
    """An implicit derivative at an approximate solution, and an estimate of its error.

    - `absolute`: estimated norm of the error of `derivative`.
    - `relative`: the same divided by the norm of `corrected`; 0 if both are 0.
    - `derivative`: the derivative at the approximate solution.
    - `corrected`: the derivative after one Newton step, with an error of second order.
    - `solution_error`: norm of the Newton step, an estimate of the error of the solution.
    """

    absolute: Float[Array, ""]
    relative: Float[Array, ""]
    derivative: PyTree[Float[Array, "..."]]
    corrected: PyTree[Float[Array, "..."]]
    solution_error: Float[Array, ""]


def jacobian_error_estimate(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
) -> JacobianError:
    """Estimate the error of the implicit derivative at a point that solves F = 0 only nearly.

    With J the derivative as a function of the point x where it is evaluated, the error of J(x) is
    at most a constant times the error of x (Blondel et al. 2021, arXiv 2105.15183, theorem 1).
    Here that error itself is estimated: one Newton step d = -(dF/dx)^-1 F(x) leaves an error of
    second order, so J(x + d) - J(x) is the error of J(x) up to second order. It needs two linear
    solves more than the derivative.

    **Arguments:**

    - `optimality_fun`, `solve`, `symmetric`, `null_space`: as in `custom_root`.
    - `sol`: the approximate solution, a pytree of floating-point arrays.
    - `args`, `tangents`: the other arguments of F and one direction for each, as in `root_jvp`.

    **Returns:** a `JacobianError`.

    **Raises:** as `root_jvp`.
    """
    sol = jax.tree.map(jnp.asarray, sol)
    improved = newton_step(
        optimality_fun, sol, args, solve, symmetric=symmetric, null_space=null_space
    )

    def tangent_at(point: Any) -> Any:
        return root_jvp(
            optimality_fun,
            point,
            args,
            tangents,
            solve,
            symmetric=symmetric,
            null_space=null_space,
            least_squares=True,
        )

    derivative, corrected = tangent_at(sol), tangent_at(improved)
    absolute = _norm(jax.tree.map(jnp.subtract, corrected, derivative))
    size = _norm(corrected)
    relative = jnp.where(absolute == 0, 0, absolute / jnp.where(size > 0, size, 1))
    relative = jnp.where((size == 0) & (absolute > 0), jnp.inf, relative)
    step = jax.tree.map(jnp.subtract, improved, sol)
    return JacobianError(absolute, relative, derivative, corrected, _norm(step))


def newton_step(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
    matvec: Callable[[PyTree], PyTree] | None = None,
) -> PyTree:
    """The point after one Newton step on F(x, *args) = 0, of smallest norm in the null space.

    **Arguments:**

    - `optimality_fun`, `solve`, `symmetric`, `null_space`: as in `custom_root`.
    - `sol`: an approximate solution, a pytree of floating-point arrays.
    - `args`: the other arguments of F.
    - `matvec`: v -> dF/dx v, where the caller has it at hand; `None`: from F.

    **Returns:** x - (dF/dx)^-1 F(x), with the structure of `sol`.

    **Raises:** as `root_jvp`.
    """
    matvec, vectors = linearise(optimality_fun, sol, args, null_space, matvec)
    right = jax.tree.map(lambda f, x: -f.astype(x.dtype), optimality_fun(sol, *args), sol)
    # What F has in the null space, no step can remove.
    step = linear_solve(
        matvec,
        right,
        solver=solve,
        symmetric=symmetric,
        null_space=vectors,
        least_squares=True,
    ).value
    return jax.tree.map(jnp.add, sol, step)


def _norm(tree: Any) -> Array:
    return jnp.linalg.norm(ravel_pytree(tree)[0])
