"""Proximal, projected, mirror and block coordinate descent, against scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import ElasticNet, Lasso
from sklearn.svm import LinearSVC

from mdsens.errors import ConvergenceError
from mdsens.implicit.conditions import kl_mapping
from mdsens.layers.block_coordinate_descent import BlockCoordinateDescent
from mdsens.layers.mirror_descent import MirrorDescent
from mdsens.layers.objective import least_squares, multiclass_linear_svm_dual
from mdsens.layers.projected_gradient import ProjectedGradient
from mdsens.layers.projection import projection_simplex
from mdsens.layers.prox import prox_elastic_net, prox_lasso
from mdsens.layers.proximal_gradient import ProximalGradient

X, y = load_diabetes(return_X_y=True)
X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
DATA = (jnp.asarray(X), jnp.asarray(y))
L1REG = 0.05


def squares(w, data):  # the same as least_squares, but no solver knows that it is composite
    return 0.5 * jnp.mean((data[0] @ w - data[1]) ** 2)


@functools.cache
def lasso():
    fit = Lasso(alpha=L1REG, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, y)
    return fit.coef_


def lasso_derivative():
    """On the support the gradient is -l1reg sign(w), and the rest stays zero."""
    support = lasso() != 0
    gram = X[:, support].T @ X[:, support] / len(y)
    derivative = np.zeros(10)
    derivative[support] = -np.linalg.solve(gram, np.sign(lasso()[support]))
    return derivative


LASSO_SOLVERS = {
    "accelerated": ProximalGradient(squares, prox_lasso, tol=1e-10),
    "plain": ProximalGradient(squares, prox_lasso, acceleration=False, tol=1e-10, maxiter=2000),
    "fixed step": ProximalGradient(squares, prox_lasso, stepsize=0.2, tol=1e-10, maxiter=2000),
    "scheduled": ProximalGradient(squares, prox_lasso, stepsize=lambda k: 0.2 + 0.0 * k, tol=1e-10),
    "block by block": BlockCoordinateDescent(squares, prox_lasso, tol=1e-10),
    "composite": BlockCoordinateDescent(least_squares, prox_lasso, tol=1e-10),
}


@pytest.mark.parametrize("name", LASSO_SOLVERS)
def test_the_lasso_has_the_solution_of_scikit_learn(name):
    params, _ = LASSO_SOLVERS[name].run(jnp.zeros(10), L1REG, DATA)
    np.testing.assert_allclose(params, lasso(), rtol=0, atol=1e-8)


def test_a_step_from_data_that_jax_traces_has_the_solution_as_well():
    @jax.jit
    def params(X, y):
        step = len(y) / jnp.linalg.norm(X, 2) ** 2
        solver = ProximalGradient(squares, prox_lasso, stepsize=step, tol=1e-10, maxiter=2000)
        return solver.run(jnp.zeros(10), L1REG, (X, y)).params

    np.testing.assert_allclose(params(*DATA), lasso(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["accelerated", "composite"])
def test_the_derivative_of_the_lasso_is_that_on_its_support(name):
    solver = LASSO_SOLVERS[name]
    found = jax.jacrev(lambda l: solver.run(jnp.zeros(10), l, DATA).params)(L1REG)
    np.testing.assert_allclose(found, lasso_derivative(), rtol=0, atol=1e-7)


def test_the_derivative_of_the_elastic_net_is_that_on_the_support_of_scikit_learn():
    """With s the signs on the support, (X'X / n + l1 ratio) w + l1 s = X'y / n there."""
    l1reg, ratio = 0.05, 0.5
    # scikit-learn: alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) |w|^2 / 2
    fit = ElasticNet(l1reg * (1 + ratio), l1_ratio=1 / (1 + ratio), fit_intercept=False, tol=1e-12)
    w = fit.set_params(max_iter=100_000).fit(X, y).coef_
    support = np.abs(w) > 1e-3
    assert np.abs(w[~support]).max() == 0, "the support must be beyond doubt"
    columns, signs = X[:, support], np.sign(w[support])
    inverse = np.linalg.inv(columns.T @ columns / len(y) + l1reg * ratio * np.eye(support.sum()))
    exact = inverse @ (columns.T @ y / len(y) - l1reg * signs)
    np.testing.assert_allclose(w[support], exact, atol=1e-6)
    expected = np.zeros((2, 10))
    expected[0, support] = -inverse @ (ratio * exact + signs)
    expected[1, support] = -l1reg * inverse @ exact
    solver = ProximalGradient(squares, prox_elastic_net, tol=1e-11)
    found = jax.jacfwd(lambda reg: solver.run(jnp.zeros(10), reg, DATA).params)((0.05, 0.5))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def distance(x, target):
    return 0.5 * jnp.sum(jnp.asarray([1.0, 2.0, 4.0, 8.0]) * (x - target) ** 2)


@pytest.mark.slow
def test_projected_gradient_differentiates_the_set_as_well():
    # On the face x_3 = 0 of the simplex of a given sum: x = t + nu / c with sum x = value.
    solver = ProjectedGradient(distance, projection_simplex, tol=1e-11)
    target = jnp.asarray([0.5, 0.6, 0.4, -1.0])
    found = jax.jacrev(lambda value: solver.run(jnp.full(4, 0.25), value, target).params)(1.0)
    inverse = np.asarray([1, 0.5, 0.25, 0])
    np.testing.assert_allclose(found, inverse / inverse.sum(), rtol=0, atol=1e-9)


SOFTMAX_STEP = MirrorDescent.make_projection_grad(lambda y, _: jax.nn.softmax(y), kl_mapping)


FEATURES, LABELS = load_wine(return_X_y=True)
FEATURES = ((FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0))[::6]
LABELS = LABELS[::6]
SVM_DATA = (jnp.asarray(FEATURES), jnp.eye(3)[LABELS])
L2REG = 10.0


def svm_weights(beta, l2reg=L2REG):
    return SVM_DATA[0].T @ (SVM_DATA[1] - beta) / l2reg


def rows_in_simplex(x, _):
    return jax.vmap(projection_simplex)(x)


def one_row_in_simplex(x, _, scaling=1.0):
    return projection_simplex(x)


SVM_SOLVERS = {
    "block by block": BlockCoordinateDescent(
        multiclass_linear_svm_dual, one_row_in_simplex, tol=1e-9, maxiter=5000
    ),
    "projected": ProjectedGradient(
        multiclass_linear_svm_dual, rows_in_simplex, tol=1e-9, maxiter=5000
    ),
    "mirror": MirrorDescent(
        multiclass_linear_svm_dual, SOFTMAX_STEP, 0.2, tol=1e-8, maxiter=50_000
    ),
}


@pytest.mark.parametrize("name", SVM_SOLVERS)
def test_the_dual_of_the_multiclass_svm_has_the_weights_of_scikit_learn(name):
    fit = LinearSVC(
        multi_class="crammer_singer", fit_intercept=False, C=1 / L2REG, tol=1e-9, max_iter=10**6
    ).fit(FEATURES, LABELS)
    start = jnp.full((len(LABELS), 3), 1 / 3)
    beta, _ = SVM_SOLVERS[name].run(start, None, L2REG, SVM_DATA)
    np.testing.assert_allclose(svm_weights(beta), fit.coef_.T, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_block_coordinate_descent_that_does_not_converge_says_so():
    solver = BlockCoordinateDescent(least_squares, prox_lasso, maxiter=1)
    with pytest.raises(ConvergenceError, match="BlockCoordinateDescent did not converge"):
        solver.run(jnp.zeros(10), L1REG, DATA)
