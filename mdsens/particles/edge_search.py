"""How edges are found, and until when they hold: decided once, by potential and system."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import csr_array

from mdsens.arrays import array_module, numbered, on_device
from mdsens.errors import InputError
from mdsens.modules import Module
from mdsens.particles import cell_list
from mdsens.particles.edges import EdgeList, block_shape, no_edges
from mdsens.particles.lattice import expected_edges
from mdsens.particles.neighbor_pairs import (
    at_one_point,
    neighbor_pairs,
    require_searchable,
    require_slots,
)
from mdsens.particles.precision import require_double_precision
from mdsens.resources import on_all_cores

#: Systems of so many atoms have room to spare for edges from the start.
FEW_ATOMS = 1000
#: Of so many it is made in steps so coarse that most structures of as many atoms share programs.
FEWEST_ATOMS = 100
#: Room to make for edges: as much as is given, as much as is needed, or more where atoms are few.
Room = Literal["given", "needed", "spare"]


class EdgeArrays(NamedTuple):
    """The arrays of an EdgeList, in NumPy as the host has found them or in JAX."""

    neighbors: Any
    reverse: Any
    ghost_owners: Any
    ghost_images: Any
    reach: Any

    @property
    def capacity(self) -> tuple[int, int]:
        """Slots per atom and number of ghosts that there is room for."""
        return self.neighbors.shape[-2], self.ghost_owners.shape[-1]

    def edge_list(self, atom_count: int) -> EdgeList:
        """The EdgeList of N atoms that has these arrays, in JAX."""
        return EdgeList(
            on_device(self.neighbors),
            None if self.reverse is None else on_device(self.reverse),
            on_device(self.ghost_owners),
            on_device(self.ghost_images),
            on_device(self.reach),
            atom_count,
        )


def filled_up(
    found: EdgeArrays,
    count: int,
    atoms: int,
    capacity: tuple[int, int],
    blocks: tuple[int, int],
) -> EdgeArrays:
    """The edges of atoms in arrays with room for more of both: the other atoms have no edges.

    Arguments:
        found: the edges, in NumPy.
        count: how many atoms they are of; it may be fewer than their arrays have room for.
        atoms: how many there is to be room for.
        capacity: slots per atom and ghosts that there is to be room for.
        blocks: number of blocks and atoms per block of the arrays to be, (B, C).

    Returns:
        The arrays, (B, K, C) and (G,).
    """
    (slots, ghosts), (own_slots, own_ghosts), end = capacity, found.capacity, atoms + capacity[1]
    neighbors = _by_atom(found.neighbors, count)
    neighbors = np.where(
        neighbors < count,
        neighbors,
        np.where(neighbors == count + own_ghosts, end, neighbors + (atoms - count)),
    )
    wide = np.full((slots, blocks[0] * blocks[1]), end, np.int32)
    wide[:own_slots, :count] = neighbors
    reverse = None
    if found.reverse is not None:
        # A reverse edge is told by its atom and slot, whose places in the arrays differ here.
        own, size = found.neighbors.shape[2], blocks[1]
        block, slot, column = np.unravel_index(
            _by_atom(found.reverse, count), found.neighbors.shape
        )
        atom = block * own + column
        there = (atom // size * slots + slot) * size + atom % size
        places = np.arange(wide.size, dtype=np.int32).reshape(blocks[0], slots, size)
        reverse = _by_atom(places, wide.shape[1]).copy()
        reverse[:own_slots, :count] = np.where(neighbors == end, reverse[:own_slots, :count], there)
        reverse = _by_block(reverse, blocks[0])
    unused = ghosts - own_ghosts
    return EdgeArrays(
        _by_block(wide, blocks[0]),
        reverse,
        np.pad(np.asarray(found.ghost_owners), (0, unused)),
        np.pad(np.asarray(found.ghost_images), ((0, unused), (0, 0))),
        found.reach,
    )


def _by_atom(array: Any, count: int) -> np.ndarray:
    """From [B, K, C] to [K, atoms]."""
    array = np.asarray(array)
    return array.transpose(1, 0, 2).reshape(array.shape[1], -1)[:, :count]


def _by_block(array: np.ndarray, blocks: int) -> np.ndarray:
    """From [K, B C] to [B, K, C]."""
    return np.ascontiguousarray(array.reshape(array.shape[0], blocks, -1).transpose(1, 0, 2))


class EdgeSearch(Module):
    """How the edges of a system are found; potentials offer theirs (`Potential.edge_search`).

    Attributes:
        pbc: D values, whether each direction is periodic.
        cutoff: length within which the potential acts; 0: it does not act along edges, and none are
            looked for.
        skin: length by which edges reach further, so that they serve while atoms move.
        pair_cutoffs: shape (S, S), cutoffs of pairs of species, none longer than ``cutoff``; None
            where they do not differ.
        species: shape (N,), index of each atom's species in that table.
        with_reverse: whether to find which edges are one another's reverse, a tenth of the work.
        by_slots: whether what is computed takes one slot after the other, and not all together;
            where it does not, each atom's edges are ordered by their length, so that slots in
            which no atom has one within range can be left out.
    """

    pbc: tuple[bool, ...] = eqx.field(static=True)
    cutoff: float | Float[Array, ""]
    skin: float | Float[Array, ""] = 0.0
    pair_cutoffs: Float[Any, "S S"] | None = None
    species: Int[Any, " N"] | None = None
    with_reverse: bool = eqx.field(static=True, default=True)
    by_slots: bool = eqx.field(static=True, default=True)

    def find(self, positions: Any, cell: Any, capacity: tuple[int, int] = (1, 0)) -> EdgeList:
        """Find all edges within cutoff and skin, images included, on the host.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            capacity: slots per atom and ghosts that there must be room for at least, so that a
                refreshed list can have the shape of the old one.

        Returns:
            The EdgeList.

        Raises:
            InputError: cutoff not positive, positions not finite, two atoms at one point, or more
                edges than there is room for.
        """
        require_double_precision()
        return self.arrays(positions, cell, capacity, "spare").edge_list(len(positions))

    def find_traced(
        self, positions: Float[Array, "N D"], cell: Float[Array, "D D"], capacity: tuple[int, int]
    ) -> EdgeList:
        """The same where JAX traces positions and cell: the host is called back for the edges.

        Arguments:
            positions: shape (N, D), in units of length.
            cell: shape (D, D), lattice vectors as rows.
            capacity: slots per atom and ghosts that there is room for.

        Returns:
            The EdgeList; more edges than there is room for are an error when the code runs.
        """

        def search(search: EdgeSearch, positions: Any, cell: Any) -> EdgeArrays:
            return search.arrays(positions, cell, capacity, "given")

        count, dimension = positions.shape
        blank = no_edges(count, dimension, capacity, self.with_reverse, self.by_slots)
        shapes = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
            EdgeArrays(
                blank.neighbors, blank.reverse, blank.ghost_owners, blank.ghost_images, blank.reach
            ),
        )
        given = jax.tree.map(jnp.asarray, (self, positions, cell))
        found = jax.pure_callback(search, shapes, *given, vmap_method="sequential")
        return found.edge_list(count)

    def arrays(
        self, positions: Any, cell: Any, capacity: tuple[int, int] = (1, 0), room: Room = "needed"
    ) -> EdgeArrays:
        """What `find` finds, without JAX, as what compiled code calls back must be.

        Arguments:
            positions: shape (N, D), in units of length.
            cell: shape (D, D), lattice vectors as rows.
            capacity: slots per atom and ghosts that there must be room for at least.
            room: how much there is.

        Returns:
            The arrays of the EdgeList.

        Raises:
            InputError: as `find`, or more edges than there may be room for.
        """
        positions, cell = np.asarray(positions, float), np.asarray(cell, float)
        cutoff, skin = float(self.cutoff), float(self.skin)
        count, reach = len(positions), cutoff + skin
        if cutoff == 0.0:
            blank = np.zeros((0, positions.shape[1]), np.int64)
            nothing = np.zeros((0, 2), np.int64), np.zeros(0, np.int64), blank
            return self._arranged(nothing, count, capacity, room)
        if not (np.isfinite(cutoff) and cutoff > 0):
            raise InputError(f"cutoff = {cutoff}: give a positive length")
        if count >= cell_list.FEWEST_ATOMS:
            arranged = self._by_cells(positions, cell, capacity, room)
            if arranged is not None:
                return arranged
        reach_of = None
        if self.pair_cutoffs is not None:
            table, species = np.asarray(self.pair_cutoffs), np.asarray(self.species)

            def reach_of(pairs: np.ndarray) -> np.ndarray:
                return table[species[pairs[:, 0]], species[pairs[:, 1]]] + skin

        pairs = neighbor_pairs(positions, cell, self.pbc, reach, reach_of)
        if not self.by_slots:
            pairs = _nearest_first(pairs, positions, cell)
        return self._arranged(pairs, count, capacity, room)

    def _by_cells(
        self, positions: np.ndarray, cell: np.ndarray, capacity: tuple[int, int], room: Room
    ) -> EdgeArrays | None:
        """The arrays of a large system; None where it is of a kind that is left to others."""
        count, reach = len(positions), float(self.cutoff) + float(self.skin)
        require_searchable(positions, cell, self.pbc, reach)
        limits, species = np.full((1, 1), reach), np.zeros(count, np.int32)
        if self.pair_cutoffs is not None:
            limits = np.minimum(np.asarray(self.pair_cutoffs) + float(self.skin), reach)
            species = np.asarray(self.species)
        expected = expected_edges(positions, cell, self.pbc, float(limits.max())) / count
        found = cell_list.neighborhoods(
            positions, cell, self.pbc, limits, species, expected, nearest_first=not self.by_slots
        )
        if found is None:
            return None
        if found.coincident is not None:
            raise at_one_point(*found.coincident)
        owners, images = found.owners[count:], found.images[count:]
        width, ghosts = _room(found.widest, len(owners), capacity, room, count)
        blocks, size = block_shape(count, None if self.by_slots else width)
        check_representable(blocks * width * size)
        arrays = cell_list.in_blocks(
            found, (blocks, width, size), count + ghosts, self.with_reverse
        )
        return None if arrays is None else _edge_arrays(*arrays, owners, images, ghosts, reach)

    def _arranged(
        self, pairs: Any, count: int, capacity: tuple[int, int], room: Room
    ) -> EdgeArrays:
        reach = float(self.cutoff) + float(self.skin)
        return _arranged(pairs, count, reach, capacity, room, self.with_reverse, self.by_slots)


def find_edges(
    positions: Any,
    cell: Any,
    pbc: tuple[bool, ...],
    cutoff: float,
    skin: float = 0.0,
    minimum_capacity: tuple[int, int] = (1, 0),
    with_reverse: bool = True,
) -> EdgeList:
    """Find all edges within ``cutoff + skin``, images included, on the host.

    Arguments:
        positions: shape (N, D), in units of length; atoms may lie outside the cell.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        cutoff: length within which the potential acts; must be positive.
        skin: length by which the list reaches further, so that it serves while atoms move.
        minimum_capacity: slots per atom and ghosts that there must be room for at least.
        with_reverse: whether to find which edges are one another's reverse.

    Returns:
        The EdgeList.

    Raises:
        InputError: as `EdgeSearch.find`.
    """
    if cutoff == 0.0:
        raise InputError("cutoff = 0: give a positive length")
    search = EdgeSearch(tuple(pbc), cutoff, skin, with_reverse=with_reverse)
    return search.find(positions, cell, minimum_capacity)


def approach_bound(
    moved: float | Float[Any, ""],
    deformation: Float[Any, "D D"],
    reach: float | Float[Any, ""],
) -> Float[Any, ""]:
    """An upper bound on how much nearer two images have come, of those that were out of reach.

    Vectors r between images became r A + u_j - u_i, so that none is shorter than it was by more
    than |A - 1| |r| + 2 max |u|. Edges miss no pair while that is less than their skin.

    Arguments:
        moved: the largest displacement |u| of an atom besides the deformation, length.
        deformation: the matrix A that cell and positions were multiplied by, shape (D, D).
        reach: cutoff and skin of the edges, length.

    Returns:
        The bound, length.
    """
    xp = array_module((moved, deformation))
    change = xp.linalg.norm(deformation - np.eye(len(deformation)))
    return 2.0 * moved + change * reach


def _nearest_first(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray], positions: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs, as found by `neighbor_pairs`, in the order of their distances."""
    ends, crossing, images = pairs
    apart = positions[ends[:, 1]] - positions[ends[:, 0]]
    apart[crossing] += images @ cell
    order = np.argsort(np.einsum("pd,pd->p", apart, apart), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return ends[order], place[crossing], images


def _arranged(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    count: int,
    reach: float,
    capacity: tuple[int, int],
    room: Room,
    with_reverse: bool,
    by_slots: bool,
) -> EdgeArrays:
    """Pairs, as found by `neighbor_pairs`, in blocks of slots."""
    ends, crossing, images = pairs
    # Each pair once as found and once from its other end: edges 2p and 2p + 1 are one another's
    # reverse. Numbers are 32 bits wide throughout, for there are a hundred edges to an atom.
    check_representable(ends.size)
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
    require_slots(count, widest)
    width, ghosts = _room(widest, len(owners), capacity, room, count)
    blocks, size = block_shape(count, None if by_slots else width)
    places = blocks * width * size
    check_representable(places)
    neighbors = np.full((blocks, width, size), count + ghosts, np.int32)
    reverse = place_of_edge = np.zeros((0, width, size), np.int32)
    if with_reverse:
        reverse = np.arange(places, dtype=np.int32).reshape(blocks, width, size)
        place_of_edge = np.empty_like(edges)
    # Block by block, within the cache: all are transposed on the way, from [C, K] to [K, C].
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
    return _edge_arrays(
        neighbors, reverse if with_reverse else None, owners, ghost_images, ghosts, reach
    )


def _edge_arrays(
    neighbors: np.ndarray,
    reverse: np.ndarray | None,
    owners: np.ndarray,
    images: np.ndarray,
    ghosts: int,
    reach: float,
) -> EdgeArrays:
    """The arrays with room for so many ghosts, all with their owners and images."""
    unused = ghosts - len(owners)
    return EdgeArrays(
        neighbors,
        reverse,
        np.pad(owners, (0, unused)),
        np.pad(images.astype(float), ((0, unused), (0, 0))),
        np.asarray(reach),
    )


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
    chosen, ghosts = numbered(keys, count * int(np.prod(bases)))
    targets[crossing] = count + ghosts
    ghost_images = np.empty((len(chosen), len(bases)))
    for axis in reversed(range(len(bases))):
        chosen, shift = np.divmod(chosen, bases[axis])
        ghost_images[:, axis] = shift - bases[axis] // 2
    return chosen.astype(np.int32), ghost_images


def check_representable(entries: int) -> None:
    """Raise InputError where an edge list has more entries than its indices can count."""
    if entries >= 2**31:
        raise InputError(
            f"the edge list would have {entries} entries, and {2**31 - 1} are allowed: "
            "choose a shorter cutoff or fewer atoms"
        )


def _room(
    width: int, ghosts: int, capacity: tuple[int, int], room: Room, atom_count: int
) -> tuple[int, int]:
    """Slots and ghosts to make room for; grows in steps, so that few shapes are compiled."""
    if width <= capacity[0] and ghosts <= capacity[1]:
        return max(capacity[0], 1), capacity[1]
    if room == "given":
        raise InputError(
            f"an atom has {width} edges and there are {ghosts} periodic images, but the traced "
            f"function has room for {capacity[0]} and {capacity[1]}: "
            f"pass capacity=({2 * width}, {2 * ghosts}) to relax"
        )
    # A few atoms take a step in less time than it takes to compile one for more edges.
    fewest = room == "spare" and atom_count <= FEWEST_ATOMS
    if width > capacity[0]:
        spare = width // 8 if room == "spare" and atom_count <= FEW_ATOMS else 0
        width = width + spare + (width > 8) * (-(width + spare) % 4)
        if fewest:
            power = 2 ** max((width - 1).bit_length(), 3)
            step = max(power // 4, 8)
            width = -(-width // step) * step
    if ghosts > capacity[1]:
        ghosts = -(-(ghosts + ghosts // 8) // 64) * 64
        if fewest:
            ghosts = 2 ** (ghosts - 1).bit_length()
    return max(width, capacity[0], 1), max(ghosts, capacity[1])
