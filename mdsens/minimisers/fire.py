"""FIRE, the fast inertial relaxation engine."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers.minimiser import Minimiser, State


class FIRE(Minimiser):
    """FIRE with the parameters and the update of ASE, step for step.

    E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).

    Arguments:
        dt: first time step; in units where masses are one.
        max_step: largest norm of the whole displacement in one step, length.
        dt_max: largest time step.
        n_min: downhill steps before the time step grows.
        f_inc: factor by which it grows.
        f_dec: factor by which it shrinks on an uphill step.
        a_start: first mixing of velocity with force.
        f_a: factor by which the mixing shrinks.
    """

    dt: float = 0.1
    max_step: float = 0.2
    dt_max: float = 1.0
    n_min: int = eqx.field(static=True, default=5)
    f_inc: float = 1.1
    f_dec: float = 0.5
    a_start: float = 0.1
    f_a: float = 0.99

    def start(self, q: Float[Array, "R D"]) -> Any:
        """Velocity zero, the first time step and mixing, no downhill steps, and no step yet."""
        return (
            on_device(np.zeros(q.shape)),
            on_device(self.dt, float),
            on_device(self.a_start, float),
            on_device(0),
            on_device(True),
        )

    def step(self, landscape: Landscape, state: State) -> State:
        """Mix velocity with force, adapt the time step, and move."""
        v, dt, a, downhill_steps, first = state.memory
        f = -state.gradient
        downhill = jnp.vdot(f, v) > 0.0
        # The guard serves the first step, where both are zero and nothing is mixed.
        f_norm = jnp.sqrt(jnp.maximum(jnp.vdot(f, f), jnp.finfo(float).tiny))
        mixed = (1.0 - a) * v + a * f / f_norm * jnp.sqrt(jnp.vdot(v, v))
        accelerate = downhill & (downhill_steps > self.n_min)
        v = jnp.where(downhill, mixed, 0.0)
        slower = jnp.where(first, dt, dt * self.f_dec)
        dt = jnp.where(
            accelerate, jnp.minimum(dt * self.f_inc, self.dt_max), jnp.where(downhill, dt, slower)
        )
        a = jnp.where(accelerate, a * self.f_a, jnp.where(downhill, a, self.a_start))
        downhill_steps = jnp.where(downhill, downhill_steps + 1, 0)

        v = v + dt * f
        dr = dt * v
        length = jnp.sqrt(jnp.vdot(dr, dr))
        dr = jnp.where(length > self.max_step, self.max_step / length, 1.0) * dr
        q = state.q + dr
        enthalpy, gradient = landscape.enthalpy_and_gradient(q)
        memory = (v, dt, a, downhill_steps, jnp.asarray(False))
        return State(q, enthalpy, gradient, state.evaluations + 1, state.stalled, memory)
