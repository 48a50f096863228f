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
# # Learning to learn a sine from ten points
#
# A network is to learn a function from ten of its values. That is hopeless from a random start, and
# easy from a start $\theta$ that has been learned on other functions of the family. MAML (Finn et
# al. 2017, [arXiv 1703.03400](https://arxiv.org/abs/1703.03400)) *unrolls*: it differentiates
# through a few gradient steps on the ten points. Implicit MAML (Rajeswaran et al. 2019,
# [arXiv 1909.04630](https://arxiv.org/abs/1909.04630)) makes the adaptation a problem of its own,
#
# $$\phi^\star(\theta) = \mathrm{argmin}_\phi\; L(\phi) + \tfrac{\lambda}{2}\|\phi-\theta\|^2,
# \qquad \nabla L(\phi^\star) + \lambda\,(\phi^\star - \theta) = 0,$$
#
# with $L$ the mean squared error on the ten points. The condition on the right gives the gradient
# of a loss $L'$ on other points of the same function, whatever found $\phi^\star$:
#
# $$\frac{\mathrm{d} L'(\phi^\star)}{\mathrm{d}\theta}
# = \lambda\,(\nabla^2 L + \lambda)^{-1}\, \nabla L'(\phi^\star).$$
#
# This is one linear system per function, as in Blondel et al. 2021
# ([arXiv 2105.15183](https://arxiv.org/abs/2105.15183)), who name meta-learning as a use.
# `MDSENS_OUTER_STEPS` sets the length of the meta-training, `MDSENS_WIDTH` the size of the network.

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

from mdsens.implicit import custom_root, unrolled

jax.config.update("jax_enable_x64", True)

OUTER_STEPS = int(os.environ.get("MDSENS_OUTER_STEPS", "1000"))
WIDTH = int(os.environ.get("MDSENS_WIDTH", "40"))
TEST_TASKS = int(os.environ.get("MDSENS_TEST_TASKS", "200"))
SHOT_COUNTS = [int(n) for n in os.environ.get("MDSENS_SHOT_COUNTS", "1,2,5,10,20,50").split(",")]
STEP_COUNTS = [int(n) for n in os.environ.get("MDSENS_STEP_COUNTS", "1,5,20,100,400").split(",")]
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "meta_learning.png"
SHOTS, TASKS, PENALTY, STEP_SIZE = 10, 10, 1.0, 0.004

# %% [markdown]
# ## The functions and the network
#
# $y = A \sin(x - \varphi)$ with $A$ from 0.1 to 5, $\varphi$ from 0 to $\pi$ and $x$ from -5 to 5,
# as in MAML. The network has two hidden layers of 40 units, as there, but tanh instead of ReLU,
# for a solution has a derivative where the Hessian is continuous. Its output has a factor of 10:
# changes of $\phi$ are then small against $\theta$, and the inner problem is closer to convex.


# %%
def sample_tasks(key, tasks, shots, queries=10):
    """Points to adapt to, and points to judge by: (x, y) twice, a row per function."""
    keys = jax.random.split(key, 3)
    amplitude = jax.random.uniform(keys[0], (tasks, 1), minval=0.1, maxval=5.0)
    phase = jax.random.uniform(keys[1], (tasks, 1), maxval=jnp.pi)
    x = jax.random.uniform(keys[2], (tasks, shots + queries), minval=-5.0, maxval=5.0)
    y = amplitude * jnp.sin(x - phase)
    return (x[:, :shots], y[:, :shots]), (x[:, shots:], y[:, shots:])


SPLITS = np.cumsum([WIDTH, WIDTH, WIDTH**2, WIDTH, WIDTH])


def random_start(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    first = 3 * jax.random.normal(keys[0], (WIDTH,))
    places = jax.random.uniform(keys[1], (WIDTH,), minval=-3.0, maxval=3.0)
    second, third = jnp.split(jax.random.normal(keys[2], (WIDTH**2 + WIDTH,)), [WIDTH**2])
    return jnp.concatenate([first, places, second, jnp.zeros(WIDTH), third, jnp.zeros(1)])


def network(parameters, x):
    w1, b1, w2, b2, w3, b3 = jnp.split(parameters, SPLITS)
    hidden = jnp.tanh(x[:, None] / 5 * w1 + b1)
    hidden = jnp.tanh(hidden @ w2.reshape(WIDTH, WIDTH) / WIDTH**0.5 + b2)
    return 10 * (hidden @ w3 / WIDTH**0.5 + b3)


def loss(parameters, points):
    return jnp.mean((network(parameters, points[0]) - points[1]) ** 2)


# %% [markdown]
# ## Adapting, and its derivative
#
# With $J$ the derivative of the $K$ outputs, the Hessian is $\frac2K J^\top J$ and a part that
# grows with the misfits. The first part alone, plus $\lambda$, has an inverse that costs a
# $K \times K$ system:
#
# $$(\tfrac2K J^\top J + \lambda)^{-1} v
# = \tfrac1\lambda\,\big(v - J^\top (J J^\top + \tfrac{\lambda K}2)^{-1} J v\big).$$
#
# It makes the steps of a damped Gauss-Newton solver, which is never differentiated, and it
# preconditions the linear system of the derivative. `custom_root` puts the two together.


# %%
def objective(parameters, theta, points):
    return loss(parameters, points) + PENALTY / 2 * jnp.sum((parameters - theta) ** 2)


condition = jax.grad(objective)


def gauss_newton_inverse(parameters, points, shift):
    J = jax.jacrev(network)(parameters, points[0])
    inverse = jnp.linalg.inv(J @ J.T + shift * len(J) / 2 * jnp.eye(len(J)))
    return lambda v: (v - J.T @ (inverse @ (J @ v))) / shift


def gauss_newton(start, theta, points, tolerance=1e-5, most_steps=40):
    """The adapted parameters; and the norm of the gradient that was reached."""
    value_and_gradient = jax.value_and_grad(objective)

    def unfinished(state):
        (_, _, gradient), _, step = state
        return (jnp.linalg.norm(gradient) > tolerance) & (step < most_steps)

    def advance(state):
        (x, value, gradient), damping, step = state
        trial = x - gauss_newton_inverse(x, points, PENALTY + damping)(gradient)
        new_value, new_gradient = value_and_gradient(trial, theta, points)
        smaller = jnp.linalg.norm(new_gradient) < jnp.linalg.norm(gradient)
        better = (new_value < value) | (smaller & (new_value < value + 1e-10))
        new, old = (trial, new_value, new_gradient), (x, value, gradient)
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
        return kept, jnp.where(better, damping / 4, 4 * damping + PENALTY / 10), step + 1

    begin = (start, *value_and_gradient(start, theta, points)), jnp.zeros(()), 0
    (x, _, gradient), *_ = jax.lax.while_loop(unfinished, advance, begin)
    return x, jnp.linalg.norm(gradient)


implicit = custom_root(
    condition,
    has_aux=True,
    solve="minres",
    symmetric=True,
    definite=False,
    preconditioner=lambda x, theta, points: gauss_newton_inverse(x, points, PENALTY),
)
solve = implicit(gauss_newton)


def adapt(theta, points):
    return solve(theta, theta, points)[0]


# %% [markdown]
# At a minimum $\nabla^2 L + \lambda$ has no negative eigenvalue, and conjugate gradients would do.
# Before the solver has arrived it may have some: hence MINRES, which does not mind, also where 40
# steps were not enough.
#
# MAML's way is `unrolled`. Its start is a constant, so what is iterated is the change
# $\phi - \theta$, from zero. There is no penalty: that the steps are few is what keeps $\phi$ near.


# %%
def unroll(steps):
    def gradient_step(change, theta, points):
        return change - STEP_SIZE * jax.grad(loss)(theta + change, points)

    run = unrolled(gradient_step, steps=steps, checkpoints=False)(None)
    return lambda theta, points: theta + run(jnp.zeros_like(theta), theta, points)


def stay(theta, points):
    """No adaptation: one network for all functions."""
    return theta


# %% [markdown]
# ## Meta-training
#
# Adam (rate 0.01), 10 functions per outer step, each with 10 points to adapt to and 10 to judge by.
# An unrolled outer step is much cheaper here, and so it gets more of them. *One network for all* is
# the baseline of the MAML paper: trained on all functions at once, without adaptation. The error is
# the mean squared one on 100 other points of functions never seen, after adaptation.

# %%
METHODS = {
    "implicit": (adapt, OUTER_STEPS),
    "unrolled, 5 steps": (unroll(5), 5 * OUTER_STEPS),
    "unrolled, 1 step": (unroll(1), 5 * OUTER_STEPS),
    "one network for all": (stay, OUTER_STEPS),
}
SEGMENT = max(1, OUTER_STEPS // 10)
optimiser = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(0.01))
test_points = sample_tasks(jax.random.key(7), TEST_TASKS, SHOTS, 100)


@functools.cache
def adapting_each(adaptation):
    return jax.jit(jax.vmap(adaptation, (None, 0)))


loss_of_each = jax.jit(jax.vmap(loss))


def errors_of(adaptation, theta, tasks):
    """The error after adaptation, one per task."""
    points, others = tasks
    return loss_of_each(adapting_each(adaptation)(theta, points), others)


def meta_loss(adaptation, theta, tasks):
    return jnp.mean(errors_of(adaptation, theta, tasks))


def meta_train(adaptation, steps):
    """On the way: starts; and (outer steps, CPU seconds, test error after adaptation)."""

    def outer_step(carry, key):
        theta, state = carry
        tasks = sample_tasks(key, TASKS, SHOTS)
        gradient = jax.grad(lambda t: meta_loss(adaptation, t, tasks))(theta)
        change, state = optimiser.update(gradient, state)
        return (theta + change, state), None

    keys = jax.random.split(jax.random.key(1), (steps // SEGMENT, SEGMENT))
    theta = random_start(0)
    carry, seconds = (theta, optimiser.init(theta)), 0.0
    run = jax.jit(lambda c, k: jax.lax.scan(outer_step, c, k)[0]).lower(carry, keys[0]).compile()
    starts, history = [], []
    for done, part in enumerate(keys, start=1):
        began = time.process_time()
        carry = jax.block_until_ready(run(carry, part))
        seconds += time.process_time() - began
        error = meta_loss(adaptation, carry[0], test_points)
        starts.append(carry[0])
        history.append((done * SEGMENT, seconds, error))
    return starts, np.array(history)


starts, histories, learned = {}, {}, {"no meta-learning": random_start(0)}
for name, (adaptation, steps) in METHODS.items():
    starts[name], histories[name] = meta_train(adaptation, steps)
    learned[name] = starts[name][-1]
    done, seconds, error = histories[name][-1]
    print(f"{name}: {done:.0f} outer steps, {seconds:.1f} s of CPU time, test error {error:.3f}")

# %% [markdown]
# ## What the starts are worth
#
# All starts, adapted in the same way: to the solution of the regularised problem. (Nothing in it
# asks how a start was learned.)

# %%
errors = {name: np.asarray(errors_of(adapt, x, test_points)) for name, x in learned.items()}
for name, values in errors.items():
    print(f"{name}: mean test error {values.mean():.3f}, median {np.median(values):.3f}")

UNROLLED = "unrolled, 5 steps"
some = [at for at in (0, 1, 2, 4, 9, 19, 49) if at < len(starts[UNROLLED])]
solved_history = histories[UNROLLED][some]
solved_history[:, 2] = [meta_loss(adapt, starts[UNROLLED][at], test_points) for at in some]
for done, seconds, error in solved_history:
    print(f"{UNROLLED}, {done:.0f} outer steps, {seconds:.1f} s: {error:.3f}")

# %% [markdown]
# With other numbers of points than the ten of the training:

# %%
few_steps = METHODS[UNROLLED][0]
COMPARED = {
    "implicit": (adapt, "implicit"),
    "unrolled start, to the solution": (adapt, "unrolled, 5 steps"),
    "unrolled start, 5 steps": (few_steps, "unrolled, 5 steps"),
    "one network for all": (adapt, "one network for all"),
    "no meta-learning": (adapt, "no meta-learning"),
}
by_shots = {name: [] for name in COMPARED}
for shots in SHOT_COUNTS:
    tasks = sample_tasks(jax.random.key(8), TEST_TASKS // 2, shots, 100)
    for name, (adaptation, start) in COMPARED.items():
        by_shots[name].append(float(meta_loss(adaptation, learned[start], tasks)))
print("points          " + "".join(f"{shots:8d}" for shots in SHOT_COUNTS))
for name, values in by_shots.items():
    print(f"{name:32s}" + "".join(f"{value:8.3f}" for value in values))

# %% [markdown]
# ## Is the meta-gradient right?
#
# Central differences of the meta-loss along three random directions, with the inner problems solved
# to $10^{-10}$. And is the inner problem convex? The lowest eigenvalue of $\nabla^2 L$ at
# $\phi^\star$ must be above $-\lambda$.


# %%
def tight(theta, points):
    return implicit(lambda *a: gauss_newton(*a, tolerance=1e-10, most_steps=3000))(
        theta, theta, points
    )[0]


ten_tasks = sample_tasks(jax.random.key(13), TASKS, SHOTS)
exact_gradient = jax.jit(jax.grad(lambda theta: meta_loss(tight, theta, ten_tasks)))
directions = np.random.default_rng(0).normal(size=(3, random_start(0).size))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)


def gradient_error(theta, step=1e-4):
    slopes = directions @ exact_gradient(theta)
    above, below = (
        np.array([meta_loss(tight, theta + shift * d, ten_tasks) for d in directions])
        for shift in (step, -step)
    )
    judge = (above - below) / (2 * step)
    return float(jnp.linalg.norm(slopes - judge) / jnp.linalg.norm(judge))


@jax.jit
def lowest_eigenvalue(parameters, points):
    return jnp.linalg.eigvalsh(jax.hessian(loss)(parameters, points))[0]


gradient_norms = jax.jit(
    jax.vmap(lambda x, theta, points: jnp.linalg.norm(condition(x, theta, points)), (0, None, 0))
)
gradient_errors, lowest, solved = {}, {}, {}
for name in ("no meta-learning", "implicit"):
    theta = learned[name]
    gradient_errors[name] = gradient_error(theta)
    solutions = adapting_each(tight)(theta, ten_tasks[0])
    lowest[name] = np.array(
        [
            lowest_eigenvalue(
                solutions[task], jax.tree.map(lambda part, i=task: part[i], ten_tasks[0])
            )
            for task in range(4)
        ]
    )
    found = adapting_each(adapt)(theta, test_points[0])
    solved[name] = float(jnp.mean(gradient_norms(found, theta, test_points[0]) < 1e-5))
    print(
        f"{name}: meta-gradient off by {gradient_errors[name]:.1e} (relative); lowest eigenvalues "
        f"of the Hessian {np.round(lowest[name], 2)}; within 40 steps {solved[name]:.0%} solved"
    )

# %% [markdown]
# ## What an outer step costs
#
# Now both ways differentiate the *same* solver, gradient descent on the regularised problem with a
# fixed number of steps, and only the derivative differs. Time and memory (that which the compiled
# gradient of the meta-loss of 10 functions needs for intermediate results) are at the learned
# start; so is the error of the meta-gradient, against the one of the solved problem. A last line
# has the Gauss-Newton solver instead, as in the meta-training above.


# %%
def descend(steps, way):
    def descent(x, theta, points):
        return x - STEP_SIZE * condition(x, theta, points)

    def change_step(change, theta, points):
        return descent(theta + change, theta, points) - theta

    if way == "implicit":

        def run(start, *args):
            x = jax.lax.fori_loop(0, steps, lambda _, x: descent(x, *args), start)
            return x, None

        return lambda theta, points: implicit(run)(theta, theta, points)[0]
    run = unrolled(change_step, steps=steps, checkpoints=way != "unrolled, keeping all steps")(None)
    return lambda theta, points: theta + run(jnp.zeros_like(theta), theta, points)


WAYS = ("implicit", "unrolled, keeping all steps", "unrolled, keeping few steps")
theta = learned["implicit"]
exact = exact_gradient(theta)


def cost_of(adaptation):
    """CPU time (ms, the least of five), memory (MB) and relative error of a meta-gradient."""
    gradient = jax.grad(lambda t: meta_loss(adaptation, t, ten_tasks))
    compiled = jax.jit(gradient).lower(theta).compile()
    value, taken = compiled(theta), []
    for _ in range(5):
        began = time.process_time()
        jax.block_until_ready(compiled(theta))
        taken.append(1e3 * (time.process_time() - began))
    memory = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return min(taken), memory, float(jnp.linalg.norm(value - exact) / jnp.linalg.norm(exact))


costs = {way: np.array([cost_of(descend(n, way)) for n in STEP_COUNTS]) for way in WAYS}
solved_cost = cost_of(adapt)
REPORT = "{:.1f} ms, {:.1f} MB, meta-gradient off by {:.1e}"
for way in WAYS:
    for steps, cost in zip(STEP_COUNTS, costs[way], strict=True):
        print(f"{way}, {steps} steps: {REPORT.format(*cost)}")
print(f"implicit, solved by Gauss-Newton: {REPORT.format(*solved_cost)}")

# %% [markdown]
# ## The figure

# %%
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), constrained_layout=True)
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.45"


def title(axis, letter, text):
    axis.set_title(f"({letter}) {text}", loc="left", fontsize=10.5)


def number_ticks(axis, ticks):
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()


SHOWN = int(jnp.argmax(jnp.ptp(test_points[1][1], axis=1)))
(x, y), points = (part[SHOWN] for part in test_points[1]), [part[SHOWN] for part in test_points[0]]
x, y = x[jnp.argsort(x)], y[jnp.argsort(x)]
axes[0, 0].plot(x, y, color="0.75", lw=4, label="new function")
axes[0, 0].plot(x, network(learned["implicit"], x), ":", color=BLUE, label="learned start")
for name, colour, line, label in (
    ("implicit", BLUE, "-", "adapted to the points"),
    ("no meta-learning", GREY, "--", "no meta-learning, adapted"),
):
    adapted = adapting_each(adapt)(learned[name], test_points[0])[SHOWN]
    axes[0, 0].plot(x, network(adapted, x), line, color=colour, label=label)
axes[0, 0].plot(*points, "ko", ms=5)
axes[0, 0].set(xlabel="$x$", ylabel="$y$", ylim=(-6, 11.5), yticks=[-5, 0, 5])
axes[0, 0].legend(frameon=False, fontsize=9, loc="upper left")
title(axes[0, 0], "a", "adapting to ten points")

STYLES = {
    "implicit": (BLUE, "-", "o"),
    "unrolled, 5 steps": (RED, "--", "^"),
    "unrolled, 1 step": (GREEN, ":", "s"),
}
for column, (letter, label) in enumerate((("b", "outer steps"), ("c", "CPU time (s)"))):
    axis = axes[0, column + 1]
    for name, (colour, line, marker) in STYLES.items():
        history, few = histories[name], max(1, len(histories[name]) // 10)
        axis.plot(
            history[:, column], history[:, 2], ls=line, marker=marker, color=colour, label=name,
            markevery=few, mfc="none" if marker != "o" else None,
        )  # fmt: skip
    axis.plot(
        solved_history[:, column], solved_history[:, 2], "-.v", color=RED,
        label="unrolled, 5 steps,\nadapted to the solution",
    )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel=label)
    title(axis, letter, f"meta-training, by {'steps' if column == 0 else 'time'}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.set_ylim(0.011, 6)
axes[0, 1].set(ylabel="test error after adaptation (mean squared)")
axes[0, 1].legend(frameon=False, fontsize=9, loc="lower left")
axes[0, 2].sharey(axes[0, 1])

SHOT_STYLES = dict(
    zip(COMPARED, ((BLUE, "-", "o"), (RED, "-.", "v"), (RED, "--", "^"), (GREY, ":", "s"),
                   ("k", "--", "x")), strict=True)
)  # fmt: skip
for name, (colour, line, marker) in SHOT_STYLES.items():
    axes[1, 0].plot(
        SHOT_COUNTS, by_shots[name], ls=line, marker=marker, color=colour, label=name,
        mfc="none" if marker != "o" else None,
    )  # fmt: skip
axes[1, 0].set(xscale="log", yscale="log", xlabel="points to adapt to")
axes[1, 0].set(ylabel="test error after adaptation (mean squared)", ylim=(3e-4, 60))
axes[1, 0].yaxis.set_major_formatter("{x:g}")
number_ticks(axes[1, 0], SHOT_COUNTS)
axes[1, 0].legend(frameon=False, fontsize=8.5, loc="lower left")
title(axes[1, 0], "d", "points, trained with ten")

WAY_STYLES = dict(zip(WAYS, ((BLUE, "-", "o"), (RED, "--", "^"), (GREEN, ":", "s")), strict=True))
GAUSS_NEWTON = "implicit, solved by Gauss-Newton"
for axis, letter, column, text in (
    (axes[1, 1], "e", 0, "CPU time of a meta-gradient (ms)"),
    (axes[1, 2], "f", 1, "memory of a meta-gradient (MB)"),
):
    for way, (colour, line, marker) in WAY_STYLES.items():
        axis.plot(
            STEP_COUNTS, costs[way][:, column], ls=line, marker=marker, color=colour, label=way,
            mfc="none" if marker != "o" else None,
        )  # fmt: skip
    axis.axhline(solved_cost[column], color="k", ls="-.", lw=1, label=GAUSS_NEWTON)
    axis.set(xscale="log", yscale="log", xlabel="number of inner steps", ylabel=text)
    axis.yaxis.set_major_formatter("{x:g}")
    number_ticks(axis, STEP_COUNTS)
    title(axis, letter, f"{'time' if letter == 'e' else 'memory'}, same solver")
axes[1, 2].set_ylim(0.4, 4000)
axes[1, 2].legend(frameon=False, fontsize=9, loc="upper left")
figure.savefig(FIGURE, dpi=160)
plt.show()

# %% [markdown]
# ## What is true
#
# - The implicit meta-gradient is right: it agrees with finite differences (above).
# - The loss of a task is not convex, not even where its regularised problem is solved: it has
#   negative curvature there, in the tasks looked at never below $-\lambda$. Meta-learning makes the
#   problem easier: from the learned start the curvature is less negative, and more tasks are solved
#   in 40 steps.
# - *Memory* (f): with the implicit derivative it does not depend on the number of inner steps.
#   Unrolled, it grows in proportion to them, or with their square root where iterates are computed
#   anew. This is what Rajeswaran et al. claim: no more memory than one inner gradient needs, up to
#   a small factor.
# - *Time* (e): unrolling is the cheaper for few inner steps, the implicit derivative for many. It
#   also leaves the choice of the solver free: Gauss-Newton gives an accurate meta-gradient in the
#   time of some tens of unrolled steps, where hundreds of steps of gradient descent leave it
#   inaccurate both ways.
# - After a handful of inner steps an implicit meta-gradient is worthless, and slow: the condition
#   that it differentiates does not hold yet. The unrolled one is far from that of the solution,
#   too, but right for the few steps that it differentiates, which is all that MAML asks.
# - An outer step of implicit MAML lowers the error by more than one of unrolled MAML (b), each
#   judged after its own adaptation. But *by time* (c) five unrolled steps are about as good
#   here; and the start that they have learned, adapted to the solution, is better than that of
#   implicit MAML, after a fraction of its time. What makes implicit MAML attractive, memory and
#   long adaptation, is not what limits a network as small as this.
# - Both learned starts are far better than one network for all functions, as Finn et al. report,
#   and than a random start. With one or two points instead of the ten of the training (d) none is
#   good; implicit MAML, trained to fit its points closely, is not the best there.
#
# What differs from the papers: tanh instead of ReLU and a scaled network; 10 functions per outer
# step and a few thousand outer steps, where Finn et al. take tens of thousands; unrolled steps of
# size 0.004 (they: 0.01; with 0.008 the training of the scaled network begins by diverging); one
# random seed.
# Rajeswaran et al. test on the recognition of images from few examples, which cannot be had here:
# their gains in accuracy are not examined.
