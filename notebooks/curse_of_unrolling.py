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
# # The curse of unrolling
#
# The derivative of a solution can be had by differentiating every step of the solver. Both
# converge, the iterates to the solution and their derivatives to its derivative. But not alike: the
# error of the derivative may first *grow*, for as long as the iterates already look good. Scieur et
# al. 2022 ([arXiv 2209.13271](https://arxiv.org/abs/2209.13271)) call this the curse of unrolling
# and explain it on quadratic functions.
#
# This notebook follows them: one dimension, fifty dimensions, the choice of the step size,
# Chebyshev's method, polynomials made for the purpose; then the remedies of Mehmood et al. 2026
# ([arXiv 2602.19733](https://arxiv.org/abs/2602.19733)), and in the end a crystal relaxed by
# gradient descent and by FIRE. Implicit differentiation stands beside it, and knows no curse.
#
# `MDSENS_REPEAT` is the size of the crystal (3 unit cells a side), `MDSENS_STEPS` the steps of its
# minimisers (300).

# %%
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk

import mdsens
from mdsens.implicit import root_jvp, unrolled
from mdsens.particles import find_edges
from mdsens.relaxation import FIRE, GradientDescent, first_state

REPEAT = int(os.environ.get("MDSENS_REPEAT", "3"))
STEPS = int(os.environ.get("MDSENS_STEPS", "300"))
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "curse_of_unrolling.png"

# %% [markdown]
# ## One dimension says it all
#
# Minimise $\tfrac12(\lambda + \theta) x^2 - b x$ at $\theta = 0$ with steps of size $h$, from $x_0
# = 0$. With $\rho = 1 - h\lambda$ the iterate errs by a factor $\rho^t$. The product rule gives the
# derivative a factor more, because each of $t$ steps depends on $\theta$:
#
# $$\frac{x_t - x^\star}{x_0 - x^\star} = \rho^t, \qquad
#   \frac{\partial x_t - \partial x^\star}{\partial x_0 - \partial x^\star}
#   = \rho^{t-1}\,\bigl(1 + h\lambda\,(t-1)\bigr) .$$
#
# For $h\lambda \le 1$ the second factor never wins. For a step that overshoots, $h\lambda > 1$, it
# does: $|\rho|$ is near 1 again, and the derivative grows like $t$ before it decays.


# %%
def closed_form(overshoot, step):
    """Relative error of the derivative after a number of steps, with overshoot = h lambda."""
    return np.abs(1 - overshoot) ** (step - 1.0) * (1 + overshoot * (step - 1))


def descend(x, theta, step_size):
    return x - step_size * ((1.0 + theta) * x - 1.0)


error_by_step = {}
for overshoot in (0.5, 1.5, 1.98):
    slopes = []
    for steps in range(1, 6):
        solver = unrolled(descend, steps=steps)(None)
        slopes.append(jax.jvp(solver, (0.0, 0.0, overshoot), (0.0, 1.0, 0.0))[1])
    error_by_step[overshoot] = np.abs(np.array(slopes) + 1.0)
    formula = closed_form(overshoot, np.arange(1, 6))
    print(f"h lambda = {overshoot}: unrolled {np.round(error_by_step[overshoot], 3)}")
    print(f"                 formula {np.round(formula, 3)}")

# %% [markdown]
# ## Fifty dimensions
#
# The quadratic $\tfrac12 x^\top (H_0 + \theta) x - b^\top x$ with the eigenvalues of $H_0$ spread
# from $\ell = 0.01$ to $L = 1$, written in the basis of its eigenvectors. The start is $x_0 = 0$
# and $b = H_0^2 w$, so that the derivative $\partial x^\star = -w$ has something in every
# eigenvector, the stiff ones too: these are the ones that overshoot.

# %%
low, high = 0.01, 1.0
spectrum = np.linspace(low, high, 50)
w = np.random.default_rng(0).normal(size=50)
b, origin, ITERATIONS = spectrum**2 * w, jnp.zeros(50), 1000
solution, jacobian = spectrum * w, -w


def gradient(x, theta):
    return (spectrum + theta) * x - b


@jax.jit
def gradient_descent(theta, step_size, start):
    def step(x, _):
        return (x - step_size * gradient(x, theta), x)

    return jax.lax.scan(step, start, None, length=ITERATIONS + 1)[1]


def errors_of(method, start=origin):
    """Relative errors of all iterates and of their derivatives."""
    x, dx = jax.jvp(method, (0.0,), (1.0,))
    distance = np.linalg.norm(x - solution, axis=1) / np.linalg.norm(solution)
    return distance, np.linalg.norm(dx - jacobian, axis=1) / np.linalg.norm(jacobian)


cautious, fast = 1 / high, 2 / (high + low)
short = errors_of(lambda theta: gradient_descent(theta, cautious, origin))
long = errors_of(lambda theta: gradient_descent(theta, fast, origin))

# %% [markdown]
# With the step $2/(L+\ell)$, the fastest for the iterates, the derivative gets worse before it gets
# better. With $1/L$ it never does, but in the end it is slower. The paper bounds the first by $(2t
# - 1)\,\rho^{t-1}$ with $\rho = (L-\ell)/(L+\ell)$, the closed form for the worst eigenvector. The
# implicit derivative at the same iterates, one solve at each, falls like the iterates.

# %%
counts = np.arange(ITERATIONS + 1)
rate = (high - low) / (high + low)
bound = np.abs(2 * counts[1:] - 1) * rate ** (counts[1:] - 1.0)


@jax.jit
def implicit_at(iterates):
    return jax.lax.map(lambda x: root_jvp(gradient, x, (0.0,), (1.0,), symmetric=True), iterates)


at_iterates = implicit_at(gradient_descent(0.0, fast, origin))
implicit = np.linalg.norm(at_iterates - jacobian, axis=1) / np.linalg.norm(jacobian)


def steps_until(errors, goal):
    """The first step after which the error stays below the goal."""
    return len(errors) - int(np.argmax(errors[::-1] >= goal))


def burn_in(error):
    """The last step at which the error is not yet below that at the start."""
    return int(np.flatnonzero(error >= error[0] * (1 - 1e-12))[-1])


for name, (distance, error) in {"1/L": short, "2/(L+l)": long}.items():
    print(
        f"step {name:8s}: derivative's error peaks at {error.max():.2f} after {error.argmax()} "
        f"steps (the iterate's is {distance[error.argmax()]:.2f} there); "
        f"burn-in {burn_in(error)} steps"
    )
print(f"implicit: largest error {implicit.max():.2f}, at the start")
share = long[1][1:] / bound
print(f"the bound peaks at {bound.max():.0f}; error / bound {share.min():.2f} to {share.max():.2f}")
crossing = int(np.flatnonzero(long[1] > short[1])[-1]) + 1
print(f"the derivatives of the two step sizes cross after {crossing} steps")

# %% [markdown]
# ## The trade-off
#
# The closed form, mode by mode, gives the error for every step size: how high it rises and for how
# long, and what is left of it after a number of steps.

# %%
sizes = np.concatenate([np.linspace(0.3, 1.9, 81), 2 - np.geomspace(0.099, 0.002, 40)])
times = np.arange(1, 4001)[:, None]
peaks, lengths = [], []
for size in sizes:
    overshoots = size / high * spectrum
    error = np.linalg.norm(closed_form(overshoots, times) * jacobian, axis=1)
    error /= np.linalg.norm(jacobian)
    peaks.append(error.max())
    lengths.append(burn_in(np.concatenate([[1.0], error])))
rising = sizes[np.argmax(np.array(peaks) > 1 + 1e-12)]
print(f"the error rises above that at the start from h = {rising:.2f} / L on")

# %%
budgets, left_at_fast = {}, {}
for steps in (20, 200, 1000):
    overshoots = sizes[:, None] / high * spectrum
    iterate = np.abs(1 - overshoots) ** steps * solution
    derivative = closed_form(overshoots, steps) * jacobian
    budgets[steps] = (
        np.linalg.norm(iterate, axis=1) / np.linalg.norm(solution),
        np.linalg.norm(derivative, axis=1) / np.linalg.norm(jacobian),
    )
    best = [int(np.argmin(errors)) for errors in budgets[steps]]
    modes = closed_form(fast * spectrum, steps) * jacobian
    left_at_fast[steps] = np.linalg.norm(modes) / np.linalg.norm(jacobian)
    print(
        f"{steps:4d} steps: best h = {sizes[best[0]]:.2f}/L for the iterate, "
        f"{sizes[best[1]]:.2f}/L for the derivative, which errs by "
        f"{budgets[steps][1][best[1]]:.1e} there and by {left_at_fast[steps]:.1e} with 2/(L+l)"
    )

# %% [markdown]
# ## Faster methods
#
# A method that takes $t$ gradients has $x_t - x^\star = P_t(H)(x_0 - x^\star)$ for a polynomial
# with $P_t(0) = 1$. Differentiating this as the paper does gives here
#
# $$\partial x_t - \partial x^\star
#   = \bigl(P_t(H) - H P_t'(H)\bigr)(\partial x_0 - \partial x^\star) .$$
#
# Chebyshev's method makes $P_t$ as small as possible on $[\ell, L]$; nobody has asked it about
# $P_t'$, and it pays. Asking for both, by minimising
# $\int P_t^2 + \eta P_t'^2\,\mathrm{d}\lambda$, leads to orthogonal polynomials in a Sobolev inner
# product. For a uniform density they follow from those of Legendre, and the method takes a few
# vectors of memory.


# %%
@jax.jit
def chebyshev(theta):
    ratio = (high + low) / (high - low)

    def step(carry, _):
        x, before, weight = carry
        after = x + (weight - 1) * (x - before) - weight * fast * gradient(x, theta)
        return (after, x, 1 / (1 - weight / (2 * ratio) ** 2)), x

    first = origin - fast * gradient(origin, theta)
    carry = (first, origin, 1 / (1 - 0.5 / ratio**2))
    rest = jax.lax.scan(step, carry, None, length=ITERATIONS)[1]
    return jnp.concatenate([origin[None], rest])


SOBOLEV_ITERATIONS = 150
eta = np.sum(solution**2) / np.sum(jacobian**2)


def sobolev(theta):
    """Iterates whose polynomials are least in the Sobolev norm, by recurrence."""
    shift, scale = (high + low) / (high - low), 2 / (high - low)
    legendre, value, norm = [1.0, shift], [1.0, shift], [2.0, 2 / 3 + 2 * eta * scale**2]
    y = [origin, origin - scale / shift * gradient(origin, theta)]  # of Legendre's polynomials
    z = list(y)  # of Sobolev's
    total, weight = norm[0] ** -1 * z[0], norm[0] ** -1
    iterates = [origin]
    for n in range(1, SOBOLEV_ITERATIONS + 1):
        if n > 1:
            p, q = legendre[-1], legendre[-2]
            legendre.append(((2 * n - 1) * shift * p - (n - 1) * q) / n)
            down = shift * y[-1] - scale * gradient(y[-1], theta)
            y.append(((2 * n - 1) * p * down - (n - 1) * q * y[-2]) / (n * legendre[n]))
            overlap = 2 / (2 * n - 3)
            square = 2 / (2 * n + 1) + overlap + 2 * eta * scale**2 * (2 * n - 1)
            back = overlap / norm[n - 2]
            norm.append(square - overlap * back)
            value.append(legendre[n] - q + back * value[n - 2])
            z.append(
                (legendre[n] * y[n] - q * y[n - 2] + back * value[n - 2] * z[n - 2]) / value[n]
            )
        total, weight = total + value[n] ** 2 / norm[n] * z[n], weight + value[n] ** 2 / norm[n]
        iterates.append(total / weight)
    return jnp.stack(iterates)


fastest = errors_of(chebyshev)
balanced = errors_of(sobolev)
for name, (distance, error) in {"Chebyshev": fastest, "Sobolev": balanced}.items():
    print(
        f"{name:9s}: derivative's error peaks at {error.max():.2f} after {error.argmax()} steps; "
        f"1 % after {steps_until(distance, 0.01)} steps for the iterate, "
        f"{steps_until(error, 0.01)} for the derivative"
    )

# %% [markdown]
# ## Remedies
#
# The growth comes from the early steps: they start far from the solution, and the derivative
# carries their error along. Mehmood et al. propose not to differentiate them. `unrolled` does it
# with `start="solution"`: run a solver, then differentiate some steps more. And a warm start, from
# the solution of a neighbouring problem as in the inner loop of a bilevel optimisation, has no
# early steps: here from the solution at $\theta = 0.005$.

# %%
path = gradient_descent(0.0, fast, origin)
dropped = {}
for skipped in (50, 200):
    _, error = errors_of(lambda theta, at=path[skipped]: gradient_descent(theta, fast, at))
    dropped[skipped] = (skipped + counts, error)

neighbour = jnp.asarray(b / (spectrum + 0.005))
warm = errors_of(lambda theta: gradient_descent(theta, fast, neighbour), neighbour)[1]


@unrolled(lambda x, theta: x - fast * gradient(x, theta), steps=100, start="solution")
def fifty_steps_then_hundred(start, theta):
    return gradient_descent(theta, fast, start)[50]


tangent = jax.jvp(lambda theta: fifty_steps_then_hundred(origin, theta), (0.0,), (1.0,))[1]
truncated = np.linalg.norm(tangent - jacobian) / np.linalg.norm(jacobian)
print(f"error after 150 steps, all differentiated: {long[1][150]:.3f}")
print(f"               the first 50 steps dropped: {truncated:.3f}")
print(f"                          from a warm start: {warm[150]:.3f}")
print(f"                                 implicit: {implicit[150]:.3f}")
for skipped, (at, after) in dropped.items():
    print(
        f"the first {skipped:3d} dropped: rises again to {after[at > skipped + 25].max():.2f}, "
        f"instead of {long[1].max():.2f}, and {after[at == 1000][0]:.1e} instead of "
        f"{long[1][1000]:.1e} after 1000 steps"
    )

# %% [markdown]
# ## A crystal
#
# Is a relaxation in physics cursed? Solid argon with a vacancy, rattled by 0.05 angstrom, and the
# derivative of the relaxed positions with respect to the $\sigma$ of Lennard and Jones. The Hessian
# at the minimum gives the two step sizes for gradient descent; FIRE, what people use, has momentum
# and adapts its time step.

# %%
atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(REPEAT)
del atoms[0]
atoms.rattle(0.05, seed=1)
system = mdsens.System.from_ase(atoms)
potential = mdsens.potentials.LennardJones(epsilon=0.0104, sigma=3.405, cutoff=7.5)  # eV, angstrom

minimum = mdsens.relax(system, potential, method="fire", fmax=1e-12)
sensitivity = mdsens.sensitivity(minimum, wrt="sigma", error_estimate=False)
truth = np.asarray(sensitivity.positions["sigma"])
stiffness = np.linalg.eigvalsh(minimum.dense_jacobian)[3:]  # without the three translations
softest, stiffest = float(stiffness[0]), float(stiffness[-1])
print(f"{system.atom_count} atoms, eigenvalues {softest:.3f} to {stiffest:.3f} eV/angstrom^2")

edge_list = find_edges(
    np.asarray(system.positions), np.asarray(system.cell), system.pbc, 7.5, skin=1.0
)
landscape = eqx.tree_at(
    lambda given: (given.system, given.edge_list), minimum.landscape, (system, edge_list)
)


# %%
@eqx.filter_jit
def follow(minimiser):
    """Positions and their tangents at every step."""

    def with_potential(changed):
        return eqx.tree_at(lambda given: given.potential, landscape, changed)

    def first(changed):
        return first_state(minimiser, with_potential(changed), system.positions)

    def one_step(carry, _):
        def step(state, changed):
            return minimiser.step(with_potential(changed), state)

        after = jax.jvp(step, (carry[0], potential), (carry[1], direction))
        return after, (carry[0].q, carry[1].q)

    direction = potential.direction("sigma")
    start = jax.jvp(first, (potential,), (direction,))
    return jax.lax.scan(one_step, start, None, length=STEPS)[1]


def crystal_errors(minimiser):
    """Relative errors of the positions and of their derivatives, from the start on."""
    positions, tangents = (np.asarray(array) for array in follow(minimiser))
    positions = np.concatenate([np.asarray(system.positions)[None], positions])
    tangents = np.concatenate([np.zeros_like(tangents[:1]), tangents])
    errors = []
    for array, reference in ((positions, np.asarray(minimum.positions)), (tangents, truth)):
        difference = array - reference
        difference -= difference.mean(axis=1, keepdims=True)  # no drift of the whole
        norms = np.linalg.norm(difference, axis=(1, 2))
        errors.append(norms / norms[0])
    return errors


crystal = {
    "gradient descent, 1/L": crystal_errors(GradientDescent(step_size=1 / stiffest)),
    "gradient descent, 2/(L+l)": crystal_errors(
        GradientDescent(step_size=2 / (stiffest + softest))
    ),
    "FIRE": crystal_errors(FIRE()),
}
for name, (distance, error) in crystal.items():
    peak, last = error.argmax(), burn_in(error)
    print(
        f"{name:26s}: derivative's error peaks at {error.max():6.2f} after {peak:3d} steps; "
        f"burn-in {last:3d} steps, when the positions' error is {distance[last]:.0e}"
    )

# %% [markdown]
# ## The figure
#
# Errors are relative to those at the start. Thin dotted lines are those of the iterates, in the
# colour of the derivatives that belong to them.

# %%
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#AA4499"
plt.rcParams.update({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False})
figure, panels = plt.subplots(2, 3, figsize=(12, 7), constrained_layout=True)
(growth, rise, trade), (methods, cures, relaxation) = panels


def draw(panel, pair, color, style, label):
    panel.semilogy(pair[1], color=color, ls=style, lw=2, label=label)
    panel.semilogy(pair[0], color=color, ls=":", lw=1)


draw(growth, long, ORANGE, "-", r"$h = 2/(L+\ell)$")
draw(growth, short, BLUE, "--", r"$h = 1/L$")
growth.semilogy(counts[1:], bound, color="0.5", ls="-.", lw=1, label=r"bound for $2/(L+\ell)$")
growth.semilogy(implicit, color="k", lw=1.2, label="implicit at the iterates\nof the first")
growth.set(title="a. gradient descent", xlabel="step", ylim=(1e-7, 2e4))

for (steps, errors), color, style in zip(
    budgets.items(), (BLUE, GREEN, ORANGE), ("--", "-.", "-"), strict=True
):
    trade.semilogy(sizes, errors[1], color=color, ls=style, lw=2, label=f"after {steps} steps")
    trade.semilogy(sizes, errors[0], color=color, ls=":", lw=1)
    for error in errors:
        trade.plot(sizes[np.argmin(error)], error.min(), "o", color=color, ms=4.5)
trade.axvline(fast * high, color="0.5", lw=0.8, zorder=0)
trade.text(fast * high - 0.02, 30, r"$h = 2/(L+\ell)$", ha="right", fontsize=8.5)
trade.set(title="c. what is left (dots: best)", xlabel=r"$h\,L$", ylim=(1e-12, 200))

visible = sizes >= 1
rise.semilogy(
    sizes[visible], np.array(lengths)[visible], color=ORANGE, lw=2, label="length, in steps"
)
rise.semilogy(
    sizes[visible], np.array(peaks)[visible], color=BLUE, ls="--", lw=2, label="peak error"
)
rise.axvline(fast * high, color="0.5", lw=0.8, zorder=0)
rise.text(fast * high - 0.02, 700, r"$h = 2/(L+\ell)$", ha="right", fontsize=8.5)
rise.set(title="b. the burn-in", xlabel=r"$h\,L$", ylabel="steps, or relative error")

draw(methods, fastest, ORANGE, "-", "Chebyshev")
draw(methods, balanced, BLUE, "--", "Sobolev")
methods.semilogy(long[1], color="0.6", lw=1.2, label=r"gradient descent, $2/(L+\ell)$")
methods.set(title="d. faster methods", xlabel="step", xlim=(-3, 150), ylim=(1e-7, 2e4))

cures.semilogy(long[1], color=ORANGE, lw=2, label="all steps differentiated")
for (skipped, (at, error)), style in zip(dropped.items(), ("--", "-."), strict=True):
    cures.semilogy(at, error, color=GREEN, ls=style, lw=1.5, label=f"the first {skipped} not")
cures.semilogy(warm, color=BLUE, ls=(0, (5, 1, 1, 1, 1, 1)), lw=1.5, label="all, from a warm start")
cures.semilogy(implicit, color="k", lw=1.2, label="implicit")
cures.set(title="e. remedies", xlabel="step", xlim=(-20, 1000), ylim=(1e-7, 2e4))

names = {"gradient descent, 2/(L+l)": r"gradient descent, $2/(L+\ell)$"}
for (name, pair), color, style in zip(
    crystal.items(), (BLUE, ORANGE, PINK), ("--", "-", "-."), strict=True
):
    draw(relaxation, pair, color, style, names.get(name, name))
relaxation.set(title=f"f. {system.atom_count} argon atoms", xlabel="step", ylim=(1e-7, 2e4))

for panel in panels.flat:
    panel.legend(frameon=False, loc="upper right", fontsize=8.5)
    panel.axhline(1.0, color="0.8", lw=0.8, zorder=0)
rise.legend(frameon=False, loc="upper left", fontsize=8.5)
trade.legend(frameon=False, loc="lower left", fontsize=8.5)
for panel in panels[:, 0]:
    panel.set_ylabel("relative error")
figure.savefig(FIGURE, dpi=160)
plt.show()

# %% [markdown]
# ## What is true
#
# - **The burn-in is real** (a): with the step that is fastest for the iterates, the error of the
#   unrolled derivative rises to 7.6 times that at the start, while that of the iterate has fallen
#   to an eighth. It takes 226 steps to be back where it began. The paper's bound holds; it reckons
#   with the worst eigenvector, so that it is several times too large here.
# - **Peak and length diverge** as $h$ goes to $2/L$ (b): "an arbitrarily long burn-in phase", in
#   the words of the paper, against an "immediate but slower convergence" with $1/L$. The two steps
#   of (a) cross only after hundreds of steps. But the cliff is steep (c): a step only a little
#   shorter than $2/(L+\ell)$ avoids most of it, and on this problem the step that is best for the
#   derivative is the best one for the iterate, too.
# - **Chebyshev's method** is several times faster and burns in higher (d). Polynomials that are
#   small in the Sobolev norm do not rise at all and reach 1 % of the derivative earlier, for
#   iterates that are a little later. They need $\ell$, $L$ and a weight $\eta$ that is taken from
#   the solution here; the paper leaves a practical rule open.
# - **Dropping early steps** (e) lowers the peak, as the follow-up says, and saves their memory in
#   reverse mode. It hardly improves the derivative after many steps. A warm start mends both.
# - **A relaxed crystal is cursed briefly** (f): its eigenvalues spread over a factor of fifteen
#   only. The derivative's error rises two- to fivefold and needs a few ten steps to be back; then
#   the positions are already converged to between a fifth and a hundredth of the first
#   displacement. After that the derivative follows the positions, one or two decades behind.
#   Packings of particles whose contacts change are worse: see `packed_particles`.
# - **The implicit derivative** has no burn-in at all, at the price of a linear solve.
