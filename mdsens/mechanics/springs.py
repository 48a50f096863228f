"""A network of springs between near atoms that is fitted to a few products with the Hessian.

Its matrix is sparse and positive definite outside the rigid motions, and stands in for a Hessian
that is only known by products, each of which takes long: as the preconditioner of linear solves,
and of relaxations. NumPy and SciPy alone, for it is made in callbacks too.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy
import scipy.sparse
from jaxtyping import Bool, Float, Int

from mdsens.linalg.factorisation import Factorisation
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.particles.neighbor_pairs import neighbor_pairs

#: Degrees of freedom up to which all columns of the Hessian take no more products than a fit and
#: the iterations that it serves.
FEW = 48
#: Vectors that are multiplied for a fit.
PROBES = 4
#: How far springs reach and how finely their stiffness depends on the distance, in distances of
#: nearest neighbours.
REACH, SPACING = 2.35, 0.16
#: Unknowns up to which a matrix is factorised to see whether it is positive definite.
FACTORISED = 30_000
#: Stiffness that the shortest springs have at least, over the largest of all.
LEAST = 1e-3
#: Weight that holds what the products do not determine at zero.
RIDGE = 1e-8


class Products(NamedTuple):
    """Products of a Hessian with vectors, and where the atoms are, in JAX or NumPy.

    Attributes:
        positions: shape (N, D), length.
        cell: shape (D, D), length.
        pbc: shape (D,), which directions are periodic.
        species: shape (N,).
        vectors: shape (M, N, D), nothing on atoms that do not move.
        products: shape (M, N, D), energy/length^2.
    """

    positions: Any
    cell: Any
    pbc: Any
    species: Any
    vectors: Any
    products: Any

    @property
    def complete(self) -> bool:
        """Whether these are all columns of the matrix."""
        return len(self.vectors) == self.vectors[0].size


def probes(count: int, dimension: int) -> Float[np.ndarray, "M N D"]:
    """Vectors to multiply: a few without structure, or all units where there are few.

    Arguments:
        count: number of atoms, N.
        dimension: D.

    Returns:
        Shape (M, N, D).
    """
    size = count * dimension
    if size <= FEW:
        return np.eye(size).reshape(size, count, dimension)
    return np.random.default_rng(0).normal(size=(PROBES, count, dimension))


def noise_of_products(found: Products) -> float:
    """The relative error of products, from v . H w - w . H v, which an exact H makes zero.

    Arguments:
        found: products, in NumPy.

    Returns:
        The root mean square of a component's error over that of a component.
    """
    vectors = found.vectors.reshape(len(found.vectors), -1)
    products = found.products.reshape(vectors.shape)
    both = vectors @ products.T
    apart = (both - both.T)[np.triu_indices(len(both), 1)]
    size = np.sqrt(np.mean(products**2))
    if apart.size == 0 or not size > 0.0:
        return float(np.finfo(float).eps)
    # Each of the two has an error of one component times the length of a vector.
    length = np.linalg.norm(vectors, axis=1).max()
    return float(max(np.sqrt(np.mean(apart**2) / 2.0) / length / size, np.finfo(float).eps))


def matrix_of_products(found: Products, free: Bool[np.ndarray, " N"]) -> scipy.sparse.bsr_array:
    """The Hessian of all its columns, or that of fitted springs.

    Arguments:
        found: products, in NumPy.
        free: shape (N,), atoms that move.

    Returns:
        Shape (N D, N D), energy/length^2; the identity for atoms that do not move.
    """
    if not found.complete:
        return _fitted(found, free)
    dimension = found.positions.shape[1]
    size = found.positions.size
    matrix = found.products.reshape(size, size)
    held = np.repeat(~free, dimension)
    matrix = np.where(held | held[:, None], 0.0, (matrix + matrix.T) / 2)
    matrix[held, held] = 1.0
    return scipy.sparse.bsr_array(matrix, blocksize=(dimension, dimension))


class _Springs(NamedTuple):
    """Pairs of atoms, unit vectors, and shares of each pair in the shapes of both stiffnesses."""

    pairs: Int[np.ndarray, "P 2"]
    directions: Float[np.ndarray, "P D"]
    shares: Float[np.ndarray, "P B"]

    def matrix(
        self, stiffness: Float[np.ndarray, "2 B"], free: Bool[np.ndarray, " N"]
    ) -> scipy.sparse.bsr_array:
        """The matrix of springs with these stiffnesses along and across each pair."""
        count, dimension = len(free), self.directions.shape[1]
        along, across = (self.shares @ one for one in stiffness)
        outer = self.directions[:, :, None] * self.directions[:, None, :]
        blocks = (along - across)[:, None, None] * outer
        blocks += across[:, None, None] * np.eye(dimension)
        first, second = self.pairs.T
        within = free[first] & free[second] & (first != second)
        own = np.zeros((count, dimension, dimension))
        apart = first != second
        np.add.at(own, first[apart], blocks[apart])
        np.add.at(own, second[apart], blocks[apart])
        # What no spring holds is held where it is, softly.
        empty = free & ~own.any(axis=(1, 2))
        own[empty] = (np.abs(own).max(initial=0.0) * LEAST or 1.0) * np.eye(dimension)
        own[~free] = np.eye(dimension)
        everyone = np.arange(count)
        rows = np.concatenate([everyone, first[within], second[within]])
        columns = np.concatenate([everyone, second[within], first[within]])
        entries = np.concatenate([own, -blocks[within], -blocks[within]])
        inner = np.arange(dimension)
        places = (
            np.broadcast_to((rows * dimension)[:, None, None] + inner[:, None], entries.shape),
            np.broadcast_to((columns * dimension)[:, None, None] + inner, entries.shape),
        )
        size = count * dimension
        whole = scipy.sparse.coo_array(
            (entries.ravel(), tuple(place.ravel() for place in places)), shape=(size, size)
        )
        return scipy.sparse.bsr_array(whole.tocsr(), blocksize=(dimension, dimension))


def _fitted(found: Products, free: Bool[np.ndarray, " N"]) -> scipy.sparse.bsr_array:
    """The matrix of springs whose stiffness along and across a pair fits the products best.

    That of a pair potential, with both as piecewise linear functions of the distance for each pair
    of species. Where the best fit curves down, the best of those that do not.
    """
    springs = _springs(found, free)
    size, dimension = found.positions.size, found.positions.shape[1]
    design = _design(springs, found, free)
    wanted = np.where(free[:, None], found.products, 0.0).ravel()
    scales = np.linalg.norm(design, axis=0)
    used = scales > 0.0
    scaled = design[:, used] / scales[used]
    squares = scaled.T @ scaled + RIDGE * np.eye(int(used.sum()))
    right = scaled.T @ wanted
    stiffness = np.zeros(design.shape[1])
    if size <= FACTORISED:
        stiffness[used] = np.linalg.solve(squares, right) / scales[used]
        matrix = springs.matrix(stiffness.reshape(2, -1), free)
        if _is_positive(matrix, free, dimension):
            return matrix
    factor = np.linalg.cholesky(squares)
    fitted = scipy.optimize.nnls(factor.T, np.linalg.solve(factor, right))[0]
    stiffness[used] = fitted / scales[used]
    both = stiffness.reshape(2, -1)
    # Springs that hold across too let no part of the network turn freely.
    short = springs.shares.argmax(axis=1).min(initial=springs.shares.shape[1])
    if len(springs.pairs):
        both[:, short] = np.maximum(both[:, short], LEAST * both.max(initial=0.0))
    return springs.matrix(both, free)


def _is_positive(matrix: scipy.sparse.bsr_array, free: np.ndarray, dimension: int) -> bool:
    """Whether a matrix is positive definite outside the translations, if all atoms move."""
    rigid = np.zeros((0, matrix.shape[0]))
    if free.all():
        rigid = orthonormal_rows(np.tile(np.eye(dimension), len(free)))
    try:
        return Factorisation(matrix, rigid).positive_definite
    except (RuntimeError, MemoryError):
        return False


def _springs(found: Products, free: Bool[np.ndarray, " N"]) -> _Springs:
    """Pairs within reach, and the shapes that their stiffness is made of."""
    positions, cell, pbc = found.positions, found.cell, tuple(bool(one) for one in found.pbc)
    pairs, vectors = _near_pairs(positions, cell, pbc)
    distances = np.linalg.norm(vectors, axis=1)
    nearest = _nearest(pairs, distances, len(positions))
    near = distances <= REACH * nearest
    pairs, vectors, distances = pairs[near], vectors[near], distances[near]
    places = distances / (nearest * SPACING)
    low = int(np.floor(places.min(initial=0.0))) if len(places) else 0
    knots = int(np.floor(REACH / SPACING)) + 2 - low
    shapes = np.maximum(0.0, 1.0 - np.abs(places[:, None] - low - np.arange(knots)))
    kinds = np.sort(found.species[pairs], axis=1)
    names, kind = np.unique(kinds, axis=0, return_inverse=True)
    kind = np.asarray(kind).reshape(-1)
    shares = np.zeros((len(pairs), len(names), knots))
    shares[np.arange(len(pairs)), kind] = shapes
    directions = vectors / distances[:, None]
    return _Springs(pairs, directions, shares.reshape(len(pairs), -1))


def _near_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within some distances of nearest neighbours, and the vectors between them."""
    # From the density of a body that fills its extent, which none surpasses by much.
    extent = np.ptp(positions, axis=0).max(initial=1e-6)
    reach = extent / len(positions) ** (1.0 / positions.shape[1])
    if any(pbc):
        reach = min(reach, float(np.linalg.norm(cell, axis=1)[list(pbc)].min()))
    for _ in range(40):
        pairs, crossing, shifts = neighbor_pairs(positions, cell, pbc, reach)
        vectors = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        vectors[crossing] += shifts @ cell
        distances = np.linalg.norm(vectors, axis=1)
        # An atom far from all others shall not have all pairs found for its sake.
        met = np.unique(pairs).size
        if met and reach >= REACH * _nearest(pairs, distances, len(positions)):
            break
        reach *= 1.3
    return pairs, vectors


def _nearest(pairs: np.ndarray, distances: np.ndarray, count: int) -> float:
    """The median distance of an atom's nearest neighbour; infinite where half have none."""
    own = np.full(count, np.inf)
    np.minimum.at(own, pairs[:, 0], distances)
    np.minimum.at(own, pairs[:, 1], distances)
    return float(np.median(own))


def _design(
    springs: _Springs, found: Products, free: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, "MND S"]:
    """What each stiffness of one adds to the products."""
    first, second = springs.pairs.T
    count, dimension = found.positions.shape
    shapes = springs.shares.shape[1]
    columns = np.zeros((2, shapes, len(found.vectors), count, dimension))
    signs = np.concatenate([np.ones(len(first)), -np.ones(len(first))])
    pair = np.tile(np.arange(len(first)), 2)
    ends = np.concatenate([first, second])
    collect = scipy.sparse.csr_array((signs, (ends, pair)), shape=(count, len(first)))
    for probe, vector in enumerate(found.vectors):
        relative = vector[first] - vector[second]
        along = np.sum(relative * springs.directions, axis=1)[:, None] * springs.directions
        for kind, force in enumerate((along, relative - along)):
            for shape in range(shapes):
                share = springs.shares[:, shape]
                pulled = np.flatnonzero(share)
                if len(pulled):
                    columns[kind, shape, probe] = collect[:, pulled] @ (
                        share[pulled, None] * force[pulled]
                    )
    columns *= free[:, None]
    return columns.reshape(2 * shapes, -1).T
