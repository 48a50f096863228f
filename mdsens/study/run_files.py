"""What a run and its report share: names of files, and how its structures are read."""

from pathlib import Path

import ase
import ase.io

STRUCTURE_NAME, TABLE_NAME, HISTORY_NAME = "relaxed.extxyz", "sensitivities.csv", "history.csv"
ENSEMBLE_NAME = "ensemble.npz"
#: A distance below which the unrolled derivative counts as arrived.
ARRIVED = 0.01


def of_structure(file: str, structure: str) -> str:
    """The name of a file of one structure.

    Arguments:
        file: its name in a study of one structure, e.g. ``"relaxed.extxyz"``.
        structure: name of the structure; empty in such a study.

    Returns:
        E.g. ``"relaxed-bulk.extxyz"``.
    """
    stem, dot, ending = file.partition(".")
    return f"{stem}-{structure}{dot}{ending}" if structure else file


def read_atoms(path: Path) -> ase.Atoms:
    """The relaxed structure of a run, as it was written.

    Arguments:
        path: a relaxed.extxyz.

    Returns:
        ase.Atoms with the vectors.
    """
    # As a list of one: a path ending in @ and a number would mean another file.
    with path.open(encoding="utf-8") as file:
        (atoms,) = ase.io.read(file, index=":", format="extxyz")
    return atoms
