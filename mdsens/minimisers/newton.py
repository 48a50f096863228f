"""Newton's method with the assembled Hessian."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.linalg.null_space import is_null
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.mechanics.hessian_by_calls import hessian_solver
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search_down
from mdsens.minimisers.minimiser import State
from mdsens.resources import EIGENVECTOR_LIMIT

#: Relative residuals of the linear solves: at first, and at most and least.
FIRST_RTOL, LARGEST_RTOL, SMALLEST_RTOL = 0.03, 0.1, 1e-6
#: A Hessian serves for another step if the last one left at most this part of the force.
REUSE_RATIO = 0.1
#: The same where another Hessian takes as long as tens of evaluations of the forces.
DEAR_REUSE_RATIO = 0.5
#: Iterations of a linear solve above which its preconditioner is built anew for the next.
SLOW_STEPS = 40


class Newton(LineSearchMinimiser):
    """Newton steps with a line search, which go down where the Hessian curves down too.

    The sparse Hessian is assembled where the last step did not shrink the force by much, and serves
    as long as it does (V. E. Shamanskii, Ukr. Math. J. 19, 118 (1967)). Small systems factorise it,
    and where it curves down use |H|^-1, the inverse with the absolute eigenvalues, which turns
    saddles into points to leave (Y. Dauphin et al., NeurIPS 2014, arXiv 1406.2572). Large ones
    solve as exactly as the step is worth, by conjugate gradients with a preconditioner, whose
    hierarchy is kept from step to step; where these meet negative curvature the positive
    semidefinite projection of the Hessian's couplings gives the step, or, near a saddle, that
    curvature. No atom moves further
    than ``max_step``, and one that would does not hold up the others, as it does with a trust
    region of one radius (from argon rattled by 0.3 Angstrom 17 steps in place of 153 or more).

    Arguments:
        max_step: largest move of an atom in one trial, length.
        fmax: largest force that matters: no step is solved for more exactly, energy/length.
    """

    fmax: float = eqx.field(static=True, kw_only=True, default=0.0)

    def aimed_at(self, fmax: float) -> "Newton":
        """The same for a relaxation that stops at this largest force."""
        return dataclasses.replace(self, fmax=fmax)

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Always: the Hessian is assembled and solved with by host code."""
        return True

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No preconditioner yet."""
        return _Memory(None, None, None)

    def storable(self, memory: Any) -> Any:
        """The last force; the Hessian and its preconditioner are made anew."""
        return _Memory(None, None, memory.last_force)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move by the Newton step."""
        gradient, memory = np.asarray(state.gradient), state.memory
        force = float(largest_force(state.gradient))
        ratio = None if memory.last_force is None else force / memory.last_force
        enough = DEAR_REUSE_RATIO if landscape.potential.dear_hessian else REUSE_RATIO
        reused = memory.solver is not None and ratio is not None and ratio <= enough
        solver = memory.solver if reused else None
        if solver is None:
            # There is not always memory for two Hessians at a time: nothing here holds the last.
            memory.solver = None
            solver = hessian_solver(landscape, state.q, memory.preconditioner)
        kept = _Memory(None, None, force)
        dense = state.q.size <= EIGENVECTOR_LIMIT and not landscape.potential.made_by_calls
        if dense and not solver.sparse.positive_definite:
            direction = _saddle_free_direction(solver.dense(), gradient)
        else:
            found = solver.descend(
                gradient, self._rtol(force, ratio, reused), reach=float(self.max_step)
            )
            direction = found.value
            # A hierarchy that has become a poor likeness is built anew.
            if found.steps <= SLOW_STEPS:
                serves = None if found.negative_curvature else solver
                kept = _Memory(serves, solver.preconditioner, force)
        result, accepted = search_down(
            landscape, state.without_memory(), direction, float(self.max_step)
        )
        if not accepted:
            kept = _Memory(None, None, force)
        return reached(state, result, not accepted, kept)

    def _rtol(self, force: float, ratio: float | None, reused: bool) -> float:
        """The relative residual that is worth it: a third of what the last step left."""
        if ratio is None:
            return FIRST_RTOL
        # With a new Hessian the error falls as its square, with an old one as it did before.
        wanted = ratio / 3 if reused else ratio**2
        enough = 0.1 * self.fmax / force
        return float(np.clip(max(wanted, enough), SMALLEST_RTOL, LARGEST_RTOL))


@dataclasses.dataclass(eq=False)
class _Memory:
    """What Newton's method keeps from step to step."""

    solver: HessianSolver | None
    preconditioner: HostPreconditioner | None
    last_force: float | None


def _saddle_free_direction(
    hessian: Float[np.ndarray, "RD RD"], gradient: Float[np.ndarray, "R D"]
) -> Float[np.ndarray, "R D"]:
    values, vectors = np.linalg.eigh(hessian)
    null = is_null(values)
    inverse = np.where(null, 0.0, 1.0 / np.abs(np.where(null, 1.0, values)))
    return -(vectors @ (inverse * (vectors.T @ gradient.reshape(-1)))).reshape(gradient.shape)
