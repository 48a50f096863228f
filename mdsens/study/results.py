"""The files of a finished run: results.json, relaxed.extxyz, tables, and the study as run."""

import importlib.metadata
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

import mdsens
from mdsens.diameters import diameters_of
from mdsens.files import csv_text
from mdsens.particles.species_names import QUOTED_SPECIES_ARRAY, SPECIES_ARRAY
from mdsens.relaxation.driver import History
from mdsens.sensitivities import EnergyVolume, PhononBands, Sensitivity
from mdsens.study.column_names import vector_name
from mdsens.study.ensemble import Ensemble, curves, summary
from mdsens.study.find import FILE_NAME
from mdsens.study.results_file import RESULTS_NAME, SCHEMA
from mdsens.study.run_files import (
    ENSEMBLE_NAME,
    HISTORY_NAME,
    STRUCTURE_NAME,
    TABLE_NAME,
    of_structure,
)
from mdsens.study.study import Study, StudyStructure
from mdsens.study.study_sensitivity import StudySensitivity
from mdsens.study.toml import to_toml
from mdsens.units import in_dimensions, quotient_unit_name, unit_name

#: The folder in which a run keeps what it has read, apart from what it writes.
INPUT_FOLDER = "input"
#: Arrays of the atoms of a structure's file that are written with the relaxed structure.
KEPT_ARRAYS = (
    "numbers", "positions", "tags", "momenta", "masses", "initial_charges", "initial_magmoms",
    SPECIES_ARRAY, QUOTED_SPECIES_ARRAY,
)  # fmt: skip
#: Kinds of relaxed structures, the worst last.
KINDS = ("minimum", "saddle", "unconverged")
#: Packages whose versions decide the numbers.
PACKAGES = ("jax", "numpy", "ase")


def collect(
    study: Study,
    derivatives: StudySensitivity,
    timing: dict[str, float],
    ensemble: Ensemble | None = None,
    curves: Mapping[str, Mapping[str, EnergyVolume | PhononBands]] | None = None,
    steps: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything that results.json holds.

    Arguments:
        study: what was run.
        derivatives: its derivatives.
        timing: seconds by stage.
        ensemble: its random starts, if there are any.
        curves: by structure, energies against volumes and phonon bands, if they are asked for.
        steps: of each relaxation, where its history does not tell.

    Returns:
        A dictionary of plain Python numbers, texts, lists and dictionaries. What is said of the
        structure of ``[structure]`` stands beside all else; what is said of several stands in
        ``structures``, by their names, and for all of them together what holds of the worst.
    """
    potential, units = study.potential, study.file.units
    parameters = derivatives.parameters
    structures = {
        name: _of_structure(of, (steps or {}).get(name, 0))
        for name, of in derivatives.structures.items()
    }
    for name, of in (curves or {}).items():
        structures[name] |= {key: curve.to_dict() for key, curve in of.items()}
        if "energy_volume" in of:
            uncertainty = study.file.energy_volume.uncertainty
            structures[name]["energy_volume"]["uncertainty"] = uncertainty
    relaxes_cell = any("cell_derivatives" in of for of in structures.values())
    has_stress = any("largest_stress" in of for of in structures.values())
    one = next(iter(derivatives.structures.values()))
    measured = {name: one.parameter_dimension(name) for name in parameters}
    length_units = {name: quotient_unit_name("length", of, units) for name, of in measured.items()}
    dimension = one.equilibrium.system.dimension
    stress_unit = unit_name(in_dimensions("energy/volume", dimension), units)
    return {
        "schema": SCHEMA,
        "study": study.name,
        "description": study.file.description,
        "units": {
            "system": units,
            "energy": unit_name("energy", units),
            "largest_force": unit_name("energy/length", units),
            "fmax": unit_name("energy/length", units),
            **({"largest_stress": stress_unit, "smax": stress_unit} if has_stress else {}),
            "length": unit_name("length", units),
            "lowest_eigenvalue": unit_name("energy/length^2", units),
            "parameters": {name: unit_name(of, units) for name, of in measured.items()},
            "sensitivities": derivatives.units(),
            "vectors": length_units,
            **({"cell_derivatives": length_units} if relaxes_cell else {}),
            "timing": "s",
        },
        **(structures[""] if "" in structures else _together(structures)),
        **derivatives.to_dict(),
        **({"formulas": {f.name: f.text for f in study.formulas}} if study.formulas else {}),
        "timing": timing,
        "vectors": {name: vector_name(name) for name in parameters},
        "mode": one.mode,
        "logarithmic": study.file.sensitivity.logarithmic,
        "versions": versions(),
    } | ({} if ensemble is None else {"ensemble": summary(ensemble, potential, units)})


def _together(structures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What holds of several structures together, and each by its name."""
    kinds = [of["kind"] for of in structures.values()]
    return {
        "converged": all(of["converged"] for of in structures.values()),
        "stable": all(of["stable"] for of in structures.values()),
        "kind": max(kinds, key=KINDS.index),
        "structures": structures,
    }


def _of_structure(sensitivity: Sensitivity, steps: int) -> dict[str, Any]:
    """What results.json says of one relaxed structure."""
    equilibrium, certificate = sensitivity.equilibrium, sensitivity.certificate
    errors = sensitivity.tangents.errors
    own = sensitivity.to_dict()
    stress = certificate.largest_stress
    if stress is not None and np.isnan(stress):
        # The cell has no volume that a stress could be per.
        stress = None
    return {
        "energy": float(equilibrium.energy),
        "largest_force": float(equilibrium.largest_force),
        "fmax": equilibrium.fmax,
        **({} if stress is None else {"largest_stress": stress, "smax": equilibrium.smax}),
        "converged": certificate.converged,
        "stable": certificate.stable,
        "kind": certificate.kind,
        "steps": steps if equilibrium.history is None else equilibrium.history.steps,
        "atoms": equilibrium.system.atom_count,
        "dimension": equilibrium.system.dimension,
        "cell": np.asarray(equilibrium.cell).tolist(),
        "pbc": list(equilibrium.system.pbc),
        "certificate": {
            "lowest_eigenvalue": certificate.lowest_eigenvalue,
            "lowest_eigenvalue_estimated": certificate.estimated,
            "null_modes": certificate.null_mode_count,
            "null_modes_by_kind": dict(certificate.null_modes),
            "linear_residual": max(
                [*sensitivity.tangents.residuals, certificate.linear_residual or 0.0]
            ),
            "derivative_error": max(errors) if errors else certificate.derivative_error,
            "derivative_error_rough": certificate.rough,
            "linear_solver": certificate.linear_solver,
        },
        "diameters": diameters_of(equilibrium),
        **({"cell_derivatives": own["cell_derivatives"]} if "cell_derivatives" in own else {}),
    }


def versions() -> dict[str, str]:
    """Versions of mdsens and of the packages that its numbers come from.

    Returns:
        Version by package.
    """
    return {"mdsens": mdsens.__version__} | {p: importlib.metadata.version(p) for p in PACKAGES}


def write_files(
    folder: Path,
    study: Study,
    derivatives: StudySensitivity,
    results: dict[str, Any],
    ensemble: Ensemble | None = None,
) -> None:
    """Write everything but the figures and the report.

    Arguments:
        folder: where to.
        study: what was run.
        derivatives: its derivatives.
        results: what `collect` returned.
        ensemble: its random starts, if there are any.
    """
    write_json(folder / RESULTS_NAME, results)
    (folder / TABLE_NAME).write_text(csv_text(derivatives.rows()), "utf-8")
    for name, sensitivity in derivatives.structures.items():
        atoms = structure_with_vectors(sensitivity, study.structures[name].atoms)
        with (folder / of_structure(STRUCTURE_NAME, name)).open("w", encoding="utf-8") as file:
            ase.io.write(file, atoms, format="extxyz")
        history = sensitivity.equilibrium.history
        if history is not None:
            (folder / of_structure(HISTORY_NAME, name)).write_text(_course(history), "utf-8")
    if ensemble is not None:
        np.savez_compressed(folder / ENSEMBLE_NAME, **curves(ensemble))  # type: ignore[arg-type]
    (folder / FILE_NAME).write_text(to_toml(_as_run(study)), "utf-8")


def copy_inputs(folder: Path, study: Study) -> None:
    """Keep the files that a study reads beside its results, which can then be run by themselves.

    Arguments:
        folder: where the results go.
        study: what is run.

    Raises:
        OSError: a file cannot be read or written.
    """
    for structure in study.structures.values():
        source, name = structure.structure_file, input_name(structure)
        if source is not None and name is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    for part, source in study.potential_files.items():
        kept = folder / potential_name(part, source)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, kept)


def potential_name(part: tuple[str, ...], source: Path) -> str:
    """Where in the results a potential's file is kept.

    Arguments:
        part: names that lead to a part of a sum; none of a potential that is no sum.
        source: the file.

    Returns:
        E.g. ``"input/core/Cu.eam"``.
    """
    return "/".join([INPUT_FOLDER, *part, source.name])


def input_name(structure: StudyStructure) -> str | None:
    """Where in the results a structure's file is kept.

    Arguments:
        structure: a structure of a study.

    Returns:
        A path inside the folder of results; None where no file was read.
    """
    source = structure.structure_file
    if source is None:
        return None
    return "/".join([INPUT_FOLDER, *([structure.name] if structure.name else []), source.name])


def possible_files(study: Study) -> list[str]:
    """Every file that a run may write, but for the figures of its structures.

    Arguments:
        study: what is to be run.

    Returns:
        Paths inside the folder of results.
    """
    names = [RESULTS_NAME, TABLE_NAME, FILE_NAME] + [ENSEMBLE_NAME] * bool(study.seeds)
    for structure in study.structures.values():
        names += [of_structure(name, structure.name) for name in (STRUCTURE_NAME, HISTORY_NAME)]
        name = input_name(structure)
        names += [] if name is None else [name]
    return names + [potential_name(*kept) for kept in study.potential_files.items()]


def _as_run(study: Study) -> dict[str, Any]:
    """The tables of a study as they are written beside its results."""
    table = study.table | {"name": study.name}
    for structure in study.structures.values():
        name = input_name(structure)
        if name is None:
            continue
        if structure.name:
            own = {**table["structures"][structure.name], "file": name}
            table["structures"] = {**table["structures"], structure.name: own}
        else:
            table["structure"] = {**table["structure"], "file": name}
    for part, source in study.potential_files.items():
        table["potential"] = _with_file(table["potential"], part, potential_name(part, source))
    return table


def _with_file(table: Mapping[str, Any], part: tuple[str, ...], file: str) -> dict[str, Any]:
    """The table of a potential with another file for a part of it."""
    if not part:
        return {**table, "file": file}
    first, *rest = part
    changed = _with_file(table["parts"][first], tuple(rest), file)
    return {**table, "parts": {**table["parts"], first: changed}}


def structure_with_vectors(sensitivity: Sensitivity, like: ase.Atoms | None = None) -> ase.Atoms:
    """The relaxed structure with energy, forces, and a vector per parameter.

    Arguments:
        sensitivity: the derivatives.
        like: the structure that was relaxed, of which tags, momenta, charges and ``info`` are kept;
            None where it has none.

    Returns:
        ase.Atoms with an array (N, 3) of d positions / d parameter for each parameter.
    """
    atoms = sensitivity.equilibrium.to_ase(None if like is None else _writable(like))
    for name, moved in sensitivity.positions.items():
        vectors = np.zeros((len(atoms), 3))
        vectors[:, : moved.shape[1]] = np.asarray(moved)
        atoms.set_array(vector_name(name), vectors)
    return atoms


def _writable(atoms: ase.Atoms) -> ase.Atoms:
    """The structure with what a file of extended XYZ can hold of it.

    Columns of an earlier run's vectors would pass for those of this one.
    """
    kept = atoms.copy()
    for name in set(kept.arrays) - set(KEPT_ARRAYS):
        del kept.arrays[name]
    kept.info = {key: value for key, value in atoms.info.items() if _is_kept(key, value)}
    return kept


def _is_kept(key: Any, value: Any) -> bool:
    """Whether extended XYZ gives back an entry of ``info``: many readers of ASE add objects."""
    text = io.StringIO()
    try:
        ase.io.write(text, ase.Atoms("X", info={key: value}), format="extxyz")
        text.seek(0)
        (one,) = ase.io.read(text, index=":", format="extxyz")
        back = one.info[key]
        return type(back) is type(value) and np.array_equal(back, value)
    except Exception:
        return False


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write strict JSON: numbers that are not finite become null.

    Arguments:
        path: the file.
        results: what it shall hold.
    """
    path.write_text(json.dumps(finite(results), indent=1, allow_nan=False) + "\n", "utf-8")


def finite(value: Any) -> Any:
    """The same with None in the place of every number that is not finite.

    Arguments:
        value: numbers, texts, lists and dictionaries.

    Returns:
        The same, copied.
    """
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _course(history: History) -> str:
    """The course of a relaxation as a table with commas."""
    course = {"enthalpy": history.enthalpies, "largest_force": history.forces}
    if history.stresses is not None and np.isfinite(history.stresses).all():
        course["largest_stress"] = history.stresses
    columns = {name: column.tolist() for name, column in course.items()}
    return csv_text(
        {"step": step, **dict(zip(columns, values, strict=True))}
        for step, values in enumerate(zip(*columns.values(), strict=True))
    )
