"""Laws of pairs against LAMMPS: energies, forces and stress of distorted crystals."""

import numpy as np
import pytest
from test_lammps import assert_agrees, rattled_crystal

from mdsens.potentials import (
    ZBL,
    Buckingham,
    DampedShiftedCoulomb,
    GaussianCore,
    InversePower,
    Mie,
    SoftSphere,
    Yukawa,
    pair_laws,
)

#: That of LAMMPS's units metal, which has eight digits.
COULOMB = 14.399645
pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
ALLOY = ("Ar", "Kr")
LAWS = {
    "mie": (
        Mie(0.0104, 3.405, 14.0, 7.0, 8.5, "shifted"), None,
        ["pair_style mie/cut 8.5", "pair_modify shift yes", "pair_coeff 1 1 0.0104 3.405 14 7"],
    ),
    "buckingham": (
        Buckingham(9000.0, 0.3, 70.0, 8.5, "none"), None,
        ["pair_style buck 8.5", "pair_coeff 1 1 9000.0 0.3 70.0"],
    ),
    "yukawa": (
        Yukawa(2.0, 0.7, 8.5, "shifted"), None,
        ["pair_style yukawa 0.7 8.5", "pair_modify shift yes", "pair_coeff 1 1 2.0"],
    ),
    # As the documentation says what is which.
    "gauss": (
        GaussianCore(0.8, 2.0, 8.5, "none"), None,
        ["pair_style gauss 8.5", "pair_coeff 1 1 -0.8 0.25"],
    ),
    "harmonic repulsion": (
        SoftSphere(4.0, 2 * 0.3 * 4.0**2), None,
        ["pair_style harmonic/cut", "pair_coeff 1 1 0.3 4.0"],
    ),
    "9-6": (
        Mie(0.01, 3.8 * (2 / 3) ** (1 / 3), 9, 6, 8.5, "shifted"), None,
        ["pair_style lj/class2 8.5", "pair_modify shift yes", "pair_coeff 1 1 0.01 3.8"],
    ),
    "born": (
        Buckingham(0.2 * np.exp(2.0 / 0.3), 0.3, 70.0, 8.5, "none")
        + InversePower(90.0, 1.0, 8, 8.5, "none"), None,
        ["pair_style born 8.5", "pair_coeff 1 1 0.2 0.3 2.0 70.0 90.0"],
    ),
    "zbl": (
        COULOMB / pair_laws.COULOMB * ZBL([18.0, 36.0], 6.0, ALLOY, onset=4.0), "Kr",
        ["pair_style zbl 4.0 6.0", "pair_coeff 1 1 18.0 18.0", "pair_coeff 2 2 36.0 36.0",
         "pair_coeff 1 2 18.0 36.0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("sheared", [False, True], ids=["cubic", "triclinic"])
@pytest.mark.parametrize("name", LAWS)
def test_a_law_of_pairs(lammps, name, sheared):
    potential, second, commands = LAWS[name]
    atoms = rattled_crystal("Ar", 5.26, 2, sheared, second=second)
    assert_agrees(lammps, atoms, potential, commands)


def test_charges(lammps):
    # LAMMPS takes the error function from a fit of seven digits.
    atoms = rattled_crystal("Ar", 5.26, 2, second="Kr")
    potential = DampedShiftedCoulomb([0.8, -1.1], 0.2, 8.5, ALLOY, COULOMB)
    assert_agrees(lammps, atoms, potential, [
        "pair_style coul/dsf 0.2 8.5", "pair_coeff * *",
        "set type 1 charge 0.8", "set type 2 charge -1.1",
    ], "charge", 1e-6)  # fmt: skip
