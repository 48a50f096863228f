"""Functions of an Equilibrium, each with a name and a unit."""

from collections.abc import Callable

from mdsens.observables.geometry import (
    angle,
    cell_angles,
    distance,
    lattice_constants,
    mean_squared_displacement,
)
from mdsens.observables.mechanics import energy, energy_per_atom, pressure, stress, volume
from mdsens.observables.observable import Observable, parse
from mdsens.observables.structure import coordination, radial_distribution

#: Every observable by the name under which a study asks for it.
BY_NAME: dict[str, Callable[..., Observable]] = {
    "energy": energy,
    "energy_per_atom": energy_per_atom,
    "pressure": pressure,
    "stress": stress,
    "volume": volume,
    "distance": distance,
    "angle": angle,
    "coordination": coordination,
    "radial_distribution": radial_distribution,
    "mean_squared_displacement": mean_squared_displacement,
    "lattice_constants": lattice_constants,
    "cell_angles": cell_angles,
}

__all__ = [
    "BY_NAME",
    "Observable",
    "angle",
    "cell_angles",
    "coordination",
    "distance",
    "energy",
    "energy_per_atom",
    "lattice_constants",
    "mean_squared_displacement",
    "parse",
    "pressure",
    "radial_distribution",
    "stress",
    "volume",
]
