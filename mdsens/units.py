"""Units: ASE's (eV, Angstrom) for materials, reduced ones for model systems.

A physical dimension is written as powers of energy and length, e.g. ``"energy/length^2"``, or of
volume, which is an area in two dimensions, e.g. ``"energy/volume"``. What has a unit of its own has
a name of its own, e.g. ``"modulus"``, an energy per volume that everybody knows in GPa.

A parameter of which nobody has said what it measures has the dimension ``"unknown"``.

The unit of mass is that of atomic masses (u), or 1 in reduced units; temperatures there are k_B T.
"""

import math
import re
from typing import Any, NamedTuple

import ase.units

from mdsens.errors import InputError
from mdsens.values import choice, real, shown

#: Systems of units and the names of their base units.
UNIT_SYSTEMS = {"ase": {"energy": "eV", "length": "Ang"}, "reduced": {}}


class OwnUnit(NamedTuple):
    """A dimension that is not shown in powers of eV and Ang.

    Attributes:
        dimension: the same in powers of energy and length.
        name: what its unit is called beside ASE's units.
        size: that unit in ASE's units.
    """

    dimension: str
    name: str
    size: float


#: Dimensions with a unit of their own; in reduced units they are as good as their powers.
OWN_UNITS = {
    "modulus": OwnUnit("energy/length^3", "GPa", ase.units.GPa),
    "planar modulus": OwnUnit("energy/length^2", "N/m", ase.units.J / ase.units.m**2),
    # It takes a mass too: an energy of 1 eV and a length of 1 Ang move one u in 98 THz.
    "frequency": OwnUnit("1", "THz", 1e12 / ase.units.second),
    "density of states": OwnUnit("1", "1/THz", 1e-12 * ase.units.second),
    # A number of k_B.
    "entropy": OwnUnit("1", "eV/K", 1.0 / ase.units.kB),
    # Relative, as k T rises by 1 eV.
    "inverse temperature": OwnUnit("1", "1/K", 1.0 / ase.units.kB),
}
#: What is said of the dimension, and of the unit, of a number of which nobody has said it.
UNKNOWN = "unknown"
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
    "energy/length^2": {
        "eV/Ang^2": 1.0,
        "meV/Ang^2": 1e-3,
        "J/m^2": ase.units.J / ase.units.m**2,
        "N/m": ase.units.J / ase.units.m**2,
    },
    "length^2": {f"{name}^2": factor**2 for name, factor in _LENGTHS.items()},
    "length^3": {f"{name}^3": factor**3 for name, factor in _LENGTHS.items()},
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
#: LAMMPS's styles of units: its energy, its length, and its pressure, which is no power of these in
#: most of them; in ASE's units (https://docs.lammps.org/units.html).
LAMMPS_UNITS = {
    style: {"energy": energy, "length": length, "modulus": pressure * ase.units.Pascal}
    for style, energy, length, pressure in (
        ("metal", 1.0, 1.0, 1e5),
        ("real", ase.units.kcal / ase.units.mol, 1.0, 101325.0),
        ("electron", ase.units.Hartree, ase.units.Bohr, 1.0),
        ("si", ase.units.J, ase.units.m, 1.0),
        ("cgs", 1e-7 * ase.units.J, 1e-2 * ase.units.m, 0.1),
        ("micro", 1e-15 * ase.units.J, 1e-6 * ase.units.m, 1e3),
        ("nano", 1e-21 * ase.units.J, ase.units.nm, 1e6),
    )
}
#: A number as it may stand before a unit: the digits 0 to 9 and no others.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
#: One factor of a physical dimension.
_FACTOR = re.compile(r"(energy|length|volume)(?:\^([1-9]))?")


def powers(dimension: str, spatial: int = 3) -> dict[str, int]:
    """The powers of energy and length in a physical dimension.

    Arguments:
        dimension: e.g. ``"energy/volume"`` or ``"modulus"``; ``"1"`` and ``"angle"`` have none.
        spatial: number of spatial dimensions, for what a volume is.

    Returns:
        E.g. ``{"energy": 1, "length": -3}``.

    Raises:
        InputError: it is none.
    """
    found = {"energy": 0, "length": 0}
    if dimension == "angle":
        return found
    if own := OWN_UNITS.get(_in_space(dimension, spatial)):
        return powers(own.dimension)
    refused = InputError(
        f"dimension = {shown(dimension)}: give powers of energy, length and volume such as "
        f"'energy/length' or 'length^2', {', '.join(map(repr, OWN_UNITS))}, 'angle', or '1' for a "
        "pure number"
    )
    if not isinstance(dimension, str):
        raise refused
    sign = 1
    for place, part in enumerate(re.split(r"([*/])", dimension)):
        if place % 2:
            sign = 1 if part == "*" else -1
        elif factor := _FACTOR.fullmatch(part):
            base, power = factor.group(1), sign * int(factor.group(2) or 1)
            if base == "volume":
                base, power = "length", spatial * power
            found[base] += power
        elif part != "1" or place:
            raise refused
    return found


def dimension_of(energy: int, length: int) -> str:
    """A physical dimension from its powers: what `powers` reads again.

    Arguments:
        energy: power of energy.
        length: power of length.

    Returns:
        E.g. ``"energy/length^2"``; ``"1"`` where both are zero.
    """

    def factors(sign: int) -> list[str]:
        given = {"energy": sign * energy, "length": sign * length}
        return [f"{b}^{power}" if power > 1 else b for b, power in given.items() if power > 0]

    return "/".join(["*".join(factors(1)) or "1", *factors(-1)])


def in_dimensions(dimension: str, spatial: int) -> str:
    """A physical dimension in powers of energy and length, for two or three spatial dimensions.

    Arguments:
        dimension: e.g. ``"energy/volume"``.
        spatial: number of spatial dimensions, 2 or 3.

    Returns:
        E.g. ``"energy/length^2"``.

    Raises:
        InputError: it is no physical dimension.
    """
    powers(dimension, spatial)
    if dimension in OWN_UNITS:
        return _in_space(dimension, spatial)

    def length(found: re.Match[str]) -> str:
        return f"length^{spatial * int(found.group(1) or 1)}"

    return re.sub(r"volume(?:\^([1-9]))?", length, dimension)


def _in_space(dimension: Any, spatial: int) -> Any:
    """What a dimension with a unit of its own is called in two or three spatial dimensions."""
    return "planar modulus" if dimension == "modulus" and spatial == 2 else dimension


def size_of_unit(dimension: str, units: str = "ase") -> float:
    """How much one unit of a dimension is in powers of the base units.

    Arguments:
        dimension: e.g. ``"modulus"``, of three dimensions, or ``"energy/length"``.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        E.g. 0.00624 eV/Ang^3 for a GPa; 1 for what is shown in the base units, and in reduced ones.
    """
    check_unit_system(units)
    own = OWN_UNITS.get(dimension)
    return 1.0 if own is None or units == "reduced" else own.size


def unit_name(dimension: str, units: str = "ase") -> str:
    """Name the unit of a physical dimension in a system of units.

    Arguments:
        dimension: e.g. ``"energy/length"``, or ``"1"``; a volume is that of three dimensions.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        E.g. ``"eV/Ang^3"``; ``"1"`` for pure numbers; ``"reduced"`` in reduced units; ``"unknown
        unit"`` where nobody has said what is measured.
    """
    check_unit_system(units)
    if dimension in ("1", "angle"):
        return "1" if dimension == "1" else "degree"
    if dimension == UNKNOWN:
        return "unknown unit"
    if units == "reduced":
        return "reduced"
    if dimension in OWN_UNITS:
        return OWN_UNITS[dimension].name
    return in_dimensions(dimension, 3).replace("energy", "eV").replace("length", "Ang")


def quotient_unit_name(numerator: str, denominator: str, units: str = "ase") -> str:
    """Name the unit of a derivative, d numerator / d denominator.

    Arguments:
        numerator: physical dimension of what is differentiated.
        denominator: physical dimension of the parameter.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        E.g. ``"Ang^3/eV"``, ``"(eV/Ang^3)/Ang"`` where one of the two is compound, or ``"eV Ang"``
        where the parameter is an inverse length.
    """
    above, below = unit_name(numerator, units), unit_name(denominator, units)
    if units == "reduced":
        return "reduced"
    if above == below:
        return "1"
    if below == "1":
        return above
    if below.startswith("1/"):
        inverse = below.removeprefix("1/")
        if power := re.fullmatch(rf"{inverse}(?:\^(\d+))?", above):
            return f"{inverse}^{int(power.group(1) or 1) + 1}"
        if above == "1":
            return inverse
        return f"({above}) {inverse}" if "/" in above else f"{above} {inverse}"
    compound = "(" + below + ")" if "/" in below or " " in below else below
    return f"({above})/{compound}" if "/" in above else f"{above}/{compound}"


def pretty_unit(unit: str) -> str:
    """A unit as it is printed in figures and reports.

    Arguments:
        unit: e.g. ``"eV/Ang^3"``, ``"reduced"`` or ``"1"``.

    Returns:
        E.g. ``"eV/Å³"``, ``"reduced units"``, or an empty string for pure numbers.
    """
    if unit == "1":
        return ""
    if unit == "reduced":
        return "reduced units"
    unit = unit.replace("Ang", "Å").replace("degree", "°")
    return re.sub(r"\^(\d)", lambda found: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(found[1])], unit)


def to_ase_units(value: Any, dimension: str, what: str) -> float:
    """Read a value such as ``3.405`` or ``"0.3405 nm"``.

    Arguments:
        value: a number, taken in the study's own units, or a number and a unit in one string.
        dimension: the physical dimension that is expected.
        what: the name of the value, for the error message.

    Returns:
        The number in ASE's units.

    Raises:
        InputError: the unit does not measure that dimension, or there is no finite number.
    """
    if not isinstance(value, str):
        return real(value, what)
    number, unit = (*value.split(maxsplit=1), "", "")[:2]
    unit = unit.strip()
    allowed = ACCEPTED_UNITS.get(dimension, {unit_name(dimension): 1.0})
    if not _NUMBER.fullmatch(number):
        raise InputError(
            f"{what} = {shown(value)}: not a number; give one, or a number and a unit of "
            f"{_listing(allowed)}"
        )
    if unit and unit not in allowed:
        raise InputError(
            f"{what} = {shown(value)}: {shown(unit)} is no unit of {dimension}; allowed: "
            f"{_listing(allowed)}"
        )
    amount = float(number) * (allowed[unit] if unit else 1.0)
    if not math.isfinite(amount):
        raise InputError(f"{what} = {shown(value)}: give a finite number")
    return amount


def size_of_lammps_unit(
    dimension: str, style: str, energy: float | None = None, length: float | None = None
) -> float:
    """How much one unit of a dimension is, in a style of LAMMPS's, in the unit shown here.

    Arguments:
        dimension: in powers of energy and length, as ``"energy/length"`` for a force, or
            ``"modulus"`` for a pressure, shown in GPa.
        style: ``"metal"``, ``"real"``, ``"electron"``, ``"si"``, ``"cgs"``, ``"micro"``,
            ``"nano"``, or ``"lj"``.
        energy: epsilon of the style ``"lj"``, eV; its units have no size of their own.
        length: its sigma, Angstrom.

    Returns:
        E.g. 0.04336 eV for the energy of ``"real"``, the kcal/mol.

    Raises:
        InputError: an unknown style, ``"lj"`` without the two, they for another, or a dimension
            that LAMMPS has other units of.
    """
    choice(style, "style", (*LAMMPS_UNITS, "lj"))
    if (style == "lj") != (energy is not None) or (energy is None) != (length is None):
        raise InputError(
            f"style = {shown(style)} with energy = {shown(energy)} and length = {shown(length)}: "
            "'lj' has the units epsilon and sigma, which are energy (eV) and length (Ang), and no "
            "other style has them"
        )
    if energy is not None and length is not None:
        base = {"energy": real(energy, "energy", above=0.0)}
        base["length"] = real(length, "length", above=0.0)
        base["modulus"] = base["energy"] / base["length"] ** 3
    else:
        base = LAMMPS_UNITS[style]
    own = OWN_UNITS.get(dimension)
    if dimension == "modulus":
        return base["modulus"] / OWN_UNITS["modulus"].size
    if own is not None or dimension == "angle":
        raise InputError(
            f"dimension = {shown(dimension)}: give powers of energy and length, or 'modulus' for a "
            "pressure"
        )
    power = powers(dimension)
    return float(base["energy"] ** power["energy"] * base["length"] ** power["length"])


def check_unit_system(units: Any) -> None:
    """Raise InputError unless ``units`` names a known system of units."""
    choice(units, "units", UNIT_SYSTEMS)


def _listing(names: dict[str, Any]) -> str:
    return ", ".join(names) if names else "a pure number"
