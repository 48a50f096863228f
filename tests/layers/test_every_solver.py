"""What every solver promises, one table for all of them.

At a solution the condition vanishes; derivatives of solutions, implicit and of iterations, are
those of finite differences; compiled code, batches and single precision find the same.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numerical import agrees, derivative

from mdsens import layers
from mdsens.errors import InputError
from mdsens.implicit.conditions import kl_mapping

THETA = jnp.asarray([0.7, 1.3])
OTHER = jnp.asarray([0.4, 1.1])
DIRECTION = jnp.asarray([1.0, -2.0])
MATRIX = np.array([[3.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 1.5]])
START = {"a": jnp.asarray([0.3, -0.2]), "b": jnp.asarray(0.1)}
FLAT = jnp.asarray([0.3, -0.2, 0.1])


def matrix(like):
    return jnp.asarray(MATRIX, like.dtype)


def flat_energy(v, theta):
    """A bowl with a quartic part, whose minimum moves with theta and curvature is above 1."""
    wells = jnp.sum(jnp.cosh(v) * theta[0]) + jnp.sum(v**4)
    return 0.5 * v @ matrix(v) @ v + wells - theta[1] * jnp.sum(jnp.sin(v + 0.5))


def energy(x, theta):
    return flat_energy(jnp.concatenate([x["a"], x["b"][None]]), theta)


def rotating(x, theta):
    """A condition whose Jacobian is not symmetric."""
    gradient = jax.grad(energy)(x, theta)
    turned = jnp.asarray([-1.0, 1.0], x["a"].dtype) * x["a"][::-1]
    return {"a": gradient["a"] + theta[0] * turned, "b": gradient["b"]}


def stepped(x, theta):
    """A contraction whose fixed point is the energy's minimum."""
    return jax.tree.map(lambda leaf, g: leaf - 0.12 * g, x, jax.grad(energy)(x, theta))


def residuals(x, theta):
    v = jnp.concatenate([x["a"], x["b"][None]])
    return matrix(v) @ v - theta[1] * jnp.sin(v + theta[0]), 0.3 * (v - theta[0])


def no_prox(v, hyperparams, scaling=1.0):
    return v


SIMPLEX_STEP = layers.MirrorDescent.make_projection_grad(lambda y, _: jax.nn.softmax(y), kl_mapping)


def of_tree(solver, theta):
    return solver.run(jax.tree.map(lambda leaf: leaf.astype(theta.dtype), START), theta)


def of_vector(*extra):
    return lambda solver, theta: solver.run(FLAT.astype(theta.dtype), *extra, theta)


def bounds(like):
    return jnp.asarray([-1.0, 0.05, -1.0], like.dtype), jnp.asarray([1.0, 1.0, 0.1], like.dtype)


def program(theta):
    """A positive definite Q, and a c that moves with theta."""
    Q = matrix(theta) + jnp.diag(jnp.stack([theta[0], theta[1] ** 2, theta[0] * theta[1]]))
    return Q, jnp.stack([-theta[0], theta[1], jnp.sin(theta[1])])


def rows(theta):
    """x_0 + x_1 + x_2 = theta_0 / 10, and two inequalities, one of which is active."""
    one = jnp.ones((), theta.dtype)
    A, b = jnp.ones((1, 3), theta.dtype), theta[:1] / 10
    G = jnp.stack([jnp.stack([-one, 0 * one, one]), jnp.stack([0 * one, one, 0 * one])])
    return (A, b), (G, jnp.stack([-0.1 * theta[1], 5 * one]))


def of_box_program(theta, scale):
    Q, c = program(theta)
    return Q, scale * c


def linear(theta):
    """A vertex of three of five rows."""
    eye = jnp.eye(3, dtype=theta.dtype)
    G = jnp.concatenate([eye, jnp.ones((2, 3), theta.dtype)])
    h = jnp.concatenate(
        [theta[0] * theta[1] * jnp.asarray([1.0, 2.0, 3.0], theta.dtype), 50 + theta]
    )
    return jnp.asarray([-1.0, -2.0, -3.0], theta.dtype), None, (G, h)


CONES = layers.Cones(zero=1, second_order=(4,))


def conic(theta):
    """A linear function on the part of a ball in a plane."""
    A = jnp.concatenate([jnp.ones((1, 3)), jnp.zeros((1, 3)), jnp.eye(3)])
    b = jnp.concatenate([jnp.stack([theta[0] / 3, theta[1]]), jnp.zeros(3)])
    return A, b, jnp.stack([theta[0], jnp.asarray(1.0), -theta[1]])


UNROLLED = ("implicit", "unrolled")


@dataclasses.dataclass(frozen=True)
class Case:
    """A solver with a problem.

    Attributes:
        make: the solver with options `tol` and `derivative`; programs, which have neither, ignore
            them.
        run: (solver, theta) -> OptStep.
        arguments: (theta) -> what `l2_optimality_error` takes after the parameters.
        derivatives: which there are.
        tol: the error that is asked for.
        single: likewise in single precision; None: the solver is not for it.
        reason: why there are no unrolled derivatives, or no single precision.
    """

    make: Callable[..., Any]
    run: Callable[[Any, Any], Any] = of_tree
    arguments: Callable[[Any], tuple[Any, ...]] = lambda theta: (theta,)
    derivatives: tuple[str, ...] = UNROLLED
    tol: float = 1e-12
    single: float | None = 1e-5
    reason: str = ""


def minimiser(kind, maxiter=100, fun=energy, **options):
    return lambda **o: kind(fun, maxiter=maxiter, **options, **o)


def plain(solver):
    return lambda **_: solver


def accelerated(make):
    return lambda derivative="implicit", **o: layers.AndersonWrapper(
        make(**o), mixing_frequency=1, derivative=derivative
    )


def descent(**options):
    return layers.GradientDescent(energy, stepsize=0.12, acceleration=False, maxiter=256, **options)


ONLY = ("implicit",)
NO_ITERATIONS = "a program's iterations end with a linear solve that the derivative takes up"
# In double and in single precision.
ENDS = [(precision(0), precision(2)) for precision in (np.float64, np.float32)]
CASES = {
    "GradientDescent": Case(minimiser(layers.GradientDescent, 256)),
    "BFGS": Case(minimiser(layers.BFGS, 40)),
    "LBFGS": Case(minimiser(layers.LBFGS, 40)),
    "NonlinearCG": Case(
        minimiser(layers.NonlinearCG), derivatives=ONLY,
        reason="with its step sizes held constant the derivative of the iterations has no limit",
    ),
    "Newton": Case(minimiser(layers.Newton, 20, jax.grad(energy))),
    "Broyden": Case(minimiser(layers.Broyden, 40, rotating)),
    "GaussNewton": Case(minimiser(layers.GaussNewton, 40, residuals)),
    "LevenbergMarquardt": Case(minimiser(layers.LevenbergMarquardt, 40, residuals)),
    "FixedPointIteration": Case(minimiser(layers.FixedPointIteration, 256, stepped)),
    "AndersonAcceleration": Case(minimiser(layers.AndersonAcceleration, 50, stepped)),
    "AndersonWrapper": Case(accelerated(descent)),
    "Bisection": Case(
        lambda tol, **o: layers.Bisection(
            lambda x, theta: x**3 + x - theta[1], *ENDS[tol > 1e-8], maxiter=60, tol=tol, **o
        ),
        lambda solver, theta: solver.run(None, theta),
        derivatives=ONLY,
        reason="the ends of the interval are chosen, and do not move with theta",
    ),
    "ProximalGradient": Case(
        minimiser(layers.ProximalGradient, 256, flat_energy, prox=layers.prox_lasso),
        of_vector(0.1), lambda theta: (0.1, theta),
    ),
    "ProjectedGradient": Case(
        minimiser(
            layers.ProjectedGradient, 256, flat_energy, projection=layers.projection_simplex
        ),
        of_vector(1.0), lambda theta: (1.0, theta),
    ),
    "MirrorDescent": Case(
        minimiser(
            layers.MirrorDescent, 400, flat_energy, projection_grad=SIMPLEX_STEP, stepsize=0.2
        ),
        lambda solver, theta: solver.run(jnp.full(3, 1 / 3, theta.dtype), None, theta),
        lambda theta: (None, theta), tol=1e-11,
    ),
    "BlockCoordinateDescent": Case(
        minimiser(layers.BlockCoordinateDescent, 100, flat_energy, block_prox=layers.prox_lasso),
        of_vector(0.1), lambda theta: (0.1, theta),
    ),
    "LBFGSB": Case(
        minimiser(layers.LBFGSB, 60, flat_energy),
        lambda solver, theta: solver.run(FLAT.astype(theta.dtype), bounds(theta), theta),
        lambda theta: (bounds(theta), theta),
    ),
    "QuadraticProgram": Case(
        plain(layers.QuadraticProgram()),
        lambda solver, theta: solver.run(None, program(theta), *rows(theta)),
        lambda theta: (program(theta), *rows(theta)), ONLY,
        reason=NO_ITERATIONS,
    ),
    "EqualityConstrainedQP": Case(
        plain(layers.EqualityConstrainedQP()),
        lambda solver, theta: solver.run(None, program(theta), rows(theta)[0]),
        lambda theta: (program(theta), rows(theta)[0]), ONLY,
        reason=NO_ITERATIONS,
    ),
    "BoxQP": Case(
        plain(layers.BoxQP()),
        lambda solver, theta: solver.run(None, of_box_program(theta, 2), bounds(theta)),
        lambda theta: (of_box_program(theta, 2), bounds(theta)), ONLY,
        reason=NO_ITERATIONS,
    ),
    "BoxConstrainedQP": Case(
        plain(layers.BoxConstrainedQP()),
        lambda solver, theta: solver.run(
            None, of_box_program(theta, 5), matrix(theta), bounds(theta)
        ),
        lambda theta: (of_box_program(theta, 5), matrix(theta), bounds(theta)), ONLY,
        reason=NO_ITERATIONS,
    ),
    "LinearProgram": Case(
        plain(layers.LinearProgram()),
        lambda solver, theta: solver.run(None, *linear(theta)), linear, ONLY, reason=NO_ITERATIONS,
    ),
    "ConicProgram": Case(
        plain(layers.ConicProgram(CONES)),
        lambda solver, theta: solver.run(None, *conic(theta)), conic, ONLY, single=None,
        reason=NO_ITERATIONS + ", and the solver on the host works in double precision",
    ),
    "NonlinearProgram": Case(
        plain(
            layers.NonlinearProgram(
                energy,
                lambda x, theta: x["a"][0] * x["b"] - 0.01 * theta[0],
                lambda x, theta: 0.3 * theta[1] - jnp.sum(x["a"]),
            )
        ),
        of_tree, derivatives=ONLY, reason=NO_ITERATIONS,
    ),
}  # fmt: skip
named = pytest.mark.parametrize("name", CASES)


@functools.cache
def solver_of(name, kind="implicit"):
    case = CASES[name]
    return case.make(tol=case.tol, derivative=kind)


def primal(params):
    # Not by the attribute: a tracer has one of this name.
    return ravel_pytree(params[0] if hasattr(type(params), "_fields") else params)[0]


def solution(name, theta, kind="implicit"):
    return primal(CASES[name].run(solver_of(name, kind), theta).params)


@functools.cache
def of_batch(name):
    """Compiled once for all that asks for solutions, of two thetas at a time."""
    return jax.jit(jax.vmap(functools.partial(solution, name)))


@functools.cache
def differences(name):
    def along(t):
        return np.asarray(of_batch(name)(jnp.stack([THETA + t * DIRECTION, OTHER]))[0])

    return derivative(along, 0.0, 1e-2, 4, noise=1e-11)


@functools.cache
def eager(name):
    return CASES[name].run(solver_of(name), THETA)


@named
def test_the_condition_vanishes_at_the_solution(name):
    case, step = CASES[name], eager(name)
    error = solver_of(name).l2_optimality_error(step.params, *case.arguments(THETA))
    if hasattr(step.state, "converged"):
        assert step.state.converged
        # Of a fixed-point iteration the error is that of the point before the last step.
        assert error <= max(1.01 * step.state.error, 3e-15)
    # Programs end with a linear solve, and are as good as rounding lets them be.
    assert error <= (case.tol if "Program" not in name and "QP" not in name else 1e-10)


@named
def test_compiled_batches_find_what_one_finds_after_the_other(name):
    found = of_batch(name)(jnp.stack([THETA, OTHER]))
    expected = [primal(eager(name).params), solution(name, OTHER)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@named
def test_derivatives_in_both_modes_are_those_of_finite_differences(name):
    @jax.jit
    def both(theta):
        # One solution to compile for both.
        _, push = jax.linearize(functools.partial(solution, name), theta)
        forward = push(DIRECTION)
        weights = jnp.arange(1.0, 1 + forward.size)
        pull = jax.linear_transpose(push, theta)
        return forward, weights @ forward, pull(weights.reshape(forward.shape))[0] @ DIRECTION

    forward, of_forward, of_reverse = both(THETA)
    agrees(forward, differences(name), 1e-6, scale=1.0)
    np.testing.assert_allclose(of_reverse, of_forward, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.derivatives != ONLY])
def test_derivatives_of_iterations_are_those_of_their_limit(name):
    of_theta = functools.partial(solution, name, kind="unrolled")
    weights = jnp.arange(1.0, 1 + primal(eager(name).params).size)
    pulled = jax.jit(jax.grad(lambda theta: weights @ of_theta(theta)))(THETA) @ DIRECTION
    expected = differences(name)
    # Those of a model of the curvature lag behind: Gilbert 1992, Optim. Methods Softw. 1, 13.
    np.testing.assert_allclose(pulled, weights @ expected.value, rtol=0, atol=1e-5)
    assert 10 * np.linalg.norm(weights) * np.linalg.norm(expected.error) < 1e-5


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.single is not None])
def test_single_precision_stays_single_and_is_as_good(name):
    case = CASES[name]
    step = case.run(case.make(tol=case.single, derivative="implicit"), THETA.astype(jnp.float32))
    found = primal(step.params)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, primal(eager(name).params), rtol=0, atol=3 * case.single)


def test_every_solver_is_among_them():
    # Steps on batches end near a solution, not at it: test_stochastic_bilevel holds it to others.
    of_other_names = {"OSQP", "BoxOSQP", "BoxCDQP", "CvxpyQP", "IterativeSolver"}
    of_other_names |= {"StochasticBilevel"}
    solvers = {
        name for name in layers.__all__ if hasattr(getattr(layers, name), "l2_optimality_error")
    }
    assert solvers - of_other_names == set(CASES)


@named
def test_what_a_solver_does_not_have_it_refuses_for_a_reason(name):
    case = CASES[name]
    lacking = case.derivatives == ONLY or case.single is None
    assert bool(case.reason) == lacking
    if case.derivatives == ONLY and isinstance(solver_of(name), layers.IterativeSolver):
        with pytest.raises(InputError, match="allowed are implicit"):
            case.make(tol=case.tol, derivative="unrolled")
