"""Bars of sensitivities."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdsens.digits import is_zero, with_digits
from mdsens.markup import for_figure
from mdsens.plots.style import BAR_COLOR, new_figure, plain_frame, text_width
from mdsens.units import pretty_unit
from mdsens.values import instance

if TYPE_CHECKING:
    from mdsens.sensitivities import Sensitivity

#: Numbers that are zero within their errors, and their errors.
ZERO_COLOR = "#8A8A8A"
#: Inches: beside the names of parameters, between panels, and what a panel has below and above.
LABELS, GAP, BELOW, ABOVE = 0.15, 0.2, 0.46, 0.27
#: Inches that a panel is wide at least.
NARROWEST = 2.0
#: What bars are of an observable that has a logarithm.
LOGARITHMIC = "d ln O / d ln θ"


def sensitivities(sensitivity: "Sensitivity") -> Figure:
    """A bar for each scalar observable and parameter, as in `sensitivities_figure`.

    Arguments:
        sensitivity: derivatives of observables.

    Returns:
        The Figure.

    Raises:
        InputError: it is no Sensitivity.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.sensitivities import Sensitivity

    instance(sensitivity, "sensitivity", Sensitivity, "a Sensitivity, as from mdsens.sensitivity")
    return sensitivities_figure(sensitivity.to_dict())


def sensitivities_figure(results: Mapping[str, Any], names: Iterable[str] | None = None) -> Figure:
    """A bar for each scalar observable and parameter: per cent of change per per cent.

    Where an observable is zero within its error there is no logarithm; theta dO/dtheta takes its
    place. Whiskers are errors, and what is not above its error is a grey zero.

    Arguments:
        results: what results.json holds.
        names: the observables to show; None: all.

    Returns:
        The Figure.
    """
    given = results["observables"]
    shown = given if names is None else names
    scalars = [name for name in shown if isinstance(given[name]["value"], (int, float))]
    parameters = list(results["parameters"])
    columns = min(len(scalars), 2) or 1
    rows = -(-len(scalars) // columns) or 1
    size = (1.2 + 3.2 * columns, 0.4 + rows * (0.95 + 0.27 * len(parameters)))
    figure = new_figure(size)
    places = _places(figure, size, [*map(for_figure, scalars)], [*map(for_figure, parameters)])
    for index, name in enumerate(scalars):
        if places is None:
            axes = figure.add_subplot(rows, columns, index + 1)
        else:
            axes = figure.add_axes(places[index])
        values, errors, label = _bar_values(results, name, parameters)
        _draw_bars(axes, values, errors, parameters, results["parameters"])
        axes.set_title(for_figure(name), loc="left", fontsize=10)
        if label != LOGARITHMIC:
            axes.set_title("O is zero", loc="right", fontsize=8, color=ZERO_COLOR)
        axes.set_xlabel(label, fontsize=9)
        if index % columns:
            axes.set_yticklabels([])
    if not scalars:
        figure.text(0.5, 0.5, "no scalar observables", ha="center")
    return figure


def _places(
    figure: Figure, size: tuple[float, float], titles: list[str], labels: list[str]
) -> list[tuple[float, float, float, float]] | None:
    """Where panels stand, as parts of the figure; None: its layout is left to Matplotlib.

    That one takes longer than drawing, and is needed where names are longer than panels are wide.
    """
    columns = min(len(titles), 2) or 1
    rows = -(-len(titles) // columns) or 1
    left = LABELS + max((text_width(figure, label, 9) for label in labels), default=0.0)
    wide, high = (size[0] - left - GAP * columns) / columns, size[1] / rows
    longest = max((text_width(figure, title, 10) for title in titles), default=0.0)
    if wide < max(longest, NARROWEST):
        return None
    figure.set_layout_engine("none")
    places = []
    for index in range(len(titles)):
        row, column = divmod(index, columns)
        x, y = left + column * (wide + GAP), size[1] - (row + 1) * high + BELOW
        inner = high - BELOW - ABOVE
        places.append((x / size[0], y / size[1], wide / size[0], inner / size[1]))
    return places


def _bar_values(
    results: Mapping[str, Any], name: str, parameters: list[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Bars of one observable, their errors, and what they are."""
    given = results["observables"][name]
    all_errors = results.get("sensitivity_errors") or {}

    def numbers(of: Mapping[str, Any]) -> np.ndarray:
        found = [of.get(parameter) for parameter in parameters]
        return np.array([np.nan if number is None else number for number in found])

    value, off = given["value"], given.get("error")
    off = np.nan if off is None else off
    sizes = np.array([results["parameters"][parameter] for parameter in parameters])
    changes = numbers(results["sensitivities"][name]) * sizes
    errors = numbers(all_errors.get(name, {})) * np.abs(sizes)
    if not is_zero(value, off):
        errors = errors / abs(value)
        errors += np.abs(changes) * off / value**2
        return changes / value, errors, LOGARITHMIC
    unit = pretty_unit(given["units"])
    return changes, errors, f"θ dO/dθ ({unit})" if unit else "θ dO/dθ"


def _draw_bars(
    axes: Axes,
    values: np.ndarray,
    errors: np.ndarray,
    parameters: list[str],
    sizes: Mapping[str, float],
) -> None:
    places = np.arange(len(parameters))[::-1]
    zero = is_zero(values, errors) | np.isnan(values)
    shown, known = np.where(zero, 0.0, values), np.nan_to_num(errors)
    axes.barh(places, shown, color=BAR_COLOR, height=0.62)
    axes.axvline(0.0, color="black", linewidth=0.8)
    low, high = (shown - known).min(initial=0.0), (shown + known).max(initial=0.0)
    reach = max(high - low, 1e-300)
    if not shown.any():
        # Nothing but zeros: room for their errors, and a scale where these are none.
        reach = reach if known.any() else 2.0
        low, high = -reach / 2, reach / 2
    # Room for the numbers at the ends of the bars, whichever way these point.
    width = 0.32 * max(high - low, 0.6 * reach)
    axes.set_xlim(low - (width if shown.min(initial=0.0) < 0 else 0.12 * width), high + width)
    # A whisker too short to be seen would only blur the end of its bar.
    wide = known > 0.004 * np.ptp(axes.get_xlim())
    for look, chosen in (("black", wide & ~zero), (ZERO_COLOR, wide & zero)):
        axes.errorbar(shown[chosen], places[chosen], xerr=known[chosen], fmt="none", ecolor=look,
                      elinewidth=1.1, capsize=2.5, capthick=1.1, zorder=3)  # fmt: skip
    axes.set_yticks(places, [for_figure(parameter) for parameter in parameters])
    axes.set_ylim(-0.6, len(parameters) - 0.4)
    for index, (place, value, parameter) in enumerate(zip(places, shown, parameters, strict=True)):
        text = with_digits(float(value), float(errors[index]), most=3)
        if sizes[parameter] == 0:
            text = "0, as θ = 0"
        side = -1 if value < 0 else 1
        end = value + side * known[index] * wide[index]
        axes.annotate(text, (end, place), xytext=(4 * side, 0), textcoords="offset points",
                      ha="left" if side > 0 else "right", va="center", fontsize=8,
                      color=ZERO_COLOR if zero[index] else "black")  # fmt: skip
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.tick_params(labelsize=9)
    plain_frame(axes)
