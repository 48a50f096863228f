"""Finished runs side by side: settings that differ, observables, derivatives, and their errors."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdsens.digits import error_text, with_digits
from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.markup import console, for_terminal, print_numbers
from mdsens.study.find import FILE_NAME
from mdsens.study.reading import read_study_table
from mdsens.study.results_file import read_results
from mdsens.values import shown


@dataclasses.dataclass(frozen=True)
class ComparedNumber:
    """One number in several runs.

    Attributes:
        observable: its name, with the place of an entry where it is one of several.
        parameter: what it is differentiated in; empty of a value.
        units: its unit, the same in all.
        values: of each run; None where it is not finite.
        errors: of each run, absolute; None where they are not known.
    """

    observable: str
    parameter: str
    units: str
    values: tuple[float | None, ...]
    errors: tuple[float | None, ...]

    @property
    def differences(self) -> list[float | None]:
        """Of each run but the first, from the first."""
        first = self.values[0]
        return [None if first is None or v is None else v - first for v in self.values[1:]]

    @property
    def difference_errors(self) -> list[float | None]:
        """The sums of the two errors, which the differences are known within."""
        first = self.errors[0]
        return [None if first is None or e is None else e + first for e in self.errors[1:]]


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """Several runs side by side.

    Attributes:
        runs: their folders.
        studies: what their studies are called.
        settings: keys of the studies whose values differ, with these; None where there is none.
        numbers: what all of them have.
        not_comparable: lines about what cannot be compared, and why.
    """

    runs: tuple[str, ...]
    studies: tuple[str, ...]
    settings: dict[str, tuple[Any, ...]]
    numbers: tuple[ComparedNumber, ...]
    not_comparable: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as texts, numbers, lists and dicts by text."""
        return dataclasses.asdict(self) | {
            "numbers": [
                dataclasses.asdict(one)
                | {"differences": one.differences, "difference_errors": one.difference_errors}
                for one in self.numbers
            ]
        }


def compare_runs(folders: list[str]) -> RunComparison:
    """Compare finished runs.

    Arguments:
        folders: of two runs or more.

    Returns:
        The RunComparison; differences are those from the first.

    Raises:
        InputError: fewer than two, or a folder that holds no results of a run.
    """
    if len(folders) < 2:
        raise InputError("give the folders of two runs or more")
    paths = [path_of(folder, "folder") for folder in folders]
    results = [read_results(path) for path in paths]
    tables = [_settings(path) for path in paths]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    found = {key: tuple(table.get(key) for table in tables) for key in keys}
    left: list[str] = []
    for folder, one in zip(folders, results, strict=True):
        if one["kind"] != "minimum":
            left.append(f"{folder} is {one['kind']}: its numbers are those of no minimum")
    return RunComparison(
        runs=tuple(folders),
        studies=tuple(one["study"] for one in results),
        settings={key: values for key, values in found.items()
                  if any(value != values[0] for value in values)},
        numbers=tuple(_numbers(folders, results, left)),
        not_comparable=tuple(left),
    )  # fmt: skip


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(f"{shown(str(folder))} holds no {FILE_NAME}: give the folder of a run")
    return _flat(read_study_table(path))


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by the paths of their keys."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{above}.{key}" if above else key
        found |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return found


def _numbers(
    folders: list[str], results: list[dict[str, Any]], left: list[str]
) -> list[ComparedNumber]:
    """What all runs have; lines about the rest are added to a list."""
    found: list[ComparedNumber] = []
    every = dict.fromkeys(name for one in results for name in one["observables"])
    parameters = dict.fromkeys(name for one in results for name in one["parameters"])
    for name in every:
        given = [one["observables"].get(name) for one in results]
        if _lacking(name, folders, given, left):
            continue
        units = [one["units"] for one in given]
        values, errors = [one["value"] for one in given], [one.get("error") for one in given]
        if not _alike(name, folders, units, values, left):
            continue
        found += _entries(name, "", units[0], given[0].get("labels"), values, errors)
        for parameter in parameters:
            of = [one["sensitivities"][name].get(parameter) for one in results]
            if any(parameter not in one["parameters"] for one in results):
                continue
            units = [one["units"]["sensitivities"][name][parameter] for one in results]
            known = [(one.get("sensitivity_errors") or {}).get(name, {}) for one in results]
            label = f"d {name} / d {parameter}"
            if _alike(label, folders, units, of, left):
                errors = [one.get(parameter) for one in known]
                found += _entries(name, parameter, units[0], given[0].get("labels"), of, errors)
    for parameter in parameters:
        _lacking(f"parameter {parameter}", folders,
                 [one["parameters"].get(parameter) for one in results], left)  # fmt: skip
    return found


def _lacking(name: str, folders: list[str], given: list[Any], left: list[str]) -> bool:
    without = [f for f, one in zip(folders, given, strict=True) if one is None]
    if without:
        left.append(f"{name}: not in {', '.join(without)}")
    return bool(without)


def _alike(
    name: str, folders: list[str], units: list[str], values: list[Any], left: list[str]
) -> bool:
    """Whether values of all runs have one unit and one shape."""
    for what, of in (("units", units), ("shapes", [np.shape(value) for value in values])):
        if any(one != of[0] for one in of):
            listed = ", ".join(f"{one} in {f}" for f, one in zip(folders, of, strict=True))
            left.append(f"{name}: other {what}: {listed}")
            return False
    return True


def _entries(
    name: str,
    parameter: str,
    unit: str,
    labels: list[str] | None,
    values: list[Any],
    errors: list[Any],
) -> list[ComparedNumber]:
    """A number, or each of several."""
    shape = np.shape(values[0])
    arrays = [np.array(value, float) for value in values]
    known = [
        np.full(shape, np.nan) if error is None else np.broadcast_to(np.array(error, float), shape)
        for error in errors
    ]
    found = []
    for place in np.ndindex(shape):
        entry = labels[place[0]] if labels and len(shape) == 1 else ",".join(map(str, place))
        found.append(
            ComparedNumber(
                f"{name}[{entry}]" if shape else name, parameter, unit,
                tuple(_finite(one[place]) for one in arrays),
                tuple(_finite(one[place]) for one in known),
            )
        )  # fmt: skip
    return found


def _finite(number: Any) -> float | None:
    return float(number) if math.isfinite(number) else None


def show_comparison(comparison: RunComparison) -> None:
    """Print runs side by side.

    Arguments:
        comparison: from `compare_runs`.
    """
    from rich.table import Table

    to, runs = console(), comparison.runs
    for number, (folder, study) in enumerate(zip(runs, comparison.studies, strict=True), 1):
        to.print(for_terminal(f"({number})", "bold"), for_terminal(f"{folder}: {study}"),
                 soft_wrap=True)  # fmt: skip
    titles = [f"({number})" for number in range(1, len(runs) + 1)]
    if comparison.settings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("setting", *titles):
            table.add_column(title, overflow="fold")
        for key, values in comparison.settings.items():
            cells = ["not given" if value is None else str(value) for value in values]
            table.add_row(*map(for_terminal, (key, *cells)))
        to.print()
        to.print(table)
    else:
        to.print("\nno setting differs")
    table = Table(box=None, pad_edge=False, header_style="bold")
    heads = ["observable, parameter"]
    for place, title in enumerate(titles):
        heads += [title, "error"] if place == 0 else [title, "error", f"{title} - (1)", "error"]
    for place, title in enumerate([*heads, "unit"]):
        right = 0 < place < len(heads)
        table.add_column(title, justify="right" if right else "left")
    for one in comparison.numbers:
        cells = [f"  {one.observable}, {one.parameter}" if one.parameter else one.observable]
        for place, (value, error) in enumerate(zip(one.values, one.errors, strict=True)):
            cells += [with_digits(value, error, most=6), error_text(error)]
            if place:
                off = one.difference_errors[place - 1]
                cells += [with_digits(one.differences[place - 1], off, most=6), error_text(off)]
        table.add_row(*map(for_terminal, (*cells, one.units)))
    to.print()
    print_numbers(to, table)
    for line in comparison.not_comparable:
        to.print(for_terminal(f"not comparable: {line}", "yellow"), soft_wrap=True)
