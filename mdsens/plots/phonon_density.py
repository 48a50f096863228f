"""The density of states of phonons, in colours of its derivative."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mdsens.errors import InputError
from mdsens.plots.style import (
    BAR_COLOR,
    DERIVATIVE_COLORS,
    around_zero,
    derivative_name,
    new_figure,
    plain_frame,
    with_unit,
)
from mdsens.units import unit_name
from mdsens.values import instance, shown

if TYPE_CHECKING:
    from mdsens.sensitivities.results import Sensitivity

#: What observables of it are called.
NAME = "phonon_density_of_states"
#: Strips of one colour between two frequencies.
STRIPS = 12


def phonon_density_of_states(
    sensitivity: "Sensitivity", parameter: str | None = None, observable: str | None = None
) -> Figure:
    """A density of states of phonons against their frequency, in colours of its derivative.

    Arguments:
        sensitivity: of a `mdsens.observables.phonon_density_of_states`, and of others.
        parameter: what the colours are the derivative by; None: the first one.
        observable: name of the density, where there are several; None: the first one.

    Returns:
        The Figure.

    Raises:
        InputError: no density of states, or no derivative by the parameter.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.sensitivities.results import Sensitivity

    instance(sensitivity, "sensitivity", Sensitivity, "a Sensitivity, as from mdsens.sensitivity")
    names = [name for name in sensitivity if name.startswith(f"{NAME}(")]
    if observable is None and not names:
        raise InputError(
            f"sensitivity: it is of {', '.join(sensitivity) or 'no observable'}; give one of "
            f"'{NAME}(f_max, mesh=...)'"
        )
    name = names[0] if observable is None else observable
    if name not in names:
        raise InputError(
            f"observable = {shown(name)}: the sensitivity is of no such density of states; give "
            f"one of {', '.join(names) or 'none'}"
        )
    slopes = sensitivity[name]
    if parameter is None:
        parameter = next(iter(slopes))
    if parameter not in slopes:
        raise InputError(
            f"parameter = {shown(parameter)}: the density has no derivative by it; give one of "
            f"{', '.join(slopes)}"
        )
    given = sensitivity.observables[name]
    units = sensitivity.equilibrium.system.units
    return phonon_density_figure(
        bin_centres(given.labels),
        np.asarray(sensitivity.observed[name]),
        np.asarray(slopes[parameter]),
        parameter,
        sensitivity.units(name, parameter),
        unit_name("frequency", units),
        unit_name("density of states", units),
    )


def bin_centres(labels: Any) -> Float[np.ndarray, " F"]:
    """Centres of bins.

    Arguments:
        labels: what the bins are named by, e.g. ``("f=0.05", "f=0.15")``.

    Returns:
        Shape (F,), e.g. 0.05 and 0.15.
    """
    return np.array([float(label.partition("=")[2]) for label in labels])


def phonon_density_figure(
    frequencies: Float[Any, " F"],
    densities: Float[Any, " F"],
    derivatives: Float[Any, " F"] | None = None,
    parameter: str = "",
    derivative_unit: str = "",
    unit: str = "THz",
    density_unit: str = "1/THz",
    title: str = "",
) -> Figure:
    """A density of states against frequency, filled in colours of its derivative.

    Arguments:
        frequencies: increasing, shape (F,).
        densities: the density g at each of them, shape (F,).
        derivatives: dg/dtheta at each of them, shape (F,); None: one colour.
        parameter: name of the parameter theta.
        derivative_unit: unit of the derivatives.
        unit: unit of the frequencies.
        density_unit: unit of the density.
        title: what tells it from others; empty: there is none.

    Returns:
        The Figure.

    Raises:
        InputError: arrays whose shapes do not agree, or frequencies that do not increase.
    """
    density = checked_density(frequencies, densities, derivatives)
    at, count, _ = density
    figure = new_figure((6.4, 3.4))
    axes = figure.subplots()
    scale = draw_density(axes, density)
    axes.set_xlim(at[0], at[-1])
    axes.set_ylim(0.0, 1.08 * max(float(count.max()), 1e-300))
    axes.set_xlabel(with_unit("frequency", unit))
    axes.set_ylabel(with_unit("density of states", density_unit))
    if title:
        axes.set_title(title, fontsize=9)
    plain_frame(axes)
    if scale is not None:
        density_colors(figure, axes, scale, parameter, derivative_unit)
    return figure


#: Frequencies, the density at each of them, and its derivatives, if they are known.
Density = tuple[
    Float[np.ndarray, " F"], Float[np.ndarray, " F"], Float[np.ndarray, " F"] | None
]  # fmt: skip


def checked_density(*given: Any) -> Density:
    """Frequencies, densities, and derivatives or None, as arrays.

    Raises:
        InputError: shapes that do not agree, or frequencies that do not increase.
    """
    arrays = [np.asarray(one, float) for one in given if one is not None]
    if len(arrays) not in (2, 3) or any(one.ndim != 1 for one in arrays):
        raise InputError(
            "density: give frequencies, as many densities and, for colours, their derivatives"
        )
    at, count, *slopes = arrays
    if any(len(one) != len(at) for one in arrays) or len(at) < 2:
        sizes = ", ".join(str(len(one)) for one in arrays)
        raise InputError(
            f"density: {sizes} frequencies, values and derivatives; give as many of each, at "
            "least two"
        )
    if not (np.diff(at) > 0.0).all():
        raise InputError("density: frequencies do not increase: sort them")
    return at, count, slopes[0] if slopes else None


def draw_density(axes: Axes, density: Density, upright: bool = False) -> Normalize | None:
    """Fill the area under a density of states, in colours of its derivative where there is one.

    Arguments:
        axes: where.
        density: as of `checked_density`.
        upright: whether frequencies are along the vertical axis.

    Returns:
        The scale of the colours; None: there is one colour.
    """
    at, count, slopes = density
    line = (count, at) if upright else (at, count)
    if slopes is None:
        fill = axes.fill_betweenx if upright else axes.fill_between
        fill(at, 0.0, count, color=BAR_COLOR, alpha=0.25, linewidth=0.0)
        axes.plot(*line, color=BAR_COLOR, linewidth=1.1)
        return None
    scale = around_zero(slopes)
    # Strips so narrow that colours flow into one another.
    fine = np.interp(np.arange((len(at) - 1) * STRIPS + 1) / STRIPS, np.arange(len(at)), at)
    count, slopes = np.interp(fine, at, count), np.interp(fine, at, slopes)
    lower, upper = fine[:-1], fine[1:]
    zero = np.zeros_like(lower)
    corners = np.array(
        [[lower, zero], [lower, count[:-1]], [upper, count[1:]], [upper, zero]]
    ).transpose(2, 0, 1)
    strips = PolyCollection(
        list(corners[:, :, ::-1] if upright else corners),
        array=(slopes[:-1] + slopes[1:]) / 2, cmap=DERIVATIVE_COLORS, norm=scale,
        # Seams between strips are not seen.
        edgecolors="face", linewidths=0.3,
    )  # fmt: skip
    axes.add_collection(strips)
    axes.plot(*line, color="#202020", linewidth=0.9)
    return scale


def density_colors(
    figure: Figure, axes: Any, scale: Normalize, parameter: str, derivative_unit: str
) -> None:
    """What colours of a density stand for, beside one panel or several.

    Arguments:
        figure: that of the panels.
        axes: the panels.
        scale: of the colours.
        parameter: name of the parameter.
        derivative_unit: unit of the derivatives.
    """
    bar = figure.colorbar(ScalarMappable(scale, DERIVATIVE_COLORS), ax=axes, aspect=28, pad=0.02)
    bar.set_label(with_unit(derivative_name("g", parameter), derivative_unit), fontsize=9)
    bar.ax.tick_params(labelsize=8)
