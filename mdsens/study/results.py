"""The files of a finished run: results.json, relaxed.extxyz, tables, and the study as run."""

import importlib.metadata
import io
import json
import shutil
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

import mdsens
from mdsens.files import csv_text
from mdsens.particles.species_names import QUOTED_SPECIES_ARRAY, SPECIES_ARRAY
from mdsens.plots import diameters_of
from mdsens.sensitivities import Sensitivity
from mdsens.study.column_names import vector_name
from mdsens.study.ensemble import Ensemble, curves, summary
from mdsens.study.find import FILE_NAME
from mdsens.study.results_file import RESULTS_NAME, SCHEMA
from mdsens.study.study import Study
from mdsens.study.toml import to_toml
from mdsens.units import in_dimensions, quotient_unit_name, unit_name

STRUCTURE_NAME, TABLE_NAME, HISTORY_NAME = "relaxed.extxyz", "sensitivities.csv", "history.csv"
ENSEMBLE_NAME = "ensemble.npz"
#: The folder in which a run keeps what it has read, apart from what it writes.
INPUT_FOLDER = "input"
#: Arrays of the atoms of a structure's file that are written with the relaxed structure.
KEPT_ARRAYS = (
    "numbers", "positions", "tags", "momenta", "masses", "initial_charges", "initial_magmoms",
    SPECIES_ARRAY, QUOTED_SPECIES_ARRAY,
)  # fmt: skip
#: Packages whose versions decide the numbers.
PACKAGES = ("jax", "numpy", "ase")


def collect(
    study: Study,
    sensitivity: Sensitivity,
    timing: dict[str, float],
    ensemble: Ensemble | None = None,
) -> dict[str, Any]:
    """Everything that results.json holds.

    Arguments:
        study: what was run.
        sensitivity: its derivatives.
        timing: seconds by stage.
        ensemble: its random starts, if there are any.

    Returns:
        A dictionary of plain Python numbers, texts, lists and dictionaries.
    """
    equilibrium = sensitivity.equilibrium
    potential, units = equilibrium.potential, equilibrium.system.units
    certificate = sensitivity.certificate
    errors = sensitivity.tangents.errors
    parameters = sensitivity.parameters
    length_units = {
        name: quotient_unit_name("length", potential.parameter_dimension(name), units)
        for name in parameters
    }
    stress = certificate.largest_stress
    if stress is not None and np.isnan(stress):
        # The cell has no volume that a stress could be per.
        stress = None
    stress_unit = unit_name(in_dimensions("energy/volume", equilibrium.system.dimension), units)
    return {
        "schema": SCHEMA,
        "study": study.name,
        "description": study.file.description,
        "units": {
            "system": units,
            "energy": unit_name("energy", units),
            "largest_force": unit_name("energy/length", units),
            "fmax": unit_name("energy/length", units),
            **({} if stress is None else {"largest_stress": stress_unit, "smax": stress_unit}),
            "length": unit_name("length", units),
            "lowest_eigenvalue": unit_name("energy/length^2", units),
            "parameters": {name: potential.parameter_units(name, units) for name in parameters},
            "sensitivities": {
                name: {parameter: sensitivity.units(name, parameter) for parameter in parameters}
                for name in sensitivity
            },
            "vectors": length_units,
            **({"cell_derivatives": length_units} if sensitivity.relaxes_cell else {}),
            "timing": "s",
        },
        "energy": float(equilibrium.energy),
        "largest_force": float(equilibrium.largest_force),
        "fmax": equilibrium.fmax,
        **({} if stress is None else {"largest_stress": stress, "smax": equilibrium.smax}),
        "converged": certificate.converged,
        "stable": certificate.stable,
        "kind": certificate.kind,
        "steps": 0 if equilibrium.history is None else equilibrium.history.steps,
        "atoms": equilibrium.system.atom_count,
        "dimension": equilibrium.system.dimension,
        "cell": np.asarray(equilibrium.cell).tolist(),
        "pbc": list(equilibrium.system.pbc),
        **sensitivity.to_dict(),
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
        "timing": timing,
        "vectors": {name: vector_name(name) for name in parameters},
        "diameters": diameters_of(equilibrium),
        "mode": sensitivity.mode,
        "logarithmic": study.file.sensitivity.logarithmic,
        "versions": versions(),
    } | ({} if ensemble is None else {"ensemble": summary(ensemble, potential, units)})


def versions() -> dict[str, str]:
    """Versions of mdsens and of the packages that its numbers come from.

    Returns:
        Version by package.
    """
    return {"mdsens": mdsens.__version__} | {p: importlib.metadata.version(p) for p in PACKAGES}


def write_files(
    folder: Path,
    study: Study,
    sensitivity: Sensitivity,
    results: dict[str, Any],
    ensemble: Ensemble | None = None,
) -> None:
    """Write everything but the figures and the report.

    Arguments:
        folder: where to.
        study: what was run.
        sensitivity: its derivatives.
        results: what `collect` returned.
        ensemble: its random starts, if there are any.
    """
    write_json(folder / RESULTS_NAME, results)
    with (folder / STRUCTURE_NAME).open("w", encoding="utf-8") as file:
        ase.io.write(file, structure_with_vectors(sensitivity, study.atoms), format="extxyz")
    (folder / TABLE_NAME).write_text(sensitivity.to_csv(), "utf-8")
    history = sensitivity.equilibrium.history
    if history is not None:
        course = {"enthalpy": history.enthalpies, "largest_force": history.forces}
        if history.stresses is not None and np.isfinite(history.stresses).all():
            course["largest_stress"] = history.stresses
        columns = {name: column.tolist() for name, column in course.items()}
        rows = (
            {"step": step, **dict(zip(columns, values, strict=True))}
            for step, values in enumerate(zip(*columns.values(), strict=True))
        )
        (folder / HISTORY_NAME).write_text(csv_text(rows), "utf-8")
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
    source, name = study.structure_file, input_name(study)
    if source is not None and name is not None:
        (folder / name).parent.mkdir()
        shutil.copyfile(source, folder / name)


def input_name(study: Study) -> str | None:
    """Where in the results the structure's file is kept.

    Arguments:
        study: what is run.

    Returns:
        A path inside the folder of results; None where no file was read.
    """
    source = study.structure_file
    return None if source is None else f"{INPUT_FOLDER}/{source.name}"


def possible_files(study: Study) -> list[str]:
    """Every file that a run may write, but for the figures of its structure.

    Arguments:
        study: what is to be run.

    Returns:
        Paths inside the folder of results.
    """
    names = [RESULTS_NAME, STRUCTURE_NAME, TABLE_NAME, HISTORY_NAME, FILE_NAME]
    name = input_name(study)
    return names + [ENSEMBLE_NAME] * bool(study.seeds) + ([] if name is None else [name])


def _as_run(study: Study) -> dict[str, Any]:
    """The tables of a study as they are written beside its results."""
    table = dict(study.table)
    table["name"] = study.name
    name = input_name(study)
    if name is not None:
        table["structure"] = {**table["structure"], "file": name}
    return table


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


def read_atoms(path: Path) -> ase.Atoms:
    """The relaxed structure of a run, as it was written.

    Arguments:
        path: a relaxed.extxyz.

    Returns:
        ase.Atoms with the vectors.
    """
    # As a list of one: a path ending in @ and a number would mean another file.
    with path.open(encoding="utf-8") as file:
        (atoms,) = ase.io.read(file, index=":", format="extxyz")
    return atoms


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
