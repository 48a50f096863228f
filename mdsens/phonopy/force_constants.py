"""Force constants as phonopy takes and gives them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes, replacing
from mdsens.mechanics import sparse_hessian
from mdsens.mechanics.dynamical_matrix import require_known_waves, wave_hessians
from mdsens.observables.supercells import checked_counts
from mdsens.observables.waves import mesh_of_wave_vectors
from mdsens.relaxation import Equilibrium
from mdsens.values import instance, shown

#: The most bytes that a file of force constants may have: those of ten thousand atoms.
LARGEST_FILE = 10**10
#: The most numbers in the force constants of a supercell: 1 GiB.
MOST_NUMBERS = 2**27


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


def force_constants_of_supercell(
    equilibrium: Equilibrium, supercell: Any
) -> Float[np.ndarray, "A B C N N 3 3"]:
    """The force constants of a supercell of a crystal, between its first cell and all of them.

    Those of the infinite crystal, of which the images of an atom that a supercell has alike are
    added up: what displacements of its atoms would give, without any. They are sums over the waves
    that fit into it.

    Arguments:
        equilibrium: the relaxed crystal, of N atoms in three dimensions, periodic in all.
        supercell: how many cells along each lattice vector: a number, or three.

    Returns:
        Shape (A, B, C, N, N, 3, 3), energy/length^2: d2E / dx_i dx_j for atom i of the first cell
        and atom j of the cell that is so many lattice vectors away.

    Raises:
        InputError: no crystal, no numbers of cells, too many of them, or an energy of the whole
            structure, which has no waves.
    """
    # Called by other functions, too, whose users do not know its name.
    what = "force constants of a supercell"
    instance(equilibrium, "equilibrium", Equilibrium, "what mdsens.relax returns")
    system, given = equilibrium.system, checked_counts(what, "supercell", supercell)
    if system.dimension != 3 or not all(system.pbc):
        raise InputError(
            f"{what} with pbc = {system.pbc}: give a crystal that is periodic in three directions"
        )
    if given is None or (isinstance(given, tuple) and len(given) != 3):
        raise InputError(
            f"{what}: supercell = {shown(supercell)}: give a whole number of cells, or three"
        )
    counts = tuple(np.broadcast_to(given, 3).tolist())
    unknowns, cells = system.positions.size, int(np.prod(counts))
    if cells * unknowns**2 > MOST_NUMBERS:
        raise InputError(
            f"{what}: {cells:,} cells of {system.atom_count:,} atoms have {cells * unknowns**2:,} "
            f"force constants, and up to {MOST_NUMBERS:,} are computed: take a smaller supercell"
        )
    vectors, weights = mesh_of_wave_vectors(counts)
    require_known_waves(equilibrium.potential, vectors)
    hessians = wave_hessians(
        system, equilibrium.potential, equilibrium.edge_list, on_device(vectors)
    )
    images = np.array(list(itertools.product(*map(range, counts))))
    factors = weights * np.exp(-2j * np.pi * images @ vectors.T)
    found = np.real(np.tensordot(factors, np.asarray(hessians), 1))
    count = system.atom_count
    return found.reshape(*counts, count, 3, count, 3).transpose(0, 1, 2, 3, 5, 4, 6)


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
