"""Energies, forces and virials of random structures are those of a sum over pairs and images."""

import time

import jax
import numerical
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mdsens import System
from mdsens.mechanics import energy_forces_virial
from mdsens.particles import find_edges
from mdsens.potentials import WCA, LennardJones, Morse, SoftSphere

pytestmark = pytest.mark.slow

CUTOFF = 4.0
#: Slots and ghosts for every structure, so that a potential is compiled once.
ROOM = (512, 2048)
KINDS = ("A", "B")


def tables(low, high):
    """A symmetric table over two species."""
    entry = st.floats(low, high)
    return st.tuples(entry, entry, entry).map(lambda t: np.array([[t[0], t[1]], [t[1], t[2]]]))


def lennard_jones(epsilon, sigma):
    x = (sigma / CUTOFF) ** 6
    shift = 4 * epsilon * (x * x - x)
    return (
        LennardJones(epsilon, sigma, CUTOFF, "shifted", species=KINDS),
        lambda r, e, s, c: 4 * e * ((s / r) ** 12 - (s / r) ** 6) - c,
        lambda r, e, s, c: 4 * e * (-12 * s**12 / r**13 + 6 * s**6 / r**7),
        (epsilon, sigma, shift),
        np.full((2, 2), CUTOFF),
    )


def morse(epsilon, sigma):
    return (
        Morse(epsilon, 2.0 / sigma, sigma, CUTOFF, "none", species=KINDS),
        lambda r, e, s: e * (np.exp(-4 / s * (r - s)) - 2 * np.exp(-2 / s * (r - s))),
        lambda r, e, s: e * 4 / s * (np.exp(-2 / s * (r - s)) - np.exp(-4 / s * (r - s))),
        (epsilon, sigma),
        np.full((2, 2), CUTOFF),
    )


def soft_sphere(epsilon, sigma):
    return (
        SoftSphere(2 * sigma, epsilon, "hertzian", species=KINDS),
        lambda r, e, s: e / 2.5 * (1 - r / (2 * s)) ** 2.5,
        lambda r, e, s: -e / (2 * s) * (1 - r / (2 * s)) ** 1.5,
        (epsilon, sigma),
        2 * sigma,
    )


def wca(epsilon, sigma):
    return (
        WCA(epsilon, sigma, species=KINDS),
        lambda r, e, s: 4 * e * ((s / r) ** 12 - (s / r) ** 6) + e,
        lambda r, e, s: 4 * e * (-12 * s**12 / r**13 + 6 * s**6 / r**7),
        (epsilon, sigma),
        2 ** (1 / 6) * sigma,
    )


@jax.jit
def mechanics(positions, cell, species, potential, edge_list):
    # What is periodic is in the edges, and no more is asked of it here.
    system = System(positions, cell, KINDS, species, False, units="reduced")
    return energy_forces_virial(system, potential, edge_list)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("kind", [lennard_jones, morse, soft_sphere, wca])
@given(data=st.data())
def test_energy_forces_and_virial_are_those_of_a_sum_over_all_images(kind, dimension, data):
    epsilon, sigma = data.draw(tables(0.1, 2.0)), data.draw(tables(0.8, 1.2))
    system = data.draw(strategies.systems(dimension, nearest=0.7, symbols=KINDS))
    potential, energy, slope, arguments, ranges = kind(epsilon, sigma)
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    species = np.asarray(system.species)

    edge_list = find_edges(
        positions, cell, system.pbc, float(potential.interaction_range), minimum_capacity=ROOM
    )
    assert edge_list.capacity == ROOM
    ours = mechanics(positions, cell, species, potential, edge_list)

    basis = strategies.reduced(cell, system.pbc)
    i, j, _, vectors = numerical.images(positions, basis, system.pbc, float(ranges.max()))
    r, pair = np.linalg.norm(vectors, axis=1), (species[i], species[j])
    inside = r < ranges[pair]
    entries = [np.where(inside, table[pair], 1.0) for table in arguments]
    with np.errstate(invalid="ignore"):
        energies = np.where(inside, energy(r, *entries), 0.0)
        slopes = np.where(inside, slope(r, *entries), 0.0)
    directed = (slopes / r)[:, None] * vectors
    forces = np.zeros_like(positions)
    np.add.at(forces, i, directed)
    scale = np.abs(energies).sum() + np.abs(slopes).sum() + 1e-12
    np.testing.assert_allclose(float(ours[0]), energies.sum() / 2, atol=1e-12 * scale)
    np.testing.assert_allclose(np.asarray(ours[1]), forces, atol=1e-12 * scale)
    virial = vectors.T @ directed / 2
    np.testing.assert_allclose(np.asarray(ours[2]), virial, atol=1e-11 * scale)


def test_four_atoms_of_a_wire_far_apart_are_searched_at_once():
    cell = np.array([[5.1, -16.1, 19.6], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    positions = np.array(
        [[1.0, -33.5, -38.8], [8.4, -0.1, 66.1], [29.6, -63.6, 154.3], [0.4, -15.1, -18.4]]
    )
    near = np.concatenate([positions, positions[1:2] + 7 * cell[0] + 0.1])
    start = time.process_time()
    edge_list = find_edges(near, cell, (True, False, False), 1.0)
    # A search of all the space between them takes 20 s.
    assert time.process_time() - start < 2.0
    assert edge_list.capacity[0] == 1
    assert int(np.asarray(edge_list.mask).sum()) == 2
    images = np.asarray(edge_list.ghost_images)
    assert sorted(images[np.any(images != 0, axis=1), 0]) == [-7, 7]
