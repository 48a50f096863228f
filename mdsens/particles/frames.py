"""Files of frames: whether one that is said to hold so many atoms has a line for each."""

from collections.abc import Iterator
from pathlib import Path

from mdsens.errors import InputError
from mdsens.values import shown

#: Endings of files whose frames begin with the number of their atoms.
COUNTED = (".xyz", ".extxyz")


def require_whole_frames(path: Path) -> None:
    """See that every frame of an xyz file has as many lines as it says.

    Who reads such a file line by line waits for a thousand million lines at its end, where its
    first line says so.

    Arguments:
        path: a structure file of any kind.

    Raises:
        InputError: a frame has fewer lines than atoms.
    """
    if path.suffix.lower() not in COUNTED:
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            _walk(file, str(path))
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"structure file {shown(str(path))} cannot be read: {why}") from None


def _walk(lines: Iterator[str], name: str) -> None:
    for line in lines:
        try:
            count = int(line)
        except ValueError:
            # No frame begins here: vectors of a cell, or what its reader will complain of.
            continue
        next(lines, None)
        given = sum(1 for _, _ in zip(range(count), lines, strict=False))
        if given < count:
            raise InputError(
                f"structure file {shown(name)} cannot be read: a frame says {count} atoms "
                f"and has lines for {given}; give one line for each atom"
            )
