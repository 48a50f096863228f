"""Forces, stress and Hessian of every potential against finite differences and symmetries."""

from typing import ClassVar

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from ase.build import bulk

from mdsens import System, mechanics
from mdsens.errors import InputError
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, PairPotential, Potential
from mdsens.potentials.pair import radial_hessian
from mdsens.testing import supercell

PERIODIC = [pair for pair in cases.PAIRS if cases.CELLS[pair[1]][1] is not False]
CRYSTALS = [
    *(("lj-smooth", cell) for cell in ("small", "triclinic", "flat")),
    *((name, "triclinic") for name in ("lj-binary", "hertzian-by-species", "sw-binary")),
    ("sw", "small"),
]
OF_PAIRS = [
    pair
    for pair in cases.PAIRS
    if isinstance(cases.POTENTIALS[pair[0]], PairPotential)
    and (cases.EVERY or pair[1] in ("cluster", "triclinic", "flat"))
]
CLUSTERS = [pair for pair in cases.PAIRS if "cluster" in pair[1]]


class ManyBody(Potential):
    """A pair potential that does not say that it is one."""

    pair: PairPotential

    @property
    def species(self):
        return self.pair.species

    @property
    def interaction_range(self):
        return self.pair.interaction_range

    def site_energies(self, edges):
        return self.pair.site_energies(edges)


@eqx.filter_jit
def hessian_of(system, potential, edge_list):
    return mechanics.hessian(system, potential, edge_list)


@eqx.filter_jit
def site_energies_of(system, potential, edge_list):
    return mechanics.site_energies(system, potential, edge_list)


@pytest.mark.slow
@cases.every()
def test_the_force_is_minus_the_slope_of_the_energy(case):
    expected = numerical.forces(
        lambda batch: case.mechanics(batch)[0], np.asarray(case.system.positions)
    )
    numerical.agrees(case.forces, expected, rtol=7e-9)


@cases.every(PERIODIC)
def test_the_virial_is_the_slope_of_the_energy_in_the_strain(case):
    system = case.system
    expected = numerical.virial(
        lambda positions, cells: case.mechanics(positions, cells)[0],
        np.asarray(system.positions), np.asarray(system.cell),
    )  # fmt: skip
    numerical.agrees(case.virial, expected, rtol=1e-7)


@pytest.mark.slow
@cases.every()
def test_the_hessian_is_minus_the_slope_of_the_force(case):
    expected = numerical.hessian(
        lambda batch: case.mechanics(batch)[1], np.asarray(case.system.positions)
    )
    hessian = hessian_of(case.system, case.potential, case.edges())
    numerical.agrees(hessian, expected, rtol=1e-7)


@pytest.mark.slow
@cases.every()
def test_the_sparse_hessian_is_the_dense_one(case):
    dense = np.asarray(hessian_of(case.system, case.potential, case.edges()))
    matrix = mechanics.sparse_hessian(case.system, case.potential, case.edges())
    # Each place once, also where an atom meets another and its images.
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    assert len(set(zip(rows, matrix.indices, strict=True))) == len(rows)
    sparse = matrix.toarray()
    scale = np.abs(dense).max()
    assert np.abs(sparse - dense).max() < 1e-12 * scale
    assert np.abs(sparse - sparse.T).max() < 1e-14 * scale


@pytest.mark.slow
def test_held_atoms_have_the_rows_of_the_identity():
    case = cases.case("sw", "triclinic")
    dense = np.array(hessian_of(case.system, case.potential, case.edges()))
    held = np.array([True, False, False, True])
    rows = np.repeat(held, 3)
    dense[rows] = dense[:, rows] = 0.0
    dense[rows, rows] = 1.0
    sparse = mechanics.sparse_hessian(case.system, case.potential, case.edges(), held).toarray()
    assert np.abs(sparse - dense).max() < 1e-12 * np.abs(dense).max()


@pytest.mark.slow
@cases.every(OF_PAIRS)
def test_the_closed_form_of_pairs_is_the_hessian_by_autodiff(case):
    plain = ManyBody(case.potential)
    expected = np.asarray(hessian_of(case.system, plain, case.edges()))
    found = np.asarray(hessian_of(case.system, case.potential, case.edges()))
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()


class Springs(Potential):
    """A pair potential of a user's own, which is none of ours; its Hessian by differentiation."""

    pairwise: ClassVar[bool] = True
    species: ClassVar[tuple[str, ...] | None] = None

    @property
    def interaction_range(self):
        return 2.0

    def site_energies(self, edges):
        overlap = jnp.where(edges.distances < 2.0, 1.0 - edges.distances / 2.0, 0.0)
        return 0.5 * jnp.sum(jnp.where(edges.mask, overlap**3, 0.0), axis=0)


class FastSprings(Springs):
    """The same, with second derivatives in closed form."""

    factor: float = 1.0

    def edge_hessians(self, edges):
        overlap = jnp.where(edges.distances < 2.0, 1.0 - edges.distances / 2.0, 0.0)
        slope, curvature = -1.5 * self.factor * overlap**2, 1.5 * self.factor * overlap
        return radial_hessian(edges, slope, curvature)


class SlowSprings(Springs):
    """The same, which does not say that it is pairwise."""

    pairwise: ClassVar[bool] = False


@pytest.mark.slow
def test_second_derivatives_of_a_user_s_own_potential_reach_the_matrix():
    system = cases.case("sw", "cluster").system
    edge_list = find_edges(np.asarray(system.positions), np.eye(3), system.pbc, 2.0, 0.1)
    expected = mechanics.sparse_hessian(system, SlowSprings(), edge_list).toarray()
    scale = np.abs(expected).max()
    for potential in (Springs(), FastSprings()):
        found = mechanics.sparse_hessian(system, potential, edge_list).toarray()
        assert np.abs(found - expected).max() < 1e-12 * scale
        dense = np.asarray(hessian_of(system, potential, edge_list))
        assert np.abs(dense - expected).max() < 1e-12 * scale
    # What the user gives is what is taken.
    doubled = mechanics.sparse_hessian(system, FastSprings(2.0), edge_list).toarray()
    assert np.abs(doubled - 2.0 * expected).max() < 1e-12 * scale


def test_only_pairs_within_the_cutoff_are_stored():
    crystal = System.from_ase(bulk("Ar", "fcc", a=5.26, cubic=True) * (4, 4, 4))
    potential = LennardJones(0.0104, 3.405, 8.5)
    edge_list = find_edges(
        np.asarray(crystal.positions), np.asarray(crystal.cell), crystal.pbc, 8.5, skin=1.0
    )
    stored = mechanics.sparse_hessian(crystal, potential, edge_list)
    # Five shells of the fcc lattice lie within 8.5: 12 + 6 + 24 + 12 + 24 neighbours.
    assert len(stored.indices) == crystal.atom_count * (1 + 12 + 6 + 24 + 12 + 24)
    bytes_needed = stored.data.nbytes + stored.indices.nbytes
    assert bytes_needed <= mechanics.sparse_hessian_bytes(crystal, potential, edge_list)


@cases.every()
def test_a_translation_does_no_work_in_the_hessian(case):
    hessian = np.asarray(hessian_of(case.system, case.potential, case.edges()))
    shifts = np.tile(np.eye(case.system.dimension), (case.system.atom_count, 1))
    assert np.linalg.norm(hessian @ shifts) < 1e-12 * np.linalg.norm(hessian)


@cases.every()
def test_forces_add_up_to_nothing(case):
    forces = case.forces
    assert np.linalg.norm(forces.sum(axis=0)) < 1e-12 * np.linalg.norm(forces)


@cases.every()
def test_a_translation_changes_nothing(case):
    shift = np.linspace(0.3, 0.7, case.system.dimension)
    energies, forces, _ = case.mechanics((np.asarray(case.system.positions) + shift)[None])
    assert energies[0] == pytest.approx(case.energy, rel=1e-12)
    assert numerical.relative_error(forces[0], case.forces) < 1e-12


@cases.every(CLUSTERS)
def test_forces_turn_with_a_cluster(case):
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(case.system.dimension,) * 2))
    turned = case.system.with_positions(case.system.positions @ turn)
    energies, forces, virials = case.mechanics(system=turned)
    assert energies[0] == pytest.approx(case.energy, rel=1e-12)
    assert numerical.relative_error(forces[0], case.forces @ turn) < 1e-12
    assert numerical.relative_error(virials[0], turn.T @ case.virial @ turn) < 1e-12


@cases.every(CLUSTERS)
def test_a_cluster_feels_no_torque(case):
    positions, forces = np.asarray(case.system.positions), case.forces
    torque = positions.T @ forces - forces.T @ positions
    assert np.linalg.norm(torque) < 1e-12 * np.linalg.norm(positions) * np.linalg.norm(forces)


@pytest.mark.slow
@cases.every()
def test_the_order_of_atoms_does_not_matter(case):
    system = case.system
    order = np.random.default_rng(4).permutation(system.atom_count)
    shuffled = System(
        system.positions[order], system.cell, system.symbols, system.species[order], system.pbc,
        units=system.units,
    )  # fmt: skip
    energies, forces, virials = case.mechanics(system=shuffled)
    assert energies[0] == pytest.approx(case.energy, rel=1e-12)
    assert numerical.relative_error(forces[0], case.forces[order]) < 1e-12
    assert numerical.relative_error(virials[0], case.virial) < 1e-12


@pytest.mark.slow
@cases.every(CRYSTALS)
def test_a_supercell_has_the_same_forces_on_each_atom(case):
    big = supercell(case.system)
    copies = big.atom_count // case.system.atom_count
    energies, forces, virials = case.mechanics(system=big)
    assert energies[0] / copies == pytest.approx(case.energy, rel=1e-12)
    assert numerical.relative_error(forces[0], np.tile(case.forces, (copies, 1))) < 1e-12
    assert numerical.relative_error(virials[0] / copies, case.virial) < 1e-12


@pytest.mark.slow
@cases.every([("lj-smooth", "triclinic"), ("harmonic", "flat"), ("lj-binary", "cluster")])
def test_the_path_of_many_body_potentials_serves_pairs_too(case):
    energy, forces, virial = eqx.filter_jit(mechanics.energy_forces_virial)(
        case.system, ManyBody(case.potential), case.edges()
    )
    assert energy == pytest.approx(case.energy, rel=1e-12)
    assert numerical.relative_error(forces, case.forces) < 1e-12
    assert numerical.relative_error(virial, case.virial) < 1e-12


@cases.every([("lj-smooth", "triclinic"), ("sw", "cluster")])
def test_site_energies_add_up_to_the_energy(case):
    sites = site_energies_of(case.system, case.potential, case.edges())
    assert sites.shape == (case.system.atom_count,)
    assert jnp.sum(sites) == pytest.approx(case.energy, rel=1e-12)


def test_stress_needs_a_volume():
    case = cases.case("lj-smooth", "cluster")
    positions = case.system.positions
    flat = System(positions, np.diag([9.0, 9.0, 0.0]), pbc=(True, True, False))
    for system, message in [
        (System(positions), "no direction is periodic"),
        (System(positions, np.eye(3), pbc=False), "no direction is periodic"),
        (flat, "the cell has none: give the system a full cell"),
    ]:
        with pytest.raises(InputError, match=f"stress needs a volume, and {message}"):
            mechanics.stress(system, case.potential, case.edges(system))


def test_stress_is_the_virial_by_volume_and_positive_under_tension():
    from ase import Atoms

    case = cases.case("lj-smooth", "triclinic")
    stress = mechanics.stress(case.system, case.potential, case.edges())
    volume = Atoms(cell=case.system.cell).cell.volume
    np.testing.assert_allclose(stress * volume, (case.virial + case.virial.T) / 2, rtol=1e-12)


def test_voigt_components_come_in_the_order_of_ase():
    from ase.stress import full_3x3_to_voigt_6_stress

    tensor = np.random.default_rng(5).normal(size=(3, 3))
    tensor = tensor + tensor.T
    components = mechanics.voigt(jnp.asarray(tensor))
    np.testing.assert_allclose(components, full_3x3_to_voigt_6_stress(tensor))


@pytest.mark.parametrize(
    ("potential", "of_forces"), [("lj-smooth", 3), ("sutton-chen", 3), ("sw", 60)]
)
def test_reverse_derivatives_keep_few_numbers_of_each_edge(potential, of_forces):
    # Of what is not summed slot by slot those of a block are kept, here of half of all edges.
    potential = cases.POTENTIALS[potential]
    system = System.from_ase(bulk("Ar", "fcc", a=1.56, cubic=True).repeat(8))
    edges = find_edges(
        system.positions, system.cell, system.pbc, float(potential.interaction_range), 0.3
    )

    def kept(of_positions):
        derivative = jax.jit(jax.grad(of_positions)).lower(system.positions).compile()
        return derivative.memory_analysis().temp_size_in_bytes

    def along(positions):
        forces = mechanics.forces(system.with_positions(positions), potential, edges)
        return jnp.vdot(jnp.cos(jnp.arange(forces.size)), forces.reshape(-1))

    def energy(positions):
        return mechanics.energy(system.with_positions(positions), potential, edges)

    of_edges = 8 * edges.neighbors.size
    assert kept(along) < of_forces * of_edges
    assert kept(energy) < 20 * of_edges
