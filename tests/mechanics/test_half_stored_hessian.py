"""Hessians of large crystals, added up by compiled loops, are derivatives of the forces."""

import dataclasses
import sys

import cases
import jax
import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens.linalg.half_stored import HalfStored
from mdsens.mechanics import half_stored_hessian as module
from mdsens.mechanics import hessian_solver
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.energy import energy_and_forces
from mdsens.mechanics.half_stored_hessian import (
    NearPairs,
    changes_as_atoms_move,
    changes_of_pairs,
    half_stored_hessian,
    products_of_pairs,
    pull_back_of_pairs,
)
from mdsens.observables import elastic_constants
from mdsens.potentials import LennardJones, StillingerWeber, TruncatedPairPotential

SMALL = {"epsilon": 0.0104, "sigma": 3.405, "cutoff": 6.0}


@pytest.fixture(scope="module")
def argon():
    """A crystal with a vacancy, at rest."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(3)
    del atoms[5]
    atoms.rattle(0.05, seed=1)
    return mdsens.relax(mdsens.System.from_ase(atoms), LennardJones(**SMALL), fmax=1e-10)


class OwnFormula(LennardJones):
    """Second derivatives that are not those of the energy."""

    def edge_hessians(self, edges):
        return [[1.01 * part for part in row] for row in super().edge_hessians(edges)]


@pytest.mark.parametrize("kind", [LennardJones, OwnFormula])
def test_the_half_stored_hessian_is_the_derivative_of_the_forces(argon, kind):
    matrix, gradient = half_stored_hessian(
        kind(**SMALL), NearPairs(argon.system, argon.potential, argon.edge_list)
    )
    vector = np.random.default_rng(0).normal(size=argon.q.shape)
    expected = np.asarray(hessian_products(argon.landscape, argon.q, vector))
    found = (matrix @ vector.reshape(-1)).reshape(vector.shape)
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())
    assert np.abs(gradient).max() < 1e-10


@pytest.mark.parametrize("size", [1e-4, 0.3])
def test_pairs_serve_where_atoms_have_moved(argon, size):
    """By so little that the same are in range, and by so much that others are."""
    moves = np.random.default_rng(1).normal(scale=size, size=argon.q.shape)
    given = argon.potential, argon.edge_list
    pairs = NearPairs(argon.system, *given).moved(moves)
    there = dataclasses.replace(argon.system, positions=argon.positions + moves)
    _, gradient = half_stored_hessian(argon.potential, pairs)
    forces = np.asarray(energy_and_forces(there, *given)[1])
    np.testing.assert_allclose(gradient, -forces, atol=1e-13 * np.abs(forces).max())
    directions = np.random.default_rng(2).normal(size=(2, *moves.shape))
    expected = np.asarray(hessian_products(argon.landscape, argon.q + moves, directions))
    found = products_of_pairs(argon.potential, pairs, directions)
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_change_as_atoms_move_is_a_difference_of_forces_elsewhere(argon, kinds):
    random = np.random.default_rng(6)
    positions = np.asarray(argon.positions) + random.normal(scale=0.05, size=argon.q.shape)
    species = tuple("AB"[:kinds])
    index = np.arange(argon.system.atom_count) % kinds
    system = mdsens.System(positions, np.asarray(argon.cell), species, index)
    potential = LennardJones(**SMALL, species=species)
    edges = potential.edge_search(system).find(system.positions, system.cell)
    pairs = NearPairs(system, potential, edges)
    along = jax.tree.map(lambda leaf: np.asarray(leaf)[None], potential.direction("sigma"))
    moves = random.normal(size=(1, *positions.shape))
    found = changes_as_atoms_move(potential, pairs, along, moves)

    def forces(step):
        changed = potential.with_parameters({"sigma": potential.parameters["sigma"] + step})
        moved = dataclasses.replace(system, positions=positions + step * moves[0])
        return np.asarray(energy_and_forces(moved, changed, edges)[1])

    by_step = [(forces(-h) - forces(h)) / (2 * h) for h in (1e-4, 5e-5)]
    expected = (4 * by_step[1] - by_step[0]) / 3
    np.testing.assert_allclose(found[0], expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("cutoff", [6.0, "1.7 sigma"])
@pytest.mark.parametrize("kinds", [1, 3])
def test_changes_with_parameters_are_differences_of_forces(argon, cutoff, kinds):
    """Of many parameters at a time, more pairs than one piece holds, and cutoffs of their own."""
    species = tuple("ABC"[:kinds])
    index = np.arange(argon.system.atom_count) % kinds
    # Off the minimum, where no force follows a depth.
    moves = np.random.default_rng(4).normal(scale=0.05, size=argon.q.shape)
    positions, cell = np.asarray(argon.positions) + moves, np.asarray(argon.cell)
    system = mdsens.System(positions, cell, species, index)
    sizes = np.add.outer(np.arange(kinds), np.arange(kinds)) / 100
    tables = {"epsilon": 0.0104 * (1 + sizes), "sigma": 3.405 * (1 - sizes)}
    potential = LennardJones(**tables, cutoff=cutoff, species=species)
    edges = potential.edge_search(system).find(system.positions, system.cell)
    names = potential.expand_parameter_names(None)
    along = [potential.direction(name) for name in names]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *along)
    pairs = NearPairs(system, potential, edges)
    found = changes_of_pairs(potential, pairs, stacked)
    weights = np.random.default_rng(5).normal(size=(2, *moves.shape))
    pulled = pull_back_of_pairs(potential, pairs, weights)
    for name, direction, change in zip(names, along, found, strict=True):
        step = 1e-4 * potential.parameters[name]

        def forces(change, name=name):
            changed = potential.with_parameters({name: potential.parameters[name] + change})
            return np.asarray(energy_and_forces(system, changed, edges)[1])

        by_step = [(forces(-h) - forces(h)) / (2 * h) for h in (step, step / 2)]
        expected = (4 * by_step[1] - by_step[0]) / 3
        np.testing.assert_allclose(change, expected, atol=1e-8 * np.abs(expected).max())
        leaves = zip(jax.tree.leaves(pulled), jax.tree.leaves(direction), strict=True)
        against = sum(np.tensordot(of_each, one, np.ndim(one)) for of_each, one in leaves)
        size = np.abs(weights * expected).sum()
        np.testing.assert_allclose(against, np.tensordot(weights, expected, 2), atol=1e-9 * size)


class WithoutParameters(TruncatedPairPotential):
    """Numbers of nobody's choice."""

    def pair_energies(self, r):
        return 0.04 * ((3.405 / r) ** 12 - (3.405 / r) ** 6)


def test_nothing_is_pulled_back_to_what_has_no_parameters(argon):
    potential = WithoutParameters(cutoff=6.0)
    pairs = NearPairs(argon.system, potential, argon.edge_list)
    pulled = pull_back_of_pairs(potential, pairs, np.ones((2, *argon.q.shape)))
    assert isinstance(pulled, WithoutParameters)
    assert jax.tree.leaves(pulled) == []


def test_derivatives_and_constants_are_those_of_both_halves(argon, monkeypatch):
    def found():
        fresh = dataclasses.replace(argon)
        sens = mdsens.sensitivity(fresh, ["distance(0,40)"], wrt=["sigma", "epsilon"])
        kind = type(fresh.hessian_solver.matrix)
        return kind, sens, np.asarray(elastic_constants()(fresh))

    _, expected, constants = found()
    monkeypatch.setattr(module, "FEWEST_ATOMS", 100)
    # Some pieces for each core.
    monkeypatch.setattr(module, "PIECE_PAIRS", 500)
    kind, sens, those_of_half = found()
    assert kind is HalfStored
    for name in ("sigma", "epsilon"):
        given = sens["distance(0,40)"][name], expected["distance(0,40)"][name]
        np.testing.assert_allclose(*given, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(those_of_half, constants, atol=1e-9 * constants.max())
    lowest = sens.certificate.lowest_eigenvalue, expected.certificate.lowest_eigenvalue
    np.testing.assert_allclose(*lowest, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "mode"), [(0.0, "forward"), (3e-4, "forward"), (3e-4, "reverse")]
)
def test_errors_are_those_of_both_halves(argon, monkeypatch, start, mode):
    """Of structures that are as loosely relaxed as they begin."""
    moves = np.random.default_rng(3).normal(scale=start, size=argon.q.shape)
    system = dataclasses.replace(argon.system, positions=argon.positions + moves)

    def found():
        loose = mdsens.relax(system, argon.potential, fmax=1e-3)
        wrt = ["sigma", "epsilon"]
        sens = mdsens.sensitivity(loose, ["distance(0,40)"], wrt=wrt, mode=mode)
        return [sens.errors["distance(0,40)"][name] for name in ("sigma", "epsilon")]

    expected = found()
    monkeypatch.setattr(module, "FEWEST_ATOMS", 100)
    np.testing.assert_allclose(found(), expected, rtol=1e-3)


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
    _, gradient = assembly.hessian_and_gradient(*given)
    forces = np.asarray(energy_and_forces(*given)[1])
    np.testing.assert_allclose(gradient, -forces, atol=1e-12 * np.abs(forces).max())


def test_only_free_atoms_of_large_crystals_of_pairs_are_stored_by_half(argon):
    solver = hessian_solver.HessianSolver(argon.landscape, argon.q)
    assert not isinstance(solver.matrix, HalfStored)
