"""A potential on a distorted structure, and its mechanics in many configurations."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.mechanics.energy import energy_forces_virial
from mdsens.mechanics.pairs import Pairs
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.testing.finite_differences import unit_displacements
from mdsens.units import in_dimensions, unit_name

#: Coordinates that are displaced, at most: the others differ from them in nothing.
MOST_COORDINATES = 48
#: Configurations that are computed at a time.
BATCH = 16
#: How far atoms are displaced at random, as a part of the shortest distance, and how much the cell
#: is strained: a crystal at rest has no forces to compare.
DISTORTION = 0.02
#: Distorted structures among which that with the pairs farthest from all kinks is taken.
TRIALS = 200
#: Largest displacement as a part of the shortest distance, strain, and part of a parameter by which
#: differences are taken; less where a pair is near a kink.
STEP, PARAMETER_STEP = 5e-4, 1e-3
#: Edges reach beyond the range of the potential by this part of it; the longer ones show what the
#: potential does beyond its range.
SKIN, LONG_SKIN = 0.05, 0.3


class Bench:
    """The potential on a distorted structure, and its mechanics in many configurations.

    Everything goes through one compiled function, whatever changes: edges have room for all.
    """

    def __init__(self, potential: Potential, system: System) -> None:
        self.potential, self.units, self.dimension = potential, system.units, system.dimension
        self.reach = float(potential.interaction_range)
        self.capacity = (1, 0)
        self.system, self.nearest, gap = _distorted(potential, system)
        self.capacity = self.edges(self.system, LONG_SKIN).capacity
        # No pair may cross a kink on the way: by displacements, and by what strains a long one.
        self.step = min(STEP * self.nearest, 0.4 * gap)
        self.strain = min(STEP, 0.4 * gap / self.reach)
        self.parameter_step = min(PARAMETER_STEP, 0.2 * gap / self.reach)
        self.positions, self.cell = np.asarray(self.system.positions), np.asarray(self.system.cell)
        self.edge_list = self.edges(self.system)
        energies, forces, virials = self.mechanics(self.positions[None])
        self.energy, self.forces, self.virial = energies[0], forces[0], virials[0]
        # Beside this an energy is zero: that of a crystal at its lattice constant may be small.
        self.energy_scale = max(abs(self.energy), float(np.linalg.norm(self.forces)) * self.nearest)
        if self.energy_scale == 0.0:
            raise InputError(
                f"atoms feel nothing of {type(potential).__name__}: give a denser structure"
            )

    def edges(self, system: System, skin: float = SKIN) -> EdgeList:
        """The edges of a system, in arrays of one shape."""
        search = self.potential.edge_search(system, skin * self.reach)
        places = np.asarray(system.positions), np.asarray(system.cell)
        return search.find(*places, self.capacity)

    def mechanics(
        self,
        positions: np.ndarray,
        cells: np.ndarray | None = None,
        system: System | None = None,
        edge_list: EdgeList | None = None,
    ) -> tuple[Float[Any, "*M"], Float[Any, "*M N D"], Float[Any, "*M D D"]]:
        """Energies, forces and virials of a batch; by default with the edges of the structure."""
        system = system or self.system
        edge_list = self.edge_list if edge_list is None else edge_list
        if cells is None:
            cells = np.broadcast_to(system.cell, (len(positions), *system.cell.shape))
        results = []
        for start in range(0, len(positions), BATCH):
            chosen = np.minimum(np.arange(start, start + BATCH), len(positions) - 1)
            found = _mechanics_of(
                self.potential, system, edge_list,
                jnp.asarray(positions[chosen]), jnp.asarray(cells[chosen]),
            )  # fmt: skip
            count = min(BATCH, len(positions) - start)
            results.append([np.asarray(array)[:count] for array in found])
        energies, forces, virials = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return energies, forces, virials

    def of(
        self, system: System, edge_list: EdgeList | None = None
    ) -> tuple[Float[Any, "*M"], Float[Any, "*M N D"], Float[Any, "*M D D"]]:
        """Energy, forces and virial of another system, or with other edges."""
        edge_list = self.edges(system) if edge_list is None else edge_list
        energies, forces, virials = self.mechanics(
            np.asarray(system.positions)[None], system=system, edge_list=edge_list
        )
        return energies[0], forces[0], virials[0]

    def energies(self, positions: np.ndarray, cells: np.ndarray | None = None) -> Float[Any, "..."]:
        """Energies of a batch."""
        return self.mechanics(positions, cells)[0]

    def forces_of(self, positions: np.ndarray) -> Float[Any, "..."]:
        """Forces of a batch."""
        return self.mechanics(positions)[1]

    @property
    def coordinates(self) -> Float[np.ndarray, "M N D"]:
        """The displacements by which differences are taken: of every coordinate, or of some."""
        units = unit_displacements(self.positions)
        if len(units) <= MOST_COORDINATES:
            return units
        return units[np.random.default_rng(23).permutation(len(units))[:MOST_COORDINATES]]

    def unit(self, dimension: str) -> str:
        """The unit of a physical dimension in this space."""
        return unit_name(in_dimensions(dimension, self.dimension), self.units)


@compiled
def _mechanics_of(
    potential: Potential,
    system: System,
    edge_list: EdgeList,
    positions: Float[Array, "M N D"],
    cells: Float[Array, "M D D"],
) -> tuple[Float[Array, " M"], Float[Array, "M N D"], Float[Array, "M D D"]]:
    def one(
        positions: Float[Array, "N D"], cell: Float[Array, "D D"]
    ) -> tuple[Array, Array, Array]:
        moved = system.with_positions(positions).with_cell(cell)
        return energy_forces_virial(moved, potential, edge_list)

    return jax.vmap(one)(positions, cells)


def _distorted(potential: Potential, system: System) -> tuple[System, float, float]:
    """The structure with atoms and cell a little displaced, and its pairs far from all kinks.

    Returns:
        The System; the shortest distance; how far the nearest pair is from a kink, length.
    """
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    pairs = Pairs(system, potential, LONG_SKIN)
    lengths = pairs.lengths(positions, cell)
    if not (lengths < float(potential.interaction_range)).any():
        raise InputError(
            f"no two atoms are within the range of {type(potential).__name__}, "
            f"{float(potential.interaction_range):.6g}: give a denser structure"
        )
    nearest, generator = float(lengths.min()), np.random.default_rng(21)
    best: tuple[float, np.ndarray, np.ndarray] = (-np.inf, positions, cell)
    for _ in range(TRIALS):
        strain = DISTORTION * generator.uniform(-1.0, 1.0, cell.shape)
        deformation = np.eye(len(cell)) + (strain + strain.T) / 2
        noise = DISTORTION * nearest * generator.normal(size=positions.shape)
        moved = positions @ deformation + noise, cell @ deformation
        gap = float(np.abs(pairs.beyond(*moved, potential)).min(initial=np.inf))
        best = max(best, (gap, *moved), key=lambda trial: trial[0])
    gap, positions, cell = best
    distorted = system.with_cell(jnp.asarray(cell)).with_positions(jnp.asarray(positions))
    return distorted, nearest, gap


def supercell(system: System, repeats: int = 2) -> System:
    """The same crystal in a cell of several times the size in each periodic direction.

    Arguments:
        system: N atoms in D dimensions.
        repeats: how many times.

    Returns:
        The System: copies of all atoms, one after another.
    """
    counts = [range(repeats if periodic else 1) for periodic in system.pbc]
    shifts = np.array(list(itertools.product(*counts)))
    positions = (shifts @ np.asarray(system.cell))[:, None] + np.asarray(system.positions)
    factors = np.array([[len(count)] for count in counts])
    return System(
        positions.reshape(-1, system.dimension), factors * np.asarray(system.cell),
        system.symbols, np.tile(np.asarray(system.species), len(shifts)), system.pbc,
        units=system.units,
    )  # fmt: skip
