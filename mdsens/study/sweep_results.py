"""The results of runs as labelled arrays."""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes
from mdsens.study.loaded import remember_folder
from mdsens.study.results_file import LARGEST_RESULTS, RESULTS_NAME, read_results
from mdsens.study.sweep_file import SWEEP_NAME, Journal, read_manifest
from mdsens.values import shown

#: The labelled arrays, by their format: a file, or a folder.
ARRAYS_NAMES = {"netcdf": "sweep.nc", "zarr": "sweep.zarr"}
#: What to install.
NEEDS_ZARR = "sweep.arrays = 'zarr' needs the package zarr: pip install 'mdsens[zarr]'"
#: What is known of each random start of an ensemble, and after some of its steps.
OF_STARTS = ("seed", "largest_force", "rattlers", "implicit_norm", "finite_difference_error")
AT_MARKS = ("unrolled_norms", "rattler_norms", "distances")
#: How much of the journal the arrays were made from, an attribute of theirs.
JOURNAL_BYTES = "journal_bytes"
#: What is known of each run beside its observables, by what results.json calls it, with its unit.
OF_RUNS = {"largest_force": "largest_force", "steps": None, "energy": "energy"}


def load(folder: str | Path) -> xarray.Dataset:
    """The results of a run or of a sweep as labelled arrays.

    ``found.mdsens.plot()`` and ``found.mdsens.view()`` show them, see `mdsens.study.loaded.Loaded`.

    Of a sweep, a grid has an axis for each swept key, named as the key is; all others have the axis
    ``run``, along which the swept keys have their values. An observable is under its name, its
    derivatives under ``"d_<name>"`` along the axis ``parameter``, and absolute errors under
    ``"error_<name>"`` and ``"error_d_<name>"``. What has failed, or is still to be run, is NaN;
    ``state`` tells which. Large arrays are read from the file when they are used.

    Arguments:
        folder: what `mdsens run` wrote.

    Returns:
        The Dataset, with units and origins as attributes.

    Raises:
        InputError: the folder holds no results.
    """
    folder = path_of(folder, "folder")
    found = _loaded(folder)
    remember_folder(found, folder)
    return found


def _loaded(folder: Path) -> xarray.Dataset:
    if not (folder / SWEEP_NAME).is_file():
        return dataset_of_run(read_results(folder))
    for format_, name in ARRAYS_NAMES.items():
        found = _opened(folder / name, format_)
        if found is not None:
            if found.attrs.get(JOURNAL_BYTES) == Journal(folder).size:
                return found
            found.close()
    manifest = read_manifest(folder)
    return dataset_of_sweep(folder, manifest, dict(finished_results(folder, manifest)))


def _opened(path: Path, format_: str) -> xarray.Dataset | None:
    """Labelled arrays, which are read when they are used; None where there are none."""
    if not path.exists() or (format_ == "zarr" and not has_zarr()):
        # Whoever has no zarr reads the runs themselves.
        return None
    try:
        if format_ == "zarr":
            return xarray.open_zarr(path, chunks=None, consolidated=True)
        return xarray.open_dataset(path, engine="scipy")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{shown(str(path))} cannot be read: {error}; remove it") from None


def has_zarr() -> bool:
    """Whether zarr is installed."""
    return importlib.util.find_spec("zarr") is not None


def write_arrays(found: xarray.Dataset, goal: Path, format_: str) -> None:
    """Write the labelled arrays of a sweep.

    Arguments:
        found: from `dataset_of_sweep`.
        goal: the folder to write to.
        format_: ``"netcdf"`` or ``"zarr"``.

    Raises:
        OSError: the goal cannot be written.
    """
    path = goal / ARRAYS_NAMES[format_]
    if format_ == "zarr":
        # Version 2 of the format: its texts and its one file of all attributes are in its standard.
        found.to_zarr(path, mode="w", consolidated=True, zarr_format=2)
        return
    try:
        found.to_netcdf(path, engine="scipy")
    except ValueError:
        # A name that this format cannot have: whoever loads the sweep reads its runs.
        path.unlink(missing_ok=True)


def finished_results(
    folder: Path, manifest: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What results.json holds of each run of a sweep that is finished.

    Arguments:
        folder: that of the sweep.
        manifest: from `read_manifest`.

    Yields:
        Numbers of runs, and their results.

    Raises:
        InputError: one of them cannot be read.
    """
    for run in manifest["runs"]:
        if run["state"] == "finished":
            path = folder / run["folder"] / RESULTS_NAME
            try:
                yield run["run"], json.loads(read_bytes(path, LARGEST_RESULTS))
            except (ValueError, RecursionError):
                raise InputError(
                    f"{shown(str(path))} is damaged: remove the folder, and give --resume"
                ) from None


def dataset_of_run(results: Mapping[str, Any]) -> xarray.Dataset:
    """The results of one run as labelled arrays, see `load`.

    Arguments:
        results: what results.json holds.

    Returns:
        The Dataset, of which only observables have axes, and derivatives that of parameters.
    """
    found = _Arrays([results], ()).dataset()
    found.attrs |= _origins(results)
    return found


def dataset_of_sweep(
    folder: Path, manifest: Mapping[str, Any], results: Mapping[int, Mapping[str, Any]]
) -> xarray.Dataset:
    """The results of a sweep as labelled arrays, see `load`.

    Arguments:
        folder: that of the sweep.
        manifest: from `read_manifest`.
        results: those of runs by their numbers.

    Returns:
        The Dataset.
    """
    runs, keys = manifest["runs"], manifest["keys"]
    grid = manifest["mode"] == "grid"
    axes = tuple(keys) if grid else ("run",)
    shape = tuple(manifest["shape"])
    found = _Arrays([results.get(run["run"]) for run in runs], axes, shape).dataset()
    for name, key in keys.items():
        attributes = {"units": key["units"]} if key["units"] else {}
        axis = (name,) if grid else ("run",)
        found = found.assign_coords({name: (axis, np.array(key["values"]), attributes)})
    states = np.array([run["state"] for run in runs]).reshape(shape)
    seconds = np.array([run.get("seconds", np.nan) for run in runs], float).reshape(shape)
    found["state"] = (axes, states)
    found["seconds"] = (axes, seconds, {"units": "s"})
    numbers = np.array([run["run"] for run in runs]).reshape(shape)
    if grid:
        found["run"] = (axes, numbers)
    else:
        found = found.assign_coords(run=("run", numbers))
    found.attrs |= _origins(manifest) | {
        "sweep_mode": manifest["mode"], JOURNAL_BYTES: Journal(folder).size,
        "sweep": json.dumps(manifest["sweep"]), "table": json.dumps(manifest["table"]),
    }  # fmt: skip
    return found


def _origins(given: Mapping[str, Any]) -> dict[str, Any]:
    made = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    units = given["units"]
    return {
        "study": given["study"],
        "description": given["description"],
        "unit_system": units if isinstance(units, str) else units["system"],
        "versions": made,
    }


class _Arrays:
    """Numbers of several runs, put side by side.

    Arguments:
        results: those of each run; None where there are none.
        axes: what the axes of the runs are called.
        shape: how many runs lie along each.
    """

    def __init__(
        self,
        results: list[Any],
        axes: tuple[str, ...],
        shape: tuple[int, ...] = (),
    ) -> None:
        self.results, self.axes, self.shape = results, axes, shape
        self.there = [of for of in results if of is not None]
        self.parameters = list(dict.fromkeys(p for of in self.there for p in of["parameters"]))

    def dataset(self) -> xarray.Dataset:
        """All of them as labelled arrays."""
        data: dict[str, Any] = {}
        names = dict.fromkeys(name for of in self.there for name in of["observables"])
        for name in names:
            observed = [_entry(of, "observables", name) for of in self.results]
            values = [None if of is None else of["value"] for of in observed]
            errors = [None if of is None else of.get("error") for of in observed]
            units = {"units": _listed(of["units"] for of in observed if of is not None)}
            shape = _widest(values)
            inner = tuple(f"{name}_axis{axis}" for axis in range(len(shape)))
            data[name] = (*self._stacked(values, shape, inner), units)
            data[f"error_{name}"] = (*self._stacked(errors, shape, inner), units)
            if self.parameters:
                data[f"d_{name}"] = self._derivatives(name, "sensitivities", shape, inner)
                data[f"error_d_{name}"] = self._derivatives(
                    name, "sensitivity_errors", shape, inner
                )
        for key, unit in OF_RUNS.items():
            if key not in names and any(key in of for of in self.there):
                numbers = [None if of is None else of.get(key) for of in self.results]
                named = {_unit(of, unit) for of in self.there if unit}
                data[key] = (*self._stacked(numbers, (), ()), {"units": _listed(named)})
        data |= self._ensembles()
        kinds = np.array(["" if of is None else of["kind"] for of in self.results])
        data["kind"] = (self.axes, kinds.reshape(self.shape))
        coordinates: dict[str, Any] = {}
        if self.parameters:
            stacked = [
                self._stacked([_entry(of, "parameters", p) for of in self.results], (), ())[1]
                for p in self.parameters
            ]
            units = {
                f"units_{p}": _listed(_entry(of["units"], "parameters", p) for of in self.there)
                for p in self.parameters
            }
            coordinates["parameter"] = np.array(self.parameters)
            coordinates["parameter_value"] = (
                ("parameter", *self.axes), np.stack(stacked), units,
            )  # fmt: skip
        if "ensemble_seed" in data:
            coordinates["mark"] = np.array(self._marks())
        return xarray.Dataset(data, coordinates)

    def _marks(self) -> list[int]:
        """Steps of the minimiser at which the starts of ensembles are looked at."""
        return sorted(
            {mark for of in self.there for mark in of.get("ensemble", {"marks": []})["marks"]}
        )

    def _ensembles(self) -> dict[str, Any]:
        """What the random starts of each run have shown, where runs have ensembles."""
        found = [None if of is None else of.get("ensemble") for of in self.results]
        known = [of for of in found if of is not None]
        if not known:
            return {}
        starts = [None if of is None else of["starts"] for of in found]
        most, marks = max(len(of["starts"]) for of in known), self._marks()
        norms = _listed(of["units"]["norms"] for of in known)
        forces = _listed(of["units"]["largest_force"] for of in known)
        units = {"largest_force": forces, "implicit_norm": norms,
                 "unrolled_norms": norms, "rattler_norms": norms}  # fmt: skip
        data: dict[str, Any] = {}
        for key in OF_STARTS:
            values = [None if of is None else [start[key] for start in of] for of in starts]
            data[f"ensemble_{key}"] = (
                *self._stacked(values, (most,), ("start",)), {"units": units.get(key, "")},
            )  # fmt: skip
        for key in AT_MARKS:
            values = [
                None
                if of is None
                else [[start[key].get(str(mark)) for mark in marks] for start in of]
                for of in starts
            ]
            data[f"ensemble_{key}"] = (
                *self._stacked(values, (most, len(marks)), ("start", "mark")),
                {"units": units.get(key, "")},
            )
        return data

    def _derivatives(
        self, name: str, key: str, shape: tuple[int, ...], inner: tuple[str, ...]
    ) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
        """Those of an observable in every parameter, or their errors."""
        arrays, units = [], {}
        for parameter in self.parameters:
            found = [_entry(_entry(of, key, name), parameter) for of in self.results]
            arrays.append(self._stacked(found, shape, inner)[1])
            named = (_entry(of["units"], "sensitivities", name, parameter) for of in self.there)
            units[f"units_{parameter}"] = _listed(named)
        return ("parameter", *self.axes, *inner), np.stack(arrays), units

    def _stacked(
        self, values: list[Any], shape: tuple[int, ...], inner: tuple[str, ...]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """One number or array of each run; NaN where there is none."""
        stacked = np.full((len(values), *shape), np.nan)
        for place, value in zip(stacked, values, strict=True) if shape else ():
            if value is not None:
                array = np.array(value, float)
                # Runs of several structures may have arrays of several sizes.
                if array.ndim == len(shape):
                    place[tuple(slice(0, size) for size in array.shape)] = array
        if not shape:
            stacked[:] = [np.nan if value is None else value for value in values]
        return (*self.axes, *inner), stacked.reshape((*self.shape, *shape))


def _entry(of: Any, *path: str) -> Any:
    """What stands under a path of keys; None where there is nothing."""
    for key in path:
        of = None if of is None else of.get(key)
    return of


def _unit(results: Mapping[str, Any], name: str | None) -> str:
    return str(results["units"].get(name, ""))


def _listed(units: Iterable[str | None]) -> str:
    """The unit of all runs; each of them where they differ."""
    return ", ".join(dict.fromkeys(unit for unit in units if unit))


def _widest(values: list[Any]) -> tuple[int, ...]:
    """A shape in which the array of every run has room."""
    shapes = [np.shape(np.array(value, float)) for value in values if value is not None]
    deepest = max(map(len, shapes), default=0)
    fitting = [shape for shape in shapes if len(shape) == deepest]
    return tuple(max(sizes) for sizes in zip(*fitting, strict=True))
