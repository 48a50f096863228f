"""relax_batch: many small systems relaxed side by side, each stopping by its own tolerance."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mdsens.errors import InputError, RelaxationError
from mdsens.particles.edges import find_edges
from mdsens.particles.system import System, is_concrete
from mdsens.potentials.potential import Potential
from mdsens.relaxation.dense_newton import DenseNewton
from mdsens.relaxation.descent import ESCAPE_RANGES, SEGMENT_STEPS, SKIN_FRACTION, TRIAL_FRACTION
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.relaxation.landscape import Landscape, largest_force
from mdsens.relaxation.lbfgs import LBFGS
from mdsens.relaxation.loose import loose_atoms
from mdsens.relaxation.minimiser import Minimiser, State, approach
from mdsens.relaxation.newton import DENSE_LIMIT, Newton
from mdsens.relaxation.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.relaxation.relax import METHODS, _check_inputs
from mdsens.relaxation.side_by_side import (
    Devices,
    Lanes,
    PaddedLandscape,
    all_devices,
    kinds,
    with_potential,
)
from mdsens.units import unit_name

#: Systems side by side on one processor: what they remember should fit its cache.
LANES_PER_CPU = 32
#: Systems side by side on one accelerator, which has memory and wants work.
LANES_PER_ACCELERATOR = 1024
#: Steps of L-BFGS before Newton's method is tried on what has not converged by then.
PATIENCE = 1000
#: Newton steps before L-BFGS is tried again.
NEWTON_STEPS = 20


class BatchEquilibrium(Sequence[Equilibrium]):
    """Relaxed structures by their index, and what they are in arrays over all S of them.

    ``batch[3]`` is an ordinary Equilibrium; ``batch[2:5]``, ``batch[[0, 7]]`` and
    ``batch[batch.converged]`` are batches again.

    Attributes:
        systems: where the relaxations began.
        potentials: the potential of each.
        degrees: the degrees of freedom of each at the end, shapes (R, D), length.
        cells: relaxed cells, shape (S, D, D), length.
        enthalpies: shape (S,), energy; NaN where a relaxation failed.
        fmax: largest norm of a force in each, shape (S,), energy/length.
        fmax_asked: those asked for, shape (S,).
        steps: number of steps of each, shape (S,).
        evaluations: number of evaluations of the gradient of each, shape (S,).
        cell_mode: what of the cells relaxed.
        pressure: external pressure, energy/length^D.
        failures: why a relaxation had no result, by index.
    """

    def __init__(
        self,
        systems: Sequence[System],
        potentials: Sequence[Potential],
        degrees: Sequence[np.ndarray],
        cells: Float[np.ndarray, "S D D"],
        enthalpies: Float[np.ndarray, " S"],
        fmax: Float[np.ndarray, " S"],
        fmax_asked: Float[np.ndarray, " S"],
        steps: Int[np.ndarray, " S"],
        evaluations: Int[np.ndarray, " S"],
        cell_mode: str | None,
        pressure: float,
        failures: dict[int, str],
    ):
        self.systems, self.potentials, self.degrees = systems, potentials, degrees
        self.cells, self.enthalpies = cells, enthalpies
        self.fmax, self.fmax_asked, self.steps, self.evaluations = (
            fmax, fmax_asked, steps, evaluations,
        )  # fmt: skip
        self.cell_mode, self.pressure, self.failures = cell_mode, pressure, failures

    def __len__(self) -> int:
        return len(self.systems)

    @property
    def converged(self) -> Bool[np.ndarray, " S"]:
        """Whether the largest force of each came down to what was asked for."""
        return self.fmax <= self.fmax_asked

    @property
    def mask(self) -> Bool[np.ndarray, "S N"]:
        """Which rows of ``positions`` hold atoms; N is the largest number of atoms."""
        counts = np.array([system.atom_count for system in self.systems])
        return np.arange(counts.max(initial=0)) < counts[:, None]

    @property
    def volumes(self) -> Float[np.ndarray, " S"]:
        """Volumes of the cells, shape (S,), length^D; 0 where there is no cell."""
        return np.abs(np.linalg.det(self.cells))

    @property
    def energies(self) -> Float[np.ndarray, " S"]:
        """Potential energies, shape (S,), in units of energy."""
        if self.cell_mode is None:
            return self.enthalpies
        return self.enthalpies - self.pressure * self.volumes

    @property
    def positions(self) -> Float[np.ndarray, "S N D"]:
        """Relaxed positions, zero after the atoms of a smaller system, length."""
        stacked = np.zeros((*self.mask.shape, self.cells.shape[1]))
        for index, system in enumerate(self.systems):
            stacked[index, : system.atom_count] = self._positions(index)
        return stacked

    def _positions(self, index: int) -> np.ndarray:
        system, degrees = self.systems[index], self.degrees[index]
        moved = np.where(
            np.asarray(system.fixed)[:, None],
            np.asarray(system.positions),
            degrees[: system.atom_count],
        )
        if self.cell_mode is None:
            return moved
        return moved @ np.linalg.solve(np.asarray(system.cell), self.cells[index])

    @overload
    def __getitem__(self, index: int) -> Equilibrium: ...
    @overload
    def __getitem__(self, index: Any) -> "BatchEquilibrium": ...
    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, (int, np.integer)):
            return self._selected(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"system {index} of a batch of {len(self)}")
        return self._equilibrium(int(index) % len(self))

    def __iter__(self) -> Iterator[Equilibrium]:
        return (self[index] for index in range(len(self)))

    def _equilibrium(self, index: int) -> Equilibrium:
        if index in self.failures:
            raise RelaxationError(f"systems[{index}]: {self.failures[index]}")
        system, potential = self.systems[index], self.potentials[index]
        moved = system.with_positions(jnp.asarray(self._positions(index)))
        moved = moved.with_cell(jnp.asarray(self.cells[index]))
        edge_list = find_edges(
            np.asarray(moved.positions), self.cells[index], system.pbc,
            float(potential.interaction_range),
        )  # fmt: skip
        loose = loose_atoms(moved, potential, edge_list, float(self.fmax[index]))
        q = self.degrees[index]
        here = np.where(loose[:, None], q[: system.atom_count], np.asarray(system.positions))
        landscape = Landscape(
            system.with_positions(jnp.asarray(here)), potential, edge_list,
            jnp.asarray(self.pressure), jnp.asarray(loose), jnp.zeros((0, *q.shape)),
            self.cell_mode,
        )  # fmt: skip
        return Equilibrium(
            landscape, jnp.asarray(q), system.positions, jnp.asarray(self.fmax[index]),
            float(self.fmax_asked[index]), None,
        )  # fmt: skip

    def _selected(self, indices: np.ndarray) -> "BatchEquilibrium":
        return BatchEquilibrium(
            [self.systems[i] for i in indices],
            [self.potentials[i] for i in indices],
            [self.degrees[i] for i in indices],
            self.cells[indices],
            self.enthalpies[indices],
            self.fmax[indices],
            self.fmax_asked[indices],
            self.steps[indices],
            self.evaluations[indices],
            self.cell_mode,
            self.pressure,
            {new: self.failures[i] for new, i in enumerate(indices) if i in self.failures},
        )

    def __repr__(self) -> str:
        converged = int(self.converged.sum())
        text = f"{len(self)} equilibria, {converged} converged"
        if converged < len(self):
            left = np.flatnonzero(~self.converged)
            listed = ", ".join(str(index) for index in left[:8])
            text += f" (not {listed}{' ...' if len(left) > 8 else ''})"
        if len(self):
            unit = unit_name("energy/length", self.systems[0].units)
            text += f", largest force {np.max(self.fmax):.2e} {unit}, {self.steps.max()} steps"
        return f"BatchEquilibrium({text})"


def relax_batch(
    systems: Sequence[System],
    potential: Potential | Sequence[Potential],
    method: str | Minimiser = "auto",
    fmax: float | Sequence[float] = 1e-8,
    max_steps: int = 20_000,
    cell: str | None = None,
    pressure: float = 0.0,
    progress: bool = False,
    max_step: float = 0.2,
    skin: float | None = None,
    batch_size: int | None = None,
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
        cell: what of the cells relaxes: None, ``"isotropic"``, ``"diagonal"`` or ``"full"``.
        pressure: external pressure against which the cells relax, energy/length^D.
        progress: whether to show how many systems have been relaxed.
        max_step: largest move in one step, length (for FIRE, of all atoms together, as in ASE).
        skin: length by which edges reach beyond the range; None: a tenth of it.
        batch_size: systems side by side on each device; bounds the memory. None: 32 on a CPU,
            1024 on an accelerator.

    Returns:
        The BatchEquilibrium. Relaxations that did not converge, or failed, say so there.

    Raises:
        InputError: something given is not allowed.
    """
    systems = [systems] if isinstance(systems, System) else list(systems)
    given = [potential] * len(systems) if isinstance(potential, Potential) else potential
    potentials = list(given)
    fits = np.ndim(fmax) == 0 or np.shape(fmax) == (len(systems),)
    forces = np.broadcast_to(np.asarray(fmax, float), len(systems)).copy() if fits else None
    _check(systems, potentials, forces, fmax, method, max_steps, cell, batch_size, skin)
    assert forces is not None
    batch = _Batch(systems, potentials, forces, max_steps, cell, float(pressure), skin, batch_size)
    bar = _progress_bar(len(systems)) if progress else None
    with bar if bar is not None else contextlib.nullcontext():
        batch.bar = bar
        for indices in kinds(systems, potentials):
            _relax_kind(batch, indices, method, max_step)
    return batch.result()


def _relax_kind(batch: "_Batch", indices: list[int], method: str | Minimiser, step: float) -> None:
    if method != "auto":
        given = method if isinstance(method, Minimiser) else METHODS[method](max_step=step)
        if isinstance(given, Newton):
            given = DenseNewton(max_step=given.max_step)
        batch.run(given, indices, batch.max_steps)
        return
    # A dense Hessian costs as much as many steps: it is for those that need it.
    patience = PATIENCE
    while True:
        before = batch.fmax.copy()
        batch.run(LBFGS(max_step=step), indices, patience)
        indices = batch.unfinished(indices)
        rows = max((batch.degrees[index].size for index in indices), default=0)
        if rows <= DENSE_LIMIT:
            batch.run(DenseNewton(max_step=step), indices, NEWTON_STEPS)
            indices = batch.unfinished(indices)
        # One that neither brings nearer to its tolerance is given up.
        indices = [i for i in indices if batch.fmax[i] < before[i] or not batch.stalled[i]]
        if not indices:
            return
        patience *= 2


class _Batch:
    """The host side: which system is in which lane, and what has become of each."""

    def __init__(
        self,
        systems: list[System],
        potentials: list[Potential],
        fmax: np.ndarray,
        max_steps: int,
        cell_mode: str | None,
        pressure: float,
        skin: float | None,
        batch_size: int | None,
    ):
        count = len(systems)
        self.systems, self.potentials = systems, potentials
        self.fmax_asked, self.max_steps = fmax, max_steps
        self.cell_mode, self.pressure, self.skin = cell_mode, pressure, skin
        self.batch_size = batch_size
        self.bar: Progress | None = None
        self.cells = np.array([np.asarray(system.cell) for system in systems])
        # Every potential is asked once, however many systems share it.
        ranges = {id(given): float(given.interaction_range) for given in potentials}
        self.ranges = np.array([ranges[id(given)] for given in potentials])
        self.degrees = []
        for system in systems:
            blank = np.zeros((0 if cell_mode is None else system.dimension, system.dimension))
            self.degrees.append(np.concatenate([np.asarray(system.positions), blank]))
        self.enthalpies = np.full(count, np.nan)
        self.fmax = np.full(count, np.inf)
        self.steps = np.zeros(count, np.int64)
        self.evaluations = np.zeros(count, np.int64)
        self.stalled = np.zeros(count, bool)
        self.failures: dict[int, str] = {}

    def unfinished(self, indices: list[int]) -> list[int]:
        """Those that have not converged and may go on."""
        return [
            i
            for i in indices
            if not self.fmax[i] <= self.fmax_asked[i]
            and i not in self.failures
            and self.steps[i] < self.max_steps
        ]

    def run(self, minimiser: Minimiser, indices: list[int], steps: int) -> None:
        """Let a minimiser take at most ``steps`` steps on each of some systems of one kind."""
        if not indices:
            return
        devices = all_devices()
        width = self._width(len(indices), devices) * devices.count
        example = self.systems[indices[0]]
        atoms = max(self.systems[index].atom_count for index in indices)
        lanes = Lanes(
            width, atoms, example, [self.potentials[index] for index in indices],
            self.cell_mode, self.pressure,
        )  # fmt: skip
        skin = self.skin or SKIN_FRACTION * float(self.ranges[indices].min())
        minimiser = minimiser.limited(TRIAL_FRACTION * skin)
        _Run(self, minimiser, lanes, devices, indices, steps, skin).finish()

    def _width(self, count: int, devices: Devices) -> int:
        if self.batch_size is not None:
            most = self.batch_size
        else:
            on_cpu = devices.mesh.devices.flat[0].platform == "cpu"
            most = LANES_PER_CPU if on_cpu else LANES_PER_ACCELERATOR
        needed = -(-count // devices.count)
        # Powers of two, so that few shapes are compiled.
        return min(most, 1 << (needed - 1).bit_length())

    def result(self) -> BatchEquilibrium:
        """What has become of all systems."""
        return BatchEquilibrium(
            self.systems, self.potentials, self.degrees, self.cells, self.enthalpies, self.fmax,
            self.fmax_asked, self.steps, self.evaluations, self.cell_mode, self.pressure,
            self.failures,
        )  # fmt: skip

    def show(self) -> None:
        """Tell the progress bar."""
        if self.bar is not None:
            done = len(self.systems) - len(self.unfinished(list(range(len(self.systems)))))
            self.bar.update(self.bar.task_ids[0], completed=done, steps=int(self.steps.sum()))


class _Run:
    """One minimiser on systems of one kind, which take turns in the lanes."""

    def __init__(
        self,
        batch: _Batch,
        minimiser: Minimiser,
        lanes: Lanes,
        devices: Devices,
        indices: list[int],
        steps: int,
        skin: float,
    ):
        self.batch, self.minimiser, self.lanes, self.devices = batch, minimiser, lanes, devices
        self.waiting = indices[::-1]
        self.step_limit, self.skin = steps, skin
        width = lanes.width
        self.occupants = np.full(width, -1)
        self.fresh = np.zeros(width, bool)
        self.renewed = np.zeros(width, bool)
        self.starts = np.zeros((width, lanes.rows, lanes.dimension))
        self.limits = np.zeros(width, np.int64)
        self.fmax = np.full(width, np.inf)

    def finish(self) -> None:
        """Relax until none is left in the lanes, and none waits."""
        for lane in range(self.lanes.width):
            self._fill(lane)
        # Lanes for which there was no system repeat the first one's numbers, and stand still.
        # A copy: what was reached is written over, and the starts are changed, each in its place.
        course = _blank_course(self.minimiser, jnp.array(self.starts))
        course = self.devices.put(course)
        landscapes = self.devices.put(self.lanes.landscapes())
        allowed = jnp.asarray(self.skin - 2.0 * self.minimiser.trial_distance)
        while (self.occupants >= 0).any():
            changes: Any = (self.starts, self.fresh, self.renewed, self.fmax, self.limits)
            begin = self.devices.put(_Begin(*changes))
            given = (self.minimiser, self.devices, landscapes, self.lanes.shared, begin, allowed)
            course, report = _advance(given, course)
            if self._take_note(jax.device_get(report)):
                landscapes = self.devices.put(self.lanes.landscapes())
            self.batch.show()

    def _fill(self, lane: int) -> None:
        """Put the next system that waits into a lane."""
        self.occupants[lane], self.fmax[lane] = -1, np.inf
        if not self.waiting:
            return
        index = self.waiting.pop()
        batch, lanes = self.batch, self.lanes
        system, degrees = batch.systems[index], batch.degrees[index]
        lanes.put(lane, system, batch.potentials[index])
        count = system.atom_count
        self.starts[lane] = lanes.positions[lane].mean(axis=0)
        self.starts[lane, lanes.atoms :] = degrees[count:]
        self.starts[lane, :count] = degrees[:count]
        positions = degrees[:count] @ np.linalg.solve(*_cells(system, batch.cells[index]))
        try:
            lanes.put_edges(lane, positions, batch.cells[index], batch.ranges[index], self.skin)
        except InputError as error:
            raise InputError(f"systems[{index}]: {error}") from None
        self.occupants[lane], self.fresh[lane] = index, True
        self.fmax[lane] = batch.fmax_asked[index]
        self.limits[lane] = min(self.step_limit, batch.max_steps - batch.steps[index])

    def _take_note(self, report: "_Report") -> bool:
        """Write down what was reached; refill lanes and renew edges; whether any were changed."""
        self.fresh[:], self.renewed[:] = False, False
        changed, batch = False, self.batch
        for lane in np.flatnonzero(self.occupants >= 0).tolist():
            if report.unfinished[lane] and not report.outdated[lane]:
                continue
            index = self.occupants[lane]
            system = batch.systems[index]
            moved = np.abs(report.positions[lane, : system.atom_count] - system.positions).max()
            finite = np.isfinite(report.enthalpy[lane]) and np.isfinite(report.force[lane])
            escaped = finite and moved > ESCAPE_RANGES * batch.ranges[index]
            if report.unfinished[lane] and not escaped:
                self.lanes.put_edges(
                    lane, report.positions[lane], report.cells[lane], batch.ranges[index], self.skin
                )
                self.renewed[lane] = changed = True
                continue
            rows = np.r_[: system.atom_count, self.lanes.atoms : self.lanes.rows]
            batch.steps[index] += report.steps[lane]
            batch.evaluations[index] += report.evaluations[lane]
            batch.stalled[index] = report.stalled[lane]
            if finite and not escaped:
                batch.degrees[index] = report.q[lane, rows]
                batch.cells[index] = report.cells[lane]
                batch.enthalpies[index] = report.enthalpy[lane]
                batch.fmax[index] = report.force[lane]
            else:
                batch.enthalpies[index], batch.fmax[index] = np.nan, np.inf
                what = "the structure flies apart" if finite else "energy or forces are not finite"
                batch.failures[index] = (
                    f"{what} after {batch.steps[index]} steps: check the potential and the "
                    "starting structure, and move overlapping atoms apart"
                )
            self._fill(lane)
            changed = changed or self.occupants[lane] >= 0
        return changed


def _cells(system: System, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reference cell and a deformed one, with unit vectors where there is none."""
    reference = np.asarray(system.cell)
    if np.array_equal(reference, cell):
        return np.eye(len(cell)), np.eye(len(cell))
    return reference, cell


# What is compiled --------------------------------------------------------------------------------


class _Begin(eqx.Module):
    """What the host has changed in the lanes before a segment of steps."""

    starts: Float[Array, "W R D"]
    fresh: Bool[Array, " W"]
    renewed: Bool[Array, " W"]
    fmax: Float[Array, " W"]
    limits: Int[Array, " W"]


class _Course(eqx.Module):
    """Where each lane is, where its edges were found, and how many steps it has taken."""

    state: State
    reference: Float[Array, "W R D"]
    steps: Int[Array, " W"]


class _Report(eqx.Module):
    """What the host is told after a segment of steps."""

    q: Float[Array, "W R D"]
    positions: Float[Array, "W N D"]
    cells: Float[Array, "W D D"]
    enthalpy: Float[Array, " W"]
    force: Float[Array, " W"]
    steps: Int[Array, " W"]
    evaluations: Int[Array, " W"]
    stalled: Bool[Array, " W"]
    outdated: Bool[Array, " W"]
    unfinished: Bool[Array, " W"]


@eqx.filter_jit
def _blank_course(minimiser: Minimiser, starts: Float[Array, "W R D"]) -> _Course:
    def one(q: Float[Array, "R D"]) -> _Course:
        state = State(
            q, jnp.zeros(()), jnp.zeros_like(q), jnp.asarray(0), jnp.asarray(False),
            minimiser.start(q),
        )  # fmt: skip
        return _Course(state, q, jnp.asarray(0))

    return jax.vmap(one)(starts)


@eqx.filter_jit(donate="all-except-first")
def _advance(given: tuple, course: _Course) -> tuple[_Course, _Report]:
    """Take steps in all lanes until a quarter of those that were going need the host.

    What was reached before is written over in its place.
    """
    minimiser, devices, landscapes, shared, begin, allowed = given
    run = functools.partial(_advance_lanes, minimiser)
    return devices.spread(run, (landscapes, course, begin), (shared, allowed))


def _advance_lanes(
    minimiser: Minimiser,
    landscapes: PaddedLandscape,
    course: _Course,
    begin: _Begin,
    common: tuple[Potential | None, Float[Array, ""]],
) -> tuple[_Course, _Report]:
    shared, allowed = common

    def prepare(landscape: PaddedLandscape, course: _Course, begin: _Begin) -> _Course:
        """Fresh lanes begin; those and the ones with new edges are evaluated."""
        landscape = with_potential(landscape, shared)
        q = jnp.where(begin.fresh, begin.starts, course.state.q)
        enthalpy, gradient = landscape.enthalpy_and_gradient(q)
        new = begin.fresh | begin.renewed
        before = course.state
        memory = jax.tree.map(
            lambda start, kept: jnp.where(begin.fresh, start, kept),
            minimiser.start(q), before.memory,
        )  # fmt: skip
        state = State(
            q,
            jnp.where(new, enthalpy, before.enthalpy),
            jnp.where(new, gradient, before.gradient),
            jnp.where(begin.fresh, 0, before.evaluations) + new,
            before.stalled & ~begin.fresh,
            memory,
        )
        steps = jnp.where(begin.fresh, 0, course.steps)
        return _Course(state, jnp.where(new, q, course.reference), steps)

    def outlook(
        landscape: PaddedLandscape, course: _Course, begin: _Begin
    ) -> tuple[Array, Array, Array]:
        """Whether another step is to be taken, whether edges are outdated, the largest force."""
        state = course.state
        force = largest_force(state.gradient)
        unfinished = (
            (force > begin.fmax)
            & jnp.isfinite(state.enthalpy)
            & ~state.stalled
            & (course.steps < begin.limits)
        )
        outdated = approach(landscape, state.q, course.reference) >= allowed
        return unfinished, outdated, force

    def step(landscape: PaddedLandscape, course: _Course, going: Array) -> _Course:
        landscape, state = with_potential(landscape, shared), course.state
        # A lane that stands still takes a step without force, which is over at once.
        still = State(
            jnp.where(going, state.q, course.reference),
            jnp.where(going, state.enthalpy, jnp.inf),
            jnp.where(going, state.gradient, 0.0),
            state.evaluations, state.stalled, state.memory,
        )  # fmt: skip
        stepped = _Course(minimiser.step(landscape, still), course.reference, course.steps + 1)
        return jax.tree.map(lambda new, old: jnp.where(going, new, old), stepped, course)

    def going(course: _Course) -> Bool[Array, " W"]:
        unfinished, outdated, _ = jax.vmap(outlook)(landscapes, course, begin)
        return unfinished & ~outdated

    def carry_on(carry: tuple) -> Bool[Array, ""]:
        _, now, taken = carry
        return (jnp.sum(now) >= enough) & (taken < SEGMENT_STEPS)

    def advance(carry: tuple) -> tuple:
        course, now, taken = carry
        course = jax.vmap(step)(landscapes, course, now)
        return course, going(course), taken + 1

    course = jax.vmap(prepare)(landscapes, course, begin)
    now = going(course)
    # Worth a return to the host: to fill lanes, and to renew edges.
    enough = jnp.maximum(1, 3 * jnp.sum(now) // 4)
    course, _, _ = jax.lax.while_loop(carry_on, advance, (course, now, jnp.asarray(0)))
    unfinished, outdated, force = jax.vmap(outlook)(landscapes, course, begin)
    moved = jax.vmap(lambda landscape, q: landscape.system_at(q))(landscapes, course.state.q)
    state = course.state
    return course, _Report(
        state.q, moved.positions, moved.cell, state.enthalpy, force, course.steps,
        state.evaluations, state.stalled, outdated, unfinished,
    )  # fmt: skip


# What is asked and told --------------------------------------------------------------------------


def _check(
    systems: list[System],
    potentials: list[Potential],
    forces: np.ndarray | None,
    fmax: Any,
    method: Any,
    max_steps: int,
    cell: str | None,
    batch_size: int | None,
    skin: float | None,
) -> None:
    if not systems:
        raise InputError("systems is empty: give a list of at least one System")
    if len(potentials) != len(systems):
        raise InputError(
            f"{len(potentials)} potentials for {len(systems)} systems: give one for all, or one "
            "for each"
        )
    if forces is None:
        raise InputError(
            f"fmax has shape {np.shape(fmax)}: give one force, or one for each of {len(systems)} "
            "systems"
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size = {batch_size}: give a whole number above zero")
    if skin is not None and not skin > 0:
        raise InputError(f"skin = {skin}: give a length above zero")
    for index, (system, potential) in enumerate(zip(systems, potentials, strict=True)):
        try:
            _check_inputs(system, potential, method, float(forces[index]), max_steps, cell)
        except InputError as error:
            raise InputError(f"systems[{index}]: {error}") from None
        if not is_concrete(system, potential):
            raise InputError(
                "relax_batch is no function to trace: use mdsens.relax under jit, grad and vmap, "
                "or sensitivity_batch for derivatives"
            )
        if system.dimension != systems[0].dimension:
            raise InputError(
                f"systems[{index}] has {system.dimension} dimensions, systems[0] has "
                f"{systems[0].dimension}: relax each kind in a batch of its own"
            )
        degrees = system.positions.size + (0 if cell is None else system.dimension**2)
        if (
            method == "newton" or isinstance(method, (Newton, DenseNewton))
        ) and degrees > DENSE_LIMIT:
            raise InputError(
                f"systems[{index}] has {degrees} degrees of freedom, and batches take Newton's "
                f"method up to {DENSE_LIMIT}: use mdsens.relax for it, or method='lbfgs'"
            )
    if method == "preconditioned-lbfgs" or isinstance(method, PreconditionedLBFGS):
        raise InputError(
            "method = 'preconditioned-lbfgs' is for one large system: use 'auto' or 'lbfgs' for a "
            "batch, or mdsens.relax"
        )


def _progress_bar(total: int) -> Progress:
    bar = Progress(
        TextColumn("relaxed"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[steps]} steps"), TimeElapsedColumn(),
    )  # fmt: skip
    bar.add_task("relaxing", total=total, steps=0)
    return bar
