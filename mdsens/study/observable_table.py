"""The observables that a study can ask for, and what each takes: all that needs no JAX.

Tests hold these tables against the functions of `mdsens.observables`.
"""

from typing import NamedTuple


class ObservableEntry(NamedTuple):
    """What there is to say of an observable.

    Attributes:
        description: what it is.
        takes: its arguments, each with its default after a sign of equality.
        dimension: physical dimension of its value.
        several: whether it is several numbers.
    """

    description: str
    takes: str
    dimension: str
    several: bool = False


#: What arguments of observables are, and their units.
ARGUMENTS = {
    "i": ("index of an atom, of a vector of the cell, or of a strain", ""),
    "j": ("likewise", ""),
    "k": ("likewise", ""),
    "relaxed_ions": ("whether the ions relax in the strain", ""),
    "average": ("'hill', 'voigt' or 'reuss'", ""),
    "image": ("cell that the second atom is in, as three whole numbers", ""),
    "q": ("wave vector, in reciprocal lattice vectors", ""),
    "mesh": ("wave vectors along each reciprocal lattice vector: one number, or three", ""),
    "masses": ("of the species, by name; of the elements by default", "u"),
    "count": ("how many frequencies, the lowest", ""),
    "supercell": ("that of a calculation to compare with, refused where it is too small", ""),
    "f_max": ("frequency of the last bin", "THz"),
    "bins": ("number of bins", ""),
    "width": ("of the smoothing", "that of the range"),
    "temperature": ("temperature", "K"),
    "cutoff": ("distance up to which atoms are neighbours", "Ang"),
    "r_max": ("distance of the last bin", "Ang"),
    "reference": ("structure to compare with; the one that the relaxation began at by default", ""),
}
#: Every observable by its name.
OBSERVABLES: dict[str, ObservableEntry] = {
    "energy": ObservableEntry(
        "Potential energy",
        "",
        "energy",
    ),
    "energy_per_atom": ObservableEntry(
        "Potential energy divided by the number of atoms",
        "",
        "energy",
    ),
    "pressure": ObservableEntry(
        "Pressure, minus the mean of the normal stresses",
        "",
        "energy/volume",
    ),
    "stress": ObservableEntry(
        "Stress in Voigt order (xx yy zz yz xz xy; xx yy xy in 2D), positive under tension",
        "",
        "energy/volume",
        several=True,
    ),
    "volume": ObservableEntry(
        "Volume of the cell; its area in two dimensions",
        "",
        "volume",
    ),
    "elastic_constants": ObservableEntry(
        "Elastic constants C_ab, the derivative of stress a in strain b, in ASE's Voigt order",
        "relaxed_ions=True",
        "modulus",
        several=True,
    ),
    "slab_elastic_constants": ObservableEntry(
        "Elastic constants of a slab for strains in its plane: forces per length, not per area",
        "relaxed_ions=True",
        "planar modulus",
        several=True,
    ),
    "elastic_constant": ObservableEntry(
        "One elastic constant C_ij, by the numbers that its indices go by in print",
        "i j relaxed_ions=True",
        "modulus",
    ),
    "bulk_modulus": ObservableEntry(
        "Bulk modulus of a body of many grains in all orientations",
        "average='hill' relaxed_ions=True",
        "modulus",
    ),
    "shear_modulus": ObservableEntry(
        "Shear modulus of a body of many grains in all orientations",
        "average='hill' relaxed_ions=True",
        "modulus",
    ),
    "youngs_modulus": ObservableEntry(
        "Young's modulus of a body of many grains, from its bulk and shear modulus",
        "average='hill' relaxed_ions=True",
        "modulus",
    ),
    "poisson_ratio": ObservableEntry(
        "Poisson's ratio of a body of many grains, from its bulk and shear modulus",
        "average='hill' relaxed_ions=True",
        "1",
    ),
    "universal_anisotropy": ObservableEntry(
        "Universal elastic anisotropy, 5 G_V/G_R + K_V/K_R - 6; zero where all directions are "
        "alike",
        "relaxed_ions=True",
        "1",
    ),
    "born_stability": ObservableEntry(
        "Least stiffness of a crystal, negative where a strain grows by itself under its load",
        "relaxed_ions=True",
        "modulus",
    ),
    "force_constants": ObservableEntry(
        "Second derivatives d2E / dx_i dx_j of the energy in the positions of two atoms",
        "i j image=None",
        "energy/length^2",
        several=True,
    ),
    "phonon_frequencies": ObservableEntry(
        "Frequencies of the vibrations of a crystal with one wave vector, or of a molecule",
        "q=None masses=None count=None supercell=None",
        "frequency",
        several=True,
    ),
    "phonon_density_of_states": ObservableEntry(
        "Vibrations of a cell per frequency at the centres of bins from 0 on, smoothed by a "
        "Gaussian",
        "f_max mesh=None bins=100 width=None masses=None",
        "density of states",
        several=True,
    ),
    "zero_point_energy": ObservableEntry(
        "Energy of the vibrations of a cell at zero temperature, sum of h f / 2",
        "mesh=None masses=None",
        "energy",
    ),
    "vibrational_free_energy": ObservableEntry(
        "Free energy of the vibrations of a cell, sum of h f / 2 + k T ln(1 - exp(-h f / k T))",
        "temperature mesh=None masses=None",
        "energy",
    ),
    "vibrational_entropy": ObservableEntry(
        "Entropy of the vibrations of a cell, minus the slope of their free energy in the "
        "temperature",
        "temperature mesh=None masses=None",
        "entropy",
    ),
    "heat_capacity": ObservableEntry(
        "Heat capacity of the vibrations of a cell at constant volume, in the harmonic "
        "approximation",
        "temperature mesh=None masses=None",
        "entropy",
    ),
    "mode_gruneisen_parameters": ObservableEntry(
        "Gruneisen parameters of the vibrations of a crystal with one wave vector, -d ln f / d "
        "ln V",
        "q=None masses=None",
        "1",
        several=True,
    ),
    "gruneisen_parameter": ObservableEntry(
        "Gruneisen parameter of a crystal, the mean over its vibrations by their heat capacities",
        "temperature mesh=None masses=None",
        "1",
    ),
    "quasi_harmonic_volume": ObservableEntry(
        "Volume of a cell at a temperature, at which E + p V + F_vib is least",
        "temperature mesh=None masses=None",
        "volume",
    ),
    "quasi_harmonic_lattice_constants": ObservableEntry(
        "Lengths of the lattice vectors of a cell that has its quasi-harmonic volume",
        "temperature mesh=None masses=None",
        "length",
        several=True,
    ),
    "quasi_harmonic_bulk_modulus": ObservableEntry(
        "Isothermal bulk modulus at the quasi-harmonic volume, V d^2 F / dV^2",
        "temperature mesh=None masses=None",
        "modulus",
    ),
    "thermal_expansion": ObservableEntry(
        "Coefficient of thermal expansion of the volume, d ln V / dT; of a length it is one third",
        "temperature mesh=None masses=None",
        "inverse temperature",
    ),
    "area": ObservableEntry(
        "Area that two vectors of the cell span, as of each surface of a slab: |a_i x a_j|",
        "i=0 j=1",
        "length^2",
    ),
    "distance": ObservableEntry(
        "Distance between two atoms, to the nearest image",
        "i j",
        "length",
    ),
    "angle": ObservableEntry(
        "Angle at atom j between atoms i and k, to their nearest images, in degrees",
        "i j k",
        "angle",
    ),
    "coordination": ObservableEntry(
        "Mean number of neighbours, counted smoothly",
        "cutoff width=None",
        "1",
    ),
    "radial_distribution": ObservableEntry(
        "Radial distribution function g(r) at the centres of bins, smoothed by a Gaussian",
        "r_max bins=50 width=None",
        "1",
        several=True,
    ),
    "mean_squared_displacement": ObservableEntry(
        "Mean over atoms of the squared displacement from a reference structure",
        "reference=None",
        "length^2",
    ),
    "lattice_constants": ObservableEntry(
        "Lengths of the lattice vectors of the periodic directions, in their order",
        "",
        "length",
        several=True,
    ),
    "cell_angles": ObservableEntry(
        "Angles between the lattice vectors of the periodic directions, in degrees",
        "",
        "angle",
        several=True,
    ),
}
