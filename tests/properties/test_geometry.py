"""Distances and angles in random cells are ASE's, whatever the basis of the lattice."""

import itertools

import numpy as np
import pytest
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st

from mdsens import System, observables
from mdsens.potentials import SoftSphere
from mdsens.relaxation import unrelaxed

TINY = SoftSphere(1e-3)


def value(observable, system):
    return float(observable(unrelaxed(system, TINY)))


def in_ase(system):
    """The same for ASE, without the vectors along which nothing is repeated.

    ASE 3.29 takes these for part of the basis, and then misses nearest images.
    """
    atoms = system.to_ase()
    atoms.cell[~atoms.pbc] = 0.0
    return atoms


def lengths_of_images(vector, cell, pbc):
    """Lengths of a vector to many images, sorted, by a sum over a reduced lattice."""
    basis = strategies.reduced(cell, pbc)[list(pbc)]
    if not len(basis):
        return np.linalg.norm(vector, keepdims=True)
    # Into the middle first: atoms may lie far outside of the cell.
    vector = vector - np.round(np.linalg.lstsq(basis.T, vector, rcond=None)[0]) @ basis
    steps = np.array(list(itertools.product(range(-3, 4), repeat=len(basis))))
    return np.sort(np.linalg.norm(vector + steps @ basis, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [2, 3])
@given(data=st.data())
def test_a_distance_is_that_of_the_nearest_image_in_any_basis_of_the_lattice(dimension, data):
    system = data.draw(strategies.systems(dimension))
    ours = value(observables.distance(0, 1), system)
    theirs = in_ase(system).get_distance(0, 1, mic=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    between = np.asarray(system.positions[1] - system.positions[0])
    nearest = lengths_of_images(between, np.asarray(system.cell), system.pbc)[0]
    np.testing.assert_allclose(ours, nearest, rtol=1e-11)


@pytest.mark.parametrize("dimension", [2, 3])
@given(data=st.data())
def test_an_angle_is_that_of_the_nearest_images_in_any_basis_of_the_lattice(dimension, data):
    system = data.draw(strategies.systems(dimension))
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    for end in (0, 2):
        # Two images at the same distance make two angles, and none is wrong.
        images = lengths_of_images(positions[end] - positions[1], cell, system.pbc)
        assume(len(images) < 2 or images[1] - images[0] > 1e-6)
    ours = value(observables.angle(0, 1, 2), system)
    theirs = in_ase(system).get_angle(0, 1, 2, mic=True)
    # An angle near 0 or 180 is ill-conditioned in the cosine that ASE takes.
    tolerance = 1e-8 if 1.0 < theirs < 179.0 else 1e-5
    np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("dimension", [2, 3])
@given(data=st.data())
def test_geometry_does_not_know_which_image_of_an_atom_it_was_given(dimension, data):
    system = data.draw(strategies.systems(dimension))
    steps = data.draw(st.lists(st.integers(-3, 3), min_size=4 * dimension, max_size=4 * dimension))
    images = np.reshape(steps, (4, dimension)) * np.array(system.pbc)
    moved = system.with_positions(np.asarray(system.positions) + images @ np.asarray(system.cell))
    np.testing.assert_allclose(
        value(observables.distance(0, 1), moved),
        value(observables.distance(0, 1), system),
        rtol=1e-10,
    )


@pytest.mark.parametrize("dimension", [2, 3])
@given(data=st.data())
def test_a_structure_comes_back_from_ase_as_it_went(dimension, data):
    system = data.draw(strategies.systems(dimension, symbols=("Ar", "Kr")))
    back = System.from_ase(system.to_ase(), dimension, "reduced")
    np.testing.assert_array_equal(np.asarray(back.positions), np.asarray(system.positions))
    np.testing.assert_array_equal(np.asarray(back.cell), np.asarray(system.cell))
    names = [[s.symbols[index] for index in np.asarray(s.species)] for s in (system, back)]
    assert names[0] == names[1]
    assert back.pbc == system.pbc
