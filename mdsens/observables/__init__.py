"""Functions of an Equilibrium, each with a name and a unit."""

from collections.abc import Callable

from mdsens.observables.elasticity import (
    bulk_modulus,
    elastic_constant,
    elastic_constants,
    poisson_ratio,
    shear_modulus,
    universal_anisotropy,
    youngs_modulus,
)
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
    "elastic_constants": elastic_constants,
    "elastic_constant": elastic_constant,
    "bulk_modulus": bulk_modulus,
    "shear_modulus": shear_modulus,
    "youngs_modulus": youngs_modulus,
    "poisson_ratio": poisson_ratio,
    "universal_anisotropy": universal_anisotropy,
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
    "bulk_modulus",
    "cell_angles",
    "coordination",
    "distance",
    "elastic_constant",
    "elastic_constants",
    "energy",
    "energy_per_atom",
    "lattice_constants",
    "mean_squared_displacement",
    "parse",
    "poisson_ratio",
    "pressure",
    "radial_distribution",
    "shear_modulus",
    "stress",
    "universal_anisotropy",
    "volume",
    "youngs_modulus",
]
