"""The Hessian as a sparse matrix of D x D blocks, assembled from site energies.

Pair potentials have one block per edge in closed form. So have embedded atoms, whose densities add
a matrix of rank one for each. For any other potential each atom's site energy is differentiated
twice with respect to its own edge vectors (forward over reverse, all atoms of a block side by
side), and the blocks of the pairs of its neighbours are added up.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from mdsens.matrices import SparsePlusLowRank
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    Sites,
    edge_blocks,
    edges_between,
    extended_positions,
)
from mdsens.particles.system import System, is_concrete
from mdsens.potentials.embedded_atom import EmbeddedAtomPotential
from mdsens.potentials.pair import PairPotential, radial_hessian
from mdsens.potentials.potential import Potential
from mdsens.resources import available_cores, on_all_cores

#: A Hessian on the host: its blocks, or blocks and a part of low rank.
HessianMatrix: TypeAlias = scipy.sparse.bsr_array | SparsePlusLowRank


def sparse_hessian(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    held: Bool[np.ndarray, " N"] | None = None,
) -> scipy.sparse.bsr_array:
    """The Hessian d2E/dx2 in D x D blocks, on the host; only pairs that interact are stored.

    It takes 8 D^2 + 4 bytes per stored block. An atom has one block for itself and one for each
    atom that it shares a site energy with: in three dimensions 79 blocks and 6 kB for argon with a
    cutoff of 2.5 sigma, 17 blocks and 1.3 kB for Stillinger-Weber silicon.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        held: shape (N,), atoms that do not move: their rows and columns are those of the identity.

    Returns:
        Shape (N D, N D), in units of energy/length^2; symmetric, rows sorted by column.
    """
    parts = hessian_in_parts(system, potential, edge_list, held)
    return parts.written_out() if isinstance(parts, SparsePlusLowRank) else parts


def hessian_in_parts(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    held: Bool[np.ndarray, " N"] | None = None,
) -> HessianMatrix:
    """The same, with what the densities around embedded atoms add kept as a matrix of low rank.

    Written out it would couple all neighbours of an atom: for copper with a cutoff of 6.5 Angstrom
    563 blocks and 43 kB per atom, in place of 87 blocks and 11 kB.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        held: shape (N,), atoms that do not move.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    free = np.ones(system.atom_count, bool) if held is None else ~np.asarray(held)
    duplicates = _has_duplicates(system, edge_list)
    if isinstance(potential, EmbeddedAtomPotential):
        parts = _from_embedded_atoms(system, potential, edge_list, free)
        return parts.written_out() if duplicates else parts
    if isinstance(potential, PairPotential) and not duplicates:
        return _from_edges(system, potential, edge_list, free)
    return _from_sites(system, potential, edge_list, free)


def sparse_hessian_bytes(
    system: System, potential: Potential, edge_list: EdgeList, counted: bool = True
) -> int:
    """Memory that `sparse_hessian` needs at most, bytes.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        counted: whether edges within the range are counted, where they are no tracers; else there
            are as many as the list has room for, which costs nothing to know.

    Returns:
        The number of bytes.
    """
    edges = edge_list.neighbors.size
    if counted and is_concrete((system, potential, edge_list.neighbors)):
        reach = jnp.asarray(potential.interaction_range)
        free = jnp.ones(system.atom_count, bool)
        geometry = _geometry(system, potential, edge_list, free)
        edges = int(jnp.sum(_degrees(geometry, edge_list.neighbors, reach)))
    block = 8 * system.dimension**2 + 4
    if isinstance(potential, EmbeddedAtomPotential):
        # The gradients of the densities, and their transposition.
        block += 2 * (8 * system.dimension + 4)
    elif not isinstance(potential, PairPotential):
        # Pairs of neighbours of one atom, with their indices, before they are added up.
        edges *= 2 * edge_list.capacity[0]
    return block * (edges + system.atom_count)


def _has_duplicates(system: System, edge_list: EdgeList) -> bool:
    """Whether two edges of an atom may lead to images of the same atom."""
    periodic = np.asarray(system.pbc, bool)
    if not periodic.any():
        return False
    heights = 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(system.cell)), axis=0)
    return bool(heights[periodic].min() <= 2.0 * float(edge_list.reach))


class _Geometry(eqx.Module):
    """Where edges begin and lead to, and the index of the atom that each end belongs to."""

    extended: Sites
    sites: Sites
    owners: Int[Array, " E"]
    free: Bool[Array, " E"]


@eqx.filter_jit
def _geometry(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> _Geometry:
    count = system.atom_count
    extended, sites = extended_positions(
        system.positions, system.cell, potential.species_index(system), edge_list
    )
    nothing = jnp.full(1, count, jnp.int32)
    owners = jnp.concatenate([jnp.arange(count, dtype=jnp.int32), edge_list.ghost_owners, nothing])
    free = jnp.concatenate([free, free[edge_list.ghost_owners], jnp.zeros(1, bool)])
    return _Geometry(extended, sites, owners, free)


# Pair potentials: a block per edge ---------------------------------------------------------------


def _from_edges(
    system: System, potential: PairPotential, edge_list: EdgeList, free: np.ndarray
) -> scipy.sparse.bsr_array:
    geometry = _geometry(system, potential, edge_list, jnp.asarray(free))
    dimension = system.dimension
    rows = _Rows(system, edge_list, (dimension, dimension), _upper_places(dimension))

    def of_block(block: int) -> _Row:
        return _edge_block(potential, geometry, edge_list.neighbors, jnp.asarray(block))

    for blocks in _some_at_a_time(edge_list):
        rows.extend(on_all_cores(of_block, blocks))
    return rows.matrix()


def _some_at_a_time(edge_list: EdgeList) -> Iterator[range]:
    """Blocks of atoms, as many at a time as keep all cores busy and take little memory."""
    count, some = len(edge_list.neighbors), 4 * available_cores()
    for start in range(0, count, some):
        yield range(start, min(start + some, count))


class _Rows:
    """Blocks of a sparse matrix, one row after another, for one block of atoms after another.

    ``expand`` tells which entry of a row is at each place of a block.
    """

    def __init__(
        self, system: System, edge_list: EdgeList, shape: tuple[int, int], expand: list[int]
    ) -> None:
        self.atoms, self.shape, self.expand = system.atom_count, shape, expand
        room = int(jnp.sum(edge_list.mask)) + self.atoms
        # Memory that is never written to is never taken: this is an upper bound.
        self.data = np.empty((room, shape[0] * shape[1]))
        self.columns = np.empty(room, np.int32)
        self.counts: list[np.ndarray] = []
        self.filled, self.done = 0, 0

    def extend(self, found: Sequence["_Row"]) -> None:
        """Add the rows of the next blocks of atoms."""
        jobs = []
        for row in found:
            kept = np.asarray(row.kept)[: self.atoms - self.done]
            counts = kept.sum(axis=1)
            start, self.filled = self.filled, self.filled + int(counts.sum())
            self.done += len(kept)
            self.counts.append(counts)
            jobs.append((row, kept, slice(start, self.filled)))

        def copy(job: tuple) -> None:
            row, kept, places = job
            entries = np.asarray(row.entries)[: len(kept)][kept]
            np.take(entries, self.expand, axis=1, out=self.data[places], mode="clip")
            self.columns[places] = np.asarray(row.columns)[: len(kept)][kept]

        on_all_cores(copy, jobs)

    def matrix(self) -> scipy.sparse.bsr_array:
        """The matrix of all rows."""
        starts = np.zeros(self.atoms + 1, np.int32)
        np.cumsum(np.concatenate(self.counts), out=starts[1:])
        data = self.data[: self.filled].reshape(-1, *self.shape)
        shape = (self.atoms * self.shape[0], self.atoms * self.shape[1])
        return scipy.sparse.bsr_array((data, self.columns[: self.filled], starts), shape=shape)


class _Row(NamedTuple):
    """A row of entries for each of a block of atoms, their columns, and which are to be kept."""

    entries: Float[Array, "C K+1 U"]
    columns: Int[Array, "C K+1"]
    kept: Bool[Array, "C K+1"]


def _upper_places(dimension: int) -> list[int]:
    """For each component of a symmetric block its place among those of the upper triangle."""
    upper = [(i, j) for i in range(dimension) for j in range(i, dimension)]
    return [upper.index((min(i, j), max(i, j))) for i in range(dimension) for j in range(dimension)]


@eqx.filter_jit
def _edge_block(
    potential: PairPotential,
    geometry: _Geometry,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
) -> _Row:
    """Blocks of one block of atoms, that of the atom itself first, their columns, and which count.

    Only the U = D (D + 1) / 2 components of the upper triangle are computed. Slots are taken one
    by one, which XLA fuses well: seven times faster than all at once.
    """
    ends = neighbors[block]
    sites = jax.tree.map(lambda array: array[block], geometry.sites)
    own, moves = _atoms_of_block(geometry, block, ends.shape[1])

    def one_slot(end: Int[Array, " C"]) -> tuple[Float[Array, "U C"], Bool[Array, " C"]]:
        components = _upper(
            potential.edge_hessians(edges_between(geometry.extended, end[None], sites))
        )
        stored = jnp.any(components != 0.0, axis=0) & geometry.free[end] & moves
        return components, stored

    components, stored = jax.lax.map(one_slot, ends)
    diagonal = jnp.where(
        moves, jnp.sum(components, axis=0), _identity(len(geometry.extended.positions))
    )
    return _row_of(diagonal, -components, stored, own, geometry.owners[ends])


def _upper(rows: list[list[Float[Array, "1 C"]]]) -> Float[Array, "U C"]:
    """The components of the upper triangle of one slot's blocks."""
    axes = range(len(rows))
    return jnp.stack([rows[i][j][0] for i in axes for j in axes if i <= j])


def _identity(dimension: int) -> Float[Array, "U 1"]:
    """The components of the upper triangle of the identity."""
    axes = range(dimension)
    return jnp.asarray([[float(i == j)] for i in axes for j in axes if i <= j])


def _row_of(
    own_entries: Float[Array, "U C"],
    entries: Float[Array, "K U C"],
    stored: Bool[Array, "K C"],
    own: Int[Array, " C"],
    ends: Int[Array, "K C"],
) -> _Row:
    """The entries of each atom, its own first, with their columns and which count."""
    everything = jnp.concatenate([own_entries[None], entries]).transpose(2, 0, 1)
    kept = jnp.concatenate([jnp.ones((1, len(own)), bool), stored]).T
    return _Row(everything, jnp.concatenate([own[None], ends]).T, kept)


def _atoms_of_block(
    geometry: _Geometry, block: Int[Array, ""], size: int
) -> tuple[Int[Array, " C"], Bool[Array, " C"]]:
    """Indices of a block's atoms, N for those that only fill it up, and whether each may move."""
    count = geometry.owners[-1]
    own = jnp.minimum(block * size + jnp.arange(size, dtype=jnp.int32), count)
    return own, (own < count) & geometry.free[jnp.minimum(own, geometry.free.size - 1)]


# Embedded atoms: a block per edge, and a gradient of the density ------------------------------


def _from_embedded_atoms(
    system: System, potential: EmbeddedAtomPotential, edge_list: EdgeList, free: np.ndarray
) -> SparsePlusLowRank:
    """With g_i = d rho_i / dx: the sum of phi'' and of F'_i rho_i'' for each site, + F''_i g_i g_i.

    The former are those of a pair potential phi + (F'_i + F'_j) f.
    """
    geometry = _geometry(system, potential, edge_list, jnp.asarray(free))
    slopes, weights = _embedding(system, potential, edge_list)
    extended = jnp.concatenate([slopes, slopes[edge_list.ghost_owners], jnp.zeros(1)])
    dimension = system.dimension
    blocks = _Rows(system, edge_list, (dimension, dimension), _upper_places(dimension))
    gradients = _Rows(system, edge_list, (1, dimension), list(range(dimension)))

    def of_block(block: int) -> tuple[_Row, _Row]:
        return _embedded_block(
            potential, geometry, extended, edge_list.neighbors, jnp.asarray(block)
        )

    for some in _some_at_a_time(edge_list):
        of_blocks, of_gradients = zip(*on_all_cores(of_block, some), strict=True)
        blocks.extend(of_blocks)
        gradients.extend(of_gradients)
    return SparsePlusLowRank(blocks.matrix(), gradients.matrix(), np.asarray(weights))


@eqx.filter_jit
def _embedding(
    system: System, potential: EmbeddedAtomPotential, edge_list: EdgeList
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """F' and F'' of every atom."""
    derivatives = edge_blocks(
        potential.embedding_derivatives,
        system.positions, system.cell, potential.species_index(system), edge_list,
    )  # fmt: skip
    slopes, weights = (array.reshape(-1)[: system.atom_count] for array in derivatives)
    return slopes, weights


@eqx.filter_jit
def _embedded_block(
    potential: EmbeddedAtomPotential,
    geometry: _Geometry,
    slopes: Float[Array, " E"],
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
) -> tuple[_Row, _Row]:
    """Rows of the sparse part, and gradients of the density, of one block of atoms."""
    ends = neighbors[block]
    sites = jax.tree.map(lambda array: array[block], geometry.sites)
    own, moves = _atoms_of_block(geometry, block, ends.shape[1])
    own_slopes = slopes[own]

    def one_slot(end: Int[Array, " C"]) -> tuple[Array, Array, Array, Array]:
        edges = edges_between(geometry.extended, end[None], sites)
        along = potential.radial_derivatives(edges)
        both = own_slopes + slopes[end]
        slope = along.pair_slope + both * along.density_slope
        curvature = along.pair_curvature + both * along.density_curvature
        components = _upper(radial_hessian(edges, slope, curvature))
        density = along.density_slope / edges.distances
        gradient = jnp.concatenate([density * component for component in edges.vectors])
        stored = jnp.any(components != 0.0, axis=0) & geometry.free[end] & moves
        leads = jnp.any(gradient != 0.0, axis=0)
        return components, stored, gradient, leads

    components, stored, gradients, leads = jax.lax.map(one_slot, ends)
    dimension = gradients.shape[1]
    diagonal = jnp.where(moves, jnp.sum(components, axis=0), _identity(dimension))
    # A density changes with what is free to move, be it around an atom that is held.
    own_gradient = jnp.where(moves, -jnp.sum(gradients, axis=0), 0.0)
    columns = geometry.owners[ends]
    return (
        _row_of(diagonal, -components, stored, own, columns),
        _row_of(own_gradient, gradients, leads & geometry.free[ends], own, columns),
    )


# Any potential: a Hessian per site ---------------------------------------------------------------


def _from_sites(
    system: System, potential: Potential, edge_list: EdgeList, free: np.ndarray
) -> scipy.sparse.bsr_array:
    count, dimension = system.positions.shape
    blocks, _, size = edge_list.neighbors.shape
    geometry = _geometry(system, potential, edge_list, jnp.asarray(free))
    reach = potential.interaction_range
    degrees = _degrees(geometry, edge_list.neighbors, jnp.asarray(reach))
    width = max(1, int(jnp.max(degrees)))
    entries, rows, columns = [], [], []
    for block in range(blocks):
        atoms = min(size, count - block * size)
        found = _site_block(
            potential, geometry, edge_list.neighbors, jnp.asarray(block), jnp.asarray(reach), width
        )
        values, members = (np.asarray(array)[:atoms] for array in found)
        first = np.repeat(members[:, :, None], width + 1, axis=2)
        second = np.repeat(members[:, None, :], width + 1, axis=1)
        # An atom that is held shares no block with any other.
        kept = (first < count) & (second < count)
        kept &= np.append(free, False)[first] & np.append(free, False)[second]
        entries.append(values[kept])
        rows.append(first[kept])
        columns.append(second[kept])
    held = np.flatnonzero(~free)
    identity = np.broadcast_to(np.eye(dimension), (len(held), dimension, dimension))
    return _summed(
        np.concatenate([*entries, identity]),
        np.concatenate([*rows, held]),
        np.concatenate([*columns, held]),
        count,
    )


def _summed(
    entries: Float[np.ndarray, "T D D"],
    rows: Int[np.ndarray, " T"],
    columns: Int[np.ndarray, " T"],
    count: int,
) -> scipy.sparse.bsr_array:
    """The matrix with the sum of all entries at each place."""
    dimension = entries.shape[1]
    keys, inverse = np.unique(rows.astype(np.int64) * count + columns, return_inverse=True)
    ones = np.ones(len(inverse))
    addition = scipy.sparse.csr_array(
        scipy.sparse.coo_array((ones, (inverse, np.arange(len(inverse)))))
    )
    data = (addition @ entries.reshape(len(entries), -1)).reshape(-1, dimension, dimension)
    starts = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) * count).astype(np.int32)
    shape = (count * dimension, count * dimension)
    indices = (keys % count).astype(np.int32)
    return scipy.sparse.bsr_array((data, indices, starts), shape=shape)


@eqx.filter_jit
def _degrees(
    geometry: _Geometry, neighbors: Int[Array, "B K C"], reach: Float[Array, ""]
) -> Int[Array, "B C"]:
    """How many edges each atom has within the potential's range."""

    def within(block: tuple) -> Array:
        edges = edges_between(geometry.extended, *block)
        return jnp.sum(edges.mask & (edges.distances < reach), axis=0)

    return jax.lax.map(within, (neighbors, geometry.sites))


@eqx.filter_jit
def _site_block(
    potential: Potential,
    geometry: _Geometry,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    reach: Float[Array, ""],
    width: int,
) -> tuple[Float[Array, "C W W D D"], Int[Array, "C W"]]:
    """Hessians of the site energies of one block of atoms, and the atoms that each is about.

    The W = width + 1 atoms of a site are the atom itself and its neighbours within reach.
    """
    ends = neighbors[block]
    sites = jax.tree.map(lambda array: array[block], geometry.sites)
    ends = _within_reach(edges_between(geometry.extended, ends, sites), ends, reach, width)
    # A slot without an edge leads to the last entry, which is far away.
    ends = jnp.where(ends < 0, geometry.owners.size - 1, ends)
    edges = edges_between(geometry.extended, ends, sites)
    atoms, dimension = ends.shape[1], len(edges.vectors)

    def gradients(vectors: tuple[Array, ...]) -> tuple[Array, ...]:
        return potential.site_energies_and_gradients(edges.with_vectors(vectors))[1]

    def column(slot: Array, axis: Array) -> Float[Array, "D K C"]:
        unit = jnp.zeros((dimension, width, atoms)).at[axis, slot].set(1.0)
        return jnp.stack(jax.jvp(gradients, (edges.vectors,), (tuple(unit),))[1])

    def columns(slot: Array) -> Float[Array, "D D K C"]:
        return jax.vmap(column, (None, 0))(slot, jnp.arange(dimension))

    matrix = jax.lax.map(columns, jnp.arange(width)).transpose(4, 0, 3, 1, 2)
    matrix = jnp.where(edges.mask.T[:, :, None, None, None], matrix, 0.0)
    matrix = jnp.where(edges.mask.T[:, None, :, None, None], matrix, 0.0)
    matrix = (matrix + matrix.transpose(0, 2, 1, 4, 3)) / 2
    # The atom itself moves against all its edges.
    with_row = jnp.concatenate([-jnp.sum(matrix, axis=1, keepdims=True), matrix], axis=1)
    whole = jnp.concatenate([-jnp.sum(with_row, axis=2, keepdims=True), with_row], axis=2)
    own, _ = _atoms_of_block(geometry, block, atoms)
    return whole, jnp.concatenate([own[None], geometry.owners[ends]]).T


def _within_reach(
    edges: Edges, ends: Int[Array, "K C"], reach: Float[Array, ""], width: int
) -> Int[Array, "width C"]:
    """The ends of the edges within reach, moved to the first slots; -1 where there are no more."""
    inside = edges.mask & (edges.distances < reach)
    place = jnp.where(inside, jnp.cumsum(inside, axis=0) - 1, -1)

    def at(slot: Array) -> Int[Array, " C"]:
        here = place == slot
        return jnp.sum(jnp.where(here, ends + 1, 0), axis=0) - 1

    return jax.vmap(at)(jnp.arange(width))
