"""Run a study: relax, differentiate, and put the results on disk."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from mdsens.errors import InputError, UnreliableDerivativeError
from mdsens.files import path_of
from mdsens.particles.structure_files import require_assertions
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities import (
    EnergyVolume,
    PhononBands,
    Sensitivity,
    energy_volume,
    phonon_bands,
    sensitivity,
)
from mdsens.sensitivities.reliability import require_reliable
from mdsens.study.compilation import CompilationClock
from mdsens.study.ensemble import Ensemble, run_ensemble
from mdsens.study.figure_names import possible_figures
from mdsens.study.find import FILE_NAME
from mdsens.study.fingerprint import fingerprint
from mdsens.study.output import kept_folder, writing
from mdsens.study.pictures import elastic_observables, elastic_rows
from mdsens.study.rehearsal import rehearsal
from mdsens.study.report_process import ReportProcess
from mdsens.study.results import collect, copy_inputs, possible_files, write_files
from mdsens.study.results_file import RESULTS_NAME, read_results
from mdsens.study.study import Study, StudyStructure
from mdsens.study.study_sensitivity import StudySensitivity, study_sensitivity
from mdsens.study.sweep_file import SWEEP_NAME

_Curves = dict[str, dict[str, EnergyVolume | PhononBands]]

#: Where results go, in the current folder, unless told otherwise.
RESULTS_FOLDER = "results"


@dataclasses.dataclass(frozen=True)
class Solved:
    """The structures of a study, relaxed and differentiated beside those of other runs.

    Attributes:
        structures: the derivatives of each, by its name; empty for that of a study with only one.
        steps: steps that each relaxation took.
        timing: seconds by stage.
        ensemble: its random starts; None where it has none, or they are not known.
    """

    structures: dict[str, Sensitivity]
    steps: dict[str, int]
    timing: dict[str, float]
    ensemble: Ensemble | None = None


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run leaves behind.

    Attributes:
        folder: where its files are.
        results: what its results.json holds.
        derivatives: of each structure, and of formulas.
        ensemble: the random starts; None where the study asks for none.
    """

    folder: Path
    results: dict[str, Any]
    derivatives: StudySensitivity
    ensemble: Ensemble | None = None

    @property
    def sensitivity(self) -> Sensitivity:
        """The derivatives of the structure of a study with only one.

        Raises:
            InputError: it has several.
        """
        structures = self.derivatives.structures
        if len(structures) > 1:
            raise InputError(
                "the study has several structures: take one of derivatives.structures, "
                + ", ".join(structures)
            )
        (sensitivity,) = structures.values()
        return sensitivity


def run_study(
    study: Study,
    out: str | Path | None = None,
    allow_unconverged: bool = False,
    progress: bool = False,
    report: bool = True,
    about: Mapping[str, Any] | None = None,
    resume: bool = False,
    solved: Solved | None = None,
    draws: ReportProcess | None = None,
    rehearsed: bool = False,
) -> FinishedRun:
    """Run a study and write its results; all of them, or nothing.

    Its structures are relaxed and differentiated one after the other; then follow the formulas.

    An earlier run's results in the folder are replaced when the new ones are complete. Other files
    that stand there stay; a folder with files and none of mdsens is refused.

    Times are wall times in seconds: ``relax_s`` is the relaxation with the check of the
    observables before it, ``sensitivity_s`` the certificate and the derivatives. Both include
    what JAX needed to trace and compile, and ``compile_s`` is how much of their sum that was.
    ``energy_volume_s`` and ``phonon_bands_s`` are what these curves took in all, and ``ensemble_s``
    what an ensemble of random starts took.

    Arguments:
        study: from `load_study`.
        out: folder for the results; ``results/<name of the study>`` by default.
        allow_unconverged: give results where the structure is not a converged, stable minimum, as
            the key of that name in the study does.
        progress: whether to show a progress bar.
        report: whether to draw figures and write a report.
        about: what else results.json shall say.
        resume: go on with the relaxation that an earlier run into the folder was at when it was
            ended; each leaves a checkpoint every minute.
        solved: its relaxed structures, where they are known; then only files are written.
        draws: a process that draws the report; None: this one does.
        rehearsed: whether another thread compiles ahead, see `rehearsal`.

    Returns:
        The FinishedRun.

    Raises:
        InputError: a mistake in the study, or an output folder that cannot be written.
        RelaxationError: energy or forces are not finite, or the structure flies apart.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    # The report is made from the files, at the very end.
    require_assertions()
    if study.file.sweep is not None:
        raise InputError("the study has a sweep: use run_sweep, or leave out its table")
    target = default_folder(study.name) if out is None else path_of(out, "output folder")
    if (target / SWEEP_NAME).is_file():
        raise InputError(
            f"output folder {str(target)!r} holds a sweep: give another for the results of one run"
        )
    allow_unconverged = allow_unconverged or study.file.sensitivity.allow_unconverged
    asked = {
        name: [of.name for of in structure.observables]
        for name, structure in study.structures.items()
    }
    names = [*possible_files(study), *possible_figures(asked, study.parameters)]
    inputs = [study.folder / FILE_NAME]
    read = [structure.structure_file for structure in study.structures.values()]
    inputs += [path for path in (*read, *study.potential_files.values()) if path is not None]
    with (
        kept_folder(target, names, inputs) as output,
        output.checkpoints(resume) as checkpoints,
        output.files() as folder,
        CompilationClock() as compilation,
    ):
        # First, so that they are what was run, whatever becomes of them meanwhile.
        with writing(target):
            copy_inputs(folder, study)
        known = {"fingerprint": fingerprint(study.table, study.folder), **(about or {})}
        curves: _Curves = {}
        if solved is None:
            # Of a study that was changed meanwhile they have other names, and are not gone on from.
            start = str(checkpoints / known["fingerprint"][:16])
            rehearsing = rehearsal(study) if rehearsed else contextlib.nullcontext()
            with rehearsing, study.of_one_size():
                solved, curves = _solved(study, start, allow_unconverged, progress, compilation)
        found, steps = solved.structures, solved.steps
        derivatives = study_sensitivity(found, study.formulas)
        done, timing = time.perf_counter(), dict(solved.timing)
        ensemble = solved.ensemble
        if study.seeds and ensemble is None:
            ensemble = run_ensemble(study, progress=progress)
            timing["ensemble_s"] = time.perf_counter() - done
        results = collect(study, derivatives, timing, ensemble, curves, steps) | known
        with writing(target):
            write_files(folder, study, derivatives, results, ensemble)
            if report and not (draws and draws.make_report(folder, lambda: _look_ahead(results))):
                _draw(folder)
    return FinishedRun(target, results, derivatives, ensemble)


def _look_ahead(results: dict[str, Any]) -> None:
    """Find what is printed of elastic constants, which is known from then on."""
    for name, _, _ in elastic_observables(results):
        elastic_rows(results, name)


def _draw(folder: Path) -> None:
    """Draw the report of a run in its folder, with what only this needs."""
    from mdsens.study.report import make_report

    make_report(folder, folder)


def _solved(
    study: Study,
    start: str,
    allow_unconverged: bool,
    progress: bool,
    compilation: CompilationClock,
) -> tuple[Solved, _Curves]:
    """The structures of a study, one after the other, and their curves.

    Checkpoints are at the path that begins with ``start``.
    """
    begin = time.perf_counter()
    study.check()
    checked = time.perf_counter()
    found, steps = {}, {}
    spent = {"relax_s": checked - begin, "sensitivity_s": 0.0}
    curves: _Curves = {}
    compiling_curves = 0.0
    for index, (name, structure) in enumerate(study.structures.items()):
        started = time.perf_counter()
        equilibrium = structure.relax(progress, Path(f"{start}-{index}.npz"))
        relaxed = time.perf_counter()
        history = equilibrium.history
        steps[name] = 0 if history is None else history.steps
        found[name] = _differentiated(study, structure, equilibrium, allow_unconverged)
        spent["relax_s"] += relaxed - started
        spent["sensitivity_s"] += time.perf_counter() - relaxed
        curves[name] = {}
        for key, curve in _curves(study, found[name]).items():
            begun, before = time.perf_counter(), compilation.seconds
            curves[name][key] = curve()
            compiling_curves += compilation.seconds - before
            spent[f"{key}_s"] = spent.get(f"{key}_s", 0.0) + time.perf_counter() - begun
    # Another thread may have compiled for longer than this one has waited.
    compiling = min(compilation.seconds - compiling_curves, sum(spent.values()))
    timing = {**spent, "compile_s": compiling}
    return Solved(found, steps, timing), curves


def default_folder(name: str) -> Path:
    """Where the results of a study go unless told otherwise.

    Arguments:
        name: what the study is called.

    Returns:
        The folder, in the current one.
    """
    return Path(RESULTS_FOLDER) / name


def is_finished(study: Study, out: str | Path | None = None) -> bool:
    """Whether a folder holds the results of a study.

    Arguments:
        study: from `load_study`.
        out: the folder; ``results/<name of the study>`` by default.

    Returns:
        False where it holds nothing.

    Raises:
        InputError: it holds results of another study, or of this one before it was changed.
    """
    target = default_folder(study.name) if out is None else path_of(out, "output folder")
    if not (target / RESULTS_NAME).is_file():
        return False
    results = read_results(target)
    if results.get("fingerprint") != fingerprint(study.table, study.folder):
        raise InputError(
            f"output folder {str(target)!r} holds the results of another study, or of this one "
            "before it was changed: leave out --resume to replace them, or give another folder"
        )
    return True


def _curves(
    study: Study, found: Sensitivity
) -> dict[str, Callable[[], EnergyVolume | PhononBands]]:
    """What computes each of the curves that are asked for, of a structure."""
    curves: dict[str, Callable[[], EnergyVolume | PhononBands]] = {}
    volumes, bands = study.file.energy_volume, study.file.phonon_bands
    if volumes.points:
        curves["energy_volume"] = lambda: energy_volume(
            found.equilibrium, volumes.strain, volumes.points, study.curve_parameters
        )
    if bands.points:
        curves["phonon_bands"] = lambda: phonon_bands(found, bands.path, bands.points)
    return curves


def _differentiated(
    study: Study, structure: StudyStructure, equilibrium: Equilibrium, allow_unconverged: bool
) -> Sensitivity:
    """The derivatives of one structure, if it is reliable."""
    wanted = study.file.sensitivity
    if not allow_unconverged:
        try:
            require_reliable(equilibrium)
        except UnreliableDerivativeError as error:
            which = f"structures.{structure.name}: " if structure.name else ""
            raise UnreliableDerivativeError(f"{which}{error}") from None
    # Derivatives of the positions are written in any case, and forward mode needs no other.
    derivatives = sensitivity(
        equilibrium,
        structure.observables,
        study.parameters,
        "forward" if wanted.mode == "auto" else wanted.mode,
        allow_unconverged=allow_unconverged,
        error_estimate=wanted.error_estimate,
    )
    # In reverse mode they are computed here, where time is taken.
    jax.block_until_ready(derivatives.tangents.q)
    return derivatives
