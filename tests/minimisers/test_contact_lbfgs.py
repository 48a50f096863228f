"""The compiled loop that relaxes packings of discs, held to sums over all pairs and images."""

import itertools

import numpy as np
import pytest

import mdsens
from mdsens.errors import RelaxationError
from mdsens.mechanics.contact_pairs import energy_and_gradient, find_pairs
from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers import contact_lbfgs
from mdsens.minimisers.contact_newton import newton_direction
from mdsens.minimisers.contact_steps import remember, set_direction
from mdsens.potentials import SoftSphere
from mdsens.potentials.overlap_law import OverlapLaw
from mdsens.relaxation import checkpoint as checkpoints

pytestmark = pytest.mark.xdist_group("discs")

CELL = np.array([[12.0, 0.5], [3.0, 11.0]])
DIAMETERS, COUNT = {"large": 1.0, "small": 0.6}, 300


def discs(seed=0):
    random = np.random.default_rng(seed)
    # Some of them far outside of the box.
    positions = random.uniform(-1.0, 2.0, (COUNT, 2)) @ CELL
    species = random.integers(0, 2, COUNT)
    return mdsens.System(positions, CELL, tuple(DIAMETERS), species, units="reduced")


def potential(alpha=2.0):
    epsilon = [[1.0, 0.7], [0.7, 1.3]]
    return SoftSphere(DIAMETERS, epsilon, alpha=alpha, species=tuple(DIAMETERS))


def summed_over_all(system, law):
    """Energy and gradient from every pair in every image that could touch, with NumPy alone."""
    x, cell, species = (np.asarray(a) for a in (system.positions, system.cell, system.species))
    x = x - np.floor(x @ np.linalg.inv(cell)) @ cell
    d, epsilon = (t[species[:, None], species] for t in (law.distances, law.epsilon))
    energy, gradient = 0.0, np.zeros_like(x)
    for image in itertools.product((-1, 0, 1), repeat=2):
        vectors = x[None] + np.array(image) @ cell - x[:, None]
        r = np.linalg.norm(vectors, axis=2)
        near = (r < d) & (r > 0.0)
        r = np.where(near, r, 1.0)
        overlap = np.where(near, 1.0 - r / d, 0.0)
        energy += 0.5 * np.sum(epsilon / law.alpha * overlap**law.alpha)
        push = epsilon / d * overlap ** (law.alpha - 1.0) / r
        gradient += np.sum(push[:, :, None] * vectors, axis=1)
    return energy, gradient


@pytest.fixture
def few(monkeypatch):
    """Packings of few discs, as if they were many."""
    monkeypatch.setattr(contact_lbfgs, "FEWEST_DISCS", 1)


@pytest.mark.parametrize("alpha", [2.0, 2.5, 3.2])
def test_forces_of_pairs_are_those_of_a_sum_over_all(alpha):
    system, law = discs(), potential(alpha).overlap_law
    x, species = np.asarray(system.positions), np.asarray(system.species)
    pairs = find_pairs(
        x, CELL, np.linalg.inv(CELL), (7, 7), species.astype(np.int64), *law[:2], 0.3
    )
    assert len(set(map(tuple, pairs[0].T.tolist()))) == pairs[0].shape[1]
    gradient = np.empty_like(x)
    energy = energy_and_gradient(x, *pairs, law.alpha, gradient)
    expected, slopes = summed_over_all(system, law)
    np.testing.assert_allclose(energy, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-12 * np.abs(slopes).max())


def test_directions_are_those_of_the_two_loop_recursion():
    random, count, history = np.random.default_rng(3), 40, 4
    factor = random.normal(size=(2 * count, 2 * count))
    hessian = np.eye(2 * count) + factor @ factor.T / count
    past = (
        np.zeros((2 * history, 2 * count), np.float32), np.zeros((2, history, history)),
        np.zeros(2 * history), np.zeros(2, np.int64), np.ones(3),
    )  # fmt: skip
    places = random.normal(size=(7, 2 * count))
    slopes = places @ hessian
    for k in range(6):
        remember(places[k], places[k + 1], slopes[k], slopes[k + 1], past)
    direction = np.empty(2 * count)
    vectors, products, along, used, numbers = past
    set_direction(slopes[6], vectors, products, along, used, numbers[0], direction)
    # J. Nocedal, Math. Comp. 35, 773 (1980), with the last four steps.
    steps, changes = (np.diff(rows, axis=0)[2:] for rows in (places, slopes))
    left, weights = slopes[6].copy(), []
    for s, y in zip(steps[::-1], changes[::-1], strict=True):
        weights.append(s @ left / (s @ y))
        left -= weights[-1] * y
    left *= steps[-1] @ changes[-1] / (changes[-1] @ changes[-1])
    for s, y, weight in zip(steps, changes, weights[::-1], strict=True):
        left += (weight - y @ left / (s @ y)) * s
    np.testing.assert_allclose(-direction, left, atol=1e-4 * np.abs(left).max())


@pytest.mark.parametrize("alpha", [2.0, 2.5, 3.0])
def test_a_newton_direction_takes_the_gradient_to_zero(alpha):
    soft = potential(alpha)
    packing = mdsens.relax(discs(4), soft, "lbfgs", fmax=1e-9)
    random, law = np.random.default_rng(5), soft.overlap_law
    species = np.asarray(packing.system.species).astype(np.int64)
    x = np.asarray(packing.positions) + random.normal(scale=1e-7, size=(COUNT, 2))
    pairs = find_pairs(x, CELL, np.linalg.inv(CELL), (7, 7), species, *law[:2], 0.3)

    def slopes(places):
        return summed_over_all(packing.system.with_positions(places), law)[1]

    gradient, direction = slopes(x), np.empty_like(x)
    iterations = newton_direction(x, gradient, pairs, law.alpha, 1e-4, direction)
    assert 10 < iterations < 1000
    # So short a step that no pair begins to touch, or no longer does.
    h = 1e-8 / np.abs(direction).max()
    change = (slopes(x + h * direction) - slopes(x - h * direction)) / (2 * h)
    assert np.linalg.norm(change + gradient) < 3e-4 * np.linalg.norm(gradient)


def test_a_newton_direction_ends_where_curvature_is_not_positive():
    x = np.array([[0.0, 0.0], [0.8, 0.0], [5.0, 5.0]])
    law = OverlapLaw(np.array([[1.0]]), np.array([[1.0]]), 2.0)
    cell = 10.0 * np.eye(2)
    pairs = find_pairs(x, cell, np.linalg.inv(cell), (4, 4), np.zeros(3, int), *law[:2], 0.1)
    gradient, direction = np.array([[0.0, 0.1], [0.0, -0.1], [0.0, 0.0]]), np.ones((3, 2))
    # Two discs alone: the second derivative across is phi'/r, and negative.
    assert newton_direction(x, gradient, pairs, 2.0, 1e-2, direction) == 0
    np.testing.assert_array_equal(direction, 0.0)
    gradient = gradient[:, ::-1].copy()
    assert newton_direction(x, gradient, pairs, 2.0, 1e-2, direction) == 1
    # Along it is phi'' = 1, and each moves by half of the whole.
    np.testing.assert_allclose(direction, -gradient / 2.0, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("few")
def test_a_packing_is_at_rest_and_near_a_minimum_goes_where_others_go():
    soft = potential()
    packing = mdsens.relax(discs(), soft, fmax=1e-11)
    assert [name for name, _ in packing.history.methods] == ["ContactLBFGS"]
    energy, gradient = summed_over_all(packing.system, soft.overlap_law)
    assert np.linalg.norm(gradient, axis=1).max() <= 2e-11
    np.testing.assert_allclose(packing.energy, energy, rtol=1e-11)
    assert packing.history.enthalpies.shape == packing.history.forces.shape
    # Euler's theorem: the energy is of first degree in epsilon.
    found = mdsens.sensitivity(packing, [mdsens.observables.energy()], mode="reverse")["energy"]
    scales = {"large-large": 1.0, "large-small": 0.7, "small-small": 1.3}
    by_euler = sum(scale * found[f"epsilon[{pair}]"] for pair, scale in scales.items())
    np.testing.assert_allclose(by_euler, energy, rtol=1e-8)
    random = np.random.default_rng(1)
    moved = np.asarray(packing.positions) + random.normal(scale=1e-4, size=(COUNT, 2))
    start = mdsens.System(moved, CELL, tuple(DIAMETERS), packing.system.species, units="reduced")
    here = [mdsens.relax(start, soft, method, fmax=1e-11) for method in ("auto", "lbfgs")]
    assert here[1].history.methods[0][0] == "LBFGS"
    held = ~np.asarray(here[0].landscape.rattlers | here[1].landscape.rattlers)
    apart = np.asarray(here[0].positions - here[1].positions)[held]
    assert np.abs(apart - apart.mean(axis=0)).max() < 1e-7
    np.testing.assert_allclose(here[0].energy, here[1].energy, rtol=1e-10)


@pytest.mark.usefixtures("few")
def test_a_packing_of_many_sizes_and_another_exponent_is_at_rest():
    random, names = np.random.default_rng(6), tuple(f"disc{k}" for k in range(8))
    soft = SoftSphere(dict(zip(names, np.linspace(0.5, 1.2, 8), strict=True)), 2.0, 2.5, names)
    places, species = random.uniform(-1.0, 2.0, (COUNT, 2)) @ CELL, random.integers(0, 8, COUNT)
    system = mdsens.System(places, CELL, names, species, units="reduced")
    packing = mdsens.relax(system, soft, fmax=1e-11)
    assert [name for name, _ in packing.history.methods] == ["ContactLBFGS"]
    energy, gradient = summed_over_all(packing.system, soft.overlap_law)
    assert np.linalg.norm(gradient, axis=1).max() <= 2e-11
    np.testing.assert_allclose(packing.energy, energy, rtol=1e-11)


@pytest.mark.usefixtures("few")
def test_a_law_that_is_not_that_of_the_energies_is_refused():
    class Stiffer(SoftSphere):
        @property
        def overlap_law(self):
            law = super().overlap_law
            return OverlapLaw(law.distances, 1.01 * law.epsilon, law.alpha)

    with pytest.raises(RelaxationError, match=r"Stiffer\.overlap_law gives forces that differ"):
        mdsens.relax(discs(), Stiffer(DIAMETERS, species=tuple(DIAMETERS)))


@pytest.mark.usefixtures("few")
def test_an_interrupted_packing_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", np.inf)
    monkeypatch.setattr(contact_lbfgs, "DISC_STEPS", 0)

    class EnoughError(Exception):
        pass

    def stop(step, *_):
        if step >= 100:
            raise EnoughError

    path, options = tmp_path / "packing.npz", {"fmax": 1e-9, "checkpoint_every": 1e-9}
    with pytest.raises(EnoughError):
        mdsens.relax(discs(2), potential(), checkpoint=path, callback=stop, **options)
    assert path.is_file()
    resumed = mdsens.relax(discs(2), potential(), checkpoint=path, **options)
    whole = mdsens.relax(discs(2), potential(), fmax=1e-9)
    assert whole.history.steps > 150
    np.testing.assert_array_equal(resumed.positions, whole.positions)
    np.testing.assert_array_equal(resumed.history.forces, whole.history.forces)


def test_what_the_loop_does_not_know_goes_another_way(monkeypatch):
    monkeypatch.setattr(contact_lbfgs, "FEWEST_DISCS", 1)
    soft, system = potential(), discs()

    def suits(system, soft, **options):
        edges = soft.edge_search(system).find(system.positions, system.cell)
        landscape = Landscape.of(system, soft, edges, **options)
        return contact_lbfgs.suits_contact_list(landscape)

    assert suits(system, soft)
    assert not suits(system.with_fixed([0]), soft)
    far = np.asarray(system.positions) + 1e6 * CELL[0]
    assert not suits(system.with_positions(far), soft)
    packing = mdsens.relax(system.with_positions(far), soft, fmax=1e-6)
    assert np.abs(summed_over_all(packing.system, soft.overlap_law)[1]).max() < 2e-6
    assert not suits(system, soft, cell_mode="isotropic")
    assert not suits(system, 2.0 * soft)
    assert not suits(system, mdsens.potentials.WCA(1.0, 0.8))
    monkeypatch.setattr(contact_lbfgs, "FEWEST_DISCS", COUNT + 1)
    assert not suits(system, soft)
