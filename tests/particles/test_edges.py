"""Edges against brute force over images."""

import cases
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from scipy.spatial import cKDTree

import mdsens
from mdsens.errors import InputError
from mdsens.mechanics import energy_forces_virial
from mdsens.particles import EdgeSearch, edge_blocks, find_edges
from mdsens.particles.edge_search import approach_bound, check_representable

pytestmark = pytest.mark.xdist_group("particles")
CELLS = pytest.mark.parametrize("name", cases.CELLS)
REACH = 2.5


def edges_of(name):
    system = cases.structure(name, cases.POTENTIALS["lj-smooth"])
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    return system, find_edges(positions, cell, system.pbc, 2.3, REACH - 2.3)


def vectors_of(system, edge_list):
    """Edge vectors, mask, and origin of each slot, flat."""
    vectors, mask = edge_blocks(
        lambda edges: (jnp.stack(edges.vectors), edges.mask),
        system.positions, system.cell, system.species, edge_list,
    )  # fmt: skip
    blocks, slots, size = mask.shape
    origins = (
        np.arange(blocks)[:, None, None] * size + np.arange(size) + np.zeros((1, slots, 1), int)
    )
    flat = np.asarray(vectors).transpose(0, 2, 3, 1).reshape(-1, system.dimension)
    return flat, np.asarray(mask).ravel(), origins.ravel()


@CELLS
def test_every_pair_within_reach_is_an_edge_and_no_other(name):
    system, edge_list = edges_of(name)
    vectors, mask, origins = vectors_of(system, edge_list)
    first, _, _, expected = numerical.images(system.positions, system.cell, system.pbc, REACH)
    for atom in range(system.atom_count):
        ours = vectors[mask & (origins == atom)]
        theirs = expected[first == atom]
        assert len(ours) == len(theirs)
        order = [np.lexsort(np.round(rows, 9).T) for rows in (ours, theirs)]
        np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=1e-12)


@pytest.mark.parametrize(
    "box",
    [(400.0, 400.0), (2.5, 400.0, 400.0), (400.0, 400.0, 2.5), (0.0, 0.0, 3e5)],
    ids=["flat", "thin", "thin the other way", "a chain"],
)
def test_large_boxes_that_are_short_in_a_direction_are_searched(box):
    """More cells than the search allows, where dividing each direction alike leaves none of one."""
    box, generator = np.array(box), np.random.default_rng(3)
    periodic, dimension = bool(box.all()), len(box)
    points = generator.random((200, dimension)) * box
    beside = points + generator.normal(scale=0.4, size=points.shape) * (box > 0)
    positions = np.mod(np.concatenate([points, beside]), np.where(box > 0, box, 1.0))
    cell = np.diag(np.where(box > 0, box, 1.0))
    edge_list = find_edges(positions, cell, (periodic,) * dimension, 1.0)
    tree = cKDTree(positions, boxsize=box if periodic else None)
    expected = {tuple(pair) for pair in tree.query_pairs(1.0)}
    assert len(expected) > 100
    neighbors, mask = np.asarray(edge_list.neighbors), np.asarray(edge_list.mask)
    owners = np.concatenate([np.arange(len(positions)), np.asarray(edge_list.ghost_owners)])
    blocks, _, size = mask.shape
    first = np.broadcast_to(np.arange(blocks * size).reshape(blocks, 1, size), mask.shape)[mask]
    found = sorted(zip(first.tolist(), owners[neighbors[mask]].tolist(), strict=True))
    assert found == sorted([*expected, *((j, i) for i, j in expected)])


def test_pairs_of_species_have_cutoffs_of_their_own():
    generator = np.random.default_rng(4)
    positions, species = generator.random((60, 2)) * 6.0, generator.integers(2, size=60)
    table, skin = np.array([[1.0, 0.7], [0.7, 0.3]]), 0.1
    search = EdgeSearch((True, True), 1.0, skin, table, species)
    edge_list = search.find(positions, np.eye(2) * 6.0)
    system = mdsens.System(positions, np.eye(2) * 6.0, ("A", "B"), species, units="reduced")
    vectors, mask, origins = vectors_of(system, edge_list)
    first, second, _, expected = numerical.images(positions, np.eye(2) * 6.0, (True, True), 1.1)
    lengths = np.linalg.norm(expected, axis=1)
    near = lengths <= table[species[first], species[second]] + skin
    assert 0 < near.sum() < len(near)
    ours = np.column_stack([origins, np.round(vectors, 9)])[mask]
    theirs = np.column_stack([first, np.round(expected, 9)])[near]
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)] + 0.0)


@CELLS
def test_the_reverse_of_an_edge_is_its_opposite(name):
    system, edge_list = edges_of(name)
    vectors, mask, _ = vectors_of(system, edge_list)
    reverse = np.asarray(edge_list.reverse).ravel()
    assert np.array_equal(reverse[reverse], np.arange(len(reverse)))
    assert mask[reverse[mask]].all()
    assert np.array_equal(reverse[~mask], np.flatnonzero(~mask))
    np.testing.assert_allclose(vectors[reverse[mask]], -vectors[mask], atol=1e-12)


@CELLS
def test_no_images_out_of_reach_come_nearer_than_the_bound(name):
    system, generator = (
        cases.structure(name, cases.POTENTIALS["lj-smooth"]),
        np.random.default_rng(6),
    )
    first, second, _, vectors = numerical.images(
        system.positions, system.cell, system.pbc, 1.5 * REACH
    )
    before = np.linalg.norm(vectors, axis=1)
    for size in (0.0, 0.01, 0.1):
        deformation = np.eye(system.dimension) + 0.3 * size * generator.normal(
            size=(system.dimension, system.dimension)
        )
        moves = generator.normal(size=system.positions.shape) * size
        after = np.linalg.norm(vectors @ deformation + moves[second] - moves[first], axis=1)
        moved = np.linalg.norm(moves, axis=1).max()
        bound = float(approach_bound(moved, deformation, REACH))
        assert np.all(after[before > REACH] >= REACH - bound - 1e-12)
        assert (bound == 0.0) == (size == 0.0)


def test_images_that_are_squeezed_together_come_as_near_as_the_bound_says():
    squeezed = np.diag([0.9, 1.0, 1.0])
    vector = np.array([REACH, 0.0, 0.0]) @ squeezed - [2 * 0.05, 0.0, 0.0]
    assert float(approach_bound(0.05, squeezed, REACH)) == pytest.approx(REACH - vector[0])


@pytest.mark.slow
@CELLS
def test_without_reverse_edges_all_else_is_the_same(name):
    system, edge_list = edges_of(name)
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    without = find_edges(positions, cell, system.pbc, 2.3, REACH - 2.3, with_reverse=False)
    assert without.reverse is None
    np.testing.assert_array_equal(without.neighbors, edge_list.neighbors)
    np.testing.assert_array_equal(without.ghost_images, edge_list.ghost_images)
    pair = cases.POTENTIALS["lj-smooth"]
    for ours, theirs in zip(
        energy_forces_virial(system, pair, without), energy_forces_virial(system, pair, edge_list),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)
    silicon = cases.POTENTIALS["sw"]
    with pytest.raises(InputError, match="with_reverse=True"):
        energy_forces_virial(system, silicon, without)


@CELLS
def test_slots_without_an_edge_are_beyond_reach(name):
    system, edge_list = edges_of(name)
    vectors, mask, _ = vectors_of(system, edge_list)
    assert (np.linalg.norm(vectors[~mask], axis=1) > REACH).all()


@pytest.mark.slow
@pytest.mark.parametrize("potential", ["lj-binary", "sw-binary"])
def test_the_size_of_blocks_changes_nothing(potential, monkeypatch):
    case = cases.case(potential, "cluster")
    positions = np.asarray(case.system.positions)
    big = cases.System(
        np.concatenate([positions + np.array([shift, 0, 0]) for shift in (0, 30, 60)]),
        None, case.system.symbols, np.tile(case.system.species, 3), False,
    )  # fmt: skip
    results = []
    for size in (1024, 3):
        monkeypatch.setattr("mdsens.particles.edges.BLOCK_SIZE", size)
        edge_list = case.edges(big)
        results.append((edge_list.neighbors.shape[0], energy_forces_virial(
            big, case.potential, edge_list
        )))  # fmt: skip
    (few, whole), (many, parts) = results
    assert many > few
    for ours, expected in zip(parts, whole, strict=True):
        assert numerical.relative_error(ours, expected) < 1e-12


def test_sums_that_stop_at_the_last_edge_of_each_block_are_the_same_sums():
    random = np.random.default_rng(0)
    # Crowded in one half, so that the two blocks of atoms need different numbers of slots.
    positions = np.concatenate([random.random((30, 2)) * [2.0, 6.0], random.random((30, 2)) * 6.0])
    system = mdsens.System(positions, 6.0 * np.eye(2), pbc=True)
    potential = mdsens.potentials.SoftSphere(1.0, 1.0)
    edge_list = potential.edge_search(system).find(positions, system.cell, (40, 0))
    counted = edge_list.with_slots_counted()
    used = np.asarray(counted.slots_used)
    pairs = cKDTree(positions, boxsize=6.0).query_pairs(float(edge_list.reach))
    degrees = np.bincount(np.array(sorted(pairs)).ravel(), minlength=60)
    assert used.tolist() == [degrees[:30].max(), degrees[30:].max()]
    assert used[0] != used[1]
    whole = energy_forces_virial(system, potential, edge_list)
    for found, expected in zip(
        energy_forces_virial(system, potential, counted), whole, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert counted.without_slots_counted().slots_used is None
    empty = mdsens.particles.no_edges(60, 2).with_slots_counted()
    assert np.asarray(empty.slots_used).tolist() == [0, 0]


def test_a_list_with_a_skin_serves_until_atoms_have_moved_half_of_it():
    case = cases.case("lj-smooth", "triclinic")
    generator = np.random.default_rng(12)
    moves = generator.uniform(-1, 1, case.system.positions.shape)
    moved = case.system.with_positions(case.system.positions + 0.14 * moves / np.sqrt(3))
    old = energy_forces_virial(moved, case.potential, case.edges(skin=0.3))
    new = energy_forces_virial(moved, case.potential, case.edges(moved, skin=0.0))
    assert numerical.relative_error(old[1], new[1]) < 1e-12


def test_edges_follow_the_cell():
    case = cases.case("lj-smooth", "triclinic")
    strained = case.system.with_cell(case.system.cell * 1.01, scale_positions=True)
    old = energy_forces_virial(strained, case.potential, case.edges(skin=0.1))
    new = energy_forces_virial(strained, case.potential, case.edges(strained, skin=0.0))
    assert numerical.relative_error(old[1], new[1]) < 1e-12


def test_a_refreshed_list_has_the_shape_of_the_old_one():
    system, edge_list = edges_of("triclinic")
    again = find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc, 1.5,
        minimum_capacity=edge_list.capacity,
    )  # fmt: skip
    assert again.neighbors.shape == edge_list.neighbors.shape
    assert again.capacity == edge_list.capacity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": 0.0}, "positive length"),
        ({"cutoff": float("nan")}, "positive length"),
        ({"positions": np.array([[0.0, 0, 0], [np.nan, 0, 0]])}, r"atoms \[1\] are not finite"),
        (
            {"positions": np.array([[0.2, 0, 0], [0.2, 0, 0]])},
            "atoms 0 and 1 are at the same point",
        ),
        ({"positions": np.array([[0.0, 0, 0], [3.0, 0, 0]])}, "at the same point"),
    ],
)
def test_what_the_search_refuses(change, message):
    given = {
        "positions": np.array([[0.0, 0, 0], [1.0, 0, 0]]), "cell": np.eye(3) * 3.0,
        "pbc": (True,) * 3, "cutoff": 2.0, **change,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        find_edges(**given)


def test_edges_of_a_traced_function_have_the_room_that_they_are_given():
    search, positions, cell = EdgeSearch((True,) * 3, 2.5), np.eye(3)[:2], np.eye(3) * 3.0
    with pytest.raises(InputError, match=r"pass capacity=\("):
        search.arrays(positions, cell, capacity=(1, 1), room="given")
    free = search.find(positions, cell)
    traced = jax.jit(lambda *given: search.find_traced(*given, free.capacity))(positions, cell)
    for ours, theirs in zip(jax.tree.leaves(traced), jax.tree.leaves(free), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_list_with_more_entries_than_32_bits_count_is_refused():
    with pytest.raises(InputError, match="2147483648 entries, and 2147483647 are allowed"):
        check_representable(2**31)


def test_atoms_out_of_reach_have_no_edges():
    edge_list = find_edges(
        np.array([[0.0, 0, 0], [9.0, 0, 0]]), np.zeros((3, 3)), (False,) * 3, 2.0
    )
    assert not jnp.any(edge_list.mask)


def test_atoms_of_a_cluster_may_be_as_near_as_numbers_go():
    near = np.array([[0.0, 0.0, 0.0], [1e-30, 0.0, 0.0]])
    assert find_edges(near, np.zeros((3, 3)), (False,) * 3, 2.5).mask.sum() == 2


def test_a_range_that_no_search_takes_is_one_line():
    with pytest.raises(InputError, match=r"too short to search.*smaller unit"):
        find_edges(np.eye(3) * 3e-10, np.zeros((3, 3)), (False,) * 3, 8e-10)
