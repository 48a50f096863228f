"""A preconditioner that is exact where the rows of a matrix are not those of a lattice."""

from collections.abc import Callable

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.linalg.lapack import dpotrf, dpotri

from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.lattice_preconditioner import (
    SAMPLED,
    LatticePreconditioner,
    LatticeSites,
    rows_of,
)

#: Relative difference of a row's block on the diagonal from the median of its kind, above which it
#: is solved for exactly; where those are too many, those above the next number.
APART = (0.1, 0.2, 0.4)
#: Blocks that are at least this part of those on the diagonal couple rows strongly, and how many
#: times what is strongly coupled is solved for too.
STRONG, ROUNDS = 0.1, 2
#: Operations to factorise a dense block at most, for each entry of the whole matrix: the time of
#: one or two products with it, of which fewer iterations save several.
OPERATIONS = 16.0
#: Relative difference of an average's blocks on the diagonal from the usual ones, up to which it is
#: taken for theirs.
LIKE = 0.05


class LocallyExact:
    """The inverse of a lattice average, made exact on some rows around defects.

    M = Q + (1 - Q A) G (1 - A Q), with the average's inverse G and Q that of the block of A of
    these rows: whatever is left there is solved for before and after the lattice is. Symmetric and
    positive as G and that block are (J. Mandel, Commun. Numer. Methods Eng. 9, 233 (1993); J. M.
    Tang, R. Nabben, C. Vuik, Y. A. Erlangga, J. Sci. Comput. 39, 340 (2009)).

    Arguments:
        lattice: G.
        matrix: A, shape (n, n), in d x d blocks, symmetric.
        rows: shape (M,), the rows of blocks.

    Attributes:
        lattice: G.
        rows: the rows of blocks.

    Raises:
        ValueError: their block is not positive.
    """

    def __init__(
        self,
        lattice: LatticePreconditioner,
        matrix: scipy.sparse.bsr_array | HalfStored,
        rows: Int[np.ndarray, " M"],
    ) -> None:
        self.lattice, self.rows = lattice, rows
        size = matrix.blocksize[0]
        row, column, blocks = rows_of(matrix, rows)
        count = matrix.shape[0] // size
        number = np.full(count, -1)
        number[rows] = np.arange(len(rows))
        starts = np.searchsorted(number[row], np.arange(len(rows) + 1))
        self._strip = scipy.sparse.bsr_array(
            (blocks, column, starts), shape=(size * len(rows), matrix.shape[0])
        )
        self._across = self._strip.T.tobsr(self._strip.blocksize)
        self._places = (size * rows[:, None] + np.arange(size)).reshape(-1)
        inside = number[column] >= 0
        pair = number[row[inside]] * len(rows) + number[column[inside]]
        self._inverse = _inverse_of(pair, blocks[inside], len(rows))

    def __call__(self, residual: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The product with a vector, or with each column."""
        inside = self._inverse @ residual[self._places]
        found = self.lattice(residual - self._across @ inside)
        found[self._places] += inside - self._inverse @ (self._strip @ found)
        return found

    @property
    def order(self) -> Int[np.ndarray, " N"]:
        """As of the lattice."""
        return self.lattice.order

    def for_many_columns(
        self, rows: Int[np.ndarray, " M"], scale: float
    ) -> Callable[[Float[np.ndarray, "M d P"]], Float[np.ndarray, "M d P"]]:
        """As of the lattice."""
        outer, size = self.lattice.for_many_columns(rows, scale), self._strip.blocksize[0]
        place = np.empty(self._strip.shape[1] // size, int)
        there = np.flatnonzero(rows < len(place))
        place[rows[there]] = there
        # Of the strip the few rows that it couples to alone.
        coupled = np.unique(self._strip.indices)
        near = place[coupled]
        columns = (size * coupled[:, None] + np.arange(size)).reshape(-1)
        strip = (self._strip.tocsr()[:, columns] / scale).astype(np.float32)
        inverse, across = (scale * self._inverse).astype(np.float32), strip.T.tocsr()
        at = place[self.rows]

        def product(vectors: Float[np.ndarray, "M d P"]) -> Float[np.ndarray, "M d P"]:
            count = vectors.shape[2]
            inside = inverse @ vectors[at].reshape(-1, count)
            left = vectors.copy()
            left[near] -= (across @ inside).reshape(-1, size, count)
            found = outer(left)
            inside -= inverse @ (strip @ found[near].reshape(-1, count))
            found[at] += inside.reshape(-1, size, count)
            return found

        return product

    def __str__(self) -> str:
        return f"{self.lattice}, exact on {len(self.rows)} of them"


def made_exact(
    lattice: LatticePreconditioner, matrix: scipy.sparse.bsr_array | HalfStored
) -> LatticePreconditioner | LocallyExact:
    """A lattice's preconditioner, exact around defects where these are few.

    Arguments:
        lattice: made of the matrix.
        matrix: shape (n, n), in d x d blocks, symmetric.

    Returns:
        Itself, or with the rows solved for that are not as the lattice's, and what they are
        strongly coupled to as far as that is no burden.
    """
    most = int(np.cbrt(OPERATIONS * _entries(matrix))) // matrix.blocksize[0]
    apart, stiffness = _apart(lattice.sites, _own_blocks(matrix))
    for least in APART:
        rows = np.flatnonzero(apart > least)
        if len(rows) <= most:
            break
    else:
        return lattice
    if len(rows) == 0:
        return lattice
    for _ in range(ROUNDS):
        _, column, blocks = rows_of(matrix, rows)
        strong = np.linalg.norm(blocks, axis=(1, 2)) >= STRONG * stiffness
        more = np.union1d(rows, column[strong])
        if len(more) > most:
            break
        rows = more
    try:
        return LocallyExact(lattice, matrix, rows)
    except ValueError:
        return lattice


def _inverse_of(
    pair: Int[np.ndarray, " T"], blocks: Float[np.ndarray, "T d d"], count: int
) -> Float[np.ndarray, "n n"]:
    """The inverse of a dense matrix from blocks, each at its row times their number and column."""
    size = blocks.shape[-1]
    whole = np.empty((count, size, count, size))
    for i in range(size):
        for j in range(size):
            whole[:, i, :, j] = np.bincount(pair, blocks[:, i, j], count**2).reshape(count, count)
    # Of a symmetric matrix these are its columns as well, which LAPACK asks for.
    factor, failed = dpotrf(whole.reshape(size * count, -1).T, lower=True, overwrite_a=True)
    if failed:
        raise ValueError("the block of some rows is not positive")
    lower, _ = dpotri(factor, lower=True, overwrite_c=True)
    # The factorisation has left zeros above.
    inverse: np.ndarray = lower + lower.T
    np.fill_diagonal(inverse, lower.diagonal())
    return inverse


def serves(lattice: LatticePreconditioner, matrix: scipy.sparse.bsr_array | HalfStored) -> bool:
    """Whether an average is that of a matrix, as far as most blocks on the diagonal tell.

    Made of argon whose atoms are 0.1 Angstrom off their sites, its own are by a quarter larger.

    Arguments:
        lattice: of a matrix nearby.
        matrix: shape (n, n), in d x d blocks, symmetric.
    """
    usual = _usual(lattice.sites, _own_blocks(matrix))
    sizes = np.linalg.norm(usual, axis=(1, 2))
    return bool((np.linalg.norm(lattice.own_of_kinds - usual, axis=(1, 2)) <= LIKE * sizes).all())


def _usual(sites: LatticeSites, own: Float[np.ndarray, "N d d"]) -> Float[np.ndarray, "B d d"]:
    """The medians of blocks on the diagonal, of some rows of each kind."""
    usual = np.zeros((sites.basis, *own.shape[1:]))
    for kind in range(sites.basis):
        of_kind = np.flatnonzero(sites.kinds == kind)
        if len(of_kind):
            usual[kind] = np.median(own[of_kind[:: 1 + len(of_kind) // SAMPLED]], axis=0)
    return usual


def _apart(
    sites: LatticeSites, own: Float[np.ndarray, "N d d"]
) -> tuple[Float[np.ndarray, " N"], float]:
    """How far blocks on the diagonal are from those of most sites of their kind, and their size.

    As a part of that size; infinite where a row has no site, but for rows that stand for nothing.
    """
    usual = _usual(sites, own)
    sizes = np.linalg.norm(usual, axis=(1, 2))
    apart = np.linalg.norm(own - usual[sites.kinds], axis=(1, 2))
    apart /= np.maximum(sizes, 1e-300)[sites.kinds]
    others = np.flatnonzero(sites.kinds < 0)
    held = (own[others] == np.eye(own.shape[1])).all(axis=(1, 2))
    apart[others] = np.where(held, 0.0, np.inf)
    return apart, float(sizes.max())


def _entries(matrix: scipy.sparse.bsr_array | HalfStored) -> int:
    """Numbers in both halves of a matrix."""
    if not isinstance(matrix, HalfStored):
        return int(matrix.data.size)
    own, _, columns, _ = matrix.stored
    return int(np.prod(matrix.blocksize)) * (len(own) + 2 * len(columns))


def _own_blocks(matrix: scipy.sparse.bsr_array | HalfStored) -> Float[np.ndarray, "N d d"]:
    """All blocks on the diagonal."""
    count = matrix.shape[0] // matrix.blocksize[0]
    if isinstance(matrix, HalfStored):
        return matrix.own_blocks(np.arange(count))
    row = np.repeat(np.arange(count), np.diff(matrix.indptr))
    own, found = row == matrix.indices, np.zeros((count, *matrix.blocksize))
    np.add.at(found, row[own], matrix.data[own])
    return found
