"""Lists without the skin hold all edges in range, from both ends, and derivatives are the same."""

import dataclasses
import sys

import cases
import numerical
import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens.mechanics import near_edges
from mdsens.mechanics.enthalpy import Landscape
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, StillingerWeber

SILICON = StillingerWeber(2.1683, 2.0951, **cases.SILICON)


def ends_and_vectors(system, edge_list):
    """Atom, neighbour and vector of each edge of a list, and its number."""
    positions, owners = np.asarray(system.positions), np.asarray(edge_list.ghost_owners)
    images = np.asarray(edge_list.ghost_images) @ np.asarray(system.cell)
    extended = np.concatenate([positions, positions[owners] + images])
    owner_of = np.concatenate([np.arange(len(positions)), owners])
    block, slot, place = np.nonzero(np.asarray(edge_list.mask))
    first = block * edge_list.neighbors.shape[2] + place
    ends = np.asarray(edge_list.neighbors)[block, slot, place]
    number = np.ravel_multi_index((block, slot, place), edge_list.neighbors.shape)
    return first, owner_of[ends], extended[ends] - positions[first], number


@pytest.mark.parametrize("cell_name", cases.CELLS)
@pytest.mark.parametrize("name", ["morse-binary", "sw"])
def test_edges_in_range_are_kept_and_no_others(name, cell_name, monkeypatch):
    monkeypatch.setattr(near_edges, "FEWEST_ATOMS", 0)
    monkeypatch.setattr(near_edges, "WORTH", 10.0)
    potential = cases.POTENTIALS[name]
    system = cases.structure(cell_name, potential)
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    reach = float(potential.interaction_range)
    edge_list = find_edges(positions, cell, system.pbc, reach, 1.0)
    landscape = Landscape.of(system, potential, edge_list)
    near = near_edges.near_landscape(landscape, landscape.coordinates).edge_list
    i, j, _, vectors = numerical.images(positions, cell, system.pbc, 2.0 * reach)
    kinds = np.asarray(potential.species_index(system))
    ranges = near_edges.ranges_of(potential, int(kinds.max()))
    within = (1.0 + near_edges.BEYOND) * ranges[kinds[i], kinds[j]]
    expected = np.column_stack([i, j, vectors])[np.linalg.norm(vectors, axis=1) < within]
    first, second, apart, number = ends_and_vectors(system, near)
    found = np.column_stack([first, second, apart])
    assert len(found) == len(expected)
    order = [np.lexsort(np.round(one, 9).T) for one in (found, expected)]
    np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=1e-12)

    opposite = np.searchsorted(number, np.asarray(near.reverse).reshape(-1)[number])
    np.testing.assert_array_equal(first[opposite], second)
    np.testing.assert_allclose(apart[opposite], -apart, atol=1e-12)


def test_a_list_that_is_nearly_all_in_range_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(near_edges, "FEWEST_ATOMS", 0)
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(3)
    potential = LennardJones(0.0104, 3.405, 8.0)
    system = mdsens.System.from_ase(atoms)
    edge_list = find_edges(system.positions, system.cell, system.pbc, 8.0)
    landscape = Landscape.of(system, potential, edge_list)
    assert near_edges.near_landscape(landscape, landscape.coordinates) is landscape


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("fmax", [1e-10, 1.0])
def test_sensitivities_are_those_of_all_edges(fmax, mode, monkeypatch):
    """Also where a Newton step leads further than they serve, from the gradient at its start."""
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    del atoms[3]
    atoms.rattle(0.05, seed=1)
    relaxed = mdsens.relax(mdsens.System.from_ase(atoms), SILICON, "fire", fmax=fmax)

    def found():
        asked = dataclasses.replace(relaxed), ["distance(0,9)"], ["sigma", "lambda_"]
        sens, name = mdsens.sensitivity(*asked, mode=mode), "distance(0,9)"
        return [[of[name][one] for one in ("sigma", "lambda_")] for of in (sens, sens.errors)]

    expected, made = found(), []

    def counted(landscape, q):
        made.append(q)
        near = near_edges.near_landscape(landscape, q)
        assert near.edge_list.neighbors.shape[1] < landscape.edge_list.neighbors.shape[1]
        return near

    monkeypatch.setattr(near_edges, "FEWEST_ATOMS", 0)
    # The gradient comes with the Hessian, too.
    monkeypatch.setattr(sys.modules["mdsens.mechanics.sparse_hessian"], "WORTH_LOOPS", 1)
    response = sys.modules["mdsens.sensitivities.linear_response"]
    monkeypatch.setattr(response, "near_landscape", counted)
    derivatives, errors = found()
    np.testing.assert_allclose(derivatives, expected[0], rtol=1e-9)
    np.testing.assert_allclose(errors, expected[1], rtol=1e-3, atol=1e-12)
    assert len(made) == (1 if fmax < 1e-3 else 2)
