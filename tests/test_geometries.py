"""Every mechanism on every geometry: slabs, wires, clusters, ribbons, skewed and small cells.

The oracle is a few lines of NumPy: energy, gradient and Hessian of all pairs and their images. What
is compiled for each structure is tried on one of each kind; with MDSENS_EVERY_GEOMETRY set, on all.
"""

import functools
import itertools
import os

import ase.build
import jax
import numerical
import numpy as np
import pytest
import scipy.spatial.transform

import mdsens
from mdsens import mechanics, observables
from mdsens.errors import InputError
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.potentials import LennardJones
from mdsens.sensitivities.linear_response import LinearResponse

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("geometries")]
CUTOFF = 2.5
LJ = LennardJones(1.0, 1.0, CUTOFF)
TURN = scipy.spatial.transform.Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
FCC = ase.build.bulk("Ar", "fcc", 1.55, cubic=True)
SLAB = ase.build.fcc100("Cu", (1, 1, 4), a=1.55)
#: A tetrahedron's worth of atoms, twisted along its period.
STRAND = np.array([[0, 0.4, 0.3], [0.5, -0.5, 0.3], [1.0, 0.1, -0.6], [1.45, 0.4, 0.9]])
TETRAHEDRON = 0.4 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
HEXAGONAL = 1.11 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
SQUARES = np.array(list(itertools.product((0, 1), repeat=2)))


def geometry(positions, cell=None, pbc=False, turn=None):
    """A system a little off its symmetric places."""
    positions = np.array(positions, float)
    positions += np.random.default_rng(3).normal(scale=0.02, size=positions.shape)
    dimension = positions.shape[1]
    turn = np.eye(dimension) if turn is None else turn
    cell = np.zeros((dimension, dimension)) if cell is None else np.array(cell, float)
    return mdsens.System(positions @ turn, cell @ turn, pbc=pbc, units="reduced")


def diagonal(*lengths):
    return np.diag(np.array(lengths, float))


#: Each with the minimiser that relaxes it: every one of them has its turn.
GEOMETRIES = {
    "crystal": (geometry(FCC.positions, FCC.cell[:], True), "lbfgs"),
    "sheared crystal": (
        geometry(FCC.positions, [[1, 0, 0], [4, 1, 0], [-3, 5, 1]] @ FCC.cell[:], True), "newton",
    ),
    "slab": (geometry(SLAB.positions, SLAB.cell[:], (True, True, False)), "lbfgs"),
    "slab in vacuum": (
        geometry(SLAB.positions, SLAB.cell[:] + diagonal(0, 0, 9), (True, True, False)), "cg",
    ),
    "turned slab": (
        geometry(SLAB.positions, SLAB.cell[:], (True, True, False), TURN), "preconditioned-lbfgs",
    ),
    "wire along x": (geometry(STRAND, diagonal(1.9, 0, 0), (True, False, False)), "auto"),
    "wire along y": (
        geometry(STRAND, diagonal(1.9, 0, 0), (True, False, False), np.roll(np.eye(3), 1, 1)),
        "auto",
    ),
    "wire along its second vector": (
        geometry(STRAND[:, [2, 0, 1]], diagonal(0, 1.9, 0), (False, True, False)), "newton",
    ),
    "turned wire": (geometry(STRAND, diagonal(1.9, 0, 0), (True, False, False), TURN), "auto"),
    "cluster": (geometry(TETRAHEDRON), "fire"),
    "flat crystal": (geometry(SQUARES @ HEXAGONAL, 2 * HEXAGONAL, True), "lbfgs"),
    "ribbon": (
        geometry(SQUARES @ HEXAGONAL, [2 * HEXAGONAL[0], [0, 0]], (True, False)), "lbfgs",
    ),
    "flat cluster": (geometry(SQUARES @ HEXAGONAL), "gradient-descent"),
}  # fmt: skip
#: Of these also one atom is held.
HELD = ("crystal", "slab", "turned wire", "cluster", "ribbon")
NAMES = [*GEOMETRIES, *(f"{name}, one atom held" for name in HELD)]


def motions(system):
    """How many ways there are to shift and to turn a free system as it is."""
    flat, periods = system.dimension == 2, sum(system.pbc)
    turns = {0: 1 if flat else 3, 1: 0 if flat else 1}.get(periods, 0)
    return system.dimension, turns


@functools.cache
def relaxed(name):
    kind, held, _ = name.partition(", ")
    system, method = GEOMETRIES[kind]
    if held:
        system = system.with_fixed([0])
    return mdsens.relax(system, LJ, method, fmax=1e-9, max_steps=50_000)


every = pytest.mark.parametrize("name", NAMES)


def pair_derivatives(r, sigma=1.0):
    """First and second derivative of the pair energy."""
    s6, width = (sigma / r) ** 6, 0.1 * CUTOFF
    u = 4 * (s6**2 - s6), 4 * (-12 * s6**2 + 6 * s6) / r, 4 * (156 * s6**2 - 42 * s6) / r**2
    t = np.clip((r - 0.9 * CUTOFF) / width, 0, 1)
    s = (1 - 10 * t**3 + 15 * t**4 - 6 * t**5, -30 * (t * (1 - t)) ** 2 / width,
         -60 * t * (1 - t) * (1 - 2 * t) / width**2)  # fmt: skip
    return s[1] * u[0] + s[0] * u[1], s[2] * u[0] + 2 * s[1] * u[1] + s[0] * u[2]


def gradient_and_hessian(system, sigma=1.0):
    """Of all pairs, images included, in NumPy."""
    positions = np.asarray(system.positions)
    count, dimension = positions.shape
    first, second, _, vectors = numerical.images(positions, system.cell, system.pbc, CUTOFF)
    r = np.linalg.norm(vectors, axis=1)
    slope, curvature = pair_derivatives(r, sigma)
    unit = vectors / r[:, None]
    gradient = np.zeros((count, dimension))
    np.add.at(gradient, first, -slope[:, None] * unit)
    along = unit[:, :, None] * unit[:, None]
    blocks = curvature[:, None, None] * along
    blocks += (slope / r)[:, None, None] * (np.eye(dimension) - along)
    hessian = np.zeros((count, count, dimension, dimension))
    np.add.at(hessian, (first, first), blocks)
    np.add.at(hessian, (first, second), -blocks)
    return gradient, hessian.transpose(0, 2, 1, 3).reshape(2 * [count * dimension])


@functools.cache
def oracle(name):
    """Hessian of the atoms that may move, its eigenvalues, which are null, and which are free."""
    system = relaxed(name).system
    free = np.repeat(~np.asarray(system.fixed), system.dimension)
    hessian = gradient_and_hessian(system)[1][np.ix_(free, free)]
    values = np.linalg.eigvalsh(hessian)
    return hessian, values, np.abs(values) < 1e-7 * np.abs(values).max(), free


@every
def test_it_relaxes_to_a_minimum(name):
    equilibrium = relaxed(name)
    gradient = gradient_and_hessian(equilibrium.system)[0]
    np.testing.assert_allclose(equilibrium.forces, -gradient, atol=1e-11)
    held = np.asarray(equilibrium.system.fixed)
    assert np.linalg.norm(gradient[~held], axis=1).max() < 1e-9
    assert equilibrium.certificate.kind == "minimum"


@every
def test_the_hessian_is_that_of_all_pairs(name):
    equilibrium = relaxed(name)
    hessian, _, _, free = oracle(name)
    scale = np.abs(hessian).max()
    ours = equilibrium.dense_jacobian[np.ix_(free, free)]
    np.testing.assert_allclose(ours, hessian, atol=1e-11 * scale)
    found = np.asarray(mechanics.hessian(equilibrium.system, LJ, equilibrium.edge_list))
    np.testing.assert_allclose(found[np.ix_(free, free)], hessian, atol=1e-11 * scale)


@every
def test_the_certificate_counts_what_is_null(name):
    _, values, null, _ = oracle(name)
    certificate = relaxed(name).certificate
    assert certificate.null_mode_count == null.sum()
    np.testing.assert_allclose(certificate.lowest_eigenvalues, values[~null][:6], rtol=1e-6)
    if "held" not in name:
        modes = certificate.null_modes
        found = modes["translations"], modes["rotations"], modes["floppy"]
        assert found == (*motions(relaxed(name).system), 0)


@pytest.mark.parametrize("method", ["direct", "multigrid", "block-jacobi"])
@every
def test_systems_are_solved_as_by_a_pseudo_inverse(name, method):
    equilibrium = relaxed(name)
    hessian, _, _, free = oracle(name)
    solver = HessianSolver(equilibrium.backbone, equilibrium.q, method)
    solver = solver.with_floppy(equilibrium.certificate.floppy_vectors)
    right = np.zeros((2, equilibrium.q.size))
    right[:, free] = np.random.default_rng(0).normal(size=(2, free.sum()))
    found, _ = solver.solve(right.reshape(2, *equilibrium.q.shape))
    expected = right[:, free] @ np.linalg.pinv(hessian, rcond=1e-7, hermitian=True)
    np.testing.assert_allclose(
        found.reshape(2, -1)[:, free], expected, atol=1e-7 * np.abs(expected).max()
    )


def test_without_cholmod_a_factor_is_as_good(monkeypatch):
    monkeypatch.setattr("mdsens.linalg.factorisation.has_cholmod", lambda: False)
    for name in ("slab", "turned wire", "cluster", "ribbon"):
        test_systems_are_solved_as_by_a_pseudo_inverse(name, "direct")


def some(*names):
    """A few geometries, where each is compiled anew; all where MDSENS_EVERY_GEOMETRY is set."""
    chosen = NAMES if os.environ.get("MDSENS_EVERY_GEOMETRY") else names
    return pytest.mark.parametrize("name", chosen)


ASKED = ["energy", "distance(0,1)", "angle(0,1,2)", "mean_squared_displacement",
         "coordination(1.3,0.4)"]  # fmt: skip


def response(name):
    """d positions / d sigma by a pseudo-inverse of NumPy's Hessian."""
    system = relaxed(name).system
    hessian, _, _, free = oracle(name)
    # The gradient is a sum of some hundred forces of up to 1e2, each good to 1e-16 of it.
    change = numerical.derivative(
        lambda sigma: gradient_and_hessian(system, sigma)[0].ravel(), 1.0, 1e-3, noise=1e-12
    )
    assert change.error.max() < 1e-8
    moved = np.zeros(free.shape)
    moved[free] = -np.linalg.pinv(hessian, rcond=1e-7, hermitian=True) @ change.value[free]
    return moved.reshape(system.positions.shape)


@some("slab", "ribbon")
def test_derivatives_are_those_of_a_pseudo_inverse_in_both_modes(name):
    equilibrium = relaxed(name)
    forward, reverse = (
        mdsens.sensitivity(equilibrium, ASKED, "sigma", mode) for mode in ("forward", "reverse")
    )
    moved = np.asarray(forward.positions["sigma"])
    np.testing.assert_allclose(moved, response(name), atol=1e-6)
    for asked in ASKED:
        one, other = (np.asarray(found[asked]["sigma"]) for found in (forward, reverse))
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
    count = len(moved)
    displaced = np.asarray(equilibrium.positions - equilibrium.start)
    expected = 2 * np.sum(displaced * moved) / count
    found = float(forward["mean_squared_displacement"]["sigma"])
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-10)


@some("slab", "turned wire")
def test_derivatives_need_no_matrix(name):
    equilibrium = relaxed(name)
    response_of = LinearResponse(equilibrium.backbone, equilibrium.q)
    found = response_of.tangents(["sigma"], False).tangents["sigma"]
    np.testing.assert_allclose(found, response(name), atol=1e-6)


@every
def test_what_needs_a_volume_has_one_or_says_that_there_is_none(name):
    equilibrium = relaxed(name)
    cell = np.asarray(equilibrium.cell)
    for asked in ("volume", "pressure", "stress", "radial_distribution(2,4)"):
        if np.linalg.det(cell) == 0.0:
            with pytest.raises(InputError, match="needs a volume") as caught:
                observables.parse(asked)(equilibrium)
            assert "\n" not in str(caught.value)
    if np.linalg.det(cell) != 0.0:
        assert float(equilibrium.volume) == pytest.approx(abs(np.linalg.det(cell)), rel=1e-12)
        found = numerical.images(equilibrium.positions, cell, equilibrium.system.pbc, CUTOFF)
        r = np.linalg.norm(found[3], axis=1)
        virial = 0.5 * np.sum(pair_derivatives(r)[0] * r)
        expected = -virial / (len(cell) * abs(np.linalg.det(cell)))
        assert float(equilibrium.pressure) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@some("turned wire")
def test_a_compiled_gradient_of_a_relaxation_is_the_same(name):
    equilibrium = relaxed(name)

    def spread(sigma):
        at_rest = mdsens.relax(
            equilibrium.system, LennardJones(1.0, sigma, CUTOFF), "lbfgs", fmax=1e-10
        ).positions
        return ((at_rest - at_rest.mean(axis=0, keepdims=True)) ** 2).sum()

    positions = np.asarray(equilibrium.positions)
    centred = positions - positions.mean(axis=0)
    found = float(jax.jit(jax.grad(spread))(1.0))
    # In a crystal it vanishes; the response is good to 1e-8.
    assert found == pytest.approx(2 * np.sum(centred * response(name)), rel=1e-6, abs=1e-8)


@some("slab")
def test_a_batch_finds_the_same(name):
    equilibrium = relaxed(name)
    shaken = np.random.default_rng(1).normal(scale=1e-3, size=equilibrium.positions.shape)
    systems = [
        equilibrium.system.with_positions(equilibrium.positions + k * shaken) for k in (1, 2)
    ]
    batch = mdsens.relax_batch(systems, LJ, fmax=1e-9)
    assert batch.converged.all()
    energy = float(equilibrium.energy)
    np.testing.assert_allclose(batch.energies, energy, rtol=1e-12)
    found = mdsens.sensitivity_batch(batch, ["energy", "distance(0,1)"], "sigma")
    kinds = relaxed(name).certificate.null_modes
    for index in range(2):
        assert {kind: count[index] for kind, count in found.null_modes.items()} == kinds
        np.testing.assert_allclose(
            found.lowest_eigenvalues[index, 0],
            equilibrium.certificate.lowest_eigenvalue, rtol=1e-5,
        )  # fmt: skip
        lengths = pair_lengths_change(batch[index], found.positions["sigma"][index])
        expected = pair_lengths_change(equilibrium, response(name))
        np.testing.assert_allclose(lengths, expected, atol=1e-5)


def pair_lengths_change(equilibrium, moved):
    """How the lengths of all pairs within the cell change: whatever way the structure is turned."""
    positions = np.asarray(equilibrium.positions)
    first, second = np.triu_indices(len(positions), 1)
    unit = positions[first] - positions[second]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.sum(unit * (np.asarray(moved)[first] - np.asarray(moved)[second]), axis=1)


def test_a_crystal_is_the_same_in_every_cell_of_its_lattice():
    plain, sheared = relaxed("crystal"), relaxed("sheared crystal")
    assert float(sheared.energy) == pytest.approx(float(plain.energy), rel=1e-12)
    np.testing.assert_allclose(
        sheared.certificate.lowest_eigenvalues, plain.certificate.lowest_eigenvalues, rtol=1e-6
    )
    # Angles are of one of several images that are equally near here, and so not the same.
    for asked in ("distance(0,1)", "distance(2,3)"):
        both = (float(observables.parse(asked)(found)) for found in (plain, sheared))
        assert next(both) == pytest.approx(next(both), abs=1e-6)
