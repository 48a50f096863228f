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
# # A layer of infinite depth, and what its derivative may cost
#
# A deep equilibrium layer (Bai et al. 2019, [arXiv 1909.01377](https://arxiv.org/abs/1909.01377))
# returns the fixed point $z^\star = T(z^\star, x)$ of one layer $T$, as if this were applied for
# ever. Here $T(z, x) = \tanh(W z + U x + b)$, and a linear read-out of $z^\star$ recognises
# handwritten digits. Anderson acceleration finds $z^\star$. Three derivatives of it are in use:
#
# - the exact one, by the implicit function theorem: a linear system with
#   $1 - \partial T/\partial z$;
# - *phantom gradients* (Geng et al. 2021, [arXiv 2111.05177](https://arxiv.org/abs/2111.05177)):
#   $k$ terms of the Neumann series of the inverse, off by the $k$-th power of
#   $M = (1 - \lambda) + \lambda\, \partial T/\partial z$, with a damping of $\lambda \le 1$;
# - the *one-step* derivative, $k = \lambda = 1$ (Bolte et al. 2023,
#   [arXiv 2305.13768](https://arxiv.org/abs/2305.13768)), for which nothing is solved.
#
# All are options of one solver: how it solves the linear system of its implicit derivative.
#
# A penalty on $\|\partial T/\partial z\|_F^2$, estimated with one random vector as by Hutchinson
# (Bai et al. 2021, [arXiv 2106.14342](https://arxiv.org/abs/2106.14342)), makes the last two
# better.
# `MDSENS_STEPS` sets the length of the training.

# %%
import functools
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

from mdsens.implicit import TruncatedNeumann
from mdsens.layers import AndersonAcceleration

jax.config.update("jax_enable_x64", True)

STEPS = int(os.environ.get("MDSENS_STEPS", "200"))
WIDTH = int(os.environ.get("MDSENS_WIDTH", "32"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "deep_equilibrium.png"
BATCH, TERMS, PENALTIES = 64, (1, 2, 4, 8, 16), (0.1, 3.0)

images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
images, labels = jnp.asarray(images[order] / 16), jnp.asarray(labels[order])
train, test = slice(0, 1300), slice(1300, None)

# %% [markdown]
# ## The layer
#
# The solver is the same for all; what differs is the derivative.


# %%
def layer(z, weights, x):
    return jnp.tanh(weights["W"] @ z + weights["U"] @ x + weights["b"])


def contractive(weights):
    """The weights with a W whose largest singular value is at most 0.95, so that T contracts."""
    largest = jnp.linalg.norm(weights["W"], 2)
    return {**weights, "W": weights["W"] * 0.95 / jnp.maximum(largest, 0.95)}


@functools.cache
def solver(how):
    """That with the derivative "exact", "one step", or of k terms."""
    derivative = "one-step" if how == "one step" else "implicit"
    series = TruncatedNeumann(how) if isinstance(how, int) else None
    return AndersonAcceleration(
        layer, tol=1e-9, maxiter=1000, derivative=derivative, implicit_diff_solve=series
    )


def fixed_point(weights, x, how):
    """The fixed point for one image."""
    return solver(how).run(jnp.zeros(WIDTH), weights, x).params


def initial_weights():
    random = np.random.default_rng(1)
    return {
        "W": jnp.asarray(0.5 * random.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5),
        "U": jnp.asarray(random.normal(size=(WIDTH, 64)) / 8),
        "b": jnp.zeros(WIDTH),
        "V": jnp.asarray(random.normal(size=(10, WIDTH)) / WIDTH**0.5),
    }


# %% [markdown]
# ## The loss, and the penalty
#
# For a random $v$ of independent signs the mean of $|v^\top \partial T/\partial z|^2$ is
# $\|\partial T/\partial z\|_F^2$.


# %%
def loss(weights, x, y, key, penalty, how):
    weights = contractive(weights)
    z = jax.vmap(lambda x: fixed_point(weights, x, how))(x)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(z @ weights["V"].T, y).mean()
    signs = jax.random.rademacher(key, z.shape, float)

    def squared_product(z, x, v):
        _, pull_back = jax.vjp(lambda z: layer(z, weights, x), z)
        return jnp.sum(pull_back(v)[0] ** 2) / WIDTH

    return cross_entropy + penalty * jax.vmap(squared_product)(z, x, signs).mean()


gradient = jax.jit(jax.grad(loss), static_argnames="how")
optimiser = optax.adam(0.002)


def trained(how, penalty):
    """Weights after the training, and how long that took without compilation, s."""
    weights = initial_weights()
    state = optimiser.init(weights)
    update = jax.jit(optimiser.update)
    for step in range(STEPS):
        if step == 1:
            begin = time.perf_counter()
        key = jax.random.key(step)
        batch = jax.random.choice(key, 1300, (BATCH,))
        slope = gradient(weights, images[batch], labels[batch], key, penalty, how)
        change, state = update(slope, state)
        weights = optax.apply_updates(weights, change)
    return weights, time.perf_counter() - begin


@jax.jit
def accuracy(weights):
    weights = contractive(weights)
    z = jax.vmap(lambda x: fixed_point(weights, x, "exact"))(images[test])
    return jnp.mean(jnp.argmax(z @ weights["V"].T, axis=1) == labels[test])


# %%
runs = {}
for how in ("exact", "one step", 4):
    for penalty in PENALTIES:
        weights, seconds = trained(how, penalty)
        runs[how, penalty] = {
            "weights": weights,
            "seconds": seconds,
            "accuracy": float(accuracy(weights)),
        }

# %% [markdown]
# ## The error of the derivative
#
# At the weights that were trained with the exact derivative, the gradient of the loss by each of
# the others against the exact one, and against a finite difference along one direction, to know
# that the exact one is.

# %%
KEY, X, Y = jax.random.key(7), images[test][:BATCH], labels[test][:BATCH]


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


errors, radii = {}, {}
for penalty in PENALTIES:
    weights = runs["exact", penalty]["weights"]
    exact = flat(gradient(weights, X, Y, KEY, 0.0, "exact"))
    errors[penalty] = [
        np.linalg.norm(flat(gradient(weights, X, Y, KEY, 0.0, k)) - exact) / np.linalg.norm(exact)
        for k in TERMS
    ]
    jacobians = jax.vmap(
        lambda x, w=weights: jax.jacfwd(layer)(
            fixed_point(contractive(w), x, "exact"), contractive(w), x
        )
    )(X)
    radii[penalty] = float(np.max(np.abs(np.linalg.eigvals(jacobians))))

weights = runs["exact", PENALTIES[0]]["weights"]
direction = initial_weights()
along = jax.jit(
    lambda t: loss(
        jax.tree.map(lambda w, d: w + t * d, weights, direction), X, Y, KEY, 0.0, "exact"
    )
)
difference = float(along(1e-5) - along(-1e-5)) / 2e-5
slope = flat(gradient(weights, X, Y, KEY, 0.0, "exact")) @ flat(direction)
finite_difference_error = abs(slope / difference - 1)
one_step = flat(gradient(weights, X, Y, KEY, 0.0, "one step"))
exact = flat(gradient(weights, X, Y, KEY, 0.0, "exact"))
one_step_error = np.linalg.norm(one_step - exact) / np.linalg.norm(exact)
print(f"exact gradient against a finite difference: {finite_difference_error:.0e} relative")
for (how, penalty), run in runs.items():
    print(
        f"{how!s:>9}, penalty {penalty:g}: {run['accuracy']:.3f} of the test digits are right, "
        f"{run['seconds']:.1f} s"
    )

# %% [markdown]
# ## What is seen
#
# The error falls with the number of terms, the faster the smaller the spectral radius of
# $\partial T/\partial z$, which the larger penalty lowers, at the cost of some accuracy here. The
# classifier hardly minds an approximate derivative: what is off by a part still descends. Where
# the solution's derivative itself is what one asks for, only the exact one gives it.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for penalty, colour in zip(PENALTIES, ("C3", "C0"), strict=True):
    left.loglog(
        TERMS, errors[penalty], "o-", color=colour,
        label=f"penalty {penalty:g}, spectral radius {radii[penalty]:.2f}",
    )  # fmt: skip
left.axhline(finite_difference_error, color="0.5", ls=":", label="exact, by a finite difference")
left.set(xlabel="terms k of the derivative", ylabel="relative error of the gradient")
left.legend()
names = {"exact": "exact", "one step": "one step", 4: "4 terms"}
for offset, penalty, colour in zip((-0.2, 0.2), PENALTIES, ("C3", "C0"), strict=True):
    heights = [runs[how, penalty]["accuracy"] for how in names]
    spread = [np.sqrt(h * (1 - h) / len(labels[test])) for h in heights]
    right.bar(
        np.arange(3) + offset, heights, 0.38, yerr=spread, color=colour,
        label=f"penalty {penalty:g}",
    )  # fmt: skip
right.set_xticks(range(3), names.values())
right.set(ylim=(0.5, 1.0), xlabel="derivative in training", ylabel="test accuracy")
right.legend(loc="lower right")
figure.savefig(FIGURE, dpi=150)
