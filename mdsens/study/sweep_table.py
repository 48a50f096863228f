"""The table of a sweep: a row for each run, with commas."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray

from mdsens.files import csv_text

TABLE_NAME = "sweep.csv"
#: Observables of more numbers are left to the labelled arrays, and out of the table.
MOST_COLUMNS = 36


def table_text(found: xarray.Dataset, manifest: Mapping[str, Any]) -> str:
    """A row for each run: its settings, its observables and derivatives; with units.

    Arguments:
        found: from `dataset_of_sweep`.
        manifest: from `read_manifest`.

    Returns:
        A table with commas; observables of many numbers are not in it.
    """
    columns: dict[str, list[Any]] = {"run": [run["run"] for run in manifest["runs"]]}
    count, grid = len(columns["run"]), manifest["mode"] == "grid"
    for name, key in manifest["keys"].items():
        values = np.array(key["values"])
        if grid:
            place = list(manifest["keys"]).index(name)
            others = [1] * len(manifest["shape"])
            others[place] = len(values)
            values = np.broadcast_to(values.reshape(others), manifest["shape"])
        columns[_headed(name, key["units"])] = np.ravel(values).tolist()
    columns["state"] = [run["state"] for run in manifest["runs"]]
    for name in map(str, found.data_vars):
        if name.startswith(("error_", "d_")) or f"error_{name}" not in found:
            continue
        if found[name].size > MOST_COLUMNS * count:
            continue
        units = found[name].attrs["units"]
        for label, part in _parts(found[name], name, count):
            columns[_headed(label, units)] = part
        for label, part in _parts(found[f"error_{name}"], name, count):
            columns[_headed(f"error of {label}", units)] = part
        for parameter in found["parameter"].values.tolist() if f"d_{name}" in found else ():
            for before, kind in (("", "d_"), ("error of ", "error_d_")):
                of = found[f"{kind}{name}"].sel(parameter=parameter)
                unit = of.attrs[f"units_{parameter}"]
                for label, part in _parts(of, name, count):
                    columns[_headed(f"{before}d {label} / d {parameter}", unit)] = part
    for key in ("kind", "largest_force", "steps"):
        if key in found:
            columns[_headed(key, found[key].attrs.get("units", ""))] = _parts_of_runs(found[key])
    columns["seconds (s)"] = _parts_of_runs(found["seconds"])
    columns["reason"] = [run.get("reason", "") for run in manifest["runs"]]
    rows = zip(*columns.values(), strict=True)
    return csv_text(dict(zip(columns, row, strict=True)) for row in rows)


def _parts(of: xarray.DataArray, name: str, count: int) -> Iterator[tuple[str, list[float]]]:
    """Each number of an observable, in all runs."""
    numbers = of.values.reshape(count, -1)
    inner = of.shape[len(of.shape) - sum("_axis" in str(axis) for axis in of.dims) :]
    for place in range(numbers.shape[1]):
        index = ",".join(map(str, np.unravel_index(place, inner))) if inner else ""
        yield (f"{name}[{index}]" if inner else name), numbers[:, place].tolist()


def _parts_of_runs(of: xarray.DataArray) -> list[Any]:
    return list(np.ravel(of.values).tolist())


def _headed(name: str, units: str) -> str:
    return f"{name} ({units})" if units and units != "1" else name
