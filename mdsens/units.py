"""Units: ASE's (eV, Angstrom) for materials, reduced ones for model systems.

A physical dimension is written as powers of energy and length, e.g. ``"energy/length^3"``.
"""

import ase.units

from mdsens.errors import InputError
from mdsens.values import choice

#: Systems of units and the names of their base units.
UNIT_SYSTEMS = {"ase": {"energy": "eV", "length": "Ang"}, "reduced": {}}

_LENGTHS = {"Ang": 1.0, "Angstrom": 1.0, "nm": ase.units.nm, "pm": 1e-2, "Bohr": ase.units.Bohr}
_ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kJ/mol": ase.units.kJ / ase.units.mol,
    "kcal/mol": ase.units.kcal / ase.units.mol,
    "K": ase.units.kB,
    "Ha": ase.units.Hartree,
    "Ry": ase.units.Rydberg,
}
#: Units that a study may give a value in, by physical dimension, as factors to ASE's units.
ACCEPTED_UNITS = {
    "length": _LENGTHS,
    "energy": _ENERGIES,
    "1/length": {f"1/{name}": 1.0 / factor for name, factor in _LENGTHS.items()},
    "energy/length": {"eV/Ang": 1.0, "meV/Ang": 1e-3, "eV/nm": 1.0 / ase.units.nm},
    "energy/length^2": {"eV/Ang^2": 1.0},
    "energy/length^3": {
        "eV/Ang^3": 1.0,
        "GPa": ase.units.GPa,
        "MPa": ase.units.GPa * 1e-3,
        "bar": ase.units.bar,
        "kbar": ase.units.bar * 1e3,
        "Pa": ase.units.Pascal,
    },
    "angle": {"degree": 1.0},
    "1": {},
}


def unit_name(dimension: str, units: str = "ase") -> str:
    """Name the unit of a physical dimension in a system of units.

    Arguments:
        dimension: powers of energy and length such as ``"energy/length^3"``, or ``"1"``.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        E.g. ``"eV/Ang^3"``; ``"1"`` for pure numbers; ``"reduced"`` in reduced units.
    """
    check_unit_system(units)
    if dimension in ("1", "angle"):
        return "1" if dimension == "1" else "degree"
    if units == "reduced":
        return "reduced"
    return dimension.replace("energy", "eV").replace("length", "Ang")


def quotient_unit_name(numerator: str, denominator: str, units: str = "ase") -> str:
    """Name the unit of a derivative, d numerator / d denominator.

    Arguments:
        numerator: physical dimension of what is differentiated.
        denominator: physical dimension of the parameter.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        E.g. ``"Ang^3/eV"``, or ``"(eV/Ang^3)/(Ang)"`` where one of the two is compound.
    """
    above, below = unit_name(numerator, units), unit_name(denominator, units)
    if units == "reduced":
        return "reduced"
    if above == below:
        return "1"
    if below == "1":
        return above
    compound = "(" + below + ")" if "/" in below or " " in below else below
    return f"({above})/{compound}" if "/" in above else f"{above}/{compound}"


def to_ase_units(value: float | str, dimension: str, what: str) -> float:
    """Read a value such as ``3.405`` or ``"0.3405 nm"``.

    Arguments:
        value: a number, taken in the study's own units, or a number and a unit in one string.
        dimension: the physical dimension that is expected.
        what: the name of the value, for the error message.

    Returns:
        The number in ASE's units.

    Raises:
        InputError: the unit does not measure that dimension, or the text is no number.
    """
    if not isinstance(value, str):
        return float(value)
    number, _, unit = value.strip().partition(" ")
    allowed = ACCEPTED_UNITS.get(dimension, {unit_name(dimension): 1.0})
    unit = unit.strip()
    try:
        amount = float(number)
    except ValueError:
        raise InputError(
            f"{what} = {value!r}: not a number; give one, or a number and a unit of "
            f"{_listing(allowed)}"
        ) from None
    if not unit:
        return amount
    if unit not in allowed:
        raise InputError(
            f"{what} = {value!r}: {unit!r} is no unit of {dimension}; allowed: {_listing(allowed)}"
        )
    return amount * allowed[unit]


def check_unit_system(units: str) -> None:
    """Raise InputError unless ``units`` names a known system of units."""
    choice(units, "units", UNIT_SYSTEMS)


def _listing(names: dict) -> str:
    return ", ".join(names) if names else "a pure number"
