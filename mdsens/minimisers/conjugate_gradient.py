"""Nonlinear conjugate gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search
from mdsens.minimisers.minimiser import State


class ConjugateGradient(LineSearchMinimiser):
    """Nonlinear conjugate gradients with an accurate line search.

    The direction is that of E. Polak and G. Ribiere with restarts where beta would be negative
    (J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., eq. 5.45).

    Arguments:
        max_step: largest move of an atom in one trial, length.
    """

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No direction, no length, and no previous gradient yet."""
        blank = np.zeros(q.shape)
        return on_device(blank), on_device(-1.0), on_device(blank)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along the conjugate direction."""
        previous, length, old = state.memory
        g = state.gradient
        old_square = jnp.vdot(old, old)
        beta = jnp.maximum(jnp.vdot(g, g - old), 0.0) / jnp.where(old_square > 0, old_square, 1.0)
        direction = jnp.where(old_square > 0, beta, 0.0) * previous - g
        descends = jnp.vdot(direction, g) < 0
        direction = jnp.where(descends, direction, -g)
        longest = 0.5 * self.max_step / jnp.maximum(largest_force(direction), 1e-300)
        first = jnp.where(length > 0, length, longest)
        result, accepted = search(landscape, state, direction, first, self.max_step, curvature=0.1)
        move = jnp.sqrt(jnp.vdot(result.q - state.q, result.q - state.q))
        taken = move / jnp.sqrt(jnp.maximum(jnp.vdot(direction, direction), 1e-300))
        restarted = (jnp.zeros_like(g), jnp.asarray(-1.0), jnp.zeros_like(g))
        kept = jax.tree.map(
            lambda new, blank: jnp.where(accepted, new, blank), (direction, taken, g), restarted
        )
        # A failed search along the force itself cannot be mended by a restart.
        stalled = ~accepted & (old_square == 0)
        return reached(state, result, stalled, kept)
