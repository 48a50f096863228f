"""Logistic regressions against scikit-learn, on its data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerical import agrees, derivative
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression

from mdsens.layers.lbfgs import LBFGS
from mdsens.layers.objective import (
    binary_logreg,
    l2_multiclass_logreg,
    l2_multiclass_logreg_with_intercept,
)


def standardised(load):
    features, labels = load(return_X_y=True)
    return (features - features.mean(axis=0)) / features.std(axis=0), labels


FEATURES, LABELS = standardised(load_wine)
DATA = (jnp.asarray(FEATURES), jnp.asarray(LABELS))
L2REG = 0.1


def fit_by_scikit_learn(l2reg, intercept):
    model = LogisticRegression(
        C=1 / (l2reg * len(LABELS)), fit_intercept=intercept, tol=1e-12, solver="newton-cg"
    )
    fit = model.set_params(max_iter=1000).fit(FEATURES, LABELS)
    return fit.coef_.T, fit.intercept_


def test_multinomial_logistic_regression_is_that_of_scikit_learn():
    params, _ = LBFGS(l2_multiclass_logreg).run(jnp.zeros((13, 3)), L2REG, DATA)
    np.testing.assert_allclose(params, fit_by_scikit_learn(L2REG, False)[0], rtol=0, atol=1e-6)


def test_the_intercept_is_determined_up_to_a_constant():
    start = (jnp.zeros((13, 3)), jnp.zeros(3))
    (_, intercept), _ = LBFGS(l2_multiclass_logreg_with_intercept).run(start, L2REG, DATA)
    expected = fit_by_scikit_learn(L2REG, True)[1]
    found = intercept - jnp.mean(intercept)
    np.testing.assert_allclose(found, expected - expected.mean(), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_its_derivative_is_that_of_repeated_fits():
    solver = LBFGS(l2_multiclass_logreg, tol=1e-10)
    found = jax.jacrev(lambda l: solver.run(jnp.zeros((13, 3)), l, DATA).params)(L2REG)
    # scikit-learn ends at a gradient of 1e-12, and the curvature is L2REG at least.
    expected = derivative(
        lambda l: fit_by_scikit_learn(l, False)[0], L2REG, 1e-2, 4, noise=1e-12 / L2REG
    )
    agrees(found, expected, 2e-6, scale=1.0)


def test_binary_logistic_regression_is_that_of_scikit_learn():
    features, labels = standardised(load_breast_cancer)
    model = LogisticRegression(C=1 / (0.01 * len(labels)), fit_intercept=False, tol=1e-12)
    expected = model.set_params(solver="newton-cholesky", max_iter=1000).fit(features, labels).coef_
    fun = lambda w, data: binary_logreg(w, data) + 0.005 * jnp.sum(w**2)  # noqa: E731
    params, _ = LBFGS(fun).run(jnp.zeros(30), (jnp.asarray(features), jnp.asarray(labels)))
    np.testing.assert_allclose(params, expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_a_logistic_loss_is_finite_for_any_logit(label):
    def fun(w, data):
        return binary_logreg(w, data)

    data = (jnp.ones((1, 1)), jnp.asarray([label]))
    assert np.all(np.isfinite([jax.grad(fun)(jnp.full(1, w), data)[0] for w in (-1e4, 0.0, 1e4)]))
