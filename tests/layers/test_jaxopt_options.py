"""What JAXopt's users write: options by name and position, loops of their own, loose ends."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
import pytest
import scipy.optimize
from jaxopt_names import PAGE

from mdsens import implicit, layers
from mdsens.errors import InputError
from mdsens.implicit import linear_solve
from mdsens.layers import objective as losses

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(20, 4))
Y = X @ np.array([1.0, -2.0, 0.0, 0.5]) + 0.1 * RANDOM.normal(size=20)
DATA = jnp.asarray(X), jnp.asarray(Y)
START = jnp.zeros(4)


def rosenbrock(x, a=1.0):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (a - x[:-1]) ** 2)


def rosenbrock_residuals(x, a=1.0):
    return jnp.stack([10 * (x[1] - x[0] ** 2), a - x[0]])


FAR = jnp.asarray([-1.2, 1.0])


# Objectives, and what is returned.


@pytest.mark.parametrize("kind", [layers.ProximalGradient, layers.BlockCoordinateDescent])
def test_a_built_in_objective_takes_its_data_by_name(kind):
    solver = kind(losses.least_squares, layers.prox_lasso)
    found = solver.run(np.zeros(4), hyperparams_prox=0.1, data=(X, Y)).params
    # The conditions of the lasso, in NumPy.
    slope = X.T @ (X @ found - Y) / 20
    np.testing.assert_allclose(slope[found != 0], -0.1 * np.sign(found[found != 0]), atol=1e-6)
    assert np.all(np.abs(slope) <= 0.1 + 1e-6)


def test_updates_of_coordinate_descent_take_data_of_numpy():
    solver = layers.BlockCoordinateDescent(losses.least_squares, layers.prox_ridge)
    state = solver.init_state(START, hyperparams_prox=0.1, data=(X, Y))
    params, _ = solver.update(START, state, hyperparams_prox=0.1, data=(X, Y))
    assert losses.least_squares(params, (X, Y)) < losses.least_squares(START, (X, Y))


class Pair(NamedTuple):
    params: Any
    state: Any


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: jax.vmap(f, (None, 0))])
def test_a_named_tuple_comes_back_as_it_was(transform):
    @implicit.custom_root(lambda x, theta: 2 * x - theta, has_aux=True)
    def solver(init, theta):
        return Pair(theta / 2, {"steps": 1})

    theta = jnp.ones((3, 2))
    found = transform(lambda init, theta: solver(init, theta))(jnp.zeros((3, 2)), theta)
    assert type(found) is Pair
    assert np.all(found.params == 0.5)


@pytest.mark.parametrize("kind", [layers.GaussNewton, layers.LevenbergMarquardt])
@pytest.mark.parametrize("aux", [3.0, True, "word", {"n": 3}])
def test_auxiliary_output_may_be_a_constant(kind, aux):
    solver = kind(lambda x, y: (x - y, aux), has_aux=True)
    assert solver.run(jnp.zeros(2), jnp.ones(2)).state.aux == aux
    state = solver.init_state(jnp.zeros(2), jnp.ones(2))
    assert solver.update(jnp.zeros(2), state, jnp.ones(2)).state.aux == aux


# Loops of one's own.


SOLVERS = [
    layers.GradientDescent(rosenbrock),
    layers.LBFGS(rosenbrock),
    layers.NonlinearCG(rosenbrock),
    layers.GaussNewton(rosenbrock_residuals, has_aux=False),
    layers.LevenbergMarquardt(rosenbrock_residuals),
    layers.Newton(jax.grad(rosenbrock)),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_updates_may_be_compiled_and_solvers_static(solver):
    state = solver.init_state(FAR, a=1.0)
    params, state = jax.jit(solver.update)(FAR, state, a=1.0)
    assert state.iter_num == 1
    error = jax.jit(type(solver).l2_optimality_error, static_argnums=0)(solver, params, a=1.0)
    assert np.isfinite(error)


def test_a_solver_with_an_array_among_its_options_is_hashable():
    solver = layers.GradientDescent(rosenbrock, stepsize=jnp.asarray(1e-3))
    assert hash(solver) == hash(layers.GradientDescent(rosenbrock, stepsize=jnp.asarray(1e-3)))


def test_without_acceleration_an_update_begins_at_the_parameters_it_gets():
    solver = layers.ProjectedGradient(
        lambda x: jnp.sum((x - 3) ** 2), layers.projection_non_negative,
        stepsize=0.25, acceleration=False,
    )  # fmt: skip
    state = solver.init_state(FAR, hyperparams_proj=None)
    state = solver.update(FAR, state, hyperparams_proj=None).state
    again = solver.update(jnp.asarray([1.0, 5.0]), state, hyperparams_proj=None).params
    np.testing.assert_allclose(again, [2.0, 4.0])


def test_batches_of_data_are_those_of_a_loop_by_hand():
    batches = [(DATA[0][i : i + 5], DATA[1][i : i + 5]) for i in range(0, 20, 5)]
    solver = layers.GradientDescent(losses.ridge_regression, stepsize=0.1, acceleration=False)
    found = solver.run_iterator(START, iter([batches[0], *batches]), l2reg=0.1).params
    by_hand = START
    for data in batches:
        by_hand -= 0.1 * jax.grad(losses.ridge_regression)(by_hand, 0.1, data)
    np.testing.assert_allclose(found, by_hand, atol=1e-12)
    with pytest.raises(InputError, match="has no batch of data"):
        solver.run_iterator(START, iter([]), l2reg=0.1)


# Least squares.


TIMES = np.linspace(0, 4, 40)


def two_decays(p):
    decays = p[0] * jnp.exp(-p[1] * jnp.asarray(TIMES)) + p[2] * jnp.exp(-p[3] * jnp.asarray(TIMES))
    return decays - jnp.asarray(3 * np.exp(-0.5 * TIMES) + 1.5 * np.exp(-2 * TIMES))


@pytest.mark.parametrize(
    "options",
    [{}, {"geodesic": True}, {"solver": "cholesky"}, {"solver": linear_solve.solve_cg}],
    ids=["plain", "geodesic", "cholesky", "cg"],
)
def test_two_decays_take_few_iterations(options):
    solver = layers.LevenbergMarquardt(two_decays, tol=1e-10, maxiter=100, **options)
    params, state = solver.run(jnp.asarray([1.0, 1.0, 1.0, 1.1]))
    np.testing.assert_allclose(np.sort(params), [0.5, 1.5, 2, 3], atol=1e-7)
    assert state.iter_num < 30


def brown_and_dennis(p):
    t = jnp.arange(1.0, 21.0) / 5.0
    first, second = p[0] + t * p[1] - jnp.exp(t), p[2] + p[3] * jnp.sin(t) - jnp.cos(t)
    return first**2 + second**2


def test_large_residuals_do_not_stop_levenberg_and_marquardt_short():
    """Sums of squares that agree to rounding tell nothing: J. J. More et al. 1981, problem 16."""
    solver = layers.LevenbergMarquardt(brown_and_dennis, tol=1e-7)
    params, state = solver.run(jnp.asarray([25.0, 5.0, -5.0, -1.0]))
    np.testing.assert_allclose(state.value, 85822.2 / 2, rtol=1e-6)  # of the collection
    assert (
        np.linalg.norm(jax.grad(lambda p: 0.5 * jnp.sum(brown_and_dennis(p) ** 2))(params)) < 1e-6
    )


def freudenstein_and_roth(p):
    x, y = p
    return jnp.stack([x - 13 + ((5 - y) * y - 2) * y, x - 29 + ((y + 1) * y - 14) * y])


def meyer(p):
    t = 45 + 5 * jnp.arange(1.0, 17.0)
    y = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
    y += [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
    return p[0] * jnp.exp(p[1] / (t + p[2])) - jnp.asarray(y, float)


@pytest.mark.parametrize(
    ("residuals", "start", "squares", "error"),
    [
        # The minimum where J has rank one; with the gradient at rounding.
        (freudenstein_and_roth, [0.5, -2.0], 48.9842, 1e-12),
        # The gradient changes by 4e-3 with the last digits of x.
        (meyer, [0.02, 4000.0, 250.0], 87.9458, 4e-3),
        (brown_and_dennis, [25.0, 5.0, -5.0, -1.0], 85822.2, 1e-9),
    ],
)
def test_levenberg_and_marquardt_end_where_rounding_leaves_nothing(
    residuals, start, squares, error
):
    """Sums of squares as in J. J. More et al. 1981, problems 2, 10 and 16."""
    params, state = layers.LevenbergMarquardt(residuals, tol=1e-13, maxiter=200).run(
        jnp.asarray(start)
    )
    np.testing.assert_allclose(2 * state.value, squares, rtol=2e-6)
    assert np.linalg.norm(jax.jacfwd(residuals)(params).T @ residuals(params)) < error


def test_the_criterion_of_madsen_and_nielsen_looks_at_the_gradient_or_the_step():
    def iterations(**options):
        solver = layers.LevenbergMarquardt(
            rosenbrock_residuals, stop_criterion="madsen-nielsen", **options
        )
        params, state = solver.run(FAR)
        assert state.converged
        return int(state.iter_num), params

    by_gradient, params = iterations(gtol=1e-8, xtol=0.0)
    np.testing.assert_allclose(params, [1, 1], atol=1e-7)
    assert iterations(gtol=1.0, xtol=0.0)[0] < by_gradient
    assert iterations(gtol=0.0, xtol=1e-2)[0] < by_gradient


def test_a_jacobian_of_ones_own_is_used_and_looked_at():
    jacobian = jax.jacrev(rosenbrock_residuals)
    found = layers.LevenbergMarquardt(rosenbrock_residuals, jac_fun=jacobian).run(FAR).params
    np.testing.assert_allclose(found, [1, 1], atol=1e-7)
    with pytest.raises(InputError, match=r"returned the shape \(2,\); allowed is \(2, 2\)"):
        layers.LevenbergMarquardt(rosenbrock_residuals, jac_fun=lambda x: x).run(FAR)


def test_gauss_and_newton_come_as_near_as_the_tolerance_says():
    """The gradient is a thousandth of the distance, which is what the tolerance is of."""
    solver = layers.GaussNewton(lambda x: 0.03 * (jnp.exp(x) - 2.0), tol=1e-6)
    found = solver.run(jnp.asarray([2.0])).params
    np.testing.assert_allclose(found, np.log(2), rtol=0, atol=1e-7)


# Line searches.


@pytest.mark.parametrize("kind", [layers.LBFGS, layers.NonlinearCG, layers.LBFGSB])
@pytest.mark.parametrize(
    "options",
    [
        {"linesearch": "zoom", "linesearch_init": "increase", "max_stepsize": 1.0},
        {"linesearch": "hager-zhang", "linesearch_init": "max"},
        {"linesearch": "backtracking", "decrease_factor": 0.6, "linesearch_init": "max"},
        {"linesearch": "backtracking", "condition": "armijo", "maxls": 40},
        {"linesearch": "backtracking", "condition": "goldstein"},
        {"linesearch": "backtracking", "condition": "wolfe", "use_gamma": False},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_every_line_search_leads_to_the_minimum(kind, options):
    if kind is layers.NonlinearCG:
        options = {name: value for name, value in options.items() if name != "use_gamma"}
    bounds = ((-2.0, 2.0),) if kind is layers.LBFGSB else ()
    # Conjugate directions are slow where searches are not exact.
    params, state = kind(rosenbrock, tol=1e-6, maxiter=20_000, **options).run(FAR, *bounds)
    np.testing.assert_allclose(params, [1, 1], rtol=0, atol=1e-5)
    assert state.iter_num < (100 if kind is layers.LBFGS else 20_000)


def test_a_step_size_of_ones_own_takes_the_place_of_the_search():
    solver = layers.LBFGS(rosenbrock, stepsize=lambda n: 0.5 / (n + 1), history_size=2)
    params, state = solver.update(FAR, solver.init_state(FAR))
    np.testing.assert_allclose(params, FAR - 0.5 * jax.grad(rosenbrock)(FAR))
    assert state.stepsize == 0.5


def test_a_search_that_fails_may_end_the_iterations():
    def kink(x):
        return jnp.sum(jnp.abs(x)) + 0.1 * jnp.sum(x)

    options = {"maxls": 3, "tol": 1e-12, "throw": False, "maxiter": 50}
    stopped = layers.LBFGS(kink, stop_if_linesearch_fails=True, **options).run(FAR).state
    assert stopped.iter_num < 50
    assert not stopped.converged


# Derivatives, printing, loops of Python.


@pytest.mark.parametrize("jit", [True, False])
def test_verbose_prints_each_iteration(capfd, jit):
    layers.LBFGS(rosenbrock, verbose=True, maxiter=3, throw=False, jit=jit).run(FAR)
    jax.effects_barrier()
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"LBFGS: iteration {i}" for i in (1, 2, 3)]


def test_without_compilation_functions_may_be_those_of_numpy():
    def halfway(x):
        return jnp.asarray(0.5 * np.asarray(x) + np.array([1.0, 2.0]))

    solver = layers.FixedPointIteration(halfway, jit=False, tol=1e-10)
    np.testing.assert_allclose(solver.run(FAR).params, [2, 4], atol=1e-9)
    with pytest.raises(jax.errors.TracerArrayConversionError):
        layers.FixedPointIteration(halfway).run(FAR)


#: Linear solvers here without a ridge: one of A'A, and one whose own solver alone has it.
OF_THE_MATRIX_ALONE = ("solve_normal_cg", "solve_iterative_refinement")


@pytest.mark.parametrize("name", linear_solve.__all__)
def test_linear_solvers_by_name_solve_and_differentiate(name):
    solve = getattr(linear_solve, name)
    matrix = jnp.asarray(X.T @ X)
    expected = np.linalg.solve(
        X.T @ X + (0.0 if name in OF_THE_MATRIX_ALONE else 0.1) * np.eye(4), [1, 2, 3, 4.0]
    )
    ridge = None if name in OF_THE_MATRIX_ALONE else 0.1
    right = jnp.arange(1.0, 5.0)
    np.testing.assert_allclose(solve(lambda v: matrix @ v, right, ridge=ridge), expected, rtol=1e-8)
    ridge_solver = layers.LBFGS(losses.ridge_regression, implicit_diff_solve=solve, tol=1e-10)
    found = jax.jacrev(lambda l: ridge_solver.run(START, l, DATA).params)(0.1)
    gram = X.T @ X / 20 + 0.1 * np.eye(4)
    expected = -np.linalg.solve(gram, np.linalg.solve(gram, X.T @ Y / 20))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


# What is answered and not wrapped, and the page that says so.


def test_iterative_refinement_is_left_to_lineax():
    solver = layers.LBFGS(losses.ridge_regression, implicit_diff_solve=lineax.QR(), tol=1e-10)
    found = jax.grad(lambda l: jnp.sum(solver.run(START, l, DATA).params))(0.1)
    gram = X.T @ X / 20 + 0.1 * np.eye(4)
    expected = -np.sum(np.linalg.solve(gram, np.linalg.solve(gram, X.T @ Y / 20)))
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.promotes("optax does")
def test_stochastic_methods_are_left_to_optax_and_host_code_to_scipy():
    loss = losses.ridge_regression

    @implicit.custom_root(jax.grad(loss))
    def by_optax(w, l2reg, data):
        method = optax.adam(0.1)

        def step(_, carry):
            w, state = carry
            updates, state = method.update(jax.grad(loss)(w, l2reg, data), state, w)
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, 2000, step, (w, method.init(w)))[0]

    @implicit.custom_root(jax.grad(loss))
    def by_scipy(w, l2reg, data):
        return scipy.optimize.minimize(loss, w, (l2reg, data), jac=jax.grad(loss), tol=1e-10).x

    gram = X.T @ X / 20 + 0.1 * np.eye(4)
    expected = -np.linalg.solve(gram, np.linalg.solve(gram, X.T @ Y / 20))
    for solver in (by_optax, by_scipy):
        found = jax.jacobian(lambda l, solver=solver: solver(np.zeros(4), l, DATA))(0.1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_complex_parameters_are_refused_in_a_line():
    with pytest.raises(InputError, match="init_params holds complex128; allowed are real"):
        layers.LBFGS(lambda z: jnp.sum(jnp.abs(z) ** 2)).run(jnp.asarray([1.0 + 2.0j]))


def test_jaxopts_names_of_programs_are_these_programs():
    Q, c = jnp.asarray(X.T @ X), jnp.asarray(-X.T @ Y)
    boxed = layers.BoxCDQP(tol=1e-8).run(START, params_obj=(Q, c), params_ineq=(0.0, 10.0)).params
    expected = scipy.optimize.nnls(X, Y)[0]
    np.testing.assert_allclose(boxed, expected, atol=1e-8)
    assert layers.BoxCDQP().l2_optimality_error(boxed, (Q, c), (0.0, 10.0)) < 1e-7
    rows = (-jnp.eye(4), jnp.zeros(4))
    for solver in (layers.OSQP(tol=1e-6), layers.CvxpyQP("CLARABEL")):
        solution = solver.run(None, (Q, c), params_ineq=rows).params
        np.testing.assert_allclose(solution.primal, expected, atol=1e-7)
        assert solver.l2_optimality_error(solution, (Q, c), None, rows) < 1e-6
        again = solver.update(solution, solver.init_state(solution, (Q, c)), (Q, c), None, rows)
        np.testing.assert_allclose(again.params.primal, expected, atol=1e-7)
    split = layers.BoxOSQP().run(None, (Q, c), jnp.eye(4), (jnp.zeros(4), jnp.full(4, jnp.inf)))
    np.testing.assert_allclose(split.params.primal[0], expected, atol=1e-7)
    bounds = (jnp.zeros(4), jnp.full(4, jnp.inf))
    assert layers.BoxOSQP().l2_optimality_error(split.params, (Q, c), jnp.eye(4), bounds) < 1e-6
    sums = (jnp.ones((1, 4)), jnp.ones(1))
    equal = layers.EqualityConstrainedQP(tol=1e-6).run(None, (Q, c), sums).params
    assert layers.EqualityConstrainedQP().l2_optimality_error(equal, (Q, c), sums) < 1e-8
    assert hash(layers.OSQP()) == hash(layers.OSQP())


@pytest.mark.promotes("optax does")
def test_the_examples_of_the_page_run_as_they_stand():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    exec("\n".join(blocks), {"__name__": "page"})
