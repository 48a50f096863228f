"""Vibrations of a crystal whose ions move with its volume: expansion, Gruneisen parameters."""

import ase.build
import cases
import numpy as np
import pytest

import mdsens
from mdsens.observables import (
    gruneisen_parameter,
    mode_gruneisen_parameters,
    phonon_frequencies,
    quasi_harmonic_volume,
    thermal_expansion,
    vibrational_free_energy,
)
from mdsens.potentials import LennardJones

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quasi-harmonic ions")]
MESH = 1
Q = [0.1, 0.2, 0.3]
SIGMA = 3.4


def crystal(sigma):
    """Two layers of argon and one of krypton, whose distances depend on the volume."""
    atoms = ase.build.bulk("Ar", "fcc", 5.2).repeat((1, 1, 3))
    atoms.symbols[2] = "Kr"
    potential = LennardJones(
        {"Ar-Ar": 0.0104, "Ar-Kr": 0.012, "Kr-Kr": 0.016},
        {"Ar-Ar": sigma, "Ar-Kr": 3.45, "Kr-Kr": 3.5},
        6.2, species=("Ar", "Kr"), onset=5.7,
    )  # fmt: skip
    return mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=1e-12, cell="full")


@pytest.fixture(scope="module")
def alloy():
    return crystal(SIGMA)


def strained(relaxed, strain):
    """The same crystal with longer lattice vectors, and its ions at rest."""
    cell = np.asarray(relaxed.cell) * (1.0 + strain)
    system = relaxed.system.with_cell(cell, scale_positions=True)
    return mdsens.relax(system, relaxed.potential, fmax=1e-12)


def volume_by_free_energies(relaxed, temperature):
    """Where a polynomial through free energies of strained cells is least."""
    free_energy, volumes, energies = vibrational_free_energy(temperature, MESH), [], []
    for strain in 0.008 + 0.012 * np.cos(np.pi * (np.arange(9) + 0.5) / 9):
        found = strained(relaxed, strain)
        volumes.append(float(found.volume))
        energies.append(float(found.energy) + float(free_energy(found)))
    fit = np.polynomial.Polynomial.fit(volumes, energies, 8)
    roots = fit.deriv().roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    inside = real[(real > min(volumes)) & (real < max(volumes))]
    return inside[np.argmin(fit(inside))]


def test_its_ions_move_with_its_volume(alloy):
    moves = np.asarray(alloy.at_fixed_cell.displacements_in_strain)[:3].sum(axis=0)
    assert np.abs(moves).max() > 0.05


def test_its_volume_has_the_least_free_energy(alloy):
    ours = float(quasi_harmonic_volume(20, MESH)(alloy))
    assert ours == pytest.approx(volume_by_free_energies(alloy, 20), rel=1e-9)


def test_it_expands_as_its_volumes_at_two_temperatures_say(alloy):
    ours = float(thermal_expansion(20, MESH)(alloy))
    slopes = []
    for step in (1.0, 0.5):
        hot, cold = (float(quasi_harmonic_volume(20 + sign * step, MESH)(alloy))
                     for sign in (1, -1))  # fmt: skip
        slopes.append(np.log(hot / cold) / (2.0 * step))
    assert ours == pytest.approx((4.0 * slopes[1] - slopes[0]) / 3.0, rel=1e-6)


def test_its_derivatives_are_those_of_relaxing_again(alloy):
    # The first is on the way to the second.
    observables = cases.with_others(
        [thermal_expansion(20, MESH), mode_gruneisen_parameters(Q)],
        [quasi_harmonic_volume(20, MESH), gruneisen_parameter(20, MESH)],
    )
    found = mdsens.sensitivity(alloy, observables, wrt=["sigma[Ar-Ar]"])
    step = 2e-3
    again = {h: crystal(SIGMA + h) for h in (step, -step, step / 2, -step / 2)}
    for observable in observables:
        value = {h: np.asarray(observable(one)) for h, one in again.items()}
        first, second = ((value[h] - value[-h]) / (2.0 * h) for h in (step, step / 2))
        ours, expected = found[observable.name]["sigma[Ar-Ar]"], (4.0 * second - first) / 3.0
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * scale)


def test_its_frequencies_fall_by_their_gruneisen_parameters(alloy):
    slopes = []
    for step in (4e-4, 2e-4):
        up, down = (strained(alloy, sign * step) for sign in (1, -1))
        change = np.log(np.asarray(phonon_frequencies(Q)(up) / phonon_frequencies(Q)(down)))
        slopes.append(-change / np.log(float(up.volume / down.volume)))
    expected = (4.0 * slopes[1] - slopes[0]) / 3.0
    np.testing.assert_allclose(mode_gruneisen_parameters(Q)(alloy), expected, rtol=1e-6)
