"""sensitivity_batch: derivatives of many small relaxed structures, side by side."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from mdsens.batches.batch_equilibrium import BatchEquilibrium
from mdsens.batches.batch_sensitivity import BatchSensitivity
from mdsens.batches.padding import Devices, PaddedBatch, all_devices, shape_groups
from mdsens.batches.response import observe, respond
from mdsens.errors import InputError, UnreliableDerivativeError
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.observables.observable import Observable
from mdsens.relaxation.certificate import EIGENVALUE_COUNT
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.sensitivities.arguments import asked_observables, asked_parameters
from mdsens.sensitivities.linear_response import reach_of, relative_to_largest
from mdsens.sensitivities.noise import Noise, derivative_errors, noise_of, value_errors
from mdsens.sensitivities.reliability import MOVED, changes_freely, free_motion, warn_of_free
from mdsens.values import boolean, instance, integer, listing

#: Systems side by side on one processor and on one accelerator.
SLOTS_PER_CPU = 16
SLOTS_PER_ACCELERATOR = 256


def sensitivity_batch(
    equilibria: BatchEquilibrium,
    observables: Observable | str | Iterable[Observable | str] = (),
    wrt: str | Iterable[str] | None = None,
    allow_unconverged: bool = False,
    error_estimate: bool = True,
    progress: bool = False,
    batch_size: int | None = None,
) -> BatchSensitivity:
    """Derivatives of many relaxed structures in the parameters of their potentials.

    Those of `mdsens.sensitivity`, for all structures together: each Hessian is diagonalised once,
    which tells stability, null modes and all linear solves.

    Arguments:
        equilibria: from `mdsens.relax_batch`.
        observables: one or several, as objects or as text such as ``"distance(0,1)"``.
        wrt: names of parameters, e.g. ``["sigma"]`` or ``"sigma[Ar-Kr]"``; None: all.
        allow_unconverged: give derivatives also where a structure is no converged, stable minimum.
        error_estimate: also estimate the error of each value and derivative, from a Newton step
            further on.
        progress: whether to show how many structures are done.
        batch_size: structures side by side on each device; bounds the memory. None: 16 on a CPU,
            256 on an accelerator.

    Returns:
        The BatchSensitivity: ``sens["pressure"]["sigma"]``, ``sens.positions["sigma"]``.

    Raises:
        InputError: an unknown observable or parameter, one given twice, a structure that is too
            large, or anything else that is not allowed.
        UnreliableDerivativeError: a structure is unconverged or unstable.
    """
    wanted = "a BatchEquilibrium, as from mdsens.relax_batch"
    instance(equilibria, "equilibria", BatchEquilibrium, wanted)
    boolean(allow_unconverged, "allow_unconverged")
    boolean(error_estimate, "error_estimate")
    boolean(progress, "progress")
    if batch_size is not None:
        integer(batch_size, "batch_size", at_least=1)
    asked = asked_observables(observables)
    names = _parameter_names(equilibria, asked_parameters(wrt))
    _check(equilibria, asked, allow_unconverged)
    job = _Job(equilibria, asked, names, error_estimate, batch_size)
    chunks = list(job.chunks(same_size=False))
    for chunk in track(chunks, "solving for derivatives", transient=True, disable=not progress):
        job.solve(chunk)
    if not allow_unconverged:
        unstable = np.flatnonzero(~(job.eigenvalues[:, 0] > 0.0))
        if len(unstable):
            raise UnreliableDerivativeError(
                f"structures {listing(unstable)} are saddles: lowest eigenvalue "
                f"{job.eigenvalues[unstable[0], 0]:.3g} in the first; displace their atoms a "
                "little and relax again, or pass allow_unconverged=True"
            )
    if asked:
        chunks = list(job.chunks(same_size=True))
        for chunk in track(chunks, "observables", transient=True, disable=not progress):
            job.observe(chunk)
    found = job.result()
    job.warn_of_free(found.value_errors)
    return found


class _Job:
    """The host side: results of all structures, which are filled in chunk by chunk."""

    def __init__(
        self,
        equilibria: BatchEquilibrium,
        observables: tuple[Observable, ...],
        names: list[str],
        estimate: bool,
        batch_size: int | None,
    ):
        self.equilibria, self.observables, self.names = equilibria, observables, names
        self.estimate, self.batch_size = estimate, batch_size
        count, width = equilibria.mask.shape
        dimension = equilibria.cells.shape[1]
        self.relaxed = equilibria.positions
        self.relaxing_cells = [
            RelaxingCell.of(system, equilibria.cell_mode, equilibria.pressure)
            for system in equilibria.systems
        ]
        self.moved = np.zeros((len(names), count, width, dimension))
        self.strained = np.zeros((len(names), count, dimension, dimension))
        self.degrees: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] * count for name in names}
        self.residuals = np.zeros((count, len(names)))
        self.relative_errors = np.full((count, len(names)), np.nan)
        self.steps: list[np.ndarray] = [np.zeros(0)] * count
        self.left = np.zeros(count)
        self.ahead: list[np.ndarray] = [np.zeros(0)] * count
        self.floppy: list[np.ndarray] = [np.zeros((0, dimension))] * count
        self.stiffness = np.zeros(count)
        self.eigenvalues = np.full((count, EIGENVALUE_COUNT), np.inf)
        self.rattlers = np.zeros((count, width), bool)
        kinds_of_modes = ("translations", "rotations", "rattlers", "floppy")
        self.null_modes = {kind: np.zeros(count, np.int64) for kind in kinds_of_modes}
        self.values: dict[str, list[Any]] = {o.name: [None] * count for o in observables}
        self.changes: dict[str, list[Any]] = {o.name: [None] * count for o in observables}
        self.values_ahead: dict[str, list[Any]] = {o.name: [None] * count for o in observables}
        self.changes_ahead: dict[str, list[Any]] = {o.name: [None] * count for o in observables}
        self.free = [""] * count
        self.values_moved: dict[str, list[Any]] = {o.name: [None] * count for o in observables}

    def chunks(self, same_size: bool) -> Iterator["_Chunk"]:
        """All structures, in groups that fit side by side."""
        devices, batch = all_devices(), self.equilibria
        if self.batch_size is not None:
            most = self.batch_size
        else:
            on_cpu = devices.mesh.devices.flat[0].platform == "cpu"
            most = SLOTS_PER_CPU if on_cpu else SLOTS_PER_ACCELERATOR
        for indices in shape_groups(batch.systems, batch.potentials, same_size):
            needed = -(-len(indices) // devices.count)
            width = min(most, 1 << (needed - 1).bit_length()) * devices.count
            example = batch.systems[indices[0]]
            padded = PaddedBatch(
                width, example.atom_count, example, [batch.potentials[i] for i in indices],
                self.relaxing_cells[indices[0]], own_species=same_size,
            )  # fmt: skip
            for start in range(0, len(indices), width):
                yield _Chunk(devices, padded, indices[start : start + width])

    def _fill(self, chunk: "_Chunk") -> tuple[np.ndarray, np.ndarray]:
        """Put a chunk's structures into slots; degrees of freedom and largest forces there."""
        padded, batch = chunk.padded, self.equilibria
        q = np.zeros((padded.width, padded.rows, padded.dimension))
        forces = np.zeros(padded.width)
        for slot in range(padded.width):
            # Slots that are left over repeat the first structure.
            index = chunk.indices[slot if slot < len(chunk.indices) else 0]
            system, potential, degrees = (
                batch.systems[index], batch.potentials[index], batch.degrees[index],
            )  # fmt: skip
            count = system.atom_count
            relaxing = self.relaxing_cells[index]
            padded.put(slot, system, potential, relaxing, self.rattlers[index, :count])
            search = potential.edge_search(system, skin=0.0)
            padded.put_edges(slot, self.relaxed[index], batch.cells[index], search)
            q[slot, count : padded.atoms] = padded.positions[slot, count:]
            q[slot, :count], q[slot, padded.atoms :] = degrees[:count], degrees[count:]
            # The reference of atoms without load is where they are.
            here = np.where(self.rattlers[index, :count, None], degrees[:count], system.positions)
            padded.positions[slot, :count] = here
            forces[slot] = batch.largest_force[index]
        return q, forces

    def solve(self, chunk: "_Chunk") -> None:
        """Tangents of a chunk's structures."""
        q, forces = self._fill(chunk)
        padded, devices, batch = chunk.padded, chunk.devices, self.equilibria
        example = batch.potentials[chunk.indices[0]]
        directions = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *[example.direction(name) for name in self.names]
        )
        landscapes = devices.put(padded.landscapes())

        placed = devices.put(q), devices.put(forces)
        response = jax.device_get(
            respond(devices, landscapes, padded.shared, directions, *placed, self.estimate)
        )
        for slot, index in enumerate(chunk.indices):
            system = batch.systems[index]
            count, dimension = system.positions.shape
            self.moved[:, index, :count] = response.positions[slot, :, :count]
            self.strained[:, index] = response.cells[slot]
            rows = np.r_[:count, padded.atoms : padded.rows]
            for number, name in enumerate(self.names):
                self.degrees[name][index] = np.asarray(response.tangents[slot, number, rows])
            self.residuals[index] = response.residuals[slot]
            self.eigenvalues[index] = response.eigenvalues[slot]
            self.rattlers[index, :count] = rattlers = response.rattlers[slot, :count]
            self.stiffness[index] = response.stiffness[slot]
            if self.estimate:
                self.floppy[index] = np.asarray(response.free[slot, rows])
                self.steps[index] = np.asarray(response.step[slot, rows])
                self.left[index] = response.left[slot]
                self.ahead[index] = np.asarray(response.ahead[slot][:, rows])
                here = {name: self.degrees[name][index] for name in self.names}
                potential = batch.potentials[index]
                reach = float(potential.interaction_range)
                self.relative_errors[index] = relative_to_largest(
                    potential.parameters, reach, here, response.errors[slot]
                )
            moving = ~np.asarray(system.fixed) & ~rattlers
            translations = dimension * (not np.asarray(system.fixed).any() and moving.any())
            relaxing = self.relaxing_cells[index]
            in_cell = 0 if relaxing is None else dimension**2 - relaxing.strain_count
            modes = self.null_modes
            modes["translations"][index] = translations
            modes["rotations"][index] = response.null_rank[slot] - translations - in_cell
            modes["rattlers"][index] = dimension * rattlers.sum()
            modes["floppy"][index] = response.floppy[slot]

    def observe(self, chunk: "_Chunk") -> None:
        """Observables of a chunk's structures, their derivatives, and both a Newton step ahead."""
        q, forces = self._fill(chunk)
        padded, devices = chunk.padded, chunk.devices
        batch = self.equilibria
        shape = (padded.width, len(self.names), *q.shape[1:])
        tangents, ahead, q_ahead = np.zeros(shape), np.zeros(shape), q.copy()
        for slot, index in enumerate(chunk.indices):
            tangents[slot] = [self.degrees[name][index] for name in self.names]
            if self.estimate:
                ahead[slot] = self.ahead[index]
                q_ahead[slot] += self.steps[index]
        example = batch.potentials[chunk.indices[0]]
        directions = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *[example.direction(name) for name in self.names]
        )
        landscapes, force = devices.put(padded.landscapes()), devices.put(forces)

        def observed(
            landscapes: Landscape, q: np.ndarray, tangents: np.ndarray
        ) -> tuple[dict[str, Any], dict[str, Any]]:
            placed = devices.put(q), force, devices.put(tangents)
            found = observe(
                devices, self.observables, landscapes, padded.shared, directions, *placed
            )
            return jax.device_get(found)

        values, changes = observed(landscapes, q, tangents)
        if self.estimate:
            values_ahead, changes_ahead = observed(landscapes, q_ahead, ahead)
            q_moved = self._move_freely(chunk, q)
            if q_moved is not None:
                values_moved, _ = observed(devices.put(padded.landscapes()), q_moved, tangents)
        for slot, index in enumerate(chunk.indices):
            for observable in self.observables:
                name = observable.name
                value = values[name][slot]
                suspicious = not np.isfinite(value).all() or not np.any(value)
                if suspicious and batch.volumes[index] == 0.0:
                    # What needs a volume says so where there are numbers.
                    observable(batch[index])
                self.values[name][index] = value
                self.changes[name][index] = changes[name][slot]
                if self.estimate:
                    self.values_ahead[name][index] = values_ahead[name][slot]
                    self.changes_ahead[name][index] = changes_ahead[name][slot]
                if self.free[index]:
                    self.values_moved[name][index] = values_moved[name][slot]

    def _move_freely(self, chunk: "_Chunk", q: np.ndarray) -> np.ndarray | None:
        """Move all that moves freely a little: where to; None where nothing does."""
        padded, moved = chunk.padded, q.copy()
        for slot, index in enumerate(chunk.indices):
            count, floppy = self.equilibria.systems[index].atom_count, self.floppy[index]
            rattlers = np.flatnonzero(self.rattlers[index, :count])
            floppy_count = int(self.null_modes["floppy"][index])
            moves, self.free[index] = free_motion(floppy, floppy_count, rattlers)
            moves *= MOVED * float(self.equilibria.potentials[index].interaction_range)
            moved[slot, :count] += moves[:count]
            moved[slot, padded.atoms :] += moves[count:]
            # Rattlers are where the reference has them.
            padded.positions[slot, rattlers] = moved[slot, rattlers]
        return moved if any(self.free[index] for index in chunk.indices) else None

    def warn_of_free(self, errors: dict[str, np.ndarray]) -> None:
        """Warn of observables, with errors of values, that change with rattlers or floppy modes."""
        for observable in self.observables:
            name = observable.name
            changing = [
                index
                for index, free in enumerate(self.free)
                if free and changes_freely(
                    observable, self.values[name][index], self.values_moved[name][index],
                    errors[name][index], self._noise(index),
                )
            ]  # fmt: skip
            if changing:
                also = " in the first" * (len(changing) > 1)
                of = f"structure{'s' * (len(changing) > 1)} {listing(changing)}"
                warn_of_free(f"{name} of {of}", f"{self.free[changing[0]]}{also}")

    def _noise(self, index: int) -> Noise:
        batch = self.equilibria
        potential = batch.potentials[index]
        return noise_of(
            potential, self.relaxed[index], batch.cells[index],
            float(self.eigenvalues[index, 0]), float(self.stiffness[index]),
            batch.systems[index].units, left=float(self.left[index]),
            reach=float(reach_of(self.steps[index], float(potential.interaction_range))),
        )  # fmt: skip

    def _errors(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """Absolute errors of values and derivatives; NaN where not estimated."""
        by_name = {observable.name: observable for observable in self.observables}
        if not self.estimate:
            unknown = {name: np.full(np.shape(self.values[name]), np.nan) for name in by_name}
            return unknown, {name: dict.fromkeys(self.names, off) for name, off in unknown.items()}
        of_values, of_derivatives = [], []
        for index, potential in enumerate(self.equilibria.potentials):
            noise = self._noise(index)
            all_parameters = potential.parameters
            parameters = {name: all_parameters[name] for name in self.names}
            motion = {n: np.abs(self.degrees[n][index]).max(initial=0.0) for n in self.names}

            def at(found: dict[str, list[Any]], index: int = index) -> dict[str, Any]:
                return {name: one[index] for name, one in found.items()}

            def named(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
                return {
                    name: dict(zip(self.names, one, strict=True)) for name, one in found.items()
                }

            here = at(self.values)
            of_values.append(value_errors(noise, by_name, here, at(self.values_ahead)))
            of_derivatives.append(
                derivative_errors(
                    noise, by_name, here, parameters, motion,
                    named(at(self.changes)), named(at(self.changes_ahead)),
                )
            )  # fmt: skip
        return (
            {name: np.stack([one[name] for one in of_values]) for name in by_name},
            {
                name: {p: np.stack([one[name][p] for one in of_derivatives]) for p in self.names}
                for name in by_name
            },
        )

    def result(self) -> BatchSensitivity:
        """What was found, in arrays over all structures."""
        batch = self.equilibria
        tables = {id(potential): potential.parameters for potential in batch.potentials}
        parameters = {
            name: np.array([tables[id(potential)][name] for potential in batch.potentials])
            for name in self.names
        }
        changes = {name: np.stack(found) for name, found in self.changes.items()}
        of_values, of_derivatives = self._errors()
        return BatchSensitivity(
            equilibria=batch,
            observables={observable.name: observable for observable in self.observables},
            observed={name: np.stack(found) for name, found in self.values.items()},
            derivatives={
                name: {parameter: found[:, i] for i, parameter in enumerate(self.names)}
                for name, found in changes.items()
            },
            parameters=parameters,
            positions=dict(zip(self.names, self.moved, strict=True)),
            cells=dict(zip(self.names, self.strained, strict=True)),
            degrees=self.degrees,
            residuals=self.residuals,
            relative_errors=self.relative_errors,
            errors=of_derivatives,
            value_errors=of_values,
            lowest_eigenvalues=self.eigenvalues,
            null_modes=self.null_modes,
        )


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Some structures of one shape group, and the slots for them."""

    devices: Devices
    padded: PaddedBatch
    indices: list[int]


def _parameter_names(equilibria: BatchEquilibrium, wrt: list[str] | None) -> list[str]:
    """Names of the parameters, which all potentials must have."""
    distinct = {id(potential): potential for potential in equilibria.potentials}
    all_names = [potential.expand_parameter_names(wrt) for potential in distinct.values()]
    for names in all_names:
        if names != all_names[0]:
            raise InputError(
                f"the potentials have different parameters, {', '.join(all_names[0])} and "
                f"{', '.join(names)}: name some that all have with wrt, or take each kind by itself"
            )
    return all_names[0]


def _check(
    equilibria: BatchEquilibrium,
    observables: tuple[Observable, ...],
    allow_unconverged: bool,
) -> None:
    if not len(equilibria):
        raise InputError("the batch is empty: give at least one structure")
    for observable in observables:
        if not observable.traceable:
            raise InputError(
                f"observable {observable.name} searches for edges, which is done one structure at "
                "a time: use mdsens.sensitivity(batch[i], ...) for it"
            )
    largest = max(degrees.size for degrees in equilibria.degrees)
    if largest > EIGENVECTOR_LIMIT:
        raise InputError(
            f"a structure has {largest} degrees of freedom, and batches take up to "
            f"{EIGENVECTOR_LIMIT}: use mdsens.sensitivity(batch[i], ...) for it"
        )
    if equilibria.failures:
        raise UnreliableDerivativeError(
            f"relaxations {listing(np.array(sorted(equilibria.failures)))} failed: take "
            "batch[batch.converged]"
        )
    if not (allow_unconverged or equilibria.converged.all()):
        left = np.flatnonzero(~equilibria.converged)
        raise UnreliableDerivativeError(
            f"structures {listing(left)} are unconverged, and derivatives there can have the "
            "wrong sign; relax with more steps, take batch[batch.converged], or pass "
            "allow_unconverged=True"
        )
