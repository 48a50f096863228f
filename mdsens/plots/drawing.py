"""The figure that says most of a result."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mdsens.diameters import diameters_of
from mdsens.errors import InputError
from mdsens.plots.bars import sensitivities
from mdsens.plots.batches import batch_figure, batch_sensitivity_figure
from mdsens.plots.structures import structure, structure_figure
from mdsens.units import unit_name

if TYPE_CHECKING:
    from mdsens.particles import System


def plot(result: Any, parameter: str | None = None) -> Figure:
    """A structure, derivatives as bars, or the members of a batch, as what is given asks for.

    Arguments:
        result: a System, an Equilibrium, a Sensitivity, or a batch of these.
        parameter: of an Equilibrium or a Sensitivity, the structure with arrows for this one.

    Returns:
        The Figure.

    Raises:
        InputError: none of these, or a parameter that there is no derivative in.
        UnreliableDerivativeError: a parameter is given, and the structure is unconverged or
            unstable.
    """
    # A report of a run does without.
    from mdsens.batches import BatchEquilibrium, BatchSensitivity
    from mdsens.particles import System
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity

    if isinstance(result, (Equilibrium, Sensitivity)) and parameter is not None:
        return structure(result, parameter)
    if isinstance(result, Sensitivity):
        return sensitivities(result)
    if isinstance(result, BatchEquilibrium):
        return batch_figure(result)
    if isinstance(result, BatchSensitivity):
        return batch_sensitivity_figure(result)
    if isinstance(result, Equilibrium):
        return _still(result.system, diameters_of(result))
    if isinstance(result, System):
        return _still(result, {})
    raise InputError(
        f"result is a {type(result).__name__}: give a System, an Equilibrium, a Sensitivity, or a "
        "batch of these"
    )


def _still(system: "System", diameters: dict[str, float]) -> Figure:
    """A structure without arrows."""
    none = np.zeros((system.atom_count, 3))
    unit = unit_name("length", system.units)
    return structure_figure(system.to_ase(), none, None, "", unit, system.dimension, diameters)
