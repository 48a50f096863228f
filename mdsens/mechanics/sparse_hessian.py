"""The Hessian as a sparse matrix of D x D blocks, assembled from site energies.

What the potential says of itself decides: one that is `pairwise` has one block per edge
(`edge_hessians`). So has one that is `embedded`, whose densities add a matrix of rank one for each.
Of any other, the blocks of the pairs of each atom's neighbours (`site_hessians`) are added up. Of
an energy of the whole structure all blocks are stored, from products, unless it is a sum over
groups of a few atoms (`structure_blocks`), or each product takes long: springs then stand in for it
(`springs`).
"""

import itertools
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.linalg.sparse_plus_low_rank import (
    SymmetricMatrix,
    shared_by_cores,
    to_bsr,
)
from mdsens.mechanics.closed_form_hessian import (
    embedded_atom_hessian,
    matrix_of_embedded_rows,
    matrix_of_pair_rows,
    pair_hessian_matrix,
    traced_embedded_rows,
    traced_pair_rows,
)
from mdsens.mechanics.edge_ends import EdgeEnds, atoms_of_block, edge_ends
from mdsens.mechanics.filling import filling_of
from mdsens.mechanics.hessian import hessian as dense_hessian
from mdsens.mechanics.hessian import hessian_vector_product, site_matrices
from mdsens.mechanics.springs import Products, matrix_of_products, probes
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    edges_between,
)
from mdsens.particles.lattice import heights
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.resources import available_cores, on_all_cores
from mdsens.values import is_traced

#: Slots in a list of edges up to which a program takes longer to compile than to run.
MOST_SLOTS = 100_000
#: Atoms from which on loops are worth compiling, and atoms that one is coupled to at first.
WORTH_LOOPS, COUPLED = 4000, 32
#: Springs of an atom in what stands in for a Hessian that is known by products alone.
SPRINGS = 80
#: Entries of a sparse matrix in D x D blocks, with the row and the column of each.
_Entries: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]

_compiled_dense_hessian = compiled(heavy=True)(dense_hessian)


def sparse_hessian(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    constrained: Bool[np.ndarray, " N"] | None = None,
) -> scipy.sparse.bsr_array:
    """The Hessian d2E/dx2 in D x D blocks, on the host; only pairs that interact are stored.

    It takes 8 D^2 + 4 bytes per stored block. An atom has one block for itself and one for each
    atom that it shares a site energy with: in three dimensions 79 blocks and 6 kB for argon with a
    cutoff of 2.5 sigma, 17 blocks and 1.3 kB for Stillinger-Weber silicon.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        constrained: shape (N,), atoms that do not move: their rows and columns are those of the
            identity.

    Returns:
        Shape (N D, N D), in units of energy/length^2; symmetric, each place stored once.
    """
    return to_bsr(hessian_in_parts(system, potential, edge_list, constrained))


def hessian_in_parts(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    constrained: Bool[np.ndarray, " N"] | None = None,
) -> SymmetricMatrix:
    """The same, with what the densities around embedded atoms add kept as a matrix of low rank.

    Written out it would couple all neighbours of an atom: for copper with a cutoff of 6.5 Angstrom
    563 blocks and 43 kB per atom, in place of 87 blocks and 11 kB.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        constrained: shape (N,), atoms that do not move.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    free = np.ones(system.atom_count, bool) if constrained is None else ~np.asarray(constrained)
    if potential.of_structure and not potential.in_groups:
        return _of_structure(system, potential, edge_list, free)
    if potential.of_structure:
        along = None
        if potential.acts_along_edges:
            along, _ = _along_edges(system, potential, edge_list, free)
        return _with_groups(along, _groups(system, potential), free, system.dimension)
    return _along_edges(system, potential, edge_list, free)[0]


def _along_edges(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[np.ndarray, " N"]
) -> tuple[SymmetricMatrix, Float[np.ndarray, "N D"] | None]:
    """The Hessian, and the gradient where it is found on the way."""
    filling = filling_of(system, potential, edge_list)
    if filling is not None:
        given = filling.system(system), potential, filling.edges(edge_list)
        matrix, gradient = _along_edges(*given, filling.mask(free, False))
        return filling.matrix(matrix), None if gradient is None else filling.taken(gradient)
    duplicates = _has_duplicates(system, edge_list)
    if potential.embedded:
        parts = embedded_atom_hessian(system, potential, edge_list, free)
        return (parts.to_bsr() if duplicates else parts), None
    if potential.pairwise:
        matrix = pair_hessian_matrix(system, potential, edge_list, free)
        return (_each_place_once(matrix) if duplicates else matrix), None
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
    if potential.made_by_calls:
        return 2 * SPRINGS * (8 * system.dimension**2 + 4) * system.atom_count
    if potential.of_structure and not potential.in_groups:
        return 2 * 8 * system.positions.size**2
    in_groups = 0
    if potential.of_structure:
        given = system.positions, system.cell, potential.species_index(system)
        shapes = jax.eval_shape(potential.structure_blocks, *given)
        # With indices, before they are added up.
        in_groups = sum(3 * 8 * blocks.size for blocks, _ in shapes)
        if not potential.acts_along_edges:
            return in_groups + (8 * system.dimension**2 + 4) * system.atom_count
    edges = edge_list.neighbors.size
    if counted and not is_traced((system, potential, edge_list.neighbors)):
        free = on_device(np.ones(system.atom_count, bool))
        _, degrees = _ends_and_degrees(system, potential, edge_list, free)
        edges = int(np.asarray(degrees).sum())
    block = 8 * system.dimension**2 + 4
    if potential.embedded:
        # The gradients of the densities, and their transposition.
        block += 2 * (8 * system.dimension + 4)
    elif not potential.pairwise:
        # Pairs of neighbours of one atom, with their indices, before they are added up.
        edges *= 2 * edge_list.capacity[0]
    return block * (edges + system.atom_count) + in_groups


def _with_groups(
    along: SymmetricMatrix | None, groups: Any, free: Bool[np.ndarray, " N"], dimension: int
) -> scipy.sparse.bsr_array:
    """A Hessian, and what groups of atoms add to it; every atom has a block of its own."""
    count = len(free)
    constrained, atoms = np.flatnonzero(~free), np.arange(count)
    entries = [np.zeros((count, dimension, dimension))]
    rows, columns = [atoms], [atoms]
    if along is None:
        entries[0][constrained] = np.eye(dimension)
    else:
        whole = to_bsr(along)
        entries.append(whole.data)
        rows.append(np.repeat(atoms, np.diff(whole.indptr)))
        columns.append(whole.indices)
    for blocks, members in groups:
        blocks, members = np.asarray(blocks), np.asarray(members)
        size = members.shape[1]
        first = np.repeat(members[:, :, None], size, axis=2)
        second = np.repeat(members[:, None, :], size, axis=1)
        kept = free[first] & free[second]
        entries.append(blocks[kept])
        rows.append(first[kept])
        columns.append(second[kept])
    return _summed(np.concatenate(entries), np.concatenate(rows), np.concatenate(columns), count)


@compiled
def _groups(system: System, potential: Potential) -> list[tuple[Array, Array]]:
    given = system.positions, system.cell, potential.species_index(system)
    return potential.structure_blocks(*given)


def _of_structure(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[np.ndarray, " N"]
) -> scipy.sparse.bsr_array:
    """The same of an energy of the whole structure, whose blocks are all stored."""
    dimension = system.dimension
    matrix = np.array(_compiled_dense_hessian(system, potential, edge_list))
    held = np.repeat(~free, dimension)
    matrix[held], matrix[:, held] = 0.0, 0.0
    matrix[held, held] = 1.0
    return scipy.sparse.bsr_array((matrix + matrix.T) / 2, blocksize=(dimension, dimension))


def host_products(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[np.ndarray, " N"]
) -> Products:
    """Products with the Hessian of the positions that tell what can stand in for it.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        free: shape (N,), atoms that may move.

    Returns:
        The Products, in NumPy.
    """
    found = _compiled_products(system, potential, edge_list, on_device(free))
    return jax.tree.map(np.array, found)


def _products(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> Products:
    vectors = jnp.asarray(probes(system.atom_count, system.dimension))
    vectors = jnp.where(free[None, :, None], vectors, 0.0)
    products = jax.lax.map(
        lambda vector: hessian_vector_product(system, potential, edge_list, vector), vectors
    )
    given = system.positions, system.cell, jnp.asarray(system.pbc), system.species
    return Products(*given, vectors, products)


_compiled_products = compiled(_products)


def _has_duplicates(system: System, edge_list: EdgeList) -> bool:
    """Whether two edges of an atom may lead to images of the same atom."""
    between_planes = heights(np.asarray(system.cell), system.pbc)
    return bool(between_planes.min(initial=np.inf) <= 2.0 * float(edge_list.reach))


def traced_hessian_entries(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> PyTree[Array]:
    """All that the sparse Hessian is made of, inside a function that JAX traces.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        free: shape (N,), atoms that may move.

    Returns:
        Arrays for `matrix_of_entries`.
    """
    if potential.made_by_calls:
        return _products(system, potential, edge_list, free)
    along = groups = None
    if potential.acts_along_edges:
        along = _traced_along_edges(system, potential, edge_list, free)
    if potential.of_structure:
        given = system.positions, system.cell, potential.species_index(system)
        groups = potential.structure_blocks(*given)
    return along, groups


def _traced_along_edges(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> PyTree[Array]:
    if potential.embedded:
        return traced_embedded_rows(system, potential, edge_list, free)
    if potential.pairwise:
        return traced_pair_rows(system, potential, edge_list, free)
    blocks, slots, _ = edge_list.neighbors.shape
    geometry = edge_ends(system, potential, edge_list, free)
    return jax.lax.map(
        lambda block: _site_block(potential, geometry, edge_list.neighbors, block, slots),
        jnp.arange(blocks),
    )


def matrix_of_entries(
    potential: Potential, entries: PyTree[np.ndarray], free: Bool[np.ndarray, " N"], dimension: int
) -> SymmetricMatrix:
    """The Hessian of what `traced_hessian_entries` has found; NumPy and SciPy alone.

    Arguments:
        potential: the potential, of which only the kind matters.
        entries: as NumPy arrays.
        free: shape (N,), atoms that may move.
        dimension: D.

    Returns:
        Shape (N D, N D), in units of energy/length^2.
    """
    if potential.made_by_calls:
        return matrix_of_products(entries, free)
    (along, groups), matrix = entries, None
    if along is not None:
        matrix = _matrix_along_edges(potential, along, free, dimension)
    return matrix if groups is None else _with_groups(matrix, groups, free, dimension)


def _matrix_along_edges(
    potential: Potential, entries: PyTree[np.ndarray], free: Bool[np.ndarray, " N"], dimension: int
) -> SymmetricMatrix:
    count = len(free)
    if potential.embedded:
        return matrix_of_embedded_rows(entries, count, dimension)
    if potential.pairwise:
        return matrix_of_pair_rows(entries, count, dimension)
    return _matrix_of_sites(zip(*entries, strict=True), free, dimension)


def hessian_and_gradient(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[SymmetricMatrix, Float[np.ndarray, "N D"] | None]:
    """The same of atoms that may all move, and the gradient where it is found on the way.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (N D, N D), energy/length^2; dE/dx, shape (N, D), energy/length, or None.
    """
    if not potential.acts_along_edges or potential.of_structure:
        return hessian_in_parts(system, potential, edge_list), None
    return _along_edges(system, potential, edge_list, np.ones(system.atom_count, bool))


def _from_sites(
    system: System, potential: Potential, edge_list: EdgeList, free: np.ndarray
) -> tuple[scipy.sparse.bsr_array, Float[np.ndarray, "N D"] | None]:
    geometry, degrees = _ends_and_degrees(system, potential, edge_list, on_device(free))
    width = max(1, int(np.asarray(degrees).max()))
    if edge_list.neighbors.size <= MOST_SLOTS:
        # Where another neighbour costs less than another program, there is room for some.
        width = min(4 * -(-width // 4), edge_list.capacity[0])

    by_loops = system.atom_count >= WORTH_LOOPS

    def hessians_of(block: int) -> list[np.ndarray]:
        given = potential, geometry, edge_list.neighbors, on_device(block), width
        found = _site_block(*given, with_slopes=by_loops)
        # JAX computes what one thread has called in turn: who asks for it waits.
        return [np.asarray(array) for array in found]

    if by_loops:
        return _added_up(on_all_cores(hessians_of, range(len(edge_list.neighbors))), free)

    def of_block(block: int) -> _Entries:
        return _entries_of_sites(block, hessians_of(block), free)

    return _summed_entries(
        on_all_cores(of_block, range(len(edge_list.neighbors))), free, system.dimension
    ), None


def _added_up(
    found: list[list[np.ndarray]], free: Bool[np.ndarray, " N"]
) -> tuple[scipy.sparse.bsr_array, Float[np.ndarray, "N D"]]:
    """The sums of the Hessians and gradients of sites of all blocks of atoms.

    What is held has the identity, and no gradient.
    """
    from mdsens.mechanics.site_loops import add_sites, in_rows, note_columns

    count, room = len(free), COUPLED
    moves, held = np.append(free, False), np.flatnonzero(~free)
    dimension = found[0][0].shape[-1]
    while True:
        lengths, noted = (~free).astype(np.int64), np.empty((count, room), np.int32)
        noted[held, 0] = held
        if all(note_columns(members, moves, lengths, noted) for _, members, _ in found):
            break
        room *= 2
    starts = np.zeros(count + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    columns = in_rows(noted, starts)
    data = np.zeros((len(columns), dimension, dimension))
    data[starts[held]] = np.eye(dimension)
    gradient = np.zeros((count, dimension))
    cuts = np.linspace(0, count, available_cores() + 1).astype(int).tolist()

    def add(rows: tuple[int, int]) -> None:
        for values, members, slopes in found:
            add_sites(values, slopes, members, moves, starts, columns, data, gradient, *rows)

    on_all_cores(add, list(itertools.pairwise(cuts)))
    shape = (count * dimension, count * dimension)
    return scipy.sparse.bsr_array((data, columns, starts), shape=shape), gradient


def _matrix_of_sites(
    found: Iterable[tuple[Any, Any]], free: Bool[np.ndarray, " N"], dimension: int
) -> scipy.sparse.bsr_array:
    """The sum of the Hessians of site energies, given for one block of atoms after another."""
    entries = [_entries_of_sites(number, block, free) for number, block in enumerate(found)]
    return _summed_entries(entries, free, dimension)


def _entries_of_sites(
    number: int, block: Iterable[Any], free: Bool[np.ndarray, " N"]
) -> "_Entries":
    """What the site energies of a block of atoms add to the Hessian: entries, rows, columns."""
    values, members = map(np.asarray, block)
    count, moves = len(free), np.append(free, False)
    there = max(count - number * len(values), 0)
    values, members = values[:there], members[:there]
    sites = members.shape[1]
    # An atom that is constrained shares no block with any other.
    inside = (members < count) & moves[members]
    which = np.flatnonzero(inside[:, :, None] & inside[:, None, :])
    rows = np.repeat(members[:, :, None], sites, axis=2).reshape(-1)
    columns = np.repeat(members[:, None, :], sites, axis=1).reshape(-1)
    entries = values.reshape(-1, *values.shape[-2:]).take(which, axis=0)
    return entries, rows.take(which), columns.take(which)


def _summed_entries(
    found: "list[_Entries]", free: Bool[np.ndarray, " N"], dimension: int
) -> scipy.sparse.bsr_array:
    """The matrix of what all blocks of atoms add to it, and the identity of those that are held."""
    held = np.flatnonzero(~free).astype(np.int32)
    identity = np.broadcast_to(np.eye(dimension), (len(held), dimension, dimension))
    entries, rows, columns = zip(*found, (identity, held, held), strict=True)
    return _summed(
        np.concatenate(entries), np.concatenate(rows), np.concatenate(columns), len(free)
    )


def _summed(
    entries: Float[np.ndarray, "T D D"],
    rows: Int[np.ndarray, " T"],
    columns: Int[np.ndarray, " T"],
    count: int,
) -> scipy.sparse.bsr_array:
    """The matrix with the sum of all entries at each place."""
    dimension, total = entries.shape[1], len(rows)
    order = _sorted_by(columns, np.arange(total, dtype=np.int32), count)
    order = _sorted_by(rows[order], order, count)
    rows, columns = rows[order], columns[order]
    new = np.ones(total, bool)
    new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    first = np.flatnonzero(new)
    # What is at one place is added up in the order in which it was given.
    starts = np.append(first, total)
    addition = scipy.sparse.csr_array((np.ones(total), order, starts), shape=(len(first), total))
    data = shared_by_cores(addition) @ entries.reshape(total, -1)
    data = data.reshape(-1, dimension, dimension)
    pointers = np.searchsorted(rows[first], np.arange(count + 1)).astype(np.int32)
    shape = (count * dimension, count * dimension)
    return scipy.sparse.bsr_array((data, columns[first].astype(np.int32), pointers), shape=shape)


def _sorted_by(
    keys: Int[np.ndarray, " T"], values: Int[np.ndarray, " T"], count: int
) -> Int[np.ndarray, " T"]:
    """Values in the order of their keys below a count, those of one key as they come.

    The transposition of a sparse matrix is such a sort, in a time linear in their number.
    """
    pointers = np.arange(len(keys) + 1)
    by_key = scipy.sparse.csr_array((values, keys, pointers), shape=(len(keys), count)).tocsc()
    found: np.ndarray = by_key.data
    return found


def _each_place_once(matrix: scipy.sparse.bsr_array) -> scipy.sparse.bsr_array:
    """The same matrix, of which several blocks at one place are added up."""
    count, dimension = len(matrix.indptr) - 1, matrix.data.shape[1]
    rows = np.repeat(np.arange(count), np.diff(matrix.indptr))
    return _summed(matrix.data.reshape(-1, dimension, dimension), rows, matrix.indices, count)


@compiled(seldom=True)
def _ends_and_degrees(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> tuple[EdgeEnds, Int[Array, "B C"]]:
    """The ends of a list's edges, and how many of each atom are within the potential's range."""
    geometry, reach = edge_ends(system, potential, edge_list, free), potential.interaction_range

    def within(block: tuple[Any, ...]) -> Array:
        edges = edges_between(geometry.extended, *block)
        return jnp.sum(edges.mask & (edges.distances < reach), axis=0)

    return geometry, jax.lax.map(within, (edge_list.neighbors, geometry.sites))


@compiled(heavy=True, seldom=True)
def _site_block(
    potential: Potential,
    geometry: EdgeEnds,
    neighbors: Int[Array, "B K C"],
    block: Int[Array, ""],
    width: int,
    with_slopes: bool = False,
) -> tuple[Array, ...]:
    """Hessians of the site energies of one block of atoms, and the atoms that each is about.

    The W = width + 1 atoms of a site are the atom itself and its neighbours within reach. Where
    slopes are wanted, gradients of the site energies too: (C, W, W, D, D), (C, W) and (C, W, D).
    """
    ends = neighbors[block]
    sites = jax.tree.map(lambda array: array[block], geometry.sites)
    near = edges_between(geometry.extended, ends, sites)
    ends = _within_reach(near, ends, potential.interaction_range, width)
    # A slot without an edge leads to the last entry, which is far away.
    ends = jnp.where(ends < 0, geometry.owners.size - 1, ends)
    edges = edges_between(geometry.extended, ends, sites)
    whole = site_matrices(potential, edges)
    own, _ = atoms_of_block(geometry, block, ends.shape[1])
    members = jnp.concatenate([own[None], geometry.owners[ends]]).T
    if not with_slopes:
        return whole, members
    slopes = jnp.stack(potential.site_energies_and_gradients(edges)[1], axis=-1)
    slopes = jnp.concatenate([-jnp.sum(slopes, axis=0, keepdims=True), slopes])
    return whole, members, slopes.transpose(1, 0, 2)


def site_hessians_of_some(
    potential: Potential, geometry: EdgeEnds, ends: Int[np.ndarray, "K C"], width: int
) -> tuple[Float[np.ndarray, "C W W D D"], Int[np.ndarray, "C W"]]:
    """Hessians of the site energies of a few atoms.

    Arguments:
        potential: the potential.
        geometry: where edges lead to, and these C atoms as its only block.
        ends: shape (K, C), index of each edge's end.
        width: edges of an atom within the potential's range at most.

    Returns:
        The Hessians; and the atoms that each is about, of which the first is its own.
    """
    block = on_device(np.zeros((), np.int32))
    found = _site_block(potential, geometry, on_device(ends[None]), block, width)
    values, members = map(np.asarray, found)
    return values, members


def _within_reach(
    edges: Edges, ends: Int[Array, "K C"], reach: float | Float[Array, ""], width: int
) -> Int[Array, "width C"]:
    """The ends of the edges within reach, moved to the first slots; -1 where there are no more."""
    inside = edges.mask & (edges.distances < reach)
    place = jnp.where(inside, jnp.cumsum(inside, axis=0) - 1, -1)

    def at(slot: Array) -> Int[Array, " C"]:
        here = place == slot
        return jnp.sum(jnp.where(here, ends + 1, 0), axis=0) - 1

    return jax.vmap(at)(jnp.arange(width))
