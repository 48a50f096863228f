"""Each observable against what ASE or a few lines of NumPy make of the same structure."""

import gc

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import observables
from mdsens.errors import InputError
from mdsens.potentials import LennardJones
from mdsens.relaxation import unrelaxed

pytestmark = pytest.mark.xdist_group("observables")
LJ = cases.POTENTIALS["lj-smooth"]


@pytest.fixture(scope="module")
def crystal():
    """A strained, relaxed crystal in a skewed cell."""
    system = cases.vacancy_crystal()
    shear = np.eye(3) + np.array([[0, 0.1, 0.02], [0, 0, 0.05], [0, 0, 0]])
    return mdsens.relax(system.with_cell(system.cell @ shear, scale_positions=True), LJ)


@pytest.mark.slow
@pytest.mark.parametrize(("i", "j"), [(0, 1), (2, 13), (14, 3)])
def test_distances_are_those_of_ase(crystal, i, j):
    expected = crystal.to_ase().get_distance(i, j, mic=True)
    assert float(observables.distance(i, j)(crystal)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("atoms", [(0, 1, 2), (3, 9, 14), (7, 2, 11)])
def test_angles_are_those_of_ase(crystal, atoms):
    expected = crystal.to_ase().get_angle(*atoms, mic=True)
    assert float(observables.angle(*atoms)(crystal)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
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


def test_an_area_is_what_two_vectors_of_the_cell_span(crystal):
    cell = np.asarray(crystal.cell)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        expected = np.linalg.norm(np.cross(cell[i], cell[j]))
        assert float(observables.area(i, j)(crystal)) == pytest.approx(expected, rel=1e-12)
    assert observables.area(1, 0) is observables.parse("area")
    slab = unrelaxed(mdsens.System(np.zeros((1, 3)), cell, pbc=(True, True, False)), LJ)
    expected = np.linalg.norm(np.cross(cell[0], cell[1]))
    assert float(observables.area()(slab)) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(
        InputError, match=r"area\(1,2\): the structure does not repeat along vector 2"
    ):
        observables.area(1, 2).check(slab)
    flat = unrelaxed(mdsens.System(np.zeros((1, 2)), [[3.0, 0.0], [1.0, 4.0]]), LJ)
    assert float(observables.area()(flat)) == pytest.approx(12.0, rel=1e-12)
    with pytest.raises(InputError, match="does not repeat along vector 2"):
        observables.area(0, 2)(flat)


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["distance(0,5)", "angle(0,5,2)", "coordination(1.1)", "radial_distribution(2.0, 10)",
     "mean_squared_displacement", "pressure"],
)  # fmt: skip
def test_derivatives_of_observables_in_the_structure(crystal, text):
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
        ("elastic_constants(relaxed_ions=false)", "write False for false"),
        ("distance(0)", "missing a required argument"),
        ("distance(x, 1)", "cannot be read"),
        ("distance(1, 1)", "different atoms"),
        ("distance(0, 1.5)", "distance: j = 1.5: give a whole number"),
        ("area(0, 3)", "area: j = 3: give a whole number"),
        ("area(1, 1)", "two different vectors"),
        ("distance(True, 1)", "distance: i = True: give a whole number"),
        ("distance([0], 1)", r"distance: i = \[0\]: give a whole number"),
        ("angle(0, 1, 'a')", "angle: k = 'a': give a whole number"),
        ("coordination(-1.0)", "cutoff = -1.0: give a finite number above 0"),
        ("coordination('a')", "coordination: cutoff = 'a': give a finite number"),
        ("coordination([1.0])", "give a finite number"),
        ("coordination(1e999)", "cutoff = inf: give a finite number"),
        ("coordination(1.0, 3.0)", "width = 3.0: give a finite number above 0 and up to 2"),
        ("radial_distribution(0.0)", "r_max = 0.0: give a finite number above 0"),
        ("radial_distribution(5, bins='a')", "bins = 'a': give a whole number"),
        ("radial_distribution(5, bins=2.0)", "bins = 2.0: give a whole number"),
        ("radial_distribution(5, 10, 0)", "width = 0: give a finite number above 0"),
        ("mean_squared_displacement('a')", "reference = 'a': give numbers"),
        ("mean_squared_displacement([1.0, 2.0])", r"shape \(2,\): give \(N, D\)"),
        ("distance(0, **{})", "cannot be read"),
        ("distance(0, 1)\0", "cannot be read"),
        ("(" * 9000, "cannot be read"),
        ("", "give text"),
    ],
)
def test_what_cannot_be_read_as_an_observable(text, message):
    with pytest.raises(InputError, match=message) as caught:
        observables.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [5, None, ["volume"]])
def test_what_is_no_text_is_no_observable(value):
    with pytest.raises(InputError, match="give text"):
        observables.parse(value)


def test_an_atom_that_is_not_there_is_named(crystal):
    with pytest.raises(InputError, match=r"distance\(0,15\): there is no atom 15; allowed are 0"):
        observables.distance(0, 15)(crystal)


def test_the_same_atom_twice_is_no_distance_and_no_angle(crystal):
    for observable in (observables.distance(-1, 14), observables.angle(0, 1, -15)):
        with pytest.raises(InputError, match="of 15 atoms: two of them are the same"):
            observable(crystal)
    last = observables.distance(-1, 0)(crystal)
    assert float(last) == float(observables.distance(14, 0)(crystal))


#: Three atoms whose angle deviates from a straight line by so many degrees.
def bent(degrees, dimension=3):
    turn = np.radians(degrees)
    positions = [[-1.12, 0, 0], [0, 0, 0], [1.3 * np.cos(turn), 1.3 * np.sin(turn), 0]]
    system = mdsens.System(np.array(positions)[:, :dimension], units="reduced")
    return unrelaxed(system, LJ)


@pytest.mark.parametrize("degrees", [180.0, 1e-3, 90.0, 179.999, 1e-5, 0.0])
@pytest.mark.parametrize("dimension", [2, 3])
def test_angles_near_a_line_keep_their_digits(degrees, dimension):
    found = float(observables.angle(0, 1, 2)(bent(degrees, dimension)))
    assert found == pytest.approx(180.0 - degrees, abs=1e-13 * 180)


def slope_of_angle(equilibrium, direction):
    def along(t):
        moved = equilibrium.q + t * jnp.asarray(direction)
        return observables.angle(0, 1, 2)(eqx.tree_at(lambda e: e.q, equilibrium, moved))

    return float(jax.jvp(along, (0.0,), (1.0,))[1]), float(jax.grad(along)(0.0))


@pytest.mark.parametrize("degrees", [0.0, 180.0, 1e-9])
def test_an_angle_in_line_has_the_derivative_of_neither_side(degrees):
    """It falls at 180 degrees, and rises at 0, on whichever side: the mean is zero."""
    direction = np.array([[0.3, 0.2, -0.5], [0.1, 0.7, 0.3], [0.0, -0.4, 0.6]])
    assert slope_of_angle(bent(degrees), direction) == (0.0, 0.0)


def test_an_angle_that_is_nearly_straight_has_its_derivative():
    direction = np.array([[0.0, 0, 0], [0, 0, 0], [0, 1.0, 0]])
    for slope in slope_of_angle(bent(1e-3), direction):
        assert slope == pytest.approx(-np.degrees(np.cos(np.radians(1e-3)) / 1.3), rel=1e-9)


def test_a_name_holds_every_argument_at_full_precision():
    reference = np.arange(6.0).reshape(2, 3)
    asked = [
        observables.coordination(4.5), observables.coordination(4.5, 0.1),
        observables.coordination(4.5, 0.2), observables.coordination(4.500000001),
        observables.radial_distribution(5), observables.radial_distribution(5, 40),
        observables.radial_distribution(5, 40, 0.1), observables.radial_distribution(5, 50, 0.1),
        observables.mean_squared_displacement(),
        observables.mean_squared_displacement(reference),
        observables.mean_squared_displacement(reference + 1e-12),
        observables.mean_squared_displacement(reference.reshape(3, 2)),
        observables.distance(0, 1), observables.distance(1, 0), observables.angle(0, 1, 2),
    ]  # fmt: skip
    assert len({observable.name for observable in asked}) == len(asked)
    assert len(set(asked)) == len(asked)
    for observable in asked:
        if "reference" not in observable.name:
            assert observables.parse(observable.name) == observable


def test_names_are_short_where_only_defaults_are_used():
    names = ["distance(0,1)", "coordination(4.5)", "radial_distribution(5)",
             "mean_squared_displacement", "energy"]  # fmt: skip
    assert [observables.parse(name).name for name in names] == names
    assert observables.coordination(cutoff=4).name == "coordination(4)"


def test_what_is_asked_for_alike_is_equal():
    reference = np.arange(6.0).reshape(2, 3)
    for one, other in [
        (observables.coordination(4), observables.parse("coordination(cutoff=4.0)")),
        (observables.distance(0, 1), observables.distance(np.int64(0), j=np.array(1))),
        (observables.mean_squared_displacement(reference),
         observables.mean_squared_displacement(reference.tolist())),
        (observables.radial_distribution(5, 50), observables.radial_distribution(5.0)),
    ]:  # fmt: skip
        assert one == other
        assert hash(one) == hash(other)
        assert one.name == other.name
    assert observables.distance(0, 1) != observables.distance(1, 0)


def test_bins_have_different_labels():
    labels = observables.radial_distribution(1000.0, 20_000).labels
    assert len(set(labels)) == 20_000
    assert observables.radial_distribution(2.0, 20).labels[:2] == ("r=0.05", "r=0.15")


def test_a_coordination_that_nobody_can_count_is_refused_at_once(crystal):
    for observable in (observables.coordination(1e6), observables.radial_distribution(1e200)):
        refused = r"^\w+\(1e\+\d+\): a cutoff of .* would make about .* choose a shorter cutoff"
        with pytest.raises(InputError, match=refused):
            observable(crystal)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "length", len), "the name of an observable = '': give text"),
        (("mine", "lenght", len), "observable mine: dimension = 'lenght': give powers of energy"),
        (("mine", None, len), "observable mine: dimension = None"),
        (("mine", "length", 3), "observable mine: function = 3: give a function"),
    ],
)
def test_an_observable_of_ones_own_has_a_name_a_dimension_and_a_function(arguments, message):
    with pytest.raises(InputError, match=message):
        observables.Observable(*arguments)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a", "returned 'a': give a function that returns a real number"),
        (None, "returned None"),
        (1j, "returned 1j"),
        (True, "returned True"),
        ([[1.0], [1.0, 2.0]], "give a function that returns a real number"),
        (np.nan, "is not finite at this structure: nan"),
        ([0.0, np.inf], "is not finite"),
        ([0.0, 1.0, 2.0], "returned 3 numbers and has 2 labels"),
    ],
)
def test_an_observable_of_ones_own_returns_real_numbers(value, message):
    mine = observables.Observable("mine", "length", lambda equilibrium: value, ("a", "b"))
    with pytest.raises(InputError, match=message) as caught:
        mine(bent(90.0))
    assert "\n" not in str(caught.value)


def test_a_pressure_is_an_energy_by_area_in_two_dimensions():
    flat, whole = (mdsens.System(np.eye(d), np.eye(d) * 3.0) for d in (2, 3))
    units = {name: observables.parse(name) for name in ("pressure", "stress", "volume", "energy")}
    assert [asked.units_of(flat) for asked in units.values()] == [
        "eV/Ang^2", "eV/Ang^2", "Ang^2", "eV"
    ]  # fmt: skip
    assert [asked.units_of(whole) for asked in units.values()] == [
        "eV/Ang^3", "eV/Ang^3", "Ang^3", "eV"
    ]  # fmt: skip
    assert observables.pressure().dimension_in(2) == "energy/length^2"


def test_text_and_functions_name_the_same_observable():
    assert observables.parse("distance(0, 1)") is observables.distance(0, 1)
    assert observables.volume().units == "Ang^3"


def test_a_check_of_an_observable_leaves_nothing_traced_behind():
    start = unrelaxed(cases.vacancy_crystal(), LJ)
    for name in ("energy", "pressure", "stress", "volume", "distance(0,1)", "coordination(4.0)"):
        observables.parse(name).check(start)
    assert np.isfinite(float(start.energy))


def test_a_check_traces_no_forces_that_are_known():
    class Untraceable(LennardJones):
        def site_energies(self, edges):
            raise AssertionError("forces are traced")

        def site_energies_and_gradients(self, edges):
            raise AssertionError("forces are traced")

    start = unrelaxed(cases.vacancy_crystal(), Untraceable(1.0, 1.0, 2.5))
    shapes = (), start.system.positions.shape, (3, 3)
    known = tuple(jnp.zeros(shape) for shape in shapes)
    for name in ("energy", "pressure", "stress"):
        with pytest.raises(AssertionError, match="are traced"):
            observables.parse(name).check(start)
        observables.parse(name).check(start.with_mechanics(known))


def test_a_structure_that_was_checked_can_be_let_go_of():
    def live_arrays():
        gc.collect()
        return len(jax.live_arrays())

    def check():
        observables.parse("energy").check(unrelaxed(cases.vacancy_crystal(), LJ))

    check()
    before = live_arrays()
    for _ in range(3):
        check()
    assert live_arrays() == before
