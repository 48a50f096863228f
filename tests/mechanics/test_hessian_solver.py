"""Solves with the assembled Hessian against the dense pseudo-inverse, and Newton's method on it."""

import functools
import gc
import weakref

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

import mdsens
from mdsens.errors import MdsensWarning
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.minimisers.newton import Newton

pytestmark = pytest.mark.xdist_group("hessian-solver")

COPPER = mdsens.potentials.SuttonChen(1.2382e-2, 3.61, 39.432, 9.0, 6.0, 4.8)
ARGON = mdsens.potentials.LennardJones(0.0104, 3.405, 8.5)


def vacancy(repeats, rattle, name="Ar", a=5.26):
    atoms = bulk(name, "fcc", a=a, cubic=True) * (repeats, repeats, repeats)
    del atoms[0]
    atoms.rattle(rattle, seed=1)
    return mdsens.System.from_ase(atoms)


@functools.cache
def dense_condition(name):
    """dF/dq column by column, by automatic differentiation."""
    equilibrium = relaxed(name)
    q = equilibrium.q
    jacobian = jax.jit(jax.jacfwd(equilibrium.backbone.condition))(q)
    return np.asarray(jacobian).reshape(q.size, q.size)


RELAXED = {
    "crystal": lambda: mdsens.relax(vacancy(2, 0.05), ARGON),
    "relaxed cell": lambda: mdsens.relax(vacancy(2, 0.05), ARGON, cell="full"),
    "isotropic cell": lambda: mdsens.relax(vacancy(2, 0.05), ARGON, cell="isotropic"),
    "fixed atoms": lambda: mdsens.relax(vacancy(2, 0.05), ARGON, fixed=[3, 4, 5]),
    "metal": lambda: mdsens.relax(vacancy(2, 0.05, "Cu", 3.61), COPPER),
    "metal in a relaxed cell": lambda: mdsens.relax(
        vacancy(2, 0.05, "Cu", 3.61), COPPER, cell="full"
    ),
    "cluster": lambda: mdsens.relax(cases.bipyramid(), cases.POTENTIALS["lj-binary"], fmax=1e-12),
    "packing with a rattler": lambda: mdsens.relax(*cases.jammed_packing(), fmax=1e-12),
}


@functools.cache
def relaxed(name):
    return RELAXED[name]()


#: The blocks of a metal are tried in a cell that relaxes.
TRIED = cases.with_others([name for name in RELAXED if name != "metal"], ["metal"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_the_matrix_is_the_derivative_of_the_condition(name):
    equilibrium = relaxed(name)
    solver = HessianSolver(equilibrium.backbone, equilibrium.q)
    expected = dense_condition(name)
    scale = np.abs(expected).max()
    assert np.abs(solver.dense() - expected).max() < 1e-11 * scale


@pytest.mark.slow
@pytest.mark.parametrize("method", ["direct", "multigrid", "block-jacobi"])
@pytest.mark.parametrize("name", TRIED)
def test_solutions_are_those_of_the_pseudo_inverse(name, method):
    equilibrium = relaxed(name)
    landscape, q = equilibrium.backbone, equilibrium.q
    floppy = equilibrium.certificate.floppy_vectors
    solver = HessianSolver(landscape, q, method).with_floppy(floppy)
    jacobian = dense_condition(name)
    rights = np.random.default_rng(0).normal(size=(2, *q.shape))
    # Rows of atoms that do not move are those of the identity, and no part of the null space.
    expected = np.linalg.pinv(jacobian, rcond=1e-8) @ rights.reshape(2, -1).T
    found, _ = solver.solve(rights, rtol=1e-12)
    ours = found.reshape(2, -1).T
    across = np.eye(q.size) - solver.null_space.T @ solver.null_space
    assert np.abs(across @ (ours - expected)).max() < 1e-7 * np.abs(expected).max()
    along = np.abs(solver.null_space @ ours).max(initial=0.0)
    assert along < 1e-10 * np.abs(ours).max()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["direct", "multigrid"])
def test_newton_goes_down_to_the_minimum_and_never_up(monkeypatch, method):
    if method == "multigrid":
        monkeypatch.setattr("mdsens.linalg.sparse_solver.DIRECT_LIMIT", {3: 0})
        monkeypatch.setattr("mdsens.minimisers.newton.EIGENVECTOR_LIMIT", 1)
    system = vacancy(3, 0.1)
    newton = mdsens.relax(system, ARGON, method="newton", fmax=1e-10)
    other = mdsens.relax(system, ARGON, method="fire", fmax=1e-10)
    enthalpies = newton.history.enthalpies
    assert newton.converged
    assert (np.diff(enthalpies) <= 1e-12 * np.abs(enthalpies[1:])).all()
    assert float(newton.energy) == pytest.approx(float(other.energy), abs=1e-10)
    assert newton.history.steps < 15


@pytest.fixture
def as_if_large(monkeypatch):
    """Hessians are neither diagonalised nor factorised."""
    monkeypatch.setattr("mdsens.linalg.sparse_solver.DIRECT_LIMIT", {2: 0, 3: 0})
    monkeypatch.setattr("mdsens.minimisers.newton.EIGENVECTOR_LIMIT", 1)


def straight_trimer(bend: float) -> mdsens.System:
    """Three particles in a row, a saddle, but for a small bend."""
    return mdsens.System([[0.0, 0.0, 0.0], [1.1, bend, 0.0], [2.2, 0.0, 0.0]])


def assert_triangle(relaxed: mdsens.Equilibrium) -> None:
    distances = [float(jnp.linalg.norm(relaxed.positions[i] - relaxed.positions[i - 1]))
                 for i in range(3)]  # fmt: skip
    assert relaxed.certificate.kind == "minimum"
    assert np.ptp(distances) < 1e-8


@pytest.mark.slow
def test_newton_leaves_a_saddle_along_negative_curvature():
    potential = cases.POTENTIALS["lj-smooth"]
    assert_triangle(mdsens.relax(straight_trimer(1e-4), potential, method=Newton(), fmax=1e-10))


def test_newton_leaves_a_saddle_that_is_too_large_to_diagonalise(as_if_large):
    potential = cases.POTENTIALS["lj-smooth"]
    relaxed = mdsens.relax(straight_trimer(1e-4), potential, method=Newton(), fmax=1e-10)
    assert_triangle(relaxed)
    assert relaxed.history.steps < 60


@pytest.mark.slow
@pytest.mark.parametrize("rattle", cases.with_others([0.6], [0.3]))
def test_newton_comes_down_from_far_away(as_if_large, rattle):
    # Where the Hessian curves down in many directions; the force along the way is up to 1e4 eV/Ang.
    relaxed = mdsens.relax(vacancy(2, rattle), ARGON, method="newton", fmax=1e-9, max_steps=150)
    enthalpies = relaxed.history.enthalpies
    assert relaxed.converged
    assert relaxed.certificate.stable
    assert (np.diff(enthalpies) <= 1e-12 * np.abs(enthalpies[1:])).all()


@pytest.mark.slow
def test_traced_derivatives_of_a_large_system_use_the_assembled_hessian(monkeypatch):
    # Two thousand unknowns count as large; here a hundred do.
    monkeypatch.setattr("mdsens.implicit.linear.DENSE_LIMIT", 1)
    system = vacancy(2, 0.05)

    def length(potential):
        relaxed = mdsens.relax(system, potential, fmax=1e-10)
        return jnp.linalg.norm(relaxed.positions[0] - relaxed.positions[9])

    equilibrium = mdsens.relax(system, ARGON, fmax=1e-10)
    reference = mdsens.sensitivity(equilibrium, "distance(0,9)")["distance(0,9)"]
    calls = []
    solve = HessianSolver.solve
    monkeypatch.setattr(
        HessianSolver, "solve", lambda *args, **kw: calls.append(1) or solve(*args, **kw)
    )
    for derivative in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        found = derivative(length)(ARGON)
        assert float(found.sigma) == pytest.approx(float(reference["sigma"]), rel=1e-7)
    assert len(calls) >= 3


@pytest.mark.parametrize("method", ["direct", "lattice"])
def test_a_hessian_is_let_go_of_with_its_solver(method):
    # What the collection of garbage has to find stays while the next one is assembled.
    equilibrium = relaxed("crystal")
    solver = HessianSolver(equilibrium.backbone, equilibrium.q, method)
    solver.solve(np.ones((1, *equilibrium.q.shape)))
    matrix = weakref.ref(solver.matrix)
    collects = gc.isenabled()
    gc.disable()
    try:
        del solver
        assert matrix() is None
    finally:
        if collects:
            gc.enable()


@pytest.mark.slow
def test_a_hessian_that_is_not_finite_is_an_error():
    equilibrium = mdsens.relax(vacancy(2, 0.0), ARGON)
    broken = eqx.tree_at(lambda l: l.potential.epsilon, equilibrium.backbone, jnp.asarray(jnp.nan))
    with pytest.raises(mdsens.implicit.LinearSolveError, match="not finite"):
        HessianSolver(broken, equilibrium.q).solve(np.zeros((1, *equilibrium.q.shape)))


@pytest.mark.slow
def test_a_hessian_serves_as_long_as_it_shrinks_the_force(monkeypatch):
    from mdsens.mechanics import hessian_solver

    assembled = []
    original = hessian_solver.hessian_and_gradient

    def counted(*arguments):
        assembled.append(1)
        return original(*arguments)

    monkeypatch.setattr(hessian_solver, "hessian_and_gradient", counted)
    equilibrium = mdsens.relax(vacancy(3, 0.05), ARGON, method="newton", fmax=1e-12)
    assert 0 < len(assembled) < equilibrium.history.steps
    assert equilibrium.certificate.stable


@pytest.mark.slow
def test_a_preconditioner_saves_most_steps():
    plain, preconditioned = (
        mdsens.relax(vacancy(3, 0.05), ARGON, method=method, fmax=1e-10)
        for method in ("lbfgs", "preconditioned-lbfgs")
    )
    assert float(preconditioned.energy) == pytest.approx(float(plain.energy), rel=1e-12)
    assert preconditioned.history.steps < 0.5 * plain.history.steps


@pytest.mark.slow
def test_without_memory_for_a_hessian_auto_goes_on_without_and_newton_says_so(monkeypatch):
    monkeypatch.setattr("mdsens.mechanics.hessian_solver.available_memory", lambda: 1024)
    with pytest.warns(MdsensWarning, match="sparse Hessian would take up to"):
        equilibrium = mdsens.relax(vacancy(3, 0.05), ARGON)
    assert {method for method, _ in equilibrium.history.methods} == {"LBFGS"}
    assert equilibrium.largest_force <= 1e-8
    with (
        pytest.warns(MdsensWarning, match="GiB free"),
        pytest.raises(mdsens.errors.InputError, match="no memory for the Hessian; use 'lbfgs'"),
    ):
        mdsens.relax(vacancy(3, 0.05), ARGON, method="newton")


@pytest.mark.slow
def test_the_certificate_of_a_large_system_says_that_its_eigenvalue_is_an_estimate():
    equilibrium = mdsens.relax(vacancy(5, 0.05), ARGON)
    matrix = HessianSolver(equilibrium.backbone, equilibrium.q).dense()
    exact = np.linalg.eigvalsh(matrix)[3]
    certificate = equilibrium.certificate
    assert certificate.lowest_eigenvalue == pytest.approx(exact, rel=0.05)
    assert f"lowest eigenvalue about {certificate.lowest_eigenvalue:.2g} eV" in str(certificate)
    small = mdsens.relax(vacancy(2, 0.05), ARGON).certificate
    assert "about" not in str(small)
