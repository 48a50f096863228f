"""Outer problems whose minimum is known."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from mdsens.errors import InputError
from mdsens.implicit import conditions, custom_root
from mdsens.layers import bilevel

RANDOM = np.random.default_rng(5)
WEIGHTS = np.asarray([1.0, -1.0, 0.5, 0.0, 0.3, 0.0])
DESIGN, HELD_OUT = RANDOM.normal(size=(15, 6)), RANDOM.normal(size=(30, 6))
TARGET = DESIGN @ WEIGHTS + 1.5 * RANDOM.normal(size=15)
ANSWERS = HELD_OUT @ WEIGHTS


def ridge_loss(x, log_penalty):
    residual = DESIGN @ x - TARGET
    return residual @ residual / 2 + jnp.exp(log_penalty) * x @ x / 2


@custom_root(conditions.stationary(ridge_loss), symmetric=True)
def ridge(init, log_penalty):
    normal = DESIGN.T @ DESIGN + jnp.exp(log_penalty) * jnp.eye(6)
    return jnp.linalg.solve(normal, DESIGN.T @ TARGET)


def validation_loss(x, log_penalty):
    return jnp.mean((HELD_OUT @ x - ANSWERS) ** 2)


@pytest.fixture(scope="module")
def best_log_penalty():
    """By SciPy's bounded search without derivatives."""

    def loss(p):
        x = np.linalg.solve(DESIGN.T @ DESIGN + np.exp(p) * np.eye(6), DESIGN.T @ TARGET)
        return np.mean((HELD_OUT @ x - ANSWERS) ** 2)

    found = scipy.optimize.minimize_scalar(loss, bounds=(-3, 8), options={"xatol": 1e-11})
    assert -2 < found.x < 7
    return found.x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimiser", "maxiter"), [("lbfgs", 50), (optax.adam(0.5), 300)], ids=["lbfgs", "adam"]
)
@pytest.mark.promotes("Optax raises a float to a count")
def test_the_best_ridge_penalty_is_found(best_log_penalty, optimiser, maxiter):
    result = bilevel.minimise(
        validation_loss, ridge, 0.0, optimiser=optimiser, maxiter=maxiter, tol=1e-7
    )
    assert result.converged
    np.testing.assert_allclose(result.hyperparams, best_log_penalty, atol=1e-5)
    np.testing.assert_allclose(result.params, ridge(None, result.hyperparams), rtol=1e-12)
    assert result.value == result.values.min() == result.to_dataframe()["value"].min()
    assert np.all(np.diff(result.seconds) >= 0)
    assert result.path.shape == (len(result.values), 1)


@pytest.mark.parametrize("optimiser", ["lbfgs", optax.sgd(1.0)], ids=["lbfgs", "sgd"])
def test_bounds_hold_and_the_edge_counts_as_converged(best_log_penalty, optimiser):
    edge = best_log_penalty - 1.0
    result = bilevel.minimise(
        lambda x, h: validation_loss(x, None),
        lambda init, h: ridge(init, h["log_penalty"]),
        {"log_penalty": -1.0},
        optimiser=optimiser,
        bounds=({"log_penalty": -2.0}, {"log_penalty": edge}),
        maxiter=200,
    )
    assert result.converged
    np.testing.assert_allclose(result.hyperparams["log_penalty"], edge, rtol=1e-12)
    assert np.all(result.path <= edge)


def test_each_inner_problem_starts_from_the_last_solution():
    starts = []

    @custom_root(lambda x, t: x - t, host=True)
    def inner(init, t):
        starts.append(float(init))
        return np.asarray(t)

    result = bilevel.minimise(
        lambda x, t: (x - 3.0) ** 2, inner, 1.0, jnp.asarray(-7.0), optax.sgd(0.25), maxiter=3
    )
    np.testing.assert_allclose(starts[:1] + starts[-1:], [-7.0, result.path[-2, 0]])


@pytest.mark.slow
@pytest.mark.promotes("Optax raises a float to a count")
def test_an_interrupted_run_goes_on_where_it_stopped():
    options = {"optimiser": optax.adam(0.1), "tol": 0.0}
    whole = bilevel.minimise(validation_loss, ridge, 0.0, maxiter=8, **options)

    def interrupt(step, value, hyperparams):
        if step == 5:
            raise KeyboardInterrupt

    first = bilevel.minimise(validation_loss, ridge, 0.0, maxiter=8, callback=interrupt, **options)
    assert first.message == "interrupted"
    assert not first.converged
    rest = bilevel.minimise(
        validation_loss,
        ridge,
        first.path[-1, 0],
        maxiter=3,
        optimiser_state=first.optimiser_state,
        **options,
    )
    np.testing.assert_allclose(rest.path[-1], whole.path[-1], rtol=1e-14)


def test_a_callback_stops_the_loop():
    result = bilevel.minimise(
        validation_loss, ridge, 0.0, maxiter=50, callback=lambda step, value, h: step == 2
    )
    assert result.message == "stopped by the callback"
    assert len(result.values) == 3


def test_progress_shows_step_and_loss(capsys):
    bilevel.minimise(validation_loss, ridge, 0.0, maxiter=2, tol=0.0, progress=True)
    assert "step 2, loss " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init_hyperparams": np.asarray([True])}, "init_hyperparams holds bool"),
        ({"init_hyperparams": 0.0, "optimiser": "newton"}, "'lbfgs' or an optax optimiser"),
        ({"init_hyperparams": 0.0, "bounds": (1.0, -1.0)}, "exchange them"),
        ({"init_hyperparams": np.nan}, "give a start where both are finite"),
    ],
)
def test_what_is_not_allowed_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        bilevel.minimise(lambda x, h: jnp.sum(x**2), lambda init, h: h * jnp.ones(2), **arguments)
