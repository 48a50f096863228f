"""Edges: every pair of atoms (and periodic images) within a cutoff, and the geometry of each.

This is the one way that geometry reaches a potential. Edges are found on the host; within one
jitted segment they are constant, and edge vectors follow the positions and the cell through them.

Layout: atoms are taken in B blocks of C that fit the processor's cache, and each atom has K slots
for edges; arrays are indexed [B, K, C], so that atoms are contiguous and XLA vectorises over them.
An image of an atom in another cell is a *ghost*: an entry after the N atoms in a list of extended
positions, which follows its owner and the cell. A last entry serves the slots that hold no edge.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import vesin
from jaxtyping import Array, Bool, Float, Int, Integer, PyTree
from scipy.sparse import csr_array

from mdsens.errors import InputError
from mdsens.particles.lattice import completed_cell, expected_edges
from mdsens.particles.precision import require_double_precision
from mdsens.resources import available_cores, available_memory, on_all_cores

#: Atoms per block: one slot of them all, with what is computed from it, stays in a core's cache.
BLOCK_SIZE = 4096
#: Cells that the search for pairs divides a box into at most, and how many must be left of each
#: direction, with some to spare, where it makes them fewer.
SEARCH_CELLS, SAFE_CELLS = 1e5, 4.0
#: Distance of atoms from the origin, in cutoffs or cells, at most.
FARTHEST = 1e12
#: Cutoff, in units of length, from which on a search across the lattice would take long.
LONG_REACH = 50.0
#: Cells of the search for each atom, from which on almost all of them are empty.
SPARSE = 10.0
#: Cutoff, in units of length, below which vesin refuses to search.
SHORT_REACH = 1e-6
#: Memory that an edge takes at least while edges are found, and a number that fits anywhere.
BYTES_PER_EDGE, FEW_EDGES = 24, 1e6


class Edges(eqx.Module):
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


class EdgeList(eqx.Module):
    """Which atoms are joined by edges, in blocks: the neighbour list.

    Attributes:
        neighbors: shape (B, K, C), index of the neighbour among the extended positions.
        reverse: shape (B, K, C), flat index of the same edge seen from its other end; None if that
            was not asked for, as pair potentials do not need it.
        ghost_owners: shape (G,), the atom that each ghost is an image of.
        ghost_images: shape (G, D), lattice vectors between the owner and the ghost.
        reach: cutoff plus skin within which all edges are listed, in units of length.
        atom_count: N.
    """

    neighbors: Int[Array, "B K C"]
    reverse: Int[Array, "B K C"] | None
    ghost_owners: Int[Array, " G"]
    ghost_images: Float[Array, "G D"]
    reach: Float[Array, ""]
    atom_count: int = eqx.field(static=True)

    @property
    def capacity(self) -> tuple[int, int]:
        """Slots per atom and number of ghosts that the arrays have room for."""
        return self.neighbors.shape[1], self.ghost_owners.shape[0]

    @property
    def mask(self) -> Bool[Array, "B K C"]:
        """Whether each slot holds an edge."""
        return self.neighbors != self.atom_count + self.ghost_owners.shape[0]


class PairCutoffs(NamedTuple):
    """Distances beyond which pairs of atoms do not interact, by their species.

    Attributes:
        species: shape (N,), index of each atom's species.
        table: shape (S, S), cutoff of each pair of species, in units of length; symmetric.
    """

    species: Int[np.ndarray, " N"]
    table: Float[np.ndarray, "S S"]

    def of(self, pairs: Integer[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
        """The cutoff of each pair of atoms, in units of length."""
        first, second = self.species[pairs].T
        return self.table[first, second]


def block_shape(atom_count: int) -> tuple[int, int]:
    """Number of blocks and atoms per block, (B, C), for N atoms; at least two blocks.

    What one block computes is then always stored before the next step reads it; XLA would
    otherwise compute it anew for every reader (measured: 35 times slower Hessian products).
    """
    blocks = max(2, -(-atom_count // BLOCK_SIZE))
    return blocks, -(-atom_count // blocks)


def no_edges(atom_count: int, dimension: int, capacity: tuple[int, int] = (1, 0)) -> EdgeList:
    """An EdgeList without edges, with room for some.

    Arguments:
        atom_count: N.
        dimension: D.
        capacity: slots per atom and ghosts to make room for.

    Returns:
        The EdgeList.
    """
    slots, ghosts = capacity
    blocks, size = block_shape(atom_count)
    places = np.arange(blocks * slots * size, dtype=np.int32).reshape(blocks, slots, size)
    return EdgeList(
        neighbors=jnp.full(places.shape, atom_count + ghosts, jnp.int32),
        reverse=jnp.asarray(places),
        ghost_owners=jnp.zeros(ghosts, jnp.int32),
        ghost_images=jnp.zeros((ghosts, dimension)),
        reach=jnp.ones(()),
        atom_count=atom_count,
    )


def find_edges(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: tuple[bool, ...],
    cutoff: float,
    skin: float = 0.0,
    minimum_capacity: tuple[int, int] = (1, 0),
    maximum_capacity: tuple[int, int] | None = None,
    with_reverse: bool = True,
    pair_cutoffs: PairCutoffs | None = None,
) -> EdgeList:
    """Find all edges within ``cutoff + skin``, images included, on the host.

    Arguments:
        positions: shape (N, D), in units of length; atoms may lie outside the cell.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        cutoff: length within which the potential acts; must be positive.
        skin: length by which the list reaches further, so that it serves while atoms move.
        minimum_capacity: slots per atom and ghosts that there must be room for at least, so that
            a refreshed list can have the shape of the old one.
        maximum_capacity: likewise the most that there is room for.
        with_reverse: whether to find which edges are one another's reverse, a tenth of the work.
        pair_cutoffs: cutoffs of pairs of species, none longer than ``cutoff``, where they differ.

    Returns:
        The EdgeList.

    Raises:
        InputError: cutoff not positive, positions not finite, two atoms at one point, or more
            edges than ``maximum_capacity`` or than there is room for.
    """
    require_double_precision()
    found = edge_arrays(
        positions, cell, pbc, cutoff, skin, minimum_capacity, maximum_capacity, with_reverse,
        pair_cutoffs,
    )  # fmt: skip
    return edge_list_of(jax.tree.map(jnp.asarray, found), len(positions))


class EdgeArrays(NamedTuple):
    """The arrays of an EdgeList, in NumPy as the host has found them or in JAX."""

    neighbors: Any
    reverse: Any
    ghost_owners: Any
    ghost_images: Any
    reach: Any


def edge_list_of(arrays: EdgeArrays, atom_count: int) -> EdgeList:
    """The EdgeList of N atoms that has these arrays."""
    return EdgeList(
        arrays.neighbors, arrays.reverse, arrays.ghost_owners, arrays.ghost_images, arrays.reach,
        atom_count,
    )  # fmt: skip


def edge_arrays(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: tuple[bool, ...],
    cutoff: float,
    skin: float = 0.0,
    minimum_capacity: tuple[int, int] = (1, 0),
    maximum_capacity: tuple[int, int] | None = None,
    with_reverse: bool = True,
    pair_cutoffs: PairCutoffs | None = None,
) -> EdgeArrays:
    """What `find_edges` finds, without JAX, as what compiled code calls back must be.

    Arguments:
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        cutoff: length within which the potential acts.
        skin: length by which the list reaches further.
        minimum_capacity: slots per atom and ghosts that there must be room for at least.
        maximum_capacity: likewise the most that there is room for.
        with_reverse: whether to find which edges are one another's reverse.
        pair_cutoffs: cutoffs of pairs of species, where they differ.

    Returns:
        The arrays of the EdgeList.

    Raises:
        InputError: as `find_edges`.
    """
    positions, cell = np.asarray(positions, float), np.asarray(cell, float)
    count = len(positions)
    reach = float(cutoff) + float(skin)
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise InputError(f"cutoff = {cutoff}: give a positive length")
    if not np.isfinite(positions).all():
        rows = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise InputError(f"positions of atoms {rows[:8].tolist()} are not finite: mend them")

    farthest = float(np.abs(positions).max(initial=0.0))
    if farthest > FARTHEST * max(reach, float(np.abs(cell).max(initial=0.0))):
        raise InputError(
            f"atoms are up to {farthest:.1e} from the origin, where distances have no digits left: "
            "move them to where the others are"
        )
    _refuse_too_many(positions, cell, pbc, reach)
    ends, crossing, images = _pairs(positions, cell, pbc, reach, skin, pair_cutoffs)
    # Each pair once as found and once from its other end: edges 2p and 2p + 1 are one another's
    # reverse. Numbers are 32 bits wide throughout, for there are a hundred edges to an atom.
    _check_representable(ends.size)
    origins, targets = ends.ravel(), np.ascontiguousarray(ends[:, ::-1])
    owners, ghost_images = _put_ghosts(targets, crossing, images, count)
    # The transposition of a sparse matrix is a sort by atom, in time linear in the edges.
    pointers = np.arange(ends.size + 1, dtype=np.int32)
    by_edge = csr_array((targets.ravel(), origins, pointers), shape=(ends.size, count))
    by_atom = by_edge.tocsc()
    del ends, origins, targets, pointers, by_edge
    edges, first_edges = by_atom.indices, by_atom.indptr

    edge_counts = np.diff(first_edges)
    widest = int(edge_counts.max(initial=0))
    width, ghosts = _room(widest, len(owners), minimum_capacity, maximum_capacity)
    blocks, size = block_shape(count)
    places = blocks * width * size
    _check_representable(places)
    neighbors = np.full((blocks, width, size), count + ghosts, np.int32)
    reverse = place_of_edge = np.zeros((0, width, size), np.int32)
    if with_reverse:
        reverse = np.arange(places, dtype=np.int32).reshape(blocks, width, size)
        place_of_edge = np.empty_like(edges)
    # Block by block, within the cache: every array is transposed on the way, from [C, K] to [K, C].
    starts = [min(block * size, count) for block in range(blocks + 1)]

    def slots_of(block: int) -> tuple[slice, slice, np.ndarray]:
        """The atoms of a block, their edges, and which of their slots hold one."""
        start, stop = starts[block : block + 2]
        taken = np.arange(width) < edge_counts[start:stop, None]
        return slice(0, stop - start), slice(first_edges[start], first_edges[stop]), taken

    def put_neighbors(block: int) -> None:
        atoms, within, taken = slots_of(block)
        neighbors[block, :, atoms].T[taken] = by_atom.data[within]
        if with_reverse:
            place_of_edge[edges[within]] = reverse[block, :, atoms].T[taken]

    def put_reverse(block: int) -> None:
        atoms, within, taken = slots_of(block)
        reverse[block, :, atoms].T[taken] = place_of_edge[edges[within] ^ 1]

    on_all_cores(put_neighbors, range(blocks))
    if with_reverse:
        on_all_cores(put_reverse, range(blocks))
    del by_atom, edges, place_of_edge
    unused = ghosts - len(owners)
    return EdgeArrays(
        neighbors,
        reverse if with_reverse else None,
        np.pad(owners, (0, unused)),
        np.pad(ghost_images, ((0, unused), (0, 0))),
        np.asarray(reach),
    )


def _pairs(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: tuple[bool, ...],
    reach: float,
    skin: float,
    pair_cutoffs: PairCutoffs | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both atoms of every pair, once; which pairs are crossing, and the cells between their atoms.

    Shapes (P, 2), (crossing,) and (crossing, D), the latter in lattice vectors.
    """
    count, dimension = positions.shape
    spatial = np.zeros((count, 3))
    spatial[:, :dimension] = positions
    box = np.eye(3)
    box[:dimension, :dimension] = completed_cell(cell, pbc)
    periodic = np.array([*pbc, *([False] * (3 - dimension))])
    away = np.floor(spatial @ np.linalg.inv(box)).astype(np.int64) * periodic
    far = bool((np.abs(away) > 1).any())
    if far:
        # Atoms many cells away are brought back: the search would divide the space between them,
        # and takes minutes for four atoms of a wire.
        spatial -= away @ box
    diameter = float(np.linalg.norm(np.ptp(spatial, axis=0)))
    if not periodic.any() and reach > LONG_REACH:
        # No further than there are atoms: a search over any distance would take for ever.
        reach = min(reach, max(2.0 * diameter, 1.0))
    if reach < SHORT_REACH:
        raise InputError(
            f"a range of {reach:.3g} is too short to search for pairs: give all lengths in a "
            "smaller unit"
        )
    wider = _reach_of_search(spatial, box, periodic, reach)
    # Across the lattice the search looks as many boxes of unit length away as the cutoff is long;
    # in a box that no image reaches out of, it looks for images in the next one only, and it does
    # not visit what is empty: minutes for a few atoms far apart.
    across = np.ptp(spatial @ np.linalg.inv(box), axis=0)[~periodic]
    if wider > LONG_REACH or np.prod(1.0 + across / wider) > SPARSE * count:
        box[~periodic] *= 1.01 * (diameter + wider)
        periodic = np.ones(3, bool)
        # Images that it would find by reaching further are further than asked.
        wider = _reach_of_search(spatial, box, periodic, wider)
    search = vesin.NeighborList(cutoff=wider, full_list=False, n_threads=available_cores())
    # Without copies: these arrays live as long as the search.
    pairs, shifts, lengths = search.compute(spatial, box, periodic, "PSd", copy=False)
    if wider > reach or pair_cutoffs is not None:
        allowed = reach if pair_cutoffs is None else pair_cutoffs.of(pairs) + skin
        near = lengths <= allowed
        pairs, shifts, lengths = pairs[near], shifts[near], lengths[near]
    if len(lengths) and lengths.min() == 0.0:
        first, second = pairs[np.argmin(lengths)]
        raise InputError(f"atoms {first} and {second} are at the same point: move or remove one")
    if far:
        shifts = shifts + away[pairs[:, 0]] - away[pairs[:, 1]]
    crossing = np.flatnonzero(np.bitwise_or.reduce([shifts[:, axis] for axis in range(dimension)]))
    return pairs.astype(np.int32), crossing, shifts[crossing, :dimension].astype(np.int64)


def _reach_of_search(
    spatial: Float[np.ndarray, "N 3"],
    box: Float[np.ndarray, "3 3"],
    periodic: Bool[np.ndarray, " 3"],
    reach: float,
) -> float:
    """The distance to search to: further than asked where the search would divide by zero.

    It divides the box into cells, and, if they would be too many, each direction into fewer: into
    none at all, where a direction has few (vesin up to 0.6.2; large flat packings, long chains).
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    along = spatial @ (box / np.linalg.norm(box, axis=1, keepdims=True)).T
    extents = np.where(periodic, heights, np.ptp(along, axis=0) if len(spatial) else 0.0)
    while True:
        cells = np.maximum(np.trunc(extents / reach), 1.0)
        fewer = np.cbrt(SEARCH_CELLS / cells.prod())
        if fewer >= 1.0 or cells.min() * fewer >= SAFE_CELLS:
            return reach
        reach *= 1.05


def _put_ghosts(
    targets: np.ndarray, crossing: np.ndarray, images: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Let edges that leave their cell lead to ghosts; return the ghosts' owners and images."""
    owners = targets[crossing].astype(np.int64)
    bases = 2 * np.abs(images).max(axis=0, initial=0) + 1
    keys = owners.copy()
    for axis, base in enumerate(bases):
        shift = images[:, axis, None] * np.array([1, -1])
        keys = keys * base + (shift + base // 2)
    chosen, ghosts = np.unique(keys, return_inverse=True)
    targets[crossing] = count + ghosts.reshape(keys.shape)
    ghost_images = np.empty((len(chosen), len(bases)))
    for axis in reversed(range(len(bases))):
        chosen, shift = np.divmod(chosen, bases[axis])
        ghost_images[:, axis] = shift - bases[axis] // 2
    return chosen.astype(np.int32), ghost_images


def _refuse_too_many(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], reach: float
) -> None:
    """Raise InputError for edges that nobody could keep, before the search takes minutes."""
    expected = expected_edges(positions, cell, pbc, reach)
    if expected < FEW_EDGES:
        return
    room = min(2.0**31, available_memory() / BYTES_PER_EDGE)
    # The estimate is of atoms that are spread evenly, and some are not.
    if expected > 2.0 * room:
        raise InputError(
            f"a cutoff of {reach:.6g} would make about {expected:.1e} edges, and there is memory "
            f"for {room:.1e}: choose a shorter cutoff or fewer atoms"
        )


def _check_representable(entries: int) -> None:
    if entries >= 2**31:
        raise InputError(
            f"the edge list would have {entries} entries, and {2**31 - 1} are allowed: "
            "choose a shorter cutoff or fewer atoms"
        )


def _room(
    width: int,
    ghosts: int,
    minimum: tuple[int, int],
    maximum: tuple[int, int] | None,
) -> tuple[int, int]:
    """Slots and ghosts to make room for; grows in steps, so that few shapes are compiled."""
    if maximum is not None:
        if width > maximum[0] or ghosts > maximum[1]:
            raise InputError(
                f"an atom has {width} edges and there are {ghosts} periodic images, but the traced "
                f"function has room for {maximum[0]} and {maximum[1]}: "
                f"pass capacity=({2 * width}, {2 * ghosts}) to relax"
            )
        return maximum
    if width > minimum[0]:
        width = width + (width > 8) * (-width % 4)
    if ghosts > minimum[1]:
        ghosts = -(-(ghosts + ghosts // 8) // 64) * 64
    return max(width, minimum[0], 1), max(ghosts, minimum[1])


def edge_blocks(
    function: Callable[[Edges], Any],
    positions: Float[Array, "N D"],
    cell: Float[Array, "D D"],
    species: Int[Array, " N"],
    edge_list: EdgeList,
    additive: bool = False,
) -> Any:
    """Apply a function to the edges of each block of atoms in turn.

    Arguments:
        function: takes the Edges of a block of C atoms, returns a pytree of arrays.
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        species: shape (N,), species indices that the potential understands.
        edge_list: which edges there are.
        additive: the function is a sum over slots, and may be given one slot at a time, of more
            atoms; XLA then fuses it into few passes, and is twice as fast.

    Returns:
        The function's results, stacked over a first axis of blocks.
    """
    slots = edge_list.neighbors.shape[1]
    extended, sites = extended_positions(positions, cell, species, edge_list)
    edges_of = functools.partial(edges_between, extended)

    def one_block(block: tuple[Any, ...]) -> Any:
        return function(edges_of(*block))

    def slot_by_slot(block: tuple[Any, ...]) -> Any:
        neighbors, block_sites = block

        def add_slot(slot: Array, total: Any) -> Any:
            return jax.tree.map(
                jnp.add, total, function(edges_of(neighbors[slot][None], block_sites))
            )

        shapes = jax.eval_shape(lambda: function(edges_of(neighbors[:1], block_sites)))
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return jax.lax.fori_loop(0, slots, add_slot, zeros)

    chosen = slot_by_slot if additive else one_block
    return map_blocks(chosen, edge_list.neighbors, sites)


class Sites(eqx.Module):
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
    filling = blocks * size - positions.shape[0]
    atoms = positions.T
    ghosts = atoms[:, edge_list.ghost_owners] + (edge_list.ghost_images @ cell).T
    # Slots without an edge lead far out, so that no potential meets distance zero.
    far = 1e6 * edge_list.reach + jnp.max(jnp.abs(jax.lax.stop_gradient(positions)))
    extended = jnp.concatenate([atoms, ghosts, jnp.full((dimension, 1), far)], axis=1)
    extended_species = jnp.concatenate(
        [species, species[edge_list.ghost_owners], jnp.zeros(1, species.dtype)]
    )
    sites = jnp.pad(atoms, ((0, 0), (0, filling))).reshape(dimension, blocks, size)
    site_species = jnp.pad(species, (0, filling)).reshape(blocks, size)
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
        extended.positions[axis].at[neighbors].get(mode="promise_in_bounds")
        - sites.positions[axis, None]
        for axis in range(dimension)
    )
    neighbor_kinds = extended.species.at[neighbors].get(mode="promise_in_bounds")
    return Edges(vectors, neighbors != entries - 1, sites.species, neighbor_kinds)


def map_blocks(function: Callable[[tuple[Any, ...]], Any], *arrays: PyTree[Array]) -> Any:
    """Apply a function to each block in turn."""
    return jax.lax.map(function, arrays)
