"""L-BFGS, the limited-memory quasi-Newton method."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.arrays import scalar_product
from mdsens.lbfgs_history import LBFGSHistory
from mdsens.mechanics.enthalpy import Landscape, typical_force
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search
from mdsens.minimisers.minimiser import State


class LBFGS(LineSearchMinimiser):
    """L-BFGS with a line search; the enthalpy never rises.

    D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989).

    Arguments:
        history: number of past steps that model the curvature.
        max_step: largest move of an atom in one trial, length.
    """

    history: int = eqx.field(static=True, default=16)

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No past steps yet."""
        return LBFGSHistory.none(self.history, q)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        past: LBFGSHistory = state.memory
        fresh = past.empty
        direction, first = self.direction(past, state.gradient)
        result, accepted = search(landscape, state, direction, first, self.max_step, curvature=0.9)
        past = past.with_step(result.q - state.q, result.gradient - state.gradient, accepted)
        # A failed search forgets the model and begins again; failing without one is the end.
        return reached(state, result, ~accepted & fresh, past.forgotten(~accepted))

    def direction(
        self, past: LBFGSHistory, gradient: Float[Array, "R D"]
    ) -> tuple[Float[Array, "R D"], Float[Array, ""]]:
        """Where a step goes.

        Arguments:
            past: the steps so far.
            gradient: shape (R, D), energy/length.

        Returns:
            Minus the model's inverse Hessian times the gradient, shape (R, D), or minus the
            gradient where that does not go down; the multiple of it to try first.
        """
        direction = -past.inverse_hessian_product(gradient)
        descends = scalar_product(direction, gradient) < 0
        direction = jnp.where(descends, direction, -gradient)
        first = jnp.where(
            past.empty | ~descends,
            0.25 * self.max_step / jnp.maximum(typical_force(direction), 1e-300),
            1.0,
        )
        return direction, first
