"""From a study.toml to results on disk, their check, and their report."""

from mdsens.study.find import find_study, ready_studies
from mdsens.study.report import write_report
from mdsens.study.run import FinishedRun, run_study
from mdsens.study.study import Study, load_study
from mdsens.study.verify import Comparison, Verification, verify_study

__all__ = [
    "Comparison",
    "FinishedRun",
    "Study",
    "Verification",
    "find_study",
    "load_study",
    "ready_studies",
    "run_study",
    "verify_study",
    "write_report",
]
