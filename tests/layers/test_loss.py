"""Losses, against their definitions, finite differences and JAXopt."""

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from compiled_programs import compiled
from scipy.integrate import quad

from mdsens.errors import InputError
from mdsens.layers import loss
from mdsens.layers import objective as losses
from mdsens.layers.isotonic import isotonic_kl_pav, isotonic_l2_pav
from mdsens.layers.projection import projection_simplex

RANDOM = np.random.default_rng(2)
SCORES = 2 * RANDOM.normal(size=(9, 4))
CLASSES = jnp.asarray(RANDOM.integers(4, size=9))
LABELS = jnp.asarray(RANDOM.integers(2, size=9))
BINARY = [name for name in loss.__all__ if name.startswith("binary")]
MULTICLASS = [name for name in loss.__all__ if name.startswith("multiclass")]


@pytest.mark.peer
def test_losses_and_their_gradients_are_those_of_jaxopt():
    cases = [(name, (LABELS, SCORES[:, 0])) for name in BINARY]
    cases += [(name, (CLASSES, SCORES)) for name in MULTICLASS]
    cases += [("huber_loss", (SCORES[:, 1], SCORES[:, 2]))]
    cases += [(name, (SCORES[:, 3],)) for name in ("sparse_plus", "sparse_sigmoid")]
    for name, args in cases:
        mine, theirs = getattr(loss, name), jax.vmap(getattr(jaxopt.loss, name))
        np.testing.assert_allclose(mine(*args), theirs(*args), rtol=0, atol=1e-14, err_msg=name)
        slopes = [
            jax.grad(lambda last, f=f, args=args: jnp.sum(f(*args[:-1], last)))(args[-1])
            for f in (mine, theirs)
        ]
        np.testing.assert_allclose(*slopes, rtol=0, atol=1e-14, err_msg=name)


@pytest.mark.peer
def test_objectives_and_their_gradients_are_those_of_jaxopt():
    X, y = RANDOM.normal(size=(9, 5)), RANDOM.normal(size=9)
    W, w, one_hot = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=5), np.eye(4)[CLASSES]
    cases = {
        "least_squares": (w, (X, y)),
        "ridge_regression": (w, 0.3, (X, y)),
        "binary_logreg": (w, (X, LABELS)),
        "multiclass_logreg": (W, (X, CLASSES)),
        "multiclass_logreg_with_intercept": ((W, W[0]), (X, CLASSES)),
        "l2_multiclass_logreg": (W, 0.3, (X, CLASSES)),
        "multiclass_linear_svm_dual": (RANDOM.normal(size=(9, 4)), 0.3, (X, one_hot)),
    }
    for name, args in cases.items():
        results = [
            jax.value_and_grad(getattr(module, name))(*jax.tree.map(jnp.asarray, args))
            for module in (losses, jaxopt.objective)
        ]
        for mine, theirs in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-13, err_msg=name)


def test_the_gradient_of_the_sparsemax_loss_is_a_projection_minus_the_label():
    found = jax.grad(loss.multiclass_sparsemax_loss, argnums=1)(2, SCORES[0])
    expected = projection_simplex(SCORES[0]) - np.eye(4)[2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_its_second_derivative_is_that_of_the_projection():
    found = jax.hessian(loss.multiclass_sparsemax_loss, argnums=1)(2, SCORES[0])
    np.testing.assert_allclose(found, jax.jacfwd(projection_simplex)(SCORES[0]), atol=1e-15)


@pytest.mark.parametrize("x", [-1.5, -0.3, 0.8, 2.0])
def test_the_sparse_plus_is_the_integral_of_the_sparse_sigmoid(x):
    expected = quad(loss.sparse_sigmoid, -2, x, points=[-1, 1])[0]
    np.testing.assert_allclose(loss.sparse_plus(x), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(jax.grad(loss.sparse_plus)(x), loss.sparse_sigmoid(x), atol=1e-15)


def test_a_loss_much_smaller_than_the_scores_keeps_its_digits():
    np.testing.assert_allclose(
        loss.multiclass_logistic_loss(0, jnp.asarray([1e3, 1e3 - 30])), np.exp(-30.0), rtol=1e-9
    )


def test_the_fenchel_young_loss_of_the_log_partition_function_is_the_logistic_one():
    found = loss.make_fenchel_young_loss(jax.nn.logsumexp)(jnp.eye(4)[2], jnp.asarray(SCORES[0]))
    expected = loss.multiclass_logistic_loss(2, SCORES[0])
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_a_label_that_is_no_class_has_no_loss_in_compiled_code():
    assert np.isnan(jax.jit(loss.multiclass_hinge_loss)(7, SCORES[0]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: loss.binary_hinge_loss(-1, 0.5), "give 0 or 1"),
        (lambda: loss.multiclass_hinge_loss(4, SCORES[0]), "classes from 0 to 3"),
        (lambda: loss.multiclass_hinge_loss(1.0, SCORES[0]), "whole numbers"),
        (lambda: loss.multiclass_hinge_loss(1, 0.5), "one for each class"),
        (lambda: loss.huber_loss(1.0, 2.0, 0.0), "delta = 0.0"),
        (lambda: loss.make_fenchel_young_loss(1.0), "max_fun = 1.0"),
        (lambda: loss.make_fenchel_young_loss(jnp.max)(1, SCORES[0]), "y_true has shape"),
    ],
)
def test_what_has_no_loss_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: loss.multiclass_sparsemax_loss(0, x),
        lambda x: loss.multiclass_logistic_loss(0, x),
        lambda x: loss.binary_sparsemax_loss(1, x),
        lambda x: loss.huber_loss(x, x, 0.7),
        isotonic_l2_pav,
        isotonic_kl_pav,
    ],
)
def test_a_call_that_nobody_compiles_is_one_program(call):
    """And what makes arrays of what is given, not one for each operation."""
    x = np.linspace(-1.0, 2.0, 53)
    before = len(compiled)
    call(x)
    found = compiled[before:]
    assert len(found) <= 4
    assert found[-1].startswith("jit(_")
