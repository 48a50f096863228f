"""L-BFGS on the host, with the average of a crystal's Hessian over its lattice."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.lbfgs_history import LBFGSHistory
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

#: What is accepted, and what is forgotten.
YES = np.ones((), bool)


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
        return _Memory(None, LBFGSHistory.none(self.history, q))

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
                memory.past, memory.empty, memory.age = memory.past.forgotten(YES), True, 0
        if memory.preconditioner is not None and memory.age % CHECKED_STEPS == 0:
            if memory.age and force > EXPECTED_RATIO * memory.force_then:
                return dataclasses.replace(state, stalled=on_device(True), memory=memory)
            memory.force_then = force
        here = jax.tree.map(np.asarray, state.without_memory())
        direction, first = self._direction(memory, here)
        evaluate: Evaluation = memory.evaluation[1]
        found, accepted = search(
            landscape, here, direction, first, float(self.max_step), 0.9, evaluate
        )
        stalled = False
        if accepted:
            moved, change = found.q - here.q, found.gradient - here.gradient
            memory.scale = float(np.vdot(moved, change) / max(np.vdot(change, change), 1e-300))
            memory.past = memory.past.with_step_in_place(on_device(moved), on_device(change), YES)
            memory.age, memory.empty = memory.age + 1, False
        else:
            # A failed search forgets the past and begins again; failing without one is the end.
            stalled = memory.empty
            memory.past, memory.empty = memory.past.forgotten(YES), True
        return State(
            on_device(found.q), on_device(found.enthalpy), on_device(found.gradient),
            on_device(int(here.evaluations) + int(found.trials)), on_device(stalled), memory,
        )  # fmt: skip

    def _direction(
        self, memory: "_Memory", state: State
    ) -> tuple[Float[np.ndarray, "R D"], float | np.floating]:
        """Minus the model's inverse Hessian times the gradient, and how much of it to try first."""
        model, past = memory.preconditioner, memory.past
        if model is None and memory.empty:
            force = max(float(typical_force(state.gradient)), 1e-300)
            return -np.asarray(state.gradient), 0.25 * float(self.max_step) / force
        left, weights = past.backward(on_device(state.gradient))
        flat = np.asarray(left).reshape(-1)
        product = model(flat) if model is not None else max(memory.scale, 1e-300) * flat
        product = product.reshape(left.shape)
        # What the model moves empty sites by would be missing, and the whole drift.
        product = product - product.mean(axis=0)
        return -np.asarray(past.forward(on_device(product), weights)), 1.0


@dataclasses.dataclass(eq=False)
class _Memory:
    """What is kept from step to step.

    Attributes:
        preconditioner: the inverse of the average over the lattice; None: not yet.
        past: past steps.
        empty: whether there are none.
        scale: the inverse curvature along the newest, length^2/energy.
        tried: how often it has been looked for.
        first_force: typical force at the beginning, energy/length.
        age: steps with it.
        force_then: the largest force when it was last looked at, energy/length.
        evaluation: edges, and what evaluates forces along them.
    """

    preconditioner: LatticePreconditioner | None
    past: LBFGSHistory
    empty: bool = True
    scale: float = 1.0
    tried: int = 0
    first_force: float | None = None
    age: int = 0
    force_then: float = np.inf
    evaluation: tuple[EdgeList, Evaluation] | None = None
