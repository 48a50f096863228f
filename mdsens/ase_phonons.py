"""Force constants as ASE's Phonons have them."""

from typing import Any

import ase.phonons
import numpy as np

from mdsens.observables.supercells import warn_of_small_supercell
from mdsens.phonopy.force_constants import force_constants_of_supercell
from mdsens.relaxation import Equilibrium


def ase_phonons(equilibrium: Equilibrium, supercell: Any) -> ase.phonons.Phonons:
    """ASE's Phonons of a relaxed crystal, with its force constants: no atom need be displaced.

    Its `get_force_constant`, `band_structure`, `get_band_structure`, `get_dos` and `write_modes`
    work at once; there is nothing to `run` or to `read`. The force constants C_N are those of the
    infinite crystal, of images that the supercell has alike the sum, in ASE's order of cells. A
    supercell in which atoms feel several images of another is warned of, with the size needed.

    Arguments:
        equilibrium: the relaxed crystal, in three dimensions.
        supercell: how many cells along each lattice vector: a number, or three.

    Returns:
        The ase.phonons.Phonons, in eV and Angstrom; masses are those of `equilibrium.to_ase()`.

    Raises:
        InputError: as of `mdsens.phonopy.force_constants_of_supercell`.
    """
    constants = force_constants_of_supercell(equilibrium, supercell)
    counts, count = constants.shape[:3], constants.shape[3]
    warn_of_small_supercell("ase_phonons", equilibrium, counts)
    phonons = ase.phonons.Phonons(equilibrium.to_ase(), None, counts)
    cells = phonons.compute_lattice_vectors() % np.array(counts)[:, None]
    ordered = constants[tuple(cells)].transpose(0, 1, 3, 2, 4)
    phonons.C_N = ordered.reshape(-1, 3 * count, 3 * count)
    phonons.m_inv_x = np.repeat(phonons.atoms.get_masses() ** -0.5, 3)
    phonons.D_N = phonons.C_N * np.outer(phonons.m_inv_x, phonons.m_inv_x)
    return phonons
