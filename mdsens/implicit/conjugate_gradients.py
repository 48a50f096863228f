"""Conjugate gradients for symmetric positive definite matrices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["conjugate_gradients"]

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]
_State = tuple[Array, Array, Array, Array, Array, Array]


def conjugate_gradients(
    matvec: Product,
    b: Float[Array, " n"],
    preconditioner: Product | None,
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """Solve A x = b for a symmetric positive definite A.

    It ends early, with what it has, where a direction of no or negative curvature shows that A is
    not positive definite; whoever calls it looks at the residual.

    Arguments:
        matvec: v -> A v.
        b: right-hand side.
        preconditioner: v -> M^-1 v, symmetric and positive definite; `None`: the identity.
        rtol: norm of the residual, relative to that of `b`, at which it stops.
        max_steps: most iterations.

    Returns:
        x and the number of iterations.

    Hestenes and Stiefel 1952, J. Res. Natl. Bur. Stand. 49, 409, section 3; preconditioned as in
    Saad 2003, Iterative Methods for Sparse Linear Systems, algorithm 9.1.
    """
    apply = preconditioner or (lambda v: v)
    limit = rtol**2 * jnp.vdot(b, b)
    first = apply(b)

    def unfinished(state: _State) -> Array:
        _, residual, _, curvature, _, step = state
        return (jnp.vdot(residual, residual) > limit) & (curvature > 0) & (step < max_steps)

    def advance(state: _State) -> _State:
        x, residual, direction, _, weight, step = state
        product = matvec(direction)
        curvature = jnp.vdot(direction, product)
        length = jnp.where(curvature > 0, weight / jnp.where(curvature > 0, curvature, 1), 0)
        x = x + length * direction
        residual = residual - length * product
        preconditioned = apply(residual)
        new_weight = jnp.vdot(residual, preconditioned)
        direction = preconditioned + (new_weight / weight) * direction
        return x, residual, direction, curvature, new_weight, step + 1

    one = jnp.ones((), b.dtype)
    start = (jnp.zeros_like(b), b, first, one, jnp.vdot(b, first), jnp.asarray(0))
    x, *_, step = jax.lax.while_loop(unfinished, advance, start)
    return x, step
