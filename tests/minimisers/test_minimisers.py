"""Every way down leads to the same minimum."""

import dataclasses

import cases
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_programs import compiled

import mdsens
from mdsens.mechanics.relaxing_cell import RelaxingCell
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


@pytest.mark.parametrize("cell", [None, "full"])
def test_lbfgs_takes_the_same_steps_on_the_host_as_compiled(cell):
    system = cases.vacancy_crystal()
    relaxing = None if cell is None else RelaxingCell.of(system, cell, 0.0)
    descent = Descent(system, LJ, relaxing, 1e-12, 1000)
    bounds = Bounds(jnp.asarray(1e-12), jnp.asarray(15), jnp.asarray(jnp.inf))
    found = []
    for minimiser in (LBFGS(history=3), LBFGS(history=3).for_host()):
        state = first_state(minimiser, descent.landscape, descent.q)
        segment = advance(minimiser, descent.landscape, state, descent.reference, bounds, 15)
        found.append(segment)
    loop, on_host = found
    assert int(loop.steps) == int(on_host.steps) == 15
    assert int(loop.state.evaluations) == int(on_host.state.evaluations)
    size = np.abs(np.asarray(loop.state.q - descent.q)).max()
    assert size > 1e-3
    np.testing.assert_allclose(on_host.state.q, loop.state.q, atol=1e-9 * size)
    np.testing.assert_allclose(on_host.forces, loop.forces[:15], rtol=1e-6)
    np.testing.assert_allclose(on_host.enthalpies, loop.enthalpies[:15], rtol=1e-12)


def test_lbfgs_on_the_host_forgets_its_past_before_it_gives_up():
    descent = Descent(cases.vacancy_crystal(), LJ, None, 1e-12, 1000)
    minimiser = LBFGS().for_host()
    state = first_state(minimiser, descent.landscape, descent.q)
    for _ in range(3):
        state = minimiser.step(descent.landscape, state)
    past = state.memory.past
    assert past.filled == 3
    # No trial is lower than what is said to be the lowest: twice nothing is found.
    low = dataclasses.replace(state, enthalpy=np.asarray(-1e9))
    once = minimiser.step(descent.landscape, low)
    assert past.filled == 0
    assert not once.stalled
    np.testing.assert_array_equal(once.q, state.q)
    assert minimiser.step(descent.landscape, once).stalled


def test_no_loop_of_steps_is_compiled_before_a_first_result():
    # Of a size, with as many edges, that no other test has.
    system = cases.vacancy_crystal(repeats=(3, 2, 4))
    potential = mdsens.potentials.LennardJones(1.0, 1.0, cutoff=2.3)
    before = len(compiled)
    found = mdsens.relax(system, potential, method="lbfgs", fmax=1e-8)
    assert found.history.steps > 5
    assert sorted(compiled[before:]) == ["jit(_ranges)", "jit(energy_forces_virial)"]
    # Newton's method compiles what it makes of the Hessian.
    mdsens.relax(system, potential, fmax=1e-8)
    assert not [name for name in compiled[before:] if "advance" in name or "search" in name]
