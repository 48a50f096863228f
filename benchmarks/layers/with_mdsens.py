"""The problems with mdsens."""

import functools

import jax
import jax.numpy as jnp

from benchmarks.layers import objectives
from benchmarks.layers.objectives import STEPS, TOLERANCE
from mdsens.implicit import custom_root
from mdsens.implicit.linear_solve import solve_cholesky, solve_normal_cg
from mdsens.layers import (
    BFGS,
    AndersonAcceleration,
    Cones,
    ConicProgram,
    FixedPointIteration,
    LevenbergMarquardt,
    LinearProgram,
    NonlinearProgram,
    ProjectedGradient,
    ProximalGradient,
    QuadraticProgram,
    projection_simplex,
    projection_transport,
    prox_lasso,
)
from mdsens.layers.isotonic import isotonic_l2_pav

VARIANTS = ("", "as JAXopt", "by factors", "by iteration", "on the host")


def _with(*variants):
    """A problem that has these variants beside what comes as it is."""
    return lambda build: lambda variant: build(variant) if variant in ("", *variants) else None


@_with("by factors")
def ridge(variant):
    def by_factors(log, data):
        X = data["X"]
        gram = X.T @ X + jnp.exp(log) * jnp.eye(X.shape[1])
        return solve_cholesky(lambda x: gram @ x, X.T @ data["y"])

    if variant == "by factors":
        return lambda theta, data: jax.vmap(by_factors, (0, None))(theta, data)
    solve = custom_root(jax.grad(objectives.ridge_objective), symmetric=True)(
        lambda init, penalty, data: objectives.ridge_solution(penalty, data)
    )
    return lambda theta, data: jax.vmap(lambda log: solve(None, jnp.exp(log), data))(theta)


@_with()
def lasso(variant):
    solver = ProximalGradient(objectives.lasso_objective, prox_lasso, maxiter=STEPS, tol=TOLERANCE)

    def solution(theta, data):
        start = jnp.zeros(data["X"].shape[1])
        return jax.vmap(lambda log: solver.run(start, jnp.exp(log), data).params)(theta)

    return solution


@_with("as JAXopt")
def logistic(variant):
    linear = "cg" if variant == "as JAXopt" else None
    solver = BFGS(
        objectives.logistic_objective, maxiter=STEPS, tol=TOLERANCE, implicit_diff_solve=linear
    )
    return lambda theta, data: solver.run(jnp.zeros(data["X"].shape[1]), theta, data).params


@_with()
def svm(variant):
    solver = ProjectedGradient(
        objectives.svm_objective, jax.vmap(projection_simplex, (0, None)), maxiter=STEPS,
        tol=TOLERANCE,
    )  # fmt: skip
    return lambda theta, data: solver.run(objectives.svm_start(data), 1.0, theta, data).params


@_with()
def sparse_coding(variant):
    solver = ProximalGradient(
        objectives.sparse_coding_objective, prox_lasso, maxiter=STEPS, tol=TOLERANCE
    )

    def solution(theta, data):
        start = jnp.zeros((len(data["Y"]), len(theta)))
        return solver.run(start, data["penalty"], theta, data).params

    return solution


@_with()
def isotonic(variant):
    return lambda theta, data: jax.vmap(isotonic_l2_pav)(theta)


@_with("as JAXopt")
def curve_fit(variant):
    damped = "cholesky" if variant == "as JAXopt" else "qr"
    solver = LevenbergMarquardt(objectives.curve_residual, maxiter=200, solver=damped)

    def solution(theta, data):
        return jax.vmap(lambda y: solver.run(data["start"], data["t"], y).params)(theta)

    return solution


@_with("as JAXopt", "by iteration")
def fixed_point(variant):
    linear = functools.partial(solve_normal_cg, tol=1e-12) if variant else None
    kind = FixedPointIteration if variant == "by iteration" else AndersonAcceleration
    solver = kind(objectives.layer, maxiter=STEPS, tol=TOLERANCE, implicit_diff_solve=linear)

    def solution(theta, data):
        return solver.run(jnp.zeros((len(data["x"]), len(theta))), theta, data).params

    return solution


@_with()
def root(variant):
    solve = custom_root(objectives.root_condition, symmetric=True)(
        lambda init, theta, data: objectives.root_solver(theta, data)
    )
    return lambda theta, data: solve(None, theta, data)


@_with()
def transport(variant):
    return lambda theta, data: projection_transport(theta, (data["rows"], data["columns"]))


@_with()
def qp(variant):
    solver = QuadraticProgram()

    def one(Q, c, A, b, G, h):
        return solver.run(None, (Q, c), (A, b), (G, h)).params.primal

    def solution(theta, data):
        return jax.vmap(one)(data["Q"], theta, data["A"], data["b"], data["G"], data["h"])

    return solution


portfolio = qp


@_with("on the host")
def lp(variant):
    solver = LinearProgram("clarabel" if variant == "on the host" else "auto")

    def one(c, G, h):
        return solver.run(None, c, None, (G, h)).params.primal

    return lambda theta, data: jax.vmap(one)(data["c"], data["G"], theta)


@_with()
def conic(variant):
    def solution(theta, data):
        size = theta.shape[1]
        solver = ConicProgram(Cones(zero=1, second_order=(size + 1,)))

        def one(returns, L):
            A = jnp.block(
                [
                    [jnp.ones((1, size)), jnp.zeros((1, 1))],
                    [jnp.zeros((1, size)), -jnp.ones((1, 1))],
                    [-L, jnp.zeros((size, 1))],
                ]
            )
            b = jnp.zeros(size + 2).at[0].set(1)
            c = jnp.append(-returns, 1.0)
            return solver.run(None, A, b, c).params.primal[:size]

        return jax.vmap(one)(theta, data["L"])

    return solution


@_with()
def nlp(variant):
    solver = NonlinearProgram(
        objectives.nlp_objective,
        lambda x, goal: objectives.nlp_equation(x),
        lambda x, goal: objectives.nlp_inequality(x),
    )

    def solution(theta, data):
        start = jnp.full(theta.shape[1], 0.1)
        return jax.vmap(lambda goal: solver.run(start, goal).params.primal)(theta)

    return solution
