"""Closed forms, truncations, names of parameters, and what potentials refuse."""

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError
from mdsens.mechanics import energy
from mdsens.particles import find_edges
from mdsens.potentials import (
    WCA,
    LennardJones,
    Morse,
    Parameter,
    SoftSphere,
    StillingerWeber,
    TruncatedPairPotential,
    parameter,
)
from mdsens.potentials.pair import require_cutoff_above

pytestmark = pytest.mark.xdist_group("potentials")
CUTOFF, ONSET = 2.5, 2.25


class Buckingham(TruncatedPairPotential):
    """A potential as a user would write it: A exp(-r/rho) - C/r^6."""

    A: Parameter = parameter("energy", positive=True)
    rho: Parameter = parameter("length", positive=True)
    C: Parameter = parameter("energy*length^6", minimum=0.0)

    def pair_energies(self, r):
        return self.A * jnp.exp(-r / self.rho) - self.C / r**6


def derivatives(potential, r):
    """Energy of a pair and its first two derivatives at distance r."""
    phi, r = potential.truncated_pair_energies, jnp.asarray(r)
    return [float(f(r)) for f in (phi, jax.grad(phi), jax.grad(jax.grad(phi)))]


def lennard_jones(r, epsilon=1.0, sigma=1.0):
    """Energy, slope and curvature in closed form."""
    x6 = (sigma / r) ** 6
    return [
        4 * epsilon * (x6**2 - x6),
        4 * epsilon * (-12 * x6**2 + 6 * x6) / r,
        4 * epsilon * (156 * x6**2 - 42 * x6) / r**2,
    ]


@pytest.mark.parametrize("r", [0.9, 1.3, 2.2])
def test_lennard_jones_is_its_formula(r):
    ours = derivatives(LennardJones(1.4, 1.1, CUTOFF, "none"), r)
    np.testing.assert_allclose(ours, lennard_jones(r, 1.4, 1.1), rtol=1e-12)


def test_morse_has_its_depth_place_and_curvature():
    ours = derivatives(Morse(1.4, 3.0, 1.1, CUTOFF), 1.1)
    np.testing.assert_allclose(ours, [-1.4, 0.0, 2 * 1.4 * 3.0**2], rtol=1e-12, atol=1e-12)


def test_wca_is_lennard_jones_lifted_to_end_at_its_minimum():
    potential = WCA(1.4, 1.1)
    expected = lennard_jones(1.15, 1.4, 1.1)
    expected[0] += 1.4
    np.testing.assert_allclose(derivatives(potential, 1.15), expected, rtol=1e-12)
    end = float(potential.interaction_range)
    assert end == pytest.approx(2 ** (1 / 6) * 1.1, rel=1e-15)
    assert derivatives(potential, end + 1e-9) == [0, 0, 0]


@pytest.mark.parametrize(("law", "alpha"), [("harmonic", 2.0), ("hertzian", 2.5), (3.0, 3.0)])
def test_soft_spheres_follow_a_power_of_their_overlap(law, alpha):
    potential, overlap, d = SoftSphere(1.3, 0.7, law), 0.2, 1.3
    expected = [
        0.7 / alpha * overlap**alpha,
        -0.7 / d * overlap ** (alpha - 1),
        0.7 * (alpha - 1) / d**2 * overlap ** (alpha - 2),
    ]
    np.testing.assert_allclose(derivatives(potential, 0.8 * d), expected, rtol=1e-12)
    assert derivatives(potential, 1.01 * d) == [0, 0, 0]


@pytest.mark.parametrize(
    ("truncation", "smoothness"), [("none", 0), ("shifted", 1), ("force-shifted", 2), ("smooth", 3)]
)
def test_a_truncation_is_as_smooth_at_its_cutoff_as_it_promises(truncation, smoothness):
    inside = derivatives(LennardJones(1.0, 1.0, CUTOFF, truncation), CUTOFF - 1e-11)
    assert derivatives(LennardJones(1.0, 1.0, CUTOFF, truncation), CUTOFF) == [0, 0, 0]
    # The curvature of the switch goes to zero linearly: it is nearly there.
    continuous = np.abs(inside) < 1e-8
    assert continuous.tolist() == [order < smoothness for order in range(3)]


@pytest.mark.parametrize(
    ("truncation", "shift", "tilt"), [("none", 0, 0), ("shifted", 1, 0), ("force-shifted", 1, 1)]
)
def test_a_truncation_shifts_and_tilts_as_it_says(truncation, shift, tilt):
    r, edge = 1.7, lennard_jones(CUTOFF)
    expected = lennard_jones(r)
    expected[0] -= shift * edge[0] + tilt * (r - CUTOFF) * edge[1]
    expected[1] -= tilt * edge[1]
    ours = derivatives(LennardJones(1.0, 1.0, CUTOFF, truncation), r)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_the_switch_begins_with_two_derivatives():
    potential = LennardJones(1.0, 1.0, CUTOFF)
    for distance in (ONSET - 1e-9, ONSET + 1e-9):
        np.testing.assert_allclose(
            derivatives(potential, distance), lennard_jones(ONSET), rtol=1e-6
        )


def test_the_switch_is_one_half_in_the_middle():
    middle = jnp.asarray((CUTOFF + 1.5) / 2)
    energy = LennardJones(1.0, 1.0, CUTOFF, onset=1.5).truncated_pair_energies(middle)
    assert float(energy) == pytest.approx(lennard_jones(middle)[0] / 2, rel=1e-12)


# Names


def test_tables_have_a_parameter_for_every_pair():
    potential = cases.POTENTIALS["lj-binary"]
    assert potential.parameters["sigma[A-B]"] == 0.9
    assert potential.parameter_names == (
        "epsilon[A-A]", "epsilon[A-B]", "epsilon[B-B]", "sigma[A-A]", "sigma[A-B]", "sigma[B-B]",
    )  # fmt: skip


def test_a_pair_has_no_order():
    potential = LennardJones({"Kr-Ar": 1.1, "Ar-Ar": 1.0, "Kr-Kr": 1.2}, 1.0, 3.0,
                             species=("Ar", "Kr"))  # fmt: skip
    assert potential.parameters["epsilon[Ar-Kr]"] == 1.1
    changed = potential.with_parameters({"epsilon[Kr-Ar]": 1.15})
    assert changed.epsilon.tolist() == [[1.0, 1.15], [1.15, 1.2]]


def test_diameters_by_species_are_named_by_species():
    potential = SoftSphere({"large": 1.4, "small": 1.0}, species=("small", "large"))
    assert potential.parameters["diameter[large]"] == 1.4


@pytest.mark.parametrize("name", ["lj-binary", "hertzian-by-species", "sw"])
def test_a_direction_is_the_change_of_one_parameter(name):
    potential = cases.POTENTIALS[name]
    for parameter_name, value in potential.parameters.items():
        moved = potential.with_parameters({parameter_name: value + 1e-3})
        expected = jax.tree.map(lambda a, b: (a - b) / 1e-3, moved, potential)
        ours = jax.tree.leaves(potential.direction(parameter_name))
        for entry, difference in zip(ours, jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(entry, difference, atol=1e-9)


def test_parameters_know_their_units():
    assert Morse(1.0, 3.0, 1.1, 2.5).parameter_units("alpha") == "1/Ang"
    assert Morse(1.0, 3.0, 1.1, 2.5).parameter_units("alpha", "reduced") == "reduced"


def test_a_potential_does_not_share_memory_with_its_tables():
    table = np.ones((20, 20))
    potential = LennardJones(table, 1.0, 2.5, species=[f"s{i}" for i in range(20)])
    table[:] = 7.0
    assert float(jnp.max(potential.epsilon)) == 1.0


AB = ("A", "B")
NAN = float("nan")


def lennard(epsilon=1.0, sigma=1.0, cutoff=2.5, **options):
    return lambda: LennardJones(epsilon, sigma, cutoff, **options)


def silicon(**changes):
    return lambda: StillingerWeber(1.0, 1.0, **{**cases.SILICON, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lennard(-1.0), "LennardJones: epsilon = -1.0: give a finite number above 0"),
        (lennard(sigma=0.0), "sigma = 0.0: give a finite number above 0"),
        (lennard(NAN), "epsilon = nan is not finite: give a finite number above 0"),
        (lennard(True), "epsilon = True: give numbers"),
        (lennard("0.01"), "epsilon = '0.01': give numbers"),
        (lennard(None), "epsilon = None: give numbers"),
        (lennard(1j), "epsilon = 1j: give numbers"),
        (lennard(np.array([[True] * 2] * 2), species=AB), "epsilon = .*: give numbers"),
        (lennard([[1.0, NAN], [NAN, 1.0]], species=AB), "epsilon = .* is not finite in rows 0, 1"),
        (lennard([[1.0, -1.0], [-1.0, 1.0]], species=AB), "give finite numbers above 0"),
        (lennard(cutoff=0.9), "cutoff = 0.9 is not above sigma = 1: give a larger cutoff"),
        (lennard(1.0, [[1.0, 3.0], [3.0, 1.0]], species=AB), "not above sigma = 3"),
        (lennard(cutoff=np.inf), "cutoff = inf: give a finite number above 0"),
        (lennard(cutoff="2.5"), "cutoff = '2.5': give a finite number above 0"),
        (lennard(cutoff=True), "cutoff = True: give a finite number above 0"),
        (lennard(cutoff=[2.5, 2.5]), r"cutoff = \[2.5, 2.5\]: give a finite number above 0"),
        (lennard(truncation="smoth"), "'smoth': allowed are none, shifted.* mean 'smooth'"),
        (lennard(truncation=[]), r"truncation = \[\]: allowed are none, shifted"),
        (lennard(onset=2.5), "onset = 2.5: give a finite number of at least 0 and below 2.5"),
        (lennard(onset=-0.1), "onset = -0.1: give a finite number of at least 0"),
        (lennard(onset="2"), "onset = '2': give a finite number"),
        (lennard([[1, 2], [3, 4]], species=AB), "not symmetric"),
        (lennard([[1, 2], [2, 4]]), "name its rows"),
        (lennard([[1, 2], [2]], species=AB), "epsilon = .*: give numbers"),
        (lennard({"A-B": 1.0}), "name its rows"),
        (lennard({"A-A": 1.0, "A-B": 1.0}, species=AB), "no value for B-B"),
        (lennard({"A-C": 1.0}, species=AB), "'A-C' is no pair of the species A, B"),
        (lennard({("A", "B"): 1.0}, species=AB), "is no pair of the species A, B"),
        (lennard({"A": 1.0, "B": 1.0}, species=AB), "species-by-species table"),
        (
            lennard({"A-A": 1.0, "A-B": 1.0, "B-A": 2.0, "B-B": 1.0}, species=AB),
            "epsilon: 'A-B' and 'B-A' are the same: give its value once",
        ),
        (
            lennard({"A-A": 1.0, "B-A": 1.0, "A-B": 1.0, "B-B": 1.0}, species=AB),
            "epsilon: 'B-A' and 'A-B' are the same: give its value once",
        ),
        (
            lennard({"A-A": 1.0, "A-B": "2", "B-B": 1.0}, species=AB),
            r"epsilon\[A-B\] = '2': give numbers",
        ),
        (
            lennard({"A-A": 1.0, "A-B": [1.0], "B-B": 1.0}, species=AB),
            r"epsilon\[A-B\] has shape \(1,\): give one number",
        ),
        (lennard(np.ones((3, 3)), species=AB), r"is \(2, 2\)"),
        (lennard([1.0, 2.0], species=AB), "species-by-species table"),
        (lennard(species=("Ar", "Ar")), "species = .*: 'Ar' is given twice"),
        (lennard(species=("Ar", "")), "species = .*: '' is no name"),
        (lennard(species=("Ar", 3)), "species = .*: 3 is no name"),
        (lennard(species=[]), r"species = \[\]: give a name"),
        (lennard(species=3), "species = 3: give a name"),
        (lennard(species=("A", "B", "A-B")), "'A-B' may be read in two ways"),
        (lennard(species=("A", "A-B", "B-A")), "'A-B-A' may be read in two ways"),
        (lambda: Morse(1.0, -1.0, 1.0, 2.5), "alpha = -1.0"),
        (lambda: Morse(1.0, 1.0, 3.0, 2.5), "not above r0 = 3: give a larger cutoff"),
        (lambda: SoftSphere(1.0, alpha=1.5), "alpha = 1.5: give a finite number of at least 2"),
        (lambda: SoftSphere(1.0, alpha=NAN), "alpha = nan: give a finite number of at least 2"),
        (lambda: SoftSphere(1.0, alpha=None), "alpha = None: give a finite number of at least 2"),
        (lambda: SoftSphere(1.0, alpha="hertz"), "'hertz': allowed are harmonic, hertzian"),
        (lambda: SoftSphere(-1.0), "diameter = -1.0"),
        (lambda: WCA(1.0, -1.0), "sigma = -1.0"),
        (silicon(lambda_=-1.0), "lambda_ = -1.0: give a finite number of at least 0"),
        (silicon(costheta0=-2), "costheta0 = -2.0: give a finite number of at least -1"),
        (silicon(costheta0=5), "costheta0 = 5.0: give a finite number .* of at most 1"),
        (silicon(costheta0=[[0.0]]), r"costheta0 has shape \(1, 1\): one value is allowed"),
        (silicon(p=0, q=4), "p = 0.0 is not above q = 4.0: give a repulsion of higher power"),
        (silicon(p=0.0, q=0.0), "p = 0.0 is not above q = 0.0"),
        (silicon(p=4.0, q=[[0.0, 5.0], [5.0, 0.0]], species=AB), "is not above q = "),
        (silicon(a=0.0), "a = 0.0: give a finite number above 0"),
    ],
    ids=range(58),
)  # fmt: skip
def test_what_potentials_refuse(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


class Bounded(Buckingham):
    """A potential of one's own with checks of both kinds."""

    def check_relations(self):
        super().check_relations()
        require_cutoff_above(self, "rho")

    def __check_init__(self):
        if self.cutoff > 100.0:
            raise InputError("too far")


BINARY = cases.POTENTIALS["lj-binary"]


@pytest.mark.parametrize(
    ("potential", "values", "message"),
    [
        (WCA(1.0, 1.0), {"sigm": 1.0}, "no parameter 'sigm'.*did you mean 'sigma'"),
        (WCA(1.0, 1.0), {3: 1.0}, "no parameter 3: allowed are epsilon, sigma"),
        (WCA(1.0, 1.0), {"sigma": -1.0}, "sigma = -1.0: give a finite number above 0"),
        (WCA(1.0, 1.0), "sigma", "values = 'sigma': give a dict"),
        (cases.POTENTIALS["lj-smooth"], {"sigma": NAN}, "sigma = nan is not finite"),
        (cases.POTENTIALS["lj-smooth"], {"epsilon": -1.0}, "epsilon = -1.0: give a finite number"),
        (cases.POTENTIALS["lj-smooth"], {"sigma": 2.6}, "not above sigma = 2.6"),
        (cases.POTENTIALS["lj-smooth"], {"sigma": True}, "sigma = True: give numbers"),
        (cases.POTENTIALS["lj-smooth"], {"sigma": "1"}, "sigma = '1': give numbers"),
        (cases.POTENTIALS["lj-smooth"], {"sigma": [1.0]}, "give one number"),
        (BINARY, {"sigma[A-B]": 3.0}, "not above sigma = 3"),
        (BINARY, {"sigma[A-B]": 1.0, "sigma[B-A]": 1.0}, "'sigma.A-B.' and 'sigma.B-A.' are the"),
        (BINARY, {"sigma[A-C]": 1.0}, "did you mean 'sigma"),
        (cases.POTENTIALS["sutton-chen"], {"m": 0.0}, "m = 0.0: give a finite number above 0"),
        (cases.POTENTIALS["sw"], {"costheta0": 1.5}, "costheta0 = 1.5"),
        (cases.POTENTIALS["sw"], {"q": 5.0}, "p = 4.0 is not above q = 5.0"),
        (Bounded(A=1.0, rho=0.1, C=0.0, cutoff=1.0), {"rho": 2.0}, "not above rho = 2"),
        (Bounded(A=1.0, rho=0.1, C=0.0, cutoff=1.0), {"C": -1.0}, "C = -1.0: .*of at least 0"),
    ],
    ids=range(18),
)  # fmt: skip
def test_changed_parameters_are_checked_as_when_first_given(potential, values, message):
    with pytest.raises(InputError, match=message) as caught:
        potential.with_parameters(values)
    assert "\n" not in str(caught.value)


def test_checks_of_one_s_own_are_made_for_changed_parameters_too():
    potential = Bounded(A=1.0, rho=0.1, C=0.0, cutoff=1.0)
    far = eqx.tree_at(lambda p: p.A, potential, potential.A)
    object.__setattr__(far, "cutoff", 200.0)
    with pytest.raises(InputError, match="too far"):
        far.with_parameters({"A": 2.0})


def test_parameters_may_be_traced():
    def made(sigma):
        given = LennardJones({"A-A": 1.0, "A-B": sigma, "B-B": 1.0}, sigma, 2.5, species=AB)
        changed = given.with_parameters({"epsilon[B-A]": 2.0 * sigma})
        return jnp.stack([given.epsilon[1, 0], changed.epsilon[0, 1], changed.sigma])

    value, slope = jax.jvp(made, (jnp.asarray(0.9),), (jnp.ones(()),))
    np.testing.assert_allclose(value, [0.9, 1.8, 0.9])
    np.testing.assert_allclose(slope, [1.0, 2.0, 1.0])
    assert made(jnp.float32(0.5)).dtype == jnp.float64
    assert jax.eval_shape(made, jnp.float32(0.5)).dtype == jnp.float64
    with pytest.raises(InputError, match=r"epsilon = .*give numbers"):
        jax.eval_shape(lambda epsilon: LennardJones(epsilon, 1.0, 2.5), jnp.asarray(True))


def test_one_name_is_one_species():
    assert LennardJones(1.0, 1.0, 2.5, species="Ar").species == ("Ar",)
    assert SoftSphere({"Ar": 1.0}, species="Ar").parameters["diameter[Ar]"] == 1.0


def test_a_dash_in_a_name_is_no_pair():
    names = ("C-sp2", "H")
    potential = LennardJones({"C-sp2-C-sp2": 1.0, "H-C-sp2": 1.5, "H-H": 2.0}, 1.0, 2.5,
                             species=names)  # fmt: skip
    assert potential.epsilon.tolist() == [[1.0, 1.5], [1.5, 2.0]]
    assert potential.parameters["epsilon[C-sp2-H]"] == 1.5
    assert potential.with_parameters({"epsilon[H-C-sp2]": 3.0}).epsilon[1, 0] == 3.0


@pytest.mark.slow
def test_a_potential_of_one_s_own_relaxes_and_has_sensitivities():
    def relaxed(potential):
        return mdsens.relax(cases.dimer(2.0), potential, fmax=1e-13)

    potential = Buckingham(A=1e5, rho=0.13, C=2.5, cutoff=4.0)

    def length(equilibrium):
        return cases.bond_lengths(equilibrium)[0]

    sens = mdsens.sensitivity(relaxed(potential), "distance(0,1)")
    noise = numerical.left_over(relaxed(potential), length)
    for name, value in potential.parameters.items():

        def again(new, name=name):
            return length(relaxed(potential.with_parameters({name: new})))

        expected = numerical.derivative(again, value, 1e-3 * value, noise=noise)
        numerical.agrees(sens["distance(0,1)"][name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "potential",
    [
        SoftSphere((1.4, 1.0), species=("A", "B")),
        SoftSphere([[1.4, 1.3], [1.3, 1.0]], species=("A", "B")),
        WCA(1.0, [[1.0, 0.7], [0.7, 0.8]], species=("A", "B")),
    ],
    ids=["diameters", "contact distances", "sigmas"],
)
def test_pairs_of_species_interact_within_their_range_and_not_beyond(potential):
    ranges = np.asarray(potential.pair_ranges)
    assert ranges.max() == float(potential.interaction_range)
    for first in range(2):
        for second in range(2):
            for factor, touching in ((1 - 1e-6, True), (1 + 1e-6, False)):
                r = ranges[first, second] * factor
                system = mdsens.System(
                    [[0.0, 0.0], [r, 0.0]], np.eye(2) * 20, ("A", "B"), [first, second],
                    units="reduced",
                )  # fmt: skip
                edge_list = find_edges(
                    np.asarray(system.positions), np.asarray(system.cell), system.pbc, 3.0
                )
                assert (float(energy(system, potential, edge_list)) > 0.0) == touching


def test_one_range_for_all_species_is_no_table():
    assert SoftSphere(1.0).pair_ranges is None
    assert WCA(1.0, 1.0).pair_ranges is None
    assert LennardJones(1.0, [[1.0, 0.9], [0.9, 0.8]], 2.5, species=("A", "B")).pair_ranges is None
