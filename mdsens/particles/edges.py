"""Edges: every pair of atoms (and periodic images) within a cutoff, and the geometry of each.

This is the one way that geometry reaches a potential. Edges are found on the host (`EdgeSearch`);
within one jitted segment they are constant, and edge vectors follow the positions and the cell
through them.

Layout: atoms are taken in B blocks of C that fit the processor's cache, and each atom has K slots
for edges; arrays are indexed [B, K, C], so that atoms are contiguous and XLA vectorises over them.
An image of an atom in another cell is a *ghost*: an entry after the N atoms in a list of extended
positions, which follows its owner and the cell. A last entry serves the slots that hold no edge.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from mdsens.arrays import on_device
from mdsens.compilation import UNSHARED_STEPS
from mdsens.modules import Module
from mdsens.resources import available_cores

#: Atoms per block: one slot of them all, with what is computed from it, stays in a core's cache.
BLOCK_SIZE = 4096
#: The same where all slots are taken together: places for edges of a block, and fewest atoms of it
#: (measured: half the time for 220 slots, less than half for 80, nine tenths for 20).
BLOCK_PLACES, SMALLEST_BLOCK = 40_000, 128
#: Atoms from which on cores share the blocks out.
FEWEST_SHARED = 8000


class Edges(Module):
    """What a potential sees of one block of atoms: edge vectors and species, nothing else.

    Attributes:
        vectors: from the atom to its neighbour, in units of length: one array of shape (K, C) for
            each of the D components, since XLA computes with separate arrays twice as fast as
            with one. Slots without an edge hold a vector far longer than any cutoff.
        mask: shape (K, C), whether the slot holds an edge.
        species: shape (C,), species index of the atom.
        neighbor_species: shape (K, C), species index of the neighbour.
    """

    vectors: tuple[Float[Array, "K C"], ...]
    mask: Bool[Array, "K C"]
    species: Int[Array, " C"]
    neighbor_species: Int[Array, "K C"]

    @property
    def distances(self) -> Float[Array, "K C"]:
        """Length of each edge vector."""
        first, *others = (component * component for component in self.vectors)
        return jnp.sqrt(sum(others, start=first))

    def with_vectors(self, vectors: tuple[Float[Array, "K C"], ...]) -> "Edges":
        """The same edges with other vectors."""
        return Edges(vectors, self.mask, self.species, self.neighbor_species)


class EdgeList(Module):
    """Which atoms are joined by edges, in blocks: the neighbour list.

    Attributes:
        neighbors: shape (B, K, C), index of the neighbour among the extended positions.
        reverse: shape (B, K, C), flat index of the same edge seen from its other end; None if that
            was not asked for, as pair potentials do not need it.
        ghost_owners: shape (G,), the atom that each ghost is an image of.
        ghost_images: shape (G, D), lattice vectors between the owner and the ghost.
        reach: cutoff plus skin within which all edges are listed, in units of length.
        atom_count: N.
        slots_used: shape (B,), how many slots of each block hold edges: sums over slots stop there,
            and can then be differentiated in forward mode alone; None: they run over all.
        present: how many of the N atoms there are: the others fill the arrays up, so that one
            program serves structures of several sizes; None: all.
    """

    neighbors: Int[Array, "B K C"]
    reverse: Int[Array, "B K C"] | None
    ghost_owners: Int[Array, " G"]
    ghost_images: Float[Array, "G D"]
    reach: Float[Array, ""]
    atom_count: int = eqx.field(static=True)
    slots_used: Int[Array, " B"] | None = None
    present: Int[Array, ""] | None = None

    @property
    def capacity(self) -> tuple[int, int]:
        """Slots per atom and number of ghosts that the arrays have room for."""
        return self.neighbors.shape[1], self.ghost_owners.shape[0]

    @property
    def mask(self) -> Bool[Array, "B K C"]:
        """Whether each slot holds an edge."""
        return self.neighbors != self.atom_count + self.ghost_owners.shape[0]

    @property
    def edge_count(self) -> int:
        """Number of edges, each counted from both of its ends; on the host."""
        blank = self.atom_count + self.ghost_owners.shape[0]
        return int(np.count_nonzero(np.asarray(self.neighbors) != blank))

    def with_slots_counted(self) -> "EdgeList":
        """The same with `slots_used`; on the host."""
        blank = self.atom_count + self.ghost_owners.shape[0]
        held = (np.asarray(self.neighbors) != blank).any(axis=2)
        used = held.shape[1] - np.argmax(held[:, ::-1], axis=1)
        used = np.where(held.any(axis=1), used, 0).astype(np.int32)
        return dataclasses.replace(self, slots_used=on_device(used))

    def without_slots_counted(self) -> "EdgeList":
        """The same without `slots_used`."""
        return dataclasses.replace(self, slots_used=None)

    def in_blocks(self, of_atoms: Shaped[Array, "... N"]) -> Shaped[Array, "... BC"]:
        """What is told of each atom, by the blocks, and zero where these have no atom."""
        filling = self.neighbors.shape[0] * self.neighbors.shape[2] - self.atom_count
        return jnp.pad(of_atoms, [(0, 0)] * (of_atoms.ndim - 1) + [(0, filling)])

    def of_present(self, of_atoms: Float[Array, "... N"]) -> Float[Array, "... N"]:
        """What is told of each atom, and zero of those that only fill the arrays up."""
        if self.present is None:
            return of_atoms
        return jnp.where(jnp.arange(self.atom_count, dtype=jnp.int32) < self.present, of_atoms, 0.0)

    def shares(self, count: int) -> "list[EdgeShare]":
        """The same blocks in so many lists of one shape, without reverse edges; on the host.

        Arguments:
            count: how many; the last are filled up with blocks that hold no edges.

        Returns:
            The shares, in the order of the blocks.
        """
        blank = self.atom_count + self.ghost_owners.shape[0]
        blocks, _, size = self.neighbors.shape
        each = -(-blocks // count)
        neighbors, missing = np.asarray(self.neighbors), count * each - blocks
        if missing:
            filling = ((0, missing), (0, 0), (0, 0))
            neighbors = np.pad(neighbors, filling, constant_values=blank)
        return [
            EdgeShare(
                # XLA takes a part of an array as it lies, where that begins at a line of the cache.
                jax.device_put(neighbors[start : start + each]),
                None, self.ghost_owners, self.ghost_images, self.reach, self.atom_count,
                first=on_device(np.int32(min(start * size, self.atom_count))),
            )
            for start in range(0, count * each, each)
        ]  # fmt: skip


class EdgeShare(EdgeList):
    """Some blocks of an edge list, which one core of several goes over.

    Attributes:
        first: the atom that the first of these blocks begins at.
    """

    first: Int[Array, ""] = eqx.field(kw_only=True)

    #: All cores are taken by shares.
    compiler_options: ClassVar[Mapping[str, Any]] = UNSHARED_STEPS

    def in_blocks(self, of_atoms: Shaped[Array, "... N"]) -> Shaped[Array, "... BC"]:
        """What is told of each atom, by these blocks, and zero where they have no atom."""
        places = self.neighbors.shape[0] * self.neighbors.shape[2]
        filled = jnp.pad(of_atoms, [(0, 0)] * (of_atoms.ndim - 1) + [(0, places)])
        return jax.lax.dynamic_slice_in_dim(filled, self.first, places, axis=-1)


def block_shape(atom_count: int, slots: int | None = None) -> tuple[int, int]:
    """Number of blocks and atoms per block, (B, C), for N atoms; at least two blocks.

    Arguments:
        atom_count: N.
        slots: K, where all slots of a block are taken together; None: one after the other.

    What one block computes is then always stored before the next step reads it; XLA would
    otherwise compute it anew for every reader (measured: 35 times slower Hessian products). Of
    many atoms each core has as many blocks as any other.
    """
    size = BLOCK_SIZE
    if slots is not None:
        size = min(BLOCK_SIZE, max(SMALLEST_BLOCK, BLOCK_PLACES // max(slots, 1)))
    blocks = max(2, -(-atom_count // size))
    if atom_count >= FEWEST_SHARED:
        # Two at least in a share, too.
        cores = available_cores()
        blocks = blocks if cores == 1 else -(-blocks // (2 * cores)) * 2 * cores
    return blocks, -(-atom_count // blocks)


def no_edges(
    atom_count: int,
    dimension: int,
    capacity: tuple[int, int] = (1, 0),
    with_reverse: bool = True,
    by_slots: bool = True,
) -> EdgeList:
    """An EdgeList without edges, with room for some.

    Arguments:
        atom_count: N.
        dimension: D.
        capacity: slots per atom and ghosts to make room for.
        with_reverse: whether the list says which edges are one another's reverse.
        by_slots: whether slots are taken one after the other.

    Returns:
        The EdgeList.
    """
    slots, ghosts = capacity
    blocks, size = block_shape(atom_count, None if by_slots else slots)
    places = np.arange(blocks * slots * size, dtype=np.int32).reshape(blocks, slots, size)
    return EdgeList(
        neighbors=on_device(np.full(places.shape, atom_count + ghosts, np.int32)),
        reverse=on_device(places) if with_reverse else None,
        ghost_owners=on_device(np.zeros(ghosts, np.int32)),
        ghost_images=on_device(np.zeros((ghosts, dimension))),
        reach=on_device(1.0),
        atom_count=atom_count,
    )


def edge_blocks(
    function: Callable[..., Any],
    positions: Float[Array, "N D"],
    cell: Float[Array, "D D"],
    species: Int[Array, " N"],
    edge_list: EdgeList,
    additive: bool = False,
    values: Float[Array, " N"] | None = None,
    together: int = 1,
) -> Any:
    """Apply a function to the edges of each block of atoms in turn.

    Arguments:
        function: takes the Edges of a block of C atoms, and where there are values, those of the
            atoms, (C,), and of their neighbours, (K, C); returns a pytree of arrays.
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        species: shape (N,), species indices that the potential understands.
        edge_list: which edges there are.
        additive: the function is a sum over slots, and may be given a few of them at a time, of
            more atoms; XLA then fuses it into few passes, and is twice as fast.
        values: shape (N,), a number of each atom; None: there are none.
        together: how many slots a function that is additive is given at a time, where their number
            is a multiple of it.

    Returns:
        The function's results, stacked over a first axis of blocks.
    """
    slots = edge_list.neighbors.shape[1]
    together = 1 if slots % together else together
    recomputed = functools.partial(jax.checkpoint, prevent_cse=False)
    extended, sites = extended_positions(positions, cell, species, edge_list)
    own: tuple[Array, ...] = ()
    if values is not None:
        at_ends = jnp.concatenate([values, values[edge_list.ghost_owners], jnp.zeros(1)])
        own = (edge_list.in_blocks(values).reshape(sites.species.shape),)

    def value_of(neighbors: Array, sites: Sites, *here: Array) -> Any:
        there = [entries_at(at_ends, neighbors) for _ in here]
        return function(edges_between(extended, neighbors, sites), *here, *there)

    # A reverse derivative computes a block, or a slot of one, anew: kept, each number on the way
    # would be an array of all edges, which takes longer to write and to read, and to compile
    # (measured, derivatives of forces: nine tenths to an eighth of the time, a half to a hundredth
    # of the memory).
    @recomputed
    def one_block(block: tuple[Any, ...]) -> Any:
        return value_of(*block)

    def by_slots(block: tuple[Any, ...]) -> Any:
        neighbors, used, *of_atoms = block

        @recomputed
        def of_slots(step: Array, of_atoms: list[Any]) -> Any:
            some = jax.lax.dynamic_slice_in_dim(neighbors, step * together, together)
            return value_of(some, *of_atoms)

        def add_slots(step: Array, total: Any) -> Any:
            return jax.tree.map(jnp.add, total, of_slots(step, of_atoms))

        shapes = jax.eval_shape(lambda: value_of(neighbors[:1], *of_atoms))
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        steps = slots // together if used is None else -(-used // together)
        return jax.lax.fori_loop(0, steps, add_slots, zeros)

    if additive:
        return map_blocks(by_slots, edge_list.neighbors, edge_list.slots_used, sites, *own)
    return map_blocks(one_block, edge_list.neighbors, sites, *own)


def entries_at(values: Shaped[Array, " E"], places: Int[Array, "..."]) -> Shaped[Array, "..."]:
    """The entries of an array at places that it has: none is looked at for being outside.

    Arguments:
        values: shape (E,).
        places: indices from 0 on.
    """
    # Those of a type with a sign would be taken to count from the end where they are negative.
    return values.at[places.astype(jnp.uint32)].get(mode="promise_in_bounds")


class Sites(Module):
    """Positions and species of atoms, or of blocks of atoms in a first axis.

    Attributes:
        positions: shape (..., D, C), in units of length.
        species: shape (..., C), species indices.
    """

    positions: Float[Array, "... D C"]
    species: Int[Array, "... C"]


def extended_positions(
    positions: Float[Array, "N D"],
    cell: Float[Array, "D D"],
    species: Int[Array, " N"],
    edge_list: EdgeList,
) -> tuple[Sites, Sites]:
    """Everything that edges lead to, and the atoms in blocks that they begin at.

    Arguments:
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        species: shape (N,), species indices that the potential understands.
        edge_list: which edges there are.

    Returns:
        The N atoms, the G ghosts and the entry for slots without an edge; the B blocks of C atoms.
    """
    dimension = positions.shape[1]
    blocks, _, size = edge_list.neighbors.shape
    atoms = positions.T
    ghosts = atoms[:, edge_list.ghost_owners] + (edge_list.ghost_images @ cell).T
    # Slots without an edge lead far out, so that no potential meets distance zero.
    far = 1e6 * edge_list.reach + jnp.max(jnp.abs(jax.lax.stop_gradient(positions)))
    extended = jnp.concatenate([atoms, ghosts, jnp.full((dimension, 1), far)], axis=1)
    extended_species = jnp.concatenate(
        [species, species[edge_list.ghost_owners], jnp.zeros(1, species.dtype)]
    )
    sites = edge_list.in_blocks(atoms).reshape(dimension, blocks, size)
    site_species = edge_list.in_blocks(species).reshape(blocks, size)
    return Sites(extended, extended_species), Sites(sites.transpose(1, 0, 2), site_species)


def edges_between(extended: Sites, neighbors: Int[Array, "k C"], sites: Sites) -> Edges:
    """The edges of one block of C atoms.

    Arguments:
        extended: everything that edges lead to.
        neighbors: shape (k, C), index of each edge's end among the extended positions.
        sites: the atoms of the block.

    Returns:
        The Edges.
    """
    dimension, entries = extended.positions.shape
    vectors = tuple(
        entries_at(extended.positions[axis], neighbors) - sites.positions[axis, None]
        for axis in range(dimension)
    )
    neighbor_kinds = entries_at(extended.species, neighbors)
    return Edges(vectors, neighbors != entries - 1, sites.species, neighbor_kinds)


def map_blocks(function: Callable[[tuple[Any, ...]], Any], *arrays: PyTree[Array]) -> Any:
    """Apply a function to each block in turn."""
    return jax.lax.map(function, arrays)
