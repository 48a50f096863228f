"""Hessians in closed form, a block for each edge: of pairs, and of embedded atoms."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.linalg.sparse_plus_low_rank import SparsePlusLowRank
from mdsens.mechanics.edge_ends import EdgeEnds, atoms_of_block, edge_ends
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    Sites,
    edge_blocks,
    edges_between,
)
from mdsens.particles.system import System
from mdsens.potentials.pair import radial_hessian
from mdsens.potentials.potential import Potential
from mdsens.resources import available_cores, on_all_cores

#: Places for edges of the atoms that are taken together, and fewest of them: what is computed of
#: them stays in a core's cache until it is copied.
PIECE_PLACES, SMALLEST_PIECE = 80_000, 128
#: Blocks that are copied together.
TAKEN = 4096

# Pair potentials: a block per edge ---------------------------------------------------------------


def pair_hessian_matrix(
    system: System, potential: Potential, edge_list: EdgeList, free: np.ndarray
) -> scipy.sparse.bsr_array:
    """The Hessian of a pair potential: minus phi'' and phi'/r of each edge.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range; of several from an atom to the same other
            each has a block of its own.
        free: shape (N,), atoms that may move; rows and columns of others are the identity's.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    geometry = edge_ends(system, potential, edge_list, on_device(free))
    edges = edge_list.edge_count
    rows = _block_rows(system.atom_count, edges, system.dimension)

    def of_piece(piece: _Piece) -> _Row:
        given = potential, geometry, edge_list.neighbors, *piece.place, piece.size
        return piece.new_rows(_edge_block(*given))

    for pieces in some_at_a_time(edge_list):
        rows.extend(on_all_cores(of_piece, pieces))
    return rows.matrix()


class _Piece(NamedTuple):
    """Some atoms of a block, one after another: where they begin, and how many are known."""

    block: int
    start: int
    size: int
    known: int

    @property
    def place(self) -> tuple[Array, Array]:
        """The block, and where the atoms begin in it."""
        return on_device(np.asarray(self.block, np.int32)), on_device(
            np.asarray(self.start, np.int32)
        )

    def new_rows(self, found: Any) -> Any:
        """Rows of these atoms as NumPy's arrays, without those that an earlier piece has.

        Who asks for them waits: left to itself, JAX computes what one thread has called in turn.
        """
        return jax.tree.map(lambda array: np.asarray(array)[self.known :], found)


def some_at_a_time(edge_list: EdgeList, places: int = PIECE_PLACES) -> Iterator[list[_Piece]]:
    """All atoms in pieces, as many at a time as keep all cores busy.

    Arguments:
        edge_list: whose atoms.
        places: for edges of the atoms of a piece.
    """
    blocks, slots, size = edge_list.neighbors.shape
    # Pieces of one size, so that there is one program; the last of a block reaches back.
    length = min(size, max(SMALLEST_PIECE, places // (slots + 1)))
    starts = range(0, size, length)
    pieces = [
        _Piece(block, min(start, size - length), length, start - min(start, size - length))
        for block in range(blocks)
        for start in starts
    ]
    some = 4 * available_cores()
    for first in range(0, len(pieces), some):
        yield pieces[first : first + some]


class _Rows:
    """Blocks of a sparse matrix, one row after another, for one block of atoms after another.

    ``expand`` tells which entry of a row is at each place of a block.
    """

    def __init__(self, atoms: int, edges: int, shape: tuple[int, int], expand: list[int]) -> None:
        self.atoms, self.shape, self.expand = atoms, shape, expand
        room = edges + atoms
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

        def copy(job: tuple[Any, ...]) -> None:
            row, kept, places = job
            # Row by row, of which a few fit the cache with all their entries: half the time of a
            # mask, and as much memory as these take.
            which = np.flatnonzero(kept)
            entries = np.asarray(row.entries).reshape(-1, row.entries.shape[-1])
            np.take(np.asarray(row.columns), which, out=self.columns[places], mode="clip")
            data = self.data[places]
            for start in range(0, len(which), TAKEN):
                some = slice(start, start + TAKEN)
                taken = entries.take(which[some], axis=0)
                np.take(taken, self.expand, axis=1, out=data[some], mode="clip")

        on_all_cores(copy, jobs)

    def matrix(self) -> scipy.sparse.bsr_array:
        """The matrix of all rows."""
        starts = np.zeros(self.atoms + 1, np.int32)
        np.cumsum(np.concatenate(self.counts), out=starts[1:])
        data = self.data[: self.filled].reshape(-1, *self.shape)
        shape = (self.atoms * self.shape[0], self.atoms * self.shape[1])
        return scipy.sparse.bsr_array((data, self.columns[: self.filled], starts), shape=shape)


def _block_rows(atoms: int, edges: int, dimension: int) -> _Rows:
    """Rows of D x D blocks of which the upper triangle is given."""
    return _Rows(atoms, edges, (dimension, dimension), _upper_places(dimension))


def _gradient_rows(atoms: int, edges: int, dimension: int) -> _Rows:
    """Rows of 1 x D blocks."""
    return _Rows(atoms, edges, (1, dimension), list(range(dimension)))


class _Row(NamedTuple):
    """A row of entries for each of a block of atoms, their columns, and which are to be kept."""

    entries: Float[Array, "C K+1 U"]
    columns: Int[Array, "C K+1"]
    kept: Bool[Array, "C K+1"]


def _upper_places(dimension: int) -> list[int]:
    """For each component of a symmetric block its place among those of the upper triangle."""
    upper = [(i, j) for i in range(dimension) for j in range(i, dimension)]
    return [upper.index((min(i, j), max(i, j))) for i in range(dimension) for j in range(dimension)]


@compiled(seldom=True)
def _edge_block(
    potential: Potential,
    geometry: EdgeEnds,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    start: Int[Array, ""],
    length: int,
) -> _Row:
    """Blocks of some atoms of a block, that of each itself first, their columns, and which count.

    Only the U = D (D + 1) / 2 components of the upper triangle are computed. Slots are taken one
    by one, which XLA fuses well: seven times faster than all at once.
    """
    ends, sites, own, moves = piece_of_block(geometry, neighbors, block, start, length)

    def one_slot(end: Int[Array, " C"]) -> tuple[Float[Array, "U C"], Bool[Array, " C"]]:
        components = upper_triangle(
            potential.edge_hessians(edges_between(geometry.extended, end[None], sites))
        )
        stored = jnp.any(components != 0.0, axis=0) & geometry.free[end] & moves
        return components, stored

    components, stored = jax.lax.map(one_slot, ends)
    diagonal = jnp.where(
        moves, jnp.sum(components, axis=0), _identity(len(geometry.extended.positions))
    )
    return _row_of(diagonal, -components, stored, own, geometry.owners[ends])


def piece_of_block(
    geometry: EdgeEnds,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    start: Int[Array, ""],
    length: int,
) -> tuple[Int[Array, "K c"], Sites, Int[Array, " c"], Bool[Array, " c"]]:
    """Ends, sites, indices, and whether they may move, of some atoms of a block."""

    def part(array: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(array, start, length, axis=-1)

    sites = jax.tree.map(lambda array: part(array[block]), geometry.sites)
    own, moves = atoms_of_block(geometry, block, neighbors.shape[2])
    return part(neighbors[block]), sites, part(own), part(moves)


def upper_triangle(rows: list[list[Float[Array, "1 C"]]]) -> Float[Array, "U C"]:
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


def rows_of_some(
    potential: Potential, geometry: EdgeEnds, ends: Int[np.ndarray, "K C"]
) -> tuple[Float[np.ndarray, "C K+1 D D"], Int[np.ndarray, "C K+1"], Bool[np.ndarray, "C K+1"]]:
    """Rows of the Hessian of a pair potential for a few atoms, all of which may move.

    Arguments:
        potential: the potential.
        geometry: where edges lead to, and these C atoms as its only block.
        ends: shape (K, C), index of each edge's end.

    Returns:
        Blocks, that of each atom itself first; their columns; and which count.
    """
    origin = on_device(np.zeros((), np.int32))
    found = _edge_block(potential, geometry, on_device(ends[None]), origin, origin, ends.shape[1])
    entries, columns, kept = map(np.asarray, found)
    dimension = geometry.extended.positions.shape[0]
    blocks = entries[..., _upper_places(dimension)]
    return blocks.reshape(*columns.shape, dimension, dimension), columns, kept


# Embedded atoms: a block per edge, and a gradient of the density ------------------------------


def embedded_atom_hessian(
    system: System, potential: Potential, edge_list: EdgeList, free: np.ndarray
) -> SparsePlusLowRank:
    """The Hessian of embedded atoms: that of phi'' and F'_i rho_i'', and F''_i g_i g_i^T of each.

    With g_i = d rho_i / dx. The former is that of a pair potential phi + F'_i f_j + F'_j f_i, where
    f_j is what atom j adds to the density at i.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range; of several from an atom to the same other
            each has a block of its own.
        free: shape (N,), atoms that may move; rows and columns of others are the identity's.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    geometry = edge_ends(system, potential, edge_list, on_device(free))
    slopes, weights = _embedding(system, potential, edge_list)
    known = np.asarray(slopes)
    extended = on_device(np.concatenate([known, known[edge_list.ghost_owners], np.zeros(1)]))
    edges = edge_list.edge_count
    blocks = _block_rows(system.atom_count, edges, system.dimension)
    gradients = _gradient_rows(system.atom_count, edges, system.dimension)

    def of_piece(piece: _Piece) -> tuple[_Row, _Row]:
        given = potential, geometry, extended, edge_list.neighbors, *piece.place, piece.size
        found: tuple[_Row, _Row] = piece.new_rows(_embedded_block(*given))
        return found

    for some in some_at_a_time(edge_list):
        of_blocks, of_gradients = zip(*on_all_cores(of_piece, some), strict=True)
        blocks.extend(of_blocks)
        gradients.extend(of_gradients)
    return SparsePlusLowRank(blocks.matrix(), gradients.matrix(), np.asarray(weights))


@compiled(seldom=True)
def _embedding(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """F' and F'' of every atom."""
    derivatives = edge_blocks(
        potential.embedding_derivatives,
        system.positions, system.cell, potential.species_index(system), edge_list,
    )  # fmt: skip
    slopes, weights = (array.reshape(-1)[: system.atom_count] for array in derivatives)
    return slopes, weights


@compiled(seldom=True)
def _embedded_block(
    potential: Potential,
    geometry: EdgeEnds,
    slopes: Float[Array, " E"],
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    start: Int[Array, ""],
    length: int,
) -> tuple[_Row, _Row]:
    """Rows of the sparse part, and gradients of the density, of some atoms of a block."""
    ends, sites, own, moves = piece_of_block(geometry, neighbors, block, start, length)
    own_slopes = slopes[own]

    def one_slot(end: Int[Array, " C"]) -> tuple[Array, Array, Array, Array]:
        edges = edges_between(geometry.extended, end[None], sites)
        rows, gradients = embedded_edges(potential, edges, own_slopes[None], slopes[end][None])
        components, gradient = upper_triangle(rows), jnp.concatenate(gradients)
        stored = jnp.any(components != 0.0, axis=0) & geometry.free[end] & moves
        leads = jnp.any(gradient != 0.0, axis=0)
        return components, stored, gradient, leads

    components, stored, gradients, leads = jax.lax.map(one_slot, ends)
    dimension = gradients.shape[1]
    diagonal = jnp.where(moves, jnp.sum(components, axis=0), _identity(dimension))
    # A density changes with what is free to move, be it around an atom that is constrained.
    own_gradient = jnp.where(moves, -jnp.sum(gradients, axis=0), 0.0)
    columns = geometry.owners[ends]
    return (
        _row_of(diagonal, -components, stored, own, columns),
        _row_of(own_gradient, gradients, leads & geometry.free[ends], own, columns),
    )


def embedded_edges(
    potential: Potential, edges: Edges, here: Float[Array, "#K C"], there: Float[Array, "K C"]
) -> tuple[list[list[Float[Array, "K C"]]], list[Float[Array, "K C"]]]:
    """What each edge of embedded atoms adds to the Hessian at given slopes of the embedding.

    Arguments:
        potential: an embedded potential.
        edges: K slots of C atoms.
        here: F' of the atoms, energy per density.
        there: F' of their neighbours.

    Returns:
        D rows of D components of the block of phi + F'_i f_j + F'_j f_i, energy/length^2; D
        components of the gradient of the density at the atom, density/length.
    """
    along = potential.radial_derivatives(edges)
    slope = along.pair_slope + here * along.density_slope + there * along.reverse_density_slope
    curvature = (
        along.pair_curvature
        + here * along.density_curvature
        + there * along.reverse_density_curvature
    )
    density = along.density_slope / edges.distances
    gradients = [density * component for component in edges.vectors]
    return radial_hessian(edges, slope, curvature), gradients


# Inside a function that JAX traces: all blocks of atoms at once, and a matrix of them later -------


def traced_pair_rows(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> _Row:
    """What `pair_hessian_matrix` puts into its rows, with a first axis of blocks of atoms.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        free: shape (N,), atoms that may move.

    Returns:
        Entries, columns and which count, for `matrix_of_pair_rows`.
    """
    geometry, size = edge_ends(system, potential, edge_list, free), edge_list.neighbors.shape[2]
    origin = jnp.zeros((), jnp.int32)
    return jax.lax.map(
        lambda block: _edge_block(potential, geometry, edge_list.neighbors, block, origin, size),
        jnp.arange(len(edge_list.neighbors)),
    )


def traced_embedded_rows(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> tuple[_Row, _Row, Float[Array, " N"]]:
    """What `embedded_atom_hessian` is made of, with a first axis of blocks of atoms.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        free: shape (N,), atoms that may move.

    Returns:
        Rows of the sparse part and of the gradients, and the weights, for
        `matrix_of_embedded_rows`.
    """
    geometry, size = edge_ends(system, potential, edge_list, free), edge_list.neighbors.shape[2]
    origin = jnp.zeros((), jnp.int32)
    slopes, weights = _embedding(system, potential, edge_list)
    extended = jnp.concatenate([slopes, slopes[edge_list.ghost_owners], jnp.zeros(1)])
    blocks, gradients = jax.lax.map(
        lambda block: _embedded_block(
            potential, geometry, extended, edge_list.neighbors, block, origin, size
        ),
        jnp.arange(len(edge_list.neighbors)),
    )
    return blocks, gradients, weights


def matrix_of_pair_rows(rows: _Row, atoms: int, dimension: int) -> scipy.sparse.bsr_array:
    """The Hessian of the rows that `traced_pair_rows` has found; NumPy alone.

    Arguments:
        rows: with a first axis of blocks of atoms, as NumPy arrays.
        atoms: N.
        dimension: D.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    return _filled(_block_rows(atoms, int(np.sum(rows.kept)), dimension), rows)


def matrix_of_embedded_rows(
    found: tuple[_Row, _Row, np.ndarray], atoms: int, dimension: int
) -> SparsePlusLowRank:
    """The Hessian of what `traced_embedded_rows` has found; NumPy alone.

    Arguments:
        found: as NumPy arrays.
        atoms: N.
        dimension: D.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    blocks, gradients, weights = found
    return SparsePlusLowRank(
        matrix_of_pair_rows(blocks, atoms, dimension),
        _filled(_gradient_rows(atoms, int(np.sum(gradients.kept)), dimension), gradients),
        weights,
    )


def _filled(rows: _Rows, found: _Row) -> scipy.sparse.bsr_array:
    """The matrix of rows that come with a first axis of blocks of atoms."""
    rows.extend([_Row(*block) for block in zip(*found, strict=True)])
    matrix = rows.matrix()
    # Of several edges to images of one atom each has its own block.
    matrix.sum_duplicates()
    return matrix
