"""From a potential to numbers: energy, forces, stress and Hessian, for every potential alike."""

from mdsens.mechanics.energy import (
    energy,
    energy_and_forces,
    energy_forces_virial,
    site_energies,
)
from mdsens.mechanics.forces import forces
from mdsens.mechanics.hessian import hessian, hessian_vector_product
from mdsens.mechanics.sparse_hessian import (
    hessian_in_parts,
    matrix_of_entries,
    sparse_hessian,
    sparse_hessian_bytes,
    traced_hessian_entries,
)
from mdsens.mechanics.stress import require_volume, stress, voigt

__all__ = [
    "energy",
    "energy_and_forces",
    "energy_forces_virial",
    "forces",
    "hessian",
    "hessian_in_parts",
    "hessian_vector_product",
    "matrix_of_entries",
    "require_volume",
    "site_energies",
    "sparse_hessian",
    "sparse_hessian_bytes",
    "stress",
    "traced_hessian_entries",
    "voigt",
]
