"""The problems with JAXopt: as it comes, and with a linear solve as exact as the others'."""

import functools

import jax
import jax.numpy as jnp
import jaxopt
import jaxopt.isotonic
import jaxopt.linear_solve
import jaxopt.projection
import jaxopt.prox

from benchmarks.layers import objectives
from benchmarks.layers.objectives import STEPS, TOLERANCE

VARIANTS = ("", "tight")


def _linear_solve(variant):
    if variant != "tight":
        return None
    return functools.partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-12, maxiter=20_000)


def svm(variant):
    solver = jaxopt.ProjectedGradient(
        objectives.svm_objective, jax.vmap(jaxopt.projection.projection_simplex, (0, None)),
        maxiter=STEPS, tol=TOLERANCE, implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        return solver.run(objectives.svm_start(data), 1.0, theta, data).params

    return solution, objectives.svm_loss


def lasso(variant):
    solver = jaxopt.ProximalGradient(
        objectives.lasso_objective, jaxopt.prox.prox_lasso, maxiter=STEPS, tol=TOLERANCE,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        start = jnp.zeros(data["X"].shape[1])
        return jax.vmap(lambda log: solver.run(start, jnp.exp(log), data).params)(theta)

    return solution, objectives.lasso_loss


def qp(variant):
    solver = jaxopt.OSQP(
        tol=TOLERANCE if variant == "tight" else 1e-3, maxiter=STEPS,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def one(Q, c, A, b, G, h):
        return solver.run(params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h)).params.primal

    def solution(theta, data):
        return jax.vmap(one)(data["Q"], theta, data["A"], data["b"], data["G"], data["h"])

    return solution, objectives.sum_of_squares


def root(variant):
    attach = jaxopt.implicit_diff.custom_root(
        objectives.root_condition, solve=_linear_solve(variant)
    )
    solve = attach(lambda init, theta, data: objectives.root_solver(theta, data))
    return lambda theta, data: solve(None, theta, data), objectives.sum_of_squares


def isotonic(variant):
    function = jaxopt.isotonic.isotonic_l2_pav
    return lambda theta, data: jax.vmap(function)(theta), objectives.sum_of_squares


def bfgs(variant):
    solver = jaxopt.BFGS(
        objectives.logistic_objective, maxiter=STEPS, tol=TOLERANCE,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        return solver.run(jnp.zeros(data["X"].shape[1]), theta, data).params

    return solution, objectives.sum_of_squares
