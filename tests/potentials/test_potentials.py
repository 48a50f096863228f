"""Closed forms, truncations, names of parameters, and what potentials refuse."""

import cases
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
    phi = potential.truncated_pair_energies
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
    middle = (CUTOFF + 1.5) / 2
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LennardJones(-1.0, 1.0, 2.5), "epsilon = -1.0 .* above zero"),
        (lambda: LennardJones(1.0, 0.0, 2.5), "sigma = 0.0 .* above zero"),
        (lambda: LennardJones(np.nan, 1.0, 2.5), "epsilon = nan is not finite"),
        (lambda: LennardJones(1.0, 1.0, 0.9), "give a larger cutoff"),
        (lambda: LennardJones(1.0, {"A": 1.0, "B": 3.0}, 2.5, species=AB), "larger cutoff"),
        (lambda: LennardJones(1.0, 1.0, np.inf), "positive length"),
        (lambda: LennardJones(1.0, 1.0, 2.5, "smoth"), "allowed are none, shifted"),
        (lambda: LennardJones(1.0, 1.0, 2.5, onset=2.5), "0 to below cutoff"),
        (lambda: LennardJones([[1, 2], [3, 4]], 1.0, 2.5, species=AB), "not symmetric"),
        (lambda: LennardJones([[1, 2], [2, 4]], 1.0, 2.5), "name its rows"),
        (lambda: LennardJones({"A-B": 1.0}, 1.0, 2.5), "name its rows"),
        (lambda: LennardJones({"A-A": 1.0, "A-B": 1.0}, 1.0, 2.5, species=AB), "no value for B-B"),
        (lambda: LennardJones({"A-C": 1.0}, 1.0, 2.5, species=AB), "'A-C' is no pair"),
        (lambda: LennardJones(np.ones((3, 3)), 1.0, 2.5, species=AB), r"is \(2, 2\)"),
        (lambda: LennardJones([1.0, 2.0], 1.0, 2.5, species=AB), "species-by-species table"),
        (lambda: Morse(1.0, -1.0, 1.0, 2.5), "alpha = -1.0"),
        (lambda: Morse(1.0, 1.0, 3.0, 2.5), "give a larger cutoff"),
        (lambda: SoftSphere(1.0, alpha=1.5), "at least 2"),
        (lambda: SoftSphere(1.0, alpha="hertz"), "harmonic, hertzian"),
        (lambda: SoftSphere(-1.0), "diameter = -1.0"),
        (lambda: WCA(1.0, -1.0), "sigma = -1.0"),
        (lambda: StillingerWeber(1.0, 1.0, **{**cases.SILICON, "lambda_": -1.0}), "at least 0"),
        (lambda: StillingerWeber(1.0, 1.0, **{**cases.SILICON, "costheta0": -2}), "at least -1"),
        (lambda: WCA(1.0, 1.0).with_parameters({"sigm": 1.0}), "did you mean 'sigma'"),
        (lambda: WCA(1.0, 1.0).with_parameters({"sigma": -1.0}), "above zero"),
    ],
    ids=range(25),
)
def test_what_potentials_refuse(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_potential_of_one_s_own_relaxes_and_has_sensitivities():
    def relaxed(potential):
        return mdsens.relax(cases.dimer(2.0), potential, fmax=1e-11)

    potential = Buckingham(A=1e5, rho=0.13, C=2.5, cutoff=4.0)
    sens = mdsens.sensitivity(relaxed(potential), "distance(0,1)")
    for name, value in potential.parameters.items():

        def again(new, name=name):
            return float(cases.bond_lengths(relaxed(potential.with_parameters({name: new})))[0])

        expected = numerical.derivative(again, value, 1e-3 * value)
        assert float(sens["distance(0,1)"][name]) == pytest.approx(expected, rel=1e-6)


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
