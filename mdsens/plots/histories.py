"""The course of a relaxation."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mdsens.errors import InputError
from mdsens.plots.style import BAR_COLOR, new_figure, plain_frame, pretty_unit
from mdsens.relaxation import Equilibrium
from mdsens.units import unit_name
from mdsens.values import instance


def convergence(equilibrium: Equilibrium) -> Figure:
    """The largest force after each step of a relaxation, and the one asked for.

    Arguments:
        equilibrium: a relaxed structure that knows its course.

    Returns:
        The Figure.

    Raises:
        InputError: it is no Equilibrium, or was relaxed in compiled code or a batch.
    """
    instance(equilibrium, "equilibrium", Equilibrium, "an Equilibrium, as from mdsens.relax")
    history = equilibrium.history
    if history is None:
        raise InputError(
            "the equilibrium has no history, as those from compiled code and batches: take one "
            "that mdsens.relax has returned outside jit, grad and vmap"
        )
    unit = unit_name("energy/length", equilibrium.system.units)
    steps = range(len(history.forces))
    return convergence_figure(steps, list(history.forces), equilibrium.fmax, unit)


def convergence_figure(
    steps: Sequence[int], forces: Sequence[float], fmax: float, unit: str = "eV/Ang"
) -> Figure:
    """The largest force after each step, and the one asked for.

    Arguments:
        steps: numbers of the steps.
        forces: largest force after each, in ``unit``.
        fmax: largest force at which to stop.
        unit: unit of the forces.

    Returns:
        The Figure.
    """
    figure = new_figure((5.6, 3.4))
    axes = figure.add_subplot()
    few = len(steps) < 60
    axes.plot(steps, forces, color=BAR_COLOR, linewidth=1.2, marker="o" if few else None,
              markersize=3.5)  # fmt: skip
    axes.axhline(fmax, color="black", linestyle="--", linewidth=1.0)
    axes.set_yscale("log")
    # The curve begins far above the line, so that its left end is free.
    axes.annotate("asked for", (0.0, fmax), xycoords=("axes fraction", "data"),
                  xytext=(6, 4), textcoords="offset points", ha="left", fontsize=9)  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel(f"largest force ({pretty_unit(unit)})")
    axes.set_xlim(0, max(max(steps, default=1), 1))
    plain_frame(axes)
    return figure
