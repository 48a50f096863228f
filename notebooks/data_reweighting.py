# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which labels to believe: a bilevel problem in mini-batches
#
# Half of the labels of a training set are wrong, and a few more images have labels that are known
# to be right. Give each training image $i$ a weight $\sigma(x_i)$, and choose the weights such that
# the network that is trained with them is good on the images that can be trusted:
#
# $$ \min_x F(z^\star(x)) \quad\text{with}\quad
#    z^\star(x) = \arg\min_z \tfrac1N \sum_i \sigma(x_i)\, \ell_i(z)
#    + \tfrac\lambda2 |z|^2 . $$
#
# `minimise` would train the network to the end for every step in $x$, and solve a linear system
# with its Hessian. `StochasticBilevel` does one step of each at a time, from a batch of both data
# sets (SOBA, Dagréou et al. 2022, [arXiv 2201.13409](https://arxiv.org/abs/2201.13409)). The
# network is one of Equinox; its arrays are the parameters.
# `MDSENS_STEPS` sets the length of the training.

# %%
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

from mdsens.layers import StochasticBilevel

jax.config.update("jax_enable_x64", True)

STEPS = int(os.environ.get("MDSENS_STEPS", "2400"))
WIDTH = int(os.environ.get("MDSENS_WIDTH", "32"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "data_reweighting.png"
BATCH, WRONG, DECAY, PARTS = 64, 0.5, 0.01, 12

images, labels = load_digits(return_X_y=True)
random = np.random.default_rng(0)
order = random.permutation(len(labels))
images, labels = jnp.asarray(images[order] / 16), labels[order]
train, trusted, test = slice(0, 800), slice(800, 1000), slice(1000, None)
wrong = random.random(800) < WRONG
given = np.where(wrong, (labels[train] + random.integers(1, 10, 800)) % 10, labels[train])
labels, given = jnp.asarray(labels), jnp.asarray(given)
INNER = (images[train], given, jnp.arange(800))
OUTER = (images[trusted], labels[trusted])

# %% [markdown]
# ## The two losses
#
# A model of Equinox is a pytree of arrays and of functions. The arrays are the parameters.

# %%
network = eqx.nn.MLP(64, 10, WIDTH, 1, activation=jnp.tanh, key=jax.random.key(0))
start, static = eqx.partition(network, eqx.is_inexact_array)


def losses(params, images, labels):
    scores = jax.vmap(eqx.combine(params, static))(images)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels)


def inner_loss(params, weights, batch):
    images, labels, index = batch
    decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    weighted = jax.nn.sigmoid(weights[index]) * losses(params, images, labels)
    return jnp.mean(weighted) + DECAY / 2 * decay


def outer_loss(params, weights, batch):
    return jnp.mean(losses(params, *batch))


@jax.jit
def accuracy(params):
    scores = jax.vmap(eqx.combine(params, static))(images[test])
    return jnp.mean(jnp.argmax(scores, axis=1) == labels[test])


# %% [markdown]
# ## Training
#
# Many steps at a time, compiled: `update` works in `jax.lax.scan`. With an outer step size of zero
# the weights stay as they are: all equal, or zero for the wrong labels as only an oracle could have
# it.


# %%
def trained(weights, outer_size):
    """Accuracy and state after each part of the training."""
    solver = StochasticBilevel(
        inner_loss,
        outer_loss,
        inner_optimiser=optax.sgd(optax.cosine_decay_schedule(0.5, STEPS)),
        outer_optimiser=optax.sgd(outer_size),
        adjoint_optimiser=optax.sgd(optax.cosine_decay_schedule(0.2, STEPS)),
    )

    @jax.jit
    def part(point, state, keys):
        def step(carry, key):
            inner, outer = (
                jax.random.choice(k, len(data[1]), (BATCH,))
                for k, data in zip(jax.random.split(key), (INNER, OUTER), strict=True)
            )
            batches = jax.tree.map(lambda leaf: leaf[inner], INNER), jax.tree.map(
                lambda leaf: leaf[outer], OUTER
            )  # fmt: skip
            return tuple(solver.update(*carry, batches)), None

        return jax.lax.scan(step, (point, state), keys)[0]

    point = solver.init_point(weights, start)
    state, points, accuracies = solver.init_state(point), [point], [accuracy(start)]
    for keys in jax.random.split(jax.random.key(1), (PARTS, STEPS // PARTS)):
        point, state = part(point, state, keys)
        points.append(point)
        accuracies.append(accuracy(point.params))
    return solver, points, np.array(accuracies)


equal = jnp.zeros(800)
solver, points, reweighted = trained(equal, 200.0)
runs = {
    "all labels alike": trained(equal, 0.0)[2],
    "weights learned": reweighted,
    "right labels alone": trained(jnp.where(wrong, -100.0, 0.0), 0.0)[2],
}

for name, values in runs.items():
    print(f"{name}: {100 * values[-1]:.1f} % of the test digits are right")

# %% [markdown]
# ## Is it the hypergradient?
#
# The direction in which the weights move, of all data, beside the implicit derivative with its
# linear system solved to the end (MINRES, by products with the Hessian): its relative error, and
# the cosine of the angle between them, which is positive where the step descends. What is left is
# how far the adjoint lags behind, and the noise of its batches.

# %%
DATA = (INNER, OUTER)
exact_of = jax.jit(lambda p: solver.hypergradient(p.hyperparams, p.params, DATA, "minres"))
direction_of = jax.jit(lambda p: solver.optimality_fun(p, DATA).hyperparams)
errors, cosines = [], []
for point in points[2::2]:
    exact, found = exact_of(point), direction_of(point)
    lengths = [float(jnp.linalg.norm(d)) for d in (exact, found)]
    errors.append(float(jnp.linalg.norm(found - exact)) / lengths[0])
    cosines.append(float(exact @ found) / (lengths[0] * lengths[1]))
learned = np.asarray(jax.nn.sigmoid(points[-1].hyperparams))
found = (learned < 0.5) == wrong
print(f"{100 * found.mean():.1f} % of the labels are told right from wrong by a weight of 1/2")
print("relative errors of the hypergradient:", " ".join(f"{error:.2f}" for error in errors))
print("cosines of its angle with the exact one:", " ".join(f"{c:.2f}" for c in cosines))

# %% [markdown]
# ## What is seen
#
# The weights of wrong labels go down, and the network comes near to what it would be without them.
# The direction is never exact, since nothing is solved to the end and batches are noisy, but it
# descends, at the price of one training. Where the hypergradient itself is what one asks for, all
# data and a solve to the end give it.

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
steps = np.arange(PARTS + 1) * (STEPS // PARTS)
for (name, values), colour in zip(runs.items(), ("0.5", "C0", "C2"), strict=True):
    left.plot(steps, 100 * values, color=colour, label=name)
left.set(xlabel="step", ylabel="test accuracy, %", ylim=(40, 100))
left.legend(loc="lower right")
bins = np.linspace(0, 1, 21)
middle.hist(learned[~wrong], bins, color="C2", alpha=0.7, label="right labels")
middle.hist(learned[wrong], bins, color="C3", alpha=0.7, label="wrong labels")
middle.set(xlabel="weight", ylabel="number of images")
middle.legend()
right.plot(steps[2::2], errors, "o-", color="C3", label="relative error")
right.plot(steps[2::2], cosines, "s-", color="C0", label="cosine of the angle")
right.set(xlabel="step", ylabel="direction beside the exact hypergradient", ylim=(0, None))
right.legend()
figure.savefig(FIGURE, dpi=150)
