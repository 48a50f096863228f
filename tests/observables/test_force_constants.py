"""Force constants against differences of forces in a supercell, and against phonopy's file."""

import ase.build
import numpy as np
import pytest

import mdsens
from mdsens.observables import force_constants
from mdsens.potentials import LennardJones, StillingerWeber

SILICON = StillingerWeber(
    epsilon=2.1683, sigma=2.0951, A=7.049556277, B=0.6022245584, p=4.0, q=0.0, a=1.80,
    lambda_=21.0, gamma=1.20, costheta0=-1.0 / 3.0,
)  # fmt: skip
ARGON = LennardJones(0.0104, 3.4, 5.9, onset=5.4)


def crystal(potential):
    if potential is ARGON:
        atoms = ase.build.bulk("Ar", "fcc", 5.3)
    else:
        atoms = ase.build.bulk("Si", "diamond", 5.45)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.03, 0.0], [0.0, 1.02, 0.01], [0.0, 0.0, 1.0]], True)
    return mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=1e-9)


@pytest.mark.parametrize(
    ("potential", "image"),
    [
        pytest.param(ARGON, (0, 0, 1), marks=pytest.mark.slow), (ARGON, (1, -1, 0)),
        pytest.param(SILICON, (0, 0, 0), marks=pytest.mark.slow), (SILICON, (0, 0, -1)),
    ],
)  # fmt: skip
def test_those_of_an_image_are_differences_of_forces(potential, image):
    relaxed, repeats, step = crystal(potential), 6, 1e-4
    atoms = relaxed.to_ase()
    count = len(atoms)
    i, j = 0, count - 1
    supercell = atoms.repeat(repeats)
    cell_of_image = np.ravel_multi_index(np.array(image) % repeats, (repeats,) * 3)
    moving = cell_of_image * count + j
    supercell.calc = mdsens.Calculator(potential)
    forces = []
    for sign in (1.0, -1.0):
        supercell.positions[moving, 1] += sign * step
        forces.append(supercell.get_forces()[i])
        supercell.positions[moving, 1] -= sign * step
    numeric = (forces[1] - forces[0]) / (2.0 * step)
    found = force_constants(i, j, image)(relaxed)
    assert np.abs(numeric).max() > 1e-4
    np.testing.assert_allclose(found[:, 1], numeric, atol=1e-6)


def test_their_sum_is_what_phonopy_reads():
    relaxed = crystal(SILICON)
    expected = mdsens.phonopy.force_constants(relaxed)
    for i, j in ((0, 0), (0, 1)):
        np.testing.assert_allclose(force_constants(i, j)(relaxed), expected[i, j], atol=1e-10)
    images = np.argwhere(np.ones((5, 5, 5))) - 2
    apart = [np.asarray(force_constants(0, 1, tuple(image))(relaxed)) for image in images]
    np.testing.assert_allclose(np.sum(apart, axis=0), expected[0, 1], atol=1e-10)


def test_they_scale_through_the_relaxation():
    relaxed = mdsens.relax(crystal(SILICON).system, SILICON, cell="full", fmax=1e-10)
    observable = force_constants(0, 1, (0, 0, -1))
    found = mdsens.sensitivity(relaxed, [observable], wrt=["sigma", "epsilon"])[observable.name]
    value = np.asarray(observable(relaxed))
    np.testing.assert_allclose(found["sigma"], -2.0 * value / 2.0951, atol=1e-7)
    np.testing.assert_allclose(found["epsilon"], value / 2.1683, atol=1e-7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((0, 7), "there is no atom 7; allowed are 0 to 0"),
        ((0, 0, (1, 0)), "image has 2 numbers: give 3"),
        ((0, 0, (60, 60, 60)), "up to 100000 are told apart"),
    ],
)
def test_what_there_is_not_is_refused(given, words):
    with pytest.raises(mdsens.InputError, match=words):
        force_constants(*given)(crystal(ARGON))
    with pytest.raises(mdsens.InputError, match="image = 3: give whole numbers"):
        force_constants(0, 0, 3)
