"""The dynamical matrix against Hessians of supercells, and its symmetries."""

import cases
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import System, mechanics
from mdsens.mechanics.dynamical_matrix import wave_hessians

FAST = [("lj-smooth", "small"), ("sw", "slab")]
CRYSTALS = [
    *((name, "triclinic") for name in ("lj-binary", "sw-binary", "sutton-chen-binary")),
    ("lj-smooth", "wire"), ("lj-smooth", "flat"), ("sw", "flat"),
]  # fmt: skip
ARBITRARY = np.array([0.131, -0.274, 0.419])


def waves_of(case, *wave_vectors, system=None):
    system = case.system if system is None else system
    along = np.array([wave_vectors]).reshape(-1, 3)[:, : system.dimension] * system.pbc
    edges = case.edges(system)
    return np.asarray(wave_hessians(system, case.potential, edges, jnp.asarray(along)))


def repetition(system, repeats):
    """The same crystal in a cell that is so many times as long in each direction."""
    cell, shifts = np.asarray(system.cell), np.argwhere(np.ones(repeats))
    positions = (shifts @ cell)[:, None] + np.asarray(system.positions)
    return System(
        positions.reshape(-1, len(cell)), np.asarray(repeats)[:, None] * cell, system.symbols,
        np.tile(system.species, len(shifts)), system.pbc, units=system.units,
    )  # fmt: skip


def folds(case):
    """Of the waves that fit a supercell, its Hessian has the Fourier sums and the eigenvalues."""
    repeats = np.where(case.system.pbc, np.array([3, 2, 2])[: case.system.dimension], 1)
    fitting = np.argwhere(np.ones(repeats)) / repeats
    whole = np.zeros((len(fitting), 3))
    whole[:, : len(repeats)] = fitting
    matrices = waves_of(case, *whole)
    repeated = repetition(case.system, repeats)
    hessian = mechanics.sparse_hessian(repeated, case.potential, case.edges(repeated)).toarray()
    size = case.system.positions.size
    first_cell = hessian[:size].reshape(size, -1, size)
    shifts = np.argwhere(np.ones(repeats))
    for q, found in zip(fitting, matrices, strict=True):
        sum_over_images = np.einsum("n,inj->ij", np.exp(2j * np.pi * shifts @ q), first_cell)
        size_of_all = 1e-12 * np.abs(first_cell).max()
        np.testing.assert_allclose(found, sum_over_images, rtol=0, atol=size_of_all)
    expected = np.linalg.eigvalsh(hessian)
    found = np.sort(np.linalg.eigvalsh(matrices).ravel())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@cases.every(FAST)
def test_waves_are_the_modes_of_a_supercell(case):
    folds(case)


@pytest.mark.slow
@cases.every(CRYSTALS)
def test_waves_are_the_modes_of_a_supercell_in_any_geometry(case):
    folds(case)


@cases.every(FAST)
def test_a_wave_is_what_symmetry_makes_of_others(case):
    there, back, shifted, alike = waves_of(
        case, ARBITRARY, -ARBITRARY, ARBITRARY + np.array([1, -2, 3]), np.zeros(3)
    )
    size = 1e-13 * np.abs(there).max()
    assert np.abs(there - there.conj().T).max() < size, "the energy is real"
    assert np.abs(back - there.conj()).max() < size, "time may run backwards"
    assert np.abs(shifted - there).max() < 20 * size, "a reciprocal lattice vector is no wave"
    translation = np.tile(np.eye(3)[0], case.system.atom_count)
    assert np.abs(alike @ translation).max() < 20 * size, "a translation costs nothing"
    assert np.abs(alike.imag).max() < size


def test_the_choice_of_an_image_changes_phases_alone():
    case = cases.case("lj-smooth", "small")
    away = np.array([[0, 0, 0], [1, -1, 0], [2, 0, 1]])
    moved = case.system.with_positions(case.system.positions + away @ np.asarray(case.system.cell))
    here = waves_of(case, ARBITRARY)[0]
    phases = np.repeat(np.exp(2j * np.pi * away @ ARBITRARY), 3)
    turned = phases[:, None] * here * phases.conj()
    np.testing.assert_allclose(
        turned, waves_of(case, ARBITRARY, system=moved)[0], rtol=0, atol=1e-12 * np.abs(here).max()
    )


def test_edges_need_not_know_their_reverse():
    case = cases.case("sw", "slab")
    edges = case.edges()
    bare = type(edges)(
        edges.neighbors, None, edges.ghost_owners, edges.ghost_images, edges.reach,
        edges.atom_count,
    )  # fmt: skip
    along = jnp.asarray((ARBITRARY * case.system.pbc)[None])
    found = np.asarray(wave_hessians(case.system, case.potential, bare, along))
    np.testing.assert_array_equal(found, waves_of(case, ARBITRARY))


@cases.every([("sw", "cluster"), ("sutton-chen", "cluster")])
def test_a_cluster_has_the_matrix_of_its_hessian(case):
    expected = mechanics.sparse_hessian(case.system, case.potential, case.edges()).toarray()
    found = waves_of(case, np.zeros(3))[0]
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()
