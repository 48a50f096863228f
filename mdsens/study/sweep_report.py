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
    ARRAYS_NAME,
    TABLE_NAME,
    dataset_of_sweep,
    finished_results,
    table_text,
)

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
    return name in (SWEEP_NAME, TABLE_NAME, ARRAYS_NAME, REPORT_NAME) or (
        name.startswith("sweep-") and name.endswith(".png") and "/" not in name
    )


def write_summary(folder: Path, goal: Path) -> None:
    """Write sweep.nc, sweep.csv, figures and sweep.html.

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
    try:
        found.to_netcdf(goal / ARRAYS_NAME, engine="scipy")
    except ValueError:
        # A name that this format cannot have: whoever loads the sweep reads its runs.
        (goal / ARRAYS_NAME).unlink(missing_ok=True)
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
