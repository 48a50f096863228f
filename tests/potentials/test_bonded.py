"""Bonds, angles, dihedrals and fields: against geometry of ASE, closed forms and differences."""

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles.edges import no_edges
from mdsens.potentials import (
    Angles,
    Bonds,
    Dihedrals,
    LennardJones,
    Trap,
    UniformForce,
    Wall,
)

RELAXED = {"fmax": 1e-11, "method": "newton"}
CHAIN = np.array(
    [[0.0, 0.0, 0.0], [1.5, 0.1, 0.0], [2.0, 1.4, 0.2], [3.4, 1.5, 0.9], [3.9, 2.6, 1.8]]
)
PAIRS = [[0, 1], [1, 2], [2, 3], [3, 4]]
TRIPLES = [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
QUADRUPLES = [[0, 1, 2, 3], [1, 2, 3, 4]]


def chain():
    return ase.Atoms("C5", positions=CHAIN)


def molecule(stiffness=20.0, angle=112.0, barrier=0.2):
    return (
        Bonds(PAIRS, stiffness, [1.5, 1.54, 1.5, 1.45])
        + Angles(TRIPLES, [3.0, 4.0], angle, types=[0, 1, 0])
        + Dihedrals(QUADRUPLES, barrier, [10.0, 40.0], [3, 2])
    )


def with_calculator(atoms, potential):
    atoms.calc = mdsens.Calculator(potential)
    return atoms


def expected_energy(atoms):
    total = 0.0
    for (i, j), length in zip(PAIRS, [1.5, 1.54, 1.5, 1.45], strict=True):
        total += 10.0 * (atoms.get_distance(i, j) - length) ** 2
    for triple, stiffness in zip(TRIPLES, [3.0, 4.0, 3.0], strict=True):
        total += 0.5 * stiffness * np.deg2rad(atoms.get_angle(*triple) - 112.0) ** 2
    for quadruple, phase, n in zip(QUADRUPLES, [10.0, 40.0], [3, 2], strict=True):
        total += 0.2 * (1.0 + np.cos(np.deg2rad(n * atoms.get_dihedral(*quadruple) - phase)))
    return total


def test_energies_are_those_of_ases_distances_angles_and_dihedrals():
    atoms = with_calculator(chain(), molecule())
    assert atoms.get_potential_energy() == pytest.approx(expected_energy(chain()), rel=1e-12)
    numeric = np.zeros_like(CHAIN)
    for atom, axis in np.ndindex(CHAIN.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = chain()
            moved.positions[atom, axis] += step
            sides.append(expected_energy(moved))
        numeric[atom, axis] = -(sides[0] - sides[1]) / 2e-5
    np.testing.assert_allclose(atoms.get_forces(), numeric, atol=1e-8)


def test_the_hessian_is_that_of_differences_and_empty_where_no_term_reaches():
    atoms = with_calculator(chain(), molecule())
    system = mdsens.System.from_ase(chain())
    potential = molecule().in_system(system)
    matrix = sparse_hessian(system, potential, no_edges(5, 3)).toarray()
    numeric = np.zeros((5, 3, 15))
    for atom, axis in np.ndindex(CHAIN.shape):
        sides = []
        for step in (1e-5, -1e-5):
            atoms.positions[:] = CHAIN
            atoms.positions[atom, axis] += step
            sides.append(atoms.get_forces().reshape(-1))
        numeric[atom, axis] = -(sides[0] - sides[1]) / 2e-5
    np.testing.assert_allclose(matrix, numeric.reshape(15, 15), atol=1e-7)
    assert not matrix[:3, 12:].any()


@pytest.mark.slow
def test_derivatives_of_a_molecule_under_tension_are_those_of_relaxing_again():
    system = mdsens.System.from_ase(chain())
    pull = UniformForce([[0.3, 0.1, 0.0], [-0.3, -0.1, 0.0]], [4, 0])

    def relaxed(**values):
        held = Trap(CHAIN[2], 0.5, [2]) + pull
        return mdsens.relax(system, molecule(**values) + held, **RELAXED)

    observables = [mdsens.observables.distance(0, 4), mdsens.observables.angle(0, 1, 2)]
    found = mdsens.sensitivity(relaxed(), observables)
    assert found.units("distance(0,4)", "dihedrals.stiffness") == "Ang/eV"
    cases = {"bonds.stiffness": ("stiffness", 20.0), "angle": ("angle", 112.0),
             "dihedrals.stiffness": ("barrier", 0.2)}  # fmt: skip
    for name, (argument, value) in cases.items():
        step = 1e-4 * value
        sides = [relaxed(**{argument: value + h}) for h in (step, -step)]
        for observable in observables:
            numeric = float(observable(sides[0]) - observable(sides[1])) / (2.0 * step)
            assert found[observable.name][name] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def ring(count=6, side=1.0):
    """Atoms in a row that goes on across the boundary."""
    places = np.zeros((count, 3))
    places[:, 0] = side * np.arange(count)
    return mdsens.System(places, np.diag([count * side, 9.0, 9.0]), ("C",), None, True)


def test_bonds_reach_across_boundaries_to_the_nearest_image():
    pairs = [[i, (i + 1) % 6] for i in range(6)]
    images = [[0, 0, 0]] * 5 + [[1, 0, 0]]
    for given in (None, images):
        relaxed = mdsens.relax(ring(side=1.04), Bonds(pairs, 3.0, 1.0, images=given),
                               cell=[1, 0, 0, 0, 0, 0], **RELAXED)  # fmt: skip
        assert float(relaxed.cell[0, 0]) == pytest.approx(6.0, rel=1e-10)
        found = mdsens.sensitivity(relaxed, ["volume"])["volume"]
        assert found["length"] == pytest.approx(6.0 * 81.0, rel=1e-9)
        assert found["stiffness"] == pytest.approx(0.0, abs=1e-8)
    # An atom and its own image.
    alone = ring(1, 1.04)
    relaxed = mdsens.relax(alone, Bonds([[0, 0]], 3.0, 1.0, images=[[1, 0, 0]]),
                           cell=[1, 0, 0, 0, 0, 0], **RELAXED)  # fmt: skip
    assert float(relaxed.cell[0, 0]) == pytest.approx(1.0, rel=1e-10)


def test_fields_hold_atoms_where_closed_forms_say():
    system = mdsens.System(np.array([[0.3, 0.2, 0.1]]), None, ("C",), None, False)
    weight = Trap([1.0, 0.0, 0.0], 2.0) + UniformForce([0.0, 0.0, -4.0])
    relaxed = mdsens.relax(system, weight, **RELAXED)
    np.testing.assert_allclose(relaxed.positions, [[1.0, 0.0, -2.0]], atol=1e-10)
    floor = weight + Wall([0.0, 0.0, 3.0], -0.5, 6.0)
    on_floor = mdsens.relax(system, floor, **RELAXED)
    # 2 z + 4 = 6 (-0.5 - z).
    assert float(on_floor.positions[0, 2]) == pytest.approx(-7.0 / 8.0, rel=1e-10)
    assert on_floor.certificate.null_mode_count == 0
    height = mdsens.observables.Observable("height", "length", lambda eq: eq.positions[0, 2])
    found = mdsens.sensitivity(on_floor, [height])["height"]
    assert found["force_z"] == pytest.approx(1.0 / 8.0, rel=1e-9)
    assert found["position"] == pytest.approx(6.0 / 8.0, rel=1e-9)


def network(rows):
    """A triangular network in the plane, with a bond missing here and there, and its lengths."""
    generator = np.random.default_rng(2)
    cell = np.array([[rows, 0.0], [rows / 2.0, rows * np.sqrt(0.75)]])
    steps = np.stack(np.meshgrid(np.arange(rows), np.arange(rows), indexing="ij"), -1)
    places = steps.reshape(-1, 2) @ cell / rows
    index = np.arange(rows**2).reshape(rows, rows)
    pairs = np.concatenate([
        np.stack([index, np.roll(index, shift, (0, 1))], -1).reshape(-1, 2)
        for shift in ((-1, 0), (0, -1), (-1, 1))
    ])  # fmt: skip
    pairs = pairs[generator.random(len(pairs)) < 0.96]
    lengths = 1.0 + 0.02 * generator.normal(size=len(pairs))
    return mdsens.System(places, cell, ("A",), None, True), pairs, lengths


def test_an_elastic_network_has_a_sparse_hessian():
    system, pairs, lengths = network(8)
    relaxed = mdsens.relax(system, Bonds(pairs, 2.0, lengths), **RELAXED)
    assert not relaxed.landscape.couples_all
    assert relaxed.certificate.null_mode_count == 2
    name = f"length[{len(pairs) // 2}]"
    distance = mdsens.observables.distance(3, 12)
    found = mdsens.sensitivity(relaxed, [distance], wrt=[name, "stiffness"])["distance(3,12)"]
    step = 1e-4
    sides = []
    for h in (step, -step):
        other = lengths.copy()
        other[len(pairs) // 2] += h
        sides.append(distance(mdsens.relax(relaxed.system, Bonds(pairs, 2.0, other), **RELAXED)))
    assert found[name] == pytest.approx(float(sides[0] - sides[1]) / (2.0 * step), rel=1e-6)
    # All springs as stiff: only their ratios matter.
    assert found["stiffness"] == pytest.approx(0.0, abs=1e-10)


@pytest.mark.slow
def test_a_network_of_ten_thousand_beads_is_solved_sparsely():
    system, pairs, lengths = network(100)
    potential = Bonds(pairs, 2.0, lengths)

    def energy(potential):
        return mdsens.relax(system, potential, fmax=1e-9).energy

    gradient = jax.grad(energy)(potential).tree["length"]
    relaxed = mdsens.relax(system, potential, fmax=1e-9)
    assert relaxed.hessian_solver.matrix.nnz < 4 * 8 * 10_000
    # The energy is at rest in the positions: what is left is the tension in each bond.
    potential = relaxed.potential
    places, _ = potential._terms(relaxed.positions, relaxed.cell)
    r = np.linalg.norm(places[:, 1] - places[:, 0], axis=1)
    np.testing.assert_allclose(gradient, -2.0 * (r - lengths), atol=1e-9)

    def side(potential):
        positions = mdsens.relax(system, potential, fmax=1e-9).positions
        return jnp.linalg.norm(positions[5050] - positions[5051])

    found = jax.grad(side)(potential).tree["length"]
    distance = mdsens.observables.distance(5050, 5051)
    names = ["length[15000]", f"length[{int(np.argmax(np.abs(found)))}]"]
    expected = mdsens.sensitivity(relaxed, [distance], wrt=names, mode="forward")
    for name in names:
        one = float(potential.derivative(jax.tree.map(jnp.asarray, gradient_like(potential, found)),
                                         name))  # fmt: skip
        assert one == pytest.approx(expected[distance.name][name], rel=1e-6, abs=1e-9)


def gradient_like(potential, lengths):
    zeros = jax.tree.map(jnp.zeros_like, potential)
    zeros.tree["length"] = lengths
    return zeros


def test_a_sum_with_edges_is_sparse_too():
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    potential = LennardJones(0.0104, 3.4, 5.0) + Bonds([[0, 5], [7, 9]], 0.02, 3.6)
    system = mdsens.System.from_ase(atoms)
    relaxed = mdsens.relax(system, potential, **RELAXED)
    assert not relaxed.landscape.couples_all
    found = mdsens.sensitivity(relaxed, ["distance(0,5)"])["distance(0,5)"]
    step = 1e-4
    sides = [
        mdsens.observables.distance(0, 5)(
            mdsens.relax(relaxed.system, potential.with_parameters({"length": 3.6 + h}), **RELAXED)
        )
        for h in (step, -step)
    ]
    assert found["length"] == pytest.approx(float(sides[0] - sides[1]) / (2.0 * step), rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Bonds([[0, 1, 2]], 1.0, 1.0), r"atoms has shape \(1, 3\): give \(T, 2\)"),
        (lambda: Bonds([[0, 0]], 1.0, 1.0), "rows 0 have an atom twice"),
        (lambda: Bonds(PAIRS, [1.0, 2.0], 1.0), "stiffness has 2 values, and there are 4 types"),
        (
            lambda: Bonds(PAIRS, [1.0, 2.0], 1.0, types=[0, 1, 2, 0]),
            "values, and there are 3",
        ),
        (lambda: Bonds([[0, 1]], 1.0, np.nan), "length.* is not finite"),
        (lambda: Dihedrals(QUADRUPLES, 1.0, 0.0, 1.5), "give whole numbers of at least 1"),
        (lambda: Wall([0.0, 0.0, 0.0], 0.0, 1.0), "give a vector that is not zero"),
        (lambda: mdsens.relax(ring(), Bonds([[0, 9]], 1.0, 1.0)), "no atom 9; allowed are 0 to 5"),
        (lambda: mdsens.relax(ring(), Bonds([[0, 3]], 1.0, 1.0)), "two images are equally near"),
        (
            lambda: jax.jit(
                lambda x: mdsens.relax(ring().with_positions(x), Bonds([[0, 1]], 1.0, 1.0)).energy
            )(ring().positions),
            "where JAX traces the structure: give images",
        ),
    ],
)
def test_what_no_group_can_be_is_refused(wrong, message):
    with pytest.raises(mdsens.InputError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
