"""What holds for every iterative solver, shown with ridge regression, which has a closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_programs import compiled
from sklearn.datasets import load_diabetes

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers.bfgs import BFGS
from mdsens.layers.broyden import Broyden
from mdsens.layers.gradient_descent import GradientDescent
from mdsens.layers.lbfgs import LBFGS
from mdsens.layers.lbfgsb import LBFGSB
from mdsens.layers.least_squares import LevenbergMarquardt
from mdsens.layers.linear_solve import solve_cg
from mdsens.layers.newton import Newton
from mdsens.layers.nonlinear_cg import NonlinearCG
from mdsens.layers.objective import ridge_regression
from mdsens.layers.proximal_gradient import ProximalGradient

X, y = load_diabetes(return_X_y=True)
X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
TRAIN, VALID = (X[:300], y[:300]), (X[300:], y[300:])
DATA = tuple(map(jnp.asarray, TRAIN))
START = jnp.zeros(10)


def exact(l2reg, data=TRAIN):
    inputs, targets = data
    gram = inputs.T @ inputs / len(targets)
    return jnp.linalg.solve(gram + l2reg * jnp.eye(10), inputs.T @ targets / len(targets))


def exact_derivative(l2reg):
    inputs, targets = TRAIN
    gram = inputs.T @ inputs / len(targets) + l2reg * np.eye(10)
    return -np.linalg.solve(gram, exact(l2reg))


MINIMISERS = [
    GradientDescent(ridge_regression, tol=1e-10, maxiter=2000),
    LBFGS(ridge_regression, tol=1e-10),
    NonlinearCG(ridge_regression, tol=1e-10),
    ProximalGradient(ridge_regression, lambda v, hyperparams, scaling: v, tol=1e-10, maxiter=2000),
    Newton(jax.grad(ridge_regression), tol=1e-10),
]


def name_of(solver):
    return type(solver).__name__


def weights(solver, l2reg):
    extra = (None,) if isinstance(solver, ProximalGradient) else ()
    return solver.run(START, *extra, l2reg, DATA).params


@pytest.mark.parametrize("solver", MINIMISERS, ids=name_of)
def test_ridge_regression_has_its_closed_form(solver):
    np.testing.assert_allclose(weights(solver, 0.1), exact(0.1), rtol=0, atol=1e-8)


@pytest.mark.slow
def test_the_second_derivative_of_a_validation_loss_has_its_closed_form():
    solver = LBFGS(ridge_regression, tol=1e-13, maxiter=200)

    def validation_loss(log_l2reg, solution):
        return 0.5 * jnp.mean((VALID[0] @ solution(jnp.exp(log_l2reg)) - VALID[1]) ** 2)

    found = jax.hessian(lambda t: validation_loss(t, lambda l: weights(solver, l)))(-1.0)
    # Through the spectrum of the Gram matrix: w = sum_k c_k v_k / (s_k + lambda).
    values, vectors = np.linalg.eigh(TRAIN[0].T @ TRAIN[0] / 300)
    c, l = vectors.T @ (TRAIN[0].T @ TRAIN[1] / 300), np.exp(-1.0)
    w, first = vectors @ (c / (values + l)), vectors @ (-l * c / (values + l) ** 2)
    second = vectors @ (-l * c / (values + l) ** 2 + 2 * l**2 * c / (values + l) ** 3)
    residual = VALID[0] @ w - VALID[1]
    expected = np.mean((VALID[0] @ first) ** 2 + residual * (VALID[0] @ second))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_the_one_step_derivative_is_that_of_one_iteration_from_the_solution():
    solver = GradientDescent(
        ridge_regression, stepsize=0.2, tol=1e-12, maxiter=5000, derivative="one-step"
    )
    found = jax.jacrev(lambda l: weights(solver, l))(0.1)
    np.testing.assert_allclose(found, -0.2 * exact(0.1), rtol=0, atol=1e-9)


def parabola(x, theta):
    return jnp.sum(1.5 * x**2 - theta * x)


def parabola_residual(x, theta):
    return np.sqrt(3.0) * x - theta / np.sqrt(3.0)


MODELLED = [
    (LBFGS(parabola, derivative="one-step"), 1e-7),
    (BFGS(parabola, derivative="one-step"), 1e-7),
    (LBFGSB(parabola, derivative="one-step"), 1e-7),
    (Broyden(jax.grad(parabola), derivative="one-step"), 1e-7),
    # Damped, at first by a millionth.
    (LevenbergMarquardt(parabola_residual, derivative="one-step"), 2e-6),
    (LevenbergMarquardt(parabola_residual, solver="cholesky", derivative="one-step"), 2e-6),
    (LevenbergMarquardt(parabola_residual, solver=solve_cg, derivative="one-step"), 2e-6),
]


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("solver", "rtol"), MODELLED)
def test_one_step_of_a_model_that_knows_the_curvature_has_the_exact_derivative(solver, rtol, mode):
    def solution(theta):
        extra = (None,) if isinstance(solver, LBFGSB) else ()
        return solver.run(jnp.zeros(1), *extra, theta).params[0]

    # x = theta / 3, and secants in one dimension are the curvature.
    np.testing.assert_allclose(mode(solution)(2.0), 1 / 3, rtol=rtol)


@pytest.mark.parametrize("kind", [LBFGS, BFGS])
def test_one_step_of_a_model_that_knows_nothing_is_one_of_gradient_descent(kind):
    solver = kind(ridge_regression, tol=1e-12, derivative="one-step")
    start = exact(0.1)
    found = jax.jacrev(lambda l: solver.run(start, l, DATA).params)(0.1)
    np.testing.assert_allclose(found, -start, rtol=0, atol=1e-12)


def test_one_step_at_a_bound_moves_with_the_bound():
    solver = LBFGSB(parabola, derivative="one-step")

    def solution(theta, upper):
        return solver.run(jnp.zeros(2), (-1.0, upper), theta).params

    theta = jnp.asarray([6.0, 0.9])  # x = (upper, 0.3)
    by_theta, by_upper = jax.jacrev(solution, (0, 1))(theta, 0.5)
    np.testing.assert_allclose(by_theta, np.diag([0, 1 / 3]), rtol=0, atol=1e-7)
    np.testing.assert_allclose(by_upper, [1, 0], rtol=0, atol=1e-12)


def test_all_arguments_may_be_given_by_name():
    for solver in (MINIMISERS[0], MINIMISERS[1]):
        found = jax.jacrev(lambda l, s=solver: s.run(START, l2reg=l, data=DATA).params)(0.1)
        np.testing.assert_allclose(found, exact_derivative(0.1), rtol=0, atol=1e-8)


@pytest.mark.parametrize("derivative", ["implicit", "unrolled"])
@pytest.mark.parametrize("kind", [GradientDescent, ProximalGradient])
def test_a_function_among_the_arguments_may_close_over_what_is_differentiated(kind, derivative):
    solver = kind(lambda w, pull: pull(w), derivative=derivative, stepsize=1.0, maxiter=9)

    def solution(target):
        def pull(w):
            return jnp.sum((w - target**2) ** 2) / 2

        extra = (None,) if kind is ProximalGradient else ()
        return solver.run(jnp.zeros(3), *extra, pull).params

    found = jax.jacrev(solution)(jnp.arange(3.0))
    np.testing.assert_allclose(found, 2 * np.diag(np.arange(3.0)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("derivative", ["implicit", "unrolled"])
def test_an_objective_may_close_over_what_is_differentiated(derivative):
    def solution(target):
        solver = GradientDescent(
            lambda w: jnp.sum((w - target) ** 2) / 2, derivative=derivative, stepsize=1.0, maxiter=9
        )
        return solver.run(jnp.zeros(3)).params

    found = jax.jacrev(solution)(jnp.arange(3.0))
    np.testing.assert_allclose(found, np.eye(3), rtol=0, atol=1e-12)


def test_iterations_by_batches_may_close_over_what_is_differentiated():
    def after_batches(target):
        solver = GradientDescent(
            lambda w, pull, data: data * pull(w) + 0.5 * target * w,
            stepsize=0.5,
            acceleration=False,
            derivative="unrolled",
        )
        batches = iter([jnp.asarray(9.0), jnp.asarray(1.0), jnp.asarray(0.5)])
        return solver.run_iterator(jnp.asarray(0.0), batches, lambda w: (w - target**2) ** 2 / 2)

    found = jax.grad(lambda target: after_batches(target).params)(3.0)
    # w <- w - (data (w - target^2) + target / 2) / 2; the first batch is for the state alone.
    slope = 0.0
    for data in (1.0, 0.5):
        slope -= 0.5 * (data * (slope - 6.0) + 0.5)
    np.testing.assert_allclose(found, slope, rtol=1e-12)


@pytest.mark.parametrize("kind", [LBFGS, BFGS, GradientDescent, NonlinearCG, LBFGSB])
def test_a_python_number_beside_an_array_of_single_precision_is_a_start(kind):
    solver = kind(lambda w: jnp.sum((w["a"] - 1) ** 2) + (w["b"] - 2) ** 2, maxiter=20)
    with jax.numpy_dtype_promotion("standard"):
        found = solver.run({"a": jnp.zeros(2, jnp.float32), "b": 0.0}).params
    np.testing.assert_allclose(found["a"], 1, rtol=1e-6)
    np.testing.assert_allclose(found["b"], 2, rtol=1e-6)


def test_a_solver_that_is_equal_is_not_compiled_again():
    traces = []

    def counted(w, l2reg, data):
        traces.append(None)
        return ridge_regression(w, l2reg, data)

    LBFGS(counted).run(START, 0.1, DATA)
    first = len(traces)
    LBFGS(counted).run(START + 1, 0.2, DATA)
    assert len(traces) == first


def test_a_derivative_is_not_compiled_again():
    traces = []

    def counted(w, l2reg, data):
        traces.append(None)
        return ridge_regression(w, l2reg, data)

    def gradient(l2reg):
        return jax.grad(lambda l: LBFGS(counted).run(START, l, DATA).params[0])(l2reg)

    gradient(0.1)
    first = len(traces)
    gradient(0.2)
    assert len(traces) == first


@pytest.mark.slow
def test_gradients_of_mapped_solutions_are_the_gradients_of_each():
    solver = LBFGS(ridge_regression, tol=1e-11)
    total = lambda ls: jnp.sum(jax.vmap(lambda l: weights(solver, l))(ls))  # noqa: E731
    found = jax.grad(total)(jnp.asarray([0.1, 1.0]))
    expected = [exact_derivative(l).sum() for l in (0.1, 1.0)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("solver", [LBFGS, NonlinearCG, GradientDescent])
def test_parameters_may_be_a_tree(solver):
    def fun(params, target):
        return jnp.sum((params["a"] - target) ** 2) + 2 * jnp.sum((params["b"] + target) ** 2)

    start = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    found = solver(fun, tol=1e-10).run(start, 3.0).params
    np.testing.assert_allclose([*found["a"], found["b"]], [3, 3, -3], rtol=0, atol=1e-9)


@pytest.mark.parametrize("given", ["value and gradient in one", "beside the value"])
def test_a_given_gradient_takes_the_place_of_automatic_differentiation(given):
    def blind(w, target):  # automatic differentiation would find no slope
        return jax.lax.stop_gradient(0.5 * jnp.sum((w - target) ** 2)), {"largest": jnp.max(w)}

    def both(w, target):
        return blind(w, target), w - target

    if given == "beside the value":
        solver = LBFGS(blind, value_and_grad=both, has_aux=True)
    else:
        solver = LBFGS(both, value_and_grad=True, has_aux=True)

    def solution(target):
        params, state = solver.run(jnp.zeros(3), target)
        return params, state.aux["largest"]

    jacobian, largest = jax.jacrev(solution, has_aux=True)(jnp.asarray([1.0, 2.0, 3.0]))
    np.testing.assert_allclose([jacobian.sum(), largest], [3, 3], rtol=1e-8)


@pytest.mark.parametrize("solver", [LBFGS, GradientDescent, NonlinearCG])
def test_single_precision_stays_single_and_converges_by_default(solver):
    data = tuple(a.astype(jnp.float32) for a in DATA)
    params = solver(ridge_regression).run(START.astype(jnp.float32), jnp.float32(0.1), data).params
    # The error in x is the tolerance of the gradient over the smallest curvature, 3.5e-4 / 0.1.
    np.testing.assert_allclose(params, np.float32(exact(0.1)), rtol=0, atol=3.5e-3)
    assert params.dtype == jnp.float32


def test_the_linear_solver_of_the_derivative_can_be_given():
    called = []

    def solve(matvec, b):
        called.append(None)
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-12)[0]

    solver = LBFGS(ridge_regression, tol=1e-10, implicit_diff_solve=solve)
    found = jax.jacrev(lambda l: weights(solver, l))(0.1)
    np.testing.assert_allclose(found, exact_derivative(0.1), rtol=0, atol=1e-7)
    assert called


def test_iterations_can_be_taken_one_by_one():
    solver = LBFGS(ridge_regression)
    params, state = START, solver.init_state(START, 0.1, DATA)
    update = jax.jit(solver.update)
    for _ in range(25):
        params, state = update(params, state, 0.1, DATA)
    np.testing.assert_allclose(params, exact(0.1), rtol=0, atol=1e-6)


def test_the_optimality_error_vanishes_at_the_solution_alone():
    solver = GradientDescent(ridge_regression)
    errors = [float(solver.l2_optimality_error(w, 0.1, DATA)) for w in (exact(0.1), START)]
    gradient_at_start = np.linalg.norm(TRAIN[0].T @ TRAIN[1] / 300)
    np.testing.assert_allclose(errors, [0, gradient_at_start], rtol=1e-12, atol=1e-14)


def test_a_solver_that_does_not_converge_says_so():
    solver = GradientDescent(ridge_regression, maxiter=3, tol=1e-9)
    message = r"GradientDescent did not converge: maxiter=3 .* error of \d.* tol=1.0e-09; raise"
    with pytest.raises(ConvergenceError, match=message):
        solver.run(START, 0.1, DATA)


def test_a_solver_that_does_not_converge_says_so_before_its_derivative_fails():
    solver = GradientDescent(ridge_regression, maxiter=3)
    with pytest.raises(ConvergenceError, match="did not converge"):
        jax.grad(lambda l: weights(solver, l).sum())(0.1)


def test_a_solver_that_does_not_converge_says_so_in_compiled_code():
    solver = GradientDescent(ridge_regression, maxiter=3)
    with pytest.raises(RuntimeError, match="GradientDescent did not converge: maxiter=3"):
        jax.block_until_ready(jax.jit(lambda l: weights(solver, l))(0.1))


@pytest.mark.parametrize("derivative", ["unrolled", "one-step"])
def test_it_says_so_whatever_the_derivative(derivative):
    solver = GradientDescent(ridge_regression, maxiter=3, derivative=derivative)
    with pytest.raises(ConvergenceError, match="did not converge"):
        weights(solver, 0.1)


def test_without_throw_the_state_tells_whether_it_converged():
    solver = GradientDescent(ridge_regression, throw=False, maxiter=3)
    patient = dataclasses.replace(solver, maxiter=2000)
    states = [s.run(START, 0.1, DATA).state for s in (solver, patient)]
    assert [bool(state.converged) for state in states] == [False, True]


@pytest.mark.parametrize("solver", [LBFGS, GradientDescent, NonlinearCG])
def test_numbers_that_are_not_finite_are_named(solver):
    with pytest.raises(ConvergenceError, match="met numbers that are not finite in iteration"):
        solver(lambda w: jnp.sum(jnp.log(w - 1))).run(jnp.zeros(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LBFGS(ridge_regression).run(jnp.ones(10, bool), 0.1, DATA),
            "init_params holds bool",
        ),
        (lambda: LBFGS(lambda w: w).run(START), r"a value of shape \(10,\); allowed is a scalar"),
        (lambda: LBFGS(ridge_regression, derivative="exact"), "allowed are implicit"),
        (lambda: LBFGS(ridge_regression, maxiter=0), "maxiter = 0: give a whole number"),
        (lambda: LBFGS(ridge_regression, tol=-1.0), "tol = -1.0: give a finite number"),
        (lambda: NonlinearCG(ridge_regression, method="other"), "allowed are polak-ribiere"),
    ],
)
def test_what_is_not_allowed_is_said_in_one_line(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_gradient_after_a_solve_compiles_the_loop_no_second_time():
    solver = LBFGS(lambda x, scale: jnp.sum(jnp.cosh(scale * x - 1.0)))
    scale = jnp.asarray(2.0)
    first = len(compiled)
    solver.run(jnp.zeros(3), scale)
    before = len(compiled)
    assert compiled[first:].count("jit(_loop)") == 1
    gradient = jax.grad(lambda scale: jnp.sum(solver.run(jnp.zeros(3), scale).params))(scale)
    assert "jit(_loop)" not in compiled[before:]
    np.testing.assert_allclose(gradient, -3 / 2.0**2, rtol=1e-6)
