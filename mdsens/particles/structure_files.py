"""Structures from files, by ASE's readers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import ase
import ase.io

from mdsens.errors import InputError
from mdsens.particles.frames import require_whole_frames
from mdsens.values import integer, shown

if TYPE_CHECKING:
    from mdsens.particles.system import System


def read(path: str | Path, dimension: int = 3, units: str = "ase", index: int = -1) -> "System":
    """Read a structure file.

    Arguments:
        path: any file that ``ase.io.read`` reads.
        dimension: 3, or 2 for the xy plane.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.
        index: which structure of the file; the last by default.

    Returns:
        The System.

    Raises:
        InputError: the file is missing or cannot be read as a structure.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.particles.system import System

    return System.from_ase(read_atoms(path, index), dimension, units)


def read_atoms(path: str | Path, index: int = -1) -> ase.Atoms:
    """Read a structure file as `read` does, for ASE.

    Arguments:
        path: any file that ``ase.io.read`` reads.
        index: which structure of the file; the last by default.

    Returns:
        The ase.Atoms.

    Raises:
        InputError: the file is missing or cannot be read as a structure.
    """
    integer(index, "index")
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path = {shown(path)}: give the path of a structure file")
    try:
        found = Path(path).is_file()
    except (OSError, ValueError):
        found = False
    if not found:
        raise InputError(f"structure file {shown(str(path))} does not exist: give a file's path")
    require_assertions()
    require_whole_frames(Path(path))
    try:
        # Never what ASE reads out of a name: an index after "@", or standard input from "-".
        atoms = ase.io.read(Path(path).absolute(), index=index, do_not_split_by_at_sign=True)
    except Exception as error:
        # ASE looks for a structure that is not there until there are no more.
        gone = isinstance(error, StopIteration)
        why = f"there is no structure index = {index}" if gone else " ".join(str(error).split())
        raise InputError(
            f"structure file {shown(str(path))} cannot be read: {why or type(error).__name__}"
        ) from error
    if not isinstance(atoms, ase.Atoms):
        raise InputError(f"structure file {shown(str(path))} holds no structure of atoms")
    return atoms


def require_assertions() -> None:
    """Raise InputError where Python leaves assertions out.

    ASE reads and checks structure files in assertions: without them, its reader of XYZ takes each
    comment for an atom, and others take whatever they find.
    """
    if not __debug__:
        raise InputError(
            "ASE reads no structure files where Python leaves assertions out: run it without -O "
            "and without PYTHONOPTIMIZE"
        )
