"""The page of a sweep: linked charts of all its runs, and their table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from matplotlib import colormaps
from matplotlib.colors import to_hex

from mdsens import plots
from mdsens.digits import error_text, with_digits
from mdsens.markup import for_html, visible
from mdsens.pages import html_image, html_table, page, sweep_view
from mdsens.study.sweep_results import ARRAYS_NAMES
from mdsens.study.sweep_table import TABLE_NAME

#: Runs that the page lists where it is printed; sweep.csv has all.
MOST_ROWS = 200
#: Observables and derivatives that the page has; sweep.csv has all.
MOST_COLUMNS = 60
#: Charts that the page begins with.
CHARTS = 4
#: Colours of runs by their values, from the lowest to the highest.
PALETTE = [to_hex(color) for color in colormaps["viridis"](np.linspace(0.0, 1.0, 16))]


def sweep_page(
    folder: Path, found: xarray.Dataset, manifest: Mapping[str, Any], drawn: Sequence[Path]
) -> str:
    """The page of a sweep.

    Arguments:
        folder: that of the sweep.
        found: from `dataset_of_sweep`.
        manifest: from `read_manifest`.
        drawn: files of figures.

    Returns:
        HTML.
    """
    title, counts = for_html(manifest["study"]), manifest["counts"]
    keys, runs = manifest["keys"], manifest["runs"]
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    swept = [
        (name, _values(key["values"]), plots.pretty_unit(key["units"]))
        for name, key in keys.items()
    ]
    reports = [_report_of(folder, run) for run in runs]
    parts = [
        f"<h1>{title}</h1><p>{for_html(manifest['description'])}</p>",
        f"<p>A sweep of {len(runs)} runs ({for_html(manifest['mode'])}): {said}.</p>",
        html_table(["swept key", "values", "unit"], swept, sortable=False),
        "<h2 class='live'>Runs</h2>",
        "<p class='live hint'>What the pointer is at is marked in every chart and in the table; "
        f"{'a click opens its report' if any(reports) else 'runs have no reports'}. A filter fades "
        "the others.</p>",
        sweep_view("runs", runs_of_sweep(found, manifest, reports)),
    ]
    parts += [html_image(path, "wide still") for path in drawn]
    failed = [run for run in runs if run["state"] == "failed"]
    if failed:
        parts.append("<h2>Failed runs</h2>")
        rows = [(str(run["run"]), _settings(run), run["reason"]) for run in failed[:MOST_ROWS]]
        parts.append(html_table(["run", "settings", "reason"], rows))
    parts.append(_printed(found, manifest))
    made = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    arrays = ARRAYS_NAMES[manifest["sweep"].get("arrays", "netcdf")]
    parts.append(
        "<p>Numbers have the digits that their errors support. Each run's files are in its folder; "
        f"{TABLE_NAME} and {arrays} hold observables, derivatives and errors of all. "
        f"{for_html(made)}.</p>"
    )
    return page(manifest["study"], parts)


def runs_of_sweep(
    found: xarray.Dataset, manifest: Mapping[str, Any], links: Sequence[str | None]
) -> dict[str, Any]:
    """Settings, observables and derivatives of all runs, as `mdsens.pages.sweep_view` shows them.

    Arguments:
        found: from `dataset_of_sweep`.
        manifest: from `read_manifest`.
        links: the page of each run; None where there is none.

    Returns:
        Plain numbers, texts, lists and dictionaries.
    """
    runs, keys, grid = manifest["runs"], manifest["keys"], manifest["mode"] == "grid"
    columns = [{"name": "run", "unit": "", "values": [run["run"] for run in runs], "exact": True}]
    for place, (name, key) in enumerate(keys.items()):
        values = np.array(key["values"])
        if grid:
            others = [1] * len(manifest["shape"])
            others[place] = len(values)
            values = np.broadcast_to(values.reshape(others), manifest["shape"]).ravel()
        columns.append(_column(name, key["units"], values) | {"exact": True, "setting": True})
    first = len(columns)
    columns += _observed(found, len(runs))
    observed = range(first, len(columns))
    for name in ("largest_force", "steps", "seconds"):
        if name in found:
            numbers = _column(name, found[name].attrs.get("units", ""), found[name].values)
            columns.append(numbers | {"exact": True})
    columns.append(_column("kind", "", found["kind"].values))
    columns.append(_column("state", "", np.array([run["state"] for run in runs])))
    for column in columns:
        column.setdefault("kind", "number")
    across = [1 + (chart % len(keys)) for chart in range(CHARTS)]
    charts = list(observed)[:CHARTS] or [len(columns) - 3]
    return {
        "columns": columns,
        "x": across[: len(charts)],
        "y": charts,
        "color": 2 if len(keys) > 1 else -1,
        "links": list(links),
        "palette": PALETTE,
    }


def _observed(found: xarray.Dataset, count: int) -> list[dict[str, Any]]:
    """Each observable of one number, and after it its derivatives."""
    columns: list[dict[str, Any]] = []
    parameters = found["parameter"].values.tolist() if "parameter" in found else []
    for name in map(str, found.data_vars):
        if name.startswith(("error_", "d_")) or f"error_{name}" not in found:
            continue
        if found[name].size != count or len(columns) + len(parameters) >= MOST_COLUMNS:
            continue
        units, errors = found[name].attrs["units"], found[f"error_{name}"].values
        columns.append(_column(name, units, found[name].values, errors))
        for parameter in parameters if f"d_{name}" in found else ():
            of = found[f"d_{name}"].sel(parameter=parameter)
            errors = found[f"error_d_{name}"].sel(parameter=parameter).values
            unit = of.attrs[f"units_{parameter}"]
            columns.append(_column(f"d {name} / d {parameter}", unit, of.values, errors))
    return columns


def _column(
    name: str, unit: str, values: np.ndarray, errors: np.ndarray | None = None
) -> dict[str, Any]:
    values = np.ravel(values)
    said: dict[str, Any] = {"name": visible(name), "unit": plots.pretty_unit(unit)}
    if values.dtype.kind not in "iuf":
        return said | {"kind": "text", "values": [visible(str(value)) for value in values]}
    if errors is not None:
        errors = np.ravel(errors)
        # What is not above its error is zero in charts, too.
        values = np.where(np.abs(values) <= np.nan_to_num(errors), 0.0, values)
    return said | {
        "kind": "number",
        "values": _numbers(values, 12),
        "errors": None if errors is None else _numbers(errors, 2),
    }


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    known = np.isfinite(values)
    return [
        float(f"{value:.{digits}g}") if there else None
        for value, there in zip(values.tolist(), known.tolist(), strict=True)
    ]


def _printed(found: xarray.Dataset, manifest: Mapping[str, Any]) -> str:
    """The table of the first runs, for paper."""
    keys, runs = manifest["keys"], manifest["runs"]
    scalars = plots.scalar_observables(found, len(runs))
    head = ["run", *keys, *(_headed(name, found[name].attrs["units"]) for name in scalars), "kind"]
    columns = [found[name].values.ravel() for name in scalars]
    errors = [found[f"error_{name}"].values.ravel() for name in scalars]
    kinds = found["kind"].values.ravel()
    listed = [
        (str(run["run"]), *map(str, run["settings"].values()),
         *(f"{with_digits(float(of[place]), float(error[place]))} ± {error_text(error[place])}"
           for of, error in zip(columns, errors, strict=True)),
         str(kinds[place]) or run["state"])
        for place, run in enumerate(runs[:MOST_ROWS])
    ]  # fmt: skip
    left = f"<p>The first {MOST_ROWS} of {len(runs)}.</p>" if len(runs) > MOST_ROWS else ""
    table = html_table(head, listed, sortable=False)
    said = "<p>Settings as the study has them.</p>"
    return f"<div class='still'><h2>Runs</h2>{left}{table}{said}</div>"


def _report_of(folder: Path, run: Mapping[str, Any]) -> str | None:
    """The page of a run as its sweep's page links to it; None where there is none."""
    path = f"{run['folder']}/report.html"
    return path if run["state"] == "finished" and (folder / path).is_file() else None


def _values(values: list[Any]) -> str:
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    if len(texts) > 8:
        texts = [*texts[:4], "...", *texts[-2:]]
    return ", ".join(texts)


def _settings(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in run["settings"].items())


def _headed(name: str, units: str) -> str:
    pretty = plots.pretty_unit(units)
    return f"{name} ({pretty})" if pretty else name
