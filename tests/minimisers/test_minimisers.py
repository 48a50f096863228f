"""Every way down leads to the same minimum."""

import cases
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import first_state
from mdsens.minimisers.segment import advance
from mdsens.minimisers.steps import Bounds
from mdsens.relaxation import METHODS, GradientDescent
from mdsens.relaxation.driver import Descent

LJ = cases.POTENTIALS["lj-smooth"]


@pytest.fixture(scope="module")
def reference():
    return mdsens.relax(cases.vacancy_crystal(), LJ, fmax=1e-11)


@pytest.mark.xdist_group("minimisers")
@pytest.mark.parametrize("method", [*METHODS, GradientDescent(step_size=2e-3)], ids=str)
def test_every_method_reaches_the_same_minimum(method, reference):
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ, method=method, fmax=1e-7)
    assert equilibrium.converged
    assert float(equilibrium.energy) == pytest.approx(float(reference.energy), rel=1e-12)
    # Positions up to a common translation.
    moved = np.asarray(equilibrium.positions - reference.positions)
    assert np.abs(moved - moved.mean(axis=0)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("potential", "cell"),
    [
        pytest.param(*pair, marks=pytest.mark.xdist_group("-".join(pair)))
        for pair in cases.with_others(
            [("lj-smooth", "cluster"), ("harmonic", "flat"), ("sw-binary", "triclinic")],
            [("lj-binary", "triclinic"), ("lj-smooth", "flat"), ("morse", "cluster"),
             ("hertzian-by-species", "triclinic"),
             ("wca-binary", "triclinic"), ("sw", "cluster")],
        )
    ],
)  # fmt: skip
def test_auto_goes_down_to_rounding_from_any_distorted_start(potential, cell):
    case = cases.case(potential, cell)
    equilibrium = mdsens.relax(case.system, case.potential, fmax=1e-10)
    forces = np.linalg.norm(np.asarray(equilibrium.forces), axis=1)
    assert equilibrium.converged
    assert forces.max() <= 1e-10
    assert equilibrium.energy < case.energy


@pytest.mark.slow
@pytest.mark.xdist_group("random-start")
def test_overlapping_random_discs_relax():
    generator = np.random.default_rng(11)
    system = mdsens.System(
        generator.uniform(0, 5.0, (30, 2)), np.eye(2) * 5.0, ("a", "b"), np.arange(30) % 2,
        units="reduced",
    )  # fmt: skip
    equilibrium = mdsens.relax(
        system, mdsens.potentials.SoftSphere([1.0, 1.4], 1.0, species=("a", "b")), fmax=1e-11
    )
    assert equilibrium.certificate.kind == "minimum"
    assert equilibrium.energy > 0


@pytest.mark.slow
@pytest.mark.xdist_group("minimisers")
def test_a_preconditioner_saves_more_than_half_of_the_steps():
    crystal = cases.vacancy_crystal(repeats=(3, 3, 3))
    plain, preconditioned = (
        mdsens.relax(crystal, LJ, method=method, fmax=1e-9).history
        for method in ("lbfgs", "preconditioned-lbfgs")
    )
    assert preconditioned.steps < plain.steps / 2


@pytest.mark.slow
def test_a_minimiser_s_memory_is_written_over_and_nothing_else():
    descent = Descent(cases.bipyramid(), cases.POTENTIALS["lj-binary"], None, 1e-8, max_steps=100)
    minimiser = LBFGS(max_step=0.1)
    state = first_state(minimiser, descent.landscape, descent.q)
    bounds = Bounds(jnp.asarray(1e-8), jnp.asarray(5), jnp.asarray(1.0))
    segment = advance(minimiser, descent.landscape, state, descent.reference, bounds, 10)
    assert int(segment.steps) == 5
    assert state.memory.steps.is_deleted()
    assert not (state.q.is_deleted())
    assert not (state.gradient.is_deleted())
