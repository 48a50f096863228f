"""How forces and energy change with any strain: from the blocks of the Hessian, in one pass.

A strain S changes every difference R of two positions to R + R S. As a translation costs nothing,
the forces that it makes follow from the Hessian's blocks H_ij and from R_ij = x_j - x_i, for every
potential along edges alike:

    d2E / dx_ia dS_bc = sum_j H_ij,ac R_ij,b

So does the energy, as a rotation costs nothing either (M. Born, K. Huang, Dynamical Theory of
Crystal Lattices (1954), section 27, in which S makes waves of great length):

    A_ac,bd = -1/2 sum_ij R_ij,a R_ij,c H_ij,bd - delta_bd V_ac
    d2E / dS_ab dS_cd = A_ac,bd + A_ad,bc - A_ab,cd + delta_bd V_ac

with the virial V = dE/dS. This asks for one R for each block: no atom may feel two images of
another.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.sparse_plus_low_rank import SparsePlusLowRank, SymmetricMatrix, blocks_of
from mdsens.particles.lattice import completed_cell, heights
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Rows of blocks that are taken at a time: what comes of them stays near the processor.
TOGETHER = 64


class StrainDerivatives(NamedTuple):
    """Derivatives of the energy in a strain S, in which all edges R become R + R S.

    Attributes:
        forces: -dE / dx, shape (N, D), energy/length.
        virial: V = dE / dS, shape (D, D), energy.
        of_positions: d2E / dx_ia dS_bc, shape (N, D, D, D), energy/length.
        of_strain: d2E / dS_ab dS_cd, shape (D, D, D, D), energy.
    """

    forces: Float[np.ndarray, "N D"]
    virial: Float[np.ndarray, "D D"]
    of_positions: Float[np.ndarray, "N D D D"]
    of_strain: Float[np.ndarray, "D D D D"]


def has_one_image_each(system: System, potential: Potential, reach: float) -> bool:
    """Whether no block of a Hessian is that of several images of an atom.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        reach: length of the longest edge in the list of edges.

    Returns:
        False where it is not known.
    """
    if potential.of_structure or potential.made_by_calls or not potential.invariant:
        return False
    # Neighbours of one atom are coupled, unless there are pairs alone; densities around embedded
    # atoms, which would couple them, stay apart from the blocks.
    near = potential.pairwise or potential.embedded
    least = heights(np.asarray(system.cell), system.pbc).min(initial=np.inf)
    return bool(least > (2.0 if near else 4.0) * reach)


def strain_derivatives(
    matrix: SymmetricMatrix,
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool | np.bool_, ...],
    forces: Float[np.ndarray, "N D"],
    virial: Float[np.ndarray, "D D"],
) -> StrainDerivatives:
    """Second derivatives of the energy in a strain and the positions, and in strains alone.

    Arguments:
        matrix: the Hessian of the positions, shape (N D, N D), energy/length^2, of atoms that are
            all free, where `has_one_image_each`.
        positions: shape (N, D), length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: whether each direction is periodic.
        forces: at these positions, shape (N, D), energy/length.
        virial: there, shape (D, D), energy.

    Returns:
        The StrainDerivatives.
    """
    count, dimension = positions.shape
    whole = completed_cell(cell, pbc)
    given = positions @ np.linalg.inv(whole), whole, np.array(pbc, float)
    if isinstance(matrix, HalfStored):
        mixed, waves = matrix.strain_sums(*given)
    else:
        mixed, waves = _sums(blocks_of(matrix), *given)
    of_positions = mixed.reshape(count, *3 * (dimension,)).transpose(0, 1, 3, 2)
    turned = np.einsum("bd,ac->acbd", np.eye(dimension), (virial + virial.T) / 2)
    embedded = np.zeros(4 * (dimension,))
    if isinstance(matrix, SparsePlusLowRank):
        # Of each density rho_k, d rho_k / dS_bc = sum_j g_kj,c R_kj,b.
        change = np.empty((len(matrix.weights), dimension, dimension))
        for rows in _some_rows(matrix.gradients, *given):
            change[rows.rows] = rows.sums().transpose(0, 2, 1)
        weighted = matrix.weights[:, None, None] * change
        pushed = matrix.gradients.T @ weighted.reshape(len(weighted), -1)
        of_positions = of_positions + pushed.reshape(of_positions.shape)
        embedded = np.tensordot(weighted, change, (0, 0))
    a = waves.reshape(turned.shape) - turned
    of_strain = np.einsum("acbd->abcd", a) + np.einsum("adbc->abcd", a) - a
    of_strain += np.einsum("acbd->abcd", turned) + embedded
    return StrainDerivatives(forces, virial, np.ascontiguousarray(of_positions), of_strain)


def _sums(
    blocks: scipy.sparse.bsr_array,
    fractional: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    periodic: Float[np.ndarray, " D"],
) -> tuple[Float[np.ndarray, "N DD D"], Float[np.ndarray, "DD DD"]]:
    """sum_j H_ij,ac R_ij,b at [i, (a, c), b], and -1/2 sum_ij R_ij,a R_ij,c H_ij,bd."""
    count, dimension = fractional.shape
    mixed = np.empty((count, dimension**2, dimension))
    # Of a and c, which are alike, only the pairs that differ are summed.
    first, second = np.triu_indices(dimension)
    upper, waves = first * dimension + second, np.zeros((dimension**2, dimension**2))
    for rows in _some_rows(blocks, fractional, cell, periodic):
        mixed[rows.rows] = rows.sums()
        products = rows.moved[..., first] * rows.moved[..., second]
        waves[upper] -= 0.5 * (products.transpose(0, 2, 1) @ rows.entries).sum(axis=0)
    waves[second * dimension + first] = waves[upper]
    return mixed, waves


class _Rows(NamedTuple):
    """Some rows of blocks: which, the entries of k blocks in each, and R of each block.

    Where a row has fewer blocks, zeros fill it up: small products of equal size take a quarter of
    the time of sparse ones.
    """

    rows: slice
    entries: Float[np.ndarray, "r k e"]
    moved: Float[np.ndarray, "r k D"]

    def sums(self) -> Float[np.ndarray, "r e D"]:
        """The sum over the blocks of each row of the products of its entries with R."""
        return self.entries.transpose(0, 2, 1) @ self.moved


def _some_rows(
    blocks: scipy.sparse.bsr_array,
    fractional: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    periodic: Float[np.ndarray, " D"],
) -> Iterator[_Rows]:
    """All rows of blocks, some at a time."""
    for first in range(0, len(blocks.indptr) - 1, TOGETHER):
        starts = blocks.indptr[first : first + TOGETHER + 1]
        rows = slice(first, first + len(starts) - 1)
        moved = fractional.take(blocks.indices[starts[0] : starts[-1]], axis=0)
        moved -= np.repeat(fractional[rows], np.diff(starts), axis=0)
        images = np.rint(moved)
        images *= periodic
        moved -= images
        moved = moved @ cell
        entries = blocks.data[starts[0] : starts[-1]].reshape(len(moved), -1)
        yield _Rows(rows, *_filled_up(np.diff(starts), entries, moved))


def _filled_up(
    counts: Int[np.ndarray, " r"], *arrays: Float[np.ndarray, "b _"]
) -> list[Float[np.ndarray, "r k _"]]:
    """Arrays of what rows have, one row after another, as one of rows of equal length."""
    most = int(counts.max(initial=0))
    if (counts == most).all():
        return [array.reshape(len(counts), most, -1) for array in arrays]
    filled = [np.zeros((len(counts), most, array.shape[1])) for array in arrays]
    places = np.flatnonzero(np.arange(most) < counts[:, None])
    for one, array in zip(filled, arrays, strict=True):
        one.reshape(len(counts) * most, -1)[places] = array
    return filled
