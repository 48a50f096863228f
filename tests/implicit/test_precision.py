"""The estimated error of a derivative against its true error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.implicit import custom_root
from mdsens.implicit.precision import jacobian_error_bound, jacobian_error_estimate

ONE = jnp.ones(1)
DECADES = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]


def coupled(x, theta):
    """A system without symmetry: x0^3 + x1 = theta0, x1 exp(x0) = theta1."""
    return jnp.stack([x[0] ** 3 + x[1] - theta[0], x[1] * jnp.exp(x[0]) - theta[1]])


# Compiled once for all decades.
@jax.jit
def estimate_for_cubes(x, theta, direction):
    return jacobian_error_estimate(lambda x, t: x**3 - t, x, (theta,), (direction,))


@jax.jit
def estimate_for_coupled(x, theta, direction):
    return jacobian_error_estimate(coupled, x, (theta,), (direction,))


def coupled_tangent(x, direction):
    matrix = np.asarray([[3 * x[0] ** 2, 1.0], [x[1] * np.exp(x[0]), np.exp(x[0])]])
    return np.linalg.solve(matrix, direction)


def within_a_factor_of_three(estimate, truth):
    return truth / 3 < estimate < truth * 3


@pytest.mark.parametrize("error", DECADES)
def test_the_estimate_for_cube_roots_is_right(error):
    theta, direction = jnp.asarray([1.0, 8.0, 0.5]), jnp.asarray([1.0, -1.0, 0.3])
    approximate = jnp.cbrt(theta) * (1 + error * jnp.asarray([1.0, -0.4, 0.7]))
    estimate = estimate_for_cubes(approximate, theta, direction)
    exact = direction * jnp.cbrt(theta) / (3 * theta)
    true_error = np.linalg.norm(estimate.derivative - exact)
    assert within_a_factor_of_three(estimate.absolute, true_error)
    assert within_a_factor_of_three(estimate.relative, true_error / np.linalg.norm(exact))
    # Of second order, down to the rounding of the two solves.
    assert np.linalg.norm(estimate.corrected - exact) < 20 * error**2 + 1e-14


@pytest.mark.parametrize("error", DECADES)
def test_the_estimate_for_a_coupled_system_is_right(error):
    exact = np.asarray([0.7, 1.3])
    theta = jnp.asarray([0.7**3 + 1.3, 1.3 * np.exp(0.7)])
    direction = np.asarray([0.2, 1.0])
    shift = error * np.asarray([0.6, -0.8])
    estimate = estimate_for_coupled(exact + shift, theta, direction)
    true_error = np.linalg.norm(estimate.derivative - coupled_tangent(exact, direction))
    assert within_a_factor_of_three(estimate.absolute, true_error)
    assert within_a_factor_of_three(estimate.solution_error, error)


def test_at_the_solution_the_estimate_is_zero():
    ones = jnp.ones(3)
    estimate = estimate_for_cubes(2 * ones, 8 * ones, ones)
    assert estimate.absolute == 0
    assert estimate.relative == 0
    np.testing.assert_allclose(estimate.derivative, 1 / 12, rtol=1e-15)


def test_the_estimates_of_several_directions_are_those_of_each_alone():
    theta, x = jnp.asarray([1.643, 2.618]), jnp.asarray([0.7003, 1.2996])
    directions = jnp.asarray([[0.2, 1.0], [-3.0, 0.5], [0.0, 0.0]])
    together = jacobian_error_estimate(coupled, x, (theta,), (directions,))
    for index, direction in enumerate(directions):
        alone = estimate_for_coupled(x, theta, direction)
        for name in ("absolute", "relative", "derivative", "corrected"):
            here, there = getattr(together, name)[index], getattr(alone, name)
            np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-15, err_msg=name)
    # Nothing moves along a direction that is none, and nothing is wrong about that.
    assert together.relative[2] == 0.0


def test_a_condition_that_cannot_be_found_again_is_not_compiled():
    class Cubes:
        __hash__ = None

        def __call__(self, x, theta):
            return x**3 - theta

    found = jacobian_error_estimate(Cubes(), jnp.asarray([2.0]), (jnp.asarray([8.0]),), (ONE,))
    np.testing.assert_allclose(found.derivative, 1 / 12, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("error", [1e-6, 1e-3])
def test_the_estimate_goes_with_a_null_space(error):
    """A spring with energy (r - length)^4 + (r - length)^2 / 2 on a line is free to translate."""

    def energy(x, length):
        stretch = x[1] - x[0] - length
        return 0.5 * stretch**2 + stretch**4 + 0.25 * (x[1] - x[0]) ** 4

    def condition(x, length):
        return jax.grad(energy)(x, length)

    def tangent(distance, length):  # from e(r, length), one unknown, shared by both ends
        stretch = distance - length
        slope = 1 + 12 * stretch**2
        return slope / (slope + 3 * distance**2)

    exact = 0.5
    for _ in range(50):
        stretch = exact - 1.0
        force = stretch + 4 * stretch**3 + exact**3
        exact -= force / (1 + 12 * stretch**2 + 3 * exact**2)
    estimate = jax.jit(
        lambda x: jacobian_error_estimate(
            condition,
            x,
            (1.0,),
            (1.0,),
            symmetric=True,
            null_space=lambda x, length: jnp.ones((1, 2)),
        )
    )(jnp.asarray([0.0, exact + error]))
    np.testing.assert_allclose(estimate.derivative[0], -estimate.derivative[1], rtol=1e-12)
    true_error = np.sqrt(2) / 2 * abs(tangent(exact + error, 1.0) - tangent(exact, 1.0))
    assert within_a_factor_of_three(estimate.absolute, true_error)


# The bound, for ridge regression as in the paper's figure.

RANDOM = np.random.default_rng(4)
DESIGN, TARGET = RANDOM.normal(size=(20, 5)), RANDOM.normal(size=20)


def ridge_condition(x, penalty):
    return DESIGN.T @ (DESIGN @ x - TARGET) + penalty * x


def ridge(penalty):
    """The solution, and the matrix of the normal equations."""
    normal = DESIGN.T @ DESIGN + penalty * np.eye(5)
    return np.linalg.solve(normal, DESIGN.T @ TARGET), normal


@jax.jit
def bound_for_ridge(x, penalty):
    return jacobian_error_bound(ridge_condition, x, (penalty,), (1.0,), symmetric=True)


@pytest.mark.parametrize("error", DECADES)
def test_the_bound_for_ridge_regression_is_that_of_the_theorem(error):
    exact, normal = ridge(2.0)
    approximate = exact + error * np.asarray([0.5, -0.1, 0.2, 0.7, -0.3])
    bound = bound_for_ridge(approximate, 2.0)
    lowest = np.linalg.eigvalsh(normal)[0]
    np.testing.assert_allclose(
        [bound.alpha, bound.beta, bound.gamma, bound.R],
        [lowest, 1.0, 0.0, np.linalg.norm(approximate)],
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_allclose(bound.constant, 1 / lowest, rtol=1e-10)
    true_error = np.linalg.norm(np.linalg.solve(normal, approximate - exact))
    assert true_error <= bound.absolute * (1 + 1e-6) < 20 * true_error


@pytest.mark.parametrize("error", [1e-6, 1e-4, 1e-2])
def test_the_bound_holds_where_the_jacobian_of_the_condition_changes(error):
    theta, direction = jnp.asarray([1.0, 8.0, 0.5]), jnp.asarray([1.0, -1.0, 0.3])
    exact = np.cbrt(theta)
    approximate = exact * (1 + error * np.asarray([1.0, -0.4, 0.7]))
    bound = jax.jit(
        lambda x: jacobian_error_bound(lambda x, t: x**3 - t, x, (theta,), (direction,))
    )(approximate)
    true_error = np.linalg.norm(direction / (3 * approximate**2) - direction / (3 * exact**2))
    assert true_error < bound.absolute * (1 + 5 * error)
    # alpha = min 3 x^2, gamma = |6 x d| for the unit vector d along the step, R = |direction|.
    along = np.abs(exact * np.asarray([1.0, -0.4, 0.7]))
    expected = np.max(6 * exact * along) / np.linalg.norm(along)
    np.testing.assert_allclose(bound.gamma, expected, rtol=30 * error)


def test_the_bound_wants_few_unknowns():
    with pytest.raises(ValueError, match="use jacobian_error_estimate"):
        jacobian_error_bound(lambda x, t: x - t, jnp.ones(2001), (1.0,), (1.0,))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
def test_a_corrected_derivative_has_an_error_of_second_order(mode):
    """The solver is off by one in a thousand: so is the derivative, but its square if corrected."""
    off = 1e-3

    def error(correct):
        cube_root = custom_root(lambda x, t: x**3 - t, correct=correct)(
            lambda init, t: jnp.cbrt(t) * (1 + off)
        )
        return abs(float(mode(lambda t: cube_root(None, t))(8.0)) * 12 - 1)

    np.testing.assert_allclose(error(False), 2 * off, rtol=0.01)
    np.testing.assert_allclose(error(True), 2 * off**2, rtol=0.01)
