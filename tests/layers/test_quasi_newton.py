"""BFGS, Broyden's method and accelerated solvers: solutions, verdicts and derivatives."""

import cases
import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from numerical import agrees, derivative
from scipy.optimize import rosen

from mdsens.errors import ConvergenceError, InputError
from mdsens.layers import BFGS, AndersonWrapper, Broyden, FixedPointIteration, GradientDescent

START = {"a": jnp.asarray([0.3, -0.2]), "b": jnp.asarray(0.1)}
THETA = jnp.asarray([0.7, 1.3])
MATRIX = np.array([[3.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 1.5]])


def energy(x, theta):
    """A bowl with a quartic part, whose minimum moves with theta."""
    v = jnp.concatenate([x["a"], x["b"][None]])
    wells = jnp.sum(jnp.cosh(v) * theta[0]) + jnp.sum(v**4)
    return 0.5 * v @ jnp.asarray(MATRIX, v.dtype) @ v + wells - theta[1] * jnp.sum(jnp.sin(v + 0.5))


def rotating(x, theta):
    """A condition whose Jacobian is not symmetric."""
    gradient = jax.grad(energy)(x, theta)
    turned = jnp.asarray([-1.0, 1.0], x["a"].dtype) * x["a"][::-1]
    return {"a": gradient["a"] + theta[0] * turned, "b": gradient["b"]}


def stepped(x, theta):
    """A contraction with the same fixed point as the energy's minimum."""
    return jax.tree.map(lambda leaf, g: leaf - 0.12 * g, x, jax.grad(energy)(x, theta))


def gradient_descent(**options):
    return GradientDescent(energy, stepsize=0.12, acceleration=False, maxiter=300, **options)


SOLVERS = {
    "BFGS": lambda **o: BFGS(energy, maxiter=30, **o),
    "Broyden": lambda **o: Broyden(rotating, maxiter=40, **o),
    "Anderson of gradient descent": lambda derivative="implicit", **o: AndersonWrapper(
        gradient_descent(**o), mixing_frequency=1, derivative=derivative
    ),
    "Anderson of a fixed point": lambda derivative="implicit", **o: AndersonWrapper(
        FixedPointIteration(stepped, maxiter=300, **o), derivative=derivative
    ),
}


def solution(solver, theta, start=START):
    return jnp.concatenate(
        [leaf.reshape(-1) for leaf in jax.tree.leaves(solver.run(start, theta).params)]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", cases.with_others(["Broyden"], [n for n in SOLVERS if n != "Broyden"])
)
def test_second_derivatives_are_those_of_finite_differences(name):
    solver = SOLVERS[name](tol=1e-13)

    def slope(theta):
        return jax.grad(lambda theta: jnp.sum(solution(solver, theta) ** 3))(theta)

    direction = jnp.asarray([1.0, -2.0])
    slope_at = jax.jit(slope)
    found = jax.jacfwd(slope)(THETA) @ direction
    expected = derivative(
        lambda t: np.asarray(slope_at(THETA + t * direction)), 0.0, 1e-2, 4, noise=1e-12
    )
    agrees(found, expected, 1e-6)


def test_bfgs_goes_down_rosenbrocks_valley_in_as_few_steps_as_that_of_scipy():
    def valley(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = np.array([-1.2, 1.0, -0.5, 0.8])
    np.testing.assert_allclose(valley(jnp.asarray(x)), rosen(x))
    params, state = BFGS(valley, tol=1e-9).run(jnp.asarray(x))
    np.testing.assert_allclose(params, 1.0, rtol=0, atol=1e-9)
    assert state.iter_num < 60  # SciPy's takes 41


def test_broyden_solves_a_linear_system_in_twice_as_many_steps_as_unknowns():
    # Gay 1979, SIAM J. Numer. Anal. 16, 623, theorem 2.2, with full steps.
    A, b = np.array([[3.0, 1, 0], [-1, 2, 1], [0, 1, 4]]), np.array([1.0, 2, 3])
    solver = Broyden(lambda x: A @ x - b, stepsize=1.0, tol=1e-9)
    params, state = solver.run(jnp.zeros(3))
    np.testing.assert_allclose(params, np.linalg.solve(A, b), rtol=0, atol=1e-9)
    assert state.iter_num <= 7


def steps_of_broyden(count=12, **options):
    """Step sizes, and |F|^2 / 2 and its slope before and after each, from afar."""
    solver = Broyden(rotating, **options)
    update = jax.jit(solver.update)

    def half_square(x):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(rotating(x, THETA))) / 2

    evaluate = jax.jit(jax.value_and_grad(half_square))
    x, found = jax.tree.map(lambda leaf: 4 * leaf - 1, START), []
    state = solver.init_state(x, THETA)
    for _ in range(count):
        value, gradient = evaluate(x)
        new, state = update(x, state, THETA)
        step = jax.tree.map(jnp.subtract, new, x)
        ends = [
            sum(jnp.vdot(g, s) for g, s in zip(*map(jax.tree.leaves, (g, step)), strict=True))
            for g in (gradient, evaluate(new)[1])
        ]
        found.append([state.stepsize, value, evaluate(new)[0], *ends, state.failed_linesearch])
        x = new
    return np.array(found, float).T


def test_the_step_sizes_of_broyden_are_within_what_was_asked_for():
    sizes = steps_of_broyden()[0]
    # No search begins above the last step times 1.5, and all end at 0.8^k of where they begin.
    assert np.all(sizes[1:] <= np.minimum(1.0, 1.5 * sizes[:-1]) + 1e-12)
    assert sizes.min() < 0.5
    assert sizes.max() == 1.0
    assert steps_of_broyden(max_stepsize=0.3)[0].max() == pytest.approx(0.3)
    slower = steps_of_broyden(increase_factor=1.1)[0]
    assert np.all(slower[1:] <= 1.1 * slower[:-1] + 1e-12)
    again = steps_of_broyden(increase_factor=1.0, min_stepsize=0.9)[0]
    assert again.max() == 1.0
    assert np.any(again[1:] > again[:-1])


def test_the_steps_of_broyden_fulfil_the_condition():
    for condition in ("armijo", "strong-wolfe"):
        _, before, after, slope, end, failed = steps_of_broyden(condition=condition)
        assert not failed.any()
        assert np.all(after <= before + 1e-4 * slope)
    assert np.all(np.abs(end) <= 0.9 * np.abs(slope))
    # The whole step from x leads to -0.95 x, where the slope is 0.95 times that before.
    for condition, size in (("armijo", 1.0), ("strong-wolfe", 0.8)):
        solver = Broyden(lambda x: x, gamma=1.95, condition=condition)
        assert solver.update(jnp.ones(1), solver.init_state(jnp.ones(1))).state.stepsize == size


def test_acceleration_saves_steps_and_ends_at_the_same_point():
    plain, fast = gradient_descent(tol=1e-10), SOLVERS["Anderson of gradient descent"](tol=1e-10)
    (slow_params, slow), (params, state) = (s.run(START, THETA) for s in (plain, fast))
    assert state.iter_num < 0.7 * slow.iter_num
    for one, other in zip(*map(jax.tree.leaves, (params, slow_params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.peer
def test_solutions_are_those_of_jaxopt():
    peers = {
        "BFGS": jaxopt.BFGS(energy, tol=1e-9),
        "Broyden": jaxopt.Broyden(rotating, tol=1e-9, maxiter=100),
        "Anderson of a fixed point": jaxopt.AndersonWrapper(
            jaxopt.FixedPointIteration(stepped, tol=1e-9, maxiter=500), ridge=1e-10
        ),
    }
    for name, peer in peers.items():
        expected = jax.tree.leaves(peer.run(START, THETA).params)
        found = jax.tree.leaves(SOLVERS[name](tol=1e-10).run(START, THETA).params)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("name", ["BFGS", "Broyden"])
def test_not_to_converge_is_said(name):
    with pytest.raises(ConvergenceError, match="maxiter=2"):
        {"BFGS": BFGS(energy, maxiter=2), "Broyden": Broyden(rotating, maxiter=2)}[name].run(
            START, THETA
        )
    with pytest.raises(ConvergenceError, match="not finite"):
        {"BFGS": BFGS, "Broyden": Broyden}[name](lambda x: jnp.log(x - 1)).run(jnp.asarray(0.5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Broyden(energy, history_size=0), "history_size = 0"),
        (lambda: Broyden(energy, gamma=0.0), "gamma = 0"),
        (lambda: Broyden(energy, linesearch="zoom"), "linesearch = 'zoom'"),
        (lambda: Broyden(energy, condition="curvature"), "condition = 'curvature'"),
        (lambda: Broyden(energy, increase_factor=0.5), "increase_factor = 0.5"),
        (lambda: Broyden(energy, decrease_factor=1.0), "decrease_factor = 1.0"),
        (lambda: Broyden(energy).run(START, THETA), "returned 1 numbers for 3"),
        (lambda: AndersonWrapper(BFGS(energy), 0), "history_size = 0"),
        (lambda: AndersonWrapper(BFGS(energy), ridge=-1.0), "ridge = -1.0"),
        (lambda: BFGS(energy, linesearch="armijo"), "linesearch = 'armijo'"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
