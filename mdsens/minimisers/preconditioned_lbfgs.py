"""L-BFGS with the assembled Hessian as a preconditioner."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.lbfgs_history import LBFGSHistory
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.mechanics.hessian_by_calls import hessian_solver
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search_down
from mdsens.minimisers.minimiser import State

#: After so many steps the force must have fallen to this part, or the Hessian is assembled anew.
CHECKED_STEPS, EXPECTED_RATIO = 10, 0.01


class PreconditionedLBFGS(LineSearchMinimiser):
    """L-BFGS that begins each direction with the preconditioner of a Hessian from a while ago.

    The Hessian and its multigrid hierarchy (or its factors, where the system is small or flat) are
    made at the start and again where progress slows, and each step takes one application of them:
    D. Packwood et al., J. Chem. Phys. 144, 164109 (2016), with the potential's own Hessian in place
    of their model of it.

    Arguments:
        history: number of past steps that model what has changed in the curvature.
        max_step: largest move of an atom in one trial, length.
    """

    history: int = eqx.field(static=True, default=8)

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Always: the preconditioner is host code."""
        return True

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No preconditioner yet."""
        return _Memory(None, LBFGSHistory.none(self.history, q), 0, np.inf)

    def storable(self, memory: Any) -> Any:
        """All but the Hessian, which is made anew at the next step."""
        return dataclasses.replace(memory, solver=None)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move along minus the model's inverse Hessian times the gradient."""
        memory: _Memory = state.memory
        force = float(largest_force(state.gradient))
        solver, past, age, then = memory.solver, memory.past, memory.age, memory.force_then
        if age == CHECKED_STEPS:
            age = 0
            if force > EXPECTED_RATIO * then:
                solver = None
        if solver is None:
            # There is not always memory for two Hessians at a time.
            memory.solver = None
            solver, age = hessian_solver(landscape, state.q), 0
            past = past.forgotten(on_device(True))
        left, weights = past.backward(state.gradient)
        preconditioned = solver.descend(np.asarray(left), rtol=0.0, max_steps=1).value
        # It is minus the inverse Hessian's image already, and so are the weights to be.
        direction = past.forward(on_device(preconditioned), -in_numpy(weights))
        found, accepted = search_down(
            landscape, state.without_memory(), direction, float(self.max_step)
        )
        before, now = in_numpy(((state.q, state.gradient), (found.q, found.gradient)))
        past = past.with_step(now[0] - before[0], now[1] - before[1], accepted)
        kept = _Memory(solver, past, age + 1, force if age == 0 else then)
        # A failed search forgets everything; failing right after a new Hessian is the end.
        stalled = not accepted and age == 0
        return reached(state, found, stalled, kept if accepted else self.start(state.q))


@dataclasses.dataclass(eq=False)
class _Memory:
    """What is kept from step to step."""

    solver: HessianSolver | None
    past: LBFGSHistory
    age: int
    force_then: float

    @property
    def preconditioner(self) -> HostPreconditioner | None:
        """That of the Hessian, for derivatives at the minimum."""
        return None if self.solver is None else self.solver.preconditioner
