"""L-BFGS, the limited-memory quasi-Newton method."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.relaxation.landscape import Landscape, largest_force, typical_force
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
        """No past steps yet."""
        past = jnp.zeros((self.history, *q.shape))
        return _Past(past, past, jnp.zeros(self.history), jnp.asarray(0))

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        past: _Past = state.memory
        fresh = past.inverses[past.newest] == 0
        direction = -_inverse_hessian_product(past, state.gradient)
        descends = jnp.vdot(direction, state.gradient) < 0
        direction = jnp.where(descends, direction, -state.gradient)
        first = jnp.where(
            fresh | ~descends,
            0.25 * self.max_step / jnp.maximum(typical_force(direction), 1e-300),
            1.0,
        )
        result, accepted = search(landscape, state, direction, first, self.max_step, curvature=0.9)
        past = _remembered(past, result.q - state.q, result.gradient - state.gradient, accepted)
        # A failed search forgets the model and begins again; failing without one is the end.
        inverses = jnp.where(accepted, past.inverses, 0.0)
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted & fresh,
            _Past(past.steps, past.changes, inverses, past.newest),
        )  # fmt: skip


class _Past(eqx.Module):
    """Past steps s, gradient changes y and 1/(s.y), in a ring; where that is 0 there is none."""

    steps: Float[Array, "M R D"]
    changes: Float[Array, "M R D"]
    inverses: Float[Array, " M"]
    newest: Int[Array, ""]


def _remembered(
    past: _Past, s: Float[Array, "R D"], y: Float[Array, "R D"], accepted: Bool[Array, ""]
) -> _Past:
    """The past with one step more, in the place of the oldest, if it tells of the curvature."""
    sy = jnp.vdot(s, y)
    useful = accepted & (sy > 1e-14 * jnp.vdot(y, y))
    place = jnp.where(useful, (past.newest + 1) % len(past.inverses), past.newest)

    def with_new(old: Array, new: Array) -> Array:
        # Only this place is written to: the rest of a long ring stays where it is.
        return old.at[place].set(jnp.where(useful, new, old[place]))

    return _Past(
        with_new(past.steps, s),
        with_new(past.changes, y),
        with_new(past.inverses, 1.0 / jnp.where(useful, sy, 1.0)),
        place,
    )


def _inverse_hessian_product(past: _Past, vector: Float[Array, "R D"]) -> Float[Array, "R D"]:
    """The two-loop recursion; entries with inverse 0 do nothing."""
    # From the oldest to the newest.
    order = (past.newest + 1 + jnp.arange(len(past.inverses))) % len(past.inverses)

    def backward(r: Array, place: Array) -> tuple[Array, Array]:
        a = past.inverses[place] * jnp.vdot(past.steps[place], r)
        return r - a * past.changes[place], a

    r, weights = jax.lax.scan(backward, vector, order, reverse=True)
    y = past.changes[past.newest]
    scale = past.inverses[past.newest] * jnp.vdot(y, y)
    r = r / jnp.where(scale > 0, scale, 1.0)

    def forward(r: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
        place, a = inputs
        b = past.inverses[place] * jnp.vdot(past.changes[place], r)
        return r + past.steps[place] * (a - b), None

    return jax.lax.scan(forward, r, (order, weights))[0]
