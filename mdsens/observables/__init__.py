"""Functions of an Equilibrium, each with a name and a unit."""

from collections.abc import Callable

from mdsens.observables.elasticity import (
    born_stability,
    bulk_modulus,
    elastic_constant,
    elastic_constants,
    poisson_ratio,
    shear_modulus,
    universal_anisotropy,
    youngs_modulus,
)
from mdsens.observables.force_constants import force_constants
from mdsens.observables.geometry import (
    angle,
    cell_angles,
    distance,
    lattice_constants,
    mean_squared_displacement,
)
from mdsens.observables.gruneisen import gruneisen_parameter, mode_gruneisen_parameters
from mdsens.observables.mechanics import area, energy, energy_per_atom, pressure, stress, volume
from mdsens.observables.observable import Observable, parse
from mdsens.observables.quasi_harmonic import (
    quasi_harmonic_bulk_modulus,
    quasi_harmonic_lattice_constants,
    quasi_harmonic_volume,
    thermal_expansion,
)
from mdsens.observables.slab_elasticity import slab_elastic_constants
from mdsens.observables.structure import coordination, radial_distribution
from mdsens.observables.vibrations import (
    heat_capacity,
    phonon_density_of_states,
    phonon_frequencies,
    vibrational_entropy,
    vibrational_free_energy,
    zero_point_energy,
)

#: Every observable by the name under which a study asks for it.
BY_NAME: dict[str, Callable[..., Observable]] = {
    "energy": energy,
    "energy_per_atom": energy_per_atom,
    "pressure": pressure,
    "stress": stress,
    "volume": volume,
    "elastic_constants": elastic_constants,
    "slab_elastic_constants": slab_elastic_constants,
    "elastic_constant": elastic_constant,
    "bulk_modulus": bulk_modulus,
    "shear_modulus": shear_modulus,
    "youngs_modulus": youngs_modulus,
    "poisson_ratio": poisson_ratio,
    "universal_anisotropy": universal_anisotropy,
    "born_stability": born_stability,
    "force_constants": force_constants,
    "phonon_frequencies": phonon_frequencies,
    "phonon_density_of_states": phonon_density_of_states,
    "zero_point_energy": zero_point_energy,
    "vibrational_free_energy": vibrational_free_energy,
    "vibrational_entropy": vibrational_entropy,
    "heat_capacity": heat_capacity,
    "mode_gruneisen_parameters": mode_gruneisen_parameters,
    "gruneisen_parameter": gruneisen_parameter,
    "quasi_harmonic_volume": quasi_harmonic_volume,
    "quasi_harmonic_lattice_constants": quasi_harmonic_lattice_constants,
    "quasi_harmonic_bulk_modulus": quasi_harmonic_bulk_modulus,
    "thermal_expansion": thermal_expansion,
    "area": area,
    "distance": distance,
    "angle": angle,
    "coordination": coordination,
    "radial_distribution": radial_distribution,
    "mean_squared_displacement": mean_squared_displacement,
    "lattice_constants": lattice_constants,
    "cell_angles": cell_angles,
}

#: Those that are several numbers.
ARRAYS = frozenset(
    {
        "stress", "elastic_constants", "slab_elastic_constants", "force_constants",
        "phonon_frequencies", "phonon_density_of_states", "mode_gruneisen_parameters",
        "quasi_harmonic_lattice_constants", "radial_distribution", "lattice_constants",
        "cell_angles",
    }
)  # fmt: skip

__all__ = [
    "ARRAYS",
    "BY_NAME",
    "Observable",
    "angle",
    "area",
    "born_stability",
    "bulk_modulus",
    "cell_angles",
    "coordination",
    "distance",
    "elastic_constant",
    "elastic_constants",
    "energy",
    "energy_per_atom",
    "force_constants",
    "gruneisen_parameter",
    "heat_capacity",
    "lattice_constants",
    "mean_squared_displacement",
    "mode_gruneisen_parameters",
    "parse",
    "phonon_density_of_states",
    "phonon_frequencies",
    "poisson_ratio",
    "pressure",
    "quasi_harmonic_bulk_modulus",
    "quasi_harmonic_lattice_constants",
    "quasi_harmonic_volume",
    "radial_distribution",
    "shear_modulus",
    "slab_elastic_constants",
    "stress",
    "thermal_expansion",
    "universal_anisotropy",
    "vibrational_entropy",
    "vibrational_free_energy",
    "volume",
    "youngs_modulus",
    "zero_point_energy",
]
