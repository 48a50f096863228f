"""Cores that share the blocks of atoms out find what one program of the whole finds."""

import importlib
import threading

import cases
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens import resources
from mdsens.compilation import asked_for
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.rattlers import find_rattlers, rattlers_on_host
from mdsens.mechanics.shared_energy import mechanics_on_host, on_shares, shares_of_cores
from mdsens.particles import find_edges
from mdsens.program_arguments import Call

shared_energy = importlib.import_module("mdsens.mechanics.shared_energy")
edges = importlib.import_module("mdsens.particles.edges")

#: Tersoff's silicon with lengths of one, as the structures of the cases have them.
TERSOFF = mdsens.potentials.Tersoff(
    m=3, gamma=1.0, lambda3=1.3, c=4.8, d=2.0, costheta0=0.0, n=22.956, beta=0.33675,
    lambda2=1.3258, B=95.373, R=1.5, D=0.2, lambda1=3.2394, A=3264.7,
)  # fmt: skip


@pytest.fixture
def shared(monkeypatch):
    """Three atoms to a block, and three cores for the fewest atoms; or as many as are set."""
    resources._pool.cache_clear()
    monkeypatch.setattr(edges, "BLOCK_SIZE", 3)
    monkeypatch.setattr(shared_energy, "FEWEST_SHARED", 1)

    def set_cores(count):
        for module in (resources, edges, shared_energy):
            monkeypatch.setattr(module, "available_cores", lambda: count)

    set_cores(3)
    yield set_cores
    resources._pool.cache_clear()


def case_of(potential, cell):
    if potential != "tersoff":
        return cases.case(potential, cell)
    return cases.Case("tersoff", cases.structure(cell, cases.POTENTIALS["sw"]), TERSOFF)


PLACES = [
    *(("lj-smooth", cell) for cell in ("cluster", "slab", "wire", "flat", "small")),
    *(("sw", cell) for cell in ("cluster", "wire", "flat")),
    ("lj-binary", "triclinic"), ("tersoff", "triclinic"), ("sutton-chen", "slab"),
]  # fmt: skip


@pytest.mark.parametrize(("potential", "cell"), PLACES)
def test_shares_add_up_to_the_whole(potential, cell, shared):
    case = case_of(potential, cell)
    system, edge_list = case.system, case.edges()
    moved = np.asarray(system.positions) + 0.01
    moved[0] += 0.02
    there = system.with_positions(moved)
    expected = list(
        map(np.asarray, compiled_energy_forces_virial(there, case.potential, edge_list))
    )
    assert np.abs(expected[1]).max() > 1e-3
    found = mechanics_on_host(system, case.potential, edge_list, with_virial=True)(moved)
    for ours, theirs in zip(found, expected, strict=True):
        assert numerical.relative_error(ours, theirs) < 1e-12
    if cell == "flat":
        *without, virial = mechanics_on_host(system, case.potential, edge_list)(moved)
        assert virial is None
        for ours, theirs in zip(without, expected, strict=False):
            assert numerical.relative_error(ours, theirs) < 1e-12
    expected_shares = 0 if potential == "sutton-chen" else min(3, edge_list.neighbors.shape[0])
    assert len(shares_of_cores(case.potential, edge_list)) == expected_shares


def test_a_share_is_all_blocks_once_and_the_last_is_filled_up(shared):
    edge_list = cases.case("lj-smooth", "cluster").edges()
    assert edge_list.neighbors.shape[0] == 3
    first, second = edge_list.shares(2)
    assert first.neighbors.shape == second.neighbors.shape
    together = np.concatenate([first.neighbors, second.neighbors])
    np.testing.assert_array_equal(together[:3], edge_list.neighbors)
    assert second.edge_count + first.edge_count == edge_list.edge_count
    assert int(second.first) == 2 * edge_list.neighbors.shape[2]


def test_each_core_has_as_many_blocks_as_any_other(shared, monkeypatch):
    monkeypatch.setattr(edges, "FEWEST_SHARED", 14)
    for cores, blocks in ((1, 5), (2, 8), (3, 6)):
        shared(cores)
        assert edges.block_shape(14) == (blocks, -(-14 // blocks))
    assert edges.block_shape(13) == (5, 3)


def test_own_energies_of_atoms_count_once(shared):
    case = cases.case("lj-smooth", "cluster")

    class Based(type(case.potential)):
        def own_energies(self, species):
            return jnp.ones(species.shape)

    potential = Based(1.0, 1.0, 2.5)
    with_own = mechanics_on_host(case.system, potential, case.edges())
    without = mechanics_on_host(case.system, case.potential, case.edges())
    positions = np.asarray(case.system.positions)
    assert with_own(positions)[0] - without(positions)[0] == pytest.approx(len(positions))


def test_atoms_without_load_are_those_of_the_whole(shared):
    positions = np.concatenate([np.eye(3), [[9.0, 0, 0], [0, 0, 0], [0, 9.0, 0], [0, 0, 20.0]]])
    system = mdsens.System(positions, None, pbc=False).with_fixed([5])
    potential = cases.POTENTIALS["sw"]
    edge_list = potential.edge_search(system).find(positions, np.asarray(system.cell), (1, 0))
    found = rattlers_on_host(system, potential, edge_list, jnp.asarray(1e-8))
    assert np.flatnonzero(found).tolist() == [3, 6]
    expected = find_rattlers(system, potential, edge_list, jnp.asarray(1e-8))
    np.testing.assert_array_equal(found, expected)


def test_where_forces_act_on_all_atoms_no_edge_is_looked_at_for_those_without_load(monkeypatch):
    case = cases.case("sw", "cluster")
    held = case.system.with_fixed([0])
    force, looked = jnp.asarray(1e-8), []

    def looking(*given):
        looked.append(given)
        return find_rattlers(*given)

    monkeypatch.setattr("mdsens.mechanics.rattlers.find_rattlers", looking)
    _, forces, _ = mechanics_on_host(held, case.potential, case.edges())(held.positions)
    gradient = np.where(np.asarray(held.fixed)[:, None], 0.0, -forces)
    assert not rattlers_on_host(held, case.potential, case.edges(), force, gradient).any()
    assert not looked
    # One that is far from all others has none, nor has one that is balanced by symmetry.
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0], [-1.1, 0, 0], [0, 0, 40.0]])
    system = mdsens.System(positions, None, pbc=False)
    edge_list = case.potential.edge_search(system).find(positions, np.asarray(system.cell))
    _, forces, _ = mechanics_on_host(system, case.potential, edge_list)(positions)
    assert not forces[[0, 3]].any()
    found = rattlers_on_host(system, case.potential, edge_list, force, -forces)
    assert np.flatnonzero(found).tolist() == [3]
    assert looked


def test_where_forces_cancel_by_symmetry_a_small_move_tells_that_atoms_carry_load(monkeypatch):
    # With the angle of SILICON's parameters, in units of sigma.
    system = mdsens.System.from_ase(bulk("Si", a=2.59, cubic=True), units="reduced")
    potential, force = cases.POTENTIALS["sw"], jnp.asarray(1e-8)
    edge_list = potential.edge_search(system).find(system.positions, system.cell)
    assert not find_rattlers(system, potential, edge_list, force).any()
    monkeypatch.setattr("mdsens.mechanics.rattlers.find_rattlers", None)
    nothing = np.zeros((8, 3))
    assert not rattlers_on_host(system, potential, edge_list, force, nothing).any()


def test_an_edge_that_only_just_comes_in_range_is_no_load(shared):
    reach = 2.5
    positions = np.zeros((4, 3))
    positions[1, 0], positions[2:, 1] = 1.1, 20.0
    positions[3, 0] = reach * (1.0 + 1e-7)
    system = mdsens.System(positions, None, pbc=False)
    potential = mdsens.potentials.LennardJones(1.0, 1.0, cutoff=reach, onset=2.0)
    edge_list = potential.edge_search(system, 0.1).find(positions, np.asarray(system.cell))
    _, forces, _ = mechanics_on_host(system, potential, edge_list)(positions)
    found = rattlers_on_host(system, potential, edge_list, jnp.asarray(1e-8), -forces)
    assert np.flatnonzero(found).tolist() == [2, 3]


def test_discs_that_are_pushed_as_hard_as_what_is_left_over_are_without_load(shared):
    positions = np.array([[2.0, 2.0], [2.95, 2.0], [6.0, 6.0], [6.9999999, 6.0]])
    system = mdsens.System(positions, np.eye(2) * 10.0)
    potential = mdsens.potentials.SoftSphere(1.0, 1.0)
    edge_list = potential.edge_search(system).find(positions, np.asarray(system.cell))
    _, forces, _ = mechanics_on_host(system, potential, edge_list)(positions)
    assert forces.any(axis=1).all()
    found = rattlers_on_host(system, potential, edge_list, jnp.asarray(1e-6), -forces)
    assert np.flatnonzero(found).tolist() == [2, 3]


def test_xla_shares_out_nothing_of_shares_or_of_pairs(shared):
    nothing = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
    for name, of_all in (("lj-smooth", nothing), ("sw", {})):
        case = cases.case(name, "cluster")
        (first, *_) = case.edges().shares(2)
        assert asked_for(Call((case.system, case.potential, first), {}, False)) == nothing
        assert asked_for(Call((case.system, case.potential, case.edges()), {}, False)) == of_all


def test_an_error_of_any_core_is_raised(shared):
    case = cases.case("lj-smooth", "cluster")
    parts = shares_of_cores(case.potential, case.edges())
    at = on_shares(
        shared_energy.compiled_energy_and_slopes, case.system, case.potential, parts, False
    )

    for failing in range(3):

        def fail(share, found, failing=failing):
            if share == failing:
                raise MemoryError("no room")
            return found

        with pytest.raises(MemoryError, match="no room"):
            at(case.system.positions, fail)


def crystal(monkeypatch, cores):
    """Argon with a vacancy, relaxed by so many cores in three blocks each at least."""
    for module in (resources, edges, shared_energy):
        monkeypatch.setattr(module, "available_cores", lambda: cores)
    cell = 5.26 * 10 * np.eye(3)
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    corners = np.stack(np.meshgrid(*[np.arange(10)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = 5.26 * (corners + sites).reshape(-1, 3)
    positions += np.random.default_rng(0).normal(scale=0.05, size=positions.shape)
    return mdsens.System(positions[2:], cell, "Ar", pbc=True)


@pytest.mark.slow
def test_relaxations_are_the_same_in_every_bit_and_agree_with_one_core(monkeypatch):
    monkeypatch.setattr(edges, "BLOCK_SIZE", 500)
    monkeypatch.setattr(edges, "FEWEST_SHARED", 3000)
    monkeypatch.setattr("mdsens.mechanics.lattice_model.FEWEST_ATOMS", 3000)
    monkeypatch.setattr(shared_energy, "FEWEST_SHARED", 3000)
    potential = mdsens.potentials.LennardJones(0.0104, 3.405, 7.5)
    found = {}
    resources._pool.cache_clear()
    for cores in (1, 2, 3):
        system = crystal(monkeypatch, cores)
        answers = [None, None]

        def relax(place, system=system, answers=answers):
            answers[place] = mdsens.relax(system, potential, fmax=1e-9)

        # Two threads that relax at a time have one pool of threads between them.
        threads = [threading.Thread(target=relax, args=(place,)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first, second = answers
        np.testing.assert_array_equal(first.positions, second.positions)
        assert float(first.energy) == float(second.energy)
        assert any(name == "LatticeLBFGS" for name, _ in first.history.methods)
        found[cores] = first
    resources._pool.cache_clear()
    for cores in (2, 3):
        apart = np.abs(np.asarray(found[cores].positions) - np.asarray(found[1].positions)).max()
        assert apart < 1e-7
        assert float(found[cores].energy) == pytest.approx(float(found[1].energy), rel=1e-13)
    edge_list = find_edges(
        np.asarray(found[2].positions), np.asarray(found[2].system.cell), (True,) * 3, 7.5
    )
    forces = compiled_energy_forces_virial(found[2].system, potential, edge_list)[1]
    assert np.abs(np.asarray(forces)).max() < 2e-9
