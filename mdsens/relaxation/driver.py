"""The host side of a relaxation: edges, compiled segments of steps, progress, and errors."""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from mdsens.arrays import on_device
from mdsens.compilation import OFTEN_IF_HEAVY
from mdsens.errors import RelaxationError
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.mechanics.enthalpy import Landscape, largest_force, typical_force
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.minimisers.minimiser import Minimiser, State, first_state, refresh
from mdsens.minimisers.segment import advance
from mdsens.minimisers.steps import (
    SEGMENT_STEPS,
    Bounds,
    Outcome,
    failure,
    trial_fraction,
    within_skin,
)
from mdsens.particles.edges import EdgeList, no_edges
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.progress import new_bar
from mdsens.relaxation.checkpoint import Checkpoint, Leg, Snapshot

#: Atoms up to which it is not worth a program more to skip slots that hold no edges.
FEW = 4000
#: What a callback is told after each segment: steps, enthalpy, largest force, positions (N, D).
Callback = Callable[[int, float, float, np.ndarray], None]


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The course of a relaxation, one entry per step.

    Attributes:
        enthalpies: shape (steps + 1,), energy; the energy where the cell is fixed.
        forces: shape (steps + 1,), largest force, energy/length; that on the cell counts where its
            stress has no tolerance of its own.
        evaluations: number of evaluations of the gradient.
        methods: the minimisers that ran and the steps each took.
        stresses: shape (steps + 1,), largest component of the stress that the load does not
            balance, energy/length^D; None where the cell is fixed.
    """

    enthalpies: np.ndarray
    forces: np.ndarray
    evaluations: int
    methods: list[tuple[str, int]]
    stresses: np.ndarray | None = None

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.forces) - 1


class Descent:
    """One relaxation on its way down.

    Arguments:
        system: where to begin.
        potential: the potential.
        relaxing_cell: what of the cell relaxes, and against which load; None: it is fixed.
        fmax: largest force at which to stop, energy/length.
        max_steps: steps to take at most, by all minimisers together.
        skin: length by which edges reach beyond the potential's range; None: a fraction of it.
        progress: whether to show a progress bar.
        callback: told about the course after each segment.
        start: degrees of freedom to begin at, shape (R, D); None: those of the system.
        checkpoint: a file to write now and then, and to go on from; None: there is none.
    """

    def __init__(
        self,
        system: System,
        potential: Potential,
        relaxing_cell: RelaxingCell | None,
        fmax: float,
        max_steps: int,
        skin: float | None = None,
        progress: bool = False,
        callback: Callback | None = None,
        start: Float[Array, "R D"] | None = None,
        checkpoint: Checkpoint | None = None,
    ):
        self.search = potential.edge_search(system, skin)
        self.skin = float(self.search.skin)
        self.fmax, self.max_steps, self.callback = fmax, max_steps, callback
        here = system
        if start is not None:
            blank = no_edges(system.atom_count, system.dimension)
            here = Landscape.in_cell(system, potential, blank, relaxing_cell).system_at(start)
        self.checkpoint = checkpoint
        self._resumed = None if checkpoint is None else checkpoint.read()
        self._edges_at = np.asarray(here.positions), np.asarray(here.cell)
        room: list[tuple[int, int]] = []
        if self._resumed is not None:
            self._edges_at, room = self._resumed.edges_at, [self._resumed.capacity]
        edge_list = self._find_edges(*room, potential=potential)
        self.landscape = Landscape.in_cell(system, potential, edge_list, relaxing_cell)
        if start is not None:
            self.landscape = self.landscape.touching(start)
        first = self.landscape.coordinates if start is None else start
        if self._resumed is not None:
            self.q = self.reference = self._resumed.reference
        else:
            self.q = self.reference = self.landscape.settled(first)
        self.landscape = self.landscape.touching(self.q)
        self.enthalpies: list[np.ndarray] = []
        self.forces: list[np.ndarray] = []
        self.stresses: list[np.ndarray] = []
        self.steps, self.evaluations = 0, 0
        self.methods: list[tuple[str, int]] = []
        self.last: tuple[Minimiser, State] | None = None
        self.legs: list[Leg] = []
        self.segments = 0
        self._ended: deque[Leg] = deque()
        if self._resumed is not None:
            self._restore(self._resumed)
        self.bar = progress_bar() if progress else None

    def run(self, minimiser: Minimiser, fmax: float, steps: int) -> Leg:
        """Let a minimiser take at most ``steps`` steps, or until the largest force is ``fmax``.

        Of a relaxation that goes on, what was run before the checkpoint is known, and not run.

        Raises:
            RelaxationError: energy or forces are not finite, or an atom flies away.
        """
        if self._ended:
            return self._ended.popleft()
        minimiser, allowed = within_skin(
            minimiser.aimed_at(fmax).for_host(), self.skin, trial_fraction(self.landscape.potential)
        )
        state, taken = self._begin(minimiser)
        self._check(state)
        if not self.forces:
            force, stress = self.landscape.forces_left(state.q, state.gradient)
            first = np.array([state.enthalpy]), np.array([force])
            self._record(*first, None if stress is None else np.array([stress]), 1)
        limit = min(steps, self.max_steps - self.steps)
        while True:
            if self.checkpoint is not None and self.checkpoint.due:
                self.checkpoint.write(self._snapshot(minimiser, state, taken))
            bounds = Bounds(on_device(fmax), on_device(limit - taken), allowed)
            segment = advance(
                minimiser, self.landscape, state, self.reference, bounds, SEGMENT_STEPS
            )
            seen = jax.tree.map(np.asarray, segment.outlook)
            state, count = segment.state, int(segment.steps)
            self.segments += 1
            taken, self.steps, self.q = taken + count, self.steps + count, state.q
            self._record(segment.enthalpies, segment.forces, segment.stresses, count)
            self._check(state)
            self._report(state, float(seen.force))
            if seen.outcome != Outcome.GOING:
                break
            if seen.outdated:
                known = self._reaches_here and not self.landscape.holds_bonds
                self._refresh_edges()
                if not known:
                    state = refresh(self.landscape, eqx.tree_at(lambda s: s.q, state, self.q))
                    self._check(state)
        left = float(seen.left)
        if minimiser.own_edges:
            state = self._by_potential(state)
            left = float(largest_force(state.gradient))
        self.evaluations += int(state.evaluations)
        self.methods.append((type(minimiser).__name__, taken))
        self.last = (minimiser, eqx.tree_at(lambda s: s.evaluations, state, on_device(0)))
        typical = float(typical_force(state.gradient))
        self.legs.append(Leg(self.steps, left, typical, bool(state.stalled)))
        return self.legs[-1]

    @property
    def early(self) -> bool:
        """Whether code is to be compiled in a hurry: told by the course, however often it stops."""
        return self.segments < OFTEN_IF_HEAVY

    def _snapshot(self, minimiser: Minimiser, state: State, taken: int) -> Snapshot:
        """Where it is, for a file."""
        assert self.checkpoint is not None
        course = self.history()
        return Snapshot(
            self.checkpoint.fingerprint, self.legs, self.methods, type(minimiser).__name__,
            dataclasses.replace(state, memory=minimiser.storable(state.memory)), taken,
            self.reference, self._edges_at, self.landscape.edge_list.capacity, self.segments,
            self.evaluations, course.enthalpies, course.forces, course.stresses,
        )  # fmt: skip

    def _restore(self, found: Snapshot) -> None:
        """Take over the course so far."""
        self.enthalpies, self.forces = [found.enthalpies], [found.forces]
        self.stresses = [] if found.stresses is None else [found.stresses]
        self.steps, self.evaluations = len(found.forces) - 1, found.evaluations
        self.segments, self.methods = found.segments, list(found.methods)
        self.legs, self._ended = list(found.legs), deque(found.legs)

    def _record(self, enthalpies: Any, forces: Any, stresses: Any, count: int) -> None:
        """Write down the course of so many steps."""
        self.enthalpies.append(np.asarray(enthalpies)[:count])
        self.forces.append(np.asarray(forces)[:count])
        if stresses is not None:
            self.stresses.append(np.asarray(stresses)[:count])

    def _begin(self, minimiser: Minimiser) -> tuple[State, int]:
        """The first state, or where a checkpoint or the same minimiser left off; steps taken."""
        if self._resumed is None:
            return self._first(minimiser), 0
        found, self._resumed = self._resumed, None
        state = found.own_state()
        self.q = state.q
        if found.minimiser != type(minimiser).__name__:
            # What there is memory for may be another minimiser now.
            return first_state(minimiser, self.landscape, self.q), 0
        return state, found.taken

    def _first(self, minimiser: Minimiser) -> State:
        """The first state, or that where the same minimiser left off, with what it remembers."""
        before, state = self.last if self.last is not None else (None, None)
        if state is None or state.q is not self.q:
            return first_state(minimiser, self.landscape, self.q)
        memory = state.memory if minimiser == before else minimiser.start(self.q)
        return State(
            state.q, state.enthalpy, state.gradient, state.evaluations, on_device(False), memory
        )

    def _by_potential(self, state: State) -> State:
        """Where a minimiser with edges of its own has ended, as the potential has it."""
        if not self._reaches_here:
            self._refresh_edges()
        state = refresh(self.landscape, state)
        self._check(state)
        force = float(largest_force(state.gradient))
        if self.forces[-1].size:
            self.enthalpies[-1][-1], self.forces[-1][-1] = float(state.enthalpy), force
        return state

    @property
    def preconditioner(self) -> HostPreconditioner | None:
        """That of the last Newton step with a sparse Hessian; None if there was none."""
        memory = None if self.last is None else self.last[1].memory
        return getattr(memory, "preconditioner", None)

    @property
    def gradient(self) -> Float[Any, "R D"] | None:
        """That of the enthalpy at q, energy/length, where it tells on which atoms forces act.

        None before any minimiser ran, and where constraints let the force on one atom act on
        others.
        """
        if self.last is None or self.landscape.motion is not None:
            return None
        return self.last[1].gradient

    def valid_edges(self) -> EdgeList:
        """Edges that hold at q: those of the last steps, or new ones where they reach too short."""
        if not self._reaches_here:
            self._refresh_edges()
        return self.landscape.edge_list.without_slots_counted()

    @property
    def _reaches_here(self) -> bool:
        """Whether the edges miss no pair at q: energy and forces are those of new edges."""
        moved = self.landscape.displacement_bound(self.q, self.reference)
        return bool(float(moved) < self.skin)

    def _find_edges(self, capacity: tuple[int, int] = (1, 0), *, potential: Potential) -> EdgeList:
        """All edges where they are wanted now."""
        found = self.search.find(*self._edges_at, capacity)
        # The first edges of random places need far more slots than all others.
        few_left = potential.contact and potential.pairwise
        return found.with_slots_counted() if few_left and found.atom_count > FEW else found

    def _refresh_edges(self) -> None:
        system = self.landscape.system_at(self.q)
        self._edges_at = np.asarray(system.positions), np.asarray(system.cell)
        capacity = self.landscape.edge_list.capacity
        edge_list = self._find_edges(capacity, potential=self.landscape.potential)
        self.q = self.reference = self.landscape.settled(self.q)
        moved = self.landscape.touching(self.q)
        self.landscape = eqx.tree_at(lambda l: l.edge_list, moved, edge_list)

    def _report(self, state: State, force: float) -> None:
        enthalpy = float(state.enthalpy)
        if self.bar is not None:
            show_progress(self.bar, self.steps, enthalpy, force)
        if self.callback is not None:
            positions = np.asarray(self.landscape.system_at(self.q).positions)
            self.callback(self.steps, enthalpy, force, positions)

    def _check(self, state: State) -> None:
        wrong = failure(
            np.asarray(state.q), np.asarray(self.landscape.coordinates),
            float(state.enthalpy), np.asarray(state.gradient), self.steps,
            float(self.search.cutoff) or np.inf, self.landscape.system.atom_count,
            np.asarray(self.landscape.deformation(state.q)),
        )  # fmt: skip
        if wrong is not None:
            raise RelaxationError(wrong)

    def history(self) -> History:
        """The course so far."""
        return History(
            np.concatenate(self.enthalpies), np.concatenate(self.forces),
            self.evaluations, self.methods,
            np.concatenate(self.stresses) if self.stresses else None,
        )  # fmt: skip


def progress_bar() -> Progress:
    """What shows the course of a relaxation in a terminal."""
    bar = new_bar(
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
