"""What all figures share: colours, units as they are printed, and a plain frame."""

import re
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Colour of bars and curves.
BAR_COLOR = "#0072B2"


def pretty_unit(unit: str) -> str:
    """A unit as it is printed in figures and reports.

    Arguments:
        unit: e.g. ``"eV/Ang^3"``, ``"reduced"`` or ``"1"``.

    Returns:
        E.g. ``"eV/Å³"``, ``"reduced units"``, or an empty string for pure numbers.
    """
    if unit == "1":
        return ""
    if unit == "reduced":
        return "reduced units"
    unit = unit.replace("Ang", "Å").replace("degree", "°")
    return re.sub(r"\^(\d)", lambda found: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(found[1])], unit)


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure, which belongs to no window.

    Arguments:
        size: width and height, inches.

    Returns:
        The Figure.
    """
    figure = Figure(figsize=size, layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure of `new_figure` as PNG, drawn once: `Figure.savefig` draws it twice."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.print_png(path)  # type: ignore[no-untyped-call]


def plain_frame(axes: Axes) -> None:
    """Leave out the lines above and at the right of a panel."""
    axes.spines[["top", "right"]].set_visible(False)
