"""Embedded atoms against a plain sum, ASE's calculator, and the metal they were made for."""

import ase.build
import cases
import equinox as eqx
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from ase.calculators.eam import EAM

import mdsens
from mdsens import mechanics
from mdsens.errors import InputError
from mdsens.particles import find_edges
from mdsens.potentials import SuttonChen

pytestmark = pytest.mark.xdist_group("embedded-atom")

#: Copper: A. P. Sutton, J. Chen, Phil. Mag. Lett. 61, 139 (1990), table 1.
COPPER = {"epsilon": 1.2382e-2, "a": 3.61, "c": 39.432, "n": 9.0, "m": 6.0}


def switch(r, cutoff):
    t = np.clip((r / cutoff - 0.9) / 0.1, 0.0, 1.0)
    return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5


def switch_slope(r, cutoff):
    t = np.clip((r / cutoff - 0.9) / 0.1, 0.0, 1.0)
    return -30 * t**2 * (1 - t) ** 2 / (0.1 * cutoff)


@pytest.mark.slow
def test_the_energy_is_the_sum_over_pairs_and_densities():
    case = cases.case("sutton-chen-binary", "cluster")
    potential, kinds = case.potential, np.asarray(case.system.species)
    epsilon, a, c, n, m = (
        np.asarray(getattr(potential, name)) for name in ["epsilon", "a", "c", "n", "m"]
    )
    positions = np.asarray(case.system.positions)
    expected = 0.0
    for i, here in enumerate(positions):
        density = 0.0
        for j, there in enumerate(positions):
            r, pair = np.linalg.norm(there - here), (kinds[i], kinds[j])
            if i != j and r < potential.cutoff:
                s = switch(r, potential.cutoff)
                expected += 0.5 * epsilon[pair] * (a[pair] / r) ** n[pair] * s
                density += (a[pair] / r) ** m[pair] * s
        expected -= c[kinds[i]] * epsilon[kinds[i], kinds[i]] * np.sqrt(density)
    assert case.energy == pytest.approx(expected, rel=1e-13)


def test_energy_forces_and_stress_are_those_of_ase():
    cutoff = 5.5
    epsilon, a, c, n, m = COPPER.values()

    def power(exponent, factor):
        return lambda r: factor * (a / r) ** exponent * switch(r, cutoff)

    def slope(exponent, factor):
        return lambda r: (
            factor
            * (a / r) ** exponent
            * (switch_slope(r, cutoff) - exponent / r * switch(r, cutoff))
        )

    atoms = ase.build.bulk("Cu", "fcc", 3.5) * (2, 1, 2)
    atoms.rattle(0.05, seed=2)
    atoms.calc = EAM(
        elements=["Cu"], form="alloy", cutoff=cutoff, skin=0.0, Z=[29], mass=[63.5],
        a=[3.61], lattice=["fcc"], nr=10, nrho=10, dr=0.1, drho=0.1,
        embedded_energy=np.array([lambda rho: -c * epsilon * np.sqrt(rho)]),
        d_embedded_energy=np.array([lambda rho: -0.5 * c * epsilon / np.sqrt(rho)]),
        electron_density=np.array([power(m, 1.0)]),
        d_electron_density=np.array([slope(m, 1.0)]),
        phi=np.array([[power(n, epsilon)]]),
        d_phi=np.array([[slope(n, epsilon)]]),
    )  # fmt: skip
    system, potential = mdsens.System.from_ase(atoms), SuttonChen(**COPPER, cutoff=cutoff)
    edge_list = find_edges(atoms.positions, atoms.cell[:], system.pbc, cutoff)
    ours = eqx.filter_jit(mechanics.energy_forces_virial)(system, potential, edge_list)
    assert float(ours[0]) == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    assert numerical.relative_error(ours[1], atoms.get_forces()) < 1e-10


@pytest.mark.slow
def test_copper_relaxes_to_its_lattice_constant():
    # The published parameters were made for sums over all neighbours.
    potential = SuttonChen(**COPPER, cutoff=5.0 * 3.61)
    crystal = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", 3.5, cubic=True))
    equilibrium = mdsens.relax(crystal, potential, cell="isotropic")
    assert float(equilibrium.cell[0, 0]) == pytest.approx(3.61, rel=3e-3)
    # The cohesive energy that they were fitted to, eV per atom.
    assert float(equilibrium.energy) / 4 == pytest.approx(-3.49, rel=1e-2)


@pytest.mark.slow
def test_an_atom_alone_has_no_embedding_energy_and_no_slope():
    potential = SuttonChen(**COPPER, cutoff=7.0)
    system = mdsens.System(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]]))
    edge_list = find_edges(np.asarray(system.positions), np.zeros((3, 3)), system.pbc, 7.0)
    energy, forces = mechanics.energy_and_forces(system, potential, edge_list)
    assert float(energy) == 0.0
    np.testing.assert_array_equal(forces, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": -1.0}, "n = -1.0: give a finite number above 0"),
        ({"cutoff": 0.0}, "cutoff = 0.0: give a finite number above 0"),
        ({"onset": 8.0}, "onset = 8.0: give a finite number of at least 0 and below 7"),
        ({"c": [1.0, 2.0]}, "name its rows"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        SuttonChen(**{**COPPER, "cutoff": 7.0, **change})


# The Hessian in parts ---------------------------------------------------------------------------


def copper(repeats, cutoff=4.8, rattle=0.0):
    atoms = ase.build.bulk("Cu", "fcc", a=3.61, cubic=True) * ((repeats,) * 3)
    atoms.rattle(rattle, seed=1)
    system, potential = mdsens.System.from_ase(atoms), SuttonChen(**COPPER, cutoff=cutoff)
    edge_list = find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc, cutoff, skin=0.2
    )
    return system, potential, edge_list


@pytest.mark.slow
@pytest.mark.parametrize("holding", [False, True], ids=["free", "held"])
def test_the_parts_multiply_as_the_whole_does(holding):
    system, potential, edge_list = copper(3, rattle=0.05)
    held = np.zeros(system.atom_count, bool)
    held[[3, 50, 51]] = holding
    dense = np.array(eqx.filter_jit(mechanics.hessian)(system, potential, edge_list))
    rows = np.repeat(held, 3)
    dense[rows] = dense[:, rows] = 0.0
    dense[rows, rows] = 1.0
    parts = mechanics.hessian_in_parts(system, potential, edge_list, held)
    vectors = np.random.default_rng(0).normal(size=(len(dense), 4))
    scale = np.abs(dense @ vectors).max()
    for given in (vectors, vectors[:, 0]):
        assert np.abs(parts @ given - dense @ given).max() < 1e-13 * scale
        assert np.abs(parts.for_many_columns() @ given - dense @ given).max() < 1e-13 * scale
    assert np.abs(parts.toarray() - dense).max() < 1e-13 * np.abs(dense).max()


@pytest.mark.slow
def test_the_parts_take_a_fraction_of_the_memory_of_the_whole():
    system, potential, edge_list = copper(5, cutoff=6.5)
    parts = mechanics.hessian_in_parts(system, potential, edge_list)
    neighbours = 12 + 6 + 24 + 12 + 24 + 8
    assert len(parts.sparse.indices) == (1 + neighbours) * system.atom_count
    assert len(parts.gradients.indices) == (1 + neighbours) * system.atom_count
    stored = parts.sparse.data.nbytes + 2 * parts.gradients.data.nbytes
    assert stored <= mechanics.sparse_hessian_bytes(system, potential, edge_list)
    assert parts.to_bsr().data.nbytes > 3 * stored


@pytest.mark.slow
def test_a_relaxed_vacancy_changes_as_if_relaxed_again(monkeypatch):
    atoms = ase.build.bulk("Cu", "fcc", a=3.61, cubic=True) * (2, 2, 3)
    del atoms[0]
    atoms.rattle(0.02, seed=1)
    potential = SuttonChen(**COPPER, cutoff=4.8)
    minimum = mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=1e-11)

    # By conjugate gradients, whose preconditioner knows nothing of the part of low rank.
    monkeypatch.setattr("mdsens.relaxation.equilibrium.EIGENVECTOR_LIMIT", 1)
    monkeypatch.setattr("mdsens.linalg.sparse_solver.DIRECT_LIMIT", {3: 0})
    sens = mdsens.sensitivity(minimum, ["distance(0,1)", "energy"])
    assert sens.certificate.linear_solver.startswith("conjugate gradients, lattice of")
    monkeypatch.undo()

    def observe(equilibrium):
        positions = equilibrium.positions
        return jnp.stack([jnp.linalg.norm(positions[1] - positions[0]), equilibrium.energy])

    def relaxed(**changed):
        return mdsens.relax(minimum.system, potential.with_parameters(changed), fmax=1e-13)

    noise = numerical.left_over(relaxed(), observe)
    # One within the pairs and the densities, and one of the embedding.
    for name in cases.with_others(["a", "c"], ["epsilon", "n", "m"]):
        value = potential.parameters[name]

        def again(new, name=name):
            return observe(relaxed(**{name: new}))

        # By the change of the parameter's logarithm: epsilon alone moves nothing.
        step = 1e-2 if name == "epsilon" else 1e-3
        expected = numerical.derivative(again, value, step * value, noise=noise)
        scale = np.maximum(np.abs(expected.value), 0.01 / value)
        ours = [sens[observable][name] for observable in ("distance(0,1)", "energy")]
        numerical.agrees(ours, expected, rtol=1e-6, scale=scale, each=True)
