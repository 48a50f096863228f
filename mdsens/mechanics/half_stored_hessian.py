"""The Hessian of a large crystal of pairs, of which one half is stored."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_cache_lines, on_device
from mdsens.compilation import compiled
from mdsens.implicit.arguments import is_differentiable
from mdsens.implicit.linearisation import directional_change
from mdsens.linalg.half_stored import UPPER, HalfStored
from mdsens.mechanics.edge_ends import edge_ends
from mdsens.mechanics.near_edges import BEYOND, ranges_of
from mdsens.particles.edges import EdgeList, Edges
from mdsens.particles.lattice import heights
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.resources import available_cores, on_all_cores

#: Atoms below which products are no burden, and what compiles their loops would be one.
FEWEST_ATOMS = 4000
#: Pairs that are computed together: what belongs to them stays in a core's cache.
PIECE_PAIRS = 32_768


def suits_half_storage(system: System, potential: Potential, edge_list: EdgeList) -> bool:
    """Whether the Hessian has a symmetric block for each pair, once, and is large.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
    """
    suits = (
        system.atom_count >= FEWEST_ATOMS
        and system.dimension == 3
        and potential.pairwise
        # Along the edge the second derivatives are one number, across it another.
        and potential.invariant
        and potential.acts_along_edges
        and not (potential.embedded or potential.of_structure or potential.made_by_calls)
    )
    if not suits:
        return False
    # No two edges of an atom may lead to images of the same other.
    least = heights(np.asarray(system.cell), system.pbc).min(initial=np.inf)
    return bool(least > 2.0 * float(edge_list.reach))


class NearPairs:
    """The pairs of atoms of a crystal that are in range of each other, each once.

    They are found among the edges, which reach further and are seen from both ends: some two fifths
    of these are left.

    Arguments:
        system: N atoms in three dimensions.
        potential: of a kind that `suits_half_storage`.
        edge_list: all edges within the potential's range.

    Attributes:
        starts: shape (N + 1,), where the pairs of each atom with later ones begin.
        columns: shape (M,), the later atom of each pair.
    """

    def __init__(self, system: System, potential: Potential, edge_list: EdgeList) -> None:
        count = system.atom_count
        geometry = edge_ends(system, potential, edge_list, on_device(np.ones(count, bool)))
        self._positions = np.ascontiguousarray(np.asarray(geometry.extended.positions).T)
        self._kinds = np.asarray(geometry.extended.species)
        self._limits = ranges_of(potential, int(self._kinds.max()))
        self._neighbors, self._owners = np.asarray(edge_list.neighbors), np.asarray(geometry.owners)
        self._find(count)

    def _find(self, count: int) -> None:
        from mdsens.linalg.half_stored_loops import find_pairs

        limits = np.ascontiguousarray(((1.0 + BEYOND) * self._limits) ** 2)
        given = self._neighbors, self._owners, self._positions, self._kinds, limits
        counts = np.zeros(count, np.int64)

        def find(part: tuple[int, int]) -> np.ndarray:
            # Memory that is never written to is never taken.
            room = (part[1] - part[0]) * self._neighbors.shape[1]
            ends = np.empty(room + 1, np.int32)
            return ends[: find_pairs(*given, *part, counts, ends)]

        cuts = np.linspace(0, count, available_cores() + 1).astype(int).tolist()
        self._ends = np.concatenate(on_all_cores(find, list(itertools.pairwise(cuts))))
        self.starts = np.zeros(count + 1, np.int64)
        np.cumsum(counts, out=self.starts[1:])
        self.columns: Int[np.ndarray, " M"] = self._owners[self._ends]

    def moved(self, moves: Float[np.ndarray, "N 3"]) -> "NearPairs":
        """Those of the same atoms nearby, found anew where another pair may have come in range.

        Arguments:
            moves: how far each atom has moved, length.

        Returns:
            The NearPairs.
        """
        found, count = copy.copy(self), len(moves)
        # The last end, where no edge leads to, moves with nothing.
        followed = np.concatenate([moves, np.zeros((1, 3))])[self._owners]
        found._positions = self._positions + followed
        farthest = float(np.linalg.norm(moves, axis=1).max(initial=0.0))
        if not 2.0 * farthest <= BEYOND * self._limits.min():
            found._find(count)
        return found

    def parts(self) -> list[list[tuple[int, int]]]:
        """Atoms from one to before another, as many pairs at a time as are computed together.

        A list of these for each core, always the same one, so that sums of what each adds up are.
        """
        starts, pieces, first = self.starts, list[tuple[int, int]](), 0
        while first < len(starts) - 1:
            last = int(np.searchsorted(starts, starts[first] + PIECE_PAIRS, side="right")) - 1
            pieces.append((first, max(last, first + 1)))
            first = pieces[-1][1]
        cores = available_cores()
        return [pieces[core::cores] for core in range(min(cores, len(pieces)))]

    def room(self) -> tuple[Float[np.ndarray, "3 P"], Int[np.ndarray, "2 P"]]:
        """What `take` writes to, vectors of pairs that there may not be."""
        size = max(PIECE_PAIRS, int(np.diff(self.starts).max()))
        vectors = on_cache_lines((3, size), np.float64)
        species = on_cache_lines((2, size), np.int32)
        vectors[:], species[:] = 1.0, 0
        return vectors, species

    def take(
        self,
        atoms: tuple[int, int],
        vectors: Float[np.ndarray, "3 P"],
        species: Int[np.ndarray, "2 P"],
    ) -> None:
        """Write the vectors of the pairs of some atoms, length, and the species of both ends."""
        from mdsens.linalg.half_stored_loops import take_vectors

        given = self._ends, self.starts, self._positions, self._kinds
        take_vectors(*given, *atoms, vectors, species, len(self._limits) > 1)


def half_stored_hessian(
    potential: Potential, pairs: NearPairs
) -> tuple[HalfStored, Float[np.ndarray, "N 3"]]:
    """The Hessian of a pair potential, of atoms that all may move, and the gradient on the way.

    Arguments:
        potential: of a kind that `suits_half_storage`.
        pairs: those in its range.

    Returns:
        Shape (3 N, 3 N), energy/length^2; dE/dx, shape (N, 3), energy/length.
    """
    from mdsens.linalg.half_stored_loops import add_along, fill

    blocks = np.empty((len(pairs.columns), UPPER))

    def put(part: list[tuple[int, int]]) -> np.ndarray:
        sums = np.zeros((len(pairs.starts) - 1) * (UPPER + 3))
        own, gradient = _own_and_gradient(sums)
        vectors, species = pairs.room()
        for atoms in part:
            pairs.take(atoms, vectors, species)
            stiffness = np.asarray(_stiffness(potential, vectors, species))
            along = vectors, pairs.columns, pairs.starts, *atoms
            fill(stiffness, *along, own, blocks)
            add_along(stiffness[1], *along, gradient)
        return sums

    own, gradient = _own_and_gradient(_added_up(put, pairs))
    return HalfStored(own, pairs.starts, pairs.columns, blocks), gradient


def _own_and_gradient(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of each atom: of blocks, and of slopes."""
    count = len(sums) // (UPPER + 3)
    return sums[: count * UPPER].reshape(count, UPPER), sums[count * UPPER :].reshape(count, 3)


def changes_of_pairs(
    potential: Potential, pairs: NearPairs, along: Potential
) -> Float[np.ndarray, "K N 3"]:
    """Changes of the energy's gradient with parameters of a pair potential.

    Each pair is looked at once, and within the range alone: forces look at every edge from both of
    its ends.

    Arguments:
        potential: of a kind that `suits_half_storage`.
        pairs: those in its range.
        along: K directions of its parameters, stacked.

    Returns:
        d(dE/dx) along each, shape (K, N, 3), energy/length/unit.
    """
    from mdsens.linalg.half_stored_loops import add_along

    count = len(jax.tree.leaves(along)[0])
    directions = [jax.tree.map(lambda leaf, k=k: leaf[k], along) for k in range(count)]

    def add(part: list[tuple[int, int]]) -> np.ndarray:
        sums = np.zeros((count, len(pairs.starts) - 1, 3))
        vectors, species = pairs.room()
        for atoms in part:
            pairs.take(atoms, vectors, species)
            for direction, of_direction in zip(directions, sums, strict=True):
                weights = np.asarray(_changes_of_weights(potential, direction, vectors, species))
                add_along(weights, vectors, pairs.columns, pairs.starts, *atoms, of_direction)
        return sums

    return _added_up(add, pairs)


def changes_as_atoms_move(
    potential: Potential, pairs: NearPairs, along: Potential, moves: Float[np.ndarray, "1 N 3"]
) -> Float[np.ndarray, "1 N 3"]:
    """The change of the energy's gradient with a parameter of a pair potential, as atoms move too.

    The sum of `changes_of_pairs` and `products_of_pairs`, for which each pair is looked at once.

    Arguments:
        potential: of a kind that `suits_half_storage`.
        pairs: those in its range.
        along: one direction of its parameters, stacked.
        moves: of the positions along with it, length/unit.

    Returns:
        d(dE/dx) along it, shape (1, N, 3), energy/length/unit.
    """
    from mdsens.linalg.half_stored_loops import add_products, take_growths

    direction, move = jax.tree.map(lambda leaf: leaf[0], along), moves[0]

    def add(part: list[tuple[int, int]]) -> np.ndarray:
        sums = np.zeros(moves.shape)
        vectors, species = pairs.room()
        growths = on_cache_lines(vectors.shape[1:], np.float64)
        for atoms in part:
            pairs.take(atoms, vectors, species)
            given = pairs.columns, pairs.starts, *atoms
            take_growths(vectors, move, *given, growths)
            found = _changes_and_weights(potential, direction, vectors, growths, species)
            add_products(np.asarray(found), vectors, move, *given, sums[0], True)
        return sums

    return _added_up(add, pairs)


def pull_back_of_pairs(
    potential: Potential, pairs: NearPairs, weights: Float[np.ndarray, "K N 3"]
) -> Potential:
    """Cotangents of a pair potential's parameters for those of the energy's gradient.

    Arguments:
        potential: of a kind that `suits_half_storage`.
        pairs: those in its range.
        weights: K of them.

    Returns:
        w^T d(dE/dx)/dtheta for each, stacked, shaped like the potential.
    """
    from mdsens.linalg.half_stored_loops import take_growths

    leaves, structure = jax.tree.flatten(eqx.filter(potential, is_differentiable))
    if not leaves:
        return jax.tree.unflatten(structure, [])
    ends = np.cumsum([np.size(leaf) for leaf in leaves])

    def add(part: list[tuple[int, int]]) -> np.ndarray:
        sums = np.zeros((len(weights), ends[-1]))
        vectors, species = pairs.room()
        growths = on_cache_lines(vectors.shape[1:], np.float64)
        for atoms in part:
            pairs.take(atoms, vectors, species)
            for weight, of_weight in zip(weights, sums, strict=True):
                take_growths(vectors, weight, pairs.columns, pairs.starts, *atoms, growths)
                found = jax.tree.leaves(_pulled_back(potential, vectors, species, growths))
                of_weight += np.concatenate([np.asarray(leaf).reshape(-1) for leaf in found])
        return sums

    sums = np.split(_added_up(add, pairs), ends[:-1], axis=1)
    shapes = [(len(weights), *np.shape(leaf)) for leaf in leaves]
    return jax.tree.unflatten(
        structure, [of.reshape(shape) for of, shape in zip(sums, shapes, strict=True)]
    )


def products_of_pairs(
    potential: Potential, pairs: NearPairs, moves: Float[np.ndarray, "K N 3"]
) -> Float[np.ndarray, "K N 3"]:
    """Changes of the energy's gradient as atoms move: the products of a Hessian that is not kept.

    Arguments:
        potential: of a kind that `suits_half_storage`.
        pairs: those in its range.
        moves: K directions of the positions.

    Returns:
        d(dE/dx) along each, shape (K, N, 3), energy/length^2 times what moves are in.
    """
    from mdsens.linalg.half_stored_loops import add_products

    def add(part: list[tuple[int, int]]) -> np.ndarray:
        sums = np.zeros(moves.shape)
        vectors, species = pairs.room()
        for atoms in part:
            pairs.take(atoms, vectors, species)
            stiffness = np.asarray(_stiffness(potential, vectors, species))
            for move, of_move in zip(moves, sums, strict=True):
                given = pairs.columns, pairs.starts, *atoms
                add_products(stiffness, vectors, move, *given, of_move, False)
        return sums

    return _added_up(add, pairs)


def _added_up(
    add: Callable[[list[tuple[int, int]]], np.ndarray], pairs: NearPairs
) -> Float[np.ndarray, "..."]:
    """The sum of what the pairs of each core add up to."""
    sums, *others = on_all_cores(add, pairs.parts())
    for more in others:
        sums += more
    return sums


def _edges_of_pairs(vectors: Float[Array, "3 P"], species: Int[Array, "2 P"]) -> Edges:
    """Each pair as the one edge of an atom."""
    there = jnp.ones((1, vectors.shape[1]), bool)
    return Edges(tuple(vectors[:, None]), there, species[0], species[1:])


@compiled
def _stiffness(
    potential: Potential, vectors: Float[Any, "3 P"], species: Int[Any, "2 P"]
) -> Float[Array, "2 P"]:
    """For each pair at R the a and b of its second derivatives a R R^T + b.

    From phi'/r and how it grows along R, so that there is no formula beside that of the forces with
    which it could disagree.
    """
    vectors = jnp.asarray(vectors)
    across, growth = jax.jvp(
        lambda vectors: _weights(vectors, potential, species), (vectors,), (vectors,)
    )
    return jnp.stack([growth / jnp.sum(vectors * vectors, axis=0), across])


@compiled
def _changes_of_weights(
    potential: Potential,
    along: Potential,
    vectors: Float[Any, "3 P"],
    species: Int[Any, "2 P"],
) -> Float[Array, " P"]:
    """How phi'/r of each pair changes with the parameters."""

    def weights(vectors: Float[Array, "3 P"], potential: Potential) -> Float[Array, " P"]:
        return _weights(vectors, potential, species)

    change: Float[Array, " P"] = directional_change(weights, vectors, (potential,), (along,))
    return change


@compiled
def _changes_and_weights(
    potential: Potential,
    along: Potential,
    vectors: Float[Any, "3 P"],
    growths: Float[Any, " P"],
    species: Int[Any, "2 P"],
) -> Float[Array, "2 P"]:
    """How phi'/r of each pair changes with the parameters as R d is its growth; and phi'/r."""

    def weights(vectors: Float[Array, "3 P"], potential: Potential) -> Float[Array, " P"]:
        return _weights(vectors, potential, species)

    vectors = jnp.asarray(vectors)
    # What goes across changes no distance.
    moves = vectors * (growths / jnp.sum(vectors * vectors, axis=0))[None]
    change = directional_change(weights, vectors, (potential,), (along,), moves)
    return jnp.stack([change, weights(vectors, potential)])


@compiled
def _pulled_back(
    potential: Potential,
    vectors: Float[Any, "3 P"],
    species: Int[Any, "2 P"],
    cotangent: Float[Any, " P"],
) -> Potential:
    """Cotangents of the parameters for one of phi'/r of each pair."""
    varied, constant = eqx.partition(potential, is_differentiable)
    _, pull = jax.vjp(
        lambda varied: _weights(vectors, eqx.combine(varied, constant), species), varied
    )
    pulled: Potential = pull(cotangent)[0]
    return pulled


def _weights(
    vectors: Float[Array, "3 P"], potential: Potential, species: Int[Any, "2 P"]
) -> Float[Array, " P"]:
    """phi'/r of each pair."""
    return potential.site_energies_and_weights(_edges_of_pairs(vectors, species))[1][0]
