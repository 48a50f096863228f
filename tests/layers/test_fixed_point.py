"""Fixed points of a contraction, against a linear solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers.fixed_point import AndersonAcceleration, FixedPointIteration

MATRIX = np.random.default_rng(3).normal(size=(6, 6))
MATRIX *= 0.9 / np.linalg.norm(MATRIX, 2)
OFFSET = np.linspace(-1, 1, 6)
SOLVERS = [FixedPointIteration, AndersonAcceleration]


def affine(x, offset):
    return jnp.asarray(MATRIX) @ x + offset


def contraction(x, offset):
    return jnp.tanh(jnp.asarray(MATRIX) @ x) + offset


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_fixed_point_of_an_affine_map_solves_a_linear_system(solver):
    params, _ = solver(affine, tol=1e-12).run(jnp.zeros(6), jnp.asarray(OFFSET))
    expected = np.linalg.solve(np.eye(6) - MATRIX, OFFSET)
    np.testing.assert_allclose(params, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_one_step_derivative_is_that_of_the_map(solver):
    solver = solver(contraction, derivative="one-step")
    found = jax.jacfwd(lambda b: solver.run(jnp.zeros(6), b).params)(jnp.asarray(OFFSET))
    np.testing.assert_allclose(found, np.eye(6), rtol=0, atol=1e-14)


def test_anderson_acceleration_of_an_affine_map_is_a_krylov_method():
    # Walker & Ni 2011, theorem 2.2: with enough history n + 1 differences span everything.
    solver = AndersonAcceleration(affine, history_size=6, tol=1e-9)
    assert solver.run(jnp.zeros(6), jnp.asarray(OFFSET)).state.iter_num <= 9


def test_anderson_acceleration_finds_fixed_points_that_repel():
    solver = AndersonAcceleration(lambda x, b: b - 3 * x, tol=1e-11)
    found = solver.run(jnp.zeros(2), jnp.asarray([4.0, 8.0])).params
    np.testing.assert_allclose(found, [1, 2], rtol=0, atol=1e-11)


def test_auxiliary_output_is_that_of_the_last_evaluation():
    solver = FixedPointIteration(lambda x: (0.5 * x + 1, {"point": x}), has_aux=True)
    params, state = solver.run(jnp.zeros(()))
    np.testing.assert_allclose(state.aux["point"], params, rtol=1e-7)


def test_a_map_that_is_no_contraction_does_not_converge():
    with pytest.raises(ConvergenceError, match="FixedPointIteration did not converge"):
        FixedPointIteration(lambda x: 1 - x, maxiter=20).run(jnp.zeros(()))


def test_a_history_of_nothing_is_an_error():
    with pytest.raises(InputError, match="history_size = 0"):
        AndersonAcceleration(affine, history_size=0)
