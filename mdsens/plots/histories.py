"""The course of a relaxation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mdsens.errors import InputError
from mdsens.plots.style import BAR_COLOR, OTHER_COLOR, new_figure, plain_frame
from mdsens.units import in_dimensions, pretty_unit, unit_name
from mdsens.values import instance

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium


def convergence(equilibrium: "Equilibrium") -> Figure:
    """The largest force after each step of a relaxation, and the one asked for.

    Where the cell relaxes, also the largest stress that its load does not balance.

    Arguments:
        equilibrium: a relaxed structure that knows its course.

    Returns:
        The Figure.

    Raises:
        InputError: it is no Equilibrium, or was relaxed in compiled code or a batch.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.relaxation import Equilibrium

    instance(equilibrium, "equilibrium", Equilibrium, "an Equilibrium, as from mdsens.relax")
    history = equilibrium.history
    if history is None:
        raise InputError(
            "the equilibrium has no history, as those from compiled code and batches: take one "
            "that mdsens.relax has returned outside jit, grad and vmap"
        )
    unit = unit_name("energy/length", equilibrium.system.units)
    steps = range(len(history.forces))
    system, stresses = equilibrium.system, history.stresses
    known = stresses is not None and np.isfinite(stresses).all()
    return convergence_figure(
        steps, list(history.forces), equilibrium.fmax, unit,
        list(stresses) if stresses is not None and known else [], equilibrium.smax,
        unit_name(in_dimensions("energy/volume", system.dimension), system.units),
    )  # fmt: skip


def convergence_figure(
    steps: Sequence[int],
    forces: Sequence[float],
    fmax: float,
    unit: str = "eV/Ang",
    stresses: Sequence[float] = (),
    smax: float | None = None,
    stress_unit: str = "",
) -> Figure:
    """The largest force after each step, and the one asked for; and so for stresses.

    Arguments:
        steps: numbers of the steps.
        forces: largest force after each, in ``unit``.
        fmax: largest force at which to stop.
        unit: unit of the forces.
        stresses: largest stress after each that the load does not balance; none for a fixed cell.
        smax: largest stress at which to stop, if it has a tolerance of its own.
        stress_unit: unit of both.

    Returns:
        The Figure.
    """
    figure = new_figure((5.6, 3.4))
    axes = figure.add_subplot()
    few = len(steps) < 60
    style: dict[str, Any] = {"linewidth": 1.2, "marker": "o" if few else None, "markersize": 3.5}
    axes.plot(steps, forces, color=BAR_COLOR, **style)
    axes.axhline(fmax, color="black", linestyle="--", linewidth=1.0)
    axes.set_yscale("log")
    # The curve begins far above the line, so that its left end is free.
    axes.annotate("asked for", (0.0, fmax), xycoords=("axes fraction", "data"),
                  xytext=(6, 4), textcoords="offset points", ha="left", fontsize=9)  # fmt: skip
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.set_ylabel(f"largest force ({pretty_unit(unit)})")
    axes.set_xlim(0, max(max(steps, default=1), 1))
    plain_frame(axes)
    if len(stresses):
        other = axes.twinx()
        other.plot(steps, stresses, color=OTHER_COLOR, **style)
        if smax is not None:
            other.axhline(smax, color=OTHER_COLOR, linestyle="--", linewidth=1.0)
        other.set_yscale("log")
        other.set_ylabel(f"largest stress ({pretty_unit(stress_unit)})", color=OTHER_COLOR)
        other.spines["top"].set_visible(False)
    return figure
