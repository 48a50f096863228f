"""FIRE against that of ASE, step by step."""

import ase.build
import numpy as np
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.constraints import FixAtoms
from ase.optimize.fire import FIRE as ASE_FIRE

import mdsens
from mdsens.potentials import LennardJones
from mdsens.relaxation import FIRE

pytestmark = pytest.mark.xdist_group("fire")
STEPS = (1, 2, 7, 20, 50, 100)


def crystal(fixed):
    atoms = ase.build.bulk("Ar", "fcc", 1.55, cubic=True) * (2, 2, 1)
    del atoms[0]
    atoms.rattle(0.06, seed=3)
    if fixed:
        atoms.set_constraint(FixAtoms(indices=[2, 7]))
    return atoms


@pytest.mark.parametrize("fixed", [False, True], ids=["free", "two atoms fixed"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (
            {"dt": 0.03, "dt_max": 0.2, "max_step": 0.05, "n_min": 3, "f_inc": 1.2, "f_dec": 0.4,
             "a_start": 0.2, "f_a": 0.95},
            {"dt": 0.03, "dtmax": 0.2, "maxstep": 0.05, "Nmin": 3, "finc": 1.2, "fdec": 0.4,
             "astart": 0.2, "a": 0.2, "fa": 0.95},
        ),
    ],
    ids=["defaults", "others"],
)  # fmt: skip
def test_fire_takes_the_steps_of_ase(fixed, ours, theirs):
    atoms = crystal(fixed)
    system = mdsens.System.from_ase(atoms, units="reduced")
    potential = LennardJones(1.0, 1.0, 2.3, "shifted")
    atoms.calc = AseLennardJones(sigma=1.0, epsilon=1.0, rc=2.3)
    expected = {}
    optimiser = ASE_FIRE(atoms, logfile=None, **theirs)
    for step, _ in enumerate(optimiser.irun(fmax=1e-12, steps=max(STEPS))):
        expected[step] = atoms.get_positions()
    for step in STEPS:
        equilibrium = mdsens.relax(
            system, potential, method=FIRE(**ours), fmax=1e-12, max_steps=step
        )
        np.testing.assert_allclose(equilibrium.positions, expected[step], rtol=0, atol=1e-10)
