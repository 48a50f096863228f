"""A study to begin with, from a structure and a potential: commented, checked, ready to run."""

import dataclasses
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.markup import visible
from mdsens.particles.species_names import species_names
from mdsens.particles.structure_files import read_atoms
from mdsens.potentials.files.find import find_file
from mdsens.potentials.files.snap_files import read_snap_commands
from mdsens.potentials.jax_md_names import KNOWN as ENERGIES_OF_JAX_MD
from mdsens.potentials.jax_md_names import known_as
from mdsens.study.find import FILE_NAME, ready_folder
from mdsens.study.listings import potential_arguments
from mdsens.study.potential_table import POTENTIALS
from mdsens.study.reading import read_study_table
from mdsens.study.study import load_study
from mdsens.study.toml import toml_key, toml_value, with_settings
from mdsens.units import LAMMPS_UNITS, UNKNOWN, unit_name
from mdsens.values import listing, nearest, shown

#: Ready studies that have numbers of a potential for some species, with their source.
KNOWN: dict[tuple[str, tuple[str, ...]], str] = {
    ("lennard-jones", ("Ar",)): "argon-vacancy",
    ("stillinger-weber", ("Si",)): "silicon-vacancy",
    ("morse", ("Cu",)): "morse-copper-surface",
}
#: Where a pair potential is cut off unless told otherwise, as is usual.
CUTOFFS = {"lennard-jones": "2.5 sigma", "mie": "2.5 sigma"}
#: Most atoms of a cell whose elastic constants are asked for.
SMALL = 8
#: Bytes of a file's head that are looked through for what LAMMPS's data files begin with.
HEAD = 4000


@dataclasses.dataclass(frozen=True)
class _Structure:
    """A structure as it goes into a study: its atoms, file's name, and what became of it."""

    atoms: ase.Atoms
    name: str
    source: Path
    remark: str
    converted: bool


def new_study(
    folder: str | Path,
    structure: str | Path,
    potential: str,
    parameters: Iterable[str] = (),
    dimension: int = 3,
    units: str = "ase",
) -> Path:
    """Write a commented study that runs as it is: a folder with a study.toml and the structure.

    Arguments:
        folder: where it shall be; its name is that of the study.
        structure: a file that ``ase.io.read`` reads, or a data file of LAMMPS, which is converted.
        potential: what a study calls a potential, or a potential file.
        parameters: texts such as ``"epsilon=0.0104"`` or ``"sigma[Ar-Kr]=3.5"``.
        dimension: 3, or 2 for the xy plane.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        The folder.

    Raises:
        InputError: the folder is there already, a parameter has no value and no default for these
            species, or anything that a run of the study would refuse.
    """
    goal = path_of(folder, "study")
    if os.path.lexists(goal):
        raise InputError(f"study {shown(str(folder))} is there already: give another name")
    if not goal.absolute().parent.is_dir():
        raise InputError(f"study {shown(str(folder))}: the folder it shall be in does not exist")
    found = _structure(path_of(structure, "structure"))
    species = list(dict.fromkeys(species_names(found.atoms)))
    aside = Path(tempfile.mkdtemp(prefix=f".{goal.name[:50]}.", dir=goal.absolute().parent))
    try:
        aside.chmod(0o755)
        table, notes = _potential(potential, list(parameters), species, units, aside)
        if found.name == FILE_NAME or (aside / found.name).exists():
            raise InputError(
                f"structure {shown(found.name)}: another file of the study is called so; rename it"
            )
        if found.converted:
            ase.io.write(aside / found.name, found.atoms, format="extxyz")
        else:
            shutil.copyfile(found.source, aside / found.name)
        text = _text(goal.name, found, table, notes, species, dimension, units)
        (aside / FILE_NAME).write_text(text, "utf-8")
        # What a run would refuse is refused now.
        load_study(aside, [f"name={toml_value(goal.name)}"]).check()
        if os.path.lexists(goal):
            raise InputError(f"study {shown(str(folder))} is there already: give another name")
        os.replace(aside, goal)
    except OSError as error:
        raise InputError(
            f"study {shown(str(folder))} cannot be written: {error.strerror or error}"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return goal


def _structure(path: Path) -> _Structure:
    if not is_file(path, "structure"):
        raise InputError(f"structure {shown(str(path))} does not exist: give a structure file")
    with path.open("rb") as file:
        head = file.read(HEAD).decode("utf-8", "replace")
    if re.search(r"^\s*\d+\s+atoms\b", head, re.M) and re.search(r"\bxlo\s+xhi\b", head):
        return _of_lammps(path, head)
    atoms = read_atoms(path)
    for site, kinds in (atoms.info.get("occupancy") or {}).items():
        if len(kinds) != 1 or abs(next(iter(kinds.values())) - 1.0) > 1e-8:
            raise InputError(
                f"structure {shown(str(path))}: site {shown(site)} is occupied in part, by "
                f"{listing(f'{n} {kind}' for kind, n in kinds.items())}: give a structure with "
                "whole atoms"
            )
    return _Structure(atoms, path.name, path, "", False)


def _of_lammps(path: Path, head: str) -> _Structure:
    """A data file of LAMMPS, whose species are those of its masses."""
    stated = re.search(r"units\s*=\s*(\w+)", head.partition("\n")[0])
    units = stated[1] if stated else "metal"
    if units not in LAMMPS_UNITS:
        raise InputError(
            f"structure {shown(str(path))}: units {shown(units)} have no size in Ang; convert it "
            "to another format"
        )
    if not re.search(r"^\s*Masses\b", path.read_text("utf-8", "replace"), re.M):
        raise InputError(
            f"structure {shown(str(path))} has no Masses, which tell the elements of the types: "
            "add that section, or convert it to another format"
        )
    try:
        read = ase.io.read(path.absolute(), format="lammps-data", units=units)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"structure {shown(str(path))} cannot be read as a data file of LAMMPS: {why}"
        ) from None
    assert isinstance(read, ase.Atoms)
    if 0 in read.numbers:
        raise InputError(
            f"structure {shown(str(path))}: a mass is that of no element; correct Masses"
        )
    atoms = ase.Atoms(read.symbols, read.positions, cell=read.cell, pbc=True)
    remark = (
        f"from {path.name}, a data file of LAMMPS in units {units}{'' if stated else ' (assumed)'}"
        ": elements by their masses, periodic along all three"
    )
    return _Structure(atoms, f"{path.stem.lstrip('.') or 'structure'}.extxyz", path, remark, True)


def _potential(
    given: str, parameters: list[str], species: list[str], units: str, folder: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """The table of a potential, and remarks to its keys."""
    if given in POTENTIALS:
        return _from_parameters(given, parameters, species, units)
    endings = {e: kind for kind, entry in POTENTIALS.items() for e in entry.endings.split()}
    name = path_of(given, "potential").name
    ending = max((e for e in endings if name.endswith(e)), key=len, default=None)
    if ending is None:
        raise InputError(
            f"potential {shown(given)}: there is none, nor does a potential file end so"
            f"{nearest(given, POTENTIALS)}; mdsens potentials lists all"
        )
    table: dict[str, Any] = {"type": endings[ending], "file": name, "elements": species}
    notes = {"type": f"as the ending {ending} says", "elements": "which of the file's to take"}
    if ending == ".sw" and len(species) == 1:
        table["type"] = "stillinger-weber"
    path = find_file(given, name="potential")
    if is_file(Path(given), "potential"):
        _copy_potential(path, ending, folder)
    else:
        notes["file"] = "one of those that pip install lammps brings"
    return _set(table, parameters), notes


def _copy_potential(path: Path, ending: str, folder: Path) -> None:
    """Copy a potential's file, and those that it names."""
    names = [path.name]
    if ending == ".snap":
        commands = read_snap_commands(path)
        names += [commands.coefficients, commands.parameters]
    if ending == ".snapcoeff":
        names.append(path.with_suffix(".snapparam").name)
    for name in names:
        if Path(name).name != name:
            raise InputError(
                f"{shown(path.name)} names {shown(name)}: give files of its own folder"
            )
        if not is_file(path.parent / name, "potential"):
            raise InputError(f"{shown(path.name)} needs {shown(name)}: put it beside it")
        shutil.copyfile(path.parent / name, folder / name)


def _from_parameters(
    kind: str, parameters: list[str], species: list[str], units: str
) -> tuple[dict[str, Any], dict[str, str]]:
    entry = POTENTIALS[kind]
    if not entry.made_from:
        raise InputError(
            f"potential {shown(kind)} is made from a file ({', '.join(entry.endings.split())}): "
            "give its path in the place of the type"
        )
    arguments = potential_arguments(entry)
    own = _set({"type": kind}, parameters)
    notes = {
        argument["name"]: unit_name(argument["dimension"], units)
        for argument in arguments if argument["dimension"] not in (None, "1")
    }  # fmt: skip
    if kind == "jax-md" and "energy" in own:
        arguments += _of_jax_md(own["energy"], units)
        notes |= {
            a["name"]: unit_name(a["dimension"], units)
            for a in arguments if a["dimension"] not in (None, "1", UNKNOWN)
        }  # fmt: skip
    known, source = _known(kind, species) if units == "ase" else ({}, "")
    if any(isinstance(value, Mapping) for value in own.values()) and len(arguments) > 1:
        known = {}
    table: dict[str, Any] = {"type": kind}
    missing = []
    for argument in arguments:
        name = argument["name"]
        if name in own:
            table[name] = own[name]
        elif name in known:
            table[name] = known[name]
            notes[name] = _joined(notes.get(name), source)
        elif name == "cutoff" and kind in CUTOFFS:
            table[name], notes[name] = CUTOFFS[kind], "as is usual"
        elif name == "elements":
            table[name], notes[name] = species, "whose numbers are parameters"
        elif argument["required"]:
            missing.append(argument)
        elif argument["default"] is not None:
            table[name] = argument["default"]
            notes[name] = _joined(notes.get(name), "the default")
    if missing:
        units_of = [f" ({notes[a['name']]})" if a["name"] in notes else "" for a in missing]
        listed = [f"{a['name']}{unit}" for a, unit in zip(missing, units_of, strict=True)]
        other = f"; or a file {entry.endings.split()[0]} as potential" if entry.endings else ""
        raise InputError(
            f"potential {shown(kind)} of {', '.join(species)}: no values are known for "
            f"{listing(listed, 30)}: give --parameter {missing[0]['name']}=..., one for each{other}"
        )
    table |= {name: value for name, value in own.items() if name not in table}
    tables = [n for n, value in table.items() if isinstance(value, Mapping) and n in notes]
    if tables and "species" in [a["name"] for a in arguments] and "species" not in own:
        table["species"], notes["species"] = species, "names of the rows of tables"
    elif len(species) > 1 and "species" not in own:
        notes["type"] = f"{', '.join(species)} have the same parameters; --parameter sets others"
    return table, notes


def _of_jax_md(energy: Any, units: str) -> list[dict[str, Any]]:
    """Parameters and settings of an energy of jax-md, whose defaults are in reduced units."""
    known = ENERGIES_OF_JAX_MD[known_as(energy)]
    found = []
    default: Any
    for name, dimension in (known.parameters or {}).items():
        default = known.defaults.get(name) if units == "reduced" else None
        found.append({"name": name, "dimension": dimension, "required": default is None,
                      "default": default})  # fmt: skip
    for name, default in known.settings.items():
        plain = list(default) if isinstance(default, tuple) else default
        found.append({"name": name, "dimension": None, "required": default is None,
                      "default": plain})  # fmt: skip
    return found


def _known(kind: str, species: list[str]) -> tuple[dict[str, Any], str]:
    """Numbers of a ready study, and its name."""
    study = KNOWN.get((kind, tuple(species)))
    if study is None or not (ready_folder() / study / FILE_NAME).is_file():
        return {}, ""
    table = read_study_table(ready_folder() / study / FILE_NAME)["potential"]
    return table, f"as in the ready study {study}"


def _set(table: dict[str, Any], parameters: list[str]) -> dict[str, Any]:
    """A table with what was given for its keys, as texts ``"name=value"``."""
    for one in parameters:
        if not re.match(r"\s*[A-Za-z]", one) or "=" not in one:
            raise InputError(
                f"--parameter {shown(one)}: write name=value, as in epsilon=0.0104 or sigma[Ar]=3.4"
            )
    return dict(
        with_settings({"potential": table}, [f"potential.{one.strip()}" for one in parameters])[
            "potential"
        ]
    )


def _text(
    name: str,
    structure: _Structure,
    potential: dict[str, Any],
    notes: dict[str, str],
    species: list[str],
    dimension: int,
    units: str,
) -> str:
    """The study's file."""
    atoms = structure.atoms
    periodic = [axis for axis, there in zip("xyz", atoms.pbc, strict=True) if there][:dimension]
    around = f"periodic along {', '.join(periodic)}" if periodic else "not periodic"
    cell, why = _cell(atoms, dimension)
    observables, chosen = _observables(atoms, dimension)
    given = visible(shlex.quote(name))
    force = unit_name("energy/length", units)
    description = f"{atoms.get_chemical_formula()} in {potential['type']}"
    lines = [
        f"# mdsens run {given} runs it, and mdsens verify {given} checks its derivatives.",
        "# mdsens potentials and mdsens observables list what there is.",
        f"description = {toml_value(description)}",
        f"units = {toml_value(units)}  # "
        + ("pure numbers" if units == "reduced" else 'eV and Ang; "1.2 nm" has another unit'),
        "",
        "[structure]",
    ]
    if structure.remark:
        lines.append(f"# {visible(structure.remark)}")
    lines += [
        f"file = {toml_value(structure.name)}  # {len(atoms)} atoms of "
        f"{visible(', '.join(species))}, {around}",
        "dimension = 2  # the xy plane" if dimension == 2 else "# dimension = 2  # the xy plane",
        "# Random displacements, out of a symmetry that would keep atoms at a saddle:",
        "# rattle = { amplitude = 0.02, seed = 1 }",
        "",
        "[potential]",
    ]
    nested = {}
    for key, value in potential.items():
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            nested[key] = value
            continue
        note = f"  # {visible(notes[key])}" if notes.get(key) else ""
        lines.append(f"{toml_key(key)} = {toml_value(value)}{note}")
    lines += [f"{toml_key(key)} = {toml_value(value)}" for key, value in nested.items()]
    lines += [
        "",
        "[relaxation]",
        f"fmax = 1e-8  # largest force at which to stop, {force}",
        f'cell = "{cell}"  # {why}',
        "# pressure = 0.0",
        "",
        "[sensitivity]",
        f"# {chosen}",
        f"observables = {toml_value(observables)}",
        '# wrt = ["NAME"]  # parameters to differentiate in; all of the potential by default',
    ]
    return "\n".join(lines) + "\n"


def _cell(atoms: ase.Atoms, dimension: int) -> tuple[str, str]:
    """What of the cell relaxes, and why."""
    choices = 'or "isotropic", "diagonal", "full", "shape", "none"'
    if not all(atoms.pbc[:dimension]):
        return "none", "not periodic along all of them: the cell stays"
    if atoms.constraints:
        return "none", f"the structure has constraints, and its cell stays; {choices}"
    return "full", f"the whole cell relaxes; {choices}"


def _observables(atoms: ase.Atoms, dimension: int) -> tuple[list[str], str]:
    """What to compute, by dimension and boundaries."""
    if all(atoms.pbc[:dimension]):
        if dimension == 2:
            return ["energy_per_atom", "volume"], "volume is the area of the cell"
        small = ["bulk_modulus"] if len(atoms) <= SMALL and not atoms.constraints else []
        return ["energy_per_atom", "volume", "lattice_constants", *small], "of a crystal"
    found = ["energy"]
    if dimension == 3 and sum(atoms.pbc) == 2:
        i, j = np.flatnonzero(atoms.pbc)
        found.append(f"area({i},{j})")
    if len(atoms) > 1:
        # To the nearest neighbour of the first atom.
        distances = np.asarray(atoms.get_distances(0, range(1, len(atoms)), mic=True))
        found.append(f"distance(0,{1 + int(np.argmin(distances))})")
    return found, "numbers of atoms begin at 0"


def _joined(*texts: str | None) -> str:
    return "; ".join(text for text in texts if text)
