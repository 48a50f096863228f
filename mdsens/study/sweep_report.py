"""The summary of a sweep, made from the files of its runs: arrays, a table, figures, and a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.study.sweep_file import SWEEP_NAME, read_manifest
from mdsens.study.sweep_page import sweep_page
from mdsens.study.sweep_results import (
    ARRAYS_NAMES,
    dataset_of_sweep,
    finished_results,
    write_arrays,
)
from mdsens.study.sweep_table import TABLE_NAME, table_text

REPORT_NAME = "sweep.html"
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
        for number, figure in enumerate(_figures(found, manifest), 1)
    )
    (goal / REPORT_NAME).write_text(sweep_page(folder, found, manifest, drawn), "utf-8")


def _figures(found: xarray.Dataset, manifest: Mapping[str, Any]) -> Iterator[Figure]:
    if not (found["state"] == "finished").any():
        return
    for key in list(manifest["keys"])[:MOST_FIGURES]:
        figure = plots.sweep_figure(found, list(manifest["keys"]), key)
        if figure is not None:
            yield figure
