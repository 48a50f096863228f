"""Small structures in arrays of few sizes, so that one program serves structures of similar sizes.

To compile a program takes longer than all that it computes with a few hundred atoms. Structures are
therefore filled up with atoms that have no edges and do not move, and what is computed is taken
from the atoms that there are: a crystal and the same with a vacancy share all programs.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float

from mdsens.arrays import on_device
from mdsens.compilation import inside_a_trace
from mdsens.linalg.sparse_plus_low_rank import SparsePlusLowRank, SymmetricMatrix
from mdsens.modules import known_once, with_fields
from mdsens.particles.edge_search import EdgeArrays, filled_up
from mdsens.particles.edges import EdgeList, EdgeShare, block_shape
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced

if TYPE_CHECKING:
    from mdsens.mechanics.enthalpy import Landscape

#: Atoms up to which structures are filled up: beyond, what the others take adds up.
MOST_ATOMS = 2000
#: Sizes between one power of two and the next, and how far apart they are at least.
SIZES, SMALLEST_STEP = 8, 8
#: How far apart numbers of slots are, which random structures of one kind have about as many of.
SLOT_STEP = 8
#: Atoms up to which structures of one task may share a size, whichever they have, and periodic
#: images that there is then room for: a cell of a few atoms has about as many as one of sixty.
FEW_ATOMS, FEW_GHOSTS = 64, 1024

_shared: ContextVar[int] = ContextVar("_shared", default=0)
_not_alone: set[Any] = set()


@dataclasses.dataclass(frozen=True)
class Filling:
    """Room for more atoms than a structure has.

    Attributes:
        count: N, how many it has.
        atoms: M, how many there is room for.
        by_slots: whether its edges are taken one slot after the other.
        ghosts: for how many periodic images there is room at least.
    """

    count: int
    atoms: int
    by_slots: bool
    ghosts: int = 0

    @property
    def _is_full(self) -> bool:
        return self.count == self.atoms

    def rows(self, rows: Float[Any, "*K R D"]) -> Float[Any, "*K S D"]:
        """Rows of N atoms, and perhaps more of a cell, with zeros for M - N atoms between them.

        Where there are as many atoms as room, it is what was given; else an array of NumPy's, as is
        all that is filled up here: programs take it as it is.
        """
        if self._is_full:
            return rows
        given = np.asarray(rows)
        added = np.zeros((*given.shape[:-2], self.atoms - self.count, given.shape[-1]))
        return np.concatenate(
            [given[..., : self.count, :], added, given[..., self.count :, :]], axis=-2
        )

    def taken(self, rows: Float[Any, "*K S D"]) -> Float[Any, "*K R D"]:
        """The rows of N atoms, and of the cell, among those of M."""
        if self._is_full:
            return rows
        found = np.asarray(rows)
        return np.concatenate([found[..., : self.count, :], found[..., self.atoms :, :]], axis=-2)

    def places(self, positions: Float[Any, "R D"]) -> Float[Any, "S D"]:
        """Positions in rows of N atoms, with the others in their midst."""
        filled = self.rows(positions)
        if not self._is_full:
            filled[self.count : self.atoms] = filled[: self.count].mean(axis=0)
        return filled

    def mask(self, of_atoms: Bool[Any, " N"], of_others: bool) -> Bool[Any, " M"]:
        """What is true of some of N atoms, and of all or none of the others."""
        if self._is_full:
            return of_atoms
        added = np.full(self.atoms - self.count, of_others)
        return np.concatenate([np.asarray(of_atoms, bool), added])

    def system(self, system: System) -> System:
        """A system filled up."""
        if self._is_full:
            return system
        species = np.asarray(system.species)
        added = np.zeros(self.atoms - self.count, species.dtype)
        return with_fields(
            system,
            positions=self.places(system.positions),
            species=np.concatenate([species, added]),
            fixed=self.mask(system.fixed, False),
        )

    def edges(self, edge_list: EdgeList) -> EdgeList:
        """Edges in the arrays of M atoms; made once of each list."""
        known = _filled_edges(edge_list)
        if self not in known:
            known[self] = self._edges(edge_list)
        return known[self]

    def _edges(self, edge_list: EdgeList) -> EdgeList:
        slots, ghosts = edge_list.capacity
        slots = -(-slots // SLOT_STEP) * SLOT_STEP
        if ghosts:
            ghosts = filled_size(max(ghosts, self.ghosts, self.atoms))
        blocks = block_shape(self.atoms, None if self.by_slots else slots)
        own = edge_list.neighbors.shape, edge_list.capacity[1]
        if self._is_full and own == ((blocks[0], slots, blocks[1]), ghosts):
            return with_fields(edge_list, present=_number(self.count))
        found = EdgeArrays(
            edge_list.neighbors, edge_list.reverse, edge_list.ghost_owners,
            edge_list.ghost_images, edge_list.reach,
        )  # fmt: skip
        filled = filled_up(found, self.count, self.atoms, (slots, ghosts), blocks)
        return with_fields(filled.edge_list(self.atoms), present=_number(self.count))

    def landscape(self, landscape: "Landscape") -> "Landscape":
        """A landscape filled up with atoms that do not move."""
        return with_fields(
            landscape,
            system=self.system(landscape.system),
            edge_list=self.edges(landscape.edge_list),
            rattlers=self.mask(landscape.rattlers, True),
            floppy=self.rows(landscape.floppy),
        )

    def matrix(self, matrix: SymmetricMatrix) -> SymmetricMatrix:
        """The Hessian of N atoms from that of M, of which all others are held."""
        if isinstance(matrix, SparsePlusLowRank):
            return SparsePlusLowRank(
                self._first_rows(matrix.sparse), self._first_rows(matrix.gradients),
                matrix.weights[: self.count],
            )  # fmt: skip
        assert isinstance(matrix, scipy.sparse.bsr_array)
        return self._first_rows(matrix)

    def _first_rows(self, matrix: scipy.sparse.bsr_array) -> scipy.sparse.bsr_array:
        high, wide = matrix.blocksize
        starts = matrix.indptr[: self.count + 1]
        parts = matrix.data[: starts[-1]], matrix.indices[: starts[-1]], starts
        return scipy.sparse.bsr_array(parts, shape=(self.count * high, self.count * wide))


@known_once
def _filled_edges(edge_list: EdgeList) -> dict[Filling, EdgeList]:
    """Where edges that were filled up are kept."""
    return {}


@functools.lru_cache(maxsize=64)
def _number(count: int) -> Array:
    return on_device(np.asarray(count, np.int32))


def filling_of(system: System, potential: Potential, edge_list: EdgeList) -> Filling | None:
    """How a structure is filled up; None where it is taken as it is.

    Large ones are, and those whose energy is not one along edges or whose atoms are constrained;
    within what JAX traces all are.

    Arguments:
        system: N atoms.
        potential: the potential.
        edge_list: edges within its range.

    Returns:
        The Filling.
    """
    suits = (
        edge_list.atom_count <= MOST_ATOMS
        and edge_list.slots_used is None
        and edge_list.present is None
        and not isinstance(edge_list, EdgeShare)
        and system.constraints is None
        and potential.acts_along_edges
        and not (potential.of_structure or potential.made_by_calls)
        and serves_alone(potential)
    )
    if not suits or is_traced((system, potential, edge_list)) or inside_a_trace():
        return None
    count, by_slots = edge_list.atom_count, potential.pairwise or potential.in_two_passes
    if count <= _shared.get():
        return Filling(count, _shared.get(), by_slots, FEW_GHOSTS)
    return Filling(count, filled_size(count), by_slots)


def serves_alone(potential: Potential) -> bool:
    """Whether a potential may be finite for an atom without edges: no other was noted."""
    return not _not_alone or jax.tree.structure(potential) not in _not_alone


def serves_none_alone(potential: Potential) -> None:
    """Note that a potential is not finite for an atom without edges: nothing is filled up then.

    Arguments:
        potential: the potential, of which the numbers do not matter.
    """
    _not_alone.add(jax.tree.structure(potential))


@contextlib.contextmanager
def of_one_size(counts: Iterable[int]) -> Iterator[None]:
    """Have structures of few atoms share their programs, as a unit cell and one with a vacancy.

    Arguments:
        counts: how many atoms the structures have; those of many are left as they are.
    """
    few = [count for count in counts if count <= FEW_ATOMS]
    token = _shared.set(filled_size(max(few)) if len(few) > 1 else 0)
    try:
        yield
    finally:
        _shared.reset(token)


def filled_size(count: int) -> int:
    """How many there is room for where there are so many: a size of few, at most an eighth more.

    Arguments:
        count: how many there are.
    """
    step = max(2 ** (count - 1).bit_length() // (2 * SIZES), SMALLEST_STEP)
    return -(-count // step) * step
