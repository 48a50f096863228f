"""Harmonic soft discs in closed form, with NumPy and SciPy alone: what derivatives are held to.

phi(r) = (epsilon / 2) (1 - r/d)^2 for r < d, with d the mean of both diameters.
"""

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from scipy.spatial import cKDTree

from benchmarks.systems import DISC_EPSILON, DISCS, Case


class Contacts:
    """The pairs of discs that overlap.

    Arguments:
        case: the packing.
        positions: shape (N, 2), in units of the large diameter.
        kept: shape (N,), the discs that count; loose ones do not.
    """

    def __init__(self, case: Case, positions: np.ndarray, kept: np.ndarray):
        diameters, species = np.array(list(DISCS.values())), case.species()
        places = np.mod(positions, case.box)
        pairs = cKDTree(places, boxsize=case.box).query_pairs(max(diameters), output_type="ndarray")
        vectors = places[pairs[:, 1]] - places[pairs[:, 0]]
        vectors -= case.box * np.round(vectors / case.box)
        r = np.linalg.norm(vectors, axis=1)
        contact = (diameters[species[pairs[:, 0]]] + diameters[species[pairs[:, 1]]]) / 2
        touching = (r < contact) & kept[pairs].all(axis=1)
        self.pairs, self.r, self.contact = pairs[touching], r[touching], contact[touching]
        self.along = vectors[touching] / self.r[:, None]
        # Half a contact distance for each small disc.
        self.by_diameter = (species[self.pairs] == 1).sum(axis=1) / 2
        self.count, self.kept = len(positions), kept

    def forces(self) -> np.ndarray:
        """The force on each disc, shape (N, 2)."""
        push = DISC_EPSILON / self.contact * (1 - self.r / self.contact)
        return self._gathered(push)

    def hessian(self) -> scipy.sparse.csr_array:
        """d2E/dx2, shape (2N, 2N)."""
        stiff = DISC_EPSILON / self.contact**2
        slope = -DISC_EPSILON / self.contact * (1 - self.r / self.contact)
        outer = self.along[:, :, None] * self.along[:, None, :]
        blocks = stiff[:, None, None] * outer
        blocks += (slope / self.r)[:, None, None] * (np.eye(2) - outer)
        rows, columns, values = [], [], []
        for first, second, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
            for i in range(2):
                for j in range(2):
                    rows.append(2 * self.pairs[:, first] + i)
                    columns.append(2 * self.pairs[:, second] + j)
                    values.append(sign * blocks[:, i, j])
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return scipy.sparse.coo_array(entries, (2 * self.count,) * 2).tocsr()

    def force_change(self) -> np.ndarray:
        """d force / d (diameter of the small discs), shape (N, 2)."""
        # d/dd of (1/d - r/d^2).
        change = DISC_EPSILON * (2 * self.r / self.contact**3 - 1 / self.contact**2)
        return self._gathered(change * self.by_diameter)

    def _gathered(self, push: np.ndarray) -> np.ndarray:
        total = np.zeros((self.count, 2))
        np.add.at(total, self.pairs[:, 1], push[:, None] * self.along)
        np.add.at(total, self.pairs[:, 0], -push[:, None] * self.along)
        return total

    def derivative(self) -> np.ndarray:
        """dx / d (diameter of the small discs) by a sparse factorisation, shape (N, 2).

        The two translations are borders of the matrix; loose discs have the derivative zero.
        """
        rows = np.flatnonzero(np.repeat(self.kept, 2))
        inner = self.hessian()[rows][:, rows]
        shifts = scipy.sparse.csr_array(np.tile(np.eye(2), (len(rows) // 2, 1)))
        matrix = scipy.sparse.block_array([[inner, shifts], [shifts.T, None]]).tocsc()
        right = np.concatenate([self.force_change().reshape(-1)[rows], np.zeros(2)])
        factor = scipy.sparse.linalg.splu(matrix)
        solution = factor.solve(right)
        solution += factor.solve(right - matrix @ solution)
        whole = np.zeros(2 * self.count)
        whole[rows] = solution[:-2]
        return whole.reshape(-1, 2)

    def dense_derivative(self) -> np.ndarray:
        """The same by the pseudo-inverse of the whole matrix."""
        inverse = np.linalg.pinv(self.hessian().toarray(), rcond=1e-10, hermitian=True)
        return (inverse @ self.force_change().reshape(-1)).reshape(-1, 2)


def relative_error(found: np.ndarray, reference: np.ndarray, kept: np.ndarray) -> float:
    """|found - reference| / |reference| of discs that are not loose, without translations."""

    def still(vectors: Any) -> np.ndarray:
        moving = np.asarray(vectors)[kept]
        return moving - moving.mean(axis=0)

    true = still(reference)
    return float(np.linalg.norm(still(found) - true) / np.linalg.norm(true))
