"""Phonon frequencies along a path of wave vectors, and their density."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mdsens.curves import PhononBands
from mdsens.errors import InputError
from mdsens.markup import for_figure
from mdsens.plots.phonon_density import checked_density, density_colors, draw_density
from mdsens.plots.style import (
    BAR_COLOR,
    DERIVATIVE_COLORS,
    around_zero,
    derivative_name,
    new_figure,
    plain_frame,
    with_unit,
)
from mdsens.values import shown

#: What frequencies are in which a crystal is not stable.
IMAGINARY_COLOR = "#FBE3D6"
#: Names of points of a path that are Greek letters.
GREEK = {"GAMMA": "Γ", "G": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}


@runtime_checkable
class Bands(Protocol):
    """Phonon frequencies along a path of wave vectors, as `phonon_bands` draws them.

    Attributes:
        distances: length of the path up to each wave vector, shape (P,).
        frequencies: shape (P, M).
        labels: names of symmetric points, as in `phonon_bands_figure`.
        derivatives: df/dtheta by parameter, each of shape (P, M).
    """

    distances: Any
    frequencies: Any
    labels: Any
    derivatives: Any


def phonon_bands(
    bands: "PhononBands | Bands",
    parameter: str | None = None,
    derivative_unit: str | None = None,
    unit: str | None = None,
    density: Sequence[Float[Any, " F"]] | None = None,
    density_derivative_unit: str = "",
) -> Figure:
    """Phonon frequencies along a path, in colours of their derivative; see `phonon_bands_figure`.

    Arguments:
        bands: of `mdsens.sensitivities.phonon_bands`; or frequencies, and their derivatives by
            parameter, from elsewhere.
        parameter: what the colours are the derivative by; None: lines of one colour.
        derivative_unit: unit of that derivative; None: what the bands say of it, if anything.
        unit: unit of the frequencies; None: what the bands say, or THz.
        density: frequencies and the density of states at each of them, drawn at the right; and its
            derivatives by the parameter, which are its colours then.
        density_derivative_unit: unit of these.

    Returns:
        The Figure.

    Raises:
        InputError: a parameter that there is no derivative by, or arrays whose shapes do not agree.
    """
    slopes = None
    if parameter is not None:
        if parameter not in bands.derivatives:
            raise InputError(
                f"parameter = {shown(parameter)}: the bands have no derivative by it; give one of "
                f"{', '.join(bands.derivatives) or 'none'}"
            )
        slopes = bands.derivatives[parameter]
    known = bands.units if isinstance(bands, PhononBands) else {}
    unit = known.get("frequency", "THz") if unit is None else unit
    if derivative_unit is None:
        derivative_unit = known.get(parameter or "", "")
    return phonon_bands_figure(
        bands.distances, bands.frequencies, bands.labels, slopes, parameter or "",
        derivative_unit, unit, density, "reduced" if unit == "reduced" else f"1/{unit}",
        density_derivative_unit,
    )  # fmt: skip


def phonon_bands_figure(
    distances: Float[Any, " P"],
    frequencies: Float[Any, "P M"],
    labels: Mapping[float, str] | Sequence[tuple[float, str]] | Sequence[str] = (),
    derivatives: Float[Any, "P M"] | None = None,
    parameter: str = "",
    derivative_unit: str = "",
    unit: str = "THz",
    density: Sequence[Float[Any, " F"]] | None = None,
    density_unit: str = "1/THz",
    density_derivative_unit: str = "",
) -> Figure:
    """Phonon frequencies along a path, in colours of their derivative; their density at the right.

    What is below zero stands for imaginary frequencies and is shaded: the crystal is not stable.
    Where a distance comes twice, the path goes on elsewhere, and no line joins the two points.

    Arguments:
        distances: length of the path up to each wave vector, increasing, 1/length, shape (P,).
        frequencies: shape (P, M), negative where they are imaginary.
        labels: names of symmetric points: pairs of distances and names, or a name for each wave
            vector, empty for those that have none.
        derivatives: df/dtheta, shape (P, M), NaN where there is none; None: lines of one colour.
        parameter: name of the parameter theta.
        derivative_unit: unit of the derivatives.
        unit: unit of the frequencies.
        density: frequencies, the density of states at each of them and, for colours, its
            derivatives dg/dtheta.
        density_unit: unit of the density.
        density_derivative_unit: unit of these derivatives.

    Returns:
        The Figure.

    Raises:
        InputError: arrays whose shapes do not agree.
    """
    along, bands, slopes = _checked(distances, frequencies, derivatives)
    points = _labelled(along, labels)
    colored, counted = slopes is not None, density is not None
    twice = density is not None and len(density) > 2
    figure = new_figure((6.4 + 1.5 * counted + 0.9 * colored + 0.9 * twice, 4.2))
    panels: list[Axes] = list(
        figure.subplots(
            1, 1 + counted, sharey=True, squeeze=False, width_ratios=[4.2, 1][: 1 + counted]
        )[0]
    )
    axes, colors_of_density = panels[0], None
    segments, values = _segments(along, bands, slopes)
    lines = LineCollection(segments, linewidths=1.6 if colored else 1.3, capstyle="round", zorder=3)
    scale = Normalize(-1.0, 1.0)
    if values is None:
        lines.set_color(BAR_COLOR)
    else:
        scale = around_zero(values)
        # Where there is no derivative the line is seen, and has no colour.
        cmap = DERIVATIVE_COLORS.with_extremes(bad="#202020")
        lines.set(cmap=cmap, norm=scale, array=np.ma.masked_invalid(values))
    axes.add_collection(lines)
    _draw_path(axes, along, points)
    _draw_range(panels, bands)
    axes.set_ylabel(with_unit("frequency", unit))
    if density is not None:
        states = checked_density(*density)
        colors_of_density = draw_density(panels[1], states, upright=True)
        panels[1].set_xlabel(with_unit("density", density_unit))
        panels[1].set_xlim(0.0, 1.08 * max(float(states[1].max()), 1e-300))
        panels[1].locator_params(axis="x", nbins=3)
        panels[1].tick_params(axis="y", left=False)
    # The first one stands outermost.
    if colors_of_density is not None:
        density_colors(figure, panels, colors_of_density, parameter, density_derivative_unit)
    if colored:
        bar = figure.colorbar(ScalarMappable(scale, DERIVATIVE_COLORS), ax=panels, aspect=28,
                              pad=0.02)  # fmt: skip
        bar.set_label(with_unit(derivative_name("f", parameter), derivative_unit), fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def _checked(
    distances: Any, frequencies: Any, derivatives: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    along, bands = np.asarray(distances, float), np.asarray(frequencies, float)
    slopes = None if derivatives is None else np.asarray(derivatives, float)
    if along.ndim != 1 or bands.ndim != 2 or len(bands) != len(along) or len(along) < 2:
        raise InputError(
            f"distances of shape {along.shape} with frequencies of shape {bands.shape}: give (P,) "
            "and (P, M), of at least two wave vectors"
        )
    if (np.diff(along) < 0.0).any():
        raise InputError("distances decrease: give those along the path from its beginning")
    if slopes is not None and slopes.shape != bands.shape:
        raise InputError(
            f"derivatives of shape {slopes.shape} with frequencies of shape {bands.shape}: give "
            "one for each frequency"
        )
    return along, bands, slopes


def _labelled(along: np.ndarray, labels: Any) -> list[tuple[float, str]]:
    """Distances of symmetric points and their names, of which those of one place are joined."""
    pairs = list(labels.items()) if isinstance(labels, Mapping) else list(labels)
    if pairs and all(isinstance(one, str) for one in pairs):
        if len(pairs) != len(along):
            raise InputError(
                f"{len(pairs)} labels of {len(along)} wave vectors: give one for each, empty where "
                "it has no name, or pairs of distances and names"
            )
        pairs = [(at, name) for at, name in zip(along, pairs, strict=True) if name]
    found: dict[float, list[str]] = {}
    for at, name in pairs:
        if not isinstance(name, str):
            raise InputError(f"labels: {shown(name)} is no name")
        names = found.setdefault(round(float(at), 9), [])
        names += [_greek(name)] if _greek(name) not in names else []
    return [(at, "|".join(names)) for at, names in found.items()]


def _greek(name: str) -> str:
    """A name as it is printed: seekpath writes GAMMA and X_1."""
    stem, _, index = name.partition("_")
    stem = GREEK.get(stem.upper().strip("$\\"), stem)
    printed = for_figure(stem)
    return f"{printed}$_{{{index}}}$" if index.isalnum() else printed


def _segments(
    along: np.ndarray, bands: np.ndarray, slopes: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Pieces of lines between wave vectors that follow one another, and a derivative for each."""
    joined = np.diff(along) > 0.0
    points = np.stack([np.broadcast_to(along[:, None], bands.shape), bands], axis=-1)
    pieces = np.stack([points[:-1], points[1:]], axis=2)[joined]
    if slopes is None:
        return list(pieces.reshape(-1, 2, 2)), None
    # At Gamma some have no derivative: what begins or ends there has that of its other end.
    begins, ends = slopes[:-1][joined], slopes[1:][joined]
    begins = np.where(np.isnan(begins), ends, begins)
    ends = np.where(np.isnan(ends), begins, ends)
    return list(pieces.reshape(-1, 2, 2)), (0.5 * (begins + ends)).ravel()


def _draw_path(axes: Axes, along: np.ndarray, points: list[tuple[float, str]]) -> None:
    for at, _ in points:
        axes.axvline(at, color="#8A8A8A", linewidth=0.7, zorder=1)
    axes.set_xticks([at for at, _ in points], [name for _, name in points])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(along[0], along[-1])
    if not points:
        axes.set_xlabel("path of wave vectors")


def _draw_range(panels: list[Axes], bands: np.ndarray) -> None:
    """The range of frequencies, in which what is imaginary is shaded and said."""
    lowest, highest = float(np.nanmin(bands)), float(np.nanmax(bands))
    reach = max(highest, 0.0) - min(lowest, 0.0) or 1.0
    # What is zero may be a little below it.
    imaginary = lowest < -1e-3 * reach
    bottom = lowest - 0.06 * reach if imaginary else 0.0
    panels[0].set_ylim(bottom, highest + 0.05 * reach)
    for axes in panels:
        if imaginary:
            axes.axhspan(bottom, 0.0, color=IMAGINARY_COLOR, linewidth=0.0, zorder=0)
            axes.axhline(0.0, color="black", linewidth=0.7, zorder=2)
        plain_frame(axes)
    if imaginary:
        panels[0].text(0.99, bottom + 0.015 * reach, "imaginary: the crystal is not stable",
                       transform=panels[0].get_yaxis_transform(), fontsize=8, ha="right",
                       va="bottom", zorder=4)  # fmt: skip
