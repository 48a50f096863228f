"""The curvature that past steps tell of, against the dense BFGS update."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.lbfgs_history import HostHistory, LBFGSHistory

SHAPE = (3, 2)


def pairs(count):
    """Steps and changes of the gradient on a quadratic landscape."""
    generator = np.random.default_rng(5)
    root = generator.normal(size=(6, 6))
    hessian = root @ root.T + np.eye(6)
    steps = generator.normal(size=(count, 6))
    return [(s, hessian @ s) for s in steps]


def past_of(steps, history):
    past = LBFGSHistory.none(history, jnp.zeros(SHAPE))
    for s, y in steps:
        past = past.with_step(s.reshape(SHAPE), y.reshape(SHAPE), jnp.asarray(True))
    return past


def product(past, vector):
    left, weights = past.backward(jnp.asarray(vector).reshape(SHAPE))
    return np.asarray(past.forward(past.scale * left, weights)).ravel()


def dense_inverse(steps):
    """J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., eqs. 7.19 and 7.20."""
    s, y = steps[-1]
    inverse = np.eye(6) * (s @ y) / (y @ y)
    for s, y in steps:
        across = np.eye(6) - np.outer(y, s) / (s @ y)
        inverse = across.T @ inverse @ across + np.outer(s, s) / (s @ y)
    return inverse


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_product_is_that_with_the_dense_update_of_the_last_steps(count):
    steps = pairs(count)
    inverse = dense_inverse(steps[-3:])
    vector = np.random.default_rng(6).normal(size=6)
    found = product(past_of(steps, history=3), vector)
    np.testing.assert_allclose(found, inverse @ vector, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_on_the_host_it_is_that_too_and_steps_without_curvature_are_left_out(count):
    steps, past = pairs(count), HostHistory.none(3, 6)
    # What it has been told to forget leaves nothing behind.
    past.add(*pairs(1)[0])
    past.forget()
    for s, y in steps:
        past.add(s, y)
        past.add(s, -y)
    vector = np.random.default_rng(6).normal(size=6)
    left, weights = past.backward(vector)
    s, y = steps[-1]
    found = past.forward((s @ y) / (y @ y) * left, weights)
    np.testing.assert_allclose(found, dense_inverse(steps[-3:]) @ vector, rtol=1e-12)


def test_the_newest_step_is_recovered_from_its_change():
    steps = pairs(4)
    s, y = steps[-1]
    np.testing.assert_allclose(product(past_of(steps, 3), y), s, rtol=1e-12)


@pytest.mark.parametrize("count", [5, 2], ids=["an old step is lost", "the newest is lost"])
def test_restricted_to_free_variables_it_is_the_history_of_their_steps_alone(count):
    steps, free = pairs(count), np.isin(np.arange(6), [1, 3, 4])
    restricted = past_of(steps, 5).restricted(jnp.asarray(free).reshape(SHAPE))
    vector = np.where(free, np.arange(1.0, 7.0), 0.0)
    found = np.asarray(restricted.inverse_hessian_product(jnp.asarray(vector).reshape(SHAPE)))
    masked = [(s * free, y * free) for s, y in steps]
    useful = [(s, y) for s, y in masked if s @ y > 0]
    # One loses its curvature by the restriction, and is left out.
    assert 0 < len(useful) < len(masked)
    np.testing.assert_allclose(found.ravel(), dense_inverse(useful) @ vector, rtol=1e-12)


def test_steps_without_curvature_and_refused_ones_are_not_remembered():
    steps = pairs(2)
    past = past_of(steps, 3)
    vector = np.arange(6.0)
    s, y = (part.reshape(SHAPE) for part in pairs(3)[-1])
    for other in (
        past.with_step(s, -y, jnp.asarray(True)),
        past.with_step(s, y, jnp.asarray(False)),
    ):
        np.testing.assert_array_equal(product(other, vector), product(past, vector))
    assert not past.empty
    forgotten = past.forgotten(jnp.asarray(True))
    assert forgotten.empty
    np.testing.assert_array_equal(product(forgotten, vector), vector)
