"""Constraints of ASE: structures, certificates and derivatives under them.

What is left of a force under a constraint is asked of ASE's own constraint; derivatives are held
against relaxing again; what an eigenvalue is against the projection of a dense Hessian.
"""

import ase
import ase.build
import ase.constraints
import cases
import jax
import numpy as np
import pytest
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedMode,
    FixedPlane,
    FixInternals,
    FixScaled,
    FixSubsetCom,
    FixSymmetry,
)

import mdsens
from mdsens.mechanics.constrained_motion import ConstrainedMotion
from mdsens.mechanics.hessian import hessian
from mdsens.potentials import LennardJones

#: Between two shells of neighbours of the crystal that the argon comes from.
ARGON = LennardJones(0.0104, 3.4, 5.9, onset=5.4)


def rattled(atoms, seed=1):
    atoms.rattle(0.1, seed=seed)
    return atoms


def bulk():
    return rattled(ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 1)))


def sheared():
    atoms = bulk()
    cell = [[10.6, 0, 0], [1.1, 10.6, 0], [0.4, -0.7, 5.3]]
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


def slab():
    return rattled(ase.build.fcc100("Ar", (2, 2, 3), 5.3, vacuum=6.0))


def wire():
    atoms = rattled(ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat((1, 1, 2)))
    atoms.pbc = [False, False, True]
    atoms.center(6.0, axis=(0, 1))
    return atoms


def cluster():
    positions = 3.8 * np.array(
        [[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82], [0.5, 0.29, -0.82]]
    )
    return rattled(ase.Atoms("Ar5", positions))


GEOMETRIES = {
    "bulk": bulk, "sheared": sheared, "slab": slab, "wire": wire, "cluster": cluster,
}  # fmt: skip

SINGLE = [
    FixCartesian([0], (True, False, True)), FixedPlane([1, 3], (1, 2, -1)),
    FixedLine([2], (1, 1, 0.3)),
]  # fmt: skip
MODE = np.random.default_rng(5).normal(size=(16, 3))
MODE -= MODE.mean(axis=0)
CASES = {
    "single atoms in bulk": ("bulk", [*SINGLE, FixAtoms([4])]),
    "scaled coordinates in a sheared cell": (
        "sheared", [FixScaled([0, 2], (True, False, False)), FixScaled([5], (False, True, True))]
    ),
    "planes in a slab": ("slab", [FixedPlane([0, 1, 2, 3], (0, 0, 1)), FixCom()]),
    "a line and a bond in a wire": (
        "wire", [FixedLine([0], (0, 0, 1)), FixBondLengths([[1, 2], [2, 3]])]
    ),
    "the centre of mass of some in bulk": ("bulk", [FixSubsetCom([0, 1, 2]), SINGLE[1]]),
    "bonds in a cluster": ("cluster", [FixBondLengths([[0, 1], [1, 2]], bondlengths=[3.9, 3.7])]),
    "a difference of bonds in a cluster": (
        "cluster",
        [FixInternals(bonds=[[3.9, [2, 3]]], bondcombos=[[0.1, [[0, 1, 1.0], [1, 2, -1.0]]]])],
    ),
    "a mode of bulk": ("bulk", [FixedMode(MODE)]),
}  # fmt: skip
#: One of single atoms, one of linear equations, one of bonds.
FAST = [
    "single atoms in bulk", "the centre of mass of some in bulk", "bonds in a cluster",
]  # fmt: skip


def named(name):
    geometry, constraints = CASES[name]
    atoms = GEOMETRIES[geometry]()
    atoms.set_constraint(constraints)
    return atoms


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
                            for name in CASES],
)  # fmt: skip
def relaxed(request):
    atoms = named(request.param)
    return atoms, mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-11)


def test_nothing_is_left_of_the_forces_that_ase_s_constraints_leave(relaxed):
    atoms, equilibrium = relaxed
    forces = np.array(equilibrium.forces)
    assert np.abs(forces).max() > 1e-4, "the constraints hold nothing"
    now = equilibrium.to_ase(like=atoms)
    now.set_constraint(atoms.constraints)
    # Several at once: each would give back what another took.
    for _ in range(200):
        for constraint in now.constraints:
            if isinstance(constraint, FixScaled):
                # ASE turns forces as it does positions, which is right in straight cells alone.
                free = atoms.cell[:][~constraint.mask]
                inverse = np.linalg.inv(free @ free.T)
                forces[constraint.index] = forces[constraint.index] @ free.T @ inverse @ free
            else:
                constraint.adjust_forces(now, forces)
    # Those of bonds stop short of rounding.
    assert np.abs(forces).max() < 1e-8


def test_atoms_stay_where_constraints_hold_them(relaxed):
    atoms, equilibrium = relaxed
    moved = np.asarray(equilibrium.positions) - atoms.positions
    assert np.abs(moved).max() > 1e-3
    for constraint in atoms.constraints:
        kind, index = type(constraint), getattr(constraint, "index", None)
        if kind is FixAtoms:
            assert not moved[index].any()
        elif kind is FixCartesian:
            assert np.abs(moved[index][:, constraint.mask]).max() < 1e-14
        elif kind is FixScaled:
            scaled = moved[index] @ np.linalg.inv(atoms.cell[:])
            assert np.abs(scaled[:, constraint.mask]).max() < 1e-14
        elif kind is FixedPlane:
            assert np.abs(moved[index] @ constraint.dir).max() < 1e-14
        elif kind is FixedLine:
            assert np.abs(np.cross(moved[index], constraint.dir)).max() < 1e-14
        elif kind in (FixCom, FixSubsetCom):
            assert np.abs(moved[slice(None) if kind is FixCom else index].sum(axis=0)).max() < 1e-13
        elif kind is FixedMode:
            assert abs(np.vdot(moved, MODE)) < 1e-13
        else:
            lengths = equilibrium.to_ase(like=atoms).get_distance
            if kind is FixBondLengths:
                start = [atoms.get_distance(*pair, mic=True) for pair in constraint.pairs]
                held = start if constraint.bondlengths is None else constraint.bondlengths
                ours = [lengths(*pair, mic=True) for pair in constraint.pairs]
                np.testing.assert_allclose(ours, held, rtol=1e-12)
            else:
                assert lengths(2, 3) == pytest.approx(3.9, rel=1e-12)
                assert lengths(0, 1) - lengths(1, 2) == pytest.approx(0.1, rel=1e-11)


def stretches(positions, motion):
    """How fast the squared distances between atoms change, which no rigid motion does."""
    apart, along = (array[:, None] - array[None] for array in (positions, motion))
    return 2.0 * (apart * along).sum(axis=-1)


def test_derivatives_are_those_of_relaxing_again(relaxed):
    _, equilibrium = relaxed
    positions = np.asarray(equilibrium.positions)
    sensitivity = mdsens.sensitivity(equilibrium, wrt=["sigma"])

    def again(sigma):
        potential = LennardJones(0.0104, sigma, 5.9, onset=5.4)
        found = mdsens.relax(equilibrium.system, potential, fmax=1e-12).positions
        return np.asarray(found)

    ours = stretches(positions, np.asarray(sensitivity.positions["sigma"]))
    step = 1e-4
    first, second = ((again(3.4 + h) - again(3.4 - h)) / (2.0 * h) for h in (step, step / 2.0))
    expected = stretches(positions, (4.0 * second - first) / 3.0)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_eigenvalues_are_those_within_the_constraints():
    equilibrium = mdsens.relax(mdsens.System.from_ase(named(FAST[0])), ARGON, fmax=1e-10)
    whole = np.asarray(hessian(equilibrium.system, ARGON, equilibrium.edge_list))
    # What each atom may do, column by column.
    plane, line = np.array([1, 2, -1]), np.array([1, 1, 0.3])
    across = np.linalg.svd(plane[None])[2][1:]
    count = whole.shape[0] // 3
    columns = []
    for atom in range(count):
        vectors = {
            0: [[0, 1, 0]], 1: across, 3: across, 2: [line / np.linalg.norm(line)], 4: [],
        }.get(atom, np.eye(3))  # fmt: skip
        for vector in vectors:
            column = np.zeros((count, 3))
            column[atom] = vector
            columns.append(column.reshape(-1))
    basis = np.array(columns)
    expected = np.linalg.eigvalsh(basis @ whole @ basis.T)
    found = equilibrium.certificate
    np.testing.assert_allclose(found.lowest_eigenvalues, expected[:6], rtol=1e-8)
    assert found.null_mode_count == 0


@pytest.mark.slow
def test_a_saddle_is_a_minimum_within_its_constraint():
    # Three atoms in a row: each pair would rather have the third beside it.
    atoms = ase.Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0]])
    potential = LennardJones(0.0104, 3.4, 9.0)
    free = mdsens.relax(mdsens.System.from_ase(atoms), potential)
    atoms.set_constraint(FixedLine([0, 1, 2], (1, 0, 0)))
    held = mdsens.relax(mdsens.System.from_ase(atoms), potential)
    assert free.certificate.kind == "saddle"
    assert held.certificate.kind == "minimum"
    assert held.certificate.null_modes["translations"] == 1
    # Three coordinates are free, and one of their motions costs nothing.
    assert len(held.certificate.lowest_eigenvalues) == 2
    np.testing.assert_allclose(held.energy, free.energy, rtol=1e-12)


# Symmetry


@pytest.fixture(scope="module")
def cubic():
    """Body-centred argon, whose cell would rather not be cubic."""
    atoms = ase.build.bulk("Ar", "bcc", 4.2, cubic=True)
    atoms.set_cell(atoms.cell[:] * [1.01, 1.01, 1.01], scale_atoms=True)
    atoms.set_constraint(FixSymmetry(atoms))
    return mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-11, cell="full")


def energy_of_cube(side):
    atoms = ase.build.bulk("Ar", "bcc", side, cubic=True)
    calculator = mdsens.Calculator(ARGON)
    return calculator.get_property("energy", atoms), calculator.get_property("stress", atoms)


@pytest.mark.slow
def test_a_cell_keeps_its_symmetry(cubic):
    cell = np.asarray(cubic.cell)
    np.testing.assert_allclose(cell, cell[0, 0] * np.eye(3), atol=1e-14)
    # No stress is left of what its one length can do something about.
    assert abs(energy_of_cube(cell[0, 0])[1][:3].mean()) < 1e-12
    assert cubic.certificate.kind == "minimum"
    # Without the constraint it finds a way down that is not cubic.
    free = mdsens.relax(cubic.system.with_constraints([]), ARGON, cell="full")
    assert free.certificate.kind == "saddle"


def test_the_symmetric_cell_scales_with_sigma():
    # All lengths of the potential are multiples of sigma, and so is the side.
    def side(potential):
        return relaxed_cube(potential).cell[0, 0]

    def relaxed_cube(potential):
        system = mdsens.System.from_ase(ase.build.bulk("Ar", "bcc", 4.2, cubic=True))
        return mdsens.relax(system, potential, fmax=1e-11, cell="full", symmetry=True)

    sensitivity = mdsens.sensitivity(relaxed_cube(ARGON), observables=["lattice_constants"])
    by = {name: np.asarray(sensitivity["lattice_constants"][name]) for name in ("sigma", "epsilon")}
    np.testing.assert_allclose(by["epsilon"], 0.0, atol=1e-8)
    step = 1e-4
    for_sigma = [float(side(LennardJones(0.0104, 3.4 + h, 5.9, onset=5.4))) for h in (step, -step)]
    numeric = (for_sigma[0] - for_sigma[1]) / (2.0 * step)
    np.testing.assert_allclose(by["sigma"], numeric, rtol=1e-6)


def test_ions_keep_the_symmetry_of_their_space_group():
    # Two species in a cell without a centre of symmetry: one coordinate is free.
    atoms = ase.Atoms(
        "Ar2Kr2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.1], [0, 0, 0.52], [0.5, 0.5, 0.57]],
        cell=[5.2, 5.2, 7.4], pbc=True,
    )  # fmt: skip
    atoms.set_constraint(FixSymmetry(atoms))
    potential = LennardJones(
        [[0.0104, 0.012], [0.012, 0.014]], 3.4, 5.9, onset=5.4, species=("Ar", "Kr")
    )
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=1e-11)
    moved = np.asarray(equilibrium.positions) - atoms.positions
    assert np.abs(moved[:, :2]).max() < 1e-13
    assert np.abs(moved[:, 2]).max() > 1e-3
    before, after = (
        FixSymmetry(one.copy()).symm_map for one in (atoms, equilibrium.to_ase(like=atoms))
    )
    # None is lost.
    assert len(after) % len(before) == 0


# Through JAX


@pytest.mark.slow
@pytest.mark.parametrize(
    # Of linear equations the rows are those of bonds that do not turn.
    "name",
    cases.with_others(["single atoms in bulk", "bonds in a cluster"], FAST[1:2]),
)
def test_gradients_under_jit_are_those_of_the_sensitivity(name):
    system = mdsens.System.from_ase(named(name))
    weights = np.random.default_rng(2).normal(size=system.positions.shape)
    # Of distances, which rigid motions do not change.
    weights -= weights.mean(axis=0)

    def loss(sigma):
        potential = LennardJones(0.0104, sigma, 5.9, onset=5.4)
        positions = mdsens.relax(system, potential, fmax=1e-11).positions
        apart = positions[1:] - positions[:-1]
        return (apart**2).sum()

    equilibrium = mdsens.relax(system, ARGON, fmax=1e-11)
    motion = np.asarray(mdsens.sensitivity(equilibrium).positions["sigma"])
    positions = np.asarray(equilibrium.positions)
    expected = 2.0 * (np.diff(positions, axis=0) * np.diff(motion, axis=0)).sum()
    found = float(jax.jit(jax.grad(loss))(3.4))
    numerical_scale = abs(expected)
    assert numerical_scale > 1e-3
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.slow
def test_many_coupled_atoms_are_solved_for_without_a_matrix():
    atoms = rattled(ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat((6, 6, 5)))
    atoms.set_constraint(FixCom())
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-9)
    assert equilibrium.hessian_solver is None
    moved = np.asarray(equilibrium.positions).mean(axis=0) - atoms.positions.mean(axis=0)
    np.testing.assert_allclose(moved, 0.0, atol=1e-12)
    assert equilibrium.certificate.kind == "minimum"
    assert equilibrium.certificate.null_mode_count == 0


@pytest.mark.slow
def test_what_planes_hold_is_no_soft_mode_of_a_large_system():
    atoms = rattled(ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat((5, 5, 4)))
    atoms.set_constraint(FixedPlane(range(0, len(atoms), 2), (0, 0, 1)))
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-9)
    certificate, whole = equilibrium.certificate, equilibrium.hessian_solver.dense()
    assert certificate.estimated
    count = len(atoms)
    free = np.ones((count, 3), bool)
    free[::2, 2] = False
    values = np.linalg.eigvalsh(whole[np.ix_(free.reshape(-1), free.reshape(-1))])
    # Together they may still move within the planes.
    assert np.abs(values[:2]).max() < 1e-10
    assert certificate.null_modes["translations"] == 2
    assert certificate.lowest_eigenvalue == pytest.approx(values[2], rel=0.1)


# From ASE and back


@pytest.mark.parametrize("name", list(CASES))
def test_constraints_come_back_as_constraints_that_allow_the_same(name):
    atoms = named(name)
    system = mdsens.System.from_ase(atoms)
    back = mdsens.System.from_ase(system.to_ase())
    moves = np.random.default_rng(3).normal(size=atoms.positions.shape)
    ours, theirs = (ConstrainedMotion.of(one) for one in (system, back))
    np.testing.assert_allclose(ours.allowed(moves), theirs.allowed(moves), atol=1e-12)
    np.testing.assert_array_equal(system.fixed, back.fixed)


def test_in_two_dimensions_only_what_lies_in_the_plane_counts():
    atoms = ase.Atoms("Ar3", [[0, 0, 0], [3.8, 0.1, 0], [1.9, 3.2, 0]])
    atoms.set_constraint(
        [FixedPlane([0], (0, 0, 1)), FixedLine([1], (1, 0, 0)), FixedPlane([2], (1, 0, 0))]
    )
    system = mdsens.System.from_ase(atoms, dimension=2)
    equilibrium = mdsens.relax(system, LennardJones(0.0104, 3.4, 5.9))
    moved = np.asarray(equilibrium.positions) - atoms.positions[:, :2]
    assert abs(moved[0]).min() > 1e-6
    assert moved[1, 1] == pytest.approx(0.0, abs=1e-14)
    assert moved[2, 0] == pytest.approx(0.0, abs=1e-14)
    assert abs(moved[1, 0]) > 1e-6


def test_saved_results_keep_their_constraints(tmp_path):
    system = mdsens.System.from_ase(named("bonds in a cluster"))
    equilibrium = mdsens.relax(system, ARGON)
    equilibrium.save(tmp_path / "held.npz")
    again = mdsens.Equilibrium.load(tmp_path / "held.npz")
    assert again.system.constraints.names == ("FixBondLengths",)
    np.testing.assert_array_equal(again.forces, equilibrium.forces)


@pytest.mark.parametrize(("constraint", "wrong"), [
    (FixInternals(angles_deg=[[90.0, [0, 1, 2]]]), "FixInternals with angles is not supported"),
    (ase.constraints.Hookean(0, 1, 5.0, 4.0), "constraint Hookean is not supported: FixAtoms"),
    (FixedPlane([7], (0, 0, 1)), "indices of FixedPlane"),
    (FixBondLengths([[0, 1], [1, 0]]), "depend on one another"),
    (FixBondLengths([[1, 1]]), "between an atom and itself"),
])  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(constraint, wrong):
    atoms = cluster()
    atoms.set_constraint(constraint)
    with pytest.raises(mdsens.InputError, match=wrong):
        mdsens.System.from_ase(atoms)


@pytest.mark.slow
def test_a_symmetry_is_kept_under_jit_and_found_outside_of_it():
    atoms = ase.build.bulk("Ar", "bcc", 4.2, cubic=True)
    outside = mdsens.System.from_ase(atoms)

    def side(sigma, system):
        potential = LennardJones(0.0104, sigma, 5.9, onset=5.4)
        options = {"fmax": 1e-11, "cell": "full", "symmetry": True}
        return mdsens.relax(system or mdsens.System.from_ase(atoms), potential, **options).cell[
            0, 0
        ]

    found = jax.jit(jax.grad(lambda sigma: side(sigma, outside)))(3.4)
    step = 1e-4
    numeric = (side(3.4 + step, outside) - side(3.4 - step, outside)) / (2.0 * step)
    assert float(found) == pytest.approx(float(numeric), rel=1e-6)
    with pytest.raises(mdsens.InputError, match="JAX traces the system: make it outside jit"):
        jax.jit(lambda sigma: side(sigma, None))(3.4)


def test_what_does_not_know_of_constraints_says_so():
    held = mdsens.System.from_ase(named("single atoms in bulk"))
    bonded = mdsens.System.from_ase(named("a line and a bond in a wire"))
    with pytest.raises(mdsens.InputError, match=r"systems\[0\] of a batch: of constraints only"):
        mdsens.relax_batch([held], ARGON)
    with pytest.raises(mdsens.InputError, match="whose steps are unrolled: of constraints only"):
        mdsens.unrolled_tangents([held], ARGON, "sigma", steps=1)
    with pytest.raises(mdsens.InputError, match="a strain would change the bonds"):
        mdsens.relax(bonded, ARGON, cell="full")
    equilibrium = mdsens.relax(held, ARGON)
    for observable in ("elastic_constants", "phonon_frequencies"):
        with pytest.raises(mdsens.InputError, match=f"{observable}.*: of constraints only"):
            mdsens.sensitivity(equilibrium, observables=[observable])
