"""The summary of a sweep, made from the files of its runs: arrays, a table, figures, and a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.study.run_files import ENSEMBLE_NAME
from mdsens.study.sweep_file import SWEEP_NAME, read_manifest, run_name
from mdsens.study.sweep_page import sweep_page
from mdsens.study.sweep_results import (
    ARRAYS_NAMES,
    dataset_of_sweep,
    finished_results,
    write_arrays,
)
from mdsens.study.sweep_table import TABLE_NAME, table_text

REPORT_NAME = "sweep.html"
#: What the figure of an ensemble shows, and which of its axes is that of the starts.
ALONG_STARTS = {"rattlers": 0, "unrolled_norms": 1, "distances": 1, "implicit_norms": 0}
#: Keys over which there are figures.
MOST_FIGURES = 6


def is_of_summary(name: str) -> bool:
    """Whether a file of a sweep's folder is made from those of its runs.

    Arguments:
        name: path inside the folder.

    Returns:
        Whether it is sweep.json, or of the summary.
    """
    figure = name.startswith("sweep-") and name.endswith(".png") and "/" not in name
    made = (SWEEP_NAME, TABLE_NAME, REPORT_NAME, *ARRAYS_NAMES.values())
    return figure or name.split("/")[0] in made


def write_summary(folder: Path, goal: Path) -> None:
    """Write the labelled arrays, sweep.csv, figures and sweep.html.

    Arguments:
        folder: that of the sweep.
        goal: the folder to write to; sweep.json is copied there.

    Raises:
        InputError: results of a run are damaged.
        OSError: the goal cannot be written.
    """
    manifest = read_manifest(folder)
    results = dict(finished_results(folder, manifest))
    found = dataset_of_sweep(folder, manifest, results)
    (goal / SWEEP_NAME).write_bytes((folder / SWEEP_NAME).read_bytes())
    write_arrays(found, goal, manifest["sweep"].get("arrays", "netcdf"))
    (goal / TABLE_NAME).write_text(table_text(found, manifest), "utf-8")
    drawn = plots.write_figures(
        (goal / f"sweep-{number}.png", figure)
        for number, figure in enumerate(_figures(folder, found, manifest, results), 1)
    )
    (goal / REPORT_NAME).write_text(sweep_page(folder, found, manifest, drawn), "utf-8")


def _figures(
    folder: Path,
    found: xarray.Dataset,
    manifest: Mapping[str, Any],
    results: Mapping[int, Mapping[str, Any]],
) -> Iterator[Figure]:
    if not (found["state"] == "finished").any():
        return
    for key in list(manifest["keys"])[:MOST_FIGURES]:
        figure = plots.sweep_figure(found, list(manifest["keys"]), key)
        if figure is not None:
            yield figure
    ensemble = ensemble_of_all(folder, results)
    if ensemble is not None:
        yield ensemble


def ensemble_of_all(folder: Path, results: Mapping[int, Mapping[str, Any]]) -> Figure | None:
    """The random starts of all runs in one figure, as of an ensemble in one run.

    Arguments:
        folder: that of the sweep.
        results: those of runs by their numbers.

    Returns:
        The Figure; None where there are no starts, or starts of several parameters, minimisers or
        numbers of steps, which have no axes in common.
    """
    told = {run: of["ensemble"] for run, of in results.items() if of.get("ensemble")}
    kinds = {repr([of[key] for key in ("parameter", "minimiser", "steps", "units")])
             for of in told.values()}  # fmt: skip
    if len(kinds) != 1:
        return None
    curves: dict[str, list[np.ndarray]] = {}
    for run in told:
        with np.load(folder / run_name(run) / ENSEMBLE_NAME, allow_pickle=False) as file:
            for name, along in ALONG_STARTS.items():
                curves.setdefault(name, []).append(np.moveaxis(file[name], along, 0))
            steps = file["steps"]
    joined = {name: np.moveaxis(_one_below_the_other(parts), 0, ALONG_STARTS[name])
              for name, parts in curves.items()}  # fmt: skip
    return plots.ensemble_figure({"steps": steps, **joined}, next(iter(told.values())))


def _one_below_the_other(parts: list[np.ndarray]) -> np.ndarray:
    """Rows of all starts; structures of other numbers of particles are filled up by nothing."""
    longest = max(part[0].size for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), *[(0, longest - part[0].size)] * (part.ndim - 1))) for part in parts]
    )
