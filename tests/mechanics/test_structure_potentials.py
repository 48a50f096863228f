"""Energies of whole structures, alone and beside potentials of edges."""

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.potentials import LennardJones, Parameter, StructurePotential, parameter

RELAXED = {"fmax": 1e-11, "method": "newton"}


class AllPairs(StructurePotential):
    """Lennard-Jones between all atoms of a cluster."""

    epsilon: Parameter = parameter("energy")
    sigma: Parameter = parameter("length")
    species: tuple[str, ...] | None = None

    def structure_energy(self, positions, cell, species):
        first, second = np.triu_indices(len(positions), 1)
        squares = jnp.sum((positions[first] - positions[second]) ** 2, axis=1)
        powers = (self.sigma**2 / squares) ** 3
        return jnp.sum(4.0 * self.epsilon * (powers**2 - powers))


class Waves(StructurePotential):
    """A field that moves along with the cell, and holds each atom at a place in it."""

    invariant = False
    depth: Parameter = parameter("energy")
    species: tuple[str, ...] | None = None

    def structure_energy(self, positions, cell, species):
        places = positions @ jnp.linalg.inv(cell)
        turns = 2.0 * jnp.pi * (places - jnp.asarray([[0.06, 0.02, 0.01]]))
        return self.depth * jnp.sum(1.0 - jnp.cos(2.0 * turns))


def cluster():
    atoms = ase.Atoms(
        "Ar5", positions=[[0, 0, 0], [3.7, 0, 0], [1.8, 3.2, 0], [1.8, 1, 3], [2, 1, -3]]
    )
    return mdsens.System.from_ase(atoms)


def test_an_energy_of_all_pairs_is_that_of_edges():
    whole = mdsens.relax(cluster(), AllPairs(0.0104, 3.4), **RELAXED)
    edges = mdsens.relax(cluster(), LennardJones(0.0104, 3.4, 60.0, onset=50.0), **RELAXED)
    assert whole.energy == pytest.approx(edges.energy, rel=1e-12)
    np.testing.assert_allclose(whole.forces, 0.0, atol=1e-11)
    of_whole, of_edges = whole.certificate, edges.certificate
    assert of_whole.null_modes == of_edges.null_modes
    assert of_whole.null_mode_count == 6
    assert of_whole.lowest_eigenvalue == pytest.approx(of_edges.lowest_eigenvalue, rel=1e-8)
    distance = mdsens.observables.distance(3, 4)
    found = mdsens.sensitivity(whole, [distance])["distance(3,4)"]
    expected = mdsens.sensitivity(edges, [distance])["distance(3,4)"]
    assert found["sigma"] == pytest.approx(float(distance(whole)) / 3.4, rel=1e-9)
    assert found["sigma"] == pytest.approx(expected["sigma"], rel=1e-9)


def crystal():
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.02, 0.0], [0.0, 1.0, 0.01], [0.0, 0.0, 1.0]], True)
    atoms.rattle(0.05, seed=1)
    return mdsens.System.from_ase(atoms)


def in_field(depth, sigma):
    return LennardJones(0.0104, sigma, 7.5, onset=6.5) + Waves(depth)


@pytest.mark.parametrize("cell", [None, pytest.param("full", marks=pytest.mark.slow)])
def test_a_sum_with_edges_relaxes_in_a_field_that_holds_it(cell):
    relaxed = mdsens.relax(crystal(), in_field(0.02, 3.4), cell=cell, **RELAXED)
    if cell is None:
        assert relaxed.certificate.null_mode_count == 0
    side = mdsens.observables.distance(0, 1)
    found = mdsens.sensitivity(relaxed, [side])["distance(0,1)"]
    point, step = {"depth": 0.02, "sigma": 3.4}, 1e-4
    for name, value in point.items():
        potentials = [in_field(**point | {name: value * (1.0 + h)}) for h in (step, -step)]
        high, low = (
            float(side(mdsens.relax(relaxed.system, potential, cell=cell, **RELAXED)))
            for potential in potentials
        )
        numeric = (high - low) / (2.0 * step * value)
        assert found[name] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_gradients_go_through_relaxation_under_jit():
    start = cluster()

    def distance(sigma):
        positions = mdsens.relax(start, AllPairs(0.0104, sigma), **RELAXED).positions
        return jnp.linalg.norm(positions[3] - positions[4])

    found = jax.jit(jax.grad(distance))(3.4)
    step = 1e-4
    numeric = (distance(3.4 + step) - distance(3.4 - step)) / (2.0 * step)
    assert float(found) == pytest.approx(float(numeric), rel=1e-6)


def test_what_needs_edges_says_so():
    potential = AllPairs(0.0104, 3.4)
    with pytest.raises(mdsens.InputError, match="an energy of the whole structure, and relaxing"):
        mdsens.relax_batch([cluster()], potential)
    atoms = crystal().to_ase()
    relaxed = mdsens.relax(crystal(), in_field(0.02, 3.4), **RELAXED)
    with pytest.raises(
        mdsens.InputError, match="wave of an infinite crystal needs one along edges"
    ):
        mdsens.observables.phonon_frequencies(q=(0.5, 0.0, 0.0))(relaxed)
    atoms.calc = mdsens.Calculator(in_field(0.02, 3.4))
    with pytest.raises(mdsens.InputError, match="an energy of each atom needs one along edges"):
        atoms.get_potential_energies()


def test_the_hessian_is_that_of_differences():
    relaxed = mdsens.relax(crystal(), in_field(0.02, 3.4), **RELAXED)
    calculator = mdsens.Calculator(in_field(0.02, 3.4))
    atoms = relaxed.to_ase()
    atoms.calc = calculator
    from mdsens.phonopy import force_constants

    step, constants = 1e-4, force_constants(relaxed)
    for axis in range(3):
        sides = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.calc = calculator
            moved.positions[1, axis] += sign * step
            sides.append(moved.get_forces())
        numeric = -(sides[0] - sides[1]) / (2.0 * step)
        np.testing.assert_allclose(constants[1, :, axis], numeric, atol=1e-6)
