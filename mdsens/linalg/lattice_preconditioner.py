"""The inverse of a matrix averaged over the translations of a lattice, as a preconditioner."""

import dataclasses

import numpy as np
import scipy.fft
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.linalg.null_space import is_null
from mdsens.resources import available_cores

#: Rows whose blocks are averaged.
SAMPLED = 1000
#: Differences of sites that fewer pairs have, as a part of the most of their kind, are left out.
RARE = 0.3
#: Sites from which on more than one core transforms.
THREADED = 50_000
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
    """

    shape: tuple[int, ...]
    places: Int[np.ndarray, "N D"]
    kinds: Int[np.ndarray, " N"]
    basis: int


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

    Raises:
        ValueError: the average is not positive.
    """

    def __init__(self, matrix: scipy.sparse.bsr_array, sites: LatticeSites) -> None:
        self.shape, self.basis, self.size = sites.shape, sites.basis, matrix.blocksize[0]
        places, kinds, cells = sites.places, sites.kinds, int(np.prod(sites.shape))
        flat = np.ravel_multi_index(tuple(places.T), sites.shape)
        self.rows = np.flatnonzero(kinds >= 0)
        self._where = kinds[self.rows] * cells + flat[self.rows]
        # Below that threads take longer to meet than to compute.
        self._workers = available_cores() if cells * sites.basis > THREADED else 1
        average = self._average(matrix, places, kinds)
        self._inverse = self._inverted(average)
        self._others = np.flatnonzero(kinds < 0)
        self._own = _inverse_blocks(matrix, self._others)

    def _average(
        self, matrix: scipy.sparse.bsr_array, places: np.ndarray, kinds: np.ndarray
    ) -> Float[np.ndarray, "b b d d G"]:
        """Phi(d) of each pair of kinds of sites, symmetric and without force on translations."""
        cells = int(np.prod(self.shape))
        chosen = np.random.default_rng(0).permutation(self.rows)[:SAMPLED]
        counts = np.diff(matrix.indptr)[chosen]
        row = np.repeat(chosen, counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(matrix.indptr[chosen], counts) + within
        column = matrix.indices[entries]
        on_sites = kinds[column] >= 0
        row, column, entries = row[on_sites], column[on_sites], entries[on_sites]
        difference = (places[column] - places[row]) % np.array(self.shape)
        pair = kinds[row] * self.basis + kinds[column]
        key = pair * cells + np.ravel_multi_index(tuple(difference.T), self.shape)
        keys, inverse, pairs = np.unique(key, return_inverse=True, return_counts=True)
        sums = np.zeros((len(keys), self.size, self.size))
        np.add.at(sums, inverse, matrix.data[entries])
        most = np.zeros(self.basis**2, int)
        np.maximum.at(most, keys // cells, pairs)
        kept = pairs >= RARE * most[keys // cells]
        means = np.zeros((self.basis**2, cells, self.size, self.size))
        means[keys[kept] // cells, keys[kept] % cells] = (sums / pairs[:, None, None])[kept]
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
        columns = residual.reshape(len(residual) // self.size, self.size, -1)
        found = np.empty_like(columns)
        if len(self._others):
            found[self._others] = self._own @ columns[self._others]
        for column in range(columns.shape[2]):
            found[self.rows, :, column] = self._product(columns[self.rows, :, column])
        return found.reshape(residual.shape)

    def _product(self, vector: Float[np.ndarray, "M d"]) -> Float[np.ndarray, "M d"]:
        # At length one, whatever the units, nothing is out of reach of single precision.
        length = float(np.linalg.norm(vector)) or 1.0
        on_sites = np.zeros((self.size, self.basis * int(np.prod(self.shape))), np.float32)
        on_sites[:, self._where] = (vector / length).T
        spatial = on_sites.reshape(self.size, self.basis, *self.shape)
        rings = tuple(range(-len(self.shape), 0))
        waves = scipy.fft.rfftn(spatial, axes=rings, workers=self._workers)
        # Kinds of sites before components, as in the matrices.
        waves = np.swapaxes(waves, 0, 1).reshape(self.basis * self.size, -1)
        product = np.zeros_like(waves)
        for image, row in zip(product, self._inverse, strict=True):
            for entry, wave in zip(row, waves, strict=True):
                image += entry * wave
        product = product.reshape(self.basis, self.size, *self._half)
        back = scipy.fft.irfftn(product, s=self.shape, axes=rings, workers=self._workers)
        back = np.swapaxes(back, 0, 1).reshape(self.size, -1)
        return length * back[:, self._where].T.astype(float)

    def __str__(self) -> str:
        rings = " x ".join(map(str, self.shape))
        return f"lattice of {rings} cells with {self.basis} sites each"


def _inverse_blocks(
    matrix: scipy.sparse.bsr_array, rows: Int[np.ndarray, " M"]
) -> Float[np.ndarray, "M d d"]:
    """The inverse of some diagonal blocks, each made positive."""
    found = np.zeros((len(rows), *matrix.blocksize))
    for place, row in enumerate(rows):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        own = matrix.indices[entries] == row
        values, vectors = np.linalg.eigh(matrix.data[entries][own].sum(axis=0))
        sizes = np.abs(values)
        floor = max(1e-8 * sizes.max(initial=0.0), 1e-300)
        found[place] = (vectors / np.maximum(sizes, floor)) @ vectors.T
    return found
