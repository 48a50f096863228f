"""Batches: what each of many relaxed structures has come to, over their index."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mdsens.errors import InputError
from mdsens.markup import for_figure
from mdsens.pages import View, structures_view
from mdsens.plots.scenes import scene_of_result
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
from mdsens.values import integer

if TYPE_CHECKING:
    from mdsens.batches import BatchEquilibrium, BatchSensitivity

#: Observables, and parameters, that a figure has room for.
MOST_OBSERVABLES, MOST_PARAMETERS = 6, 3
#: Structures that a page of a batch has room for, and numbers of all of them: 3 MB.
MOST_STRUCTURES, MOST_NUMBERS = 200, 300_000


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


def batch_view(
    batch: "BatchEquilibrium | BatchSensitivity", index: int = 0, parameter: str | None = None
) -> View:
    """The structures of a batch, one of which is seen at a time.

    Arguments:
        batch: relaxed structures, or their sensitivities.
        index: which one is seen at first; those around it are there, too, as many as a page has
            room for.
        parameter: the one whose motion is shown first.

    Returns:
        The View.

    Raises:
        InputError: no such structure, or as of `view`.
        RelaxationError: the relaxation of the one that is seen at first has failed.
        UnreliableDerivativeError: as of `view`.
    """
    equilibria: Any = getattr(batch, "equilibria", batch)
    count = len(equilibria)
    index = integer(index, "index", at_least=-count)
    if index >= count:
        raise InputError(f"index = {index}: the batch has {count} structures, from 0")
    index %= count
    at: Any = batch.at if hasattr(batch, "at") else batch.__getitem__
    one: Callable[[int], Any] = at
    title, first = scene_of_result(one(index), parameter)
    vectors = len(first["positions"]) * (1 + 2 * len(first["motions"]))
    room = min(MOST_STRUCTURES, max(MOST_NUMBERS // vectors, 1))
    start = min(max(index - room // 2, 0), max(count - room, 0))
    shown = {index: first}
    for other in range(start, min(start + room, count)):
        if other != index and other not in equilibria.failures:
            shown[other] = scene_of_result(one(other), parameter)[1]
    chosen = sorted(shown)
    scenes = [(f"structure {other} of {count}", shown[other]) for other in chosen]
    body = structures_view("structure", scenes, chosen.index(index), count - len(chosen))
    return View(title, body, height=660)
