"""Systems of different sizes in arrays of one shape, side by side in slots, on every device.

Smaller systems are filled up with atoms that have no edges and do not move. The first axis of all
arrays is that of the slots; each device works on slots of its own and waits for no other.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.particles.edge_search import EdgeArrays, EdgeSearch, filled_up
from mdsens.particles.edges import block_shape, no_edges
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Systems share arrays with others that have at least this fraction of their atoms.
SMALLEST_FRACTION = 0.75
#: Name of the axis of the slots, which is spread over the devices.
AXIS = "slots"


def shape_groups(
    systems: Sequence[System], potentials: Sequence[Potential], same_size: bool = False
) -> Iterator[list[int]]:
    """Indices of the systems that can share arrays: alike in all but numbers, of similar size.

    Arguments:
        systems: S systems.
        potentials: the potential of each.
        same_size: whether to take only systems with the same number of atoms, and the same names
            of species where the potential has none.

    Returns:
        Lists of indices, the largest systems first; every system is in one of them.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for index, (system, potential) in enumerate(zip(systems, potentials, strict=True)):
        leaves, structure = jax.tree.flatten(potential)
        key = (system.pbc, system.units, structure, *(np.shape(leaf) for leaf in leaves))
        if same_size:
            key += (system.atom_count, potential.species or system.symbols)
        alike.setdefault(key, []).append(index)
    for indices in alike.values():
        indices.sort(key=lambda index: -systems[index].atom_count)
        while indices:
            smallest = SMALLEST_FRACTION * systems[indices[0]].atom_count
            near = [index for index in indices if systems[index].atom_count >= smallest]
            yield near
            del indices[: len(near)]


class PaddedBatch:
    """Room for landscapes of one shape group side by side, in arrays on the host.

    Arguments:
        width: number of slots.
        atoms: number of atoms that there is room for in each.
        example: a system of this kind.
        potentials: the potentials of the systems that will come; kept once if they are the same.
        relaxing_cell: what of the cell of one of them relaxes, or None.
        own_species: whether to keep the species of the systems, which must then have the same,
            where the potential treats all alike.
    """

    def __init__(
        self,
        width: int,
        atoms: int,
        example: System,
        potentials: Sequence[Potential],
        relaxing_cell: RelaxingCell | None = None,
        own_species: bool = False,
    ):
        self.width, self.atoms = width, atoms
        self.dimension = example.dimension
        self.relaxing_cells = jax.tree.map(
            lambda leaf: np.stack([np.asarray(leaf)] * width), relaxing_cell
        )
        first = potentials[0]
        self.pairwise = first.pairwise
        self.shared = first if all(potential is first for potential in potentials) else None
        self.potentials = [np.stack([np.asarray(leaf)] * width) for leaf in jax.tree.leaves(first)]
        self.potential_structure = jax.tree.structure(first)
        # Otherwise species are numbered as the potential does: systems may order them differently.
        self.own_species = own_species and first.species is None
        symbols = example.symbols if self.own_species else first.species or ("X",)
        template = System(
            np.zeros((1, self.dimension)), np.eye(self.dimension),
            symbols, [0], example.pbc, units=example.units,
        )  # fmt: skip
        # A landscape has no axis of slots: only its structure has the arrays of this batch.
        blank = no_edges(atoms, self.dimension, with_reverse=not self.pairwise)
        self.template = Landscape(
            template, first, blank, relaxing_cell, template.fixed,
            jnp.asarray(np.zeros((0, self.rows, self.dimension))),
        )  # fmt: skip
        self.positions = np.zeros((width, atoms, self.dimension))
        self.cells = np.tile(np.eye(self.dimension), (width, 1, 1))
        self.species = np.zeros((width, atoms), np.int32)
        self.fixed = np.zeros((width, atoms), bool)
        self.rattlers = np.ones((width, atoms), bool)
        self.counts = np.ones(width, np.int64)
        self.edge_slots, self.ghosts = 1, 0
        self._make_room(1, 0)

    @property
    def rows(self) -> int:
        """Number of rows of the degrees of freedom, R."""
        return self.atoms + (0 if self.relaxing_cells is None else self.dimension)

    def put(
        self,
        slot: int,
        system: System,
        potential: Potential,
        relaxing_cell: RelaxingCell | None,
        rattlers: Any = False,
    ) -> None:
        """Put a system into a slot; its edges are put there by `put_edges`."""
        count = system.atom_count
        positions = np.asarray(system.positions)
        self.counts[slot] = count
        self.positions[slot] = positions.mean(axis=0)
        self.positions[slot, :count] = positions
        self.cells[slot] = np.asarray(system.cell)
        self.species[slot] = 0
        species_of_atoms = system.species if self.own_species else potential.species_index(system)
        self.species[slot, :count] = np.asarray(species_of_atoms)
        self.fixed[slot] = False
        self.fixed[slot, :count] = np.asarray(system.fixed)
        self.rattlers[slot] = True
        self.rattlers[slot, :count] = rattlers
        leaves = jax.tree.leaves((potential, relaxing_cell))
        stacks = [*self.potentials, *jax.tree.leaves(self.relaxing_cells)]
        for stacked, leaf in zip(stacks, leaves, strict=True):
            stacked[slot] = np.asarray(leaf)

    def put_edges(self, slot: int, positions: Any, cell: Any, search: EdgeSearch) -> None:
        """Find the edges of the system in a slot at given positions and cell.

        Arguments:
            slot: the slot.
            positions: shape (N, D) or longer; what comes after the slot's N atoms is ignored.
            cell: shape (D, D), lattice vectors as rows.
            search: how the edges of that system are found.
        """
        count = int(self.counts[slot])
        found = search.arrays(np.asarray(positions)[:count], cell)
        edge_slots, ghosts = found.capacity
        if edge_slots > self.edge_slots or ghosts > self.ghosts:
            # A little more than is needed, so that there are few shapes to compile for.
            self._make_room(
                self.edge_slots if edge_slots <= self.edge_slots else edge_slots + edge_slots // 16,
                self.ghosts if ghosts <= self.ghosts else ghosts + ghosts // 16,
            )
        self._copy_edges(slot, found, count)

    def _copy_edges(self, slot: int, found: EdgeArrays, count: int) -> None:
        capacity = self.edge_slots, self.ghosts
        filled = filled_up(found, count, self.atoms, capacity, block_shape(self.atoms))
        self.neighbors[slot] = filled.neighbors
        if self.reverse is not None:
            self.reverse[slot] = filled.reverse
        self.ghost_owners[slot], self.ghost_images[slot] = filled.ghost_owners, filled.ghost_images
        self.reach[slot] = float(filled.reach)

    def _make_room(self, edge_slots: int, ghosts: int) -> None:
        """Arrays for more edges, with those that there are."""
        blocks, size = block_shape(self.atoms)
        before = self._edge_arrays() if hasattr(self, "neighbors") else None
        self.edge_slots, self.ghosts = edge_slots, ghosts
        shape = (self.width, blocks, edge_slots, size)
        self.neighbors = np.full(shape, self.atoms + ghosts, np.int32)
        places = np.arange(blocks * edge_slots * size, dtype=np.int32).reshape(shape[1:])
        self.reverse = None if self.pairwise else np.tile(places, (self.width, 1, 1, 1))
        self.ghost_owners = np.zeros((self.width, ghosts), np.int32)
        self.ghost_images = np.zeros((self.width, ghosts, self.dimension))
        self.reach = np.ones(self.width)
        if before is not None:
            for slot in range(self.width):
                old = jax.tree.map(lambda array, slot=slot: array[slot], before)
                self._copy_edges(slot, old, self.atoms)

    def _edge_arrays(self) -> EdgeArrays:
        return EdgeArrays(
            self.neighbors, self.reverse, self.ghost_owners, self.ghost_images, self.reach
        )

    def landscapes(self) -> Landscape:
        """The landscapes in all slots; None in place of a potential that they share."""
        # Arrays of the host: they go to the devices as a whole.
        potential: Any = None
        if self.shared is None:
            potential = jax.tree.unflatten(self.potential_structure, self.potentials)
        edge_structure = jax.tree.structure(self.template.edge_list)
        edge_arrays = jax.tree.leaves(self._edge_arrays())
        floppy = np.zeros((self.width, 0, self.rows, self.dimension))
        landscapes: Landscape = eqx.tree_at(
            lambda l: (
                l.system.positions, l.system.cell, l.system.species, l.system.fixed,
                l.potential, l.edge_list, l.relaxing_cell, l.rattlers, l.floppy,
            ),
            self.template,
            (
                self.positions, self.cells, self.species, self.fixed,
                potential, jax.tree.unflatten(edge_structure, edge_arrays),
                self.relaxing_cells, self.rattlers, floppy,
            ),
            is_leaf=lambda leaf: leaf is None,
        )  # fmt: skip
        return landscapes


# Devices -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that JAX shows, as one axis that slots are spread over."""

    mesh: Mesh

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.size

    def put(self, tree: Any) -> Any:
        """Arrays with a first axis of slots, each device holding its own."""
        if self.count == 1:
            return jax.tree.map(jnp.asarray, tree)
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def spread(self, function: Callable[..., Any], in_slots: tuple[Any, ...], shared: Any) -> Any:
        """Let each device apply a function to its own slots.

        Arguments:
            function: takes the arrays of its slots and what is shared; returns arrays of its slots.
            in_slots: arrays with a first axis of slots.
            shared: arrays that all slots share.

        Returns:
            What the function returns, for all slots.
        """
        if self.count == 1:
            return function(*in_slots, shared)
        slots = PartitionSpec(AXIS)
        specifications = (*(slots for _ in in_slots), PartitionSpec())
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=specifications, out_specs=slots, check_vma=False
        )
        return mapped(*in_slots, shared)


@functools.cache
def all_devices() -> Devices:
    """All devices that JAX shows."""
    return Devices(Mesh(np.array(jax.devices()), (AXIS,)))


def with_potential(landscape: Landscape, shared: Potential | None) -> Landscape:
    """A landscape with the potential that all slots share; None: it has its own."""
    if shared is None:
        return landscape
    return eqx.tree_at(lambda l: l.potential, landscape, shared, is_leaf=lambda x: x is None)
