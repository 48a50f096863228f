"""Minimisation between bounds, against SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers.lbfgsb import LBFGSB

LOWER = np.asarray([-1.5, -1.5, -np.inf, -0.5, -1.5, -1.5])
UPPER = np.asarray([0.5, np.inf, np.inf, 0.4, 2.0, 0.1])


def rosenbrock(x, scale):
    return scale * jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quartic(x, scale):
    each = jnp.arange(1.0, 7) * (x - 0.3) ** 4 + x
    return scale * jnp.sum(each[None, :] + jnp.outer(x, x) / 9)


@pytest.mark.parametrize("scale", [1.0, 500.0])
@pytest.mark.parametrize("fun", [rosenbrock, quartic])
def test_the_minimum_between_bounds_is_that_of_scipy(fun, scale):
    gradient = jax.jit(jax.value_and_grad(fun))
    start = np.linspace(-1.2, 0.4, 6)
    expected = scipy.optimize.minimize(
        lambda x: tuple(map(np.asarray, gradient(x, scale))),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(LOWER, UPPER, strict=True)),
        options={"ftol": 0, "gtol": 1e-9},
    )
    params, _ = LBFGSB(fun).run(jnp.asarray(start), (LOWER, UPPER), scale)
    np.testing.assert_allclose(params, expected.x, rtol=0, atol=1e-6)


def quadratic(x, target):
    return 0.5 * x @ jnp.asarray([[2.0, 1.0], [1.0, 3.0]]) @ x - x @ target


def test_where_a_bound_holds_a_variable_the_others_follow_it():
    # With x_0 = u held, x_1 = (t_1 - u) / 3, and t_0 moves nothing.
    def solution(upper, target):
        bounds = (-jnp.inf, jnp.stack([upper, jnp.inf]))
        return LBFGSB(quadratic, tol=1e-11).run(jnp.zeros(2), bounds, target).params

    in_bound, in_target = jax.jacrev(solution, argnums=(0, 1))(0.5, jnp.asarray([5.0, 1.0]))
    found = np.column_stack([in_bound, in_target])
    expected = [[1, 0, 0], [-1 / 3, 0, 1 / 3]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_start_outside_the_bounds_is_no_obstacle():
    params, _ = LBFGSB(quadratic).run(jnp.full(2, 9.0), (0.0, 1.0), jnp.asarray([5.0, 1.0]))
    np.testing.assert_allclose(params, [1, 0], rtol=0, atol=1e-9)


def test_bounds_in_the_wrong_order_are_an_error():
    with pytest.raises(InputError, match="a lower bound is above its upper bound"):
        LBFGSB(quadratic).run(jnp.zeros(2), (1.0, 0.0), jnp.ones(2))


@pytest.mark.slow
def test_a_minimum_that_is_not_reached_is_an_error():
    with pytest.raises(ConvergenceError, match="LBFGSB did not converge: maxiter=2"):
        LBFGSB(rosenbrock, maxiter=2).run(jnp.zeros(6), (LOWER, UPPER), 1.0)
