"""Hessians of large crystals, added up by compiled loops, are derivatives of the forces."""

import dataclasses
import sys

import cases
import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens.linalg.half_stored import HalfStored
from mdsens.mechanics import half_stored_hessian as module
from mdsens.mechanics import hessian_solver
from mdsens.mechanics.enthalpy import hessian_products
from mdsens.mechanics.half_stored_hessian import follows_from_energy, half_stored_hessian
from mdsens.observables import elastic_constants
from mdsens.potentials import LennardJones, StillingerWeber

SMALL = {"epsilon": 0.0104, "sigma": 3.405, "cutoff": 6.0}


@pytest.fixture(scope="module")
def argon():
    """A crystal with a vacancy, at rest."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(3)
    del atoms[5]
    atoms.rattle(0.05, seed=1)
    return mdsens.relax(mdsens.System.from_ase(atoms), LennardJones(**SMALL), fmax=1e-10)


def test_the_half_stored_hessian_is_the_derivative_of_the_forces(argon):
    matrix = half_stored_hessian(argon.system, argon.potential, argon.edge_list)
    vector = np.random.default_rng(0).normal(size=argon.q.shape)
    expected = np.asarray(hessian_products(argon.landscape, argon.q, vector))
    found = (matrix @ vector.reshape(-1)).reshape(vector.shape)
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())
    assert follows_from_energy(argon.potential)


def test_derivatives_and_constants_are_those_of_both_halves(argon, monkeypatch):
    def found():
        fresh = dataclasses.replace(argon)
        sens = mdsens.sensitivity(fresh, ["distance(0,40)"], wrt=["sigma", "epsilon"])
        kind = type(fresh.hessian_solver.matrix)
        return kind, sens, np.asarray(elastic_constants()(fresh))

    _, expected, constants = found()
    monkeypatch.setattr(module, "FEWEST_ATOMS", 100)
    kind, sens, those_of_half = found()
    assert kind is HalfStored
    for name in ("sigma", "epsilon"):
        given = sens["distance(0,40)"][name], expected["distance(0,40)"][name]
        np.testing.assert_allclose(*given, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(those_of_half, constants, atol=1e-9 * constants.max())
    lowest = sens.certificate.lowest_eigenvalue, expected.certificate.lowest_eigenvalue
    np.testing.assert_allclose(*lowest, rtol=1e-6)


def test_second_derivatives_of_ones_own_are_checked():
    class Own(LennardJones):
        def edge_hessians(self, edges):
            return [[1.01 * part for part in row] for row in super().edge_hessians(edges)]

    assert not follows_from_energy(Own(**SMALL))


def test_hessians_of_sites_are_added_up_to_the_derivative_of_the_forces(monkeypatch):
    assembly = sys.modules["mdsens.mechanics.sparse_hessian"]
    monkeypatch.setattr(assembly, "WORTH_LOOPS", 1)
    # Less room than is needed at first.
    monkeypatch.setattr(assembly, "COUPLED", 4)
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    atoms.rattle(0.1, seed=2)
    relaxed = mdsens.relax(
        mdsens.System.from_ase(atoms), StillingerWeber(2.1683, 2.0951, **cases.SILICON), fmax=1e9
    )
    free = np.ones(len(atoms), bool)
    free[3] = False
    given = relaxed.system, relaxed.potential, relaxed.edge_list
    vector = np.random.default_rng(0).normal(size=relaxed.q.shape)
    vector[3] = 0.0
    expected = np.array(hessian_products(relaxed.landscape, relaxed.q, vector))
    expected[3] = 0.0
    matrix = assembly.hessian_in_parts(*given, ~free)
    found = (matrix @ vector.reshape(-1)).reshape(vector.shape)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())
    held = matrix.toarray()[9:12]
    np.testing.assert_array_equal(held[:, 9:12], np.eye(3))
    assert np.count_nonzero(held) == 3


def test_only_free_atoms_of_large_crystals_of_pairs_are_stored_by_half(argon):
    solver = hessian_solver.HessianSolver(argon.landscape, argon.q)
    assert not isinstance(solver.matrix, HalfStored)
