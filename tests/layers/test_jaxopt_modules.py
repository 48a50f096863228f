"""Modules where JAXopt has them, and inputs that its programs give."""

import importlib
import operator
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxopt_names import MODULES, public_names

from mdsens import layers
from mdsens.errors import InputError
from mdsens.layers import loss, tree_util
from mdsens.layers.transport import kl_projection_transport, projection_transport

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt.tree_util

pytestmark = pytest.mark.promotes("JAXopt does")


def test_every_module_is_an_attribute_and_holds_the_names():
    for there, here in MODULES.items():
        if here and there != "jaxopt":
            name = there.removeprefix("jaxopt.")
            module = importlib.import_module(here)
            assert getattr(layers, name) is module
            assert {n for n in public_names(there) if hasattr(layers, n)} <= set(dir(module))


TREE = {"a": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": (jnp.asarray(-4.0),)}
OTHER = {"a": jnp.asarray([[2.0, 1.0], [1.5, -3.0]]), "b": (jnp.asarray(0.5),)}
OF_TREES = {
    "tree_scalar_mul": (2.0, TREE), "tree_add_scalar_mul": (TREE, 0.3, OTHER),
    "tree_where": (True, TREE, 0.0), "broadcast_pytrees": (1.0, TREE, OTHER),
    "tree_l2_norm": (TREE, True), "tree_map": (operator.neg, TREE),
    "tree_reduce": (operator.add, {"a": 1.0, "b": 2.0}), "tree_dot": (TREE, OTHER),
}  # fmt: skip


@pytest.mark.parametrize("name", tree_util.__all__)
def test_arithmetic_of_trees_is_that_of_jaxopt(name):
    two = ("add", "sub", "mul", "div", "vdot")
    given = (TREE, OTHER) if name.removeprefix("tree_") in two else (TREE,)
    given = OF_TREES.get(name, given)
    found, expected = getattr(tree_util, name)(*given), getattr(jaxopt.tree_util, name)(*given)
    jax.tree.map(np.testing.assert_allclose, found, expected)


def test_trees_of_two_structures_are_not_broadcast():
    with pytest.raises(InputError, match="trees have the structures"):
        tree_util.broadcast_pytrees(TREE, (1.0, 2.0))


def test_integers_count_as_numbers():
    """The support vector machine of JAXopt's examples has bounds of integers."""
    Q, c = np.diag([1, 2]), np.array([-1, 2])
    found = layers.OSQP().run(
        params_obj=(Q, c), params_eq=(np.ones((1, 2), int), np.array([1])),
        params_ineq=(-np.eye(2, dtype=int), np.zeros(2, int)),
    ).params  # fmt: skip
    np.testing.assert_allclose(found.primal, [1, 0], atol=1e-9)
    np.testing.assert_allclose(layers.prox_lasso(np.array([3, -2, 0]), 1), [2, -1, 0])
    start = layers.LBFGS(lambda x: jnp.sum((x - 0.5) ** 2)).run(np.arange(3)).params
    np.testing.assert_allclose(start, 0.5)


def test_scores_of_minus_infinity_exclude_an_entry():
    excluded = jnp.asarray([0.3, -jnp.inf, 0.1])
    both = jnp.asarray([0.3, 0.1])
    for scores, kept in ((excluded, both), (excluded[::-1], both[::-1])):
        np.testing.assert_allclose(
            layers.projection_simplex(scores)[jnp.asarray([0, 2])], layers.projection_simplex(kept)
        )
    for name in ("logistic", "sparsemax", "hinge", "perceptron"):
        of_scores = jax.value_and_grad(getattr(loss, f"multiclass_{name}_loss"), argnums=1)
        (value, slope), (expected, expected_slope) = of_scores(0, excluded), of_scores(0, both)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(slope, np.insert(expected_slope, 1, 0.0), rtol=1e-14)
        assert of_scores(1, excluded)[0] == jnp.inf
        assert np.isnan(of_scores(0, both.at[1].set(jnp.nan))[0])
    with pytest.raises(InputError, match="NaN or infinity"):
        layers.projection_simplex(jnp.asarray([0.0, jnp.inf]))


@pytest.mark.parametrize("project", [projection_transport, kl_projection_transport])
@pytest.mark.parametrize("use_semi_dual", [True, False])
def test_plans_of_a_solver_of_ones_own_are_exact(project, use_semi_dual):
    S, sums = jnp.asarray([[0.1, 0.9, -0.4], [0.7, 0.2, 0.3]]), (jnp.ones(2) / 2, jnp.ones(3) / 3)
    calls = []

    def make_solver(fun):
        calls.append(fun)
        return layers.LBFGS(fun=fun, tol=1e-3, maxiter=500, linesearch="zoom")

    @jax.jit
    def both(S):
        plain = project(S, sums)
        return plain, jnp.sin(project(S, sums, make_solver, use_semi_dual) - plain + 1.0)

    plan, same = both(S)
    np.testing.assert_allclose(same, np.sin(1.0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(plan.sum(axis=0), sums[1], rtol=1e-12)
    # The potentials that it found are near those of the plan: its function has its minimum there.
    start = jnp.zeros(3) if use_semi_dual else (jnp.zeros(2), jnp.zeros(3))
    found = make_solver(calls[0]).run(start, S, *sums).params
    v = found if use_semi_dual else found[1]
    scores = np.log(plan) if project is kl_projection_transport else plan
    of_rows = np.where(plan > 0, scores - S - v, np.nan)
    assert np.all(np.nanmax(of_rows, axis=1) - np.nanmin(of_rows, axis=1) < 5e-3)


# Solvers where JAXopt converges.


CONTRACTION = jnp.asarray(0.8 * np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0])


@pytest.mark.parametrize(
    ("condition", "start", "iterations"),
    [
        (lambda x: jnp.cos(x) + jnp.asarray([0.0, jnp.pi / 2]) - x, jnp.asarray([0.3, 0.8]), 25),
        (lambda x: jnp.asarray([-0.95, -0.8]) * x, jnp.asarray([1.0, -0.5]), 20),
        (lambda x: jnp.asarray([0.9, 0.99, 0.999]) * x - x, jnp.asarray([1.0, 0.4, -0.2]), 10),
        (lambda x: CONTRACTION @ x + 1.0 - x, jnp.zeros(8), 60),
    ],
    ids=["cosines", "decay", "slow-decay", "contraction"],
)
def test_broyden_finds_fixed_points_though_gamma_has_the_wrong_sign(condition, start, iterations):
    params, state = layers.Broyden(condition, tol=1e-6).run(start)
    assert np.linalg.norm(condition(params)) < 1e-6
    assert state.iter_num <= iterations


def test_gauss_and_newton_take_the_shortest_step_where_columns_depend():
    solver = layers.GaussNewton(lambda x: x**2, maxiter=50)
    found = jax.vmap(lambda x: solver.run(x).params)(jnp.asarray([[0.0, 1.0], [1.0, 0.5]]))
    np.testing.assert_allclose(found, 0, atol=1e-6)
    # A line of solutions: the nearest to the start.
    line = layers.GaussNewton(lambda x: jnp.stack([x[0] + x[1] - 2, 2 * x[0] + 2 * x[1] - 4, 0.0]))
    np.testing.assert_allclose(line.run(jnp.asarray([0.0, 1.0])).params, [0.5, 1.5], atol=1e-12)


def test_rounding_does_not_end_levenberg_and_marquardt_on_their_way():
    """Meyer's problem, scaled, in single precision: K. Madsen & H. B. Nielsen 2010, 6.21."""
    y = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
    y += [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
    x, y = jnp.linspace(0.5, 1.25, 16, dtype="float32"), jnp.asarray(y, "float32")

    def residuals(c):
        return 1e-3 * y - c[0] * jnp.exp(10 * c[1] / (x + c[2]) - 13)

    solver = layers.LevenbergMarquardt(residuals, damping_parameter=10, tol=1e-3, maxiter=200)
    params, state = solver.run(jnp.asarray([40.0, 50.0, 30.0], "float32"))
    assert state.converged
    np.testing.assert_allclose(params, [2.48, 6.18, 3.45], rtol=5e-3)
