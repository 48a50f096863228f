"""Functions of an Equilibrium, each with a name and a unit."""

from collections.abc import Callable

from mdsens.observables.geometry import angle, distance, mean_squared_displacement
from mdsens.observables.mechanics import area, energy, energy_per_atom, pressure, stress, volume
from mdsens.observables.observable import Observable, parse
from mdsens.observables.structure import coordination, radial_distribution

#: Every observable by the name under which a study asks for it.
BY_NAME: dict[str, Callable[..., Observable]] = {
    "energy": energy,
    "energy_per_atom": energy_per_atom,
    "pressure": pressure,
    "stress": stress,
    "volume": volume,
    "area": area,
    "distance": distance,
    "angle": angle,
    "coordination": coordination,
    "radial_distribution": radial_distribution,
    "mean_squared_displacement": mean_squared_displacement,
}

__all__ = [
    "BY_NAME",
    "Observable",
    "angle",
    "area",
    "coordination",
    "distance",
    "energy",
    "energy_per_atom",
    "mean_squared_displacement",
    "parse",
    "pressure",
    "radial_distribution",
    "stress",
    "volume",
]
