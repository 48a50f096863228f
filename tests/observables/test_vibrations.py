"""Frequencies of vibrations against closed forms, Hessians and re-relaxed differences."""

import functools
import pickle

import ase
import ase.build
import ase.units
import cases
import equinox as eqx
import jax
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import System, mechanics, observables
from mdsens.errors import InputError
from mdsens.observables import (
    heat_capacity,
    phonon_density_of_states,
    phonon_frequencies,
    vibrational_entropy,
    vibrational_free_energy,
    zero_point_energy,
)
from mdsens.potentials import LennardJones, SoftSphere, StillingerWeber, SuttonChen

pytestmark = pytest.mark.xdist_group("vibrations")
LJ = LennardJones(1.0, 1.0, 2.5, "none")
SW = StillingerWeber(2.1683, 2.0951, **cases.SILICON)


def at(system, potential):
    """A structure as it is."""
    return mdsens.relax(system, potential, max_steps=0)


@functools.cache
def silicon():
    return mdsens.relax(
        System.from_ase(ase.build.bulk("Si", "diamond", 5.43)), SW, fmax=1e-11, cell="full"
    )


@functools.cache
def cluster():
    return mdsens.relax(cases.bipyramid(("Ar", "Ne")), LJ, fmax=1e-12)


@functools.cache
def alloy():
    """Two kinds of atoms in a triclinic cell smaller than the cutoff; nothing is symmetric."""
    cell = np.array([[3.3, 0.2, 0.1], [0.5, 3.1, -0.2], [-0.3, 0.4, 3.2]])
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.02], [0.5, 0, 0.5], [0.03, 0.5, 0.5]])
    atoms = ase.Atoms(["Ar", "Kr", "Ar", "Ar"], cell=cell, scaled_positions=fractional, pbc=True)
    tables = [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]]
    potential = LennardJones(*tables, 4.3, species=("Ar", "Kr"))
    return mdsens.relax(System.from_ase(atoms), potential, fmax=1e-13, cell="full")


# Closed forms ------------------------------------------------------------------------------------

#: A row of discs that push their neighbours: of stiffness K along it, and less than none across.
SPACING, STIFFNESS = 0.9, 3.0
DISCS = SoftSphere(1.0, STIFFNESS)
ALONG, ACROSS = STIFFNESS, STIFFNESS * (1.0 - 1.0 / SPACING)


def row(species=(0,), symbols=("A",)):
    count = len(species)
    positions = np.zeros((count, 2))
    positions[:, 0] = SPACING * np.arange(count)
    return System(
        positions, np.diag([SPACING * count, 1.0]), symbols, species, (True, False),
        units="reduced",
    )  # fmt: skip


@pytest.mark.parametrize("q", [0.0, 0.1, 0.37, 0.5, 1.0, -1.3])
def test_a_row_of_discs_has_sines_for_frequencies(q):
    """Along it omega^2 = 4 K/m sin^2(pi q); across it buckles, which is an imaginary frequency."""
    found = phonon_frequencies([q, 0])(at(row(), DISCS))
    sine = 2.0 * abs(np.sin(np.pi * q)) / (2 * np.pi)
    expected = [-np.sqrt(-ACROSS) * sine, np.sqrt(ALONG) * sine]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("q", [0.0, 0.2, 0.5])
def test_two_kinds_of_discs_have_an_acoustic_and_an_optical_branch(q):
    """C. Kittel, Introduction to Solid State Physics, 8th ed., chapter 4, eq. 20."""
    light, heavy = 0.7, 2.5
    asked = phonon_frequencies([q, 0], {"A": light, "B": heavy})
    found = asked(at(row((0, 1), ("A", "B")), DISCS))
    both = 1.0 / light + 1.0 / heavy
    root = np.sqrt(both**2 - 4.0 * np.sin(np.pi * q) ** 2 / (light * heavy))
    squares = np.concatenate([k * np.array([both - root, both + root]) for k in (ALONG, ACROSS)])
    expected = np.sort(np.sign(squares) * np.sqrt(np.abs(squares))) / (2 * np.pi)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-9)


def test_a_pair_swings_with_its_reduced_mass_in_terahertz():
    """Of a Lennard-Jones pair at rest phi'' = 72 epsilon / 2^(1/3) sigma^2."""
    epsilon, sigma = 0.0104, 3.4
    potential = LennardJones(epsilon, sigma, 12.0, "none")
    start = System(np.array([[0, 0, 0], [2.0, 2.0, 2.0]]), symbols=("Ar", "Kr"), species=[0, 1])
    pair = mdsens.relax(start, potential, fmax=1e-14)
    joule, u = 1.602176634e-19, 1.66053906660e-27
    newton_per_metre = 72 * epsilon / (2 ** (1 / 3) * sigma**2) * joule * 1e20
    frequency = np.sqrt(newton_per_metre * (1 / 39.948 + 1 / 83.798) / u) / (2 * np.pi) * 1e-12
    found = phonon_frequencies()(pair)
    # The constants of ASE are those of 2014.
    np.testing.assert_allclose(found, [0, 0, 0, 0, 0, frequency], rtol=3e-8, atol=0)
    sensitivity = mdsens.sensitivity(pair, "phonon_frequencies")
    slopes = sensitivity["phonon_frequencies"]
    vibration = np.eye(6)[5] * np.asarray(found)
    np.testing.assert_allclose(slopes["epsilon"], vibration / (2 * epsilon), rtol=1e-10, atol=0)
    np.testing.assert_allclose(slopes["sigma"], -vibration / sigma, rtol=1e-10, atol=0)
    assert sensitivity.observables["phonon_frequencies"].units == "THz"


# Hessians ----------------------------------------------------------------------------------------


def squares(equilibrium, masses, free=None):
    """Eigenvalues of the Hessian with masses, of atoms that may move."""
    hessian = mechanics.sparse_hessian(
        equilibrium.system, equilibrium.potential, equilibrium.edge_list
    ).toarray()
    weights = np.repeat(1.0 / np.sqrt(masses), equilibrium.system.dimension)
    moving = np.repeat(
        np.ones(len(masses), bool) if free is None else free, len(hessian) // len(masses)
    )
    return np.linalg.eigvalsh((weights[:, None] * hessian * weights)[np.ix_(moving, moving)])


def test_a_cluster_has_its_normal_modes():
    masses = [39.948, 39.948, 20.18, 20.18, 20.18]
    expected = np.sqrt(squares(cluster(), masses)[6:]) / (2 * np.pi)
    asked = phonon_frequencies(masses={"Ar": 39.948, "Ne": 20.18})
    for one in (asked, phonon_frequencies(masses=masses)):
        found = np.asarray(one(cluster()))
        assert not found[:6].any(), "it moves and turns freely"
        np.testing.assert_allclose(found[6:], expected, rtol=1e-10)


def test_what_is_fixed_is_still():
    system = cluster().system.with_fixed([0, 2, 3])
    held = at(system, LJ)
    free = ~np.asarray(system.fixed)
    expected = np.sqrt(squares(held, np.ones(5), free)) / (2 * np.pi)
    found = np.asarray(phonon_frequencies()(held))
    assert not found[:9].any()
    np.testing.assert_allclose(found[9:], expected, rtol=1e-10)


@pytest.mark.parametrize(("cell", "free"), [("wire", 4), ("slab", 3), ("flat", 2)])
def test_what_costs_nothing_by_symmetry_is_still(cell, free):
    """Also far from rest, where forces would have a turn cost energy."""
    found = np.asarray(phonon_frequencies()(at(cases.structure(cell, cases.POTENTIALS["lj-smooth"]),
                                               cases.POTENTIALS["lj-smooth"])))  # fmt: skip
    assert (found == 0.0).sum() == free


@pytest.mark.slow
def test_the_waves_of_a_primitive_cell_are_modes_of_a_conventional_one():
    """Diamond at Gamma and X; its cube holds both."""
    cube = System.from_ase(
        ase.build.bulk("Si", "diamond", float(np.cbrt(4 * silicon().volume)), cubic=True)
    )
    expected = np.asarray(phonon_frequencies()(at(cube, SW)))
    faces = ([0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0])
    found = np.concatenate([np.asarray(phonon_frequencies(q)(silicon())) for q in (None, *faces)])
    np.testing.assert_allclose(np.sort(found), expected, rtol=1e-9, atol=1e-12)


# Energies of vibrations --------------------------------------------------------------------------


def test_vibrations_have_the_energies_of_quantum_oscillators():
    """Sums over levels, with all wave vectors of the mesh one by one."""
    counts = (3, 2, 2)
    mesh = np.argwhere(np.ones(counts)) / counts
    frequencies = np.concatenate([np.asarray(phonon_frequencies(q)(silicon())) for q in mesh])
    planck = 4.135667696e-3
    levels = planck * frequencies[frequencies > 0][:, None] * (np.arange(2000) + 0.5)
    temperature, k = 300.0, 8.617333262e-5
    weights = np.exp(-levels / (k * temperature))
    sums = weights.sum(axis=1)
    mean = (weights * levels).sum(axis=1) / sums
    square = (weights * levels**2).sum(axis=1) / sums
    free = -k * temperature * np.log(sums)
    expected = {
        zero_point_energy(counts): levels[:, 0].sum(),
        vibrational_free_energy(temperature, counts): free.sum(),
        vibrational_entropy(temperature, counts): (mean - free).sum() / temperature,
        heat_capacity(temperature, counts): (square - mean**2).sum() / (k * temperature**2),
    }
    for observable, value in expected.items():
        # The constants of ASE are those of 2014.
        assert float(observable(silicon())) == pytest.approx(value / len(mesh), rel=1e-6)


def test_heat_and_cold_have_their_limits():
    modes = 6 - 3 / 8
    assert float(heat_capacity(1e6, 2)(silicon())) == pytest.approx(modes * ase.units.kB, rel=1e-6)
    assert float(heat_capacity(1e-2, 2)(silicon())) == 0.0
    assert float(vibrational_entropy(1e-2, 2)(silicon())) == 0.0
    cold = float(vibrational_free_energy(1e-2, 2)(silicon()))
    assert cold == pytest.approx(float(zero_point_energy(2)(silicon())), rel=1e-14)


def test_a_density_of_states_counts_vibrations():
    """In a mesh of which phonon_frequencies gives all wave vectors one by one."""
    counts, width = (3, 2, 2), 0.4
    mesh = np.argwhere(np.ones(counts)) / counts
    frequencies = np.concatenate([np.asarray(phonon_frequencies(q)(silicon())) for q in mesh])
    asked = phonon_density_of_states(30, counts, 60, width)
    centres = (np.arange(60) + 0.5) / 2
    gaussians = np.exp(-0.5 * ((centres[:, None] - frequencies) / width) ** 2)
    expected = gaussians.sum(axis=1) / (width * np.sqrt(2 * np.pi)) / len(mesh)
    found = np.asarray(asked(silicon()))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    # Half of the translations' Gaussians are below zero.
    assert found.sum() / 2 == pytest.approx(6 - 1.5 / len(mesh), rel=1e-3)
    assert asked.units == "1/THz"
    assert asked.labels[:2] == ("f=0.25", "f=0.75")


def test_a_saddle_has_no_energy_of_vibrations():
    linear = System(np.array([[-1.0, 0, 0], [0, 0, 0], [1.0, 0, 0]]) * 3.7, symbols="Ar")
    with pytest.raises(
        InputError, match=r"2 are imaginary, the worst at q = \(0, 0, 0\) with .*i THz"
    ):
        zero_point_energy()(at(linear, LennardJones(0.01, 3.4, 12.0, "none")))


# Derivatives -------------------------------------------------------------------------------------


def agrees_with_relaxations(equilibrium, names, wrt, of, step=2e-4, cell="full", rtol=1e-6):
    """Derivatives of functions of observables against those of structures that relax again."""
    sensitivity = mdsens.sensitivity(equilibrium, names, wrt=wrt)
    for parameter in sensitivity.parameters:
        value = equilibrium.potential.parameters[parameter]

        def relaxed(change, parameter=parameter, value=value):
            potential = equilibrium.potential.with_parameters({parameter: value * (1 + change)})
            again = mdsens.relax(equilibrium.system, potential, fmax=equilibrium.fmax, cell=cell)
            return np.concatenate([of(np.atleast_1d(observables.parse(n)(again))) for n in names])

        # Three standard deviations of what relaxing again leaves, as fourth differences show.
        noise = 1e-13 * np.abs(relaxed(0.0)).max()
        oracle = numerical.derivative(relaxed, 0.0, step, noise=noise)
        found = np.concatenate([of(np.atleast_1d(sensitivity[name][parameter])) for name in names])
        numerical.agrees(found * value, oracle, rtol=rtol)


@pytest.mark.slow
@cases.thorough("Euler's theorem, which the study of phonons has to obey")
def test_without_other_lengths_and_energies_frequencies_scale():
    """Omega is sqrt(epsilon)/sigma times a number, whatever the wave vector, in a cell at rest."""
    names = ["phonon_frequencies", "phonon_frequencies([0.1,0.25,0.4])", "heat_capacity(300,2)"]
    sensitivity = mdsens.sensitivity(silicon(), names, wrt=["epsilon", "sigma"])
    for name in names[:2]:
        value = np.asarray(sensitivity.observed[name])
        np.testing.assert_allclose(
            2.1683 * np.asarray(sensitivity[name]["epsilon"]), value / 2, rtol=1e-9, atol=0
        )
        np.testing.assert_allclose(
            2.0951 * np.asarray(sensitivity[name]["sigma"]), -value, rtol=1e-9, atol=0
        )
    # A heat capacity depends on T/omega, and so changes with the temperature as with 1/omega.
    slope = numerical.derivative(
        lambda t: heat_capacity(300 * (1 + t), 2)(silicon()), 0.0, 0.02, noise=1e-18
    )
    by_epsilon = 2.1683 * float(sensitivity[names[2]]["epsilon"])
    numerical.agrees(np.asarray(-2.0 * by_epsilon), slope, rtol=1e-6)


@pytest.mark.slow
def test_frequencies_follow_parameters_in_an_alloy():
    names = [
        "phonon_frequencies([0.13,0.27,0.41])", "vibrational_free_energy(40,2)",
        "phonon_density_of_states(4,2,8)",
    ]  # fmt: skip
    parameters = ["epsilon[Ar-Kr]", "sigma[Ar-Ar]"]
    agrees_with_relaxations(alloy(), names, parameters, lambda value: value, step=1e-4)


def test_sums_over_equal_frequencies_follow_parameters():
    """A bipyramid has pairs of them: of a pair it is the mean that has a derivative."""
    equilibrium = cluster()
    frequencies = np.asarray(phonon_frequencies(masses={"Ar": 1, "Ne": 2})(equilibrium))
    distinct = np.unique(frequencies.round(9), return_inverse=True)[1]
    assert len(set(distinct)) < len(frequencies) - 6, "pairs are equal"

    def sums(values):
        return np.bincount(distinct, values)

    name = "phonon_frequencies(None,{'Ar':1,'Ne':2})"
    agrees_with_relaxations(equilibrium, [name], ["sigma", "epsilon"], sums, cell=None)
    slopes = np.asarray(mdsens.sensitivity(equilibrium, name, wrt="sigma")[name]["sigma"])
    means = sums(slopes) / np.bincount(distinct)
    np.testing.assert_array_equal(slopes, means[distinct].astype(slopes.dtype))


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["lambda_", "gamma"])
def test_frequencies_of_silicon_follow_its_three_body_terms(parameter):
    agrees_with_relaxations(
        silicon(), ["phonon_frequencies([0.1,0.25,0.4])"], parameter, lambda value: value
    )


@pytest.mark.slow
def test_frequencies_of_a_metal_follow_its_embedding():
    potential = SuttonChen(0.0124, 3.61, 39.4, 9.0, 6.0, 4.8)
    copper = mdsens.relax(
        System.from_ase(ase.build.bulk("Cu", "fcc", 3.6)), potential, fmax=1e-12, cell="full"
    )
    agrees_with_relaxations(
        copper, ["phonon_frequencies([0.1,0.25,0.4])"], ["c", "m"], lambda value: value
    )


@pytest.mark.slow
def test_frequencies_follow_parameters_forwards_backwards_and_under_jit():
    equilibrium, name = alloy(), "phonon_frequencies([0.13,0.27,0.41])"
    forward, reverse = (
        mdsens.sensitivity(equilibrium, name, wrt="sigma[Ar-Kr]", mode=mode)[name]["sigma[Ar-Kr]"]
        for mode in ("forward", "reverse")
    )
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-12)

    @jax.jit
    def lowest(potential):
        relaxed = mdsens.relax(equilibrium.system, potential, fmax=1e-13, cell="full")
        return phonon_frequencies([0.13, 0.27, 0.41])(relaxed)[0]

    potential = equilibrium.potential
    value, slope = jax.value_and_grad(lowest)(potential)
    observed = np.asarray(phonon_frequencies([0.13, 0.27, 0.41])(equilibrium))
    assert float(value) == pytest.approx(observed[0], rel=1e-9)
    assert float(potential.derivative(slope, "sigma[Ar-Kr]")) == pytest.approx(
        float(forward[0]), rel=1e-8
    )


def test_modes_that_are_traced_are_those_of_the_host():
    asked, name = phonon_frequencies(masses={"Ar": 1, "Ne": 2}), "sigma"

    def frequencies(potential):
        return asked(eqx.tree_at(lambda e: e.landscape.potential, cluster(), potential))

    direction = LJ.direction(name)
    value, slope = jax.jvp(frequencies, (LJ,), (direction,))
    np.testing.assert_allclose(value, asked(cluster()), rtol=1e-10, atol=1e-12)
    # At fixed positions: of the potential alone.
    oracle = numerical.derivative(
        lambda change: frequencies(LJ.with_parameters({name: 1.0 + change})), noise=1e-14
    )
    still = np.asarray(value) == 0.0
    numerical.agrees(np.asarray(slope)[~still], oracle[~still], rtol=1e-5)
    assert not np.asarray(slope)[still].any()


@pytest.mark.slow
def test_many_structures_have_the_frequencies_of_each():
    starts = [cases.bipyramid(("Ar", "Ne")), cluster().system]
    batch = mdsens.relax_batch(starts, LJ, fmax=1e-11)
    found = mdsens.sensitivity_batch(batch, "phonon_frequencies", wrt="sigma")
    one = mdsens.sensitivity(batch[0], "phonon_frequencies", wrt="sigma")
    for of_batch, alone in (
        (found.observed["phonon_frequencies"][0], one.observed["phonon_frequencies"]),
        (found["phonon_frequencies"]["sigma"][0], one["phonon_frequencies"]["sigma"]),
    ):
        np.testing.assert_allclose(of_batch, alone, rtol=1e-7, atol=1e-9)


# Names and refusals ------------------------------------------------------------------------------


def test_names_hold_wave_vectors_meshes_and_masses():
    asked = [
        phonon_frequencies(), phonon_frequencies([0, 0, 0]), phonon_frequencies([0.5, 0, 1 / 3]),
        phonon_frequencies(masses={"Ar": 40}), phonon_frequencies(masses=[1.0, 2.5]),
        phonon_frequencies([0.5, 0.5], {"B": 2, "A": 1}), zero_point_energy(), zero_point_energy(4),
        zero_point_energy((4, 4, 1)), heat_capacity(300), heat_capacity(300, 4),
        heat_capacity(300, 4, {"Ar": 40}), vibrational_entropy(300, 4),
        vibrational_free_energy(0.1, [2, 3, 4]), phonon_density_of_states(5),
        phonon_density_of_states(5, 4), phonon_density_of_states(5, 4, 100, 0.1),
        phonon_density_of_states(5, 4, masses={"Ar": 40}),
    ]  # fmt: skip
    assert len({one.name for one in asked}) == len(asked)
    for one in asked:
        assert observables.parse(one.name) is one
        assert pickle.loads(pickle.dumps(one)) is one
    assert phonon_frequencies(masses={"Ar": 40}).name == "phonon_frequencies(None,{'Ar':40})"
    assert phonon_frequencies(np.array([0.5, 0])) is phonon_frequencies((0.5, -0.0))
    assert heat_capacity(300).units == vibrational_entropy(300).units == "eV/K"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("phonon_frequencies([0.1, 0.2])", "q has 2 numbers: give 3"),
        ("phonon_frequencies([0, 0, 0.5])", "q is 0.5 in direction 2, which is not periodic"),
        (
            "phonon_frequencies(masses={'Xe': 1})",
            "masses names the species 'Xe', of which there is no atom",
        ),
        ("phonon_frequencies(masses=[1, 2])", "2 masses for 5 atoms"),
        ("phonon_frequencies()", "the species 'A' is no chemical element and has no mass"),
        ("zero_point_energy()", "say how many wave vectors"),
        ("zero_point_energy([2, 2, 2])", "mesh is 2 in direction 2"),
        ("heat_capacity(300, [2, 2])", "mesh has 2 numbers: give 3"),
        ("heat_capacity(300, 10**6)", "cannot be read"),
        ("heat_capacity(300, 100000, {'A': 1, 'B': 1})", "take a coarser mesh"),
    ],
)
def test_what_a_slab_has_no_vibrations_of(asked, message):
    system = cases.structure("slab", cases.POTENTIALS["lj-binary"])
    slab = System(
        system.positions, system.cell, system.symbols, system.species, system.pbc, units="ase"
    )
    with pytest.raises(InputError, match=message) as caught:
        observables.parse(asked)(at(slab, cases.POTENTIALS["lj-binary"]))
    assert "\n" not in str(caught.value)


def test_reduced_units_have_no_planck_constant():
    with pytest.raises(InputError, match="reduced units: they have no Planck constant"):
        zero_point_energy()(cluster())


def test_too_many_vibrations_are_refused_before_any_is_computed():
    many = System(np.random.default_rng(1).random((1001, 3)) * 100, symbols="Ar")
    with pytest.raises(InputError, match="3003 vibrations of each wave vector, and up to 3000"):
        phonon_frequencies().check(mdsens.relaxation.unrelaxed(many, LJ))
