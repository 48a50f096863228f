"""Run a study: relax, differentiate, and put the results on disk."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from mdsens.sensitivities import Sensitivity, sensitivity
from mdsens.sensitivities.sensitivity import require_reliable
from mdsens.study.compilation import CompilationClock
from mdsens.study.ensemble import Ensemble, run_ensemble
from mdsens.study.output import output_folder
from mdsens.study.report import write_report
from mdsens.study.results import collect, write_files
from mdsens.study.study import Study

#: Where results go, in the current folder, unless told otherwise.
RESULTS_FOLDER = "results"


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run leaves behind.

    Attributes:
        folder: where its files are.
        results: what its results.json holds.
        sensitivity: its derivatives.
        ensemble: the random starts; None where the study asks for none.
    """

    folder: Path
    results: dict[str, Any]
    sensitivity: Sensitivity
    ensemble: Ensemble | None = None


def run_study(
    study: Study,
    out: str | Path | None = None,
    allow_unconverged: bool = False,
    progress: bool = False,
) -> FinishedRun:
    """Run a study and write its results; all of them, or nothing.

    Times are wall times in seconds: ``relax_s`` is the relaxation with the check of the
    observables before it, ``sensitivity_s`` the certificate and the derivatives. Both include
    what JAX needed to trace and compile, and ``compile_s`` is how much of their sum that was.
    ``ensemble_s`` is what an ensemble of random starts took in all.

    Arguments:
        study: from `load_study`.
        out: folder for the results; ``results/<name of the study>`` by default.
        allow_unconverged: give results where the structure is not a converged, stable minimum.
        progress: whether to show a progress bar.

    Returns:
        The FinishedRun.

    Raises:
        InputError: a mistake in the study, or an output folder that cannot be written.
        RelaxationError: energy or forces are not finite, or the structure flies apart.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    target = Path(RESULTS_FOLDER) / study.name if out is None else Path(out)
    with output_folder(target) as folder, CompilationClock() as compilation:
        begin = time.perf_counter()
        study.check()
        equilibrium = study.relax(progress)
        relaxed = time.perf_counter()
        if not allow_unconverged:
            require_reliable(equilibrium.certificate)
        # Derivatives of the positions are written in any case, and forward mode needs no other.
        mode = study.file.sensitivity.mode
        derivatives = sensitivity(
            equilibrium,
            study.observables,
            study.parameters,
            "forward" if mode == "auto" else mode,
            allow_unconverged=allow_unconverged,
        )
        # In reverse mode they are computed here, where time is taken.
        assert set(derivatives.tangents.q) == set(study.parameters)
        done = time.perf_counter()
        timing = {
            "relax_s": relaxed - begin,
            "sensitivity_s": done - relaxed,
            "compile_s": compilation.seconds,
        }
        ensemble = run_ensemble(study, progress=progress) if study.seeds else None
        if ensemble is not None:
            timing["ensemble_s"] = time.perf_counter() - done
        results = collect(study, derivatives, timing, ensemble)
        write_files(folder, study, derivatives, results, ensemble)
        write_report(folder)
    return FinishedRun(target, results, derivatives, ensemble)
