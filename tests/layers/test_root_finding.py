"""Roots of functions and least squares, against closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers.least_squares import GaussNewton, LevenbergMarquardt
from mdsens.layers.newton import Newton
from mdsens.layers.root_finding import Bisection


def cubic(x, volume):
    return x**3 - volume


@pytest.mark.parametrize(("sign", "mode"), [(1, jax.jacfwd), (-1, jax.jacrev)])
def test_bisection_has_the_derivative_of_the_cube_root(sign, mode):
    solver = Bisection(lambda x, volume: sign * cubic(x, volume), 0.0, 10.0)
    found = mode(lambda volume: solver.run(None, volume).params)(8.0)
    np.testing.assert_allclose(found, 1 / 12, rtol=1e-8)


def test_bisection_works_mapped_and_compiled():
    solver = Bisection(optimality_fun=cubic, lower=0.0, upper=10.0)
    found = jax.jit(jax.vmap(lambda volume: solver.run(None, volume).params))
    np.testing.assert_allclose(found(jnp.asarray([1.0, 8.0, 27.0])), [1, 2, 3], rtol=1e-8)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.float64])
def test_a_root_between_neighbouring_numbers_is_as_good_as_there_is(kind):
    """Nowhere is the cubic as small as the tolerance, in either precision."""
    solver = Bisection(cubic, kind(0), kind(1e4))
    found = solver.run(None, kind(5e11)).params
    assert found.dtype == kind
    np.testing.assert_allclose(found, np.cbrt(5e11), rtol=2 * float(jnp.finfo(kind).eps))


def test_bisection_hands_auxiliary_output_on():
    solver = Bisection(lambda x, v: (cubic(x, v), {"square": x**2}), 0.0, 10.0, has_aux=True)
    slope, aux = jax.grad(
        lambda v: (lambda step: (step.params, step.state.aux))(solver.run(None, v)), has_aux=True
    )(8.0)
    np.testing.assert_allclose([slope, aux["square"]], [1 / 12, 4], rtol=1e-8)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [(3.0, 10.0, "same sign at lower and upper"), (10.0, 0.0, "allowed is lower < upper")],
)
def test_an_interval_without_a_bracket_is_an_error(lower, upper, message):
    with pytest.raises(InputError, match=message):
        Bisection(cubic, lower, upper).run(None, 8.0)


def test_a_function_of_several_values_is_no_matter_for_bisection():
    with pytest.raises(InputError, match=r"returned the shape \(2,\); allowed is a scalar"):
        Bisection(lambda x: jnp.stack([x, x]), -1.0, 1.0).run()


def circle_and_line(p, radius, slope):
    return {"x": p["x"] ** 2 + p["y"] ** 2 - radius**2, "y": p["y"] - slope * p["x"]}


@pytest.mark.parametrize("derivative", ["implicit", "unrolled", "one-step"])
def test_newtons_method_has_the_derivative_of_an_intersection(derivative):
    solver = Newton(circle_and_line, derivative=derivative, maxiter=20, tol=1e-12)
    start = {"x": jnp.asarray(1.0), "y": jnp.asarray(1.0)}
    found = jax.jacrev(lambda *a: solver.run(start, *a).params["x"], argnums=(0, 1))(2.0, 0.5)
    # x = r / sqrt(1 + s^2)
    np.testing.assert_allclose(found, [1.25**-0.5, -2 * 0.5 * 1.25**-1.5], rtol=1e-9)


def test_newtons_method_without_a_root_does_not_converge():
    with pytest.raises(ConvergenceError, match="Newton"):
        Newton(lambda x: x**2 + 1, maxiter=30).run(jnp.asarray(0.3))


TIMES = np.linspace(0, 1, 20)
VALUES = 2 * np.exp(-1.3 * TIMES) + 0.1 * np.sin(9 * TIMES)


def residuals(params, values):
    return params["a"] * jnp.exp(-params["b"] * jnp.asarray(TIMES)) - values


def fitted_by_scipy(values):
    def fun(p):
        return p[0] * np.exp(-p[1] * TIMES) - values

    def jacobian(p):
        decay = np.exp(-p[1] * TIMES)
        return np.column_stack([decay, -p[0] * TIMES * decay])

    options = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "method": "lm"}
    return scipy.optimize.least_squares(fun, [1.0, 1.0], jacobian, **options).x


def fitted(solver, values):
    params = solver.run({"a": 1.0, "b": 1.0}, jnp.asarray(values)).params
    return jnp.stack([params["a"], params["b"]])


LEAST_SQUARES = [GaussNewton(residuals), LevenbergMarquardt(residual_fun=residuals)]


@pytest.mark.parametrize("solver", LEAST_SQUARES, ids=lambda s: type(s).__name__)
def test_nonlinear_least_squares_have_the_solution_of_scipy(solver):
    np.testing.assert_allclose(fitted(solver, VALUES), fitted_by_scipy(VALUES), atol=1e-7)


def fit_in_extended_precision():
    """The fit, by Newton's method with the exact Hessian, and its derivative in the values.

    The gradient J' r vanishes, so that H dp/dv = J'; both in closed form, in NumPy's long double.
    """
    t, v = TIMES.astype(np.longdouble), VALUES.astype(np.longdouble)
    a, b = fitted_by_scipy(VALUES).astype(np.longdouble)
    for _ in range(5):
        decay = np.exp(-b * t)
        r = a * decay - v
        J = np.stack([decay, -a * t * decay], axis=1)
        mixed = -np.sum(r * t * decay)
        h_aa, h_ab, h_bb = np.sum(J.T[:, None] * J.T[None], axis=-1).ravel()[[0, 1, 3]]
        h_ab, h_bb = h_ab + mixed, h_bb + np.sum(r * a * t**2 * decay)
        inverse = np.array([[h_bb, -h_ab], [-h_ab, h_aa]]) / (h_aa * h_bb - h_ab**2)
        a, b = np.array([a, b]) - inverse @ (J.T @ r)
    return np.array([a, b]), inverse @ J.T


@pytest.mark.parametrize("solver", LEAST_SQUARES, ids=lambda s: type(s).__name__)
def test_the_derivative_of_a_fit_is_that_of_the_exact_fit(solver):
    params, expected = fit_in_extended_precision()
    # The solvers stop at a gradient of 1.5e-8, which leaves about as much in params and derivative.
    np.testing.assert_allclose(fitted(solver, VALUES), params.astype(float), rtol=0, atol=1e-7)
    found = jax.jacrev(lambda values: fitted(solver, values))(jnp.asarray(VALUES))
    np.testing.assert_allclose(found, expected.astype(float), rtol=0, atol=1e-7)
