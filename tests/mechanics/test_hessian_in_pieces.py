"""The sparse Hessian, put together from pieces of blocks by one core or more, is the derivative."""

import importlib

import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens import mechanics, resources
from mdsens.mechanics import closed_form_hessian, hessian_in_parts
from mdsens.particles import find_edges

POTENTIAL = mdsens.potentials.LennardJones(0.0104, 3.405, 4.5, truncation="force-shifted")
#: Room for edges and ghosts of all structures of one dimension, so that they share programs.
ROOM = {2: (12, 128), 3: (28, 256)}


def crystal(pbc, shear=0.0):
    """Some argon with vacuum along what is not periodic."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True) * (2, 2, 2)
    cell = np.array(atoms.cell) @ (np.eye(3) + shear * np.eye(3, k=1))
    atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    cell = np.array(atoms.cell) * np.where(pbc, 1.0, 3.0)[:, None]
    return mdsens.System(atoms.positions, cell, pbc=pbc)


def layer():
    """A hexagonal layer in two dimensions."""
    places = np.array([[i + 0.5 * (j % 2), 0.75**0.5 * j] for i in range(5) for j in range(6)])
    moved = 3.9 * places + np.random.default_rng(4).normal(scale=0.1, size=places.shape)
    return mdsens.System(moved, np.diag([5.0, 6 * 0.75**0.5]) * 3.9)


SYSTEMS = {
    "sheared": lambda: crystal((True, True, True), shear=0.15),
    "slab": lambda: crystal((True, True, False)),
    "wire": lambda: crystal((True, False, False)),
    "cluster": lambda: crystal((False, False, False)),
    "two dimensions": layer,
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_pieces_that_do_not_divide_a_block_give_the_derivative_of_the_forces(name, monkeypatch):
    system = SYSTEMS[name]()
    edges = find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc, 4.5, 0.2,
        ROOM[system.dimension],
    )  # fmt: skip
    assert edges.neighbors.shape[0] > 1
    # Of 15 or 16 atoms in a block the last piece has some that another one has.
    monkeypatch.setattr(closed_form_hessian, "PIECE_PLACES", 1)
    monkeypatch.setattr(closed_form_hessian, "SMALLEST_PIECE", 7)
    held = np.zeros(system.atom_count, bool)
    held[[3, 17]] = True
    found = []
    for count in (1, 2):
        resources._pool.cache_clear()
        for module in ("resources", "mechanics.closed_form_hessian"):
            module = importlib.import_module(f"mdsens.{module}")
            monkeypatch.setattr(module, "available_cores", lambda count=count: count)
        found.append(hessian_in_parts(system, POTENTIAL, edges, held))
    resources._pool.cache_clear()
    np.testing.assert_array_equal(found[0].data, found[1].data)
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    dense = np.array(mechanics.hessian(system, POTENTIAL, edges))
    dense = dense.reshape(found[0].shape)
    rows = np.repeat(held, system.dimension)
    dense[rows], dense[:, rows] = 0.0, 0.0
    dense[rows, rows] = 1.0
    difference = np.abs(found[0].toarray() - dense).max()
    assert difference < 1e-13 * max(1.0, np.abs(dense).max())


@pytest.mark.parametrize("kind", ["pairs", "sites"])
def test_a_block_without_any_atom_adds_nothing(kind):
    atom = bulk("Ar", "fcc", a=5.26)
    system, potential = mdsens.System.from_ase(atom), POTENTIAL
    if kind == "sites":
        numbers = 2.17, 2.0951, 1.8, 21.0, 1.2, -1.0 / 3.0, 7.05, 0.602, 4.0, 0.0
        potential = mdsens.potentials.StillingerWeber(*numbers)
    edges = find_edges(np.asarray(system.positions), np.asarray(system.cell), system.pbc, 4.5)
    assert edges.neighbors.shape[::2] == (2, 1)
    matrix = hessian_in_parts(system, potential, edges)
    assert matrix.shape == (3, 3)
    # Against its own images an atom does not move.
    np.testing.assert_allclose(matrix.toarray(), 0.0, atol=1e-15)
