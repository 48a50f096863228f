"""The first line of a potential file of LAMMPS: what it says of itself."""

import re

from mdsens.errors import InputError
from mdsens.values import shown

#: What the first line may hold, each before a colon.
KEYS = ("DATE", "UNITS", "CONTRIBUTOR", "CITATION")
_PART = re.compile(rf"\b({'|'.join(KEYS)}):\s*(.*?)\s*(?=$|\b(?:{'|'.join(KEYS)}):)")

#: Pairs of a key and its text.
Header = tuple[tuple[str, str], ...]


def read_header(line: str, name: str) -> Header:
    """What the first line of a file says of it.

    Arguments:
        line: the first line.
        name: of the file, for the message.

    Returns:
        Pairs such as ``("DATE", "2007-06-11")``, in the order of the file.

    Raises:
        InputError: other units than metal: eV and Angstrom.
    """
    if not line.lstrip().startswith("#"):
        return ()
    parts = tuple((key, text.rstrip(" ,")) for key, text in _PART.findall(line))
    units = dict(parts).get("UNITS", "metal")
    if units != "metal":
        raise InputError(
            f"{name}, line 1: UNITS: {shown(units)}: allowed is metal (eV and Ang); convert the "
            "file"
        )
    return parts


def header_line(header: Header | None) -> str:
    """The first line of a file that says this of itself, and in which units it is."""
    parts = dict(header or ())
    parts.setdefault("UNITS", "metal")
    return "# " + " ".join(f"{key}: {parts[key]}" for key in KEYS if key in parts)
