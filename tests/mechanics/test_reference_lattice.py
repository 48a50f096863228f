"""Lattices found from positions, and what their averages make of linear solves."""

import itertools

import ase.build
import cases
import jax
import numpy as np
import pytest

import mdsens
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner
from mdsens.linalg.sparse_plus_low_rank import blocks_of
from mdsens.linalg.sparse_solver import SparseSolver
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.mechanics.reference_lattice import lattice_sites, smith_normal_form
from mdsens.potentials import LennardJones, StillingerWeber

ARGON = LennardJones(0.0104, 3.405, 6.2, onset=5.7)
SALT = LennardJones(
    {"Na-Na": 0.01, "Na-Cl": 0.03, "Cl-Cl": 0.01}, {"Na-Na": 3.6, "Na-Cl": 2.5, "Cl-Cl": 3.6},
    6.2, onset=5.7, species=("Na", "Cl"),
)  # fmt: skip
SILICON = StillingerWeber(2.1683, 2.0951, **cases.SILICON)
SHEAR = np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.05], [0.02, 0.0, 1.0]])


def atoms_of(name):
    if name == "primitive":
        atoms = ase.build.bulk("Ar", "fcc", 5.26).repeat((6, 7, 8))
        atoms.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
        return atoms
    if name == "salt":
        return ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True).repeat(4)
    if name == "diamond":
        return ase.build.bulk("Si", "diamond", 5.431, cubic=True).repeat(4)
    if name == "hexagonal":
        return ase.build.bulk("Ar", "hcp", 3.72, 6.075).repeat((7, 6, 5))
    if name == "slab":
        return ase.build.fcc111("Ar", (6, 6, 12), a=5.26, vacuum=9.0, periodic=False)
    if name == "wire":
        atoms = ase.build.bulk("Ar", "fcc", 5.26, cubic=True).repeat((3, 3, 12))
        atoms.pbc = (False, False, True)
        return atoms
    if name == "cluster":
        atoms = ase.build.bulk("Ar", "fcc", 5.26, cubic=True).repeat(5)
        atoms.pbc = False
        return atoms
    return ase.build.bulk("Ar", "fcc", 5.26, cubic=True).repeat(5)


def solver_of(system, potential, method="auto"):
    found = mdsens.relax(system, potential, max_steps=0)
    return HessianSolver(found.landscape, found.q, method), found


def sites_of(system, solver):
    blocks = blocks_of(solver.matrix)
    return lattice_sites(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc,
        np.asarray(system.species), blocks.indptr, blocks.indices,
    )  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3])
def test_rings_tell_apart_what_a_lattice_does(dimension):
    random = np.random.default_rng(dimension)
    for _ in range(20):
        periods = random.integers(-4, 5, (dimension, dimension))
        order = round(abs(np.linalg.det(periods)))
        if order == 0:
            continue
        rings, turned = smith_normal_form(periods)
        assert np.prod(rings) == order
        assert not np.any((periods @ turned) % rings)
        # Every cell has a place, and as many differ as there are cells.
        cells = np.array(
            list(itertools.islice(itertools.product(range(order), repeat=dimension), 4000))
        )
        places = (cells @ turned) % rings
        inverse = np.linalg.inv(periods)
        for first, second in random.integers(0, len(cells), (30, 2)):
            apart = (cells[first] - cells[second]) @ inverse
            same = bool(np.abs(apart - np.round(apart)).max() < 1e-9)
            assert same == bool((places[first] == places[second]).all())


@pytest.mark.parametrize(
    ("name", "potential", "basis"),
    [
        ("cubic", ARGON, 1),
        ("primitive", ARGON, 1),
        ("diamond", SILICON, 2),
        pytest.param("salt", SALT, 2, marks=pytest.mark.slow),
        pytest.param("hexagonal", ARGON, 2, marks=pytest.mark.slow),
    ],
)
def test_of_a_perfect_crystal_it_is_the_inverse(name, potential, basis):
    system = mdsens.System.from_ase(atoms_of(name))
    solver, _ = solver_of(system, potential)
    sites = sites_of(system, solver)
    assert sites.basis == basis
    assert (sites.kinds >= 0).all()
    assert np.prod(sites.shape) * basis == system.atom_count
    inverse = LatticePreconditioner(blocks_of(solver.matrix), sites)
    vector = solver.sparse.project(np.random.default_rng(0).normal(size=solver.atom_rows))
    found = solver.sparse.project(inverse(solver.matrix @ vector))
    np.testing.assert_allclose(found, vector, atol=2e-4)
    columns = np.stack([vector, 2.0 * vector], axis=1)
    np.testing.assert_allclose(inverse(columns)[:, 1], 2.0 * inverse(vector), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["cubic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("diamond", "slab")),
     "wire", "cluster"],
)  # fmt: skip
def test_a_crystal_with_a_vacancy_is_solved_in_few_iterations(name):
    atoms = atoms_of(name)
    del atoms[len(atoms) // 2]
    atoms.rattle(0.02, seed=1)
    potential = SILICON if name == "diamond" else ARGON
    relaxed = mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=1e-6)
    given = relaxed.landscape, relaxed.q
    rights = np.random.default_rng(0).normal(size=(1, *relaxed.q.shape))
    exact, _ = HessianSolver(*given, "direct").solve(rights, 1e-11)
    solver = HessianSolver(*given, "lattice")
    found, solution = solver.solve(rights, 1e-11)
    np.testing.assert_allclose(found, exact, atol=1e-7 * np.abs(exact).max())
    if name in ("cubic", "diamond"):
        usual = HessianSolver(*given, "multigrid").solve(rights, 1e-11)[1]
        assert solution.method == "lattice"
        assert solution.steps[0] < 0.7 * usual.steps[0]
        assert str(solver.sparse).startswith("conjugate gradients, lattice of")
    lowest = HessianSolver(*given, "multigrid").lowest_eigenvalue
    assert solver.lowest_eigenvalue == pytest.approx(lowest, rel=0.1)


@pytest.mark.parametrize("turn", [np.eye(3), SHEAR], ids=["upright", "sheared"])
def test_the_period_of_a_vacuum_is_none_of_the_lattice(turn):
    atoms = ase.build.fcc111("Ar", (5, 6, 8), a=5.26, vacuum=7.3, periodic=True)
    # Across the boundary, so that vacuum is in the middle of the cell.
    atoms.positions[:, 2] += 0.6 * atoms.cell[2, 2]
    atoms.wrap()
    atoms.set_cell(atoms.cell.array @ turn, scale_atoms=True)
    solver, found = solver_of(mdsens.System.from_ase(atoms), ARGON)
    sites = sites_of(found.system, solver)
    assert sites.basis == 1
    assert (sites.kinds >= 0).all()
    # Each atom has a place of its own, and some layers beside them are empty.
    assert len(np.unique(np.ravel_multi_index(tuple(sites.places.T), sites.shape))) == len(atoms)
    assert len(atoms) < np.prod(sites.shape) < 2 * len(atoms)


def test_atoms_off_the_lattice_and_fixed_ones_are_no_sites():
    atoms = atoms_of("cubic")
    atoms.append(ase.Atom("Ar", atoms.positions[200] + [2.63, 2.63, 2.63]))
    system = mdsens.System.from_ase(atoms)
    solver, _ = solver_of(system, ARGON)
    sites = sites_of(system, solver)
    assert sites.kinds[-1] == -1
    assert (sites.kinds[:-1] == 0).all()
    fixed = np.zeros(len(atoms), bool)
    fixed[:40] = True
    held, equilibrium = solver_of(system.with_fixed(fixed), ARGON, "lattice")
    rights = np.random.default_rng(1).normal(size=(3, *equilibrium.q.shape)) * ~fixed[:, None]
    found, _ = held.solve(rights, 1e-10)
    exact, _ = solver_of(system.with_fixed(fixed), ARGON, "direct")[0].solve(rights, 1e-10)
    np.testing.assert_allclose(found, exact, atol=1e-6 * np.abs(exact).max())


def test_what_is_no_crystal_has_no_lattice():
    packing = mdsens.particles.random_packing(
        {"small": 200, "large": 200}, {"small": 1.0, "large": 1.4}, 0.7, dimension=3, seed=0
    )
    potential = mdsens.potentials.SoftSphere(
        1.0, {"small-small": 1.0, "small-large": 1.2, "large-large": 1.4},
        species=("small", "large"),
    )  # fmt: skip
    solver, _ = solver_of(packing, potential)
    assert sites_of(packing, solver) is None
    assert solver.sparse.method == "multigrid"


def test_a_flat_lattice_is_recognised():
    rows, columns = np.meshgrid(np.arange(14), np.arange(16), indexing="ij")
    places = np.stack([rows + 0.5 * columns, np.sqrt(0.75) * columns], -1).reshape(-1, 2)
    cell = np.array([[14.0, 0.0], [8.0, 16 * np.sqrt(0.75)]])
    system = mdsens.System(places * 3.8, cell * 3.8, ("Ar",), np.zeros(224, int), (True, True))
    solver, _ = solver_of(system, ARGON)
    sites = sites_of(system, solver)
    assert sites.basis == 1
    assert sorted(sites.shape) == [2, 112] or np.prod(sites.shape) == 224
    inverse = LatticePreconditioner(blocks_of(solver.matrix), sites)
    vector = solver.sparse.project(np.random.default_rng(0).normal(size=solver.atom_rows))
    found = solver.sparse.project(inverse(solver.matrix @ vector))
    np.testing.assert_allclose(found, vector, atol=2e-4)


@pytest.mark.slow
def test_traced_derivatives_use_it_too():
    atoms = atoms_of("cubic")
    del atoms[0]
    start = mdsens.System.from_ase(atoms)

    def distance(sigma):
        potential = LennardJones(0.0104, sigma, 6.2, onset=5.7)
        relaxed = mdsens.relax(start, potential, fmax=1e-9)
        return mdsens.observables.distance(3, 7)(relaxed)

    found = float(jax.jit(jax.grad(distance))(3.405))
    relaxed = mdsens.relax(start, ARGON, fmax=1e-9)
    expected = mdsens.sensitivity(relaxed, ["distance(3,7)"], wrt="sigma")["distance(3,7)"]["sigma"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_matrix_that_is_not_positive_on_average_is_refused():
    system = mdsens.System.from_ase(atoms_of("cubic"))
    solver, _ = solver_of(system, ARGON)
    sites = sites_of(system, solver)
    with pytest.raises(ValueError, match="not positive"):
        LatticePreconditioner(-1.0 * blocks_of(solver.matrix), sites)
    unstable = SparseSolver(
        -1.0 * blocks_of(solver.matrix), solver.null_space, solver.null_space.T,
        find_sites=lambda: sites,
    )  # fmt: skip
    assert unstable.failures[0].startswith("lattice: ")
