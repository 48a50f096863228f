"""Relaxed cells against LAMMPS (`fix box/relax`), which keeps the cell turned as it wants it.

Cells are compared by the products of their vectors, which turning leaves alone.
"""

import ase.build
import crystals
import lammps_runs
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.particles import random_packing
from mdsens.potentials import LennardJones, SoftSphere

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
PRESSURE = 0.002


def relaxed_by_lammps(lammps, atoms, symbols, commands, load, **options):
    """Energy and cell that LAMMPS relaxes to."""
    run = lammps_runs.of(lammps, atoms, symbols, [*commands, "neighbor 0.5 bin"], **options)
    run.commands_list([f"fix box all box/relax {load} vmax 0.01", "min_modify line quadratic"])
    run.commands_list(2 * ["minimize 0 1e-13 5000 50000"])
    cell = lammps_runs.cell_of(run)
    energy = run.get_thermo("pe")
    run.close()
    return energy, cell


def metric(cell):
    """The products of the vectors of a cell."""
    return np.asarray(cell) @ np.asarray(cell).T


#: Strains at the start; LAMMPS scales a tilted cell along single axes by a rule of its own.
TRICLINIC, ORTHOGONAL = (0.01, -0.01, 0.02, 0.03, -0.02, 0.04), (0.01, -0.01, 0.02, 0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "word", "strain"),
    [
        ("isotropic", "iso", TRICLINIC),
        ("full", "tri", TRICLINIC),
        pytest.param("diagonal", "aniso", ORTHOGONAL, marks=pytest.mark.slow),
    ],
)
def test_a_crystal_whose_atoms_move_in_its_cell_under_pressure(lammps, mode, word, strain):
    atoms = crystals.strained(crystals.alloy(), strain)
    atoms.rattle(0.03, seed=2)
    energy, cell = relaxed_by_lammps(
        lammps, atoms, ["Ar", "Kr"], crystals.pair_commands(),
        f"{word} {PRESSURE * lammps_runs.BAR!r}",
    )  # fmt: skip
    found = mdsens.relax(
        System.from_ase(atoms), crystals.LJ, fmax=1e-12, cell=mode, pressure=PRESSURE
    )
    assert float(found.energy) == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(metric(found.cell), metric(cell), atol=1e-7)


@pytest.mark.slow
def test_a_slab_relaxes_in_its_plane(lammps):
    atoms = ase.build.fcc111("Ar", (1, 1, 3), a=5.26)
    atoms.center(vacuum=10.0, axis=2)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.03, seed=1)
    commands = ["pair_style lj/cut 6.0", "pair_modify shift yes", "pair_coeff 1 1 0.0104 3.405"]
    energy, cell = relaxed_by_lammps(
        lammps, atoms, ["Ar"], commands, "x 0 y 0 xy 0", boundary="p p f"
    )
    potential = LennardJones(0.0104, 3.405, 6.0, "shifted")
    found = mdsens.relax(System.from_ase(atoms), potential, fmax=1e-11, cell="full")
    assert float(found.energy) == pytest.approx(energy, rel=1e-12)
    # Energies are equal to rounding; cells, of which they are a square, to its root.
    np.testing.assert_allclose(metric(found.cell)[:2, :2], metric(cell)[:2, :2], atol=1e-6)


@pytest.mark.slow
def test_a_packing_of_discs_under_pressure(lammps):
    contacts, pressure = np.array([[1.0, 1.2], [1.2, 1.4]]), 0.05
    potential = SoftSphere(contacts, 1.0, species=("A", "B"))
    start = random_packing(16, {"A": 1.0, "B": 1.4}, 0.95, seed=1)
    found = mdsens.relax(start, potential, fmax=1e-12, cell="full", pressure=pressure)
    cell = np.eye(3)
    cell[:2, :2] = found.cell
    positions = np.pad(np.asarray(found.positions), ((0, 0), (0, 1)))
    atoms = ase.Atoms(np.array(["H", "He"])[found.system.species], positions, cell=cell, pbc=True)
    # Elsewhere, but with the same discs in contact.
    atoms.set_cell(cell @ [[1.003, 0.002, 0], [0.001, 0.998, 0], [0, 0, 1]], scale_atoms=True)
    commands = ["pair_style harmonic/cut", "fix flat all enforce2d"] + [
        f"pair_coeff {i + 1} {j + 1} {float(0.5 / contacts[i, j] ** 2)!r} {contacts[i, j]}"
        for i, j in ((0, 0), (0, 1), (1, 1))
    ]
    energy, cell = relaxed_by_lammps(
        lammps, atoms, ["H", "He"], commands, f"x {pressure} y {pressure} xy 0", flat=True
    )
    assert float(found.energy) == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(metric(found.cell), metric(cell[:2, :2]), atol=1e-9)


@pytest.mark.slow
def test_wurtzite_under_pressure(lammps, tmp_path):
    """What is between the layers relaxes along with the cell."""
    atoms, pressure = crystals.wurtzite(), 0.02
    energy, cell = relaxed_by_lammps(
        lammps, atoms, ["Si"], crystals.silicon_commands(tmp_path),
        f"tri {pressure * lammps_runs.BAR!r}",
    )  # fmt: skip
    found = mdsens.relax(
        System.from_ase(atoms), crystals.SW, fmax=1e-11, cell="full", pressure=pressure
    )
    assert float(found.energy) == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(metric(found.cell), metric(cell), atol=1e-6)
