"""From a study.toml to results on disk, their check, and their report."""

from typing import TYPE_CHECKING

from mdsens.lazy_names import names_on_first_use

if TYPE_CHECKING:
    from mdsens.study.compare import RunComparison as RunComparison
    from mdsens.study.compare import compare_runs as compare_runs
    from mdsens.study.find import find_study as find_study
    from mdsens.study.find import ready_studies as ready_studies
    from mdsens.study.new import new_study as new_study
    from mdsens.study.plan import Plan as Plan
    from mdsens.study.plan import plan_study as plan_study
    from mdsens.study.report import write_report as write_report
    from mdsens.study.run import FinishedRun as FinishedRun
    from mdsens.study.run import run_study as run_study
    from mdsens.study.study import Study as Study
    from mdsens.study.study import load_study as load_study
    from mdsens.study.sweep import Sweep as Sweep
    from mdsens.study.sweep import read_sweep as read_sweep
    from mdsens.study.sweep_results import load as load
    from mdsens.study.sweep_run import FinishedSweep as FinishedSweep
    from mdsens.study.sweep_run import run_sweep as run_sweep
    from mdsens.study.verify import Comparison as Comparison
    from mdsens.study.verify import Verification as Verification
    from mdsens.study.verify import verify_study as verify_study

# Public name -> module that defines it. Imported on first use: the command finds mistakes in a
# study's file before it has imported JAX.
_HOMES = {
    "Comparison": "verify",
    "FinishedRun": "run",
    "FinishedSweep": "sweep_run",
    "Plan": "plan",
    "RunComparison": "compare",
    "Study": "study",
    "Sweep": "sweep",
    "Verification": "verify",
    "compare_runs": "compare",
    "find_study": "find",
    "load": "sweep_results",
    "load_study": "study",
    "new_study": "new",
    "plan_study": "plan",
    "read_sweep": "sweep",
    "ready_studies": "find",
    "run_study": "run",
    "run_sweep": "sweep_run",
    "verify_study": "verify",
    "write_report": "report",
}

__all__ = list(_HOMES)


__getattr__ = names_on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
