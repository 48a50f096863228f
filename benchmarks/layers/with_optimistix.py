"""The problems with optimistix, lineax where a problem is linear."""

import jax
import jax.numpy as jnp
import lineax
import optimistix

from benchmarks.layers import objectives
from benchmarks.layers.objectives import STEPS, TOLERANCE
from mdsens.layers import projection_simplex, prox_lasso

VARIANTS = ("",)


def _fixed_point(T, start, args):
    solver = optimistix.FixedPointIteration(rtol=1e-10, atol=1e-10)
    adjoint = optimistix.ImplicitAdjoint(lineax.GMRES(rtol=1e-10, atol=1e-10))
    return optimistix.fixed_point(T, solver, start, args, max_steps=STEPS, adjoint=adjoint).value


def ridge(variant):
    def one(log, data):
        X = data["X"]
        gram = X.T @ X + jnp.exp(log) * jnp.eye(X.shape[1])
        operator = lineax.MatrixLinearOperator(gram, lineax.positive_semidefinite_tag)
        return lineax.linear_solve(operator, X.T @ data["y"], lineax.Cholesky()).value

    return lambda theta, data: jax.vmap(one, (0, None))(theta, data)


def svm(variant):
    def step(x, given):
        theta, data, curvature = given
        slope = jax.grad(objectives.svm_objective)(x, theta, data)
        return jax.vmap(projection_simplex)(x - jnp.exp(theta[0]) / curvature * slope)

    def solution(theta, data):
        curvature = jnp.linalg.norm(data["X"], 2) ** 2
        return _fixed_point(step, objectives.svm_start(data), (theta, data, curvature))

    return solution


def lasso(variant):
    def step(x, given):
        log, data, curvature = given
        slope = jax.grad(objectives.lasso_objective)(x, data)
        return prox_lasso(x - slope / curvature, jnp.exp(log), 1 / curvature)

    def solution(theta, data):
        curvature, start = jnp.linalg.norm(data["X"], 2) ** 2, jnp.zeros(data["X"].shape[1])
        return jax.vmap(lambda log: _fixed_point(step, start, (log, data, curvature)))(theta)

    return solution


def sparse_coding(variant):
    def step(x, given):
        D, data, curvature = given
        slope = jax.grad(objectives.sparse_coding_objective)(x, D, data)
        return prox_lasso(x - slope / curvature, data["penalty"], 1 / curvature)

    def solution(theta, data):
        curvature = jnp.linalg.norm(theta, 2) ** 2
        start = jnp.zeros((len(data["Y"]), len(theta)))
        return _fixed_point(step, start, (theta, data, curvature))

    return solution


def fixed_point(variant):
    def solution(theta, data):
        start = jnp.zeros((len(data["x"]), len(theta)))
        return _fixed_point(lambda z, given: objectives.layer(z, *given), start, (theta, data))

    return solution


def curve_fit(variant):
    solver = optimistix.LevenbergMarquardt(rtol=1e-10, atol=1e-10)

    def one(y, data):
        return optimistix.least_squares(
            lambda x, given: objectives.curve_residual(x, *given), solver, data["start"],
            (data["t"], y), max_steps=200,
        ).value  # fmt: skip

    return lambda theta, data: jax.vmap(one, (0, None))(theta, data)


def root(variant):
    linear = lineax.CG(rtol=TOLERANCE, atol=TOLERANCE)
    solver = optimistix.Newton(rtol=1e-8, atol=1e-8, linear_solver=linear)
    adjoint = optimistix.ImplicitAdjoint(lineax.CG(rtol=1e-12, atol=1e-12))

    def solution(theta, data):
        return optimistix.root_find(
            lambda x, given: objectives.root_condition(x, *given), solver,
            jnp.zeros_like(theta), (theta, data), adjoint=adjoint, max_steps=50,
            tags=frozenset({lineax.positive_semidefinite_tag}),
        ).value  # fmt: skip

    return solution


def logistic(variant):
    solver = optimistix.BFGS(rtol=TOLERANCE, atol=TOLERANCE)
    adjoint = optimistix.ImplicitAdjoint(lineax.CG(rtol=1e-12, atol=1e-12))

    def solution(theta, data):
        return optimistix.minimise(
            lambda w, given: objectives.logistic_objective(w, *given), solver,
            jnp.zeros(data["X"].shape[1]), (theta, data), adjoint=adjoint, max_steps=STEPS,
            tags=frozenset({lineax.positive_semidefinite_tag}),
        ).value  # fmt: skip

    return solution
