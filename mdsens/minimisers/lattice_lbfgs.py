"""L-BFGS on the host, with the average of a crystal's Hessian over its lattice."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import centred, in_numpy, on_device
from mdsens.lbfgs_history import HostHistory
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner
from mdsens.mechanics.enthalpy import Evaluation, Landscape, largest_force, typical_force
from mdsens.mechanics.lattice_model import lattice_model
from mdsens.minimisers.line_search import LineSearchMinimiser, search
from mdsens.minimisers.minimiser import State
from mdsens.particles.edges import EdgeList

#: The average over a lattice is tried at once, and at these fractions of the first typical force
#: again, where there was none or it was not stable.
FRACTIONS = (np.inf, 0.3, 0.1)
#: After so many steps with it the force must have fallen to this part, or other methods are faster.
CHECKED_STEPS, EXPECTED_RATIO = 5, 0.05


class LatticeLBFGS(LineSearchMinimiser):
    """L-BFGS that begins each direction with the inverse of the Hessian's average over a lattice.

    It is made of the surroundings of some hundred atoms, applied by Fourier transforms, and nearly
    the inverse of the Hessian in a crystal with few defects; the past steps tell what these change.
    Until there is one that is stable, it is L-BFGS. Where none is found before forces are small, or
    they do not fall as they should with it, it has stalled, and other methods take over.

    Arguments:
        history: number of past steps that model what the lattice does not know.
        max_step: largest move of an atom in one trial, length.
    """

    history: int = eqx.field(static=True, default=8)

    steps_at_a_time: ClassVar[int] = 10

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Always: the preconditioner is host code."""
        return True

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No preconditioner yet."""
        return _Memory(None, HostHistory(self.history, q.size))

    def storable(self, memory: Any) -> Any:
        """All but the preconditioner, which is made anew at the next step."""
        tried = max(memory.tried - 1, 0) if memory.preconditioner is not None else memory.tried
        return dataclasses.replace(memory, preconditioner=None, evaluation=None, tried=tried)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        memory: _Memory = dataclasses.replace(state.memory)
        if memory.evaluation is None or memory.evaluation[0] is not landscape.edge_list:
            memory.evaluation = landscape.edge_list, landscape.evaluation()
        if memory.first_force is None:
            memory.first_force = float(typical_force(state.gradient))
        force = float(largest_force(state.gradient))
        while memory.preconditioner is None:
            if memory.tried == len(FRACTIONS):
                return dataclasses.replace(state, stalled=on_device(True), memory=memory)
            if force > FRACTIONS[memory.tried] * memory.first_force:
                break
            memory.preconditioner = lattice_model(landscape, state.q)
            memory.tried += 1
            if memory.preconditioner is not None:
                memory.past.forget()
                memory.age = 0
        if memory.preconditioner is not None and memory.age % CHECKED_STEPS == 0:
            if memory.age and force > EXPECTED_RATIO * memory.force_then:
                return dataclasses.replace(state, stalled=on_device(True), memory=memory)
            memory.force_then = force
        here = in_numpy(state.without_memory())
        direction, first = self._direction(memory, here)
        evaluate: Evaluation = memory.evaluation[1]
        found, accepted = search(
            landscape, here, direction, first, float(self.max_step), 0.9, evaluate
        )
        stalled = False
        if accepted:
            moved, change = (found.q - here.q).ravel(), (found.gradient - here.gradient).ravel()
            memory.scale = float(np.vdot(moved, change) / max(np.vdot(change, change), 1e-300))
            memory.past.add(moved, change)
            memory.age += 1
        else:
            # A failed search forgets the past and begins again; failing without one is the end.
            stalled = memory.past.filled == 0
            memory.past.forget()
        # Of NumPy's arrays, as long as it stays on the host.
        evaluations = np.asarray(int(here.evaluations) + int(found.trials))
        return State(
            found.q, np.asarray(found.enthalpy), found.gradient, evaluations, np.asarray(stalled),
            memory,
        )  # fmt: skip

    def _direction(
        self, memory: "_Memory", state: State
    ) -> tuple[Float[np.ndarray, "R D"], float | np.floating]:
        """Minus the model's inverse Hessian times the gradient, and how much of it to try first."""
        model, past, gradient = memory.preconditioner, memory.past, np.asarray(state.gradient)
        if model is None and past.filled == 0:
            force = max(float(typical_force(gradient)), 1e-300)
            return -gradient, 0.25 * float(self.max_step) / force
        left, weights = past.backward(gradient.ravel())
        product = np.asarray(model(left) if model is not None else max(memory.scale, 1e-300) * left)
        # What the model moves empty sites by would be missing, and the whole drift.
        product = centred(product.reshape(gradient.shape))
        return -past.forward(product.ravel(), weights).reshape(gradient.shape), 1.0


@dataclasses.dataclass(eq=False)
class _Memory:
    """What is kept from step to step.

    Attributes:
        preconditioner: the inverse of the average over the lattice; None: not yet.
        past: past steps.
        scale: the inverse curvature along the newest, length^2/energy.
        tried: how often it has been looked for.
        first_force: typical force at the beginning, energy/length.
        age: steps with it.
        force_then: the largest force when it was last looked at, energy/length.
        evaluation: edges, and what evaluates forces along them.
    """

    preconditioner: LatticePreconditioner | None
    past: HostHistory
    scale: float = 1.0
    tried: int = 0
    first_force: float | None = None
    age: int = 0
    force_then: float = np.inf
    evaluation: tuple[EdgeList, Evaluation] | None = None
