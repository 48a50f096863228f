"""Batches: what each of many relaxed structures has come to, over their index."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mdsens.markup import for_figure
from mdsens.plots.style import (
    BAR_COLOR,
    OTHER_COLOR,
    derivative_name,
    level_within_errors,
    name_above,
    new_figure,
    plain_frame,
    with_unit,
)
from mdsens.units import unit_name

if TYPE_CHECKING:
    from mdsens.batches import BatchEquilibrium, BatchSensitivity

#: Observables, and parameters, that a figure has room for.
MOST_OBSERVABLES, MOST_PARAMETERS = 6, 3


def batch_figure(batch: "BatchEquilibrium") -> Figure:
    """Energy per atom and largest force of each structure; those not converged stand out.

    Arguments:
        batch: relaxed structures.

    Returns:
        The Figure.
    """
    figure = new_figure((6.4, 4.6))
    energies, forces = figure.subplots(2, 1, sharex=True)
    counts = np.array([system.atom_count for system in batch.systems])
    units = batch.systems[0].units if len(batch) else "ase"
    _draw(energies, batch.energies / np.maximum(counts, 1), batch.converged)
    name_above(energies, with_unit("energy per atom", unit_name("energy", units)))
    _draw(forces, batch.largest_force, batch.converged)
    order = np.arange(len(batch))
    forces.plot(order, batch.fmax, color="black", linestyle="--", linewidth=0.8, label="asked for")
    forces.set_yscale("log", nonpositive="mask")
    name_above(forces, with_unit("largest force", unit_name("energy/length", units)))
    forces.set_xlabel("structure")
    forces.legend(frameon=False, fontsize=8)
    return figure


def batch_sensitivity_figure(batch: "BatchSensitivity") -> Figure:
    """Each scalar observable and its derivatives in each structure; whiskers are errors.

    Arguments:
        batch: derivatives of many relaxed structures.

    Returns:
        The Figure.
    """
    names = [name for name, values in batch.observed.items() if np.ndim(values) == 1]
    names, parameters = names[:MOST_OBSERVABLES], list(batch.parameters)[:MOST_PARAMETERS]
    figure = new_figure((3.5 * (1 + len(parameters)), 2.4 * max(len(names), 1) + 0.3))
    panels = figure.subplots(max(len(names), 1), 1 + len(parameters), squeeze=False, sharex=True)
    system = batch.equilibria.systems[0]
    for row, name in zip(panels, names, strict=False):
        unit, stable = batch.observables[name].units_of(system), batch.stable
        _draw(row[0], batch.observed[name], stable, batch.value_errors[name])
        name_above(row[0], with_unit(for_figure(name), unit))
        for axes, parameter in zip(row[1:], parameters, strict=True):
            _draw(axes, batch[name][parameter], stable, batch.errors[name][parameter])
            text = derivative_name(f" {for_figure(name)}", parameter)
            name_above(axes, with_unit(text, batch.units(name, parameter)))
    for axes in panels[-1]:
        axes.set_xlabel("structure")
    return figure


def _draw(
    axes: Axes, values: np.ndarray, good: np.ndarray, errors: np.ndarray | None = None
) -> None:
    """Dots over the index, those that are not good in another colour; zeros within errors are 0."""
    order = np.arange(len(values))
    known = None if errors is None else np.nan_to_num(errors)
    if known is not None:
        values = np.where(np.abs(values) <= known, 0.0, values)
    for these, color in ((good, BAR_COLOR), (~good, OTHER_COLOR)):
        if these.any():
            beside = None if known is None else known[these]
            axes.errorbar(order[these], values[these], beside, fmt="o", color=color, markersize=3.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    if known is not None:
        level_within_errors(axes, values, known)
    plain_frame(axes)
