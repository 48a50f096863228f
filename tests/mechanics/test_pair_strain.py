"""Columns of a relaxing cell from one pass over pairs, against derivatives of the forces by JAX."""

import ase.build
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import System
from mdsens.mechanics.enthalpy import Landscape, hessian_products
from mdsens.mechanics.pair_strain import cell_columns_of_pairs
from mdsens.potentials import LennardJones

POTENTIAL = LennardJones(0.0104, 3.405, 8.0)


@pytest.mark.parametrize(
    ("mode", "pbc"),
    [
        ("full", (True, True, True)),
        pytest.param("shape", (True, True, True), marks=pytest.mark.slow),
        pytest.param("full", (True, True, False), marks=pytest.mark.slow),
        pytest.param("full", (False, False, True), marks=pytest.mark.slow),
    ],
    ids=["sheared", "shape", "slab", "wire"],
)
def test_columns_of_a_cell_are_the_derivatives_of_the_forces_on_it(mode, pbc):
    atoms = ase.build.bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2)
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 1] = 0.6, -0.5
    atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.pbc = pbc
    system = System.from_ase(atoms)
    edges = POTENTIAL.edge_search(system, 0.5).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    landscape = Landscape.of(system, POTENTIAL, edges, mode, pressure=0.003)
    count, q = system.atom_count, np.array(landscape.coordinates)
    # Far from any minimum, in a cell that is deformed already.
    q[count:] = 0.3 * np.random.default_rng(0).normal(size=(3, 3))
    directions = np.eye(9).reshape(9, 3, 3)
    along = np.concatenate([np.zeros((9, count, 3)), directions], axis=1)
    expected = np.asarray(hessian_products(landscape, jnp.asarray(q), along))
    found = np.asarray(cell_columns_of_pairs(landscape, jnp.asarray(q), jnp.asarray(directions)))
    for rows in (slice(0, count), slice(count, None)):
        scale = np.abs(expected[:, rows]).max()
        assert np.abs(found[:, rows] - expected[:, rows]).max() < 1e-13 * scale
