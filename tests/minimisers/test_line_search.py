"""What a line search does with atoms that would go too far."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.mechanics.enthalpy import typical_force
from mdsens.minimisers.line_search import _limited_to, search_down
from mdsens.minimisers.minimiser import first_state
from mdsens.relaxation import LBFGS
from mdsens.relaxation.driver import Descent

pytestmark = pytest.mark.xdist_group("line-search")

MAX_STEP = 0.02


@pytest.fixture(scope="module")
def start():
    descent = Descent(cases.vacancy_crystal(), cases.POTENTIALS["lj-smooth"], None, 1e-8, 100)
    return descent.landscape, first_state(LBFGS(), descent.landscape, descent.q).without_memory()


def moved_along(start, direction):
    landscape, state = start
    found, accepted = search_down(landscape, state, direction, jnp.asarray(MAX_STEP))
    assert accepted
    assert found.enthalpy < state.enthalpy
    return np.asarray(found.q - state.q)


def test_an_atom_that_would_go_too_far_does_not_hold_up_the_others(start):
    force = -start[1].gradient
    short = 0.05 * MAX_STEP / typical_force(force) * force
    moved = moved_along(start, short.at[3].multiply(1e4))
    assert np.linalg.norm(moved[3]) == pytest.approx(MAX_STEP)
    others = np.arange(len(moved)) != 3
    np.testing.assert_allclose(moved[others], short[others], rtol=1e-9)


def test_a_free_structure_stays_where_it_is_when_atoms_are_held_back(start):
    moved = moved_along(start, -1e2 * start[1].gradient)
    lengths = np.linalg.norm(moved, axis=1)
    assert np.sum(lengths > 0.9 * MAX_STEP) > 3
    assert lengths.min() < 0.8 * MAX_STEP
    assert np.abs(moved.mean(axis=0)).max() < 1e-12 * MAX_STEP


def test_no_atom_goes_further_than_allowed(start):
    moved = moved_along(start, -1e6 * start[1].gradient)
    assert np.linalg.norm(moved, axis=1).max() <= MAX_STEP * (1 + 1e-12)


def test_a_direction_that_goes_up_once_it_is_held_back_is_not_taken(start):
    # One atom far down its force outweighs all others that go up, until it is held back.
    gradient = start[1].gradient
    up = 0.9 * MAX_STEP / jnp.linalg.norm(gradient, axis=1).max() * gradient
    direction = up.at[3].set(-1e6 * gradient[3])
    assert jnp.vdot(direction, gradient) < 0
    moved = moved_along(start, direction)
    assert np.vdot(moved, gradient) < 0


def test_on_the_host_atoms_are_limited_as_in_compiled_code():
    direction = np.random.default_rng(0).normal(size=(40, 3))
    direction[:30] -= direction[:30].mean(axis=0)
    limited = jax.jit(_limited_to, static_argnums=2)
    for longest in (0.5, 2.0, 10.0):
        found = _limited_to(direction, longest, 30)
        np.testing.assert_allclose(found, limited(direction, longest, 30), rtol=1e-12, atol=1e-14)
        assert (found is direction) == (longest == 10.0)
