"""Sweeps: observables and their derivatives over a swept key."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from mdsens.markup import for_figure
from mdsens.plots.style import (
    BAR_COLOR,
    arrange,
    derivative_name,
    level_within_errors,
    name_above,
    new_figure,
    plain_frame,
    with_unit,
)

if TYPE_CHECKING:
    import xarray

#: Observables, and parameters of derivatives, that a figure has room for.
MOST_OBSERVABLES, MOST_PARAMETERS = 6, 3
#: Of its panels, up to 24.
DOTS_PER_INCH = 110.0
#: Runs up to which each has a dot on its line, and lines up to which a legend names them.
MOST_DOTS, MOST_NAMED = 60, 8
#: Values that are texts stand side by side up to so many; more are numbered.
MOST_TEXTS = 12
#: Colours of lines; the palest of the map would not be seen on white.
COLORS = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.88, 256)))


def scalar_observables(found: "xarray.Dataset", runs: int) -> list[str]:
    """The observables of one number.

    Arguments:
        found: from `mdsens.load`.
        runs: number of runs.

    Returns:
        Their names, the first few.
    """
    names = [
        str(name)
        for name in found.data_vars
        if f"error_{name}" in found and not str(name).startswith(("d_", "error_"))
    ]
    return [name for name in names if found[name].size == runs][:MOST_OBSERVABLES]


def sweep_figure(found: "xarray.Dataset", keys: list[str], key: str) -> Figure | None:
    """Observables and their derivatives over a swept key, a row for each observable.

    In a grid the other keys have lines of their own, coloured by the first of them; samples are
    dots. Derivatives that are zero within their errors have no panel's line, only a zero.

    Arguments:
        found: the sweep, from `mdsens.load`.
        keys: the swept keys.
        key: the one to draw over.

    Returns:
        The Figure; None where no observable is a single number.
    """
    grid = "run" not in found.dims
    runs = found["state"].size
    names = scalar_observables(found, runs)
    if not names:
        return None
    parameters = [str(one) for one in found["parameter"].values] if "parameter" in found else []
    parameters = parameters[:MOST_PARAMETERS]
    width, height = 3.5 * (1 + len(parameters)), 2.6 * len(names) + 0.5
    figure = new_figure((max(width, 4.8), height), DOTS_PER_INCH)
    panels = figure.subplots(len(names), 1 + len(parameters), squeeze=False, sharex=True)
    lines = _Lines(found, [other for other in keys if other != key], key, grid)
    for row, name in zip(panels, names, strict=True):
        of = found[name]
        lines.draw(row[0], of, found[f"error_{name}"])
        name_above(row[0], with_unit(for_figure(name), of.attrs["units"]))
        for axes, parameter in zip(row[1:], parameters, strict=True):
            slopes = found[f"d_{name}"].sel(parameter=parameter)
            errors = found[f"error_d_{name}"].sel(parameter=parameter)
            lines.draw(axes, slopes, errors)
            text = derivative_name(f" {for_figure(name)}", parameter)
            name_above(axes, with_unit(text, slopes.attrs[f"units_{parameter}"]))
    for axes in panels[-1]:
        axes.set_xlabel(with_unit(for_figure(key), found[key].attrs.get("units", "")))
    if lines.others or lines.texts:
        lines.explain(figure, panels)
    else:
        arrange(figure, panels)
    return figure


def _is_spread(values: np.ndarray) -> bool:
    """Whether numbers are read by their powers of ten: positive, over at least two of them."""
    return bool(values.min() > 0.0 and values.max() >= 99.0 * values.min())


class _Lines:
    """How the runs of a sweep are drawn over one of its keys."""

    def __init__(self, found: "xarray.Dataset", others: list[str], key: str, grid: bool) -> None:
        self.key, self.grid = key, grid
        self.others = others if grid else []
        values = found[key].values
        self.texts = values.dtype.kind not in "iuf"
        # Between seeds, or methods, there is nothing that a line could show.
        self.apart = self.texts or key.endswith("seed")
        self.x = np.arange(len(values)) if self.texts else values
        self.names = [str(value) for value in values] if self.texts else []
        self.spread = not self.apart and _is_spread(self.x)
        self.colored = found[self.others[0]].values if self.others else np.zeros(1)
        self.numeric = self.colored.dtype.kind in "iuf"
        self.scale = Normalize(0, max(len(self.colored) - 1, 1))
        if self.numeric and self.others:
            scale = LogNorm if _is_spread(self.colored) else Normalize
            self.scale = scale(float(self.colored.min()), float(self.colored.max()))
        self.unit = found[self.others[0]].attrs.get("units", "") if self.others else ""

    def color(self, place: int) -> Any:
        """That of the lines with one value of the other key."""
        if not self.others:
            return BAR_COLOR
        at = float(self.colored[place]) if self.numeric else float(place)
        return COLORS(self.scale(at))

    def draw(self, axes: Axes, of: "xarray.DataArray", errors: "xarray.DataArray") -> None:
        """One panel."""
        # What is not above its error is zero.
        numbers = of.where(~(np.abs(of) <= errors), 0.0).where(of.notnull())
        if self.grid:
            lines = numbers.transpose(*self.others, self.key).values
            lines = lines.reshape(len(self.colored), -1, len(self.x))
            order = np.argsort(self.x, kind="stable")
            for place, group in enumerate(lines):
                for line in group:
                    axes.plot(
                        self.x[order], line[order], color=self.color(place), linewidth=1.2,
                        marker="o" if self.apart or len(self.x) <= MOST_DOTS else "",
                        markersize=3.5 if len(self.x) <= MOST_DOTS else 2.0,
                        linestyle="" if self.apart else "-",
                    )  # fmt: skip
        else:
            axes.plot(self.x, numbers.values, "o", color=BAR_COLOR, markersize=3.5, alpha=0.7)
        if self.texts and len(self.names) <= MOST_TEXTS:
            axes.set_xticks(self.x, [for_figure(name) for name in self.names])
            axes.tick_params(axis="x", labelrotation=45, labelsize=8)
        if self.spread:
            axes.set_xscale("log")
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.margins(y=0.12)
        level_within_errors(axes, numbers.values, errors.values)
        plain_frame(axes)

    def explain(self, figure: Figure, panels: Any) -> None:
        """What the colours stand for, if there are any."""
        if not self.others:
            return
        title = with_unit(for_figure(self.others[0]), self.unit)
        if self.numeric and len(self.colored) > MOST_NAMED:
            shown = ScalarMappable(self.scale, COLORS)
            figure.colorbar(shown, ax=panels, label=title, aspect=40)
            return
        marks = panels[0, 0].get_lines()
        each = len(marks) // len(self.colored)
        labels = [
            f"{value:.6g}" if self.numeric else for_figure(str(value)) for value in self.colored
        ]
        figure.legend(
            marks[::each][:MOST_NAMED], labels[:MOST_NAMED], title=title, frameon=False,
            loc="outside upper right", ncols=4, fontsize=8, title_fontsize=8,
        )  # fmt: skip
