"""L-BFGS on the host, with the average of a crystal's Hessian over its lattice."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import centred, on_device
from mdsens.lbfgs_history import HostHistory
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner
from mdsens.mechanics.enthalpy import Landscape, largest_force, typical_force
from mdsens.mechanics.lattice_model import lattice_model
from mdsens.minimisers.lbfgs import LBFGS, HostMemory
from mdsens.minimisers.minimiser import State

#: The average over a lattice is tried at once, and at these fractions of the first typical force
#: again, where there was none or it was not stable.
FRACTIONS = (np.inf, 0.3, 0.1)
#: After so many steps with it the force must have fallen to this part, or other methods are faster.
CHECKED_STEPS, EXPECTED_RATIO = 5, 0.05


class LatticeLBFGS(LBFGS):
    """L-BFGS that begins each direction with the inverse of the Hessian's average over a lattice.

    It is made of the surroundings of some hundred atoms, applied by Fourier transforms, and nearly
    the inverse of the Hessian in a crystal with few defects; the past steps tell what these change.
    Until there is one that is stable, it is L-BFGS. Where none is found before forces are small, or
    they do not fall as they should with it, it has stalled, and other methods take over.

    Arguments:
        history: number of past steps that model what the lattice does not know.
        max_step: largest move of an atom in one trial, length.
        on_host: always, as the preconditioner is host code.
    """

    history: int = eqx.field(static=True, default=8)
    on_host: bool = eqx.field(static=True, kw_only=True, default=True)

    steps_at_a_time: ClassVar[int] = 10

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No preconditioner yet."""
        return _Memory(HostHistory.none(self.history, q.size))

    def storable(self, memory: Any) -> Any:
        """All but the preconditioner, which is made anew at the next step."""
        tried = max(memory.tried - 1, 0) if memory.preconditioner is not None else memory.tried
        return dataclasses.replace(memory, preconditioner=None, evaluation=None, tried=tried)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        memory: _Memory = dataclasses.replace(state.memory)
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
        return self.searched(landscape, state, memory)

    def host_direction(
        self, memory: "_Memory", gradient: Float[np.ndarray, "R D"]
    ) -> tuple[Float[np.ndarray, "R D"], float]:
        """Minus the model's inverse Hessian times the gradient, and how much of it to try first."""
        model, past = memory.preconditioner, memory.past
        if model is None:
            return super().host_direction(memory, gradient)
        left, weights = past.backward(gradient.ravel())
        # What the model moves empty sites by would be missing, and the whole drift.
        product = centred(np.asarray(model(left)).reshape(gradient.shape))
        return -past.forward(product.ravel(), weights).reshape(gradient.shape), 1.0


@dataclasses.dataclass(eq=False)
class _Memory(HostMemory):
    """What is kept from step to step.

    Attributes:
        preconditioner: the inverse of the average over the lattice; None: not yet.
        tried: how often it has been looked for.
        first_force: typical force at the beginning, energy/length.
        force_then: the largest force when it was last looked at, energy/length.
    """

    preconditioner: LatticePreconditioner | None = None
    tried: int = 0
    first_force: float | None = None
    force_then: float = np.inf
