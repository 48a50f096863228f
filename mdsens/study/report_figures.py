"""The figures of a finished run, in sets that are drawn independently of one another."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.curves import EnergyVolume, PhononBands
from mdsens.plots import Motion
from mdsens.study.figure_names import (
    ENERGY_VOLUME,
    PHONON_BANDS,
    density_figures,
    figure_of,
)
from mdsens.study.pictures import densities_among, elastic_figure, elastic_observables
from mdsens.study.report_structures import Shown, read_history
from mdsens.study.results_file import structures_of
from mdsens.study.run_files import ENSEMBLE_NAME, of_structure

#: Names of files and their figures; one figure may be the next one before that was changed.
NamedFigures = Iterator[tuple[str, Figure]]


def figure_sets(
    folder: Path, results: dict[str, Any], shown: dict[str, Shown], parts: int = 1
) -> list[Callable[[], NamedFigures]]:
    """What draws the figures of a report.

    Arguments:
        folder: that of the run.
        results: what results.json holds.
        shown: from `shown_structures`.
        parts: so many sets share what could be one.

    Returns:
        Functions without arguments.
    """
    sets: list[Callable[[], NamedFigures]] = []

    def add(function: Callable[..., NamedFigures], *given: Any) -> None:
        sets.append(functools.partial(function, *given))

    formulas = results.get("formulas", {})
    if formulas:
        add(_bars, "formulas", results, formulas)
    others = [name for name in results["observables"] if name not in formulas]
    add(_bars, "sensitivities", results, others)
    for observable, structure, name in elastic_observables(results):
        add(_elastic, of_structure(name, structure), results, observable)
    for name, only in structures_of(results).items():
        of = results | only
        add(_convergence, folder, of, name)
        if "energy_volume" in of:
            add(_energy_volume, of, name)
        if "phonon_bands" in of:
            bands = PhononBands.from_dict(of["phonon_bands"])
            for parameter in bands.derivatives or [""]:
                add(_bands, bands, name, parameter)
        densities = list(densities_among(results["observables"], name))
        for observable, kind in zip(densities, density_figures(len(densities)), strict=True):
            add(_densities, results, observable, kind, name, len(densities) > 1)
        moved = [motion for motion in shown[name].motions if motion.moves]
        share = -(-len(moved) // parts) or 1
        for begin in range(0, len(moved), share):
            add(_motions, of, name, shown[name], moved[begin : begin + share])
    if "ensemble" in results:
        add(_ensemble, folder, results)
    return sets


def _bars(file: str, results: dict[str, Any], names: Iterable[str]) -> NamedFigures:
    yield file, plots.sensitivities_figure(results, names)


def _elastic(file: str, results: dict[str, Any], observable: str) -> NamedFigures:
    figure = elastic_figure(results, observable)
    if figure is not None:
        yield file, figure


def _convergence(folder: Path, results: dict[str, Any], name: str) -> NamedFigures:
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


def _energy_volume(results: dict[str, Any], name: str) -> NamedFigures:
    curve = EnergyVolume.from_dict(results["energy_volume"])
    uncertainty = results["energy_volume"]["uncertainty"] or None
    yield of_structure(ENERGY_VOLUME, name), plots.energy_volume_figure(curve, uncertainty)


def _bands(bands: PhononBands, name: str, parameter: str) -> NamedFigures:
    if parameter:
        yield figure_of(PHONON_BANDS, name, parameter), plots.phonon_bands(bands, parameter)
    else:
        yield of_structure(PHONON_BANDS, name), plots.phonon_bands(bands)


def _densities(
    results: dict[str, Any], observable: str, kind: str, name: str, several: bool
) -> NamedFigures:
    given, units = results["observables"][observable], results["units"]
    for parameter, slopes in results["sensitivities"][observable].items():
        yield (
            figure_of(kind, name, parameter),
            plots.phonon_density_figure(
                plots.bin_centres(given["labels"]),
                np.array(given["value"], float),
                np.array(slopes, float),
                parameter,
                units["sensitivities"][observable][parameter],
                "reduced" if given["units"] == "reduced" else "THz",
                given["units"],
                observable if several else "",
            ),
        )


def _motions(
    results: dict[str, Any], name: str, shown: Shown, motions: list[Motion]
) -> NamedFigures:
    moved = plots.structure_figures(
        shown.atoms,
        {motion.parameter: motion.vectors for motion in motions},
        results["units"]["vectors"],
        results["units"]["length"],
        results["dimension"],
        results["diameters"],
        "cell_derivatives" in results,
    )
    for parameter, figure in moved:
        yield figure_of("structure", name, parameter), figure


def _ensemble(folder: Path, results: dict[str, Any]) -> NamedFigures:
    with np.load(folder / ENSEMBLE_NAME) as arrays:
        yield "ensemble", plots.ensemble_figure(dict(arrays), results["ensemble"])
