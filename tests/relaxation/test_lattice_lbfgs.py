"""L-BFGS with the average of a crystal's Hessian: the average itself, and where it leads."""

import ase.build
import cases
import jax
import numpy as np
import pytest

import mdsens
from mdsens.mechanics import lattice_model
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian import hessian
from mdsens.minimisers import lattice_lbfgs
from mdsens.minimisers.lattice_lbfgs import LatticeLBFGS
from mdsens.potentials import LennardJones, StillingerWeber

ARGON = LennardJones(0.0104, 3.405, 6.2, onset=5.7)
SILICON = StillingerWeber(2.1683, 2.0951, **cases.SILICON)
FLAT = LennardJones(1.0, 1.0, 1.6, onset=1.4)
SHEAR = np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.05], [0.02, 0.0, 1.0]])


def hexagonal(rows):
    """A hexagonal crystal in two dimensions."""
    places = np.mgrid[:rows, :rows].reshape(2, -1).T
    cell = 1.11 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    return mdsens.System(places @ cell, rows * cell, units="reduced")


def perfect(name):
    if name == "diamond":
        return mdsens.System.from_ase(ase.build.bulk("Si", "diamond", 5.431).repeat(4)), SILICON
    if name == "hexagonal":
        return hexagonal(9), FLAT
    atoms = ase.build.bulk("Ar", "fcc", 5.26).repeat((5, 6, 5))
    atoms.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
    return mdsens.System.from_ase(atoms), ARGON


@pytest.mark.parametrize("name", ["sheared", "diamond", "hexagonal"])
def test_the_average_of_a_perfect_crystal_is_its_hessian(name):
    system, potential = perfect(name)
    edges = potential.edge_search(system).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    landscape = Landscape.of(system, potential, edges)
    model = lattice_model.lattice_model(landscape, system.positions)
    whole = np.asarray(jax.jit(hessian)(system, potential, edges))
    vector = np.random.default_rng(2).normal(size=system.positions.shape)
    vector = (vector - vector.mean(axis=0)).reshape(-1)
    expected = np.linalg.pinv(whole, rcond=1e-9, hermitian=True) @ vector
    np.testing.assert_allclose(model(vector), expected, atol=2e-5 * np.abs(expected).max())


def relaxed(system, potential, monkeypatch, fmax=1e-9, **options):
    monkeypatch.setattr(lattice_model, "FEWEST_ATOMS", 50)
    return mdsens.relax(system, potential, fmax=fmax, **options)


def with_defects():
    """A sheared crystal off its places with an atom missing."""
    atoms = ase.build.bulk("Ar", "fcc", 5.26).repeat((5, 6, 5))
    atoms.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
    del atoms[20]
    atoms.rattle(0.05, seed=4)
    return mdsens.System.from_ase(atoms)


def test_it_leads_to_the_minimum_of_lbfgs(monkeypatch):
    system = with_defects()
    # So few atoms have many defects to each of them: it is taken to its end all the same.
    monkeypatch.setattr(lattice_lbfgs, "EXPECTED_RATIO", 1.0)
    found = relaxed(system, ARGON, monkeypatch)
    usual = mdsens.relax(system, ARGON, method="lbfgs", fmax=1e-9)
    assert [method for method, steps in found.history.methods if steps] == ["LatticeLBFGS"]
    assert found.history.steps < 0.6 * usual.history.steps
    assert found.certificate.converged
    assert found.certificate.stable
    np.testing.assert_allclose(float(found.energy), float(usual.energy), rtol=1e-12)
    apart = np.asarray(found.positions) - np.asarray(usual.positions)
    assert np.abs(apart - apart.mean(axis=0)).max() < 1e-6
    # Nothing moves the whole, of which a difference of two relaxations would be made.
    np.testing.assert_allclose(apart.mean(axis=0), 0.0, atol=1e-11)
    assert lattice_model.suits_lattice_model(found.landscape)
    held = found.landscape.system.with_fixed([3])
    landscape = Landscape.of(held, ARGON, found.landscape.edge_list)
    assert not lattice_model.suits_lattice_model(landscape)


def test_a_slab_leaves_too_much_of_its_lattice_empty():
    atoms = ase.build.fcc111("Ar", (4, 4, 8), a=5.26, vacuum=9.0, periodic=True)
    system = mdsens.System.from_ase(atoms)
    edges = ARGON.edge_search(system).find(np.asarray(system.positions), np.asarray(system.cell))
    landscape = Landscape.of(system, ARGON, edges)
    assert lattice_model.lattice_model(landscape, system.positions) is None


def test_where_there_is_no_lattice_others_take_over(monkeypatch):
    monkeypatch.setattr(lattice_lbfgs, "lattice_model", lambda landscape, q: None)
    found = relaxed(with_defects(), ARGON, monkeypatch, fmax=1e-3)
    assert found.certificate.converged
    methods = [method for method, steps in found.history.methods if steps]
    assert methods == ["LatticeLBFGS", "LBFGS"]
    # What gives up takes no step.
    assert (np.diff(found.history.forces) != 0.0).all()


def test_it_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(lattice_lbfgs, "EXPECTED_RATIO", 1.0)
    monkeypatch.setattr(LatticeLBFGS, "steps_at_a_time", 3)
    monkeypatch.setattr("mdsens.relaxation.checkpoint.SHARE", np.inf)
    path, seen = tmp_path / "relaxation.npz", []

    def interrupt(step, *_):
        seen.append(step)
        if step >= 6:
            raise KeyboardInterrupt

    def checkpointed(**options):
        given = {"checkpoint": path, "checkpoint_every": 1e-9, **options}
        return relaxed(with_defects(), ARGON, monkeypatch, **given)

    whole = checkpointed()
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        checkpointed(callback=interrupt)
    assert path.exists()
    found = checkpointed(callback=lambda step, *_: seen.append(-step))
    # It has not begun anew.
    assert max(step for step in seen if step < 0) < -3
    # The model of the lattice is made anew there, where the crystal is another.
    np.testing.assert_allclose(float(found.energy), float(whole.energy), rtol=1e-12)
    np.testing.assert_allclose(found.positions, whole.positions, atol=1e-6)
    assert {name for name, steps in found.history.methods if steps} == {"LatticeLBFGS"}
