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
# # How much to regularise a support vector machine
#
# A multiclass support vector machine is trained in its dual, and a regularisation $\theta$ is
# sought whose machine does best on other samples, the validation data: Blondel et al. 2021
# ([arXiv 2105.15183](https://arxiv.org/abs/2105.15183), section 4.1 and figure 4). With training
# data $X, Y$ of $m$ samples and $k$ classes (rows of $Y$ have a single 1), this is one problem
# inside another, in $\lambda = \log\theta$:
#
# $$\min_\lambda \tfrac12 \|X_\mathrm{val} W - Y_\mathrm{val}\|^2, \qquad
# W = X^\top (Y - x^\star)/\theta, \qquad
# x^\star = \mathrm{argmin}_{x \in C}\; \tfrac{\theta}{2}\|W\|^2 + \langle x, Y\rangle ,$$
#
# where every row of $x$ lies in the simplex: it is not negative and sums to 1. The gradient in
# $\lambda$ needs $\partial x^\star/\partial\lambda$. There are two ways to it.
#
# - **Implicit.** At the solution a step of projected gradient (or of mirror descent) changes
#   nothing, $x^\star = T(x^\star, \theta)$. Hence
#   $(1 - \partial_x T)\,\partial x^\star = \partial_\theta T$: one linear system, at the solution.
# - **Unrolled.** Differentiate all steps of the solver.
#
# The sizes are set by `MDSENS_FEATURES`, the solvers' steps by `MDSENS_INNER_STEPS` (the first
# number; the others are for one panel). The paper takes 2,500 steps, and up to 10,000 features.

# %%
import logging
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_classification

from mdsens import layers
from mdsens.implicit import conditions, custom_fixed_point
from mdsens.layers.objective import multiclass_linear_svm_dual

jax.config.update("jax_enable_x64", True)

FEATURES = [int(p) for p in os.environ.get("MDSENS_FEATURES", "100,300,1000").split(",")]
SAMPLES = int(os.environ.get("MDSENS_SAMPLES", "700"))
STEPS, *MORE_STEPS = map(int, os.environ.get("MDSENS_INNER_STEPS", "500,100,2500").split(","))
ALL_SOLVERS = "mirror descent,projected gradient,block coordinate descent"
SOLVERS = os.environ.get("MDSENS_SOLVERS", ALL_SOLVERS).split(",")
OUTER_STEPS = int(os.environ.get("MDSENS_OUTER_STEPS", "8"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "hyperparameter_optimisation.png"

# %% [markdown]
# ## The data
#
# As in the paper: 5 classes, 700 samples for training and 200 for validation, 10 % of the features
# say something and the others are noise. Unlike there, the features are scaled so that a sample
# has a norm of 1 on average, whatever their number.


# %%
def samples(features, classes=5, validation=200):
    """X, Y, X_validation, Y_validation."""
    X, labels = make_classification(
        n_samples=SAMPLES + validation,
        n_features=features,
        n_informative=features // 10,
        n_redundant=0,
        n_classes=classes,
        random_state=0,
    )
    X = X / np.sqrt(np.mean(np.sum(X[:SAMPLES] ** 2, axis=1)))
    Y = np.eye(classes)[labels]
    return tuple(map(jnp.asarray, (X[:SAMPLES], Y[:SAMPLES], X[SAMPLES:], Y[SAMPLES:])))


def validation_loss(x, penalty, data):
    X, Y, X_validation, Y_validation = data
    W = X.T @ (Y - x) / penalty
    return jnp.sum((X_validation @ W - Y_validation) ** 2) / 2


def uniform(data):
    """Where the solvers begin: every class alike."""
    return jnp.full(data[1].shape, 1 / data[1].shape[1])


# %% [markdown]
# ## Three solvers
#
# The dual objective comes with mdsens, and so do the solvers; a solver learns only how to go back
# to the simplex. Each makes a fixed number of steps from the same start, as in the paper.
#
# - **Mirror descent** moves by factors: $x \leftarrow \mathrm{softmax}(\log x - \eta\nabla f)$,
#   $\eta = 1$ for 100 steps and then falling like the inverse square root.
# - **Projected gradient**, accelerated, $\eta = 1/L$ with $L$ the largest curvature at
#   $\theta = 1$.
# - **Block coordinate descent** projects one sample after the other; a pass over all of them is a
#   step, and a fifth of the steps will do.

# %%
rows_onto_simplex = jax.vmap(layers.projection_simplex, (0, None))
rows_by_softmax = jax.vmap(layers.kl_projection_simplex, (0, None))


def decaying(step):
    return jnp.sqrt(100 / jnp.maximum(step, 100))


def make_solver(name, data, derivative="implicit", steps=STEPS):
    options = {"maxiter": steps, "tol": 0.0, "throw": False, "derivative": derivative}
    objective = multiclass_linear_svm_dual
    if name == "mirror descent":
        step = layers.MirrorDescent.make_projection_grad(rows_by_softmax, conditions.kl_mapping)
        return layers.MirrorDescent(objective, step, decaying, **options)
    if name == "projected gradient":
        stepsize = 1 / float(jnp.linalg.norm(data[0], 2) ** 2)
        return layers.ProjectedGradient(objective, rows_onto_simplex, stepsize=stepsize, **options)
    block_prox = layers.make_prox_from_projection(layers.projection_simplex)
    options["maxiter"] = max(1, steps // 5)
    return layers.BlockCoordinateDescent(objective, block_prox, **options)


# %% [markdown]
# ## Implicit, and unrolled in two ways
#
# `derivative="unrolled"` keeps few iterates and computes the others anew, so that memory does not
# limit the number of steps. What the paper compares with is simpler: JAX's `scan`, which keeps them
# all. That is four lines around a solver's `update`.


# %%
def keeping_all(solver):
    """The same iterations, differentiated by JAX alone."""

    def run(start, *args):
        def step(carry, _):
            return tuple(solver.update(*carry, *args)), None

        begin = (start, solver.init_state(start, *args))
        return jax.lax.scan(step, begin, None, length=solver.maxiter)[0][0]

    return run


def training(name, data, way, steps=STEPS):
    """(start, 1.0, penalty, (X, Y)) -> x, differentiable in one of three ways."""
    if way == "unrolled, keeping all steps":
        return keeping_all(make_solver(name, data, steps=steps))
    derivative = "implicit" if way == "implicit" else "unrolled"
    solver = make_solver(name, data, derivative, steps)
    return lambda *args: solver.run(*args).params


WAYS = ("implicit", "unrolled, keeping all steps", "unrolled, keeping few steps")

# %% [markdown]
# ## Time of an outer step
#
# That is one validation loss with its gradient, without compilation; as CPU time, which other
# programs on the machine disturb less.


# %%
def compiled_gradient(run, data):
    """(log_penalty, data) -> (validation loss, its derivative in log_penalty)."""

    def loss(log_penalty, data):
        penalty = jnp.exp(log_penalty)
        x = run(uniform(data), 1.0, penalty, data[:2])
        return validation_loss(x, penalty, data)

    return jax.jit(jax.value_and_grad(loss)).lower(2.0, data).compile()


def shortest_time(gradient_of, data):
    """CPU time, s, the least of two runs or more."""
    seconds = []
    while len(seconds) < 2 or (sum(seconds) < 0.5 and len(seconds) < 5):
        began = time.process_time()
        jax.block_until_ready(gradient_of(2.0, data))
        seconds.append(time.process_time() - began)
    return min(seconds)


compiled, seconds = {}, {}
for features in FEATURES:
    data = samples(features)
    for name in SOLVERS:
        for way in WAYS:
            key = name, way, features
            compiled[key] = compiled_gradient(training(name, data, way), data)
            seconds[key] = shortest_time(compiled[key], data)
        taken = ", ".join(f"{seconds[name, way, features]:.2f} s {way}" for way in WAYS)
        print(f"{features} features, {name}: {taken}")

# %%
for name in SOLVERS:
    for way in WAYS[1:]:
        ratios = [seconds[name, way, p] / seconds[name, "implicit", p] for p in FEATURES]
        print(f"{name}, {way}: {min(ratios):.1f} to {max(ratios):.1f} times as long as implicit")

# %% [markdown]
# ## Time by the number of inner steps
#
# A gradient by unrolling takes a multiple of the time of the inner solve. The implicit one adds
# the linear system to it, whose time does not depend on how many steps led there. So the number of
# steps decides who wins.

# %%
PANEL = "projected gradient"
few_features = samples(FEATURES[0])
by_steps = {}
for way in WAYS:
    by_steps[way, STEPS] = seconds[PANEL, way, FEATURES[0]]
    for steps in MORE_STEPS:
        gradient_of = compiled_gradient(training(PANEL, few_features, way, steps), few_features)
        by_steps[way, steps] = shortest_time(gradient_of, few_features)
step_counts = sorted([STEPS, *MORE_STEPS])
for way in WAYS:
    taken = ", ".join(f"{by_steps[way, steps]:.2f} s for {steps} steps" for steps in step_counts)
    print(f"{way}: {taken}")

# %% [markdown]
# ## The outer loop
#
# Gradient descent in $\lambda$ with a step of $5\cdot10^{-3}$, as in the paper.

# %%
middle = FEATURES[len(FEATURES) // 2]
middle_data = samples(middle)
histories = {}
for name in SOLVERS:
    for way in WAYS[:2]:
        log_penalty, values = 1.0, []
        for _ in range(OUTER_STEPS + 1):
            value, slope = compiled[name, way, middle](log_penalty, middle_data)
            values.append(float(value))
            log_penalty -= 5e-3 * float(slope)
        histories[name, way] = np.array(values)
        print(f"{name}, {way}: validation loss {values[0]:.3f} -> {values[-1]:.3f}")
differences = {
    name: np.max(np.abs(histories[name, WAYS[0]] / histories[name, WAYS[1]] - 1))
    for name in SOLVERS
}
for name, difference in differences.items():
    print(f"{name}: implicit and unrolled losses differ by at most {difference:.1e} (relative)")

# %% [markdown]
# ## Which gradient is right?
#
# Finite differences judge: central differences of the validation loss, with the inner problem
# solved by block coordinate descent, the most exact of the three.

# %%
STEP = 1e-4
judge = compiled[SOLVERS[-1], "implicit", middle]
sides = [float(judge(2.0 + shift, middle_data)[0]) for shift in (STEP, -STEP)]
reference = (sides[0] - sides[1]) / (2 * STEP)


def relative_error(gradient_of):
    return abs(float(gradient_of(2.0, middle_data)[1]) / reference - 1)


errors = {
    (name, way): relative_error(compiled[name, way, middle]) for name in SOLVERS for way in WAYS[:2]
}
print(f"derivative of the validation loss: {reference:.5f}")
for name in SOLVERS:
    shown = ", ".join(f"{errors[name, way]:.1e} {way}" for way in WAYS[:2])
    print(f"  {name}: relative error {shown}")

# %% [markdown]
# Mirror descent is the least exact. It never reaches a zero: unknowns that end there come closer
# and closer, and this limits every derivative taken from it. The longer it runs, the more unknowns
# are almost zero, and the worse is the condition of the linear system of its own fixed point, which
# mdsens notices. The solver and the condition are separate, though: the same iterates can be
# differentiated through the fixed point of the projected gradient.


# %%
def mirror_descent_by_projected_gradient(start, *args):
    solver = make_solver("mirror descent", middle_data, steps=5 * STEPS)
    condition = conditions.projected_gradient(multiclass_linear_svm_dual, rows_onto_simplex)
    return custom_fixed_point(condition)(lambda *args: solver.run(*args).params)(start, *args)


logging.getLogger("jax").setLevel(logging.CRITICAL)  # the error is caught and shown below
if "mirror descent" in SOLVERS:
    for condition, run in (
        ("its own", training("mirror descent", middle_data, "implicit", 5 * STEPS)),
        ("the projected gradient's", mirror_descent_by_projected_gradient),
    ):
        try:
            error = relative_error(compiled_gradient(run, middle_data))
            outcome = f"relative error {error:.1e}"
        except (RuntimeError, ValueError) as failure:
            outcome = next(line for line in str(failure).splitlines() if "linear solve" in line)
            outcome = outcome[outcome.index("the linear solve") :]
        print(f"{5 * STEPS} steps of mirror descent, fixed point {condition}: {outcome}")

# %% [markdown]
# ## Real data
#
# The digits that come with scikit-learn (8 x 8 pixels, 10 classes): 300 train, 300
# validate. L-BFGS moves $\lambda$; the inner problem starts from its last solution and is solved
# to a tolerance, as one would do it outside of a comparison. A grid of values tells whether the
# minimum was found.

# %%
images, labels = load_digits(return_X_y=True)
images = (images - 8) / np.sqrt(np.mean(np.sum((images - 8) ** 2, axis=1)))
COUNT = min(300, SAMPLES)
digits = tuple(
    jnp.asarray(array)
    for part in (slice(0, COUNT), slice(COUNT, 2 * COUNT))
    for array in (images[part], np.eye(10)[labels[part]])
)
coordinates = layers.BlockCoordinateDescent(
    multiclass_linear_svm_dual,
    layers.make_prox_from_projection(layers.projection_simplex),
    tol=1e-5,
    maxiter=5000,
)


def machine(start, log_penalty):
    return coordinates.run(start, 1.0, jnp.exp(log_penalty), digits[:2]).params


def digits_loss(x, log_penalty):
    return validation_loss(x, jnp.exp(log_penalty), digits) / len(digits[3])


found = layers.minimise(
    digits_loss, machine, init_hyperparams=-1.0, init_params=uniform(digits), tol=1e-4
)


@jax.jit
def evaluate(start, log_penalty):
    """The solution, its loss, and the share of validation samples that it classifies."""
    x = machine(start, log_penalty)
    scores = digits[2] @ (digits[0].T @ (digits[1] - x))
    right = jnp.argmax(scores, axis=1) == jnp.argmax(digits[3], axis=1)
    return x, digits_loss(x, log_penalty), jnp.mean(right)


grid, grid_losses, grid_accuracies, x = np.linspace(5.0, -1.0, 9), [], [], uniform(digits)
for log_penalty in grid:  # from the easy end, each from the solution before
    x, value, right = evaluate(x, log_penalty)
    grid_losses.append(float(value))
    grid_accuracies.append(float(right))
accuracy = float(evaluate(found.params, found.hyperparams)[2])
print(f"{found.message} after {len(found.values) - 1} steps, {found.seconds[-1]:.1f} s")
print(
    f"loss per sample {found.values[0]:.4f} -> {found.value:.4f} at log penalty "
    f"{float(found.hyperparams):.3f}; best of the grid: {min(grid_losses):.4f} at "
    f"{grid[np.argmin(grid_losses)]:.1f}"
)
print(
    f"validation accuracy there: {accuracy:.1%}; the best on the grid: {max(grid_accuracies):.1%} "
    f"at {grid[np.argmax(grid_accuracies)]:.1f}"
)

# %% [markdown]
# The loss is the paper's, the squared distance of the scores from 0 and 1. A support vector machine
# does not aim there, and where its scores come closest is not where it classifies best. Another
# outer loss is another function; the derivative of the solution stays the same.

# %% [markdown]
# ## The figure

# %%
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.2), constrained_layout=True)
colours = ("#0072B2", "#D55E00", "#555555")
STYLES = dict(zip(WAYS, zip(colours, ("-", "--", ":"), ("o", "^", "s"), strict=True), strict=True))


def plot(axis, x, y, way):
    colour, line, marker = STYLES[way]
    axis.plot(x, y, ls=line, marker=marker, color=colour, label=way)


def log_axes(axis, ticks, times):
    axis.set(xscale="log", yscale="log", ylabel="CPU time of an outer step (s)")
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    seconds = [tick for decade in (0.001, 0.01, 0.1, 1, 10) for tick in (decade, 3 * decade)]
    axis.set_yticks(seconds, [f"{tick:g}" for tick in seconds])
    axis.set_ylim(min(times) / 1.4, max(times) * 1.6)


def title(axis, letter, text):
    axis.set_title(f"({letter}) {text}", loc="left", fontsize=10.5)


for axis, letter, name in zip(axes[0], "abc", SOLVERS, strict=False):
    for way in WAYS:
        plot(axis, FEATURES, [seconds[name, way, features] for features in FEATURES], way)
    log_axes(axis, FEATURES, seconds.values())
    title(axis, letter, f"{name}, {make_solver(name, middle_data).maxiter} steps")
    axis.set(xlabel="number of features")
axes[0, 0].legend(frameon=False, loc="upper left", fontsize=9)

for way in WAYS:
    plot(axes[1, 0], step_counts, [by_steps[way, steps] for steps in step_counts], way)
log_axes(axes[1, 0], step_counts, by_steps.values())
title(axes[1, 0], "d", f"{PANEL}, {FEATURES[0]} features")
axes[1, 0].set(xlabel="number of inner steps")

for name, colour, marker, size in zip(SOLVERS, colours, "o^s", (11, 7, 4), strict=False):
    axes[1, 1].plot(histories[name, WAYS[0]], color=colour, lw=1)
    axes[1, 1].plot(histories[name, WAYS[1]], marker, mfc="none", ms=size, color=colour, label=name)
axes[1, 1].plot([], [], "-", color="0.3", lw=1, label="implicit: lines")
axes[1, 1].plot([], [], "o", color="0.3", mfc="none", label="unrolled: markers")
title(axes[1, 1], "e", f"the outer loop, {middle} features")
axes[1, 1].set(xlabel="outer step", ylabel="validation loss")
axes[1, 1].legend(frameon=False, fontsize=9)

axes[1, 2].plot(grid, grid_losses, "-", color="0.6", lw=1.5, label="grid")
axes[1, 2].plot(
    found.path[:, 0], found.values, "o", color="#0072B2", mfc="none", label="L-BFGS, implicit"
)
axes[1, 2].plot(float(found.hyperparams), found.value, "k*", ms=13, label="found")
title(axes[1, 2], "f", "digits")
axes[1, 2].set(xlabel=r"$\lambda = \log\theta$", ylabel="validation loss per sample")
axes[1, 2].legend(frameon=False)
figure.savefig(FIGURE, dpi=160)
plt.show()

# %% [markdown]
# ## What is true
#
# - The validation loss falls the same way with both derivatives, for all three solvers, as in the
#   paper.
# - The implicit derivative is as exact as the unrolled one or better, after the same steps: the
#   printed errors of mirror descent and of the projected gradient are smaller.
# - *Is it faster?* Than unrolling in little memory: yes, for every solver and size here. Than
#   unrolling with all steps in memory: that depends. The paper found implicit differentiation
#   faster for all three solvers. Here that holds for block coordinate descent clearly, for the
#   projected gradient narrowly, and for mirror descent not. Two things decide, the number of steps
#   (d), and the linear system: that of mirror descent's fixed point takes as long as hundreds of
#   its cheap steps.
# - The longer mirror descent runs, the worse is the condition of that system. The fixed point of
#   the projected gradient has the same solution without this defect, and needs no other solver.
#
# What differs from the paper: scaled features, fewer of them, a fifth of the inner steps, GMRES to
# a checked residual instead of conjugate gradients with a limit on their steps, and one machine
# instead of a cluster. The seconds are therefore not the paper's; what is compared is their order.
