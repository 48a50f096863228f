"""The summary of a sweep, made from the files of its runs: arrays, a table, figures, and a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.digits import with_digits
from mdsens.markup import for_html
from mdsens.study.report import STYLE, html_image, html_table
from mdsens.study.sweep_file import SWEEP_NAME, read_manifest
from mdsens.study.sweep_results import (
    ARRAYS_NAME,
    TABLE_NAME,
    dataset_of_sweep,
    finished_results,
    table_text,
)

REPORT_NAME = "sweep.html"
#: Runs that the page lists; sweep.csv has all.
MOST_ROWS = 200
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
    (goal / REPORT_NAME).write_text(_page(found, manifest, drawn), "utf-8")


def _figures(found: xarray.Dataset, manifest: Mapping[str, Any]) -> Iterator[Figure]:
    if not (found["state"] == "finished").any():
        return
    for key in list(manifest["keys"])[:MOST_FIGURES]:
        figure = plots.sweep_figure(found, list(manifest["keys"]), key)
        if figure is not None:
            yield figure


def _page(found: xarray.Dataset, manifest: Mapping[str, Any], drawn: list[Path]) -> str:
    title, counts = for_html(manifest["study"]), manifest["counts"]
    keys, runs = manifest["keys"], manifest["runs"]
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    parts = [
        f"<h1>{title}</h1><p>{for_html(manifest['description'])}</p>",
        f"<p>A sweep of {len(runs)} runs ({for_html(manifest['mode'])}): {said}.</p>",
        html_table(
            ["swept key", "values", "unit"],
            [(name, *_values(key["values"]), plots.pretty_unit(key["units"]))
             for name, key in keys.items()],
        ),
    ]  # fmt: skip
    parts += [html_image(path).replace("<figure", "<figure class='wide'") for path in drawn]
    failed = [run for run in runs if run["state"] == "failed"]
    if failed:
        parts.append("<h2>Failed runs</h2>")
        rows = [(str(run["run"]), _settings(run), run["reason"]) for run in failed[:MOST_ROWS]]
        parts.append(html_table(["run", "settings", "reason"], rows))
    parts.append("<h2>Runs</h2>")
    if len(runs) > MOST_ROWS:
        parts.append(f"<p>The first {MOST_ROWS} of {len(runs)}; {TABLE_NAME} has all.</p>")
    scalars = plots.scalar_observables(found, len(runs))
    head = ["run", *keys, *(_headed(name, found[name].attrs["units"]) for name in scalars), "kind"]
    columns = [found[name].values.ravel() for name in scalars]
    errors = [found[f"error_{name}"].values.ravel() for name in scalars]
    kinds = found["kind"].values.ravel()
    listed = [
        (str(run["run"]), *map(str, run["settings"].values()),
         *(with_digits(float(of[place]), float(error[place]))
           for of, error in zip(columns, errors, strict=True)),
         str(kinds[place]) or run["state"])
        for place, run in enumerate(runs[:MOST_ROWS])
    ]  # fmt: skip
    parts.append(html_table(head, listed))
    parts.append(
        f"<p>Settings as the study has them. Each run's files are in its folder; {TABLE_NAME} and "
        f"{ARRAYS_NAME} hold observables, derivatives and errors of all.</p>"
    )
    body = "\n".join(parts)
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _values(values: list[Any]) -> tuple[str]:
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    if len(texts) > 8:
        texts = [*texts[:4], "...", *texts[-2:]]
    return (", ".join(texts),)


def _settings(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in run["settings"].items())


def _headed(name: str, units: str) -> str:
    pretty = plots.pretty_unit(units)
    return f"{name} ({pretty})" if pretty else name
