"""What a report shows of elastic constants: a figure, and moduli along directions as a table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mdsens.digits import error_text, with_digits
from mdsens.elastic_directions import (
    ElasticRange,
    compliance_change,
    compliance_tensor,
    direction_name,
    elastic_ranges,
    property_at,
)
from mdsens.errors import InputError
from mdsens.units import pretty_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Observables that are elastic constants, by their names without a structure's, and files of these.
FIGURES = {
    "elastic_constants": "youngs-modulus",
    "elastic_constants(relaxed_ions=False)": "youngs-modulus-clamped",
}
#: How elastic properties are called, and the power of the constants' unit that they have.
PROPERTIES = {
    "youngs_modulus": ("Young's modulus", 1),
    "linear_compressibility": ("linear compressibility", -1),
    "shear_modulus": ("shear modulus", 1),
    "poisson_ratio": ("Poisson's ratio", 0),
}
#: The head of the table of moduli along directions.
HEAD = ("property", "minimum", "along", "maximum", "along", "maximum / minimum", "unit")


def elastic_observables(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Observables that are elastic constants.

    Arguments:
        results: what results.json holds.

    Yields:
        Name of the observable, of its structure (empty where there is one), and of its figure.
    """
    for name in results["observables"]:
        for structure in results.get("structures", {"": None}):
            bare = name.removeprefix(f"{structure}.") if structure else name
            if bare in FIGURES and (bare != name) == bool(structure):
                yield name, structure, FIGURES[bare]


def densities_among(observables: Iterable[str], structure: str = "") -> Iterator[str]:
    """Observables of a structure that are densities of states of phonons.

    Arguments:
        observables: names of observables.
        structure: its name, which those of several begin with; empty where there is one.

    Yields:
        Names of observables.
    """
    stem = "phonon_density_of_states("
    for name in observables:
        if name.startswith(f"{structure}.{stem}" if structure else stem):
            yield name


def elastic_figure(results: Mapping[str, Any], observable: str) -> "Figure | None":
    """Young's modulus along every direction, of elastic constants of a run.

    Arguments:
        results: what results.json holds.
        observable: name of the constants.

    Returns:
        The Figure; None where a number is not finite, or a strain lowers the energy.
    """
    # What draws is imported by what draws.
    from mdsens import plots

    given = results["observables"][observable]
    errors = (results.get("sensitivity_errors") or {}).get(observable, {})
    try:
        return plots.youngs_modulus_figure(
            _numbers(given["value"]),
            {name: _numbers(of) for name, of in results["sensitivities"][observable].items()},
            given["units"],
            results["units"]["sensitivities"][observable],
            {name: _numbers(of) for name, of in errors.items() if of is not None},
        )
    except InputError:
        return None


def elastic_rows(
    results: Mapping[str, Any], observable: str, errors: bool = False
) -> list[tuple[str, ...]]:
    """Moduli over all directions, with the digits that the errors of the constants support.

    Arguments:
        results: what results.json holds.
        observable: name of the constants.
        errors: whether each number has its error beside it.

    Returns:
        Rows of a table with `HEAD`; none where a number is not finite, or a strain lowers the
        energy.
    """
    given = results["observables"][observable]
    constants = _numbers(given["value"])
    try:
        ranges = elastic_ranges(constants)
    except InputError:
        return []
    known = np.full(constants.shape, np.nan)
    if given.get("error") is not None:
        known = _numbers(given["error"])
    return [
        _row(name, found, constants, known, given["units"], errors)
        for name, found in ranges.items()
    ]


def _row(
    name: str, found: ElasticRange, constants: np.ndarray, errors: np.ndarray, unit: str,
    with_errors: bool,
) -> tuple[str, ...]:  # fmt: skip
    title, power = PROPERTIES[name]
    off = [
        _error(name, constants, errors, directions)
        for directions in (found.minimum_directions, found.maximum_directions)
    ]

    def number(value: float, error: float) -> str:
        beside = f" ± {error_text(error)}" if with_errors else ""
        return with_digits(value, error, most=6) + beside

    low, high = number(found.minimum, off[0]), number(found.maximum, off[1])
    shown = unit if power == 1 else "" if power == 0 else f"1/{_in_parentheses(unit)}"
    if power == -1 and unit == "reduced":
        shown = unit
    if found.isotropic or found.maximum - found.minimum <= sum(np.nan_to_num(off)):
        every = "every direction"
        return title, low, every, high, every, "1", pretty_unit(shown)
    return (
        title, low, _along(found.minimum_directions), high, _along(found.maximum_directions),
        number(found.anisotropy, _ratio_error(found, off)), pretty_unit(shown),
    )  # fmt: skip


def _error(name: str, constants: np.ndarray, errors: np.ndarray, directions: np.ndarray) -> float:
    """The error of a property along directions, from those of all constants; NaN: not known."""
    if not np.isfinite(errors).all():
        return float("nan")
    compliance, total = compliance_tensor(constants), 0.0
    for place in zip(*np.nonzero(errors), strict=True):
        single = np.zeros_like(constants)
        single[place] = errors[place]
        _, change = property_at(name, compliance, directions, compliance_change(constants, single))
        total += abs(change)
    return total


def _ratio_error(found: ElasticRange, errors: list[float]) -> float:
    parts = zip(errors, (found.minimum, found.maximum), strict=True)
    return abs(found.anisotropy) * sum(error / abs(value) for error, value in parts if value)


def _along(directions: np.ndarray) -> str:
    """A direction, and the one across it where there is one."""
    return ", across ".join(direction_name(one) for one in directions)


def _in_parentheses(unit: str) -> str:
    return f"({unit})" if "/" in unit else unit


def _numbers(value: Any) -> np.ndarray:
    """Numbers of results.json, in which null stands for those that are not finite."""
    return np.array(value, float)
