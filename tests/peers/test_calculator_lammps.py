"""LAMMPS as a potential, through ASE, beside the same potential of mdsens."""

import ase.build
import pytest

import mdsens
from mdsens.potentials import Calculator, LennardJones

pytestmark = pytest.mark.peer


def make_calculator(epsilon, sigma):
    from ase.calculators.lammpslib import LAMMPSlib

    commands = ["pair_style lj/smooth/linear 8.5", f"pair_coeff * * {epsilon!r} {sigma!r}"]
    return LAMMPSlib(lmpcmds=commands, atom_types={"Ar": 1}, keep_alive=True)


def test_a_vacancy_by_lammps_has_the_derivatives_of_the_same_potential(lammps):
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=1)
    del atoms[0]
    start = mdsens.System.from_ase(atoms)
    calculated = Calculator(make_calculator, {"epsilon": 0.0104, "sigma": 3.4})
    known = LennardJones(0.0104, 3.4, 8.5, truncation="force-shifted")
    observables = ["distance(0,1)", "distance(3,9)", "energy"]
    found, wanted = (
        mdsens.sensitivity(mdsens.relax(start, potential, fmax=1e-10), observables)
        for potential in (calculated, known)
    )
    for name in observables:
        for parameter in ("epsilon", "sigma"):
            apart = abs(float(found[name][parameter] - wanted[name][parameter]))
            assert apart <= found.errors[name][parameter]
    expected = float(wanted["distance(0,1)"]["sigma"])
    assert float(found["distance(0,1)"]["sigma"]) == pytest.approx(expected, rel=1e-6)
