"""The minimum residual method for symmetric matrices, definite or not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["minres"]

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class _State(NamedTuple):
    step: Int[Array, ""]
    x: Array
    previous: Array  # Lanczos vectors, before the preconditioner and normalisation
    current: Array
    preconditioned: Array
    beta: Array
    direction: Array  # the last two columns of V R^-1
    direction_before: Array
    cosine: Array
    sine: Array
    delta: Array
    epsilon: Array
    residual: Array


def minres(
    matvec: Product,
    b: Float[Array, " n"],
    preconditioner: Product | None,
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """Solve A x = b for a symmetric A, minimising the residual over the Krylov space.

    Where A is singular and b lies in its range, x is the solution of smallest norm.

    Arguments:
        matvec: v -> A v.
        b: right-hand side.
        preconditioner: v -> M^-1 v, symmetric and positive definite, near the inverse of A's
            modulus; `None`: the identity.
        rtol: residual, in the norm of M^-1 and relative to that of `b`, at which it stops.
        max_steps: most iterations.

    Returns:
        x and the number of iterations.

    Paige and Saunders 1975, SIAM J. Numer. Anal. 12, 617, with the preconditioner as in Choi,
    Paige and Saunders 2011, SIAM J. Sci. Comput. 33, 1810, algorithm 1.
    """
    apply = preconditioner or (lambda v: v)
    dtype = b.dtype
    tiny = jnp.finfo(dtype).tiny
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    first = apply(b)
    beta_first = jnp.sqrt(jnp.maximum(jnp.vdot(b, first), 0))
    nothing = jnp.zeros_like(b)
    start = _State(
        step=jnp.zeros((), int),
        x=nothing,
        previous=nothing,
        current=b,
        preconditioned=first,
        beta=beta_first,
        direction=nothing,
        direction_before=nothing,
        cosine=-one,
        sine=zero,
        delta=zero,
        epsilon=zero,
        residual=beta_first,
    )

    def unfinished(state: _State) -> Array:
        # A beta of zero: the Krylov space is exhausted, and x as good as it can be.
        going = (state.residual > rtol * beta_first) & (state.beta > tiny)
        return going & (state.step < max_steps)

    def advance(state: _State, beta_before: Array) -> tuple[_State, Array]:
        v = state.preconditioned / state.beta
        product = matvec(v)
        product -= jnp.where(state.step > 0, state.beta / beta_before, 0) * state.previous
        alpha = jnp.vdot(v, product)
        following = product - (alpha / state.beta) * state.current
        preconditioned = apply(following)
        beta = jnp.sqrt(jnp.maximum(jnp.vdot(following, preconditioned), 0))
        # The last rotation acts on the new column of the tridiagonal matrix; the next one is made
        # such that it removes beta.
        above = state.epsilon
        delta = state.cosine * state.delta + state.sine * alpha
        gamma_bar = state.sine * state.delta - state.cosine * alpha
        gamma = jnp.maximum(jnp.hypot(gamma_bar, beta), tiny)
        cosine, sine = gamma_bar / gamma, beta / gamma
        direction = (v - above * state.direction_before - delta * state.direction) / gamma
        x = state.x + (cosine * state.residual) * direction
        new = _State(
            step=state.step + 1,
            x=x,
            previous=state.current,
            current=following,
            preconditioned=preconditioned,
            beta=beta,
            direction=direction,
            direction_before=state.direction,
            cosine=cosine,
            sine=sine,
            delta=-state.cosine * beta,
            epsilon=state.sine * beta,
            residual=sine * state.residual,
        )
        return new, state.beta

    def body(carry: tuple[_State, Array]) -> tuple[_State, Array]:
        return advance(*carry)

    final, _ = jax.lax.while_loop(lambda carry: unfinished(carry[0]), body, (start, one))
    result: Any = final.x
    return result, final.step
