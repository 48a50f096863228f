"""Features that make few examples suffice, learned from batches of tasks of handwritten digits."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from mdsens.layers import LBFGS, StochasticBilevel

TASKS, SHOTS, QUERIES, PENALTY = 100, 3, 10, 0.05
IMAGES, LABELS = load_digits(return_X_y=True)
NETWORK = eqx.nn.MLP(
    128, 16, 32, 1, activation=jnp.tanh, final_activation=jnp.tanh, key=jax.random.key(0)
)
FEATURES, STATIC = eqx.partition(NETWORK, eqx.is_inexact_array)


def tasks(random, count, pool):
    """Pairs of digits to tell apart, beside others that mean nothing; to learn from, to judge."""
    x, y = [], np.tile(np.repeat([0.0, 1.0], SHOTS + QUERIES), (count, 1))
    for _ in range(count):
        pair = random.choice(10, 2, replace=False)
        own = [random.choice(pool[LABELS[pool] == d], SHOTS + QUERIES) for d in pair]
        beside = random.choice(pool, 2 * (SHOTS + QUERIES))
        x.append(np.concatenate([IMAGES[np.concatenate(own)], IMAGES[beside]], axis=1) / 16)
    first = np.arange(y.shape[1]) % (SHOTS + QUERIES) < SHOTS
    x = np.stack(x)
    return (x[:, first], y[:, first]), (x[:, ~first], y[:, ~first])


def scores(head, features, x):
    return jax.vmap(eqx.combine(features, STATIC))(x) @ head


def error(head, features, points):
    x, y = points
    score = scores(head, features, x)
    return jnp.mean(jax.nn.softplus(score) - y * score)


def adapted_error(head, features, points):
    return error(head, features, points) + PENALTY / 2 * head @ head


def of_batch(one):
    def loss(heads, features, batch):
        chosen, points = batch
        return jnp.sum(jax.vmap(lambda head, own: one(head, features, own))(heads[chosen], points))

    return loss


def accuracy(features, learned_from, judged_by):
    """Of heads fitted to the few examples of tasks that nobody has seen."""
    solver = LBFGS(adapted_error, tol=1e-6, maxiter=300)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def each(features, few, many):
        head = solver.run(jnp.zeros(16), features, few).params
        return jnp.mean((scores(head, features, many[0]) > 0) == (many[1] > 0.5))

    return float(jnp.mean(each(features, learned_from, judged_by)))


def test_features_from_batches_of_tasks_let_new_tasks_be_learned_from_three_examples():
    random = np.random.default_rng(0)
    few, many = tasks(random, TASKS, np.arange(1000))

    def batches():
        while True:
            chosen = random.choice(TASKS, 8, replace=False)
            yield tuple((chosen, (x[chosen], y[chosen])) for x, y in (few, many))

    solver = StochasticBilevel(
        of_batch(adapted_error), of_batch(error), optax.sgd(1.0), optax.adam(3e-3), maxiter=600
    )
    start = solver.init_point(FEATURES, jnp.zeros((TASKS, 16)))
    with jax.numpy_dtype_promotion("standard"):  # Adam of optax needs it
        point, state = solver.run_iterator(start, batches())
    assert state.iter_num == 600
    unseen = tasks(np.random.default_rng(1), 40, np.arange(1000, 1797))
    assert accuracy(FEATURES, *unseen) < 0.8
    assert accuracy(point.hyperparams, *unseen) > 0.9
    # The direction by the warm-started adjoint leads down, by that of adjoints solved for.
    everything = tuple((np.arange(TASKS), part) for part in (few, many))
    exact, own = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(part)])
        for part in (
            solver.hypergradient(point.hyperparams, point.params, everything),
            solver.optimality_fun(point, everything).hyperparams,
        )
    )
    assert own @ exact > 0.5 * jnp.linalg.norm(own) * jnp.linalg.norm(exact)
