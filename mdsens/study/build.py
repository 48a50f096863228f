"""From the tables of a study to a System and a Potential."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.mechanics.constrained_motion import ConstrainedMotion
from mdsens.particles import System, random_packing
from mdsens.potentials import BY_NAME, BondedPotential, JaxMD, Potential, PotentialSum
from mdsens.potentials.cutoffs import checked_length, lengths_of_pairs, multiple_of
from mdsens.potentials.files import find_file
from mdsens.potentials.jax_md_names import KNOWN, known_as
from mdsens.potentials.known_calculators import KNOWN as KNOWN_CALCULATORS
from mdsens.potentials.named_parameters import LENGTH_FIELDS
from mdsens.potentials.tables import names_of_entries
from mdsens.study.messages import no_such_key
from mdsens.study.model import (
    LARGEST_RATTLE,
    FileStructure,
    PackingStructure,
    Rattle,
)
from mdsens.units import (
    ACCEPTED_UNITS,
    LAMMPS_UNITS,
    UNKNOWN,
    size_of_lammps_unit,
    to_ase_units,
)
from mdsens.values import choice, distinct_names, nearest, real, shown

#: What a study calls the sum of several potentials, which has tables of its parts, and those of
#: jax-md, which have names of their own.
SUM, JAX_MD = "sum", "jax-md"
#: What it calls a calculator of ASE, which is one of those that are known by name: none is made by
#: code that a study brings along.
CALCULATOR = "calculator"
TYPES = (*BY_NAME, SUM, JAX_MD, CALCULATOR)


def quantity(value: Any, dimension: str, units: str, key: str) -> float:
    """A number of a study, in the units that mdsens computes in.

    Arguments:
        value: a number, or text with a number and a unit.
        dimension: its physical dimension, e.g. ``"length"``.
        units: ``"ase"`` or ``"reduced"``, which takes pure numbers only; or a style of LAMMPS's, as
            ``"real"``, whose units numbers are in that come without one.
        key: path of the key, for the message.

    Returns:
        The number, in ASE's units or in reduced ones.

    Raises:
        InputError: no number, or a unit that does not measure that dimension.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(f"{key} = {shown(value)}: give a number, or text with a number and a unit")
    if isinstance(value, str) and units == "reduced":
        try:
            number = float(value)
        except ValueError:
            raise InputError(
                f"{key} = {shown(value)}: a study in reduced units takes pure numbers; give one"
            ) from None
    elif isinstance(value, str):
        number = to_ase_units(value, dimension, key)
    else:
        number = value
    # Angles are in degrees everywhere, and text that has a unit is in that.
    bare = not isinstance(value, str) or len(value.split()) == 1
    if units in LAMMPS_UNITS and bare and dimension != "angle":
        number = number * size_of_lammps_unit(dimension, units)
    try:
        return real(number, key)
    except InputError:
        raise InputError(f"{key} = {shown(value)}: give a finite number") from None


def structure_file(
    structure: FileStructure | PackingStructure, folder: Path, key: str = "structure"
) -> Path | None:
    """The file that a study's structure is read from.

    Arguments:
        structure: its table.
        folder: the study's folder, from which a file's path is taken.
        key: path of its table in the study.

    Returns:
        Its path; None where the structure is built.

    Raises:
        InputError: there is no such file.
    """
    if not isinstance(structure, FileStructure):
        return None
    path = folder / path_of(structure.file, f"{key}.file")
    if not is_file(path, f"{key}.file"):
        beside = [other.name for other in folder.iterdir() if other.is_file()]
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(
            f"{key}.file = {shown(structure.file)}: {what} in {str(folder)!r}"
            f"{nearest(structure.file, beside)}"
        )
    return path


def build_system(
    structure: FileStructure | PackingStructure,
    units: str,
    atoms: ase.Atoms | None,
    key: str = "structure",
) -> System:
    """The starting structure of a study.

    Arguments:
        structure: its table.
        units: ``"ase"`` or ``"reduced"``.
        atoms: what the structure's file holds; None where it is built.
        key: path of its table in the study.

    Returns:
        The System.

    Raises:
        InputError: the structure cannot be taken, or the packing cannot be made.
    """
    if isinstance(structure, FileStructure) and atoms is not None:
        system = System.from_ase(atoms, structure.dimension, units)
    else:
        table = structure.model_dump(exclude={"builder", "rattle"})
        try:
            system = random_packing(**table, units=units)
        except InputError as error:
            raise InputError(f"{key}.{error}") from None
    return system if structure.rattle is None else _rattled(system, structure.rattle, key)


def potential_file(table: Mapping[str, Any], folder: Path, key: str = "potential") -> Path | None:
    """The file that a study's potential is read from.

    Arguments:
        table: the study's table ``potential``.
        folder: the study's folder, from which a file's path is taken; one that is not there is
            looked for among those of an installed LAMMPS.
        key: path of the table in the study.

    Returns:
        Its path; None where the parameters are in the study.

    Raises:
        InputError: there is no such file.
    """
    return find_file(table["file"], folder, f"{key}.file") if "file" in table else None


def potential_files(
    table: Mapping[str, Any], folder: Path, key: str = "potential"
) -> dict[tuple[str, ...], Path]:
    """The files that a study's potential and its parts are read from.

    Arguments:
        table: the study's table ``potential``.
        folder: the study's folder, from which a file's path is taken.
        key: path of the table in the study.

    Returns:
        Their paths by the names that lead to a part of a sum; by none of a potential that is no
        sum.

    Raises:
        InputError: there is no such file.
    """
    parts = table.get("parts")
    if table.get("type") != SUM or not isinstance(parts, Mapping):
        found = potential_file(table, folder, key)
        return {} if found is None else {(): found}
    return {
        (name, *below): path
        for name, part in parts.items()
        if isinstance(part, Mapping)
        for below, path in potential_files(part, folder, f"{key}.parts.{name}").items()
    }


def build_potential(
    table: Mapping[str, Any], units: str, folder: Path, key: str = "potential"
) -> Potential:
    """The potential of a study.

    Arguments:
        table: ``type`` and the arguments of that potential, or ``type``, ``file`` and ``elements``;
            of ``"sum"``, tables of its parts; of ``"calculator"``, the name of one that is known,
            the elements whose numbers are parameters, and perhaps values of some by name.
        units: ``"ase"`` or ``"reduced"``.
        folder: the study's folder, from which a file's path is taken.
        key: path of the table in the study.

    Returns:
        The Potential.

    Raises:
        InputError: an unknown type, argument, unit or species, or a value outside its domain.
    """
    if "type" not in table:
        raise InputError(f"{key}.type is missing: give one; mdsens potentials lists them")
    name = _type(table["type"], f"{key}.type")
    if name == SUM:
        return _sum(table, units, folder, key)
    if name == JAX_MD:
        return _of_jax_md(table, units, key)
    if name == CALCULATOR:
        return _calculator(table, units, key)
    kind: Any = BY_NAME[name]
    if "file" in table:
        return _potential_from_file(table, name, units, folder, key)
    arguments = inspect.signature(kind).parameters
    # What a file says of itself is no argument that a study gives.
    signature = {name: argument for name, argument in arguments.items() if name != "header"}
    given = {a: value for a, value in table.items() if a not in ("type", "units")}
    for argument, value in given.items():
        if argument not in signature:
            raise no_such_key(f"{key}.{argument}", value, ["type", "units", *signature])
    units = _units_of_numbers(table, units, key)
    for argument, wanted in signature.items():
        if wanted.default is wanted.empty and argument not in given:
            other = f", or {key}.file" if hasattr(kind, "from_file") else ""
            raise InputError(f"{key}.{argument} is missing: {name} needs it; give a value{other}")
    species = _species(given.get("species"), f"{key}.species")
    dimensions, lists = potential_dimensions(kind), issubclass(kind, BondedPotential)
    found: Potential = kind(**{
        argument:
        _cutoff(f"{key}.{argument}", value, kind, units) if argument in LENGTH_FIELDS else
        _argument(f"{key}.{argument}", value, dimensions.get(argument), units, species, lists)
        for argument, value in given.items()
    })  # fmt: skip
    return found


def _type(given: Any, key: str) -> str:
    """The type of a potential, of which there are too many to list in a line."""
    if isinstance(given, str) and given in TYPES:
        return given
    meant = nearest(given, TYPES, most=3) if isinstance(given, str) else ""
    raise InputError(
        f"{key} = {shown(given)}: there is no such potential{meant}; mdsens potentials lists all "
        f"{len(TYPES)}"
    )


def _units_of_numbers(table: Mapping[str, Any], units: str, key: str) -> str:
    """The units of a potential's numbers: those of the study, or of a style of LAMMPS's."""
    if "units" not in table:
        return units
    style = choice(table["units"], f"{key}.units", tuple(LAMMPS_UNITS))
    if units != "ase":
        raise InputError(
            f"{key}.units = {shown(style)}: a study in reduced units has pure numbers; leave it "
            "out, or give units = 'ase'"
        )
    return str(style)


def _cutoff(key: str, value: Any, kind: Any, units: str) -> float | str:
    """A cutoff or an onset: a length with its unit, or a multiple of a parameter."""
    multiple = multiple_of(value)
    lengths = lengths_of_pairs(kind)
    if multiple is None or (units != "reduced" and multiple.name in ACCEPTED_UNITS["length"]):
        return quantity(value, "length", units, key)
    if multiple.name in lengths or units == "reduced":
        return checked_length(kind, value, key, None if key.endswith("cutoff") else 0.0)
    allowed = [*ACCEPTED_UNITS["length"], *lengths]
    raise InputError(
        f"{key} = {shown(value)}: {shown(multiple.name)} is no unit of length and no length of the "
        f"potential; allowed: {', '.join(allowed)}{nearest(multiple.name, allowed)}"
    )


def _calculator(table: Mapping[str, Any], units: str, key: str) -> Potential:
    """A calculator of ASE that is known by name."""
    keys = ("type", "calculator", "elements", "values")
    for argument, value in table.items():
        if argument not in keys:
            raise no_such_key(f"{key}.{argument}", value, list(keys))
    for argument in ("calculator", "elements"):
        if argument not in table:
            raise InputError(f"{key}.{argument} is missing: {CALCULATOR} needs it; give a value")
    known = KNOWN_CALCULATORS[
        choice(table["calculator"], f"{key}.calculator", tuple(KNOWN_CALCULATORS))
    ]
    if units != "ase":
        raise InputError(
            f"{key}.calculator = {shown(table['calculator'])}: it is in eV and Ang; give units = "
            "'ase'"
        )
    elements = _species(table["elements"], f"{key}.elements") or ()
    given = table.get("values", {})
    if not isinstance(given, Mapping):
        raise InputError(f"{key}.values = {shown(given)}: give a table of numbers by name")
    values = {
        name: quantity(
            value, known.dimensions.get(name.partition("[")[0], "1"), units, f"{key}.values.{name}"
        )
        for name, value in given.items()
    }
    return known.make(elements, values)


def _potential_from_file(
    table: Mapping[str, Any], name: str, units: str, folder: Path, key: str
) -> Potential:
    """A potential from a file: ``type``, ``file`` and ``elements`` are all that there is to say."""
    kind: Any = BY_NAME[name]
    if not hasattr(kind, "from_file"):
        with_files = [other for other, one in BY_NAME.items() if hasattr(one, "from_file")]
        raise InputError(
            f"{key}.file = {shown(table['file'])}: {name} is read from no file, only "
            f"{', '.join(with_files)}; give its parameters"
        )
    given = {argument: value for argument, value in table.items() if argument != "type"}
    # The first one is the path.
    _, *arguments = inspect.signature(kind.from_file).parameters
    for argument, value in given.items():
        if argument not in ("file", *arguments):
            raise no_such_key(f"{key}.{argument}", value, ["type", "file", *arguments])
    if units != "ase":
        raise InputError(
            f"{key}.file = {shown(table['file'])}: it is in eV and Ang; give units = 'ase'"
        )
    elements = given.get("elements")
    species = (
        tuple(elements) if isinstance(elements, Mapping) else _species(elements, f"{key}.elements")
    )
    del given["file"]
    dimensions = potential_dimensions(kind)
    found: Potential = kind.from_file(potential_file(table, folder, key), **{
        argument: value if argument == "elements" else
        _argument(f"{key}.{argument}", value, dimensions.get(argument), units, species)
        for argument, value in given.items()
    })  # fmt: skip
    return found


def _of_jax_md(table: Mapping[str, Any], units: str, key: str) -> Potential:
    """An energy of jax-md: ``energy``, its name there, and its parameters and settings."""
    if not isinstance(table.get("energy"), str):
        raise InputError(
            f"{key}.energy = {shown(table.get('energy'))}: give the name of an energy of jax-md, "
            f"{', '.join(KNOWN)}"
        )
    species = _species(table.get("species"), f"{key}.species")
    dimensions = KNOWN[known_as(table["energy"])].parameters or {}
    given = {
        argument: _argument(f"{key}.{argument}", value, dimensions[argument], units, species, True)
        if dimensions.get(argument, UNKNOWN) != UNKNOWN and not isinstance(value, Mapping)
        else value
        for argument, value in table.items()
        if argument not in ("type", "energy", "species")
    }
    return JaxMD(table["energy"], species=species, **given)


def potential_dimensions(kind: Any) -> dict[str, str]:
    """Physical dimensions of what a potential is made from.

    Arguments:
        kind: class of the potential.

    Returns:
        Dimensions such as ``"length"`` by argument; what is no quantity is left out.
    """
    if issubclass(kind, BondedPotential):
        # Of vectors those of their components.
        return {name.removesuffix("_x"): one for name, one in kind.measures.items()}
    return {
        field.name: field.metadata["dimension"]
        for field in dataclasses.fields(kind)
        if field.metadata.get("parameter")
    } | dict.fromkeys(LENGTH_FIELDS, "length")


def _sum(table: Mapping[str, Any], units: str, folder: Path, key: str) -> PotentialSum:
    """The sum of the potentials in a table's parts."""
    for argument, value in table.items():
        if argument not in ("type", "parts"):
            raise no_such_key(f"{key}.{argument}", value, ["type", "parts"])
    parts = table.get("parts")
    if not isinstance(parts, Mapping) or not all(isinstance(p, Mapping) for p in parts.values()):
        raise InputError(
            f"{key}.parts = {shown(parts)}: give a table for each part, as in [{key}.parts.core]"
        )
    return PotentialSum(
        {
            name: build_potential(part, units, folder, f"{key}.parts.{name}")
            for name, part in parts.items()
        }
    )


def _species(given: Any, key: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise InputError(f"{key} = {shown(given)}: give a list of names, as in ['Ar', 'Kr']")
    return distinct_names(given, key)


def _argument(
    key: str,
    value: Any,
    dimension: str | None,
    units: str,
    species: tuple[str, ...] | None,
    lists: bool = False,
) -> Any:
    """One argument of a potential, with its numbers in the study's units."""
    if dimension is None:
        return value
    if isinstance(value, list) and lists:
        return [
            _argument(f"{key}[{i}]", one, dimension, units, species, lists)
            for i, one in enumerate(value)
        ]
    if not isinstance(value, Mapping):
        return quantity(value, dimension, units, key)
    if species is None:
        names = f"{key.rpartition('.')[0]}.species"
        raise InputError(f"{key} = {shown(value)}: a table needs {names}, the names of its rows")
    pairs = [f"{a}-{b}" for i, a in enumerate(species) for b in species[i:]]
    triplets = list(names_of_entries(species, 3))
    swapped = [f"{b}-{a}" for i, a in enumerate(species) for b in species[i:]]
    for entry, number in value.items():
        if entry not in (*species, *pairs, *swapped, *triplets):
            raise no_such_key(f"{key}.{entry}", number, [*species, *pairs])
    return {
        entry: quantity(number, dimension, units, f"{key}.{entry}")
        for entry, number in value.items()
    }


def _rattled(system: System, rattle: Rattle, table: str) -> System:
    key = f"{table}.rattle.amplitude"
    amplitude = quantity(rattle.amplitude, "length", system.units, key)
    amplitude = real(amplitude, key, at_least=0, at_most=LARGEST_RATTLE)
    moves = np.random.default_rng(rattle.seed).normal(0.0, amplitude, system.positions.shape)
    moves[np.asarray(system.fixed)] = 0.0
    motion = ConstrainedMotion.of(system)
    if motion is not None:
        moves = motion.allowed(moves)
    return system.with_positions(np.asarray(system.positions) + moves)
