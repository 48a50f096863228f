"""From the tables of a study to a System and a Potential."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.particles import System, random_packing
from mdsens.potentials import BY_NAME, Potential
from mdsens.potentials.files import find_potential_file
from mdsens.potentials.potential import LENGTH_FIELDS
from mdsens.study.messages import no_such_key
from mdsens.study.model import (
    LARGEST_RATTLE,
    FileStructure,
    PackingStructure,
    Rattle,
)
from mdsens.units import to_ase_units
from mdsens.values import choice, distinct_names, nearest, real, shown


def quantity(value: Any, dimension: str, units: str, key: str) -> float:
    """A number of a study, in the units that mdsens computes in.

    Arguments:
        value: a number, or text with a number and a unit.
        dimension: its physical dimension, e.g. ``"length"``.
        units: ``"ase"`` or ``"reduced"``; reduced units take pure numbers only.
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


def potential_file(table: Mapping[str, Any], folder: Path) -> Path | None:
    """The file that a study's potential is read from.

    Arguments:
        table: of the potential.
        folder: the study's folder, where files are looked for before those of LAMMPS.

    Returns:
        Its path; None where the study holds its parameters.

    Raises:
        InputError: there is no such file.
    """
    kind = BY_NAME.get(table["type"]) if isinstance(table.get("type"), str) else None
    if not hasattr(kind, "from_file") or "file" not in table:
        return None
    return find_potential_file(table["file"], folder, "potential.file")


def build_potential(table: Mapping[str, Any], units: str, folder: Path) -> Potential:
    """The potential of a study.

    Arguments:
        table: ``type`` and the arguments of that potential, or of its `from_file`.
        units: ``"ase"`` or ``"reduced"``.
        folder: the study's folder.

    Returns:
        The Potential.

    Raises:
        InputError: an unknown type, argument, unit or species, or a value outside its domain.
    """
    if "type" not in table:
        raise InputError(f"potential.type is missing: allowed are {', '.join(BY_NAME)}")
    name = choice(table["type"], "potential.type", BY_NAME)
    kind = BY_NAME[name]
    make: Callable[..., Potential] = getattr(kind, "from_file", kind)
    signature = inspect.signature(make).parameters
    given = {key: value for key, value in table.items() if key != "type"}
    for key, value in given.items():
        if key not in signature:
            raise no_such_key(f"potential.{key}", value, ["type", *signature])
    for key, argument in signature.items():
        if argument.default is argument.empty and key not in given:
            raise InputError(f"potential.{key} is missing: {name} needs it; give a value")
    names = "elements" if "elements" in signature else "species"
    species = _species(given.get(names), names)
    file = potential_file(table, folder)
    if file is not None:
        given["file"] = file
        if units != "ase":
            raise InputError(
                f"potential.type = {shown(name)}: its files are in eV and Angstrom, and the study "
                "in reduced units; give units = 'ase'"
            )
    dimensions = {
        field.name: field.metadata["dimension"]
        for field in dataclasses.fields(kind)
        if field.metadata.get("parameter")
    } | dict.fromkeys(LENGTH_FIELDS, "length")
    arguments = {
        key: _argument(f"potential.{key}", value, dimensions.get(key), units, species, names)
        for key, value in given.items()
    }
    return make(**arguments)


def _species(given: Any, name: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise InputError(
            f"potential.{name} = {shown(given)}: give a list of names, as in ['Ar', 'Kr']"
        )
    return distinct_names(given, f"potential.{name}")


def _argument(
    key: str,
    value: Any,
    dimension: str | None,
    units: str,
    species: tuple[str, ...] | None,
    names: str,
) -> Any:
    """One argument of a potential, with its numbers in the study's units."""
    if dimension is None:
        return value
    if not isinstance(value, Mapping):
        return quantity(value, dimension, units, key)
    if species is None:
        raise InputError(
            f"{key} = {shown(value)}: a table needs potential.{names}, the names of its rows"
        )
    pairs = [f"{a}-{b}" for i, a in enumerate(species) for b in species[i:]]
    swapped = [f"{b}-{a}" for i, a in enumerate(species) for b in species[i:]]
    for entry, number in value.items():
        if entry not in (*species, *pairs, *swapped):
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
    return system.with_positions(np.asarray(system.positions) + moves)
