"""The HTML report and the figures of a finished run, from its files."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdsens import plots
from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.particles.structure_files import require_assertions
from mdsens.side_by_side import side_by_side
from mdsens.study.figure_names import REPORT_NAME
from mdsens.study.find import FILE_NAME
from mdsens.study.marker import MARKER_NAME, read_marker
from mdsens.study.output import output_folder, writing
from mdsens.study.report_figures import NamedFigures, figure_sets
from mdsens.study.report_page import report_page
from mdsens.study.report_structures import shown_structures
from mdsens.study.results_file import read_results, structures_of
from mdsens.study.run_files import ENSEMBLE_NAME, STRUCTURE_NAME, TABLE_NAME, of_structure
from mdsens.study.sweep_file import SWEEP_NAME


def write_report(folder: str | Path) -> list[Path]:
    """Make the figures and report.html of a finished run anew, or the overview of a sweep.

    Arguments:
        folder: what `mdsens run` wrote; of a sweep, as far as it has come.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder holds no results, somebody has changed them, or it cannot be written.
    """
    require_assertions()
    folder = path_of(folder, "folder")
    if (folder / SWEEP_NAME).is_file():
        # Not by each run: xarray takes long to import.
        from mdsens.study.sweep_report import is_of_summary, write_summary

        with output_folder(folder, replaces=is_of_summary) as new, writing(folder):
            write_summary(folder, new)
            return sorted(folder / path.name for path in new.iterdir())
    _require_as_written(folder)
    with output_folder(folder, replaces=_is_of_report) as new, writing(folder):
        return [folder / path.name for path in make_report(folder, new)]


def make_report(folder: Path, goal: Path, processes: int = 1) -> list[Path]:
    """Make figures and report.html from the files of a run.

    Arguments:
        folder: where these files are.
        goal: the folder to write to; it may be the same.
        processes: so many draw, where this one has no threads yet.

    Returns:
        The files that were written.

    Raises:
        InputError: the files are no results of a run.
        OSError: the goal cannot be written.
    """
    results = read_results(folder)
    shown = shown_structures(folder, results)
    sets = figure_sets(folder, results, shown, processes)
    tasks = [functools.partial(_written, goal, figures) for figures in sets]
    figures = [path for paths in side_by_side(tasks, processes) for path in paths]
    report = goal / REPORT_NAME
    report.write_text(report_page(folder, results, figures, shown), "utf-8")
    return [*figures, report]


def _is_of_report(name: str) -> bool:
    return name == REPORT_NAME or ("/" not in name and name.endswith(".png"))


def _require_as_written(folder: Path) -> None:
    """Refuse a folder whose results are not those that a run of mdsens has written there."""
    try:
        marker = read_marker(folder)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be read: {error.strerror}") from None
    results = read_results(folder)
    if marker is None:
        raise InputError(
            f"{str(folder)!r} has no {MARKER_NAME}: its results are of an earlier version, or of "
            "another program; run the study again"
        )
    for name in _needed(results):
        if not (folder / name).is_file():
            raise InputError(f"{str(folder)!r} lacks {name}: run the study again")
    for name in sorted(marker.names):
        if not _is_of_report(name) and not marker.is_unchanged(folder, name):
            raise InputError(
                f"{str(folder)!r}: {name!r} was changed after mdsens wrote it; run the study again"
            )


def _needed(results: dict[str, Any]) -> list[str]:
    structures = [of_structure(STRUCTURE_NAME, name) for name in structures_of(results)]
    return [*structures, TABLE_NAME, FILE_NAME] + [ENSEMBLE_NAME] * ("ensemble" in results)


def _written(goal: Path, figures: Callable[[], NamedFigures]) -> list[Path]:
    return plots.write_figures((goal / f"{name}.png", figure) for name, figure in figures())
