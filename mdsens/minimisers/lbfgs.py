"""L-BFGS, the limited-memory quasi-Newton method."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import scalar_product
from mdsens.lbfgs_history import HostHistory, LBFGSHistory
from mdsens.mechanics.enthalpy import Evaluation, Landscape, typical_force
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search
from mdsens.minimisers.minimiser import State, on_the_host
from mdsens.particles.edges import EdgeList

#: Fraction of the largest move that a first step is long, typically.
FIRST = 0.25


@dataclasses.dataclass(eq=False)
class HostMemory:
    """What is kept from step to step on the host.

    Attributes:
        past: past steps.
        age: steps that were accepted.
        evaluation: edges, and what evaluates forces along them.
    """

    past: HostHistory
    age: int = 0
    evaluation: tuple[EdgeList, Evaluation] | None = None


class LBFGS(LineSearchMinimiser):
    """L-BFGS with a line search; the enthalpy never rises.

    D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989).

    Arguments:
        history: number of past steps that model the curvature.
        max_step: largest move of an atom in one trial, length.
        on_host: whether steps are host code, as they are where nothing is traced.
    """

    history: int = eqx.field(static=True, default=16)
    on_host: bool = eqx.field(static=True, kw_only=True, default=False)

    steps_at_a_time: ClassVar[int] = 20

    def for_host(self) -> "LBFGS":
        """The same by host code, which needs no program but that of the forces.

        A loop of steps takes longer to compile than most relaxations take.
        """
        return dataclasses.replace(self, on_host=True)

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Whether it is `for_host`."""
        return self.on_host

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No past steps yet."""
        if not self.on_host:
            return LBFGSHistory.none(self.history, q)
        return HostMemory(HostHistory.none(self.history, q.size))

    def storable(self, memory: Any) -> Any:
        """The past steps; what evaluates forces is made anew."""
        return dataclasses.replace(memory, evaluation=None) if self.on_host else memory

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        if self.on_host:
            return self.searched(landscape, state, dataclasses.replace(state.memory))
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
            FIRST * self.max_step / jnp.maximum(typical_force(direction), 1e-300),
            1.0,
        )
        return direction, first

    def searched(self, landscape: Landscape, state: State, memory: Any) -> State:
        """The state after a search along the direction on the host.

        Arguments:
            landscape: the function.
            state: where to begin.
            memory: of this step; it is changed.
        """
        if memory.evaluation is None or memory.evaluation[0] is not landscape.edge_list:
            memory.evaluation = landscape.edge_list, landscape.evaluation()
        evaluate: Evaluation = memory.evaluation[1]
        here, past = on_the_host(state), memory.past
        direction, first = self.host_direction(memory, here.gradient)
        found, accepted = search(
            landscape, here, direction, first, float(self.max_step), 0.9, evaluate
        )
        stalled = False
        if accepted:
            past.add((found.q - here.q).ravel(), (found.gradient - here.gradient).ravel())
            memory.age += 1
        else:
            # As in a step that is compiled.
            stalled = past.filled == 0
            past.forget()
        # Of NumPy's arrays, as long as it stays on the host.
        evaluations = np.asarray(int(here.evaluations) + int(found.trials))
        return State(
            found.q, np.asarray(found.enthalpy), found.gradient, evaluations, np.asarray(stalled),
            memory,
        )  # fmt: skip

    def host_direction(
        self, memory: Any, gradient: Float[np.ndarray, "R D"]
    ) -> tuple[Float[np.ndarray, "R D"], float]:
        """A direction on the host, and how much of it to try first.

        Arguments:
            memory: what is kept from step to step.
            gradient: shape (R, D), energy/length.

        Returns:
            Minus the model's inverse Hessian times the gradient, shape (R, D); the multiple.
        """
        past: HostHistory = memory.past
        if past.filled:
            left, weights = past.backward(gradient.ravel())
            direction = -past.forward(past.scale * left, weights).reshape(gradient.shape)
            if np.vdot(direction, gradient) < 0:
                return direction, 1.0
        typical = max(float(typical_force(gradient)), 1e-300)
        return -gradient, FIRST * float(self.max_step) / typical
