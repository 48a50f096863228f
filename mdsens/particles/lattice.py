"""Lattices of one, two or three periodic directions, in cells that may lack the other vectors."""

import ase.geometry
import numpy as np
from jaxtyping import Float


def completed_cell(
    cell: Float[np.ndarray, "D D"], pbc: tuple[bool, ...]
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


def heights(cell: Float[np.ndarray, "D D"], pbc: tuple[bool, ...]) -> Float[np.ndarray, " n"]:
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
