"""Gradient descent, with a line search or a fixed step."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search
from mdsens.minimisers.minimiser import State


class GradientDescent(LineSearchMinimiser):
    """Steps along the force.

    Arguments:
        step_size: the fixed multiple of the force to move by, length^2/energy. None: the length of
            J. Barzilai and J. M. Borwein, IMA J. Numer. Anal. 8, 141 (1988), eq. 5, with a line
            search so that the enthalpy never rises.
        max_step: largest move of an atom in one step, length.
    """

    step_size: float | None = eqx.field(static=True, default=None)

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No step length yet."""
        return on_device(-1.0)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along the force."""
        if self.step_size is not None:
            longest = self.max_step / jnp.maximum(largest_force(state.gradient), 1e-300)
            q = state.q - jnp.minimum(self.step_size, longest) * state.gradient
            enthalpy, gradient = landscape.enthalpy_and_gradient(q)
            return State(q, enthalpy, gradient, state.evaluations + 1, state.stalled, state.memory)
        longest = 0.5 * self.max_step / jnp.maximum(largest_force(state.gradient), 1e-300)
        length = jnp.where(state.memory > 0, state.memory, longest)
        result, accepted = search(
            landscape, state, -state.gradient, length, self.max_step, curvature=0.9
        )
        s, y = result.q - state.q, result.gradient - state.gradient
        sy = jnp.vdot(s, y)
        barzilai_borwein = jnp.where(sy > 0, jnp.vdot(s, s) / jnp.where(sy > 0, sy, 1.0), -1.0)
        return reached(state, result, ~accepted, barzilai_borwein)
