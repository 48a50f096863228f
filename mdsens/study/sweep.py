"""Sweeps: a run of a study with each of the values that some of its keys have.

Nothing here takes long to import: what is wrong with a sweep is said before JAX is there.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mdsens.errors import InputError
from mdsens.study.find import find_study
from mdsens.study.messages import from_pydantic, no_such_key, not_allowed
from mdsens.study.model import MOST_RUNS, StudyFile, SweepTable
from mdsens.study.reading import read_study_table
from mdsens.study.study_file import StudyText, study_text
from mdsens.study.toml import key_parts, split_setting, with_settings, with_value
from mdsens.values import nearest, shown

#: Modes in which ranges are sampled.
SAMPLED = ("random", "latin-hypercube")
#: Keys that hold whole numbers, in whose ranges there are no others.
WHOLE = ("seed", "seeds", "steps", "max_steps", "points", "count")
#: What a range says of itself, and how its values are spaced: evenly, or their logarithms.
RANGE, SPACINGS = ("from", "to", "count", "spacing"), ("linear", "log")
#: What is the same in all runs.
NOT_SWEPT = ("name", "description", "units", "verify", "sweep")
#: Keys whose values may be a pattern of files.
FILE_KEY = "file"
#: A number, and the unit behind it.
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


@dataclasses.dataclass(frozen=True)
class SweptKey:
    """A key of a study that has several values.

    Attributes:
        key: its path as it is written, e.g. ``"potential.sigma"``.
        parts: the parts of the path.
        values: in a grid each of them once; else that of each run.
    """

    key: str
    parts: tuple[str, ...]
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A study with a sweep: one run for each of some settings.

    Attributes:
        path: the study's file.
        table: its tables, but for that of the sweep.
        options: the sweep's table.
        keys: the keys that are swept; of a grid the last one changes first.
    """

    path: Path
    table: dict[str, Any]
    options: SweepTable
    keys: tuple[SweptKey, ...]

    @property
    def is_grid(self) -> bool:
        """Whether each value of a key meets each of the others."""
        return self.options.mode == "grid"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each key of a grid; else that of runs."""
        counts = tuple(len(key.values) for key in self.keys)
        return counts if self.is_grid else counts[:1]

    @property
    def count(self) -> int:
        """Number of runs."""
        return math.prod(self.shape)

    def settings(self, run: int) -> dict[str, Any]:
        """What a run has in the place of the study's own values.

        Arguments:
            run: its number, from 0.

        Returns:
            Values by key.
        """
        if self.is_grid:
            places = [int(place) for place in np.unravel_index(run, self.shape)]
        else:
            places = [run] * len(self.keys)
        return {key.key: key.values[place] for key, place in zip(self.keys, places, strict=True)}

    def table_of(self, run: int) -> dict[str, Any]:
        """The tables of a run's study.

        Arguments:
            run: its number, from 0.

        Returns:
            A study without a sweep.
        """
        return self._with(self.settings(run))

    def text_of(self, run: int) -> StudyText:
        """The study of a run.

        Arguments:
            run: its number, from 0.

        Returns:
            What the file of its study would say.

        Raises:
            InputError: a value that its key cannot have.
        """
        return study_text(self.path, self.table_of(run))

    def each_value(self) -> Iterator[StudyText]:
        """Studies in which each value of each key occurs, or the ends of what is sampled.

        Yields:
            One study after the other.

        Raises:
            InputError: a value that its key cannot have.
        """
        if self.options.mode == "zip":
            yield from map(self.text_of, range(self.count))
            return
        first = self.settings(0)
        for index, key in enumerate(self.keys):
            values = list(key.values)
            if self.options.mode in SAMPLED:
                numbers = [_split(value)[0] for value in values]
                values = [values[int(np.argmin(numbers))], values[int(np.argmax(numbers))]]
            # Those of the study as it begins need to be looked at once.
            for value in values if index == 0 else values[1:]:
                yield study_text(self.path, self._with(first | {key.key: value}))

    def _with(self, settings: dict[str, Any]) -> dict[str, Any]:
        changed = self.table
        for key in self.keys:
            changed = with_value(changed, key.parts, settings[key.key], f"sweep: {shown(key.key)}")
        return changed


def read_sweep(study: str | Path, settings: Iterable[str] = ()) -> Sweep | None:
    """Read the sweep of a study's file and check it, as far as the file alone tells.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.
        settings: changes such as ``"relaxation.fmax=1e-6"``.

    Returns:
        The Sweep; None where the study has none.

    Raises:
        InputError: a mistake in it: one line that names the key and the value.
    """
    settings = list(settings)
    path = find_study(study)
    table = with_settings(read_study_table(path), settings)
    if "sweep" not in table:
        return None
    given = table.pop("sweep")
    options = _options(given)
    keys = tuple(
        _swept_key(key, value, options, table, path.parent) for key, value in _swept(options)
    )
    if options.mode in SAMPLED:
        keys = _sampled(options, keys)
    _check_counts(options, keys)
    for setting in settings:
        parts = tuple(split_setting(setting)[0])
        for key in keys:
            if parts == key.parts:
                raise InputError(
                    f"--set {shown(setting)}: the sweep gives the values of {key.key}; set "
                    f"sweep.'{key.key}' instead"
                )
    sweep = Sweep(path, table, options, keys)
    for _ in sweep.each_value():
        pass
    return sweep


def _options(given: Any) -> SweepTable:
    try:
        return SweepTable.model_validate(given)
    except ValidationError as error:
        raise from_pydantic(error, SweepTable, "sweep") from None


def _swept(options: SweepTable) -> list[tuple[str, Any]]:
    """Keys of the study and what the sweep gives them."""
    found = list((options.model_extra or {}).items())
    own = list(SweepTable.model_fields)
    for name, value in found:
        tables = [*StudyFile.model_fields, *own]
        if name in StudyFile.model_fields and isinstance(value, dict):
            raise InputError(
                f"sweep.{name} = {shown(value)}: put the whole key in quotes, as in "
                '"potential.sigma" = [3.3, 3.4]'
            )
        if "." not in name and "[" not in name:
            raise InputError(
                f"sweep.{name} = {shown(value)}: [sweep] has no key {shown(name)}; allowed are "
                f'{", ".join(own)}, and keys of the study in quotes, as "potential.sigma"'
                f"{nearest(name, tables)}"
            )
    if not found:
        raise InputError(
            'sweep: no key has values; give some, as in "potential.sigma" = [3.3, 3.4]'
        )
    return found


def _swept_key(
    key: str, value: Any, options: SweepTable, table: dict[str, Any], folder: Path
) -> SweptKey:
    """A swept key with its values; with the ends of its range where that is sampled."""
    parts = key_parts(key)
    where = f"sweep.{shown(key)}"
    known = [name for name in StudyFile.model_fields if name not in NOT_SWEPT]
    if len(parts) < 2 or parts[0] not in known:
        first = parts[0] if parts else key
        raise InputError(
            f"{where}: no key of a study's tables; allowed are those of {', '.join(known)}"
            f"{nearest(first, known)}"
        )
    inner: Any = table
    for depth, part in enumerate(parts if parts[0] == "potential" else ()):
        # What a potential takes is only known to the potentials, whose import takes long.
        if not isinstance(inner, dict) or part not in inner:
            names = list(inner) if isinstance(inner, dict) else []
            before = ".".join(parts[:depth])
            raise InputError(
                f"{where}: {before} has no {shown(part)} in the study; give it a value there, too"
                f"{nearest(part, names)}"
            )
        inner = inner[part]
    if isinstance(value, str):
        if parts[-1] != FILE_KEY:
            raise InputError(f"{where} = {shown(value)}: give a list of values, or a range")
        values: tuple[Any, ...] = _matching(value, where, folder)
    elif isinstance(value, dict):
        values = _of_range(value, where, parts[-1], options.mode)
    elif isinstance(value, list) and value:
        values = tuple(value)
    else:
        raise InputError(
            f"{where} = {shown(value)}: give a list of values, or a range such as "
            "{ from = 3.3, to = 3.5, count = 5 }"
        )
    if options.mode in SAMPLED and not isinstance(value, dict):
        raise InputError(
            f"{where} = {shown(value)}: with mode = '{options.mode}' give a range, "
            "{ from = ..., to = ... }"
        )
    if options.mode == "grid":
        seen: set[str] = set()
        for one in values:
            if repr(one) in seen:
                raise InputError(f"{where} has {shown(one)} twice: give each value once")
            seen.add(repr(one))
    return SweptKey(key, tuple(parts), values)


def _of_range(value: dict[str, Any], where: str, name: str, mode: str) -> tuple[Any, ...]:
    """The values of a range; its ends where it is sampled."""
    for other in value:
        if other not in RANGE:
            raise no_such_key(f"{where}.{other}", value[other], RANGE)
    spacing = value.get("spacing", SPACINGS[0])
    if spacing not in SPACINGS:
        raise not_allowed(f"{where}.spacing", spacing, SPACINGS)
    for needed in ("from", "to"):
        if needed not in value:
            raise InputError(f"{where}.{needed} is missing: give one")
    low, unit = _quantity(value["from"], f"{where}.from")
    high, other_unit = _quantity(value["to"], f"{where}.to")
    if unit != other_unit:
        raise InputError(f"{where}: its ends are in {unit or 'no unit'} and "
                         f"{other_unit or 'no unit'}; give both in the same")  # fmt: skip
    if not low < high:
        raise InputError(f"{where}: to = {shown(value['to'])} is not above from; give a larger one")
    if spacing == "log" and low <= 0.0:
        raise InputError(
            f"{where}.from = {shown(value['from'])}: with spacing = 'log' both ends are positive"
        )
    if mode in SAMPLED:
        if "spacing" in value:
            raise InputError(
                f"{where}.spacing = {shown(spacing)}: with mode = '{mode}' a range is sampled "
                "evenly; leave spacing out"
            )
        if "count" in value:
            raise InputError(
                f"{where}.count = {shown(value['count'])}: with mode = '{mode}' the number of runs "
                "is sweep.samples; leave count out"
            )
        return value["from"], value["to"]
    if "count" not in value:
        raise InputError(f"{where}.count is missing: give the number of values")
    count = value["count"]
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MOST_RUNS:
        raise InputError(
            f"{where}.count = {shown(count)}: give the number of values, from 2 to {MOST_RUNS:,}"
        )
    if spacing == "log":
        # As powers of the ratio; the ends are those that are given.
        inner = low * (high / low) ** (np.arange(1, count - 1) / (count - 1))
        numbers = np.concatenate([[low], inner, [high]])
        if name in WHOLE:
            numbers = np.rint(numbers)
            if np.any(np.diff(numbers) < 1):
                raise InputError(
                    f"{where}.count = {count}: rounded to whole numbers, some are the same; give a "
                    "smaller count"
                )
    else:
        numbers = np.linspace(low, high, count)
    return tuple(_with_unit(number, unit, name) for number in numbers)


def _with_unit(number: float, unit: str, name: str) -> Any:
    # Without the last digit, which is that of rounding: 0.342 and not 0.34199999999999997.
    number = float(f"{number:.15g}")
    if unit:
        return f"{number!r} {unit}"
    return int(number) if name in WHOLE and number.is_integer() else number


def _quantity(value: Any, where: str) -> tuple[float, str]:
    number, unit = _split(value)
    if not math.isfinite(number):
        raise InputError(f"{where} = {shown(value)}: give a number, or text with one and a unit")
    return number, unit


def _split(value: Any) -> tuple[float, str]:
    """The number in a value and the unit behind it; NaN where there is none."""
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        return (float(found[1]), found[2]) if found else (math.nan, "")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan, ""
    return float(value), ""


def _matching(pattern: str, where: str, folder: Path) -> tuple[str, ...]:
    """Files of the study's folder that have a pattern, in alphabetical order."""
    given = Path(pattern)
    if not pattern.strip() or "\0" in pattern or given.is_absolute() or ".." in given.parts:
        raise InputError(
            f"{where} = {shown(pattern)}: give a pattern of files inside the study's folder, as in "
            "'cells/*.xyz'"
        )
    inside = folder.resolve()
    try:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{where} = {shown(pattern)}: no pattern of files: {error}") from None
    for path in found:
        if not path.resolve().is_relative_to(inside):
            raise InputError(
                f"{where} = {shown(pattern)}: {shown(path.name)} is a link that leads out of the "
                "study's folder; name such files one by one"
            )
    if not found:
        raise InputError(f"{where} = {shown(pattern)}: no file in {str(folder)!r} has that pattern")
    return tuple(path.relative_to(folder).as_posix() for path in found)


def _sampled(options: SweepTable, keys: tuple[SweptKey, ...]) -> tuple[SweptKey, ...]:
    """Values of each run, from the ends of ranges."""
    if options.samples is None:
        raise InputError(
            f"sweep.samples is missing: mode = '{options.mode}' needs a number of runs"
        )
    size = (options.samples, len(keys))
    random = np.random.default_rng(options.seed)
    if options.mode == "random":
        shares = random.random(size)
    else:
        # Imported here, for it takes half a second.
        from scipy.stats import qmc

        try:
            sampler = qmc.LatinHypercube(len(keys), rng=random)
        except TypeError:  # before SciPy 1.15
            sampler = qmc.LatinHypercube(len(keys), seed=random)
        shares = sampler.random(options.samples)
    found = []
    for key, share in zip(keys, shares.T, strict=True):
        (low, unit), (high, _) = map(_split, key.values)
        if key.parts[-1] in WHOLE:
            numbers = np.floor(low + share * (high - low + 1.0))
        else:
            numbers = low + share * (high - low)
        values = tuple(_with_unit(number, unit, key.parts[-1]) for number in numbers)
        found.append(dataclasses.replace(key, values=values))
    return tuple(found)


def _check_counts(options: SweepTable, keys: tuple[SweptKey, ...]) -> None:
    if options.mode not in SAMPLED and options.samples is not None:
        raise InputError(
            f"sweep.samples = {options.samples}: with mode = '{options.mode}' the values alone "
            f"tell the number of runs; leave it out, or set mode to one of {', '.join(SAMPLED)}"
        )
    counts = [len(key.values) for key in keys]
    if options.mode == "zip" and len(set(counts)) > 1:
        listed = ", ".join(f"{key.key} has {len(key.values)}" for key in keys)
        raise InputError(f"sweep: with mode = 'zip' all keys have as many values; {listed}")
    runs = math.prod(counts) if options.mode == "grid" else counts[0]
    if runs > MOST_RUNS:
        raise InputError(f"sweep: {runs:,} runs; allowed are {MOST_RUNS:,}: give fewer values")
