"""Cells that relax: at constant volume, by masks, under stresses, of slabs and wires.

The oracles are lattice sums, ASE's cell filters, and relaxing again.
"""

import functools
import itertools

import ase.build
import ase.calculators.calculator
import ase.filters
import ase.optimize
import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
import scipy.spatial.transform
from ase.stress import voigt_6_to_full_3x3_stress

import mdsens
from mdsens import observables
from mdsens.errors import InputError, RelaxationError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.mechanics.stress import tensor_of
from mdsens.particles.edges import no_edges
from mdsens.potentials import LennardJones
from mdsens.relaxation.arguments import checked_cell

pytestmark = pytest.mark.xdist_group("cell-modes")
#: Its switch lies between two shells of neighbours.
LJ = LennardJones(1.0, 1.0, 2.2, onset=1.85)
TURN = scipy.spatial.transform.Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
SHEAR = np.array([[1.0, 0.05, 0.02], [0.0, 1.0, 0.03], [0.04, 0.0, 1.0]])
FCC = ase.build.bulk("Ar", "fcc", 1.55, cubic=True)
SLAB = ase.build.fcc100("Cu", (1, 1, 4), a=1.55)
STRAND = np.array([[0, 0.4, 0.3], [0.5, -0.5, 0.3], [1.0, 0.1, -0.6], [1.45, 0.4, 0.9]])
HEXAGONAL = 1.11 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
SQUARES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
STRESS = (0.3, -0.2, 0.1, 0.1, 0.2, 0.3)


def geometry(positions, cell, pbc=True, turn=None):
    """A system a little off its symmetric places."""
    positions = np.array(positions, float)
    positions += np.random.default_rng(3).normal(scale=0.02, size=positions.shape)
    turn = np.eye(positions.shape[1]) if turn is None else turn
    return mdsens.System(positions @ turn, np.array(cell) @ turn, pbc=pbc, units="reduced")


BULK = geometry(FCC.positions @ SHEAR, FCC.cell[:] @ SHEAR)
IN_PLANE, ALONG_X = (True, True, False), (True, False, False)
SYSTEMS = {
    "bulk": BULK,
    "sheared": geometry(
        FCC.positions @ SHEAR, [[1, 0, 0], [4, 1, 0], [-3, 5, 1]] @ FCC.cell[:] @ SHEAR
    ),
    "slab": geometry(SLAB.positions, SLAB.cell[:], IN_PLANE),
    "turned slab": geometry(SLAB.positions, SLAB.cell[:], IN_PLANE, TURN),
    "slab in vacuum": geometry(SLAB.positions, SLAB.cell[:] + np.diag([0, 0, 5.0]), IN_PLANE),
    "wire": geometry(STRAND, np.diag([1.9, 0, 0]), ALONG_X),
    "turned wire": geometry(STRAND, np.diag([1.9, 0, 0]), ALONG_X, TURN),
    "flat": geometry(SQUARES @ HEXAGONAL, 2 * HEXAGONAL @ [[1, 0.03], [0.02, 1]]),
}


# What of the cell relaxes


def relaxing_cell(name, mode):
    return RelaxingCell.of(SYSTEMS[name], checked_cell(mode))


@pytest.mark.parametrize("name", ["bulk", "turned slab", "flat"])
def test_the_shape_changes_at_a_volume_that_is_constant_however_far_it_goes(name):
    cell = relaxing_cell(name, "shape")
    dimension = len(cell.span)
    for seed in range(5):
        eta = 0.3 * float(cell.length) * np.random.default_rng(seed).normal(size=2 * (dimension,))
        deformation = cell.deformation(eta)
        assert np.abs(deformation - np.eye(dimension)).max() > 0.01
        assert np.linalg.det(deformation) == pytest.approx(1.0, rel=1e-14)


@pytest.mark.parametrize("name", ["turned slab", "turned wire"])
@pytest.mark.parametrize("mode", ["isotropic", "diagonal", "full", (1, 0, 1, 0, 1, 0)])
def test_nothing_is_strained_across_the_vacuum(name, mode):
    cell = relaxing_cell(name, mode)
    eta = np.random.default_rng(0).normal(size=(3, 3))
    across = np.linalg.svd(np.asarray(SYSTEMS[name].cell)[list(SYSTEMS[name].pbc)])[2]
    for direction in across[sum(SYSTEMS[name].pbc) :]:
        np.testing.assert_allclose(cell.deformation(eta) @ direction, direction, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "mode", "count"),
    [
        ("bulk", "full", 6), ("bulk", "diagonal", 3), ("bulk", "shape", 5),
        ("bulk", "isotropic", 1), ("bulk", (0, 1, 0, 1, 0, 0), 2), ("turned slab", "full", 3),
        ("turned slab", "shape", 2), ("turned slab", "isotropic", 1), ("slab", "diagonal", 2),
        ("slab", (1, 0, 1, 0, 0, 0), 1),
        ("turned wire", "full", 1), ("turned wire", "diagonal", 1), ("turned wire", "shape", 0),
        ("flat", "full", 3), ("flat", "shape", 2), ("flat", (1, 0, 1), 2),
    ],
)  # fmt: skip
def test_a_mode_has_as_many_strains_as_it_should(name, mode, count):
    assert relaxing_cell(name, mode).strain_count == count


MODES = [
    ("bulk", {"cell": "shape"}),
    ("bulk", {"cell": (1, 1, 0, 0, 1, 1), "stress": STRESS}),
    ("turned slab", {"cell": "full"}),
    ("turned slab", {"cell": "shape"}),
    ("slab in vacuum", {"cell": (1, 0, 0, 0, 0, 1), "stress": (0.05, -0.04, 0, 0, 0, 0.06)}),
    ("turned wire", {"cell": "full"}),
    ("flat", {"cell": "full", "stress": (0.1, -0.1, 0.05)}),
]


@pytest.mark.parametrize(("name", "options"), MODES)
def test_the_gradient_is_that_of_the_enthalpy(name, options):
    system = SYSTEMS[name]
    edge_list = LJ.edge_search(system, 1.0).find(np.array(system.positions), np.array(system.cell))
    stress = np.array(options["stress"]) if "stress" in options else None
    landscape = Landscape.of(system, LJ, edge_list, checked_cell(options["cell"]), stress=stress)
    generator = np.random.default_rng(1)
    q = np.asarray(landscape.coordinates) + 0.03 * generator.normal(size=(len(system.positions)
        + system.dimension, system.dimension))  # fmt: skip
    direction = generator.normal(size=q.shape)
    expected = numerical.derivative(
        lambda t: float(landscape.evaluate(jnp.asarray(q + t * direction))[0]), 0.0, 1e-3,
        noise=1e-13,
    )  # fmt: skip
    _, gradient = landscape.evaluate(jnp.asarray(q))
    numerical.agrees(np.sum(np.asarray(gradient) * direction), expected, rtol=1e-7)


METHODS = ["fire", "gradient-descent", "lbfgs", "cg", "newton", "preconditioned-lbfgs", "auto"]
#: Of a turned slab, and under a stress in the plane.
MODE_OF_METHOD = [2, 2, 2, 2, 6, 6, 6]


@functools.cache
def relaxed_in_compiled_code(number):
    """Energy and metric of the cell of one of the modes."""
    name, options = MODES[number]

    @jax.jit
    def shape(sigma):
        potential = eqx.tree_at(lambda p: p.sigma, LJ, sigma)
        again = mdsens.relax(SYSTEMS[name], potential, "auto", fmax=1e-10, **options)
        return again.energy, again.cell @ again.cell.T

    return shape(1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "mode"),
    list(dict.fromkeys(cases.with_others(
        list(zip(METHODS, MODE_OF_METHOD, strict=True)),
        list(zip(METHODS, range(7), strict=True)),
    ))),
)  # fmt: skip
def test_every_minimiser_finds_what_newton_s_method_finds_in_compiled_code(method, mode):
    name, options = MODES[mode]
    found = mdsens.relax(SYSTEMS[name], LJ, method, fmax=1e-9, max_steps=50_000, **options)
    assert found.converged
    assert found.certificate.kind == "minimum"
    energy, metric = relaxed_in_compiled_code(mode)
    assert float(energy) == pytest.approx(float(found.energy), rel=1e-12)
    np.testing.assert_allclose(metric, found.cell @ found.cell.T, atol=1e-8)


# Closed forms


def lattice_sums(cutoff, a):
    """Sums of r^-12 and r^-6 over the neighbours of an atom of the fcc lattice, for a = 1."""
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), -1).reshape(-1, 3)
    r = 0.5 * np.linalg.norm(grid[grid.sum(axis=1) % 2 == 0], axis=1)
    r = r[(r > 0) & (r * a < cutoff)]
    return np.sum(r**-12), np.sum(r**-6)


def primitive(a):
    crystal = ase.build.bulk("Ar", "fcc", a)
    return mdsens.System(crystal.positions, crystal.cell[:] @ SHEAR, units="reduced")


def test_the_lattice_constant_is_that_of_the_lattice_sums_and_scales_with_sigma_alone():
    plain = LennardJones(1.3, 1.1, 2.9, "none")
    found = mdsens.relax(primitive(1.7), plain, cell="full", fmax=1e-12)
    s12, s6 = lattice_sums(2.9, 1.7)
    constant = 1.1 * (2 * s12 / s6) ** (1 / 6)
    lengths = observables.lattice_constants()(found)
    np.testing.assert_allclose(lengths, constant / np.sqrt(2), rtol=1e-10)
    np.testing.assert_allclose(observables.cell_angles()(found), 60.0, atol=1e-8)
    sensitivity = mdsens.sensitivity(found, ["lattice_constants", "cell_angles"])
    slopes = sensitivity["lattice_constants"]
    np.testing.assert_allclose(slopes["sigma"] * 1.1 / lengths, 1.0, rtol=1e-10)
    np.testing.assert_allclose(slopes["epsilon"], 0.0, atol=1e-10)
    np.testing.assert_allclose(sensitivity["cell_angles"]["sigma"], 0.0, atol=1e-8)


@pytest.mark.slow
def test_the_volume_falls_with_pressure_by_the_bulk_modulus_of_the_lattice_sums():
    plain, pressure = LennardJones(1.0, 1.0, 2.7, "none"), 1.5

    def volume(pressure):
        return mdsens.relax(primitive(1.53), plain, cell="full", pressure=pressure, fmax=1e-12
                            ).volume  # fmt: skip

    found, slope = jax.value_and_grad(volume)(pressure)
    s12, s6 = lattice_sums(2.7, 1.53)
    # Per atom E = 2 (s12 a^-12 - s6 a^-6) with a^3 = 4 V.
    v = 4 * float(found)
    assert 4 * 2 * (4 * s12 * v**-5 - 2 * s6 * v**-3) == pytest.approx(pressure, rel=1e-10)
    bulk_modulus = 4 * 2 * (20 * s12 * v**-5 - 6 * s6 * v**-3)
    assert float(slope) == pytest.approx(-float(found) / bulk_modulus, rel=1e-9)


# ASE


class Calculator(ase.calculators.calculator.Calculator):
    """Energy, forces and stress of a potential for ASE."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, potential, pbc):
        super().__init__()
        self.potential, self.boundaries = potential, pbc

    def calculate(self, atoms=None, properties=(), changes=()):
        super().calculate(atoms, properties, changes)
        system = mdsens.System(atoms.positions, atoms.cell[:], pbc=self.boundaries, units="reduced")
        search = self.potential.edge_search(system, 0.0)
        edge_list = search.find(np.array(system.positions), np.array(system.cell))
        energy, forces, virial = compiled_energy_forces_virial(system, self.potential, edge_list)
        self.results = {
            "energy": float(energy), "forces": np.asarray(forces),
            "stress": np.asarray(mdsens.mechanics.voigt(virial)) / atoms.get_volume(),
        }  # fmt: skip


def relaxed_by_ase(system, **options):
    atoms = ase.Atoms("Ar4", positions=system.positions, cell=system.cell, pbc=system.pbc)
    atoms.calc = Calculator(LJ, system.pbc)
    filtered = ase.filters.FrechetCellFilter(atoms, **options)
    assert ase.optimize.BFGS(filtered, logfile=None, maxstep=0.05).run(fmax=1e-8, steps=2000)
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("bulk", {"cell": "full", "pressure": 0.4}, {"scalar_pressure": 0.4}),
        ("bulk", {"cell": "shape"}, {"constant_volume": True}),
        ("bulk", {"cell": (1, 1, 0, 0, 0, 0), "pressure": 0.4},
         {"mask": [1, 1, 0, 0, 0, 0], "scalar_pressure": 0.4}),
        ("slab in vacuum", {"cell": "full"}, {"mask": [1, 1, 0, 0, 0, 1]}),
    ],
)  # fmt: skip
def test_the_relaxed_cell_is_that_of_ase_s_filter(name, ours, theirs):
    found = mdsens.relax(SYSTEMS[name], LJ, fmax=1e-10, **ours)
    expected = relaxed_by_ase(SYSTEMS[name], **theirs)
    assert float(found.energy) == pytest.approx(expected.get_potential_energy(), rel=1e-11)
    metric = expected.cell[:] @ expected.cell[:].T
    np.testing.assert_allclose(found.cell @ found.cell.T, metric, rtol=1e-7, atol=1e-7)


# Stress


@pytest.mark.slow
def test_a_stress_is_that_of_the_deformed_cell_and_that_asked_for_once_relaxed_again():
    asked = np.array(STRESS)
    found = mdsens.relax(BULK, LJ, cell="full", stress=asked, fmax=1e-11)
    tension = tensor_of(asked)
    pressure = -np.trace(tension) / 3
    deformation = np.linalg.solve(BULK.cell, found.cell)
    expected = deformation.T @ (tension + pressure * np.eye(3)) @ deformation
    expected = expected / np.linalg.det(deformation) - pressure * np.eye(3)
    np.testing.assert_allclose(tensor_of(found.stress), expected, atol=1e-10)
    errors = [np.abs(found.stress - asked).max()]
    for _ in range(3):
        found = mdsens.relax(found.system, LJ, cell="full", stress=asked, fmax=1e-11)
        errors.append(np.abs(found.stress - asked).max())
    assert errors[0] < 0.1
    assert all(after < 0.1 * before for before, after in itertools.pairwise(errors))


@pytest.mark.slow
def test_a_stress_that_is_a_pressure_is_one():
    by_pressure = mdsens.relax(BULK, LJ, cell="full", pressure=0.4, fmax=1e-10)
    by_stress = mdsens.relax(BULK, LJ, cell="full", stress=[-0.4] * 3 + [0] * 3, fmax=1e-10)
    np.testing.assert_allclose(by_stress.cell, by_pressure.cell, rtol=1e-10)
    assert float(by_stress.pressure) == pytest.approx(0.4, abs=1e-9)


@pytest.mark.slow
def test_a_slab_is_stretched_by_a_stress_along_it():
    asked = np.array([0.05, -0.04, 0, 0, 0, 0.02])
    found = mdsens.relax(SYSTEMS["slab in vacuum"], LJ, cell="full", stress=asked, fmax=1e-11)
    for _ in range(4):
        found = mdsens.relax(found.system, LJ, cell="full", stress=asked, fmax=1e-11)
    np.testing.assert_allclose(np.asarray(found.stress)[[0, 1, 5]], asked[[0, 1, 5]], atol=1e-7)
    assert float(found.cell[2, 2]) == float(SYSTEMS["slab in vacuum"].cell[2, 2])


# Convergence


def test_forces_and_stress_come_down_each_to_a_tolerance_of_its_own():
    tight = mdsens.relax(BULK, LJ, "lbfgs", cell="full", fmax=1e-2, smax=1e-9)
    loose = mdsens.relax(BULK, LJ, "lbfgs", cell="full", fmax=1e-9, smax=1e-2)
    for found in (tight, loose):
        assert found.converged
        assert found.certificate.converged
        largest = np.linalg.norm(found.forces, axis=1).max()
        assert float(found.largest_force) == pytest.approx(largest, rel=1e-9, abs=1e-13)
        left = np.abs(found.stress).max()
        assert float(found.largest_stress) == pytest.approx(left, rel=1e-6, abs=1e-13)
        assert left <= found.smax
        history = found.history
        assert len(history.stresses) == len(history.forces) == history.steps + 1
        assert history.stresses[-1] == float(found.largest_stress)
        assert (history.forces[-2] > found.fmax) | (history.stresses[-2] > found.smax)
        assert "largest stress" in dict(found.certificate.facts())
        assert "largest stress" in str(repr(found))
    assert float(tight.largest_stress) <= 1e-9
    stopped = mdsens.relax(BULK, LJ, "lbfgs", cell="full", fmax=1e2, smax=1e-9, max_steps=3)
    assert not stopped.converged
    assert stopped.certificate.kind == "unconverged"
    assert BULK.positions.shape == stopped.positions.shape


def test_the_first_stress_of_the_course_is_that_of_the_start_beside_the_load():
    found = mdsens.relax(BULK, LJ, cell="full", pressure=0.4, max_steps=0)
    beside = np.abs(np.asarray(found.stress) + 0.4 * np.array([1, 1, 1, 0, 0, 0])).max()
    assert found.history.stresses[0] == pytest.approx(beside, rel=1e-12)
    fixed = mdsens.relax(BULK, LJ, max_steps=0)
    assert fixed.largest_stress is None
    assert fixed.history.stresses is None


@pytest.mark.slow
@pytest.mark.parametrize(("pressure", "what"), [(-30.0, "explodes"), (1e4, "collapses")])
def test_a_cell_that_its_load_tears_or_crushes_is_an_error(pressure, what):
    soft = mdsens.potentials.SoftSphere(1.0)
    close = mdsens.System(np.zeros((1, 3)), np.eye(3) / 1.2, units="reduced")
    with pytest.raises(RelaxationError, match=f"the cell {what}: .* give a load") as caught:
        # Lists of edges that reach far are renewed, and with them what is compiled, seldom.
        mdsens.relax(close, soft, "lbfgs", cell="isotropic", pressure=pressure, skin=1.0)
    assert "\n" not in str(caught.value)


# Derivatives


def shape_of(equilibrium):
    """Energy, lattice and distances: what no rotation of the whole changes."""
    apart = observables.distance(0, 1)(equilibrium)
    periodic = np.flatnonzero(equilibrium.system.pbc)
    return all_in_one(equilibrium.energy, equilibrium.cell, apart, periodic)


@jax.jit
def all_in_one(energy, cell, apart, periodic):
    lattice = cell[periodic]
    return jnp.concatenate([energy[None], (lattice @ lattice.T).ravel(), apart[None]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode", "load", "way"),
    # Every mode, load, and way, and every kind of geometry; all loads both ways, turned or not.
    cases.with_others(
        [
            ("bulk", "shape", None, jax.jacrev),
            ("bulk", (1, 0, 1, 0, 1, 1), "stress", jax.jacrev),
            ("sheared", "full", "pressure", jax.jacrev),
            ("slab in vacuum", "full", "stress", jax.jacfwd),
            ("turned wire", "full", None, jax.jacfwd),
            ("flat", (1, 0, 1), "pressure", jax.jacfwd),
        ],
        [
            ("bulk", "shape", None, jax.jacfwd),
            ("turned slab", "full", None, jax.jacrev),
            ("turned wire", "full", None, jax.jacrev),
            ("flat", "shape", "stress", jax.jacrev),
        ],
    ),
    ids=lambda one: one.__name__ if callable(one) else None,
)
def test_a_cell_changes_as_if_relaxed_again(name, mode, load, way):
    numerical.agrees(slopes(name, mode, load, way), differences(name, mode, load), rtol=1e-6)


def relaxed(name, mode, load, change):
    """With sigma and the load changed by so much, as traced or not."""
    potential = eqx.tree_at(lambda p: p.sigma, LJ, jnp.asarray(1.0 + change))
    options = {}
    if load == "pressure":
        options["pressure"] = 0.3 + change
    if load == "stress":
        along = STRESS if name == "bulk" else (0.05, -0.04, 0, 0, 0, 0.06)
        along = along if SYSTEMS[name].dimension == 3 else (0.1, -0.1, 0.05)
        options["stress"] = jnp.array(along) * (1.0 + 3.0 * change)
    return mdsens.relax(SYSTEMS[name], potential, cell=mode, fmax=1e-12, **options)


def slopes(name, mode, load, way):
    return way(lambda change: shape_of(relaxed(name, mode, load, change)))(0.0)


@functools.cache
def differences(name, mode, load):
    return numerical.derivative(
        lambda change: shape_of(relaxed(name, mode, load, change)), 0.0, 4e-4, noise=1e-13
    )


@pytest.mark.slow
def test_a_compiled_gradient_of_a_relaxed_slab_is_that_of_relaxing_again():
    def energy_and_area(sigma):
        found = shape_of(mdsens.relax(SYSTEMS["turned slab"],
                                      eqx.tree_at(lambda p: p.sigma, LJ, jnp.asarray(sigma)),
                                      cell="full", fmax=1e-11))  # fmt: skip
        return found[0] + found[1] * found[4] - found[2] ** 2

    expected = numerical.derivative(
        lambda sigma: float(energy_and_area(sigma)), 1.0, 4e-4, noise=1e-12
    )
    numerical.agrees(jax.jit(jax.grad(energy_and_area))(1.0), expected, rtol=1e-6)


@pytest.mark.slow
def test_a_slab_s_energy_changes_with_the_cell_that_it_starts_with():
    slab = SYSTEMS["slab"]
    slab = slab.with_cell(slab.cell * np.array([[1.06], [1], [1]]), scale_positions=True)
    change = np.array([[0.3, 0.1, 0.2], [-0.2, -0.4, 0.5], [0, 0, 0]])

    def energy(strain):
        moved = eqx.tree_at(lambda s: s.cell, slab, slab.cell + strain * change)
        return mdsens.relax(moved, LJ, cell="isotropic", fmax=1e-12).energy

    expected = numerical.derivative(energy, 0.0, 1e-3, noise=1e-13)
    numerical.agrees(jax.grad(energy)(0.0), expected, rtol=1e-6)


# Batches


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    cases.with_others([("turned slab", "full")], [("bulk", (1, 0, 1, 0, 1, 1))]),
)
def test_a_batch_relaxes_each_as_it_is_relaxed_alone(name, mode):
    system = SYSTEMS[name]
    other = system.with_positions(system.positions * 1.002)
    batch = mdsens.relax_batch([system, other], LJ, cell=mode, fmax=1e-10)
    assert batch.converged.all()
    found = mdsens.sensitivity_batch(batch, ["energy", "lattice_constants"], "sigma")
    alone = mdsens.relax(system, LJ, cell=mode, fmax=1e-10)
    expected = mdsens.sensitivity(alone, ["energy", "lattice_constants"], "sigma")
    assert batch.energies[0] == pytest.approx(float(alone.energy), rel=1e-12)
    for asked in ("energy", "lattice_constants"):
        np.testing.assert_allclose(
            np.asarray(found.derivatives[asked]["sigma"])[0], expected[asked]["sigma"], rtol=1e-7
        )
    kinds = {kind: count[0] for kind, count in found.null_modes.items()}
    assert kinds == alone.certificate.null_modes


# What is refused


CLUSTER = mdsens.System(0.8 * np.eye(3), units="reduced")


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        (BULK, {"cell": (1, 1, 0)}, "give 6 components .xx yy zz yz xz xy. in 3 dimensions"),
        (SYSTEMS["flat"], {"cell": (1, 1, 0, 0, 0, 0)}, "give 3 components .xx yy xy. in 2 dim"),
        (BULK, {"cell": (1, 1, 0, 0)}, "allowed are None, .*shape, or a mask of 6 booleans"),
        (BULK, {"cell": (2, 1, 0, 0, 0, 0)}, "or a mask of 6 booleans for xx yy zz yz xz xy"),
        (BULK, {"cell": np.zeros(6)}, "nothing of the cell would relax"),
        (BULK, {"cell": [False] * 6}, "nothing of the cell would relax"),
        (BULK, {"cell": "shap"}, "did you mean 'shape'"),
        (BULK, {"cell": 3}, "cell = 3: allowed are None"),
        (BULK, {"stress": STRESS}, "stress = .*, and cell = None: .* give cell"),
        (BULK, {"smax": 1e-6}, "smax = 1e-06, and cell = None"),
        (BULK, {"cell": "full", "smax": 0.0}, "smax = 0.0: give a finite number above 0"),
        (BULK, {"cell": "full", "stress": STRESS, "pressure": 1.0}, "give one of them"),
        (BULK, {"cell": "full", "stress": STRESS[:3]}, "stress has 3 components: give 6"),
        (BULK, {"cell": "full", "stress": "1 GPa"}, "stress = '1 GPa': give numbers"),
        (BULK, {"cell": "full", "stress": [np.nan] * 6}, "stress .*is not finite"),
        (CLUSTER, {"cell": "full"}, "only where a direction is periodic; use cell=None"),
        (SYSTEMS["turned wire"], {"cell": "shape"}, "no such strain lies within"),
        (SYSTEMS["slab"], {"cell": (0, 0, 1, 1, 1, 0)}, "no such strain lies within"),
        (SYSTEMS["slab in vacuum"], {"cell": "full", "pressure": 0.1}, "across a vacuum there is"),
        (SYSTEMS["slab in vacuum"], {"cell": "full", "stress": STRESS}, "acts across the vacuum"),
        (SYSTEMS["slab"], {"cell": "full", "stress": [0.1, 0, 0, 0, 0, 0]}, "has no volume"),
        (SYSTEMS["slab"], {"cell": "full", "smax": 1e-6}, "smax is given, and the cell has no vol"),
    ],
    ids=range(22),
)
def test_what_a_cell_cannot_do_is_said_in_a_line(system, options, message):
    with pytest.raises(InputError, match=message) as caught:
        mdsens.relax(system, LJ, **options)
    assert "\n" not in str(caught.value)


def test_a_mask_may_be_the_matrix_that_ase_s_filters_make_of_it():
    for mask, dimension in (([1, 0, 1, 0, 1, 0], 3), ([0, 1, 1], 2)):
        components = np.array(mask, bool)
        matrix = voigt_6_to_full_3x3_stress(components) if dimension == 3 else [[0, 1], [1, 1]]
        assert checked_cell(matrix) == checked_cell(components) == tuple(components.tolist())
    with pytest.raises(InputError, match="or a symmetric matrix of them"):
        checked_cell([[1, 1, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("options", [{"stress": STRESS}, {"smax": 1e-6}])
def test_batches_refuse_what_they_cannot_do(options):
    with pytest.raises(InputError, match="tolerance; use mdsens"):
        mdsens.relax_batch([BULK], LJ, cell="full", **options)


def test_observables_of_the_cell_are_those_of_its_periodic_directions():
    expected = SYSTEMS["sheared"].to_ase().cell.cellpar()
    found = mdsens.relaxation.unrelaxed(SYSTEMS["sheared"], LJ)
    np.testing.assert_allclose(observables.lattice_constants()(found), expected[:3], rtol=1e-14)
    np.testing.assert_allclose(observables.cell_angles()(found), expected[3:], rtol=1e-12)
    slab = mdsens.relaxation.unrelaxed(SYSTEMS["turned slab"], LJ)
    np.testing.assert_allclose(
        observables.lattice_constants()(slab), SLAB.cell.lengths()[:2], rtol=1e-12
    )
    np.testing.assert_allclose(observables.cell_angles()(slab), [90.0], rtol=1e-12)
    wire, flat = (mdsens.relaxation.unrelaxed(SYSTEMS[name], LJ) for name in ("wire", "flat"))
    assert observables.parse("lattice_constants")(wire).shape == (1,)
    assert observables.parse("cell_angles")(flat).shape == (1,)
    with pytest.raises(InputError, match="cell_angles needs two periodic directions"):
        observables.cell_angles()(wire)
    blank = no_edges(CLUSTER.atom_count, 3)
    assert Landscape.of(CLUSTER, LJ, blank).relaxing_cell is None
    with pytest.raises(InputError, match="lattice_constants needs a periodic direction"):
        observables.lattice_constants()(mdsens.relaxation.unrelaxed(CLUSTER, LJ))
