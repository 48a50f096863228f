"""Lattices of one, two or three periodic directions, in cells that may lack the other vectors."""

import math

import ase.geometry
import numpy as np
from jaxtyping import Float


def completed_cell(
    cell: Float[np.ndarray, "D D"], pbc: tuple[bool | np.bool_, ...]
) -> Float[np.ndarray, "D D"]:
    """The lattice vectors of the periodic directions, and unit vectors across them for the others.

    Whoever inverts a cell inverts this: a slab, a wire or a cluster may have zeros, or vectors that
    mean nothing, where it is not periodic.

    Arguments:
        cell: shape (D, D), lattice vectors as rows, in units of length.
        pbc: D values, whether each direction is periodic.

    Returns:
        Shape (D, D), invertible if the periodic vectors are independent.
    """
    dimension, periodic = len(cell), np.array(pbc, bool)[:, None]
    # The third direction of two dimensions lies across both.
    box = np.diag([0.0] * dimension + [1.0] * (3 - dimension))
    box[:dimension, :dimension] = np.where(periodic, cell, 0.0)
    whole = np.asarray(ase.geometry.complete_cell(box))[:dimension, :dimension]
    return np.where(periodic, cell, whole)


def heights(
    cell: Float[np.ndarray, "D D"], pbc: tuple[bool | np.bool_, ...]
) -> Float[np.ndarray, " n"]:
    """Distances between the lattice planes of the periodic directions, in units of length.

    Arguments:
        cell: shape (D, D), lattice vectors as rows, in units of length.
        pbc: D values, whether each direction is periodic.

    Returns:
        One for each of the n periodic directions; no lattice vector is shorter than all of them.
    """
    periodic = np.array(pbc, bool)
    inverse = np.linalg.inv(completed_cell(np.asarray(cell), pbc))
    return (1.0 / np.linalg.norm(inverse, axis=0))[periodic]


def expected_edges(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool | np.bool_, ...],
    reach: float,
) -> float:
    """How many edges there are if the atoms fill their region evenly, each seen from both ends.

    Arguments:
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        reach: length of the longest edge.

    Returns:
        The number, by the volume that edges reach; too few where atoms are crowded together.
    """
    periodic = np.array(pbc, bool)
    whole = completed_cell(cell, pbc)
    lattice = whole[periodic]
    volume = np.sqrt(np.linalg.det(lattice @ lattice.T))
    # Across the lattice the region reaches as far as there are atoms.
    extents = np.ptp(positions @ whole[~periodic].T, axis=0)
    extents = extents[extents > 0.0]
    with np.errstate(over="ignore"):
        beside = _ball(len(lattice), reach) / volume * np.prod(np.minimum(2 * reach / extents, 1.0))
        around = _ball(len(lattice) + len(extents), reach) / (volume * np.prod(extents))
    return float(len(positions) ** 2 * min(beside, around))


def _ball(dimension: int, radius: float) -> np.float64:
    """The volume of a ball in 0 to 3 dimensions."""
    return np.float64((1.0, 2.0, math.pi, 4.0 / 3.0 * math.pi)[dimension]) * np.power(
        np.float64(radius), dimension
    )
