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
# # Predict, then optimise: learning for the decision
#
# Which jobs to take, and how much of each, with two resources that do not suffice for all? With the
# jobs' values $v$ that is a linear program, $\max_w v^\top w$ with $0 \le w \le 1$ and
# $R w \le b$. But the values are not known, only features $x$ that they depend on.
# *Two stages*: fit $\hat v(x)$ by least squares, then solve. *Decision-focused*: fit $\hat v$ such
# that the choice that it leads to is good, by its regret
#
# $$ \frac{v^\top w(v) - v^\top w(\hat v)}{v^\top w(v)} . $$
#
# The choice jumps as $\hat v$ changes: its derivative is zero or does not exist. In training
# $w(\hat v) = \arg\max_w \hat v^\top w - \tfrac\gamma2 |w|^2$ stands for it, a quadratic program
# whose derivative does (Wilder et al. 2019, [arXiv 1809.05504](https://arxiv.org/abs/1809.05504)).
# Regret is always measured with the linear program. Values are made as Elmachtoub and Grigas 2022
# ([arXiv 1710.08005](https://arxiv.org/abs/1710.08005)) do: a polynomial of the features, of which
# the model, a linear one, is the first order alone.
# `MDSENS_STEPS` sets the length of the training.

# %%
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from mdsens.layers import LinearProgram, QuadraticProgram

jax.config.update("jax_enable_x64", True)

STEPS = int(os.environ.get("MDSENS_STEPS", "150"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "decision_focused_learning.png"
DEGREES = tuple(map(int, os.environ.get("MDSENS_DEGREES", "1,4,8").split(",")))
JOBS, FEATURES, TRAIN, TEST, SMOOTHING = 12, 5, 100, 400, 0.5

# %% [markdown]
# ## The programs

# %%
resources = np.random.default_rng(0).uniform(0.2, 1.0, (2, JOBS))
rows = np.vstack([resources, np.eye(JOBS), -np.eye(JOBS)])
bounds = np.concatenate([0.3 * resources.sum(1), np.ones(JOBS), np.zeros(JOBS)])
limits = (jnp.asarray(rows), jnp.asarray(bounds))
best_choice, smooth = LinearProgram(), QuadraticProgram()


@jax.jit
@jax.vmap
def choice(values):
    """The best jobs."""
    return best_choice.run(None, -values, None, limits).params.primal


def smooth_choice(start, values):
    """Its smooth counterpart, begun from the solution of the last step."""
    return smooth.run(start, (SMOOTHING * jnp.eye(JOBS), -values), None, limits)


# %% [markdown]
# ## Features and values


# %%
def data(degree):
    """Features, values, and what the best choices are worth, for training and testing."""
    random = np.random.default_rng(degree)
    mixing = random.binomial(1, 0.5, (JOBS, FEATURES))
    x = random.normal(size=(TRAIN + TEST, FEATURES))
    values = (x @ mixing.T / FEATURES**0.5 + 3) ** degree / 3.5**degree
    values *= random.uniform(0.75, 1.25, values.shape)
    x = jnp.asarray(np.column_stack([x, np.ones(len(x))]))
    values = jnp.asarray(values)
    return x, values, jnp.sum(values * choice(values), axis=1)


# %% [markdown]
# ## Training
#
# Both models begin with the least-squares fit. All quadratic programs of a step are one batch, and
# each begins from its own solution of the last step: where its active rows are still the same, one
# linear solve replaces the iterations.


# %%
def loss(weights, starts, x, values, best):
    """Mean regret of the smooth choices, and their programs' solutions and iterations."""
    predicted = x @ weights.T
    found = jax.vmap(smooth_choice)(starts, predicted)
    worth = jnp.sum(values * found.params.primal, axis=1)
    return jnp.mean((best - worth) / best), (found.params, found.state.iter_num)


gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
cold = jax.jit(jax.vmap(lambda values: smooth_choice(None, values).params))


@jax.jit
def regret(weights, x, values, best):
    """Of each best choice by predicted values."""
    return (best - jnp.sum(values * choice(x @ weights.T), axis=1)) / best


runs = {}
for degree in DEGREES:
    x, values, best = data(degree)
    train = tuple(part[:TRAIN] for part in (x, values, best))
    test = tuple(part[TRAIN:] for part in (x, values, best))
    least_squares = jnp.linalg.lstsq(train[0], train[1])[0].T
    scale = float(jnp.mean(values))
    weights, optimiser = least_squares, optax.adam(0.02 * scale)
    state, starts = optimiser.init(weights), cold(train[0] @ weights.T)
    history, kept = [], []
    for step in range(STEPS + 1):
        if step % 10 == 0:
            history.append([step, regret(weights, *train).mean(), regret(weights, *test).mean()])
        if step < STEPS:
            (value, (starts, iterations)), slope = gradient(weights, starts, *train)
            kept.append(np.mean(np.asarray(iterations) == 0))
            change, state = optimiser.update(slope, state)
            weights = optax.apply_updates(weights, change)
    runs[degree] = {
        "two stages": np.asarray(regret(least_squares, *test)),
        "decision-focused": np.asarray(regret(weights, *test)),
        "history": np.array(history, float),
        "kept": np.array(kept),
        "errors": [
            float(jnp.sqrt(jnp.mean((test[0] @ w.T - test[1]) ** 2)))
            for w in (least_squares, weights)
        ],
    }

# %% [markdown]
# The gradient of the loss, against a finite difference along one direction:

# %%
direction = jnp.asarray(np.random.default_rng(0).normal(size=weights.shape))
both = [loss(weights + h * direction, starts, *train)[0] for h in (1e-6, -1e-6)]
difference = float(both[0] - both[1]) / 2e-6
exact = float(jnp.sum(gradient(weights, starts, *train)[1] * direction))
gradient_error = abs(exact / difference - 1)
print(f"gradient against a finite difference: {gradient_error:.0e} relative")
for degree, run in runs.items():
    words = []
    for name in ("two stages", "decision-focused"):
        error = run[name].std() / TEST**0.5
        words.append(f"{name} {100 * run[name].mean():.1f} +- {100 * error:.1f} %")
    print(
        f"degree {degree}: regret {', '.join(words)}; rms errors of the values "
        f"{run['errors'][0]:.2f} and {run['errors'][1]:.2f}; "
        f"{100 * run['kept'].mean():.0f} % of the programs kept their active rows in a step"
    )

# %% [markdown]
# ## What is seen
#
# Where the linear model is right but for noise (degree 1), least squares is hard to beat. Where it
# is not, decision-focused learning predicts the values worse, in the mean of squares, and leads to
# better choices: it spends what the model can do where decisions turn on it.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for degree, colour in zip(DEGREES, ("C2", "C1", "C3"), strict=False):
    steps, of_train, of_test = runs[degree]["history"].T
    left.plot(steps, 100 * of_test, color=colour, label=f"degree {degree}, test")
    left.plot(steps, 100 * of_train, ":", color=colour, label=f"degree {degree}, training")
left.set(xlabel="step of training", ylabel="regret, % of the best choice", ylim=(0, None))
left.legend(ncols=2, fontsize=8)
places = np.arange(len(DEGREES))
for offset, name, colour in ((-0.2, "two stages", "0.6"), (0.2, "decision-focused", "C0")):
    means = [100 * runs[d][name].mean() for d in DEGREES]
    spread = [100 * runs[d][name].std() / TEST**0.5 for d in DEGREES]
    right.bar(places + offset, means, 0.38, yerr=spread, color=colour, capsize=3, label=name)
right.set_xticks(places, [str(d) for d in DEGREES])
right.set(xlabel="degree of the values in the features", ylabel="test regret and standard error, %")
right.legend()
figure.savefig(FIGURE, dpi=150)
