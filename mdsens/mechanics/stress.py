"""Stress of a cell."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.mechanics.energy import energy_forces_virial
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced
from mdsens.voigt import VOIGT_INDICES


def voigt(tensor: Float[Any, "D D"]) -> Float[Any, " V"]:
    """Voigt components of a symmetric tensor in ASE's order: 6 in 3D, 3 (xx yy xy) in 2D."""
    rows, columns = VOIGT_INDICES[tensor.shape[0]]
    return ((tensor + tensor.T) / 2)[np.array(rows), np.array(columns)]


def tensor_of(components: Float[Any, " V"]) -> Float[Any, "D D"]:
    """The symmetric tensor of Voigt components in ASE's order: 6 in 3D, 3 (xx yy xy) in 2D."""
    dimension = {6: 3, 3: 2}[len(components)]
    places = np.zeros((dimension, dimension), int)
    places[VOIGT_INDICES[dimension]] = np.arange(len(components))
    return components[np.maximum(places, places.T)]


def stress(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, "D D"]:
    """Stress tensor, (1/V) dE/d(strain); positive under tension, as in ASE.

    Arguments:
        system: N atoms in a cell with a volume.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (D, D), in units of energy/length^D.

    Raises:
        InputError: the cell has no volume, or none that means anything.
    """
    require_volume(system, "stress")
    virial = energy_forces_virial(system, potential, edge_list)[2]
    return (virial + virial.T) / (2.0 * system.volume)


def require_volume(system: System, what: str) -> None:
    """Raise InputError unless the cell has a volume, in a system that is periodic somewhere.

    Arguments:
        system: N atoms.
        what: what the volume is for, for the message.
    """
    if not any(system.pbc):
        raise InputError(
            f"{what} needs a volume, and no direction is periodic: give the system a cell, and pbc "
            "in the directions that repeat"
        )
    if not is_traced(system.cell) and np.linalg.det(np.asarray(system.cell)) == 0.0:
        raise InputError(
            f"{what} needs a volume, and the cell has none: give the system a full cell"
        )
