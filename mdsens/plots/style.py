"""What all figures share: colours, units as they are printed, and a plain frame."""

import io
import textwrap
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imsave
from numpy.typing import ArrayLike

from mdsens.markup import for_figure
from mdsens.units import pretty_unit

#: Of PNG, from 0 to 9: more takes twice the time for a twentieth of the room.
COMPRESSION = 4
#: Letters in a line of a panel's title.
WIDEST_TITLE = 40
#: Inches that a digit of an axis and a line of a title take, and what is left free: beside each
#: panel, and below the last of them for numbers and a name.
WIDTH_OF_DIGIT, HEIGHT_OF_LINE, ROOM_BESIDE, ROOM_BELOW = 0.09, 0.17, 0.15, 0.5
#: Colour of bars and curves.
BAR_COLOR = "#0072B2"
#: Colour of curves of another quantity, with an axis of its own.
OTHER_COLOR = "#D55E00"
#: Colours of derivatives from negative to positive: grey, which is seen on white, where they are 0.
DERIVATIVE_COLORS = LinearSegmentedColormap.from_list(
    "derivatives", ["#004F7C", "#2E8BC0", "#CFCFCF", "#E58A3C", "#A33F00"]
)


def around_zero(values: ArrayLike) -> Normalize:
    """The scale of colours of derivatives: as far to negative as to positive ones.

    Arguments:
        values: the derivatives; what is not finite does not count.

    Returns:
        Symmetric limits; those of 1 where nothing is but zero.
    """
    sizes = np.abs(np.asarray(values, float))
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0)) or 1.0
    return Normalize(-largest, largest)


def with_unit(text: str, unit: str) -> str:
    """What an axis or a bar of colours shows, with its unit.

    Arguments:
        text: e.g. ``"energy"``.
        unit: e.g. ``"eV/Ang^3"``; ``"1"`` and nothing for pure numbers.

    Returns:
        E.g. ``"energy (eV/Å³)"``.
    """
    pretty = pretty_unit(unit)
    return f"{text} ({pretty})" if pretty else text


def derivative_name(quantity: str, parameter: str) -> str:
    """What a derivative is called in figures.

    Arguments:
        quantity: what is differentiated, e.g. ``"E"``.
        parameter: name of the parameter.

    Returns:
        E.g. ``"dE / d sigma"``.
    """
    return f"d{quantity} / d {for_figure(parameter)}"


class ShownFigure(Figure):
    """A figure that a notebook shows, though it belongs to no window."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def new_figure(size: tuple[float, float], dpi: float = 160.0) -> Figure:
    """An empty figure, which belongs to no window.

    Arguments:
        size: width and height, inches.
        dpi: dots per inch; fewer are enough for many small panels.

    Returns:
        The Figure.
    """
    figure = ShownFigure(figsize=size, layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def text_width(figure: Figure, text: str, size: float) -> float:
    """How wide a text is drawn in a figure of `new_figure`.

    Arguments:
        figure: the figure.
        text: one line.
        size: of the letters, points.

    Returns:
        Inches.
    """
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    plain = text.replace(r"\$", "$")
    width, *_ = renderer.get_text_width_height_descent(plain, FontProperties(size=size), False)
    return float(width) / figure.dpi


def write_figures(figures: Iterable[tuple[Path, Figure]]) -> list[Path]:
    """Write figures of `new_figure` as PNG.

    Each is drawn once, where `Figure.savefig` draws it twice, and packed while the next is drawn:
    the same one may come again, changed.

    Arguments:
        figures: paths and figures, of which each is drawn before the next is asked for.

    Returns:
        The paths.

    Raises:
        OSError: a file cannot be written.
    """
    written = []
    with ThreadPoolExecutor() as pool:
        for path, figure in figures:
            canvas = figure.canvas
            assert isinstance(canvas, FigureCanvasAgg)
            canvas.draw()  # type: ignore[no-untyped-call]
            pixels = np.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
            options: dict[str, Any] = {
                "dpi": figure.dpi,
                "pil_kwargs": {"compress_level": COMPRESSION},
            }
            written.append((path, pool.submit(imsave, path, pixels, **options)))
    for _, packing in written:
        packing.result()
    return [path for path, _ in written]


def name_above(axes: Axes, text: str) -> None:
    """Say what a panel shows; names of observables are long, and stand above it.

    Arguments:
        axes: the panel.
        text: what it shows.
    """
    axes.set_title(textwrap.fill(text, WIDEST_TITLE), fontsize=9, loc="left")


def arrange(figure: Figure, panels: np.ndarray) -> None:
    """Place panels that have nothing but numbers, titles and labels of axes around them.

    The room for numbers follows from how many characters they have: a constrained layout draws all
    texts twice to know, which takes longer than the figure.

    Arguments:
        figure: of `new_figure`.
        panels: its Axes in rows and columns, of which the last row has numbers and names below.
    """
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    rows, columns = panels.shape
    left = [max(map(_room_for_numbers, panels[:, column])) for column in range(columns)]
    above = [max(map(_room_for_title, row)) for row in panels]
    wide = (width - sum(left)) / columns - ROOM_BESIDE
    high = (height - sum(above) - ROOM_BELOW) / rows - ROOM_BESIDE
    top = height
    for row, room_above in zip(panels, above, strict=True):
        top -= room_above + high
        right = 0.0
        for axes, room in zip(row, left, strict=True):
            right += room
            axes.set_position((right / width, top / height, wide / width, high / height))
            right += wide + ROOM_BESIDE
        top -= ROOM_BESIDE


def _room_for_numbers(axes: Axes) -> float:
    """What the numbers at the left of a panel take, inches."""
    ticks = axes.yaxis.get_majorticklocs()
    texts = axes.yaxis.get_major_formatter().format_ticks(list(ticks))
    return ROOM_BESIDE + WIDTH_OF_DIGIT * max(map(len, texts), default=0)


def _room_for_title(axes: Axes) -> float:
    """What the title above a panel takes, inches."""
    return ROOM_BESIDE + HEIGHT_OF_LINE * len(axes.get_title(loc="left").splitlines())


def level_within_errors(axes: Axes, values: ArrayLike, errors: ArrayLike) -> None:
    """Draw numbers that differ by their errors alone at one height: they are the same.

    Arguments:
        axes: the panel they are drawn in.
        values: the numbers; NaN where there is none.
        errors: their absolute errors; NaN where they are not known.
    """
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    if high - low <= 2.0 * np.nanmax(errors, initial=0.0):
        middle, half = 0.5 * (low + high), 0.05 * max(abs(low), abs(high)) or 1.0
        if np.isfinite(middle):
            axes.set_ylim(middle - half, middle + half)


def plain_frame(axes: Axes) -> None:
    """Leave out the lines above and at the right of a panel."""
    axes.spines[["top", "right"]].set_visible(False)
