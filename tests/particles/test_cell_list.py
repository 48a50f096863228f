"""The search of large systems, made to search small ones, against brute force over images."""

import numerical
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.particles import EdgeSearch, cell_list

pytestmark = pytest.mark.xdist_group("particles")

COUNT, REACH = 150, 1.3
CUBE = np.eye(3) * 5.0
SHEARED = np.array([[5.0, 0.0, 0.0], [2.2, 4.5, 0.0], [-1.7, 1.4, 5.5]])
#: Cell, what is periodic, and what atoms at random fractions of it are moved by.
GEOMETRIES = {
    "periodic": (CUBE, (True, True, True), 0.0),
    "slab": (CUBE, (True, True, False), 0.0),
    "wire": (CUBE, (False, False, True), 0.0),
    "cluster": (CUBE, (False, False, False), 0.0),
    "sheared": (SHEARED, (True, True, True), 0.0),
    "sheared wire": (SHEARED, (False, True, False), 0.0),
    "left-handed": (SHEARED[[1, 0, 2]], (True, True, True), 0.0),
    "beside the cell": (SHEARED, (True, True, True), 0.3),
    "thin": (np.diag([9.0, 9.0, 1.1]), (True, True, True), 0.0),
    "plane": (np.diag([8.0, 7.0]), (True, True), 0.0),
    "sheared plane": (np.array([[8.0, 0.0], [3.0, 7.0]]), (True, True), 0.0),
    "strip": (np.diag([8.0, 7.0]), (False, True), 0.0),
    "chain": (np.diag([60.0]), (True,), 0.0),
}


def positions_in(cell, moved):
    return (np.random.default_rng(5).random((COUNT, len(cell))) - moved) @ cell


def search(cell, pbc, positions, monkeypatch, reach=REACH, **options):
    """What the search by cells finds; an error where another one was made in its place."""

    def refused(*arguments):
        raise AssertionError("searched by other means")

    monkeypatch.setattr(cell_list, "FEWEST_ATOMS", 1)
    with monkeypatch.context() as patched:
        patched.setattr("mdsens.particles.edge_search.neighbor_pairs", refused)
        return EdgeSearch(pbc, reach, **options).arrays(positions, cell)


def edges_in(arrays, count):
    """Atom, neighbour and image of each edge, and its place; flat."""
    blocks, _, size = arrays.neighbors.shape
    atoms = np.broadcast_to(
        np.arange(blocks * size).reshape(blocks, 1, size), arrays.neighbors.shape
    )
    blank = count + len(arrays.ghost_owners)
    places = np.flatnonzero(arrays.neighbors.ravel() != blank)
    ends = arrays.neighbors.ravel()[places]
    owners = np.concatenate([np.arange(count), arrays.ghost_owners])
    images = np.concatenate([np.zeros((count, arrays.ghost_images.shape[1])), arrays.ghost_images])
    rows = np.column_stack([atoms.ravel()[places], owners[ends], images[ends]])
    return rows.astype(int), places


def in_order(rows):
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_cells_find_what_brute_force_finds(name, monkeypatch):
    cell, pbc, moved = GEOMETRIES[name]
    positions = positions_in(cell, moved)
    arrays = search(cell, pbc, positions, monkeypatch)
    rows, places = edges_in(arrays, COUNT)
    first, second, shifts, _ = numerical.images(positions, cell, pbc, REACH)
    expected = np.column_stack([first, second, shifts])
    assert len(expected) > 100
    assert np.array_equal(in_order(rows), in_order(expected))
    # Each edge's reverse has its ends exchanged; of a slot without an edge it is the slot itself.
    reverse = arrays.reverse.ravel()
    where = np.full(reverse.size, -1)
    where[places] = np.arange(len(places))
    back = rows[where[reverse[places]]]
    assert np.array_equal(back, np.column_stack([rows[:, 1], rows[:, 0], -rows[:, 2:]]))
    assert np.array_equal(reverse[reverse], np.arange(reverse.size))


@pytest.mark.parametrize("by_cells", [True, False])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_neighbours_come_nearest_first_where_slots_are_taken_together(name, by_cells, monkeypatch):
    cell, pbc, moved = GEOMETRIES[name]
    positions = positions_in(cell, moved)
    if by_cells:
        arrays = search(cell, pbc, positions, monkeypatch, by_slots=False)
    else:
        arrays = EdgeSearch(pbc, REACH, by_slots=False).arrays(positions, cell)
    images = arrays.ghost_images @ cell
    ends = np.concatenate([positions, positions[arrays.ghost_owners] + images])
    blank, width = len(ends), arrays.neighbors.shape[1]
    in_slots = arrays.neighbors.transpose(0, 2, 1).reshape(-1, width)
    for atom, slots in enumerate(in_slots[:COUNT]):
        held = slots[slots != blank]
        # Those that hold an edge are the first.
        assert np.array_equal(slots[: len(held)], held)
        distances = np.linalg.norm(ends[held] - positions[atom], axis=1)
        assert np.all(np.diff(distances) > -1e-12)
    rows, _ = edges_in(arrays, COUNT)
    first, second, shifts, _ = numerical.images(positions, cell, pbc, REACH)
    assert np.array_equal(in_order(rows), in_order(np.column_stack([first, second, shifts])))


def test_cutoffs_of_pairs_of_species_are_kept(monkeypatch):
    positions, species = positions_in(CUBE, 0.0), np.random.default_rng(6).integers(2, size=COUNT)
    # As one of JAX's, of the type that is searched with, and nobody may write to it.
    species = species.astype(np.int32)
    species.setflags(write=False)
    table, skin = np.array([[1.2, 0.8], [0.8, 0.3]]), 0.1
    arrays = search(CUBE, (True,) * 3, positions, monkeypatch, 1.2, skin=skin,
                    pair_cutoffs=table, species=species)  # fmt: skip
    first, second, shifts, vectors = numerical.images(positions, CUBE, (True,) * 3, 1.3)
    near = np.linalg.norm(vectors, axis=1) <= table[species[first], species[second]] + skin
    assert 100 < near.sum() < len(near)
    expected = np.column_stack([first, second, shifts])[near]
    assert np.array_equal(in_order(edges_in(arrays, COUNT)[0]), in_order(expected))


@pytest.mark.parametrize("cutoff", [4.0, 4.0 * np.sqrt(0.5), 4.0 * np.sqrt(2.0)])
def test_edges_as_long_as_the_cutoff_are_seen_from_both_ends_or_from_none(cutoff, monkeypatch):
    """Shells of a perfect crystal, which rounding decides on: the same way for both ends."""
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = (cells + corners).reshape(-1, 3) * 4.0 + 0.1234567
    arrays = search(np.eye(3) * 12.0, (True,) * 3, positions, monkeypatch, cutoff)
    rows, _ = edges_in(arrays, len(positions))
    back = np.column_stack([rows[:, 1], rows[:, 0], -rows[:, 2:]])
    assert np.array_equal(in_order(rows), in_order(back))


def test_the_number_of_cores_and_of_atoms_at_a_time_change_nothing(monkeypatch):
    positions = positions_in(SHEARED, 0.1)
    found = []
    for cores, some in (("1", 1024), ("2", 16)):
        monkeypatch.setenv("MDSENS_CORES", cores)
        monkeypatch.setattr(cell_list, "AT_ONCE", some)
        found.append(search(SHEARED, (True,) * 3, positions, monkeypatch))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


def test_two_atoms_at_one_point_are_named(monkeypatch):
    positions = positions_in(CUBE, 0.0)
    lowest = int(np.argmin(positions[:, 1]))
    positions[20] = positions[lowest] + CUBE[1]
    first, second = sorted((lowest, 20))
    with pytest.raises(InputError, match=f"atoms {first} and {second} are at the same point"):
        search(CUBE, (True,) * 3, positions, monkeypatch)


def test_room_that_was_too_small_is_made(monkeypatch):
    """Atoms in a clump have many times more neighbours than even density tells."""
    positions = positions_in(CUBE, 0.0)
    positions[:60] *= 0.25
    arrays = search(CUBE, (False,) * 3, positions, monkeypatch)
    first, second, shifts, _ = numerical.images(positions, CUBE, (False,) * 3, REACH)
    expected = np.column_stack([first, second, shifts])
    assert np.bincount(first).max() > 60
    assert np.array_equal(in_order(edges_in(arrays, COUNT)[0]), in_order(expected))


@pytest.mark.parametrize(
    ("scale", "far"), [(np.diag([1.0, 1.0, 0.1]), 0.0), (np.eye(3), 1.0), (np.eye(3) * 1e6, 0.0)],
    ids=["a cell far smaller than the cutoff", "atoms in other cells", "hardly any atoms"],
)  # fmt: skip
def test_what_cells_do_not_suit_is_left_to_the_other_search(scale, far, monkeypatch):
    monkeypatch.setattr(cell_list, "FEWEST_ATOMS", 1)
    cell = 2.0 * scale
    fractions = np.random.default_rng(1).random((12, 3)) + far * (np.arange(12) % 2)[:, None]
    positions = fractions @ cell
    arrays = EdgeSearch((True,) * 3, REACH).arrays(positions, cell)
    first, second, shifts, _ = numerical.images(positions, cell, (True,) * 3, REACH)
    expected = np.column_stack([first, second, shifts])
    assert np.array_equal(in_order(edges_in(arrays, 12)[0]), in_order(expected))


@pytest.mark.parametrize("fewest", [1, 10**9], ids=["by cells", "by pairs"])
def test_a_crowd_for_which_every_atom_would_need_room_is_refused(fewest, monkeypatch):
    """Before that room is taken: 700 atoms with few edges beside a crowd of 300."""
    monkeypatch.setattr(cell_list, "FEWEST_ATOMS", fewest)
    random = np.random.default_rng(0)
    positions = np.concatenate([random.random((700, 3)) * 60.0, random.random((300, 3))])
    cell = np.eye(3) * 60.0
    found = EdgeSearch((True,) * 3, 2.0).arrays(positions, cell)
    widest = int((found.neighbors < found.neighbors.max()).sum(axis=1).max())
    assert widest >= 299
    monkeypatch.setattr("mdsens.particles.neighbor_pairs.FEW_EDGES", 0.0)
    for slots, fits in ((1001 * widest, True), (999 * widest, False)):
        monkeypatch.setattr(
            "mdsens.particles.neighbor_pairs.available_memory", lambda slots=slots: 16 * slots
        )
        if fits:
            EdgeSearch((True,) * 3, 2.0).arrays(positions, cell)
            continue
        with pytest.raises(InputError, match=f"an atom has {widest} neighbours, .* 1000 atoms"):
            EdgeSearch((True,) * 3, 2.0).arrays(positions, cell)
