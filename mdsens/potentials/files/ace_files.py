"""Files of atomic cluster expansions, by their endings: https://docs.lammps.org/pair_pace.html."""

from pathlib import Path

from mdsens.errors import InputError
from mdsens.files import replacing
from mdsens.potentials.files.ace_contents import ACEContents
from mdsens.potentials.files.ace_text import ace_text, read_ace_text
from mdsens.potentials.files.ace_yaml import ace_yaml, read_ace_yaml
from mdsens.values import shown

READERS = {".yace": read_ace_yaml, ".ace": read_ace_text}


def read_ace_file(path: Path) -> ACEContents:
    """Read a file, ``.yace`` or ``.ace``.

    Arguments:
        path: the file.

    Returns:
        What it holds.

    Raises:
        InputError: another ending, it cannot be read, or is damaged: one line that names the place.
    """
    if path.suffix not in READERS:
        raise InputError(f"path = {shown(path.name)}: allowed endings are {', '.join(READERS)}")
    return READERS[path.suffix](path)


def write_ace_file(path: Path, contents: ACEContents) -> None:
    """Write a file, ``.yace``, or ``.ace`` of a single element; one that is there is replaced.

    Arguments:
        path: the file.
        contents: what to write, every number with all its digits.

    Raises:
        InputError: another ending, what the format cannot hold, or it cannot be written.
    """
    if path.suffix not in READERS:
        raise InputError(f"cannot write {shown(path.name)}: allowed endings are "
                         f"{', '.join(READERS)}")  # fmt: skip
    write = ace_yaml
    if path.suffix == ".ace":
        bonds = list(contents.bonds.values())
        if len(bonds) > 1 or not bonds[0].fits_text:
            raise InputError(
                f"cannot write {shown(path.name)}: it holds one element, radial functions "
                "ChebPow or ChebExpCos and no inner cutoff; give a .yace"
            )
        write = ace_text
    with replacing(path) as file:
        for line in write(contents):
            file.write(f"{line}\n".encode())
