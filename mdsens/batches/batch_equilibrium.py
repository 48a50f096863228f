"""Many relaxed structures, by their index and in arrays over all of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mdsens.archive import Archived
from mdsens.errors import RelaxationError
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.mechanics.relaxing_cell import CellMode, RelaxingCell
from mdsens.particles.system import System
from mdsens.pictured import PicturedBatch
from mdsens.potentials.potential import Potential
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.summary import Summarised, Summary
from mdsens.units import unit_name
from mdsens.values import listing


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BatchEquilibrium(Summarised, Archived, PicturedBatch, Sequence[Equilibrium]):
    """Relaxed structures by their index, and what they are in arrays over all S of them.

    ``batch[3]`` is an ordinary Equilibrium; ``batch[2:5]``, ``batch[[0, 7]]`` and
    ``batch[batch.converged]`` are batches again.

    Attributes:
        systems: where the relaxations began.
        potentials: the potential of each.
        degrees: the degrees of freedom of each at the end, shapes (R, D), length.
        cells: relaxed cells, shape (S, D, D), length.
        enthalpies: shape (S,), energy; NaN where a relaxation failed.
        largest_force: largest norm of a force in each, shape (S,), energy/length.
        fmax: those at which to stop, as they were asked for, shape (S,).
        steps: number of steps of each, shape (S,).
        evaluations: number of evaluations of the gradient of each, shape (S,).
        cell_mode: what of the cells relaxed.
        pressure: external pressure, energy/length^D.
        failures: why a relaxation had no result, by index.
    """

    systems: Sequence[System]
    potentials: Sequence[Potential]
    degrees: Sequence[Float[np.ndarray, "_ D"]]
    cells: Float[np.ndarray, "S D D"]
    enthalpies: Float[np.ndarray, " S"]
    largest_force: Float[np.ndarray, " S"]
    fmax: Float[np.ndarray, " S"]
    steps: Int[np.ndarray, " S"]
    evaluations: Int[np.ndarray, " S"]
    cell_mode: CellMode
    pressure: float
    failures: dict[int, str]

    def __len__(self) -> int:
        return len(self.systems)

    @property
    def converged(self) -> Bool[np.ndarray, " S"]:
        """Whether the largest force of each came down to what was asked for."""
        return self.largest_force <= self.fmax

    @property
    def mask(self) -> Bool[np.ndarray, "S N"]:
        """Which rows of ``positions`` hold atoms; N is the largest number of atoms."""
        counts = np.array([system.atom_count for system in self.systems])
        return np.arange(counts.max(initial=0)) < counts[:, None]

    @property
    def volumes(self) -> Float[np.ndarray, " S"]:
        """Volumes of the cells, shape (S,), length^D; 0 where no direction is periodic."""
        periodic = np.array([any(system.pbc) for system in self.systems], bool)
        return np.where(periodic, np.abs(np.linalg.det(self.cells)), 0.0)

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
        relaxing = RelaxingCell.of(system, self.cell_mode, self.pressure)
        if relaxing is None:
            return moved
        return moved @ relaxing.deformation(degrees[system.atom_count :])

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
        search = potential.edge_search(system, skin=0.0)
        edge_list = search.find(np.asarray(moved.positions), self.cells[index])
        rattlers = find_rattlers(
            moved, potential, edge_list, jnp.asarray(self.largest_force[index])
        )
        q = jnp.asarray(self.degrees[index])
        landscape = Landscape.of(
            system, potential, edge_list, self.cell_mode, self.pressure, jnp.asarray(rattlers)
        ).with_rattlers_at(q)
        return Equilibrium(
            landscape, q, system.positions, jnp.asarray(self.largest_force[index]),
            float(self.fmax[index]), None,
        )  # fmt: skip

    def _selected(self, indices: np.ndarray) -> "BatchEquilibrium":
        return BatchEquilibrium(
            [self.systems[i] for i in indices],
            [self.potentials[i] for i in indices],
            [self.degrees[i] for i in indices],
            self.cells[indices],
            self.enthalpies[indices],
            self.largest_force[indices],
            self.fmax[indices],
            self.steps[indices],
            self.evaluations[indices],
            self.cell_mode,
            self.pressure,
            {new: self.failures[i] for new, i in enumerate(indices) if i in self.failures},
        )

    def _summary(self) -> Summary:
        left = np.flatnonzero(~self.converged)
        facts = [
            ("converged", f"{len(self) - len(left)} of {len(self)}"),
            *([("NOT converged", listing(left))] if len(left) else []),
            *([("failed", listing(sorted(self.failures)))] if self.failures else []),
        ]
        if len(self):
            unit = unit_name("energy/length", self.systems[0].units)
            reached = self.largest_force[np.isfinite(self.largest_force)]
            facts.append(("largest force", f"{np.max(reached, initial=0.0):.2e} {unit}"))
            facts.append(("steps", f"{self.steps.max()} at most, {self.steps.sum()} together"))
        return Summary(f"BatchEquilibrium of {len(self)} structures", facts)
