"""Isotonic regression, against scikit-learn, JAXopt and finite differences."""

import warnings

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxopt_isotonic import without_numba
from numerical import agrees, derivative
from sklearn.isotonic import isotonic_regression

from mdsens.errors import InputError
from mdsens.layers.isotonic import isotonic_kl_pav, isotonic_l2_pav

without_numba()
SIZE = 12
Y = np.random.default_rng(5).normal(size=SIZE) + np.linspace(0, 1, SIZE)
W = np.random.default_rng(6).normal(size=SIZE)
fast = jax.jit(isotonic_l2_pav, static_argnames="increasing")
fast_kl = jax.jit(isotonic_kl_pav, static_argnames="increasing")


@settings(max_examples=60, deadline=None)
@given(arrays(float, SIZE, elements=st.floats(-1e6, 1e6)), st.booleans(), st.floats(0, 10))
def test_it_is_that_of_scikit_learn(y, increasing, height):
    found = fast(y, -height, height, increasing)
    expected = isotonic_regression(y, y_min=-height, y_max=height, increasing=increasing)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15 * max(np.ptp(y), 1))


@settings(max_examples=40, deadline=None)
@given(*[arrays(float, SIZE, elements=st.floats(-20, 20))] * 2, st.booleans())
def test_the_entropic_one_is_that_of_weighted_exponentials(y, w, increasing):
    # argmin of sum exp(w) (exp(y - w - v) + v), a Bregman divergence of exp(y - w) and exp(v).
    means = isotonic_regression(np.exp(y - w), sample_weight=np.exp(w), increasing=increasing)
    np.testing.assert_allclose(fast_kl(y, w, increasing=increasing), np.log(means), atol=1e-12)


def test_numbers_whose_exponential_overflows_are_ordered_too():
    np.testing.assert_allclose(isotonic_kl_pav(np.array([900.0, -900.0])), 900 - np.log(2))


@pytest.mark.parametrize("function", [isotonic_l2_pav, lambda y: isotonic_kl_pav(y, W)])
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_its_derivative_is_that_of_finite_differences(function, mode):
    direction = np.cos(np.arange(SIZE))
    expected = derivative(
        lambda t: np.asarray(jax.jit(function)(Y + t * direction)), 0.0, 1e-3, 3, noise=1e-15
    )
    agrees(mode(function)(jnp.asarray(Y)) @ direction, expected, 1e-8)


def test_the_second_derivative_of_the_entropic_one_is_that_of_finite_differences():
    slope = jax.jit(jax.grad(lambda y: jnp.sum(isotonic_kl_pav(y, W) ** 3)))
    found = jax.hessian(lambda y: jnp.sum(isotonic_kl_pav(y, W) ** 3))(jnp.asarray(Y))
    direction = np.sin(np.arange(SIZE))
    expected = derivative(lambda t: np.asarray(slope(Y + t * direction)), 0.0, 1e-3, 3, noise=1e-15)
    agrees(found @ direction, expected, 1e-8)


def test_a_batch_is_one_after_the_other():
    batch = np.random.default_rng(7).normal(size=(5, SIZE))
    found = jax.jit(jax.vmap(isotonic_l2_pav))(batch)
    np.testing.assert_array_equal(found, [fast(y) for y in batch])


@pytest.mark.peer
def test_value_and_derivative_are_those_of_jaxopt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAXopt misses Numba, and finds its own types outdated
        value = jaxopt.isotonic.isotonic_l2_pav(Y)
        slope = jax.jacfwd(jaxopt.isotonic.isotonic_l2_pav)(Y)
    np.testing.assert_allclose(isotonic_l2_pav(Y), value, rtol=0, atol=1e-15)
    # JAXopt adds 1e-8 to the number of entries in each block.
    np.testing.assert_allclose(jax.jacfwd(isotonic_l2_pav)(jnp.asarray(Y)), slope, atol=2e-8)


def test_single_precision_stays_single():
    found = isotonic_l2_pav(Y.astype(np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, isotonic_regression(Y), rtol=0, atol=5e-7)


def test_bounds_that_leave_nothing_are_an_error():
    with pytest.raises(InputError, match="y_min is above y_max"):
        isotonic_l2_pav(Y, 1.0, 0.0)
    with pytest.raises(InputError, match="w has shape"):
        isotonic_kl_pav(Y, W[1:])
    with pytest.raises(InputError, match="increasing = 'auto'"):
        isotonic_l2_pav(Y, increasing="auto")
