"""Elastic constants against LAMMPS, matscipy, and stresses that ASE takes of strained cells.

LAMMPS's `compute born/matrix` is used with finite differences: its analytic one of lj/cut is not
the second derivative of its own energy (of fcc argon with its nearest neighbours alone it misses
the closed form by 2%).
"""

import ase.optimize
import ase.units
import crystals
import lammps_runs
import numpy as np
import pytest
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import stillinger_weber
from matscipy.calculators.pair_potential import LennardJonesCut, PairPotential
from matscipy.elasticity import (
    measure_triclinic_elastic_constants,
    nonaffine_elastic_contribution,
)

import mdsens
from mdsens import System
from mdsens.observables import elastic_constants
from mdsens.voigt import VOIGT_INDICES

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
GPA = ase.units.GPa
#: The 21 numbers of LAMMPS by row and column.
ROWS, COLUMNS = np.array(
    [(i, i) for i in range(6)] + [(i, j) for i in range(6) for j in range(i + 1, 6)]
).T


def constants_of(equilibrium, relaxed_ions):
    """In eV/Ang^3."""
    return GPA * np.asarray(elastic_constants(relaxed_ions)(equilibrium))


def in_voigt(tensor):
    """The 36 components of a tensor of all four indices."""
    i, j = map(np.array, VOIGT_INDICES[3])
    return tensor[i[:, None], j[:, None], i, j]


def by_matscipy(atoms, calculator):
    """Clamped and relaxed constants, from analytic second derivatives."""
    atoms = atoms.copy()
    atoms.calc = calculator
    clamped = calculator.get_birch_coefficients(atoms)
    values, vectors = np.linalg.eigh(calculator.get_hessian(atoms).toarray())
    # Without the translations.
    moved = nonaffine_elastic_contribution(atoms, values[3:], vectors[:, 3:])
    return in_voigt(clamped), in_voigt(clamped + moved)


def by_lammps(lammps, atoms, symbols, commands):
    """Clamped constants: differences of stresses while the atoms follow a strain."""
    run = lammps_runs.of(lammps, atoms, symbols, [*commands, "neighbor 0.5 bin"])
    run.commands_list([
        "compute pressure all pressure NULL virial",
        "compute born all born/matrix numdiff 1e-5 pressure",
        "thermo_style custom pe c_born[1]", "run 0 post no",
    ])  # fmt: skip
    found = np.zeros((6, 6))
    found[ROWS, COLUMNS] = found[COLUMNS, ROWS] = run.numpy.extract_compute("born", 0, 1)
    run.close()
    # Second derivatives in Green's strain: without a stress the constants of all definitions.
    return found / atoms.cell.volume


@pytest.fixture(scope="module")
def strained_alloy():
    """A triclinic crystal under a stress of all components, with atoms at rest."""
    atoms = crystals.strained(crystals.alloy(), [0.01, -0.008, 0.012, 0.02, -0.015, 0.01])
    return mdsens.relax(System.from_ase(atoms), crystals.LJ, fmax=1e-12)


def test_a_triclinic_crystal_under_stress(strained_alloy):
    atoms = strained_alloy.to_ase()
    clamped, relaxed = (constants_of(strained_alloy, ions) for ions in (False, True))
    largest = np.abs(clamped).max()
    assert np.abs(np.asarray(strained_alloy.stress)).max() > 1e-2 * largest
    assert np.abs(relaxed - clamped).max() > 1e-3 * largest
    numbers = [18, 36]
    calculator = PairPotential({
        (numbers[i], numbers[j]): LennardJonesCut(
            crystals.TABLES[0][i, j], crystals.TABLES[1][i, j], crystals.CUTOFF
        )
        for i, j in crystals.PAIRS
    })  # fmt: skip
    expected = by_matscipy(atoms, calculator)
    np.testing.assert_allclose(clamped, expected[0], atol=1e-10 * largest)
    np.testing.assert_allclose(relaxed, expected[1], atol=1e-10 * largest)


def test_an_alloy_with_clamped_ions(lammps):
    atoms = crystals.alloy()
    crystal = mdsens.relax(System.from_ase(atoms), crystals.LJ, max_steps=0)
    clamped = constants_of(crystal, False)
    found = by_lammps(lammps, atoms, ["Ar", "Kr"], crystals.pair_commands())
    np.testing.assert_allclose(clamped, found, atol=1e-8 * clamped.max())


@pytest.mark.slow
def test_stresses_of_strained_cells_in_ase(strained_alloy):
    """By ASE's minimiser with forces from the calculator; two steps, extrapolated to none."""
    atoms = strained_alloy.to_ase()
    atoms.calc = mdsens.Calculator(crystals.LJ)

    def at(delta):
        measured = measure_triclinic_elastic_constants(
            atoms, delta, ase.optimize.LBFGS, fmax=1e-9, steps=500
        )
        return in_voigt(measured)

    expected = (4 * at(1e-3) - at(2e-3)) / 3
    relaxed = constants_of(strained_alloy, True)
    np.testing.assert_allclose(relaxed, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["wurtzite", "diamond"])
def test_silicon(lammps, tmp_path, structure):
    """Diamond in the cell of as many atoms that its (001) planes have."""
    atoms = crystals.wurtzite()
    if structure == "diamond":
        edge = 5.43 / np.sqrt(2)
        places = [[0, 0, 0], [0.5, 0, 0.25], [0.5, 0.5, 0.5], [0, 0.5, 0.75]]
        atoms = ase.Atoms("Si4", cell=[edge, edge, 5.43], scaled_positions=places, pbc=True)
    crystal = mdsens.relax(System.from_ase(atoms), crystals.SW, fmax=1e-11, cell="full")
    there = crystal.to_ase()
    there.set_cell(lammps_runs.lower_triangular(there.cell[:]), scale_atoms=True)
    clamped, relaxed = (constants_of(crystal, ions) for ions in (False, True))
    if structure == "diamond":
        # C44 of the cube, of E. R. Cowley, Phys. Rev. Lett. 60, 2379 (1988).
        assert relaxed[3, 3] / GPA == pytest.approx(56.4, abs=0.1)
        assert clamped[3, 3] / GPA == pytest.approx(109.8, abs=0.1)
    found = by_lammps(lammps, there, ["Si"], crystals.silicon_commands(tmp_path))
    np.testing.assert_allclose(clamped, found, atol=1e-8 * clamped.max())
    numbers = stillinger_weber.Stillinger_Weber_PRB_31_5262_Si | {"costheta0": 1 / 3}
    calculator = Manybody(**stillinger_weber.StillingerWeber(numbers))
    expected = by_matscipy(there, calculator)
    np.testing.assert_allclose(clamped, expected[0], atol=1e-10 * clamped.max())
    np.testing.assert_allclose(relaxed, expected[1], atol=1e-10 * clamped.max())
