"""The order of atoms along a curve: every atom once, and neighbours near one another."""

import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.particles import curve_order


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_shuffled_lattice_sites_come_back_near_their_neighbors(dimension):
    edge = {1: 512, 2: 32, 3: 16}[dimension]
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * dimension, indexing="ij"), -1)
    sites = np.random.default_rng(0).permutation(grid.reshape(-1, dimension)).astype(float)
    order = curve_order(sites - 7.3)
    assert (np.sort(order) == np.arange(len(sites))).all()
    steps = np.linalg.norm(np.diff(sites[order], axis=0), axis=1)
    # Half of the steps of such a curve, or more, lead to a nearest neighbour.
    assert np.median(steps) == pytest.approx(1.0)
    assert steps.mean() < 2.0 < np.linalg.norm(np.diff(sites, axis=0), axis=1).mean() / 3


def test_order_does_not_follow_from_where_or_how_large_a_structure_is():
    sites = np.random.default_rng(1).normal(size=(200, 3))
    assert (curve_order(sites) == curve_order(1e-3 * sites + 5.0)).mean() > 0.9


@pytest.mark.parametrize("flat", [np.zeros((3, 3)), np.zeros((0, 2)), np.eye(3)[:1]])
def test_atoms_in_one_place_or_none_keep_their_order(flat):
    assert curve_order(flat).tolist() == list(range(len(flat)))


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 4)), np.array([[np.nan, 0.0]])])
def test_positions_that_are_none_are_named(bad):
    with pytest.raises(InputError, match="positions"):
        curve_order(bad)
