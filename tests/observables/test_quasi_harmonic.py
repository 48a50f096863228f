"""Gruneisen parameters and thermal expansion against closed forms, identities and differences."""

import functools

import ase
import ase.build
import ase.units
import cases
import jax
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import System, observables
from mdsens.errors import InputError
from mdsens.observables import (
    gruneisen_parameter,
    heat_capacity,
    mode_gruneisen_parameters,
    phonon_frequencies,
    quasi_harmonic_bulk_modulus,
    quasi_harmonic_lattice_constants,
    quasi_harmonic_volume,
    thermal_expansion,
)
from mdsens.potentials import LennardJones

pytestmark = pytest.mark.xdist_group("quasi_harmonic")
EPSILON, SIGMA = 0.0104, 3.405
NEAREST = LennardJones(EPSILON, SIGMA, 4.6, "none")
Q = [0.1, 0.25, 0.4]


def at_volume(system, potential, volume):
    """The same crystal at another volume, with its ions at rest."""
    cell = np.asarray(system.cell) * (volume / float(system.volume)) ** (1 / system.dimension)
    return mdsens.relax(system.with_cell(cell, scale_positions=True), potential, fmax=1e-12)


@functools.cache
def argon():
    """Near neighbours alone, which the range holds at all volumes."""
    atoms = ase.build.bulk("Ar", "fcc", 5.4)
    return mdsens.relax(System.from_ase(atoms), NEAREST, fmax=1e-12, cell="isotropic")


@functools.cache
def alloy():
    """Two kinds of atoms, of which nothing holds one in its place but forces."""
    cell = np.array([[3.3, 0.2, 0.1], [0.5, 3.1, -0.2], [-0.3, 0.4, 3.2]])
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.02], [0.5, 0, 0.5], [0.03, 0.5, 0.5]])
    atoms = ase.Atoms(["Ar", "Kr", "Ar", "Ar"], cell=cell, scaled_positions=fractional, pbc=True)
    tables = [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]]
    potential = LennardJones(*tables, 4.3, species=("Ar", "Kr"))
    return mdsens.relax(System.from_ase(atoms), potential, fmax=1e-13, cell="full")


# Gruneisen parameters ----------------------------------------------------------------------------


def test_a_crystal_of_near_neighbours_has_the_gruneisen_parameter_of_its_springs():
    """At rest omega^2 is proportional to phi''(r), and gamma = -r phi''' / 6 phi'' = 7/2 for 12-6.

    Away from r = 2^(1/6) sigma the slope of the pair energy counts too, as it does in its change.
    """
    r = 2 ** (1 / 6) * SIGMA
    # D(q) = sum over neighbours of (1 - cos) (phi'' n n + phi'/r (1 - n n)); in ln r, at phi' = 0,
    # phi'' = 72 epsilon / r^2 changes by -1512 epsilon / r^2 and phi' / r by phi''.
    fractions = np.array(Q)
    steps = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0], [1, 0, -1], [0, 1, -1]])
    cell = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / np.sqrt(2)
    directions = steps @ cell
    weights = 2 * (1 - np.cos(2 * np.pi * steps @ fractions))
    along = np.einsum("k,ki,kj->ij", weights, directions, directions)
    across = weights.sum() * np.eye(3) - along
    squares, vectors = np.linalg.eigh(along * 72 * EPSILON / r**2)
    change = (-1512 * along + 72 * across) * EPSILON / r**2
    slopes = np.diag(vectors.T @ change @ vectors) / 3
    np.testing.assert_allclose(
        mode_gruneisen_parameters(Q)(argon()), -slopes / (2 * squares), rtol=1e-9
    )


def test_frequencies_fall_by_their_gruneisen_parameters_with_ions_that_follow():
    """Against differences of crystals that are relaxed at each volume."""
    crystal = alloy()
    volume = float(crystal.volume)

    def logarithms(change):
        again = at_volume(crystal.system, crystal.potential, volume * np.exp(change))
        return np.log(np.asarray(phonon_frequencies(Q)(again)))

    oracle = numerical.derivative(logarithms, 0.0, 2e-4, noise=1e-12)
    numerical.agrees(-np.asarray(mode_gruneisen_parameters(Q)(crystal)), oracle, rtol=1e-6)


@pytest.mark.slow
@cases.thorough("the differences in which Gruneisen parameters are tested below")
def test_pure_numbers_do_not_scale():
    """Gruneisen parameters of modes depend on neither; a mean on T / omega alone."""
    names = [mode_gruneisen_parameters(Q).name, "gruneisen_parameter(30,2)"]
    found = mdsens.sensitivity(argon(), names)
    for parameter in ("epsilon", "sigma"):
        assert np.abs(found[names[0]][parameter]).max() * found.parameters[parameter] < 1e-9
    by_energy = EPSILON * float(found[names[1]]["epsilon"])
    by_length = SIGMA * float(found[names[1]]["sigma"])
    assert by_length == pytest.approx(-2 * by_energy, rel=1e-9)
    assert abs(by_energy) > 1e-6


@pytest.mark.slow
def test_gruneisen_parameters_follow_parameters_through_the_relaxation():
    crystal, name = alloy(), mode_gruneisen_parameters(Q).name
    parameter = "sigma[Ar-Kr]"
    found = mdsens.sensitivity(crystal, [name], wrt=parameter)[name][parameter]
    value = crystal.potential.parameters[parameter]

    def relaxed(change):
        potential = crystal.potential.with_parameters({parameter: value * (1 + change)})
        again = mdsens.relax(crystal.system, potential, fmax=1e-13, cell="full")
        return np.asarray(mode_gruneisen_parameters(Q)(again))

    numerical.agrees(
        np.asarray(found) * value, numerical.derivative(relaxed, 0.0, 1e-4, noise=1e-11), rtol=1e-6
    )


# Thermal expansion -------------------------------------------------------------------------------

T = 30.0


def test_at_its_volume_a_crystal_expands_by_its_gruneisen_parameter():
    """alpha = gamma C_V / (K V): the parameter there from slopes, K from another program."""
    volume = float(quasi_harmonic_volume(T, 2)(argon()))
    there = at_volume(argon().system, NEAREST, volume)
    modulus = float(quasi_harmonic_bulk_modulus(T, 2)(argon())) * ase.units.GPa
    expected = float(gruneisen_parameter(T, 2)(there)) * float(heat_capacity(T, 2)(there))
    found = float(thermal_expansion(T, 2)(argon()))
    assert found == pytest.approx(expected / (modulus * volume), rel=1e-8)


def test_the_volume_has_the_pressure_that_vibrations_balance():
    """-dE/dV = dF_vib/dV by differences, and it grows by alpha V with the temperature."""
    volume = float(quasi_harmonic_volume(T, 2)(argon()))

    def free_energy(change):
        there = at_volume(argon().system, NEAREST, volume * (1 + change))
        return np.asarray(observables.vibrational_free_energy(T, 2)(there))

    oracle = numerical.derivative(free_energy, 0.0, 2e-3, noise=1e-15)
    pressure = np.asarray(at_volume(argon().system, NEAREST, volume).pressure) * volume
    numerical.agrees(pressure, oracle, rtol=1e-7)
    slope = numerical.derivative(
        lambda t: np.log(np.asarray(quasi_harmonic_volume(T * (1 + t), 2)(argon()))), 0.0, 0.01,
        noise=1e-13,
    )  # fmt: skip
    numerical.agrees(np.asarray(thermal_expansion(T, 2)(argon())) * T, slope, rtol=1e-6)


def test_thermal_expansion_follows_parameters_and_the_pressure():
    """Against crystals that relax again; in a pressure the volume is that of the modulus."""
    names = [f"{kind}(30,2)" for kind in ("quasi_harmonic_volume", "thermal_expansion",
                                          "quasi_harmonic_bulk_modulus")]  # fmt: skip
    found = mdsens.sensitivity(argon(), names, wrt=["epsilon", "sigma", "pressure"])
    values = np.array([float(found.observed[name]) for name in names])
    for parameter, value in (("epsilon", EPSILON), ("sigma", SIGMA)):

        def relaxed(change, parameter=parameter, value=value):
            potential = NEAREST.with_parameters({parameter: value * (1 + change)})
            again = mdsens.relax(argon().system, potential, fmax=1e-12, cell="isotropic")
            return np.array([float(observables.parse(name)(again)) for name in names]) / values

        oracle = numerical.derivative(relaxed, 0.0, 4e-3 if parameter == "epsilon" else 1e-3,
                                      noise=1e-11)  # fmt: skip
        slopes = np.array([float(found[name][parameter]) for name in names]) * value / values
        numerical.agrees(
            slopes, oracle, rtol=1e-6, scale=np.maximum(np.abs(slopes), 1.0), each=True
        )
    volume, _, modulus = values
    expected = -volume / (modulus * ase.units.GPa)
    assert float(found[names[0]]["pressure"]) == pytest.approx(expected, rel=1e-8)


def test_the_answer_is_the_same_from_another_volume_and_in_a_larger_cell():
    volume = float(quasi_harmonic_volume(T, 2)(argon()))
    wide = at_volume(argon().system, NEAREST, 1.03 * float(argon().volume))
    assert float(quasi_harmonic_volume(T, 2)(wide)) == pytest.approx(volume, rel=1e-10)
    lengths = np.asarray(quasi_harmonic_lattice_constants(T, 2)(argon()))
    np.testing.assert_allclose(lengths, (volume * np.sqrt(2)) ** (1 / 3), rtol=1e-12)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("quasi_harmonic_volume(-3, 2)", "temperature = -3: give a finite number above 0"),
        ("thermal_expansion(500, 2)", "the free energy has no minimum up to the volume"),
        ("quasi_harmonic_volume(30)", "say how many wave vectors"),
        ("gruneisen_parameter(0.001, 2)", "nothing vibrates at so low a temperature"),
        ("mode_gruneisen_parameters([0, 0])", "q has 2 numbers: give 3"),
    ],
)
def test_what_argon_has_not(asked, message):
    with pytest.raises(InputError, match=message) as caught:
        observables.parse(asked)(argon())
    assert "\n" not in str(caught.value)


def test_what_has_no_volume_does_not_expand():
    cluster = mdsens.relaxation.unrelaxed(System(np.eye(3) * 3.8, symbols="Ar"), NEAREST)
    for asked in (quasi_harmonic_volume(T), gruneisen_parameter(T), mode_gruneisen_parameters()):
        with pytest.raises(InputError, match="periodic in every direction has a volume"):
            asked.check(cluster)


def test_a_crystal_that_is_not_stable_has_no_free_energy():
    wide = at_volume(argon().system, NEAREST, 1.5 * float(argon().volume))
    with pytest.raises(InputError, match=r"where it begins, .* vibrations are imaginary"):
        quasi_harmonic_volume(T, 2)(wide)


def test_the_search_for_a_volume_is_not_compiled():
    @jax.jit
    def volume(potential):
        relaxed = mdsens.relax(argon().system, potential, cell="isotropic")
        return quasi_harmonic_volume(T, 2)(relaxed)

    with pytest.raises(InputError, match="outside jit and vmap"):
        volume(NEAREST)
