"""The host side of a relaxation: edges, compiled segments of steps, progress, and errors."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from mdsens.errors import RelaxationError
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.mechanics.enthalpy import Landscape, largest_force, typical_force
from mdsens.mechanics.hessian_solver import hessian_fits
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import (
    Minimiser,
    State,
    advance,
    first_state,
    refresh,
)
from mdsens.minimisers.newton import Newton
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Steps per compiled segment, after which progress is shown and Ctrl-C is heard.
SEGMENT_STEPS = 100
#: Longest trial move of an atom as a fraction of the skin: what remains serves many steps.
TRIAL_FRACTION = 0.15
#: An atom that has gone further than this many ranges has left for good.
ESCAPE_RANGES = 1000.0
#: Newton's method is tried from this fraction of the first typical force on; and where particles
#: only push, later, for their contacts still change (measured on discs: half the factorisations).
NEWTON_FRACTION, CONTACT_NEWTON_FRACTION = 5e-3, 1e-3

#: What a callback is told after each segment: steps, enthalpy, largest force, positions (N, D).
Callback = Callable[[int, float, float, np.ndarray], None]


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The course of a relaxation, one entry per step.

    Attributes:
        enthalpies: shape (steps + 1,), energy; the energy where the cell is fixed.
        forces: shape (steps + 1,), largest force, energy/length.
        evaluations: number of evaluations of the gradient.
        methods: the minimisers that ran and the steps each took.
    """

    enthalpies: np.ndarray
    forces: np.ndarray
    evaluations: int
    methods: list[tuple[str, int]]

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.forces) - 1


class Descent:
    """One relaxation on its way down.

    Arguments:
        system: where to begin.
        potential: the potential.
        cell_mode: what of the cell relaxes.
        pressure: external pressure, energy/length^D.
        fmax: largest force at which to stop, energy/length.
        max_steps: steps to take at most, by all minimisers together.
        skin: length by which edges reach beyond the potential's range; None: a fraction of it.
        progress: whether to show a progress bar.
        callback: told about the course after each segment.
    """

    def __init__(
        self,
        system: System,
        potential: Potential,
        cell_mode: str | None,
        pressure: float,
        fmax: float,
        max_steps: int,
        skin: float | None = None,
        progress: bool = False,
        callback: Callback | None = None,
    ):
        self.search = potential.edge_search(system, skin)
        self.skin = float(self.search.skin)
        self.fmax, self.max_steps, self.callback = fmax, max_steps, callback
        edge_list = self.search.find(np.asarray(system.positions), np.asarray(system.cell))
        self.landscape = Landscape.of(system, potential, edge_list, cell_mode, pressure)
        self.reference = self.landscape.coordinates
        self.q = self.reference
        self.enthalpies: list[np.ndarray] = []
        self.forces: list[np.ndarray] = []
        self.steps, self.evaluations = 0, 0
        self.methods: list[tuple[str, int]] = []
        self.last: tuple[Minimiser, State] | None = None
        self.bar = progress_bar() if progress else None

    def run(self, minimiser: Minimiser, fmax: float, steps: int) -> State:
        """Let a minimiser take at most ``steps`` steps, or until the largest force is ``fmax``.

        Raises:
            RelaxationError: energy or forces are not finite, or an atom flies away.
        """
        minimiser = minimiser.limited(TRIAL_FRACTION * self.skin).aimed_at(fmax)
        allowed = self.skin - 2.0 * minimiser.trial_distance
        state = self._begin(minimiser)
        self._check(state)
        if not self.forces:
            self.enthalpies.append(np.array([state.enthalpy]))
            self.forces.append(np.array([largest_force(state.gradient)]))
        limit = min(steps, self.max_steps - self.steps)
        taken = 0
        while True:
            segment = advance(
                minimiser, self.landscape, state, self.reference, jnp.asarray(allowed),
                jnp.asarray(fmax), jnp.asarray(limit - taken), SEGMENT_STEPS,
            )  # fmt: skip
            state, count = segment.state, int(segment.steps)
            taken, self.steps, self.q = taken + count, self.steps + count, state.q
            self.enthalpies.append(np.asarray(segment.enthalpies)[:count])
            self.forces.append(np.asarray(segment.forces)[:count])
            self._check(state)
            force = float(largest_force(state.gradient))
            self._report(state, force)
            if force <= fmax or taken >= limit or bool(state.stalled):
                break
            if segment.outdated:
                self._refresh_edges()
                state = refresh(self.landscape, state)
                self._check(state)
        self.evaluations += int(state.evaluations)
        self.methods.append((type(minimiser).__name__, taken))
        self.last = (minimiser, eqx.tree_at(lambda s: s.evaluations, state, jnp.asarray(0)))
        return state

    def _begin(self, minimiser: Minimiser) -> State:
        """The first state, or that where the same minimiser left off, with what it remembers."""
        before, state = self.last if self.last is not None else (None, None)
        if state is None or state.q is not self.q:
            return first_state(minimiser, self.landscape, self.q)
        memory = state.memory if minimiser == before else minimiser.start(self.q)
        return State(
            state.q, state.enthalpy, state.gradient, state.evaluations, jnp.asarray(False), memory
        )

    @property
    def preconditioner(self) -> HostPreconditioner | None:
        """That of the last Newton step with a sparse Hessian; None if there was none."""
        memory = None if self.last is None else self.last[1].memory
        return getattr(memory, "preconditioner", None)

    def valid_edges(self) -> EdgeList:
        """Edges that hold at q: those of the last steps, or new ones where they reach too short."""
        if not self.landscape.displacement_bound(self.q, self.reference) < self.skin:
            self._refresh_edges()
        return self.landscape.edge_list

    def _refresh_edges(self) -> None:
        system = self.landscape.system_at(self.q)
        edge_list = self.search.find(
            np.asarray(system.positions), np.asarray(system.cell),
            self.landscape.edge_list.capacity,
        )  # fmt: skip
        self.landscape = eqx.tree_at(lambda l: l.edge_list, self.landscape, edge_list)
        self.reference = self.q

    def _report(self, state: State, force: float) -> None:
        enthalpy = float(state.enthalpy)
        if self.bar is not None:
            show_progress(self.bar, self.steps, enthalpy, force)
        if self.callback is not None:
            positions = np.asarray(self.landscape.system_at(self.q).positions)
            self.callback(self.steps, enthalpy, force, positions)

    def _check(self, state: State) -> None:
        require_sound(
            np.asarray(state.q), np.asarray(self.landscape.coordinates),
            np.asarray(state.enthalpy), np.asarray(state.gradient), self.steps,
            float(self.search.cutoff),
            self.landscape.system.atom_count,
        )  # fmt: skip

    def history(self) -> History:
        """The course so far."""
        return History(
            np.concatenate(self.enthalpies), np.concatenate(self.forces),
            self.evaluations, self.methods,
        )  # fmt: skip


def require_sound(
    q: Float[np.ndarray, "R D"],
    start: Float[np.ndarray, "R D"],
    enthalpy: Float[np.ndarray, ""],
    gradient: Float[np.ndarray, "R D"],
    steps: int,
    reach: float,
    count: int,
) -> None:
    """Raise RelaxationError unless a relaxation has led to numbers, and not far away.

    Arguments:
        q: degrees of freedom, shape (R, D).
        start: those at the beginning.
        enthalpy: at q, energy.
        gradient: at q, energy/length.
        steps: steps taken.
        reach: the potential's range, length.
        count: number of atoms, N.
    """
    bad = np.flatnonzero(~np.isfinite(gradient[:count]).all(axis=1))
    if len(bad) or not np.isfinite(float(enthalpy)):
        raise RelaxationError(
            f"energy or forces are not finite after {steps} steps, on atoms "
            f"{bad[:8].tolist()}: move overlapping atoms apart or check the potential there"
        )
    moved = np.linalg.norm((q - start)[:count], axis=1)
    if moved.max() > ESCAPE_RANGES * reach:
        atom = int(moved.argmax())
        raise RelaxationError(
            f"the structure flies apart: atom {atom} has moved by {moved[atom]:.3g} after "
            f"{steps} steps; check the potential, the starting structure and max_step"
        )


def descend_automatically(descent: Descent, max_step: float) -> State:
    """L-BFGS until the forces are small, then Newton steps with the Hessian.

    Newton's method is tried when the largest force is a small fraction of the typical one of the
    beginning (the largest of that grows with the system), and taken as long as each step at least
    halves it; else L-BFGS goes on for another factor of 10. Where there is no memory for the
    Hessian L-BFGS goes on to the end.
    """
    # Far from the minimum a long memory costs more than it tells.
    start = LBFGS(max_step=max_step, history=8)
    state = descent.run(start, descent.fmax, 0)
    contact = descent.landscape.potential.contact
    fraction = CONTACT_NEWTON_FRACTION if contact else NEWTON_FRACTION
    target = fraction * float(typical_force(state.gradient))
    if float(largest_force(state.gradient)) > descent.fmax and not hessian_fits(descent.landscape):
        return descent.run(LBFGS(max_step=max_step), descent.fmax, descent.max_steps)
    while True:
        state = descent.run(start, max(target, descent.fmax), descent.max_steps)
        force = float(largest_force(state.gradient))
        while descent.fmax < force and descent.steps < descent.max_steps:
            state = descent.run(Newton(max_step=max_step), descent.fmax, 1)
            before, force = force, float(largest_force(state.gradient))
            if force > 0.5 * before:
                break
        out_of_steps = descent.steps >= descent.max_steps
        if force <= descent.fmax or out_of_steps:
            return state
        if bool(state.stalled) and force > 0.5 * before:
            polished = descent.run(LBFGS(max_step=max_step), descent.fmax, 10 * SEGMENT_STEPS)
            if bool(polished.stalled) or descent.steps >= descent.max_steps:
                return polished
        target = 0.1 * force


def progress_bar() -> Progress:
    """What shows the course of a relaxation in a terminal."""
    bar = Progress(
        TextColumn("relaxing: step {task.completed:>6.0f}"),
        TextColumn("energy {task.fields[energy]:.10g}"),
        TextColumn("largest force {task.fields[force]:.3e}"),
        TimeElapsedColumn(),
    )
    bar.add_task("relaxing", total=None, energy=float("nan"), force=float("nan"))
    return bar


def show_progress(bar: Progress, steps: int, enthalpy: float, force: float) -> None:
    """Show how many steps were taken, the energy, and the largest force, energy/length."""
    bar.update(bar.task_ids[0], completed=steps, energy=enthalpy, force=force)
