"""The inverse of a matrix averaged over the translations of a lattice, as a preconditioner."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
import scipy
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.arrays import numbered
from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.null_space import is_null
from mdsens.resources import available_cores

#: Rows whose blocks are averaged.
SAMPLED = 1000
#: Differences of sites that fewer pairs have, as a part of the most of their kind, are left out.
RARE = 0.3
#: Sites from which on more than one core transforms.
THREADED = 50_000
#: Columns that are transformed together at most: more of them leave a core's cache.
TRANSFORMED = 16
#: Part of the largest stiffness below which imaginary parts are rounding.
REAL = 1e-6


@dataclasses.dataclass(frozen=True)
class LatticeSites:
    """Places of N atoms on a lattice with B sites in its primitive cell.

    The lattice has the periods of the system; along directions that are not periodic it is closed
    to a ring far outside the atoms. Its cells are a product of rings, as any finite commutative
    group is (H. J. S. Smith, Phil. Trans. R. Soc. 151, 293 (1861)).

    Attributes:
        shape: lengths of the D rings, in cells.
        places: shape (N, D), coordinates of each atom's cell on the rings.
        kinds: shape (N,), which of the B sites of that cell it has; -1 for an atom without a site.
        basis: B.
        order: returns the atoms in an order in which those near one another follow one another,
            shape (N,); None: as they are.
    """

    shape: tuple[int, ...]
    places: Int[np.ndarray, "N D"]
    kinds: Int[np.ndarray, " N"]
    basis: int
    order: Callable[[], Int[np.ndarray, " N"]] | None = None


class LatticePreconditioner:
    """The inverse of the lattice average of a matrix, by Fourier transforms.

    Rows of blocks stand at sites of a lattice whose cells are a product of rings. Blocks between
    pairs of sites with the same difference are averaged, Phi(d), with what is left out on the
    diagonal, so that a translation of all rows costs nothing; the Fourier transform of Phi is a
    small matrix for each wave, which is inverted where it is not null. A vector is put on the
    sites, zero where there is no row, multiplied wave by wave, and read off at the rows: the
    restriction of a positive matrix, symmetric and positive.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric.
        sites: where the rows of blocks stand; what has no site is divided by its diagonal block.

    Attributes:
        sites: as given.
        shape: lengths of the rings, in cells.
        basis: sites of a cell.
        own_of_kinds: shape (B, d, d), the average's blocks on the diagonal.

    Raises:
        ValueError: the average is not positive.
    """

    def __init__(self, matrix: scipy.sparse.bsr_array | HalfStored, sites: LatticeSites) -> None:
        self._stand(sites, matrix.blocksize[0])
        chosen = np.random.default_rng(0).permutation(self.rows)[:SAMPLED]
        average = self._of_rows(sites, *rows_of(matrix, chosen))
        self._inverse, self.own_of_kinds = self._inverted(average), _at_origin(average)
        self._own = _inverse_blocks(matrix, self._others)

    @classmethod
    def of_rows(
        cls,
        sites: LatticeSites,
        row: Int[np.ndarray, " T"],
        column: Int[np.ndarray, " T"],
        blocks: Float[np.ndarray, "T d d"],
    ) -> "LatticePreconditioner":
        """The same from the blocks of some rows; what has no site is divided by the mean of all.

        Arguments:
            sites: where the rows of blocks stand.
            row: shape (T,), the row of each block.
            column: shape (T,), its column.
            blocks: shape (T, d, d), whole rows.

        Returns:
            The LatticePreconditioner.

        Raises:
            ValueError: the average is not positive.
        """
        found = cls.__new__(cls)
        found._stand(sites, blocks.shape[-1])
        found._take(found._of_rows(sites, row, column, blocks))
        return found

    @classmethod
    def of_parts(
        cls,
        sites: LatticeSites,
        parts: Float[np.ndarray, "C W W d d"],
        members: Int[np.ndarray, "C W"],
    ) -> "LatticePreconditioner":
        """The same of a matrix that is a sum over its rows, from the parts that some rows add.

        Arguments:
            sites: where the rows of blocks stand.
            parts: shape (C, W, W, d, d), blocks between the members of each part.
            members: shape (C, W), rows of blocks that they are about, of which the first is that
                which adds the part; N for none.

        Returns:
            The LatticePreconditioner.

        Raises:
            ValueError: the average is not positive.
        """
        found = cls.__new__(cls)
        found._stand(sites, parts.shape[-1])
        found._take(found._of_parts(sites, parts, members))
        return found

    def _stand(self, sites: LatticeSites, size: int) -> None:
        self.sites, self.size = sites, size
        self.shape, self.basis = sites.shape, sites.basis
        cells = int(np.prod(sites.shape))
        flat = np.ravel_multi_index(tuple(sites.places.T), sites.shape)
        self.rows, self._others = np.flatnonzero(sites.kinds >= 0), np.flatnonzero(sites.kinds < 0)
        self._flat, self._kinds = flat, sites.kinds
        # Which row is at each site, the last of all none; and at which site each row.
        self._row_at = np.full(cells * sites.basis, len(sites.kinds))
        self._row_at[sites.kinds[self.rows] * cells + flat[self.rows]] = self.rows
        self._site_of = np.maximum(sites.kinds, 0) * cells + flat
        self._order = sites.order
        # Below that threads take longer to meet than to compute.
        self._workers = available_cores() if cells * sites.basis > THREADED else 1

    @functools.cached_property
    def order(self) -> Int[np.ndarray, " N"]:
        """The rows in an order in which those near one another follow one another."""
        return np.arange(len(self._kinds)) if self._order is None else self._order()

    def _take(self, average: Float[np.ndarray, "b b d d G"]) -> None:
        """The inverse of an average; of its block at the origin for what has no site."""
        self._inverse, self.own_of_kinds = self._inverted(average), _at_origin(average)
        own = self.own_of_kinds.mean(axis=0)
        self._own = np.broadcast_to(_positive_inverse(own), (len(self._others), *own.shape))

    def _differences(self, sites: LatticeSites, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The cells from rows to columns, each by one number."""
        flat = np.zeros(len(row), np.int64)
        for length, places in zip(self.shape, sites.places.T, strict=True):
            difference = places[column] - places[row]
            flat *= length
            flat += np.where(difference < 0, difference + length, difference)
        return flat

    def _of_rows(
        self, sites: LatticeSites, row: np.ndarray, column: np.ndarray, blocks: np.ndarray
    ) -> Float[np.ndarray, "b b d d G"]:
        """Phi(d) of each pair of kinds of sites, from whole rows of blocks."""
        kinds, cells = sites.kinds, int(np.prod(self.shape))
        on_sites = (kinds[row] >= 0) & (kinds[column] >= 0)
        row, column, blocks = row[on_sites], column[on_sites], blocks[on_sites]
        pair = kinds[row] * self.basis + kinds[column]
        key = pair * cells + self._differences(sites, row, column)
        keys, means = _frequent_means(key, cells, self.basis**2 * cells, blocks)
        return self._balanced(keys, means)

    def _of_parts(
        self, sites: LatticeSites, parts: np.ndarray, members: np.ndarray
    ) -> Float[np.ndarray, "b b d d G"]:
        """The same from the parts that some rows add, which depend on where these rows are."""
        kinds, cells = np.append(sites.kinds, -1), int(np.prod(self.shape))
        inside = (kinds[members] >= 0) & (kinds[members[:, :1]] >= 0)
        part, first, second = np.nonzero(inside[:, :, None] & inside[:, None, :])
        adding, row, column = members[part, 0], members[part, first], members[part, second]
        places = self.basis * cells
        to_row = kinds[row] * cells + self._differences(sites, adding, row)
        to_column = kinds[column] * cells + self._differences(sites, adding, column)
        key = (kinds[adding] * places + to_row) * places + to_column
        squared = places * places
        keys, means = _frequent_means(
            key, squared, self.basis * squared, parts[part, first, second]
        )
        # Of the lattice: the kinds of both ends, and the cells between them.
        (_, from_row), from_column = np.divmod(keys // places, places), keys % places
        begin = np.array(np.unravel_index(from_row % cells, self.shape))
        end = np.array(np.unravel_index(from_column % cells, self.shape))
        apart = (end - begin) % np.array(self.shape)[:, None]
        pair = (from_row // cells) * self.basis + from_column // cells
        return self._balanced(pair * cells + np.ravel_multi_index(tuple(apart), self.shape), means)

    def _balanced(
        self, keys: Int[np.ndarray, " F"], blocks: Float[np.ndarray, "F d d"]
    ) -> Float[np.ndarray, "b b d d G"]:
        """The sum of blocks at each place, symmetric and without force on translations."""
        cells = int(np.prod(self.shape))
        means = np.zeros((self.basis**2 * cells, self.size, self.size))
        np.add.at(means, keys, blocks)
        means = means.reshape(self.basis, self.basis, *self.shape, self.size, self.size)
        # Phi_ab(d) is the transposed Phi_ba(-d).
        axes = tuple(range(2, 2 + len(self.shape)))
        opposite = np.roll(np.flip(means, axes), 1, axes)
        opposite = np.swapaxes(np.swapaxes(opposite, 0, 1), -1, -2)
        means = ((means + opposite) / 2).reshape(
            self.basis, self.basis, cells, self.size, self.size
        )
        total = means.sum(axis=(1, 2))
        for site in range(self.basis):
            means[site, site, 0] -= (total[site] + total[site].T) / 2
        return means.transpose(0, 1, 3, 4, 2)

    def _inverted(self, average: np.ndarray) -> np.ndarray:
        """The inverse for each wave of half of them, (b d, b d, waves), in single precision."""
        unknowns = self.basis * self.size
        rings = tuple(range(-len(self.shape), 0))
        waves = scipy.fft.rfftn(
            average.transpose(0, 2, 1, 3, 4).reshape(unknowns, unknowns, *self.shape),
            axes=rings, workers=self._workers,
        )  # fmt: skip
        self._half = waves.shape[2:]
        # Phi(d) couples a row to a column that is d ahead.
        matrices = np.conj(waves.reshape(unknowns, unknowns, -1).transpose(2, 0, 1))
        matrices = (matrices + np.conj(np.swapaxes(matrices, 1, 2))) / 2
        largest = np.abs(matrices).max()
        if np.abs(matrices.imag).max() < REAL * largest:
            matrices = matrices.real
        inverse = np.empty_like(matrices)
        values, vectors = np.linalg.eigh(matrices[0])
        null = is_null(values, largest)
        if (values[~null] <= 0.0).any():
            raise ValueError("the average over the lattice is not positive at the origin")
        inverse[0] = (vectors[:, ~null] / values[~null]) @ np.conj(vectors[:, ~null].T)
        try:
            np.linalg.cholesky(matrices[1:])
        except np.linalg.LinAlgError:
            raise ValueError("the average over the lattice is not positive") from None
        inverse[1:] = np.linalg.inv(matrices[1:])
        single = np.complex64 if np.iscomplexobj(inverse) else np.float32
        return np.ascontiguousarray(inverse.transpose(1, 2, 0)).astype(single)

    def __call__(self, residual: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The product with a vector, or with each column."""
        if residual.ndim == 1:
            return self._product(residual)
        columns = residual.reshape(len(residual), -1).T
        return np.stack([self._product(column) for column in columns], axis=1)

    def _product(self, vector: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        # At length one, whatever the units, nothing is out of reach of single precision.
        length = float(np.linalg.norm(vector)) or 1.0
        count = len(self._kinds)
        # A site without a row reads the zero at the end.
        single = np.zeros((self.size, count + 1), np.float32)
        np.multiply(
            vector.reshape(count, self.size).T,
            1.0 / length,
            out=single[:, :-1],
            casting="same_kind",
        )
        spatial = single.take(self._row_at, axis=1).reshape(self.size, self.basis, *self.shape)
        rings = tuple(range(-len(self.shape), 0))
        waves = scipy.fft.rfftn(spatial, axes=rings, workers=self._workers)
        # Kinds of sites before components, as in the matrices.
        waves = np.swapaxes(waves, 0, 1).reshape(self.basis * self.size, -1)
        product, term = np.empty_like(waves), np.empty_like(waves[0])
        for image, row in zip(product, self._inverse, strict=True):
            np.multiply(row[0], waves[0], out=image)
            for entry, wave in zip(row[1:], waves[1:], strict=True):
                image += np.multiply(entry, wave, out=term)
        product = product.reshape(self.basis, self.size, *self._half)
        back = scipy.fft.irfftn(product, s=self.shape, axes=rings, workers=self._workers)
        back = np.swapaxes(back, 0, 1).reshape(self.size, -1)
        found = np.ascontiguousarray(back.T).take(self._site_of, axis=0).astype(float)
        found *= length
        if len(self._others):
            rows = vector.reshape(count, self.size)[self._others]
            found[self._others] = (self._own @ rows[:, :, None])[:, :, 0]
        return found.reshape(-1)

    def for_many_columns(
        self, rows: Int[np.ndarray, " M"], scale: float
    ) -> Callable[[Float[np.ndarray, "M d P"]], Float[np.ndarray, "M d P"]]:
        """The product with many columns at once, in single precision and in another order of rows.

        Arguments:
            rows: shape (M,), the row of blocks at each place; N or more where there is none.
            scale: what the product is multiplied with.

        Returns:
            The product, of vectors of shape (M, d, P); where there is no row it leaves zeros.
        """
        kinds = np.append(self._kinds, -1)[np.minimum(rows, len(self._kinds))]
        on_sites = np.flatnonzero(kinds >= 0)
        where = self._flat[rows[on_sites]] * self.basis + kinds[on_sites]
        place = np.full(len(self._kinds) + 1, -1)
        place[np.minimum(rows, len(self._kinds))] = np.arange(len(rows))
        others, own = place[self._others], (scale * self._own).astype(np.float32)
        unknowns = self.basis * self.size
        single = self._inverse.dtype
        wide = np.complex128 if np.iscomplexobj(self._inverse) else np.float64
        inverse = scale * self._inverse.transpose(2, 0, 1).astype(wide)
        inverse = np.ascontiguousarray(inverse.astype(single))
        rings, cells = tuple(range(len(self.shape))), int(np.prod(self.shape))
        workers = available_cores()

        # Rows are mostly all on sites, and then are not copied to be chosen.
        chosen = slice(None) if len(on_sites) == len(rows) else on_sites

        def of_some(vectors: Float[np.ndarray, "M d P"], found: Float[np.ndarray, "M d P"]) -> None:
            columns = vectors.shape[2]
            sites = np.zeros((cells * self.basis, self.size, columns), np.float32)
            sites[where] = vectors[chosen]
            spatial = sites.reshape(*self.shape, unknowns, columns)
            waves = scipy.fft.rfftn(spatial, axes=rings, workers=workers)
            along = waves.reshape(-1, unknowns, columns)
            if not np.iscomplexobj(inverse):
                # A complex number is two columns to a real matrix.
                along = along.view(np.float32)
            along = np.matmul(inverse, along).view(np.complex64).reshape(waves.shape)
            back = scipy.fft.irfftn(along, s=self.shape, axes=rings, workers=workers)
            found[chosen] = back.reshape(sites.shape)[where]

        def product(vectors: Float[np.ndarray, "M d P"]) -> Float[np.ndarray, "M d P"]:
            found, columns = np.zeros_like(vectors), vectors.shape[2]
            groups = -(-columns // TRANSFORMED)
            for start, stop in itertools.pairwise(np.linspace(0, columns, groups + 1).astype(int)):
                of_some(vectors[:, :, start:stop], found[:, :, start:stop])
            if len(others):
                found[others] = own @ vectors[others]
            return found

        return product

    def __str__(self) -> str:
        rings = " x ".join(map(str, self.shape))
        return f"lattice of {rings} cells with {self.basis} sites each"


def rows_of(
    matrix: scipy.sparse.bsr_array | HalfStored, chosen: Int[np.ndarray, " C"]
) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"], Float[np.ndarray, "T d d"]]:
    """Some rows of blocks.

    Arguments:
        matrix: in blocks.
        chosen: shape (C,), which rows.

    Returns:
        The row and the column of each block, and the blocks; of each row together.
    """
    if isinstance(matrix, HalfStored):
        return matrix.rows_of(chosen)
    counts = np.diff(matrix.indptr)[chosen]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    entries = np.repeat(matrix.indptr[chosen], counts) + within
    return np.repeat(chosen, counts), matrix.indices[entries], matrix.data[entries]


def _frequent_means(
    key: Int[np.ndarray, " T"], kind_size: int, bound: int, blocks: Float[np.ndarray, "T d d"]
) -> tuple[Int[np.ndarray, " F"], Float[np.ndarray, "F d d"]]:
    """Keys that are frequent among those of their kind, and the mean of the blocks of each."""
    keys, which = numbered(key, bound)
    counts = np.bincount(which, minlength=len(keys))
    components = blocks.reshape(len(blocks), -1).T
    sums = np.stack([np.bincount(which, of_all, len(keys)) for of_all in components], axis=1)
    kinds, kind = np.unique(keys // kind_size, return_inverse=True)
    most = np.zeros(len(kinds), int)
    np.maximum.at(most, kind, counts)
    kept = counts >= RARE * most[kind]
    means = sums.reshape(len(keys), *blocks.shape[1:]) / counts[:, None, None]
    return keys[kept], means[kept]


def _at_origin(average: Float[np.ndarray, "b b d d G"]) -> Float[np.ndarray, "b d d"]:
    """The blocks of an average on the diagonal."""
    return np.stack([average[site, site, :, :, 0] for site in range(len(average))])


def _positive_inverse(block: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The inverse of a symmetric block that is made positive."""
    values, vectors = np.linalg.eigh(block)
    sizes = np.abs(values)
    floor = max(1e-8 * sizes.max(initial=0.0), 1e-300)
    inverse: np.ndarray = (vectors / np.maximum(sizes, floor)) @ vectors.T
    return inverse


def _inverse_blocks(
    matrix: scipy.sparse.bsr_array | HalfStored, rows: Int[np.ndarray, " M"]
) -> Float[np.ndarray, "M d d"]:
    """The inverse of some diagonal blocks, each made positive."""
    found = np.zeros((len(rows), *matrix.blocksize))
    if isinstance(matrix, HalfStored):
        for place, block in enumerate(matrix.own_blocks(rows)):
            found[place] = _positive_inverse(block)
        return found
    for place, row in enumerate(rows):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        own = matrix.indices[entries] == row
        found[place] = _positive_inverse(matrix.data[entries][own].sum(axis=0))
    return found
