"""Bilevel problems with mini-batches, against closed forms and the exact implicit derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers import BilevelPoint, ProximalGradient, StochasticBilevel, prox_none

RANDOM = np.random.default_rng(0)
N, NZ, NX = 64, 4, 3
A, C, B, T = (jnp.asarray(RANDOM.normal(size=s)) for s in ((N, NZ), (N, NX), N, (N, NZ)))
DATA = ((A, C, B), T)
X = jnp.asarray(RANDOM.normal(size=NX))


def inner_loss(z, x, batch):
    a, c, b = batch
    return 0.5 * jnp.mean((a @ z - c @ x - b) ** 2) + 0.05 * z @ z


def outer_loss(z, x, targets):
    return 0.5 * jnp.mean(jnp.sum((z[None] - targets) ** 2, axis=1)) + 0.1 * x @ x


# The closed form: z*(x) = z0 + J x, and F is a quadratic function of it.
HESSIAN = A.T @ A / N + 0.1 * jnp.eye(NZ)
J = jnp.linalg.solve(HESSIAN, A.T @ C / N)
Z0 = jnp.linalg.solve(HESSIAN, A.T @ B / N)


def gradient(x):
    return J.T @ (Z0 + J @ x - T.mean(0)) + 0.2 * x


def best(mean_target):
    return jnp.linalg.solve(J.T @ J + 0.2 * jnp.eye(NX), -J.T @ (Z0 - mean_target))


def solver(inner=0.5, outer=0.3, **options):
    return StochasticBilevel(
        inner_loss, outer_loss, optax.sgd(inner), optax.sgd(outer), maxiter=2000, **options
    )


SOLVER = solver()
START = SOLVER.init_point(jnp.zeros(NX), jnp.zeros(NZ))


def test_all_data_lead_to_the_closed_form_and_its_derivative():
    def found(targets):
        return SOLVER.run(START, (DATA[0], targets)).params.hyperparams

    assert SOLVER.run(START, DATA).state.converged
    np.testing.assert_allclose(found(T), best(T.mean(0)), atol=1e-7)
    slope = jax.jacobian(found)(T)
    expected = jax.jacobian(lambda targets: best(targets.mean(0)))(T)
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_the_hypergradient_is_that_of_the_closed_form_and_of_an_implicit_layer():
    inner = Z0 + J @ X
    exact = SOLVER.hypergradient(X, inner, DATA)
    np.testing.assert_allclose(exact, gradient(X), rtol=1e-12)
    layer = ProximalGradient(lambda z, x: inner_loss(z, x, DATA[0]), prox_none, tol=1e-12)

    def whole(x):
        return outer_loss(layer.run(jnp.zeros(NZ), None, x).params, x, T)

    np.testing.assert_allclose(exact, jax.grad(whole)(X), rtol=1e-9)


def test_at_the_inner_solution_the_direction_is_the_hypergradient_and_batches_have_its_mean():
    inner = Z0 + J @ X
    point = BilevelPoint(X, inner, -jnp.linalg.solve(HESSIAN, inner - T.mean(0)))
    whole = SOLVER.optimality_fun(point, DATA)
    np.testing.assert_allclose(whole.hyperparams, gradient(X), rtol=1e-12)
    np.testing.assert_allclose(jnp.stack([*whole[1:]]), 0, atol=1e-12)
    batches = jax.tree.map(lambda leaf: leaf.reshape(8, 8, *leaf.shape[1:]), DATA)
    each = jax.vmap(lambda data: SOLVER.optimality_fun(point, data))(batches)
    for parts, of_all in zip(each, whole, strict=True):
        assert np.std(parts, axis=0).min() > 0.01
        np.testing.assert_allclose(parts.mean(0), of_all, atol=1e-12)


def distances(method, steps, seeds):
    """Of the hyperparameters from the best ones after a number of steps, for some seeds."""

    @jax.jit
    @jax.vmap
    def run(key):
        def step(carry, key):
            i, j = jax.random.randint(key, (2, 8), 0, N)
            data = (jax.tree.map(lambda leaf: leaf[i], DATA[0]), T[j])
            return tuple(method.update(*carry, data)), None

        start = (START, method.init_state(START))
        (point, state), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        return jnp.linalg.norm(point.hyperparams - best(T.mean(0))), state.iter_num

    found, count = run(jax.random.split(jax.random.key(0), seeds))
    assert np.all(count == steps)
    return float(jnp.sqrt(jnp.mean(found**2)))


def test_batches_lead_there_as_fast_as_noise_allows():
    def decreasing(size, power):
        return optax.sgd(lambda t: size / (1 + t / 50) ** power)

    # With steps like 1/t the distance falls like 1/sqrt(t); constant ones keep their noise.
    method = StochasticBilevel(inner_loss, outer_loss, decreasing(0.3, 0.8), decreasing(0.4, 1.0))
    few, many = distances(method, 1000, 32), distances(method, 16_000, 32)
    assert 2.5 < few / many < 6
    assert many < 0.02
    assert distances(solver(0.3, 0.2), 2000, 32) > 5 * many


def test_several_inner_steps_move_the_hyperparameters_as_seldom():
    method = solver(inner_steps=3)
    point, state = START, method.init_state(START)
    moved = []
    for _ in range(6):
        last = point.hyperparams
        point, state = method.update(point, state, DATA)
        moved.append(bool(jnp.any(point.hyperparams != last)))
    assert moved == [False, False, True, False, False, True]
    np.testing.assert_allclose(
        method.run(START, DATA).params.hyperparams, best(T.mean(0)), atol=1e-6
    )


def test_the_iterator_of_batches_takes_the_same_steps():
    batches = [jax.tree.map(lambda leaf, k=k: leaf[8 * k : 8 * k + 8], DATA) for k in range(4)]
    found = SOLVER.run_iterator(START, iter([batches[0], *batches]))
    point, state = START, SOLVER.init_state(START)
    for batch in batches:
        point, state = SOLVER.update(point, state, batch)
    for got, expected in zip(jax.tree.leaves(found.params), jax.tree.leaves(point), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert found.state.value == pytest.approx(float(state.value), rel=1e-12)


def test_what_does_not_converge_says_so():
    short = StochasticBilevel(inner_loss, outer_loss, optax.sgd(0.5), optax.sgd(0.3), maxiter=5)
    with pytest.raises(ConvergenceError, match="StochasticBilevel did not converge"):
        short.run(START, DATA)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: StochasticBilevel(inner_loss, outer_loss, 0.1, optax.sgd(1.0)), "inner_optimiser"),
        (lambda: solver(inner_steps=0), "inner_steps"),
        (lambda: SOLVER.init_state((X, X)), "init_point"),
        (lambda: SOLVER.init_point(X, {"f": jnp.tanh}), "params"),
        (lambda: SOLVER.update(START, SOLVER.init_state(START), DATA[0]), "data"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def models():
    """Pairs of parameters and a function (params, images) -> scores, of two libraries."""
    equinox = pytest.importorskip("equinox")
    arrays, static = equinox.partition(
        equinox.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(1)),
        equinox.is_inexact_array,
    )
    yield arrays, lambda p, images: jax.vmap(equinox.combine(p, static))(images)
    nnx = pytest.importorskip("flax.nnx")
    graph, state = nnx.split(
        nnx.Sequential(
            nnx.Linear(4, 5, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(5, 3, rngs=nnx.Rngs(1))
        )
    )
    yield (
        jax.tree.map(lambda leaf: leaf.astype(float), state),
        lambda p, images: nnx.merge(graph, p)(images),
    )


@pytest.mark.slow
@pytest.mark.promotes(
    "Optax raises a float to a count, and layers of models add vectors to matrices"
)
def test_models_of_equinox_and_flax_are_parameters():
    labels = jnp.arange(N) % 3
    data = ((A, labels, jnp.arange(N)), (T, labels))
    for params, scores in models():

        def inner(p, x, batch, scores=scores):
            images, labels, index = batch
            losses = optax.softmax_cross_entropy_with_integer_labels(scores(p, images), labels)
            decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
            return jnp.mean(jax.nn.sigmoid(x[index]) * losses) + 0.05 * decay

        def outer(p, x, batch, scores=scores):
            images, labels = batch
            return optax.softmax_cross_entropy_with_integer_labels(scores(p, images), labels).mean()

        @jax.jit
        def descended(x, inner=inner, params=params):
            def step(p, _):
                slope = jax.grad(inner)(p, x, data[0])
                return jax.tree.map(lambda leaf, d: leaf - 0.5 * d, p, slope), None

            return jax.lax.scan(step, params, length=3000)[0]

        method = StochasticBilevel(inner, outer, optax.adam(0.03), optax.sgd(1.0), maxiter=20)
        weights = jnp.zeros(N)
        found = method.run_iterator(method.init_point(weights, params), iter([data] * 5))
        assert jax.tree.structure(found.params.params) == jax.tree.structure(params)
        assert found.params.hyperparams.std() > 0
        # The implicit derivative against differences of problems solved anew.
        along = jnp.asarray(RANDOM.normal(size=N))
        ends = [outer(descended(weights + h * along), None, data[1]) for h in (1e-4, -1e-4)]
        exact = method.hypergradient(weights, descended(weights), data) @ along
        assert exact == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)
