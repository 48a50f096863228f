"""What a certificate says: converged, stable, and which directions nothing determines."""

import ase.build
import cases
import numpy as np
import pytest
import scipy.spatial.transform

import mdsens
from mdsens.potentials import Morse, SoftSphere

pytestmark = pytest.mark.xdist_group("certificate")
LJ = cases.POTENTIALS["lj-smooth"]


def null_modes(system, potential=LJ, **options):
    counts = mdsens.relax(system, potential, fmax=1e-10, **options).certificate.null_modes
    return tuple(counts[kind] for kind in ("translations", "rotations", "rattlers", "floppy"))


def trimer(angle):
    """Three atoms with two bonds at their minimum, to be relaxed within their symmetry."""
    r, half = 1.12, np.radians(angle) / 2
    return mdsens.System(
        [
            [0, 0, 0],
            [r * np.sin(half), r * np.cos(half), 0],
            [-r * np.sin(half), r * np.cos(half), 0],
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (cases.dimer(), (3, 2, 0, 0)),
        (cases.dimer(dimension=2), (2, 1, 0, 0)),
        (trimer(60), (3, 3, 0, 0)),
        (cases.vacancy_crystal(), (3, 0, 0, 0)),
        (cases.vacancy_crystal().with_fixed([3]), (0, 0, 0, 0)),
        (cases.dimer().with_fixed([0, 1]), (0, 0, 0, 0)),
    ],
    ids=["dimer", "flat dimer", "triangle", "crystal", "crystal with a fixed atom", "all fixed"],
)
def test_null_modes_are_those_of_symmetry(system, expected):
    assert null_modes(system) == expected


@pytest.mark.slow
def test_a_wire_turns_about_its_axis():
    # A periodic zigzag of atoms: three translations and one rotation.
    wire = mdsens.System(
        [[0.0, 0.5, 0.0], [0.6, -0.4, 0.0], [0.6, 0.1, 0.8], [0.0, 0.0, -0.6]],
        [[1.12, 0, 0], [0, 9, 0], [0, 0, 9]], pbc=(True, False, False),
    )  # fmt: skip
    assert null_modes(wire)[:2] == (3, 1)


#: A row of atoms under compression, held in the plane by one beside it, and free to buckle.
FLAT_WIRE = np.array([[-0.468, 0, 0], [0.468, 0, 0], [0, 1.129, 0]])
BUCKLING = np.array([[0, 0, 1.0], [0, 0, -1.0], [0, 0, 0]]) / np.sqrt(2)

#: Rotations that put a wire along x, along y, along z, and anywhere.
ALONG_X, ALONG_Z = np.eye(3), np.roll(np.eye(3), 2, axis=1)
ALONG_Y = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
ANYWHERE = scipy.spatial.transform.Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()


def turned_wire(positions, turn):
    """Relax a wire along x after a rigid rotation of all there is."""
    cell = np.diag([1.8, 0.0, 0.0])
    system = mdsens.System(
        positions @ turn, cell @ turn, cases.AB, (0, 0, 1), (True, False, False), units="reduced"
    )
    potential = Morse(1.0, 3.0, {"A-A": 1.0, "A-B": 1.3, "B-B": 1.0}, 1.9, species=cases.AB)
    return mdsens.relax(system, potential, "lbfgs", fmax=1e-10)


@pytest.mark.slow
def test_the_stiffness_of_a_wire_does_not_depend_on_how_it_lies():
    at_rest = np.asarray(turned_wire(FLAT_WIRE + 0.3 * BUCKLING, ALONG_X).positions)
    found = [turned_wire(at_rest, turn) for turn in (ALONG_X, ALONG_Y, ALONG_Z, ANYWHERE)]
    first, *others = (equilibrium.certificate for equilibrium in found)
    assert first.kind == "minimum"
    assert first.null_modes["rotations"] == 1
    for other in others:
        assert other.null_modes == first.null_modes
        np.testing.assert_allclose(other.lowest_eigenvalues, first.lowest_eigenvalues, rtol=1e-6)
    # The matrix itself, in NumPy: three translations and one rotation, all else is stiff.
    values = np.linalg.eigvalsh(found[-1].dense_jacobian)
    assert np.abs(values[:4]).max() < 1e-8 * values.max()
    assert first.lowest_eigenvalue == pytest.approx(values[4], rel=1e-6)


@pytest.mark.parametrize("turn", [ALONG_X, ALONG_Y, ANYWHERE], ids=["x", "y", "anywhere"])
def test_no_saddle_hides_behind_a_rotation_that_a_wire_does_not_have(turn):
    """Along y the row buckles as if it turned about x, which the cell does not let it do."""
    flat = turned_wire(FLAT_WIRE, turn)
    assert flat.converged
    buckling = (BUCKLING @ turn).ravel()
    curvature = buckling @ flat.dense_jacobian @ buckling
    assert curvature < -1.0
    assert flat.certificate.kind == "saddle"
    assert flat.certificate.lowest_eigenvalue == pytest.approx(curvature, rel=1e-6)
    assert flat.certificate.null_modes["rotations"] == 1


@pytest.mark.slow
def test_a_slab_only_shifts():
    atoms = ase.build.fcc100("Cu", (2, 2, 3), a=1.55, vacuum=3.0)
    atoms.pbc = (True, True, False)
    assert null_modes(mdsens.System.from_ase(atoms)) == (3, 0, 0, 0)


def test_a_fixed_atom_of_a_cluster_leaves_its_rotations():
    # A dimer with one end held still turns about that end, in two ways.
    counts = null_modes(cases.dimer().with_fixed([0]))
    assert sum(counts) == 2


@pytest.mark.slow
def test_a_rattler_is_counted_and_named():
    system, potential = cases.jammed_packing()
    equilibrium = mdsens.relax(system, potential, fmax=1e-12)
    assert equilibrium.certificate.null_modes["rattlers"] == 2
    assert np.flatnonzero(equilibrium.landscape.rattlers).tolist() == [5]
    assert equilibrium.certificate.kind == "minimum"


def test_a_floppy_mode_is_the_shear_of_a_square_without_diagonals():
    square = 0.5 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    # Bonds of length 1 at rest; the diagonals are longer than the cutoff.
    bonds = Morse(1.0, 5.0, 1.0, 1.3)
    equilibrium = mdsens.relax(mdsens.System(square), bonds, fmax=1e-12)
    modes = equilibrium.certificate.null_modes
    assert (modes["translations"], modes["rotations"], modes["floppy"]) == (2, 1, 1)
    (found,) = equilibrium.certificate.floppy_vectors
    shear = square[:, ::-1] / np.linalg.norm(square)
    np.testing.assert_allclose(np.abs(np.vdot(found, shear)), 1.0, rtol=1e-9)


def test_rattlers_stay_where_they_were_pushed_and_carry_no_edges():
    overlapping = mdsens.System([[1.0, 1.0], [1.7, 1.0], [3.0, 3.0]], 6.0 * np.eye(2), pbc=True)
    equilibrium = mdsens.relax(overlapping, SoftSphere(1.0, 1.0))
    assert equilibrium.certificate.null_modes["rattlers"] == 6
    np.testing.assert_allclose(equilibrium.positions, equilibrium.q, rtol=0.0, atol=0.0)
    first, second, _ = np.asarray(equilibrium.positions)
    # A step may end at contact itself, which is where rounding leaves it.
    overlap = 1.0 - np.linalg.norm(second - first)
    assert overlap <= 2.0 * np.finfo(float).eps
    assert float(equilibrium.energy) <= overlap**2

    def edges(landscape):
        neighbors = np.asarray(landscape.edge_list.neighbors)
        return (neighbors < neighbors.max()).sum()

    assert edges(equilibrium.landscape) > 0 == edges(equilibrium.backbone)


@pytest.mark.slow
def test_a_sphere_on_three_others_is_no_rattler_and_on_two_is_one():
    # Discs of diameter 1 held at the corners push one in the middle.
    corners = 0.98 * np.array([[np.cos(t), np.sin(t)] for t in 2 * np.pi / 3 * np.arange(3)])
    held = mdsens.System(np.vstack([corners, [0.001, 0.0]]), fixed=[0, 1, 2])
    assert null_modes(held, SoftSphere(1.0)) == (0, 0, 0, 0)
    pair = mdsens.System([[-0.98, 0.0], [0.98, 0.0], [0.0, 0.001]], fixed=[0, 1])
    assert null_modes(pair, SoftSphere(1.0)) == (0, 0, 2, 0)


def test_a_straight_trimer_is_a_saddle():
    certificate = mdsens.relax(trimer(180), LJ, fmax=1e-10).certificate
    assert certificate.kind == "saddle"
    assert certificate.lowest_eigenvalue < 0
    assert not certificate.stable


@pytest.mark.slow
def test_a_flat_square_is_a_saddle():
    square = 1.12 * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert mdsens.relax(mdsens.System(square), LJ, fmax=1e-10).certificate.kind == "saddle"


@pytest.mark.slow
def test_the_eigenvalue_of_a_dimer_is_twice_its_spring():
    # Two equal masses of one on a spring k: the stretch has the eigenvalue 2 k; k = 2 epsilon
    # alpha^2 for Morse.
    certificate = mdsens.relax(cases.dimer(), Morse(1.3, 4.0, 1.1, 2.6), fmax=1e-11).certificate
    assert certificate.lowest_eigenvalues == pytest.approx((2 * 2 * 1.3 * 4.0**2,), rel=1e-9)


def test_the_iterative_eigenvalue_agrees_with_the_dense_one(monkeypatch):
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ, fmax=1e-10)
    dense = equilibrium.certificate.lowest_eigenvalue
    monkeypatch.setattr("mdsens.relaxation.equilibrium.EIGENVECTOR_LIMIT", 1)
    again = mdsens.relax(cases.vacancy_crystal(), LJ, fmax=1e-10)
    # Lanczos is asked for a few digits.
    assert again.certificate.lowest_eigenvalue == pytest.approx(dense, rel=0.02)
    assert again.certificate.null_modes["translations"] == 3


def test_a_structure_that_is_out_of_steps_is_unconverged():
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ, max_steps=2)
    assert equilibrium.certificate.kind == "unconverged"
    assert not equilibrium.converged
    assert "unconverged" in str(equilibrium.certificate)
    assert "NOT converged" in str(equilibrium)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "rotations"), [("isotropic", 0), ("diagonal", 0), ("full", 0)])
def test_a_relaxed_cell_has_only_translations(cell, rotations):
    assert null_modes(cases.vacancy_crystal(), cell=cell)[:2] == (3, rotations)
