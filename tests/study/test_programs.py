"""That nothing is compiled twice: compilation is what a user waits for.

Of how many programs a study consists is counted where the ready studies are run.
"""

import numpy as np
import pytest
from ase.build import bulk
from compiled_programs import compiled

import mdsens
from mdsens.compilation import forget_programs
from mdsens.mechanics import enthalpy
from mdsens.potentials import LennardJones
from mdsens.study import load_study, run_study


def vacancy(seed):
    atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (3, 3, 3)
    del atoms[0]
    atoms.positions += np.random.default_rng(seed).normal(0.0, 0.1, atoms.positions.shape)
    return mdsens.System.from_ase(atoms)


def differentiated(seed, cell):
    potential = LennardJones(0.0104 * (1.0 + 0.01 * seed), 3.4, cutoff=8.0)
    equilibrium = mdsens.relax(vacancy(seed), potential, cell=cell)
    return mdsens.sensitivity(equilibrium, ["energy", "distance(0,1)"])


@pytest.mark.parametrize("cell", [None, pytest.param("isotropic", marks=pytest.mark.slow)])
def test_other_positions_and_parameters_compile_nothing(cell):
    first = differentiated(0, cell)
    before = len(compiled)
    assert before > 0
    others = [differentiated(seed, cell) for seed in (1, 2, 3)]
    assert compiled[before:] == []
    assert all(other.observed["energy"] != first.observed["energy"] for other in others)


def test_a_hundred_relaxations_compile_as_often_as_one():
    atoms = bulk("Ar", "fcc", 5.3, cubic=True)

    def relaxed(seed):
        moved = atoms.copy()
        moved.positions += np.random.default_rng(seed).normal(0.0, 0.1, atoms.positions.shape)
        potential = LennardJones(0.0104, 3.4 * (1.0 + 1e-4 * seed), cutoff=8.0)
        return mdsens.relax(mdsens.System.from_ase(moved), potential, method="lbfgs", fmax=1e-6)

    def slope(seed):
        equilibrium = relaxed(seed)
        return mdsens.sensitivity(equilibrium, ["energy"], wrt=["sigma"])["energy"]["sigma"]

    slope(0)
    before = len(compiled)
    assert len({float(relaxed(seed).energy) for seed in range(1, 99)}) == 98
    assert np.isfinite(slope(99))
    assert compiled[before:] == []


@pytest.mark.parametrize(
    ("cell", "evaluations"),
    [
        (None, {"jit(energy_and_forces)"}),
        pytest.param("isotropic", {"jit(energy_forces_virial)"}, marks=pytest.mark.slow),
    ],
)
def test_a_relaxation_of_many_atoms_evaluates_by_one_program(cell, evaluations, monkeypatch):
    """Without the virial where nothing asks for it, from the first evaluation on."""
    monkeypatch.setattr(enthalpy, "FEWEST_WITHOUT_VIRIAL", 100)
    forget_programs()
    compiled.clear()
    potential = LennardJones(0.0104, 3.4, cutoff=8.0)
    relaxed = mdsens.relax(vacancy(0), potential, cell=cell, method="lbfgs", fmax=1e-6)
    assert relaxed.converged
    assert {name for name in compiled if "energy" in name} == evaluations


def test_structures_of_a_study_share_the_programs_of_forces(tmp_path):
    """A cell of eight atoms, and one of 63: the largest programs are made once for both."""
    study = load_study("vacancy-formation", ["relaxation.fmax=1e-6"])
    forget_programs()
    compiled.clear()
    run_study(study, tmp_path / "run")
    for program in ("energy_forces_virial", "directional_change", "_surroundings_of", "_changes"):
        assert compiled.count(f"jit({program})") == 1, program


@pytest.mark.slow
def test_products_with_the_hessian_and_values_of_its_like_have_no_programs_of_their_own():
    """Changes with parameters are computed by what computes them."""
    system = mdsens.System.from_ase(bulk("Ar", "fcc", 5.26, cubic=True))
    potential = LennardJones(0.0104, 3.4, cutoff=7.0)
    equilibrium = mdsens.relax(system, potential, cell="isotropic")
    asked = ["volume", "elastic_constant(1,1)"]
    forget_programs()
    compiled.clear()
    forward = mdsens.sensitivity(equilibrium, asked, mode="forward")
    # One of the forces, with parameters and along vectors alike, and one of what strains do.
    assert compiled.count("jit(directional_change)") == 2
    assert compiled.count("jit(_compiled_values)") == 0
    assert compiled.count("jit(_changes)") == 1
    reverse = mdsens.sensitivity(equilibrium, asked, mode="reverse")
    for name in asked:
        values = [float(found.observed[name]) for found in (forward, reverse)]
        assert values[0] == pytest.approx(values[1], rel=1e-12)
        for parameter in ("epsilon", "sigma"):
            slopes = [float(found[name][parameter]) for found in (forward, reverse)]
            assert slopes[0] == pytest.approx(slopes[1], rel=1e-8, abs=1e-6)
