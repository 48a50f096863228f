"""The first line of a potential file of LAMMPS: what it says of itself."""

import re

from mdsens.errors import InputError
from mdsens.units import LAMMPS_UNITS
from mdsens.values import nearest, shown

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
        InputError: units that are none of LAMMPS's, or have no size of their own.
    """
    if not line.lstrip().startswith("#"):
        return ()
    parts = tuple((key, text.rstrip(" ,")) for key, text in _PART.findall(line))
    checked_units(dict(parts).get("UNITS", "metal"), f"{name}, line 1: ")
    return parts


def checked_units(units: str, where: str) -> str:
    """The style of units that a file is in.

    Arguments:
        units: what it says.
        where: the place in it, for the message.

    Raises:
        InputError: units that are none of LAMMPS's, or have no size of their own.
    """
    if units not in LAMMPS_UNITS:
        hint = "multiply by the epsilon and sigma that are meant, and say metal"
        raise InputError(
            f"{where}UNITS: {shown(units)}: allowed are {', '.join(LAMMPS_UNITS)}"
            + (f"; {hint}" if units == "lj" else nearest(units, LAMMPS_UNITS))
        )
    return units


def in_metal_units(header: Header) -> Header:
    """What a file would say of itself with its numbers in eV and Angstrom."""
    return tuple((key, "metal" if key == "UNITS" else text) for key, text in header)


def header_line(header: Header | None) -> str:
    """The first line of a file that says this of itself, and in which units it is."""
    parts = dict(header or ())
    parts.setdefault("UNITS", "metal")
    return "# " + " ".join(f"{key}: {parts[key]}" for key in KEYS if key in parts)
