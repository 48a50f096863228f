"""L-BFGS, the limited-memory quasi-Newton method."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.relaxation.landscape import Landscape, largest_force
from mdsens.relaxation.line_search import LineSearchMinimiser, search
from mdsens.relaxation.minimiser import State


class LBFGS(LineSearchMinimiser):
    """L-BFGS with a line search; the enthalpy never rises.

    D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989); the two-loop recursion is algorithm 7.4
    of J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed.

    Arguments:
        history: number of past steps that model the curvature.
        max_step: largest move of an atom in one trial, length.
    """

    history: int = eqx.field(static=True, default=16)

    def start(self, q: Float[Array, "R D"]) -> Any:
        """Past steps s, gradient changes y, and 1/(s.y), newest last; zeros where there is none."""
        past = jnp.zeros((self.history, *q.shape))
        return past, past, jnp.zeros(self.history)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        steps, changes, inverses = state.memory
        fresh = inverses[-1] == 0
        direction = -_inverse_hessian_product(steps, changes, inverses, state.gradient)
        descends = jnp.vdot(direction, state.gradient) < 0
        direction = jnp.where(descends, direction, -state.gradient)
        first = jnp.where(
            fresh | ~descends,
            0.5 * self.max_step / jnp.maximum(largest_force(direction), 1e-300),
            1.0,
        )
        result, accepted = search(landscape, state, direction, first, self.max_step, curvature=0.9)
        s, y = result.q - state.q, result.gradient - state.gradient
        sy = jnp.vdot(s, y)
        useful = accepted & (sy > 1e-14 * jnp.vdot(y, y))

        def remembered(past: Array, new: Array) -> Array:
            shifted = jnp.concatenate([past[1:], new[None]])
            return jnp.where(useful, shifted, past)

        memory = (
            remembered(steps, s),
            remembered(changes, y),
            remembered(inverses, 1.0 / jnp.where(useful, sy, 1.0)),
        )
        # A failed search forgets the model and begins again; failing without one is the end.
        memory = jax.tree.map(lambda array: jnp.where(accepted, array, 0.0), memory)
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted & fresh, memory,
        )  # fmt: skip


def _inverse_hessian_product(
    steps: Float[Array, "M R D"],
    changes: Float[Array, "M R D"],
    inverses: Float[Array, " M"],
    vector: Float[Array, "R D"],
) -> Float[Array, "R D"]:
    """The two-loop recursion; entries with inverse 0 do nothing."""

    def backward(r: Array, past: tuple) -> tuple[Array, Array]:
        s, y, rho = past
        a = rho * jnp.vdot(s, r)
        return r - a * y, a

    r, weights = jax.lax.scan(backward, vector, (steps, changes, inverses), reverse=True)
    y = changes[-1]
    scale = inverses[-1] * jnp.vdot(y, y)
    r = r / jnp.where(scale > 0, scale, 1.0)

    def forward(r: Array, past: tuple) -> tuple[Array, None]:
        s, y, rho, a = past
        return r + s * (a - rho * jnp.vdot(y, r)), None

    return jax.lax.scan(forward, r, (steps, changes, inverses, weights))[0]
