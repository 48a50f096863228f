"""The HTML report and the figures of a finished run, from its files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.particles.structure_files import require_assertions
from mdsens.sensitivities import EnergyVolume, PhononBands
from mdsens.study.find import FILE_NAME
from mdsens.study.marker import MARKER_NAME, read_marker
from mdsens.study.output import output_folder, writing
from mdsens.study.pictures import FIGURES, elastic_figure, elastic_observables
from mdsens.study.report_page import report_page
from mdsens.study.report_structures import (
    ENERGY_VOLUME,
    PHONON_BANDS,
    Shown,
    figure_of,
    read_history,
    shown_structures,
)
from mdsens.study.results import ENSEMBLE_NAME, STRUCTURE_NAME, TABLE_NAME, of_structure
from mdsens.study.results_file import read_results, structures_of

REPORT_NAME = "report.html"


def write_report(folder: str | Path) -> list[Path]:
    """Make the figures and report.html of a finished run anew.

    Arguments:
        folder: what `mdsens run` wrote.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder holds no results, somebody has changed them, or it cannot be written.
    """
    require_assertions()
    folder = path_of(folder, "folder")
    _require_as_written(folder)
    with output_folder(folder, replaces=_is_of_report) as new, writing(folder):
        return [folder / path.name for path in make_report(folder, new)]


def make_report(folder: Path, goal: Path) -> list[Path]:
    """Make figures and report.html from the files of a run.

    Arguments:
        folder: where these files are.
        goal: the folder to write to; it may be the same.

    Returns:
        The files that were written.

    Raises:
        InputError: the files are no results of a run.
        OSError: the goal cannot be written.
    """
    results = read_results(folder)
    shown = shown_structures(folder, results)
    figures = plots.write_figures(
        (goal / f"{name}.png", figure) for name, figure in _figures(folder, results, shown)
    )
    report = goal / REPORT_NAME
    report.write_text(report_page(folder, results, figures, shown), "utf-8")
    return [*figures, report]


def possible_figures(structures: Iterable[str], parameters: Iterable[str]) -> list[str]:
    """Every file of a report.

    Arguments:
        structures: names of the structures; a single empty one in a study of one structure.
        parameters: names of the parameters that the run differentiates in.

    Returns:
        Names of files.
    """
    figures, moving = ["formulas", "sensitivities", "ensemble"], list(parameters)
    for structure in structures:
        whole = ("convergence", ENERGY_VOLUME, PHONON_BANDS, *FIGURES.values())
        figures += [of_structure(name, structure) for name in whole]
        for kind in ("structure", PHONON_BANDS):
            figures += [figure_of(kind, structure, parameter) for parameter in moving]
    return [REPORT_NAME, *(f"{name}.png" for name in figures)]


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


def _figures(
    folder: Path, results: dict[str, Any], shown: dict[str, Shown]
) -> Iterator[tuple[str, Figure]]:
    """Names of files and their figures; one figure may be the next one before that was changed."""
    formulas = results.get("formulas", {})
    if formulas:
        yield "formulas", plots.sensitivities_figure(results, formulas)
    others = [name for name in results["observables"] if name not in formulas]
    yield "sensitivities", plots.sensitivities_figure(results, others)
    for observable, structure, name in elastic_observables(results):
        figure = elastic_figure(results, observable)
        if figure is not None:
            yield of_structure(name, structure), figure
    for name, of in structures_of(results).items():
        yield from _structure_figures(folder, results | of, name, shown[name])
    if "ensemble" in results:
        with np.load(folder / ENSEMBLE_NAME) as arrays:
            yield "ensemble", plots.ensemble_figure(dict(arrays), results["ensemble"])


def _structure_figures(
    folder: Path, results: dict[str, Any], name: str, shown: Shown
) -> Iterator[tuple[str, Figure]]:
    """The figures of one structure."""
    rows = read_history(folder, name)
    if rows:
        figure = plots.convergence_figure(
            [int(row["step"]) for row in rows],
            [float(row["largest_force"] or "nan") for row in rows],
            results["fmax"],
            results["units"]["fmax"],
            [float(row["largest_stress"] or "nan") for row in rows if "largest_stress" in row],
            results.get("smax"),
            results["units"].get("smax") or "",
        )
        yield of_structure("convergence", name), figure
    if "energy_volume" in results:
        curve = EnergyVolume.from_dict(results["energy_volume"])
        uncertainty = results["energy_volume"]["uncertainty"] or None
        figure = plots.energy_volume_figure(curve, uncertainty)
        yield of_structure(ENERGY_VOLUME, name), figure
    if "phonon_bands" in results:
        bands = PhononBands.from_dict(results["phonon_bands"])
        if not bands.derivatives:
            yield of_structure(PHONON_BANDS, name), plots.phonon_bands(bands)
        for parameter in bands.derivatives:
            figure = plots.phonon_bands(bands, parameter)
            yield figure_of(PHONON_BANDS, name, parameter), figure
    moved = plots.structure_figures(
        shown.atoms,
        {motion.parameter: motion.vectors for motion in shown.motions if motion.moves},
        results["units"]["vectors"],
        results["units"]["length"],
        results["dimension"],
        results["diameters"],
        "cell_derivatives" in results,
    )
    for parameter, figure in moved:
        yield figure_of("structure", name, parameter), figure
