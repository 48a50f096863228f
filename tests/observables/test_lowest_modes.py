"""The lowest vibrations by products with the sparse Hessian against all of them."""

import ase.build
import cases
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.errors import InputError
from mdsens.linalg.lowest_modes import lowest_modes
from mdsens.observables import phonon_frequencies, waves
from mdsens.potentials import LennardJones

ARGON = LennardJones(0.0104, 3.4, 6.0, "shifted")


@pytest.mark.parametrize("exact", [True, False])
def test_a_ring_of_springs_has_its_pairs_of_waves(exact):
    """4 sin^2(pi k / n), each twice: the third is half of a pair, which is completed."""
    size = 60
    ring = 2.0 * np.eye(size) - np.roll(np.eye(size), 1, 0) - np.roll(np.eye(size), -1, 0)
    inverse = np.linalg.pinv(ring) if exact else np.eye(size) / 2.0
    translation = np.full((1, size), size**-0.5)
    values, vectors = lowest_modes(
        lambda v: ring @ v, lambda v: inverse @ v, exact, translation, np.ones(size), 3, 1e-6
    )
    expected = 4.0 * np.sin(np.pi * np.array([1, 1, 2, 2]) / size) ** 2
    np.testing.assert_allclose(values, expected, rtol=1e-8, atol=0)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ring @ vectors.T, vectors.T * values, rtol=0, atol=1e-8)


def crystal(pbc=(True, True, True), fixed=()):
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 3))
    atoms.set_pbc(pbc)
    atoms.rattle(0.01, seed=1)
    held = np.isin(np.arange(len(atoms)), fixed)
    return mdsens.relax(System.from_ase(atoms), ARGON, fmax=1e-10, fixed=held)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pbc", "fixed", "method"),
    cases.with_others(
        [
            pytest.param((True, True, True), (), "direct", id="bulk-direct"),
            pytest.param((True, True, False), (0, 5), "multigrid", id="fixed-multigrid"),
            pytest.param((True, False, False), (), "multigrid", id="wire-multigrid"),
            pytest.param((False, False, False), (), "direct", id="cluster-direct"),
        ],
        [
            pytest.param((True, True, True), (), "multigrid", id="bulk-multigrid"),
            pytest.param((True, True, False), (0, 5), "direct", id="fixed-direct"),
            pytest.param((True, False, False), (), "direct", id="wire-direct"),
            pytest.param((False, False, False), (), "multigrid", id="cluster-multigrid"),
        ],
    ),
)
def test_the_lowest_vibrations_are_those_of_all(pbc, fixed, method, monkeypatch):
    """So are their derivatives."""
    from mdsens.linalg import sparse_solver

    equilibrium = crystal(pbc, fixed)
    everything = mdsens.sensitivity(equilibrium, [phonon_frequencies()], wrt=["sigma"])
    name = "phonon_frequencies"
    moving = np.abs(everything.observed[name]) > 0
    monkeypatch.setattr(waves, "DENSE_LIMIT", 0)
    limit = 10**9 if method == "direct" else 0
    monkeypatch.setattr(sparse_solver, "DIRECT_LIMIT", dict.fromkeys((1, 2, 3), limit))
    few = phonon_frequencies(count=7)
    fresh = crystal(pbc, fixed)
    found = mdsens.sensitivity(fresh, [few], wrt=["sigma"])
    for lowest, of_all in (
        (found.observed[few.name], everything.observed[name]),
        (found[few.name]["sigma"], everything[name]["sigma"]),
    ):
        expected = np.asarray(of_all)[moving][:7]
        np.testing.assert_allclose(lowest, expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_more_vibrations_than_there_are_is_an_error():
    with pytest.raises(InputError, match="count = 145"):
        phonon_frequencies(count=145)(crystal())
    with pytest.raises(InputError, match="141"):
        phonon_frequencies(count=142)(crystal())
