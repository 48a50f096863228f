"""Perturbed optimisers, against closed forms and JAXopt."""

import functools

import jax
import jax.numpy as jnp
import jaxopt.perturbations
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.layers import perturbations
from mdsens.layers.loss import make_fenchel_young_loss
from mdsens.layers.perturbations import (
    make_perturbed_argmax,
    make_perturbed_fun,
    make_perturbed_max,
)

X = jnp.asarray([0.3, 0.1, -0.2, 0.25])
KEY = jax.random.key(0)
SIGMA = 0.5
MANY = 100_000
# The largest standard error of an entry, from closed forms below: its order is that of the
# derivative, and its size was taken from the scatter over 20 keys.
SCATTER = {0: 1.6e-3, 1: 5e-3, 2: 2.2e-2}


def one_hot(x):
    return jax.nn.one_hot(jnp.argmax(x), len(x), dtype=x.dtype)


def soft_maximum(x, sigma=SIGMA):
    """The mean maximum with Gumbel noise: Gumbel 1954."""
    return sigma * (jax.nn.logsumexp(x / sigma) + np.euler_gamma)


@pytest.mark.parametrize("control_variate", [False, True])
def test_the_perturbed_argmax_with_gumbel_noise_is_the_softmax(control_variate):
    picked = make_perturbed_argmax(one_hot, MANY, SIGMA, control_variate=control_variate)
    for order, of in enumerate([lambda f: f, jax.jacrev, lambda f: jax.jacfwd(jax.jacrev(f))]):
        found = of(functools.partial(picked, rng=KEY))(X)
        expected = of(lambda x: jax.nn.softmax(x / SIGMA))(X)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5 * SCATTER[order])


def test_the_perturbed_maximum_has_the_derivatives_of_the_soft_one():
    def found(x, sigma):
        return make_perturbed_max(one_hot, MANY, sigma)(x, KEY)

    for of in (lambda f: f, jax.grad, jax.hessian, lambda f: jax.grad(f, argnums=1)):
        error = of(found)(X, SIGMA) - of(soft_maximum)(X, SIGMA)
        assert np.max(np.abs(error)) < 5 * SCATTER[1]


def test_the_mean_of_a_square_has_its_closed_form():
    # E (x + sigma Z)^2 = x^2 + sigma^2, with noise of the derivative below 5 standard errors.
    smooth = make_perturbed_fun(lambda x: x**2, MANY, 0.3, perturbations.Normal())
    found = jax.jacfwd(smooth)(X, KEY)
    np.testing.assert_allclose(smooth(X, KEY), X**2 + 0.09, atol=5 * 0.3 / MANY**0.5)
    np.testing.assert_allclose(np.diag(found), 2 * X, atol=10 / MANY**0.5)


@pytest.mark.peer
@pytest.mark.parametrize("noise", ["Gumbel", "Normal"])
@pytest.mark.parametrize("control_variate", [False, True])
def test_samples_and_first_derivatives_are_those_of_jaxopt(noise, control_variate):
    theirs = jaxopt.perturbations
    for name in ("make_perturbed_argmax", "make_perturbed_fun"):
        found, expected = (
            getattr(module, name)(one_hot, 50, 0.3, getattr(module, noise)(), control_variate)
            for module in (perturbations, theirs)
        )
        np.testing.assert_allclose(found(X, KEY), expected(X, KEY), rtol=0, atol=1e-14)
        if name == "make_perturbed_argmax":
            slopes = [jax.jacrev(function)(X, KEY) for function in (found, expected)]
            np.testing.assert_allclose(*slopes, rtol=0, atol=1e-13)
    found, expected = (
        make(one_hot, 50, 0.3, module())
        for make, module in (
            (make_perturbed_max, getattr(perturbations, noise)),
            (theirs.make_perturbed_max, getattr(theirs, noise)),
        )
    )
    for of in (lambda f: f, jax.grad, jax.hessian):
        np.testing.assert_allclose(of(found)(X, KEY), of(expected)(X, KEY), rtol=0, atol=1e-13)


def test_the_gradient_of_a_perturbed_fenchel_young_loss_is_a_difference_of_vertices():
    ranking = jax.vmap(one_hot)
    scores, truth = jnp.stack([X, -X]), jnp.eye(4)[:2]
    loss = make_fenchel_young_loss(make_perturbed_max(ranking, 50, SIGMA))
    found = jax.jit(jax.grad(loss, argnums=1))(truth, scores, KEY)
    picked = make_perturbed_argmax(ranking, 50, SIGMA)(scores, KEY)
    np.testing.assert_allclose(found, picked - truth, rtol=0, atol=1e-14)


def test_what_is_closed_over_is_differentiated():
    def scaled(scale):
        return make_perturbed_max(lambda x: scale * one_hot(x), 50, SIGMA)(X, KEY)

    found = jax.jit(jax.grad(scaled))(2.0)
    np.testing.assert_allclose(found, scaled(1.0), rtol=1e-14)  # it is linear in the scale


def test_a_batch_is_one_after_the_other():
    inputs, keys = jnp.stack([X, 2 * X]), jax.random.split(KEY)
    function = make_perturbed_max(one_hot, 20, SIGMA)
    found = jax.jit(jax.vmap(jax.grad(function)))(inputs, keys)
    expected = [jax.grad(function)(x, key) for x, key in zip(inputs, keys, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_integers_are_numbers():
    function = make_perturbed_max(one_hot, 20, SIGMA)
    assert function(jnp.arange(3), KEY) == function(jnp.arange(3.0), KEY)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_perturbed_argmax("argmax"), "give a function"),
        (lambda: make_perturbed_argmax(one_hot, 0), "num_samples = 0"),
        (lambda: make_perturbed_argmax(one_hot, sigma=0.0), "sigma = 0.0"),
        (lambda: make_perturbed_argmax(one_hot, noise=1.0), "noise = 1.0"),
        (lambda: make_perturbed_max(jnp.argmax)(X, KEY), "returned the shape"),
    ],
)
def test_what_cannot_be_perturbed_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
