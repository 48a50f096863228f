"""Each observable against what ASE or a few lines of NumPy make of the same structure."""

import cases
import jax
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import observables
from mdsens.errors import InputError

pytestmark = pytest.mark.xdist_group("observables")
LJ = cases.POTENTIALS["lj-smooth"]


@pytest.fixture(scope="module")
def crystal():
    """A strained, relaxed crystal in a skewed cell."""
    system = cases.vacancy_crystal()
    shear = np.eye(3) + np.array([[0, 0.1, 0.02], [0, 0, 0.05], [0, 0, 0]])
    return mdsens.relax(system.with_cell(system.cell @ shear, scale_positions=True), LJ)


@pytest.mark.parametrize(("i", "j"), [(0, 1), (2, 13), (14, 3)])
def test_distances_are_those_of_ase(crystal, i, j):
    expected = crystal.to_ase().get_distance(i, j, mic=True)
    assert float(observables.distance(i, j)(crystal)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("atoms", [(0, 1, 2), (3, 9, 14), (7, 2, 11)])
def test_angles_are_those_of_ase(crystal, atoms):
    expected = crystal.to_ase().get_angle(*atoms, mic=True)
    assert float(observables.angle(*atoms)(crystal)) == pytest.approx(expected, rel=1e-10)


def test_a_straight_angle_has_180_degrees():
    straight = mdsens.System([[-1.12, 0, 0], [0, 0, 0], [1.12, 0, 0]])
    assert float(observables.angle(0, 1, 2)(mdsens.relax(straight, LJ))) == pytest.approx(180.0)


def test_energy_pressure_stress_and_volume(crystal):
    atoms = crystal.to_ase()
    stress = atoms.get_stress()
    for name, expected in {
        "energy": atoms.get_potential_energy(),
        "energy_per_atom": atoms.get_potential_energy() / len(atoms),
        "volume": atoms.cell.volume,
        "pressure": -stress[:3].mean(),
        "stress": stress,
    }.items():
        np.testing.assert_allclose(observables.parse(name)(crystal), expected, rtol=1e-12)


def test_the_mean_squared_displacement_is_from_where_the_relaxation_began(crystal):
    moved = np.asarray(crystal.positions - crystal.start)
    value = observables.mean_squared_displacement()(crystal)
    assert float(value) == pytest.approx((moved**2).sum() / len(moved), rel=1e-12)
    with pytest.raises(InputError, match="the reference has shape"):
        observables.mean_squared_displacement(np.zeros((2, 3)))(crystal)


def lengths_within(equilibrium, reach):
    system = equilibrium.system
    return np.linalg.norm(
        numerical.images(system.positions, system.cell, system.pbc, reach)[3], axis=1
    )


def test_coordination_counts_with_a_quintic_edge(crystal):
    t = np.clip((lengths_within(crystal, 1.5) - 1.3) / 0.2 + 0.5, 0, 1)
    expected = (1 - 10 * t**3 + 15 * t**4 - 6 * t**5).sum() / 15
    assert float(observables.coordination(1.3, 0.2)(crystal)) == pytest.approx(expected, rel=1e-12)


def test_an_fcc_crystal_has_twelve_neighbours():
    import ase.build

    crystal = mdsens.relax(mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 1.55)), LJ)
    assert float(observables.coordination(1.3)(crystal)) == pytest.approx(12.0, abs=1e-12)


def test_the_radial_distribution_is_a_sum_of_gaussians(crystal):
    r = (np.arange(20) + 0.5) * 2.0 / 20
    gaussians = np.exp(-((r[:, None] - lengths_within(crystal, 2.4)) ** 2) / (2 * 0.05**2))
    counts = gaussians.sum(axis=1) / (0.05 * np.sqrt(2 * np.pi))
    volume = crystal.to_ase().cell.volume
    expected = counts * volume / (15**2 * 4 * np.pi * r**2)
    ours = observables.radial_distribution(2.0, 20, 0.05)(crystal)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["distance(0,5)", "angle(0,5,2)", "coordination(1.1)", "radial_distribution(2.0, 10)",
     "mean_squared_displacement", "pressure"],
)  # fmt: skip
def test_derivatives_of_observables_in_the_structure(crystal, text):
    import equinox as eqx

    observable = observables.parse(text)
    direction = np.random.default_rng(13).normal(size=crystal.q.shape)

    def along(t):
        return observable(eqx.tree_at(lambda e: e.q, crystal, crystal.q + t * direction))

    slope = jax.jvp(along, (0.0,), (1.0,))[1]
    noise = numerical.rounding(lambda batch: [along(t) for t in batch], 0.0)
    expected = numerical.derivative(along, 0.0, 1e-4, noise=noise)
    numerical.agrees(slope, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volum", "did you mean 'volume'"),
        ("distance(0", "cannot be read"),
        ("distance(0)", "missing a required argument"),
        ("distance(x, 1)", "cannot be read"),
        ("distance(1, 1)", "different atoms"),
        ("coordination(-1.0)", "positive cutoff"),
        ("radial_distribution(0.0)", "positive numbers"),
    ],
)
def test_what_cannot_be_read_as_an_observable(text, message):
    with pytest.raises(InputError, match=message) as caught:
        observables.parse(text)
    assert "\n" not in str(caught.value)


def test_an_atom_that_is_not_there_is_named(crystal):
    with pytest.raises(InputError, match="there is no atom 15: allowed are 0 to 14"):
        observables.distance(0, 15)(crystal)


def test_text_and_functions_name_the_same_observable():
    assert observables.parse("distance(0, 1)").name == observables.distance(0, 1).name
    assert observables.volume().units == "Ang^3"
