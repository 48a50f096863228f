"""Derivatives through the steps of a minimiser, from many random starts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdsens.markup import for_figure
from mdsens.plots.style import BAR_COLOR, new_figure, plain_frame
from mdsens.units import pretty_unit

#: Lines of structures with rattlers.
RATTLER_COLOR = "#D55E00"


def ensemble_figure(curves: Mapping[str, np.ndarray], ensemble: Mapping[str, Any]) -> Figure:
    """Derivatives through the steps of a minimiser from many starts, and the implicit ones.

    Left, the norms, with the implicit derivatives at the minima as marks at the right; right, how
    far each unrolled derivative is from the implicit one. Dashed: structures with rattlers.

    Arguments:
        curves: what ensemble.npz holds.
        ensemble: what results.json holds under ``"ensemble"``.

    Returns:
        The Figure.
    """
    figure = new_figure((9.0, 3.9))
    norms, distances = figure.subplots(1, 2)
    draw_ensemble(norms, distances, curves)
    unit = pretty_unit(ensemble["units"]["norms"])
    norms.set_title(for_figure(f"unrolled {ensemble['minimiser']}"), loc="left", fontsize=11)
    norms.set_ylabel(
        f"L₁ norm of d x / d {for_figure(ensemble['parameter'])}" + f" ({unit})" * bool(unit)
    )
    distances.set_ylabel("distance from the implicit derivative\n(L₁, relative)")
    for axes in (norms, distances):
        axes.set_xlabel("step of the minimiser")
    return figure


def draw_ensemble(norms: Axes, distances: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Draw the two panels of `ensemble_figure`, without titles and labels of the axes.

    Arguments:
        norms: where the norms go.
        distances: where the distances from the implicit derivative go.
        curves: what ensemble.npz holds.
    """
    steps, rattlers = curves["steps"], curves["rattlers"].any(axis=1)
    for with_rattlers, colour, style in (
        (False, BAR_COLOR, "-"),
        (True, RATTLER_COLOR, (0, (4, 1.5))),
    ):
        chosen = rattlers == with_rattlers
        look: dict[str, Any] = {
            "color": colour, "linestyle": style, "linewidth": 1.3 if with_rattlers else 0.8,
            "alpha": 0.9 if with_rattlers else 0.55,
        }  # fmt: skip
        for axes, name in ((norms, "unrolled_norms"), (distances, "distances")):
            values = curves[name][:, chosen]
            # What is not above zero has no logarithm.
            axes.plot(steps, np.where(values > 0, values, np.nan), **look)
    implicit = curves["implicit_norms"]
    norms.plot(np.full(len(implicit), 1.04 * steps[-1]), implicit, "k_", markersize=7,
               markeredgewidth=0.8, clip_on=False)  # fmt: skip
    distances.axhline(1e-2, color="black", linestyle=":", linewidth=1.0)
    distances.annotate("1 %", (1.0, 1e-2), xycoords=("axes fraction", "data"), xytext=(2, 0),
                       textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    handles = [
        Line2D([], [], color=BAR_COLOR, linewidth=1.2, label="unrolled"),
        Line2D([], [], color="black", marker="_", markersize=8, linestyle="",
               label="implicit, at the minima"),
    ]  # fmt: skip
    if rattlers.any():
        rattlers_line = Line2D([], [], color=RATTLER_COLOR, linewidth=1.4, linestyle=(0, (4, 1.5)))
        rattlers_line.set_label("unrolled, with rattlers")
        handles.insert(1, rattlers_line)
    norms.legend(handles=handles, loc="upper left", frameon=False, fontsize=8)
    for axes in (norms, distances):
        axes.set_yscale("log")
        axes.set_xlim(0, steps[-1])
        plain_frame(axes)
    # Room for the legend above the lines.
    low, high = norms.get_ylim()
    norms.set_ylim(low, high * (high / low) ** 0.3)
