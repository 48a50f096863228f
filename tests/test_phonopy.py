"""Force constants in the layout and the files of phonopy, held against phonopy itself."""

import ase.build
import cases
import numerical
import numpy as np
import phonopy
import pytest
from phonopy.file_IO import parse_FORCE_CONSTANTS, write_FORCE_CONSTANTS
from phonopy.structure.atoms import PhonopyAtoms

import mdsens
from mdsens import Calculator
from mdsens.errors import InputError
from mdsens.phonopy import force_constants, read_force_constants, write_force_constants
from mdsens.potentials import LennardJones

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("calculator")]
POTENTIAL = LennardJones(1.0, 1.0, 2.5)


def vacancy(fixed=None):
    atoms = ase.build.bulk("Ar", "fcc", 1.56, cubic=True) * (2, 2, 1)
    del atoms[0]
    atoms.rattle(0.03, seed=5)
    system = mdsens.System.from_ase(atoms, units="reduced").with_fixed(fixed)
    return mdsens.relax(system, POTENTIAL, fmax=1e-10)


def are_slopes_of_the_forces(constants, equilibrium):
    """Of those on all atoms, as one moves, whether they are fixed or not."""
    atoms = equilibrium.system.to_ase()
    atoms.set_constraint()
    atoms.calc = Calculator(equilibrium.potential, equilibrium.system.dimension)
    place = atoms.positions.copy()

    def forces(moved):
        atoms.positions = place
        atoms.positions[2, 1] += moved
        return atoms.get_forces()

    slope = numerical.derivative(forces, 0.0, 1e-3, noise=1e-13)
    numerical.agrees(-constants[:, 2, :, 1], slope, rtol=1e-7)


@pytest.mark.parametrize("fixed", [None, [2, 7]], ids=["free", "two atoms fixed"])
def test_force_constants_are_symmetric_and_sum_to_zero(fixed):
    equilibrium = vacancy(fixed)
    constants = force_constants(equilibrium)
    assert constants.shape == (15, 15, 3, 3)
    assert np.array_equal(constants, constants.transpose(1, 0, 3, 2))
    assert np.abs(constants.sum(axis=1)).max() < 1e-12 * np.abs(constants).max()
    are_slopes_of_the_forces(constants, equilibrium)


def test_in_two_dimensions_nothing_holds_atoms_along_z():
    system, potential = cases.jammed_packing()
    equilibrium = mdsens.relax(system, potential, fmax=1e-10)
    constants = force_constants(equilibrium)
    assert constants.shape == (16, 16, 3, 3)
    assert not constants[:, :, 2].any()
    assert not constants[:, :, :, 2].any()
    # The smaller disc is a rattler, which touches nothing.
    assert not constants[5].any()
    are_slopes_of_the_forces(constants, equilibrium)


def test_phonopy_has_the_frequencies_that_its_own_displacements_give(tmp_path):
    primitive = PhonopyAtoms(
        symbols=["Ar"],
        cell=ase.build.bulk("Ar", "fcc", 1.5507).cell[:],
        scaled_positions=[[0, 0, 0]],
    )
    phonons = phonopy.Phonopy(primitive, np.diag([3, 3, 3]), primitive_matrix=np.eye(3))
    supercell = phonons.supercell
    atoms = ase.Atoms(
        supercell.symbols,
        supercell.positions,
        cell=supercell.cell,
        pbc=True,
        masses=supercell.masses,
    )
    system = mdsens.System.from_ase(atoms, units="reduced")
    write_force_constants(
        tmp_path / "FORCE_CONSTANTS", mdsens.relax(system, POTENTIAL, max_steps=0)
    )
    points = [[0.0, 0.0, 0.1], [1 / 3, 0.0, 0.0], [0.2, 0.3, -0.4]]

    def frequencies():
        phonons.run_qpoints(points)
        return np.array(phonons.qpoints.frequencies)

    phonons.generate_displacements(distance=1e-4, is_plusminus=True)
    calculator, forces = Calculator(POTENTIAL), []
    for displaced in phonons.supercells_with_displacements:
        atoms.positions = displaced.positions
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    phonons.forces = forces
    phonons.produce_force_constants()
    expected = frequencies()
    phonons.force_constants = parse_FORCE_CONSTANTS(tmp_path / "FORCE_CONSTANTS")
    assert expected.min() > 0.1 * expected.max()
    np.testing.assert_allclose(frequencies(), expected, rtol=1e-6)


def test_a_file_comes_back_in_every_bit(tmp_path):
    equilibrium = vacancy()
    path = tmp_path / "FORCE_CONSTANTS"
    write_force_constants(path, equilibrium)
    constants = force_constants(equilibrium)
    assert np.array_equal(read_force_constants(path), constants)
    assert np.array_equal(parse_FORCE_CONSTANTS(path), constants)


@pytest.mark.parametrize("compact", [False, True], ids=["whole", "compact"])
def test_files_of_phonopy_are_read(compact, tmp_path):
    constants = np.random.default_rng(0).normal(size=(2 if compact else 4, 4, 3, 3))
    primitive = np.array([0, 2]) if compact else None
    write_FORCE_CONSTANTS(constants, tmp_path / "FORCE_CONSTANTS", primitive)
    found = read_force_constants(tmp_path / "FORCE_CONSTANTS")
    np.testing.assert_allclose(found, constants, rtol=0, atol=1e-15)


GOOD = "1 1\n1 1\n1 2 3\n4 5 6\n7 8 9\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        GOOD.replace("1 1\n", "1 1 1\n", 1),
        GOOD.replace("1 1\n", "-1 1\n", 1),
        GOOD.replace("1 1\n1 1", "1 1\n1 2"),
        GOOD.replace("5", "nan"),
        GOOD.replace("7 8 9\n", ""),
        "0 0\n",
    ],
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "FORCE_CONSTANTS"
    path.write_text(text)
    with pytest.raises(InputError, match=r"FORCE_CONSTANTS.*is no file of force constants") as line:
        read_force_constants(path)
    assert "\n" not in str(line.value)
    path.write_text(GOOD)
    assert read_force_constants(path).ravel().tolist() == list(range(1, 10))
