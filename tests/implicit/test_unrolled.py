"""Derivatives of iterations against closed forms, and against those of the solution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mdsens.implicit import custom_fixed_point, one_step, unrolled

MODES = pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
RATE, START = 0.3, 2.0


def halfway(x, t):
    """One step of gradient descent on t (x - 1 / t)^2 / 2, with the minimum at 1 / t."""
    return x - RATE * (t * x - 1)


def after(steps, t):
    """x_k = 1/t + (1 - RATE t)^k (x_0 - 1/t) and its derivative."""
    contraction = 1 - RATE * t
    value = 1 / t + contraction**steps * (START - 1 / t)
    slope = (contraction**steps - 1) / t**2
    slope -= steps * RATE * contraction ** (steps - 1) * (START - 1 / t)
    return value, slope


@MODES
@pytest.mark.parametrize("checkpoints", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 7, 25])
def test_the_derivative_of_iterations_has_its_closed_form(mode, checkpoints, steps):
    solver = unrolled(halfway, steps=steps, checkpoints=checkpoints)(lambda x, t: x)
    value, slope = solver(START, 0.7), mode(lambda t: solver(START, t))(0.7)
    np.testing.assert_allclose([value, slope], after(steps, 0.7), rtol=1e-13)


@MODES
def test_the_last_steps_converge_like_a_geometric_series(mode):
    """From the solution, k steps give (1 - q^k) times the derivative, q the contraction."""
    contraction = 1 - RATE * 0.7
    for steps in (0, 1, 5, 40):
        solver = unrolled(halfway, steps=steps, start="solution")(lambda init, t: 1 / t)
        slope = mode(lambda t, solver=solver: solver(START, t))(0.7)
        np.testing.assert_allclose(slope, -(1 - contraction**steps) / 0.7**2, atol=1e-14)


def test_one_step_of_newton_s_method_is_exact():
    newton = one_step(lambda x, t: x - (x**3 - t) / (3 * x**2))(lambda init, t: np.cbrt(t))
    np.testing.assert_allclose(jax.grad(lambda t: newton(None, t))(8.0), 1 / 12, rtol=1e-14)


@pytest.mark.parametrize(
    "attach",
    [
        custom_fixed_point,
        functools.partial(unrolled, steps=200),
        functools.partial(unrolled, steps=200, start="solution"),
    ],
    ids=["implicit", "from the start", "from the solution"],
)
def test_implicit_and_unrolled_are_swapped_by_a_word(attach):
    @attach(halfway, has_aux=True)
    def solve(init, t):
        found = scipy.optimize.brentq(lambda x: float(t) * x - 1, 0, 9)
        return jnp.asarray(found), {"by": "brentq"}

    (value, aux), slope = solve(START, t=0.7), jax.grad(lambda t: solve(START, t=t)[0])(0.7)
    assert aux == {"by": "brentq"}
    np.testing.assert_allclose([value, slope], [1 / 0.7, -1 / 0.7**2], rtol=1e-12)


def test_a_host_solver_may_lead_to_the_start_under_jit():
    solver = unrolled(halfway, steps=200, start="solution")(lambda init, t: 1 / np.asarray(t))
    slope = jax.jit(jax.grad(lambda t: solver(START, t)))(0.7)
    np.testing.assert_allclose(slope, -1 / 0.7**2, rtol=1e-12)


def test_second_derivatives_of_iterations():
    solver = unrolled(halfway, steps=300)(lambda init, t: init)
    second = jax.jit(jax.hessian(lambda t: solver(START, t)))(0.7)
    np.testing.assert_allclose(second, 2 / 0.7**3, rtol=1e-11)


def test_momentum_travels_in_the_state():
    def heavy_ball(state, t):
        x, velocity = state
        velocity = 0.5 * velocity - 0.3 * (t * x - 1)
        return x + velocity, velocity

    solver = unrolled(heavy_ball, steps=150)(lambda init, t: init)
    slope = jax.grad(lambda t: solver((START, 0.0), t)[0])(0.7)
    np.testing.assert_allclose(slope, -1 / 0.7**2, rtol=1e-10)


def test_checkpoints_save_memory_in_reverse_mode():
    size, steps = 1000, 400

    def kept(checkpoints):
        solver = unrolled(lambda x, t: jnp.sin(x) * t, steps=steps, checkpoints=checkpoints)(None)
        gradient = jax.jit(jax.grad(lambda t: jnp.sum(solver(jnp.ones(size), t))))
        return gradient.lower(0.9).compile().memory_analysis().temp_size_in_bytes

    assert kept(False) > 8 * size * steps
    assert kept(True) < 8 * size * steps / 4


def test_there_is_no_derivative_in_the_start():
    solver = unrolled(halfway, steps=3)(lambda init, t: init)
    assert jax.grad(solver)(START, 0.7) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": -1}, "negative"), ({"start": "end"}, "'init' and 'solution'")],
)
def test_options_that_are_not_allowed_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        unrolled(halfway, **options)
