"""Cells that lack vectors, or whose vectors mean nothing where they are not periodic."""

import itertools

import numerical
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.particles import find_edges
from mdsens.particles.lattice import completed_cell, expected_edges, heights

TRICLINIC = np.array([[1.9, 0.0, 0.0], [0.6, 1.8, 0.1], [-0.5, 0.4, 1.7]])
BOUNDARIES = [
    *(pytest.param(TRICLINIC, pbc) for pbc in itertools.product((True, False), repeat=3)),
    *(pytest.param(TRICLINIC[:2, :2], pbc) for pbc in itertools.product((True, False), repeat=2)),
]


@pytest.mark.parametrize(("cell", "pbc"), BOUNDARIES)
def test_missing_vectors_are_completed_across_the_others(cell, pbc):
    periodic = np.array(pbc)
    # Whatever stands where nothing is periodic: no vector, or one that depends on the others.
    for missing in (np.zeros(len(cell)), cell.sum(axis=0) if all(pbc) else cell[np.argmax(pbc)]):
        given = np.where(periodic[:, None], cell, missing)
        whole = completed_cell(given, pbc)
        assert np.array_equal(whole[periodic], cell[periodic])
        across, along = whole[~periodic], whole[periodic]
        np.testing.assert_allclose(across @ across.T, np.eye(len(across)), atol=1e-14)
        np.testing.assert_allclose(across @ along.T, 0.0, atol=1e-14)


@pytest.mark.parametrize(("cell", "pbc"), BOUNDARIES)
def test_no_lattice_vector_is_shorter_than_all_heights(cell, pbc):
    lattice = cell[np.array(pbc)]
    steps = np.array(list(itertools.product(range(-4, 5), repeat=len(lattice)))[1:])
    found = heights(cell, pbc)
    assert len(found) == len(lattice)
    for axis, height in enumerate(found):
        across = np.linalg.norm((steps @ lattice)[steps[:, axis] != 0], axis=1)
        assert across.min() >= height - 1e-12
    if sum(pbc) == 1:
        np.testing.assert_allclose(found, np.linalg.norm(lattice, axis=1), rtol=1e-14)


@pytest.mark.parametrize(("cell", "pbc"), BOUNDARIES)
@pytest.mark.parametrize("reach", [2.0, 6.0, 60.0])
def test_edges_are_about_as_many_as_expected(cell, pbc, reach):
    """Against a count of all images, of atoms that are spread evenly."""
    cell = 4.0 * cell
    positions = np.random.default_rng(1).random((40, len(cell))) @ cell
    expected = expected_edges(positions, cell, pbc, reach)
    if expected > 3e5:
        pytest.skip("more than a test should count one by one")
    counted = len(numerical.images(positions, cell, pbc, reach)[0])
    # At a surface an atom has half as many, in a corner an eighth.
    assert counted / 1.3 < expected < 8.0 * counted


def test_edges_beyond_all_memory_are_refused_before_the_search():
    for positions, cell in ((np.eye(3), np.eye(3) * 5.0), (np.eye(2), np.eye(2) * 5.0)):
        with pytest.raises(InputError, match=r"a cutoff of 1e\+06 would make about .* memory for"):
            find_edges(positions, cell, (True,) * len(cell), 1e6)
    assert expected_edges(np.eye(3), np.eye(3), (True,) * 3, 1e300) == np.inf


@pytest.mark.parametrize("cutoff", [60.0, 1e4, 1e12, 1e200])
def test_all_pairs_are_found_however_long_the_cutoff(cutoff):
    """Of a cluster; and of a wire, as far as its edges can be kept."""
    for count in (1, 3):
        positions = 7.0 - 0.3 * np.eye(3)[:count]
        found = find_edges(positions, np.eye(3), (False,) * 3, cutoff)
        assert found.mask.sum() == count * (count - 1)
    reach = min(cutoff, 1e4)
    wire = find_edges(np.zeros((1, 3)), np.diag([0, 1.7, 0]), (False, True, False), reach)
    assert wire.mask.sum() == 2 * int(reach / 1.7)


@pytest.mark.parametrize("far", [1e14, 1e300])
def test_atoms_that_are_too_far_for_digits_are_refused(far):
    with pytest.raises(InputError, match="distances have no digits left"):
        find_edges(np.array([[0.0, 0, 0], [far, 0, 0]]), np.eye(3), (True,) * 3, 2.0)
