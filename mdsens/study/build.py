"""From the tables of a study to a System and a Potential."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdsens.errors import InputError
from mdsens.particles import System, read
from mdsens.potentials import BY_NAME, Potential
from mdsens.study.messages import no_such_key, not_allowed
from mdsens.study.model import (
    LARGEST_RATTLE,
    MOST_PARTICLES,
    FileStructure,
    PackingStructure,
    Rattle,
)
from mdsens.study.reading import is_file, path_of
from mdsens.units import to_ase_units
from mdsens.values import choice, distinct_names, nearest, real, shown

#: Dimensions of arguments that are no parameters and yet lengths.
_LENGTHS = ("cutoff", "onset")


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


def build_system(structure: FileStructure | PackingStructure, units: str, folder: Path) -> System:
    """The starting structure of a study.

    Arguments:
        structure: its table.
        units: ``"ase"`` or ``"reduced"``.
        folder: the study's folder, from which a file's path is taken.

    Returns:
        The System.

    Raises:
        InputError: the file is missing or unreadable, or the packing cannot be made.
    """
    if isinstance(structure, FileStructure):
        path = folder / path_of(structure.file, "structure.file")
        if not is_file(path, "structure.file"):
            beside = [other.name for other in folder.iterdir() if other.is_file()]
            what = "is a folder" if path.is_dir() else "there is no such file"
            raise InputError(
                f"structure.file = {shown(structure.file)}: {what} in {str(folder)!r}"
                f"{nearest(structure.file, beside)}"
            )
        system = read(path, structure.dimension, units)
    else:
        system = random_packing(structure, units)
    return system if structure.rattle is None else _rattled(system, structure.rattle)


def random_packing(structure: PackingStructure, units: str) -> System:
    """Particles at random places of a periodic square or cube.

    Arguments:
        structure: counts, diameters and packing fraction.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        The System; species in the order of ``diameters``.

    Raises:
        InputError: counts and diameters do not go together.
    """
    names = distinct_names(list(structure.diameters), "structure.diameters")
    count = structure.count
    if isinstance(count, int):
        if count % len(names):
            raise InputError(
                f"structure.count = {count}: cannot be shared equally by the species "
                f"{', '.join(names)}; give a multiple of {len(names)}, or a count of each"
            )
        count = dict.fromkeys(names, count // len(names))
    for key, given, allowed in (
        *(("structure.count", name, names) for name in count),
        *(("structure.diameters", name, tuple(count)) for name in names),
    ):
        if given not in allowed:
            raise not_allowed(key, given, allowed)
    if sum(count.values()) > MOST_PARTICLES:
        raise InputError(
            f"structure.count: {sum(count.values())} particles; allowed are {MOST_PARTICLES:,}"
        )
    species = np.repeat(np.arange(len(names)), [count[name] for name in names])
    diameters = np.array([structure.diameters[name] for name in names])[species]
    dimension = structure.dimension
    ball = np.pi / 4 if dimension == 2 else np.pi / 6
    length = (ball * np.sum(diameters**dimension) / structure.packing_fraction) ** (1 / dimension)
    positions = np.random.default_rng(structure.seed).random((len(species), dimension)) * length
    return System(positions, np.eye(dimension) * length, names, species, True, units=units)


def build_potential(table: Mapping[str, Any], units: str) -> Potential:
    """The potential of a study.

    Arguments:
        table: ``type`` and the arguments of that potential.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        The Potential.

    Raises:
        InputError: an unknown type, argument, unit or species, or a value outside its domain.
    """
    if "type" not in table:
        raise InputError(f"potential.type is missing: allowed are {', '.join(BY_NAME)}")
    name = choice(table["type"], "potential.type", BY_NAME)
    kind = BY_NAME[name]
    signature = inspect.signature(kind).parameters
    given = {key: value for key, value in table.items() if key != "type"}
    for key, value in given.items():
        if key not in signature:
            raise no_such_key(f"potential.{key}", value, ["type", *signature])
    for key, argument in signature.items():
        if argument.default is argument.empty and key not in given:
            raise InputError(f"potential.{key} is missing: {name} needs it; give a value")
    species = _species(given.get("species"))
    dimensions = {
        field.name: field.metadata["dimension"]
        for field in dataclasses.fields(kind)
        if field.metadata.get("parameter")
    } | dict.fromkeys(_LENGTHS, "length")
    arguments = {
        key: _argument(f"potential.{key}", value, dimensions.get(key), units, species)
        for key, value in given.items()
    }
    return kind(**arguments)


def _species(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise InputError(
            f"potential.species = {shown(given)}: give a list of names, as in ['Ar', 'Kr']"
        )
    return distinct_names(given, "potential.species")


def _argument(
    key: str, value: Any, dimension: str | None, units: str, species: tuple[str, ...] | None
) -> Any:
    """One argument of a potential, with its numbers in the study's units."""
    if dimension is None:
        return value
    if not isinstance(value, Mapping):
        return quantity(value, dimension, units, key)
    if species is None:
        raise InputError(
            f"{key} = {shown(value)}: a table needs potential.species, the names of its rows"
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


def _rattled(system: System, rattle: Rattle) -> System:
    key = "structure.rattle.amplitude"
    amplitude = quantity(rattle.amplitude, "length", system.units, key)
    amplitude = real(amplitude, key, at_least=0, at_most=LARGEST_RATTLE)
    moves = np.random.default_rng(rattle.seed).normal(0.0, amplitude, system.positions.shape)
    moves[np.asarray(system.fixed)] = 0.0
    return system.with_positions(system.positions + moves)
