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
# # The derivative of a solution, in one dimension
#
# A solver finds $x^\star$; we want to know how $x^\star$ moves when the problem changes. Here is
# the whole idea on the smallest example, a spring that stiffens as it is stretched. Under a load
# $\theta$ it comes to rest where the force vanishes,
#
# $$F(x, k, \theta) = k\,x + x^3 - \theta = 0 .$$
#
# This equation happens to have a solution in closed form, so everything below can be judged. The
# method is that of Blondel et al. 2021 ([arXiv 2105.15183](https://arxiv.org/abs/2105.15183)).

# %%
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize

from mdsens.implicit import custom_root, unrolled

jax.config.update("jax_enable_x64", True)

STEPS = int(os.environ.get("MDSENS_STEPS", "60"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "one_dimensional_tour.png"


def force(x, stiffness, load):
    return stiffness * x + x**3 - load


def closed_form(stiffness, load):
    scale = jnp.sqrt(stiffness / 3)
    return 2 * scale * jnp.sinh(jnp.arcsinh(load / (2 * scale**3)) / 3)


# %% [markdown]
# ## A solver that nobody can differentiate
#
# SciPy's root finder knows nothing about derivatives: it brackets, halves and interpolates. One
# line above it, `custom_root(force)`, says what its answer fulfils. That is all.


# %%
@custom_root(force)
def rest(start, stiffness, load):
    return scipy.optimize.brentq(force, 0.0, 10.0, args=(float(stiffness), float(load)), xtol=1e-15)


k, load = 1.0, 2.5
x = rest(jnp.zeros(()), k, load)
print(f"at rest at x = {x:.15f}; closed form {closed_form(k, load):.15f}")

# %% [markdown]
# ## Why it works
#
# Move the load a little, and the resting place follows so that the force stays zero.
# Differentiating $F(x^\star(\theta), \theta) = 0$,
#
# $$\frac{\partial F}{\partial x}\,\frac{\mathrm{d}x^\star}{\mathrm{d}\theta}
#   + \frac{\partial F}{\partial\theta} = 0
#   \quad\Longrightarrow\quad
#   \frac{\mathrm{d}x^\star}{\mathrm{d}\theta} = \frac{1}{k + 3\,{x^\star}^2} .$$
#
# Nothing in this formula remembers how $x^\star$ was found. By hand, and by `custom_root`:

# %%
by_hand = 1 / (k + 3 * x**2)
implicit = jax.grad(rest, argnums=2)(jnp.zeros(()), k, load)
exact = jax.grad(closed_form, argnums=1)(k, load)
print(f"by hand {by_hand:.15f}\nimplicit {implicit:.15f}\nclosed form {exact:.15f}")

# %% [markdown]
# ## Two other ways
#
# **Finite differences** solve twice more and subtract: half of the digits are lost.
# **Unrolling** differentiates the steps of a solver, here $x \leftarrow x - \eta F(x)$. Each step
# must be written in JAX, and the derivative is only as good as the number of steps is large.

# %%
ETA, h = 0.1, 1e-6


def descend(x, stiffness, load):
    return x - ETA * force(x, stiffness, load)


def unrolled_derivative(steps):
    solver = unrolled(descend, steps=steps)(None)
    return jax.grad(solver, argnums=2)(jnp.zeros(()), k, load)


start = jnp.zeros(())
ways = {
    "finite differences": (rest(start, k, load + h) - rest(start, k, load - h)) / (2 * h),
    "unrolled, 5 steps": unrolled_derivative(5),
    f"unrolled, {STEPS} steps": unrolled_derivative(STEPS),
    "implicit": implicit,
}
errors = {name: abs(float(value / exact) - 1) for name, value in ways.items()}
for name, value in ways.items():
    print(f"{name:22s} {value:.12f}   relative error {errors[name]:.0e}")

# %% [markdown]
# ## Forward and reverse
#
# Forward mode pushes one direction of the parameters through; reverse mode pulls one number back to
# all parameters. Both are one linear solve, here a division. A stiffer spring gives less:
# $\mathrm{d}x^\star/\mathrm{d}k = -x^\star / (k + 3 {x^\star}^2)$.

# %%
forward = jax.jvp(lambda k, load: rest(start, k, load), (k, load), (1.0, 0.0))[1]
reverse = jax.grad(rest, argnums=(1, 2))(start, k, load)
print(f"dx/dk forward {forward:.12f}, reverse {reverse[0]:.12f}, by hand {-x * by_hand:.12f}")

# %% [markdown]
# ## Second derivatives, many loads, compiled
#
# The rule is itself differentiable, so that curvatures come for free; by hand the second derivative
# is $-6 x^\star (\mathrm{d}x^\star/\mathrm{d}\theta)^3$. `jit` and `vmap` call SciPy back when the
# compiled code runs.

# %%
second = jax.hessian(rest, argnums=2)(start, k, load)
print(f"second derivative {second:.12f}, by hand {-6 * x * by_hand**3:.12f}")
loads = jnp.array([0.0, 0.8, 2.5, 5.0])
slopes = jax.jit(jax.vmap(jax.grad(rest, argnums=2), in_axes=(None, None, 0)))(start, k, loads)
largest = float(jnp.max(jnp.abs(slopes * (k + 3 * closed_form(k, loads) ** 2) - 1)))
print(f"four slopes at once: largest relative error {largest:.0e}")

# %% [markdown]
# ## The figure
#
# Left: where the spring rests, and the tangents that the four derivatives give. Right: how many
# steps the unrolled derivative needs. The dashed lines are the other two ways.

# %%
counts = np.arange(1, STEPS + 1)


def trajectory(load):
    def step(x, _):
        x = descend(x, k, load)
        return x, x

    return jax.lax.scan(step, jnp.zeros(()), None, length=STEPS)[1]


by_step = np.abs(np.asarray(jax.jacfwd(trajectory)(load)) / float(exact) - 1)

plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), constrained_layout=True)
fine = jnp.linspace(-0.9, 6.6, 300)
left.plot(fine, closed_form(k, fine), color="0.55", lw=3.5, alpha=0.6, label="closed form")
for index, (at, slope) in enumerate(zip(np.asarray(loads), np.asarray(slopes), strict=True)):
    ends = np.array([-1.0, 1.0]) / np.hypot(1.0, 2 * slope)  # of equal length on paper
    height = float(rest(start, k, at))
    left.plot(at + ends, height + slope * ends, color="#D55E00", lw=1.8)
    left.plot(at, height, "o", color="#0072B2", ms=5, label="SciPy's root" if index == 0 else None)
left.plot([], [], color="#D55E00", lw=1.8, label="implicit derivative")
left.set(xlabel=r"load $\theta$ (reduced)", ylabel=r"resting place $x^\star$ (reduced)")
left.legend(frameon=False)

right.semilogy(counts, by_step, "o-", color="#009E73", ms=3.5, lw=1, label="unrolled")
floor = np.finfo(float).eps / 2
right.axhline(
    errors["finite differences"], color="0.35", ls=":", lw=1.5, label="finite differences"
)
right.axhline(max(errors["implicit"], floor), color="#D55E00", ls="--", lw=1.8, label="implicit")
right.set(
    xlabel="number of unrolled steps",
    ylabel=r"relative error of $\mathrm{d}x^\star/\mathrm{d}\theta$",
)
right.legend(frameon=False, loc="upper right")
figure.savefig(FIGURE, dpi=160)
plt.show()
print(f"unrolled: error {by_step[1]:.2f} after 2 steps, {by_step[4]:.2f} after 5")

# %% [markdown]
# The implicit derivative is right to the last digits as soon as the root is; it cost one solve.
# The same line in front of a solver works for a thousand unknowns, and for a crystal: see
# `jacobian_precision` for what happens when the root is only nearly right, and
# `curse_of_unrolling` for why the error of the unrolled derivative goes up before it goes down.
