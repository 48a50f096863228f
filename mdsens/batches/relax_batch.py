"""relax_batch: many small systems relaxed side by side, each stopping by its own tolerance."""

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mdsens.batches.batch_equilibrium import BatchEquilibrium
from mdsens.batches.padding import Devices, PaddedBatch, all_devices, shape_groups
from mdsens.batches.segment import Begin, Report, advance, blank_course
from mdsens.errors import InputError
from mdsens.mechanics.energy import require_edges
from mdsens.mechanics.relaxing_cell import CellMode, RelaxingCell
from mdsens.minimisers.dense_newton import DenseNewton
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.minimisers.steps import Outcome, failure, trial_fraction, within_skin
from mdsens.particles.constraints import require_unconstrained
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.progress import new_bar
from mdsens.relaxation.arguments import METHODS, Options, check_structure, checked_options
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.values import integer, is_traced, items, real_array, shown

#: Systems side by side on one processor: what they remember should fit its cache.
SLOTS_PER_CPU = 32
#: Systems side by side on one accelerator, which has memory and wants work.
SLOTS_PER_ACCELERATOR = 1024
#: Steps of L-BFGS before Newton's method is tried on what has not converged by then.
PATIENCE = 1000
#: Newton steps before L-BFGS is tried again.
NEWTON_STEPS = 20
#: What to do instead of tracing a batch.
NOT_TRACED = "use mdsens.relax under jit, grad and vmap, or sensitivity_batch for derivatives"


def relax_batch(
    systems: Sequence[System],
    potential: Potential | Sequence[Potential],
    method: str | Minimiser = "auto",
    fmax: float | Sequence[float] = 1e-8,
    max_steps: int = 20_000,
    cell: str | Sequence[bool | int] | np.ndarray | None = None,
    pressure: float = 0.0,
    progress: bool = False,
    max_step: float = 0.2,
    skin: float | None = None,
    batch_size: int | None = None,
    stress: None = None,
    smax: None = None,
) -> BatchEquilibrium:
    """Relax many small systems side by side, on all devices that JAX shows.

    Each stops by its own tolerance and makes room for the next, so that a slow one holds up no
    other; what one does is not touched by what there is beside it. The minimisers are those of
    `mdsens.relax`, and so are the results, to rounding and tolerance.

    Arguments:
        systems: S systems of one dimension; they may differ in all else.
        potential: one for all systems, or one for each.
        method: ``"auto"`` (L-BFGS, and Newton for what that leaves), the name of a minimiser as in
            `mdsens.relax`, or a Minimiser.
        fmax: largest norm of a force on an atom at which to stop, energy/length; or S of them.
        max_steps: steps that each takes at most; one that ends here is not converged.
        cell: what of the cells relaxes, as in `mdsens.relax`: None, ``"isotropic"``,
            ``"diagonal"``, ``"full"``, ``"shape"``, or a mask of the strain components.
        pressure: external pressure against which the cells relax, energy/length^D.
        progress: whether to show how many systems have been relaxed.
        max_step: largest move in one step, length (for FIRE, of all atoms together, as in ASE).
        skin: length by which edges reach beyond the range; None: a tenth of it.
        batch_size: systems side by side on each device; bounds the memory. None: 32 on a CPU,
            1024 on an accelerator.
        stress: none: a batch has a pressure alone.
        smax: none: ``fmax`` is for the cells too.

    Returns:
        The BatchEquilibrium. Relaxations that did not converge, or failed, say so there.

    Raises:
        InputError: something given is not allowed.
    """
    for name, value in (("stress", stress), ("smax", smax)):
        if value is not None:
            raise InputError(
                f"{name} = {shown(value)}: batches have a pressure, and one tolerance; use "
                "mdsens.relax"
            )
    given = checked_options(method, max_steps, cell, pressure, progress, max_step, skin)
    method, max_steps, progress = given.method, given.max_steps, given.progress
    cell, pressure, max_step, skin = given.cell, given.pressure, given.max_step, given.skin
    if is_traced(pressure):
        raise InputError(f"pressure is being traced: {NOT_TRACED}")
    if batch_size is not None:
        batch_size = integer(batch_size, "batch_size", at_least=1)
    systems = _listed(systems, System, "systems", "a list of mdsens.System")
    potentials = _listed(potential, Potential, "potential", "one of mdsens.potentials, or a list")
    if isinstance(potential, Potential):
        potentials = potentials * len(systems)
    forces = real_array(fmax, "fmax", above=0.0)
    if forces.shape not in ((), (len(systems),)):
        raise InputError(
            f"fmax has shape {forces.shape}: give one force, or one for each of {len(systems)} "
            "systems"
        )
    forces = np.broadcast_to(forces, len(systems)).copy()
    _check(systems, potentials, given)
    batch = _Batch(systems, potentials, forces, max_steps, cell, float(pressure), skin, batch_size)
    bar = _progress_bar(len(systems)) if progress else None
    with bar if bar is not None else contextlib.nullcontext():
        batch.bar = bar
        for indices in shape_groups(systems, potentials):
            _relax_group(batch, indices, method, max_step)
    return batch.result()


def _relax_group(batch: "_Batch", indices: list[int], method: str | Minimiser, step: float) -> None:
    if method != "auto":
        given = method if isinstance(method, Minimiser) else METHODS[method](max_step=step)
        if isinstance(given, Newton):
            given = DenseNewton(max_step=given.max_step)
        batch.run(given, indices, batch.max_steps)
        return
    # A dense Hessian costs as much as many steps: it is for those that need it.
    patience = PATIENCE
    while True:
        before = batch.largest_force.copy()
        batch.run(LBFGS(max_step=step), indices, patience)
        indices = batch.unfinished(indices)
        rows = max((batch.degrees[index].size for index in indices), default=0)
        if rows <= EIGENVECTOR_LIMIT:
            batch.run(DenseNewton(max_step=step), indices, NEWTON_STEPS)
            indices = batch.unfinished(indices)
        # One that neither brings nearer to its tolerance is given up.
        indices = [i for i in indices if batch.largest_force[i] < before[i] or not batch.stalled[i]]
        if not indices:
            return
        patience *= 2


class _Batch:
    """The host side: which system is in which slot, and what has become of each."""

    def __init__(
        self,
        systems: list[System],
        potentials: list[Potential],
        fmax: np.ndarray,
        max_steps: int,
        cell_mode: CellMode,
        pressure: float,
        skin: float | None,
        batch_size: int | None,
    ):
        count = len(systems)
        self.systems, self.potentials = systems, potentials
        self.fmax, self.max_steps = fmax, max_steps
        self.cell_mode, self.pressure = cell_mode, pressure
        self.batch_size = batch_size
        self.bar: Progress | None = None
        self.cells = np.array([np.asarray(system.cell) for system in systems])
        self.searches = [
            given.edge_search(system, skin)
            for system, given in zip(systems, potentials, strict=True)
        ]
        self.degrees = []
        for system in systems:
            blank = np.zeros((0 if cell_mode is None else system.dimension, system.dimension))
            self.degrees.append(np.concatenate([np.asarray(system.positions), blank]))
        self.relaxing_cells = [RelaxingCell.of(system, cell_mode, pressure) for system in systems]
        self.enthalpies = np.full(count, np.nan)
        self.largest_force = np.full(count, np.inf)
        self.steps = np.zeros(count, np.int64)
        self.evaluations = np.zeros(count, np.int64)
        self.stalled = np.zeros(count, bool)
        self.failures: dict[int, str] = {}

    def unfinished(self, indices: list[int]) -> list[int]:
        """Those that have not converged and may go on."""
        return [
            i
            for i in indices
            if not self.largest_force[i] <= self.fmax[i]
            and i not in self.failures
            and self.steps[i] < self.max_steps
        ]

    def run(self, minimiser: Minimiser, indices: list[int], steps: int) -> None:
        """Let a minimiser take at most ``steps`` steps on each system of one shape group."""
        if not indices:
            return
        devices = all_devices()
        width = self._width(len(indices), devices) * devices.count
        example = self.systems[indices[0]]
        atoms = max(self.systems[index].atom_count for index in indices)
        padded = PaddedBatch(
            width, atoms, example, [self.potentials[index] for index in indices],
            self.relaxing_cells[indices[0]],
        )  # fmt: skip
        # One for all, since compiled steps share what it allows.
        skin = min(float(self.searches[index].skin) for index in indices)
        minimiser, allowed = within_skin(
            minimiser, skin, trial_fraction(self.potentials[indices[0]])
        )
        _Run(self, minimiser, padded, devices, indices, steps, allowed).finish()

    def _width(self, count: int, devices: Devices) -> int:
        if self.batch_size is not None:
            most = self.batch_size
        else:
            on_cpu = devices.mesh.devices.flat[0].platform == "cpu"
            most = SLOTS_PER_CPU if on_cpu else SLOTS_PER_ACCELERATOR
        needed = -(-count // devices.count)
        # Powers of two, so that few shapes are compiled.
        return min(most, 1 << (needed - 1).bit_length())

    def result(self) -> BatchEquilibrium:
        """What has become of all systems."""
        return BatchEquilibrium(
            self.systems, self.potentials, self.degrees, self.cells, self.enthalpies,
            self.largest_force,
            self.fmax, self.steps, self.evaluations, self.cell_mode, self.pressure,
            self.failures,
        )  # fmt: skip

    def show(self) -> None:
        """Tell the progress bar."""
        if self.bar is not None:
            done = len(self.systems) - len(self.unfinished(list(range(len(self.systems)))))
            self.bar.update(self.bar.task_ids[0], completed=done, steps=int(self.steps.sum()))


class _Run:
    """One minimiser on systems of one shape group, which take turns in the slots."""

    def __init__(
        self,
        batch: _Batch,
        minimiser: Minimiser,
        padded: PaddedBatch,
        devices: Devices,
        indices: list[int],
        steps: int,
        allowed: Float[Array, ""],
    ):
        self.batch, self.minimiser, self.padded, self.devices = batch, minimiser, padded, devices
        self.waiting = indices[::-1]
        self.step_limit, self.allowed = steps, allowed
        width = padded.width
        self.system_in_slot = np.full(width, -1)
        self.fresh = np.zeros(width, bool)
        self.renewed = np.zeros(width, bool)
        self.starts = np.zeros((width, padded.rows, padded.dimension))
        self.limits = np.zeros(width, np.int64)
        self.fmax = np.full(width, np.inf)

    def finish(self) -> None:
        """Relax until none is left in the slots, and none waits."""
        for slot in range(self.padded.width):
            self._fill(slot)
        # Slots for which there was no system repeat the first one's numbers, and stand still.
        # A copy: what was reached is written over, and the starts are changed, each in its place.
        course = blank_course(self.minimiser, jnp.array(self.starts))
        course = self.devices.put(course)
        landscapes = self.devices.put(self.padded.landscapes())
        while (self.system_in_slot >= 0).any():
            changes: Any = (self.starts, self.fresh, self.renewed, self.fmax, self.limits)
            begin = Begin(*self.devices.put(changes))
            given = (
                self.minimiser, self.devices, landscapes, self.padded.shared, begin, self.allowed,
            )  # fmt: skip
            course, report = advance(given, course)
            if self._take_note(jax.device_get(report), course.state):
                landscapes = self.devices.put(self.padded.landscapes())
            self.batch.show()

    def _fill(self, slot: int) -> None:
        """Put the next system that waits into a slot."""
        self.system_in_slot[slot], self.fmax[slot] = -1, np.inf
        if not self.waiting:
            return
        index = self.waiting.pop()
        batch, padded = self.batch, self.padded
        system, degrees = batch.systems[index], batch.degrees[index]
        padded.put(slot, system, batch.potentials[index], batch.relaxing_cells[index])
        count = system.atom_count
        self.starts[slot] = padded.positions[slot].mean(axis=0)
        self.starts[slot, padded.atoms :] = degrees[count:]
        self.starts[slot, :count] = degrees[:count]
        positions, relaxing = degrees[:count], batch.relaxing_cells[index]
        if relaxing is not None:
            positions = positions @ relaxing.deformation(degrees[count:])
        try:
            padded.put_edges(slot, positions, batch.cells[index], batch.searches[index])
        except InputError as error:
            raise InputError(f"systems[{index}]: {error}") from None
        self.system_in_slot[slot], self.fresh[slot] = index, True
        self.fmax[slot] = batch.fmax[index]
        self.limits[slot] = min(self.step_limit, batch.max_steps - batch.steps[index])

    def _take_note(self, report: Report, state: State) -> bool:
        """Write down what was reached; refill slots and renew edges; whether any were changed."""
        self.fresh[:], self.renewed[:] = False, False
        changed, batch, seen = False, self.batch, report.outlook
        for slot in np.flatnonzero(self.system_in_slot >= 0).tolist():
            outcome = Outcome(int(seen.outcome[slot]))
            unfinished = outcome == Outcome.GOING
            if unfinished and not seen.outdated[slot]:
                continue
            index = int(self.system_in_slot[slot])
            system, search = batch.systems[index], batch.searches[index]
            # Not finite forces are rare, and only their atoms need all of them.
            gradient = np.zeros(report.q[slot].shape)
            if outcome == Outcome.NOT_FINITE:
                gradient = np.asarray(state.gradient)[slot]
            relaxing, deformation = batch.relaxing_cells[index], np.eye(system.dimension)
            if relaxing is not None:
                eta = np.asarray(report.q[slot, self.padded.atoms :])
                deformation = relaxing.deformation(eta)
            wrong = failure(
                np.asarray(report.q[slot]), np.asarray(system.positions),
                float(report.enthalpy[slot]), gradient,
                int(batch.steps[index] + report.steps[slot]), float(search.cutoff),
                system.atom_count, deformation,
            )  # fmt: skip
            if unfinished and wrong is None:
                self.padded.put_edges(
                    slot, report.positions[slot], report.cells[slot], batch.searches[index]
                )
                self.renewed[slot] = changed = True
                continue
            rows = np.r_[: system.atom_count, self.padded.atoms : self.padded.rows]
            batch.steps[index] += report.steps[slot]
            batch.evaluations[index] += report.evaluations[slot]
            batch.stalled[index] = outcome == Outcome.STALLED
            if wrong is None:
                batch.degrees[index] = np.asarray(report.q[slot, rows])
                batch.cells[index] = report.cells[slot]
                batch.enthalpies[index] = report.enthalpy[slot]
                batch.largest_force[index] = seen.force[slot]
            else:
                batch.enthalpies[index], batch.largest_force[index] = np.nan, np.inf
                batch.failures[index] = wrong
            self._fill(slot)
            changed = changed or bool(self.system_in_slot[slot] >= 0)
        return changed


def _listed(value: Any, kind: type, name: str, what: str) -> list[Any]:
    """One thing of a kind, or many, in a list."""
    if isinstance(value, kind):
        return [value]
    found = items(value)
    if found is None:
        raise InputError(f"{name} is a {type(value).__name__}: give {what}")
    return found


def _check(systems: list[System], potentials: list[Potential], given: Options) -> None:
    method = given.method
    if not systems:
        raise InputError("systems is empty: give a list of at least one System")
    if len(potentials) != len(systems):
        raise InputError(
            f"{len(potentials)} potentials for {len(systems)} systems: give one for all, or one "
            "for each"
        )
    for index, (system, potential) in enumerate(zip(systems, potentials, strict=True)):
        try:
            check_structure(system, potential, given)
            require_edges(potential, "relaxing side by side")
        except InputError as error:
            raise InputError(f"systems[{index}]: {error}") from None
        require_unconstrained(system.constraints, f"systems[{index}] of a batch")
        if is_traced((system, potential)):
            raise InputError(f"relax_batch is no function to trace: {NOT_TRACED}")
        if system.dimension != systems[0].dimension:
            raise InputError(
                f"systems[{index}] has {system.dimension} dimensions, systems[0] has "
                f"{systems[0].dimension}: relax each kind in a batch of its own"
            )
        degrees = system.positions.size + (0 if given.cell is None else system.dimension**2)
        by_newton = isinstance(method, (Newton, DenseNewton)) or method == "newton"
        if by_newton and degrees > EIGENVECTOR_LIMIT:
            raise InputError(
                f"systems[{index}] has {degrees} degrees of freedom, and batches take Newton's "
                f"method up to {EIGENVECTOR_LIMIT}: use mdsens.relax for it, or method='lbfgs'"
            )
    if isinstance(method, PreconditionedLBFGS) or method == "preconditioned-lbfgs":
        raise InputError(
            "method = 'preconditioned-lbfgs' is for one large system: use 'auto' or 'lbfgs' for a "
            "batch, or mdsens.relax"
        )


def _progress_bar(total: int) -> Progress:
    bar = new_bar(
        TextColumn("relaxed"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[steps]} steps"), TimeElapsedColumn(),
    )  # fmt: skip
    bar.add_task("relaxing", total=total, steps=0)
    return bar
