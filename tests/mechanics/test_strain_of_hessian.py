"""What a strain does, from the blocks of the Hessian, against derivatives of the forces by JAX."""

import ase.build
import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import System
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.elasticity import (
    condition_in_strain,
    curvature_in_strain,
    curvature_of_blocks,
    forces_in_strains,
    unit_strains,
)
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.potentials import LennardJones

LJ = LennardJones(0.0104, 3.405, 8.0)


def sheared(atoms, pbc=True):
    """Atoms off their sites in a cell without right angles."""
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 1] = 0.06 * cell[0, 0], -0.05 * cell[0, 0]
    atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.01 * cell[0, 0] / 2, seed=1)
    atoms.pbc = pbc
    return System.from_ase(atoms)


def landscape_of(system, potential, mode=None):
    edges = potential.edge_search(system, 0.0).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    return Landscape.of(system, potential, edges, mode, pressure=0.003)


def argon(pbc=True):
    return sheared(ase.build.bulk("Ar", "fcc", a=5.3, cubic=True) * (4, 4, 4), pbc)


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
    landscape = landscape_of(argon(pbc), LJ, mode)
    count, q = landscape.system.atom_count, np.array(landscape.coordinates)
    # Far from any minimum, in a cell that is deformed already.
    q[count:] = 0.3 * np.random.default_rng(0).normal(size=(3, 3))
    along = np.concatenate([np.zeros((9, count, 3)), np.eye(9).reshape(9, 3, 3)], axis=1)
    expected = np.asarray(hessian_products(landscape, jnp.asarray(q), along)).reshape(9, -1)
    solver = HessianSolver(landscape, jnp.asarray(q))
    assert solver._tells_strains
    found = solver.cell_columns.T
    for rows in (slice(0, 3 * count), slice(3 * count, None)):
        scale = np.abs(expected[:, rows]).max()
        assert np.abs(found[:, rows] - expected[:, rows]).max() < 1e-13 * scale


@pytest.mark.parametrize(
    ("potential", "structure", "spacing", "repeats"),
    [
        ("sutton-chen", "fcc", 1.55, 4),
        pytest.param("sw", "diamond", 2.6, 3, marks=pytest.mark.slow),
    ],
)
def test_constants_come_from_the_blocks_of_every_potential(potential, structure, spacing, repeats):
    potential = cases.POTENTIALS[potential]
    atoms = ase.build.bulk("Si", structure, a=spacing, cubic=True) * (repeats, repeats, repeats)
    landscape = landscape_of(sheared(atoms), potential)
    q, strains = landscape.coordinates, unit_strains(3)
    solver = HessianSolver(landscape, q)
    pushed = forces_in_strains(solver.in_strain)
    moves = 0.1 * np.random.default_rng(2).normal(size=pushed.shape)
    condition, step = jax.jit(condition_in_strain), 1e-5
    for strain, found in zip(strains, pushed, strict=True):
        ahead, behind = (
            np.asarray(condition(landscape, q, jnp.asarray(sign * step * strain)))
            for sign in (1.0, -1.0)
        )
        slope = (behind - ahead) / (2.0 * step)
        assert np.abs(found - slope).max() < 1e-8 * np.abs(slope).max()
    expected = np.asarray(
        curvature_in_strain(landscape, q, jnp.asarray(moves), solver.in_strain.forces)
    )
    found = curvature_of_blocks(solver.in_strain, solver.matrix, moves)
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()


def test_blocks_of_several_images_do_not_tell():
    """Nor those of atoms that are held, which the Hessian leaves out."""
    small = System.from_ase(ase.build.bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2))
    held = argon().with_fixed([3])
    for system in (small, held):
        landscape = landscape_of(system, LJ)
        assert HessianSolver(landscape, landscape.coordinates).in_strain is None
