"""Force constants as phonopy takes and gives them."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes, replacing
from mdsens.mechanics import sparse_hessian
from mdsens.relaxation import Equilibrium
from mdsens.values import instance, shown

#: The most bytes that a file of force constants may have: those of ten thousand atoms.
LARGEST_FILE = 10**10


def force_constants(equilibrium: Equilibrium) -> Float[np.ndarray, "N N 3 3"]:
    """The second derivatives d2E / dx_i dx_j of the energy at a relaxed structure.

    All atoms are free in them: fixed ones, and rattlers, have the second derivatives that they have
    if they move, so that the sum over j vanishes for every atom i (the acoustic sum rule). Each
    atom is coupled to all images of another together, as in a supercell of phonopy, whose order of
    atoms is that of the structure.

    Arguments:
        equilibrium: the relaxed structure, N atoms, in two dimensions in the xy plane.

    Returns:
        Shape (N, N, 3, 3), energy/length^2: eV/Angstrom^2, not divided by masses; zero along z in
        two dimensions.

    Raises:
        InputError: no Equilibrium.
    """
    instance(equilibrium, "equilibrium", Equilibrium, "what mdsens.relax returns")
    system = equilibrium.system
    count, dimension = system.positions.shape
    hessian = sparse_hessian(system, equilibrium.potential, equilibrium.edge_list).toarray()
    blocks = hessian.reshape(count, dimension, count, dimension).transpose(0, 2, 1, 3)
    constants = np.zeros((count, count, 3, 3))
    constants[:, :, :dimension, :dimension] = (blocks + blocks.transpose(1, 0, 3, 2)) / 2
    return constants


def write_force_constants(path: str | Path, equilibrium: Equilibrium) -> None:
    """Write the force constants of a relaxed structure as a file FORCE_CONSTANTS of phonopy.

    A line has the number of atoms, twice; then each pair has a line with its two numbers from 1 on,
    and three with the rows of its matrix.

    Arguments:
        path: the file; one that is there is replaced.
        equilibrium: the relaxed structure of the supercell, its atoms in the order of phonopy.

    Raises:
        InputError: no Equilibrium, or a path that cannot be written.
    """
    constants = force_constants(equilibrium)
    count = len(constants)
    # So many digits that reading gives the same numbers.
    pair = "%d %d\n" + ("%24.16e" * 3 + "\n") * 3
    with replacing(path_of(path, "path")) as file:
        file.write(f"{count} {count}\n".encode())
        for first, row in enumerate(constants, start=1):
            numbers = (
                value
                for second, matrix in enumerate(row, start=1)
                for value in (first, second, *matrix.ravel().tolist())
            )
            file.write((pair * count % tuple(numbers)).encode())


def read_force_constants(path: str | Path) -> Float[np.ndarray, "P N 3 3"]:
    """Read a file FORCE_CONSTANTS of phonopy.

    Arguments:
        path: the file, for all pairs of atoms, or in phonopy's compact form.

    Returns:
        Shape (P, N, 3, 3), in the file's units; P is N, or the number of atoms of the primitive
        cell in the compact form.

    Raises:
        InputError: the file cannot be read, or is none of force constants.
    """
    file = path_of(path, "path")
    content = read_bytes(file, LARGEST_FILE)
    try:
        first, *rest = content.decode().splitlines()
        sizes = [int(word) for word in first.split()]
        # One number where both are the same.
        rows, columns = sizes if len(sizes) == 2 else 2 * sizes
        table = np.array(" ".join(rest).split(), float).reshape(rows, columns, 11)
    except ValueError:
        rows, columns, table = 0, 0, np.zeros((0, 0, 11))
    seconds = np.arange(1, columns + 1)
    good = min(rows, columns) > 0 and bool(np.all(table[:, :, 1] == seconds))
    if not good or not np.isfinite(table).all():
        raise InputError(
            f"{shown(str(file))} is no file of force constants: give two numbers of atoms, and for "
            "each pair in turn a line with its two numbers and three lines of three"
        )
    return table[:, :, 2:].reshape(rows, columns, 3, 3)
