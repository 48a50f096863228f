"""Phantom gradients: against unrolled damped iterations, closed forms and the exact derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.implicit import TruncatedNeumann, unrolled, vjp_solution
from mdsens.layers import AndersonAcceleration, GradientDescent

RANDOM = np.random.default_rng(0)
W = jnp.asarray(0.2 * RANDOM.normal(size=(6, 6)))
U = jnp.asarray(RANDOM.normal(size=6))
Z = jnp.zeros(6)


def layer(z, W):
    return jnp.tanh(W @ z + U)


EXACT = AndersonAcceleration(layer, tol=1e-13)


def solved(W, **options):
    return AndersonAcceleration(layer, tol=1e-13, **options).run(Z, W).params


@pytest.mark.parametrize(("steps", "damping"), [(1, 1.0), (3, 0.7)])
def test_it_is_the_derivative_of_damped_iterations_from_the_solution(steps, damping):
    phantom = TruncatedNeumann(steps, damping)

    @unrolled(lambda z, W: (1 - damping) * z + damping * layer(z, W), steps=steps, start="solution")
    def damped(z, W):
        return EXACT.run(z, W).params

    expected = jax.jacobian(lambda W: damped(Z, W))(W)
    for mode in (jax.jacrev, jax.jacfwd):
        slope = jax.jit(mode(lambda W: solved(W, implicit_diff_solve=phantom)))(W)
        np.testing.assert_allclose(slope, expected, atol=1e-12)
    exact = jax.jacobian(lambda W: EXACT.run(Z, W).params)(W)
    assert 1e-3 < np.linalg.norm(expected - exact) / np.linalg.norm(exact) < 0.3


def test_one_step_is_the_one_step_derivative_and_many_are_the_exact_one():
    def slope(**options):
        return jax.grad(lambda W: jnp.sum(solved(W, **options) ** 3))(W)

    exact = slope()
    one = slope(implicit_diff_solve=TruncatedNeumann(1))
    np.testing.assert_allclose(one, slope(derivative="one-step"), atol=1e-12)
    many = slope(implicit_diff_solve=TruncatedNeumann(60, 0.8))
    np.testing.assert_allclose(many, exact, atol=1e-12)


def test_error_and_residual_are_the_power_of_the_contraction():
    """z = a z + theta, whose derivative is 1 / (1 - a), has the series (1 - a^k) / (1 - a)."""
    contraction = jnp.asarray([0.9, -0.5])
    for steps in (1, 4, 9):
        (slope,), solution = vjp_solution(
            lambda z, theta: contraction * z + theta - z,
            jnp.zeros(2),
            (jnp.zeros(2),),
            jnp.ones(2),
            TruncatedNeumann(steps),
        )
        expected = (1 - contraction**steps) / (1 - contraction)
        np.testing.assert_allclose(slope, expected, rtol=1e-12)
        left = np.linalg.norm(contraction**steps) / 2**0.5
        assert solution.residual == pytest.approx(left, rel=1e-10)


def quadratic(x, theta):
    return 0.5 * jnp.sum(jnp.asarray([1.0, 4.0]) * (x - theta) ** 2)


def test_gradients_have_a_step_size_for_damping_and_the_wrong_sign_is_an_error():
    def slope(damping):
        solver = GradientDescent(quadratic, implicit_diff_solve=TruncatedNeumann(5, damping))
        return jax.jacfwd(lambda theta: solver.run(jnp.zeros(2), theta).params)(jnp.ones(2))

    np.testing.assert_allclose(slope(-0.2), np.diag([1 - 0.8**5, 1 - 0.2**5]), rtol=1e-9)
    with pytest.raises(Exception, match=r"relative residual is above 1.0e\+00"):
        jax.block_until_ready(slope(0.2))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"steps": 0}, "steps"), ({"damping": 0.0}, "damping"), ({"tolerance": -1.0}, "tolerance")],
)
def test_what_cannot_be_meant_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        TruncatedNeumann(**options)
