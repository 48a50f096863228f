"""Distances and angles to the nearest image, by brute force over the lattice as it was unskewed."""

import itertools
import warnings

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.geometry import find_mic

import mdsens
from mdsens import observables
from mdsens.errors import MdsensWarning
from mdsens.observables.nearest_image import images_as_near, nearest_image
from mdsens.potentials import LennardJones
from mdsens.relaxation import unrelaxed

pytestmark = pytest.mark.xdist_group("observables")
COMPILED = jax.jit(nearest_image)


def skewed(generator, dimension, count):
    """A lattice of well separated vectors, and one of its other bases, much longer."""
    turn = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]
    plain = (np.diag(generator.uniform(3.0, 9.0, dimension)) @ turn)[:count]
    plain = plain + generator.uniform(-1.0, 1.0, plain.shape)
    steps = np.eye(count)
    for _ in range(generator.integers(0, 9) if count > 1 else 0):
        i, j = generator.choice(count, 2, replace=False)
        steps[i] += generator.integers(-3, 4) * steps[j]
    return plain, steps @ plain


@pytest.mark.parametrize(("dimension", "count"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_it_is_the_nearest_of_all_images_in_skewed_lattices(dimension, count):
    generator = np.random.default_rng(10 * dimension + count)
    steps = np.array(list(itertools.product(range(-6, 7), repeat=count)))
    skews = []
    for _ in range(200):
        plain, lattice = skewed(generator, dimension, count)
        vector = generator.uniform(-9.0, 9.0, dimension)
        found = np.asarray(COMPILED(jnp.asarray(vector), jnp.asarray(lattice)))
        expected = np.linalg.norm(vector + steps @ plain, axis=1).min()
        assert np.linalg.norm(found) == pytest.approx(expected, rel=1e-9)
        # It is an image: whole lattice vectors away.
        away = np.linalg.lstsq(plain.T, found - vector)[0]
        np.testing.assert_allclose(plain.T @ np.round(away), found - vector, atol=1e-9)
        skews.append(np.linalg.norm(lattice, axis=1).max() / np.linalg.norm(plain, axis=1).max())
    assert count == 1 or max(skews) > 20.0


def skewed_pair():
    """Two atoms and a third in a cell of which a rounded fraction is not the nearest image."""
    cell = [[5, 0, 0], [-17.89, 5, 0], [-10, -14.15, 6.5]]
    positions = [[-17.846, -5.805, 4.207], [-13.758, -12.193, 6.482], [0.3, 0.2, 0.1]]
    tiny = LennardJones(1.0, 1.0, 2.5)
    return unrelaxed(mdsens.System(positions, cell), tiny)


@pytest.mark.slow
def test_distances_and_angles_in_a_skewed_cell_are_those_of_ase():
    equilibrium = skewed_pair()
    atoms = equilibrium.system.to_ase()
    u, v = (
        find_mic(atoms.positions[end] - atoms.positions[0], atoms.cell, True)[0] for end in (1, 2)
    )
    found = float(observables.distance(0, 1)(equilibrium))
    assert found == pytest.approx(np.linalg.norm(u), rel=1e-12)
    cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    angle = float(observables.angle(1, 0, 2)(equilibrium))
    assert angle == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-10)


def test_the_nearest_image_follows_the_cell_and_the_vector():
    generator = np.random.default_rng(5)
    _, lattice = skewed(generator, 3, 3)
    vector, moved = generator.normal(size=3) * 6.0, generator.normal(size=(4, 3))

    def length(t):
        return jnp.linalg.norm(COMPILED(vector + t * moved[0], lattice + t * moved[1:]))

    slope = jax.grad(length)(0.0)
    assert float(jax.jvp(length, (0.0,), (1.0,))[1]) == pytest.approx(float(slope), rel=1e-12)
    # The lengths are good to 1e-13 of some 5; differences over 1e-5 to 1e-8.
    step = 1e-5
    difference = (length(step) - length(-step)) / (2 * step)
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


def test_a_shear_parts_images_that_are_as_near_and_a_warning_says_so():
    potential = LennardJones(1.0, 1.0, 1.6, onset=1.4)
    crystal = ase.build.bulk("Ar", "fcc", 1.55, cubic=True)
    equilibrium = mdsens.relax(mdsens.System(crystal.positions, crystal.cell[:]), potential)
    with pytest.warns(MdsensWarning, match="4 images of atom 1 .* strain.xx. may part them"):
        mdsens.sensitivity(equilibrium, "distance(0,1)", wrt="strain[xx]", error_estimate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MdsensWarning)
        mdsens.sensitivity(equilibrium, "distance(0,1)", wrt="sigma", error_estimate=False)
    lattice = 1.55 * np.eye(3)
    for vector, count in (((0.2, 0.1, 0.0), 1), ((0.775, 0.775, 0.775), 8), ((0.775, 0.1, 0), 2)):
        assert images_as_near(np.array(vector), lattice, 1e-6) == count
    flat = 3.0 * np.array([[1.0, 0.0, 0.0], [0.5, np.sqrt(0.75), 0.0]])
    assert images_as_near(flat.sum(axis=0) / 3.0, flat, 1e-6) == 3
