"""The problems with mdsens."""

import jax
import jax.numpy as jnp

from benchmarks.layers import objectives
from benchmarks.layers.objectives import STEPS, TOLERANCE
from mdsens.implicit import custom_root
from mdsens.layers import (
    BFGS,
    ProjectedGradient,
    ProximalGradient,
    QuadraticProgram,
    projection_simplex,
    prox_lasso,
)
from mdsens.layers.isotonic import isotonic_l2_pav

VARIANTS = ("",)


def svm(variant):
    solver = ProjectedGradient(
        objectives.svm_objective, jax.vmap(projection_simplex, (0, None)), maxiter=STEPS,
        tol=TOLERANCE,
    )  # fmt: skip

    def solution(theta, data):
        return solver.run(objectives.svm_start(data), 1.0, theta, data).params

    return solution, objectives.svm_loss


def lasso(variant):
    solver = ProximalGradient(objectives.lasso_objective, prox_lasso, maxiter=STEPS, tol=TOLERANCE)

    def solution(theta, data):
        start = jnp.zeros(data["X"].shape[1])
        return jax.vmap(lambda log: solver.run(start, jnp.exp(log), data).params)(theta)

    return solution, objectives.lasso_loss


def qp(variant):
    solver = QuadraticProgram()

    def one(Q, c, A, b, G, h):
        return solver.run(None, (Q, c), (A, b), (G, h)).params.primal

    def solution(theta, data):
        return jax.vmap(one)(data["Q"], theta, data["A"], data["b"], data["G"], data["h"])

    return solution, objectives.sum_of_squares


def root(variant):
    solve = custom_root(objectives.root_condition, symmetric=True)(
        lambda init, theta, data: objectives.root_solver(theta, data)
    )
    return lambda theta, data: solve(None, theta, data), objectives.sum_of_squares


def isotonic(variant):
    return lambda theta, data: jax.vmap(isotonic_l2_pav)(theta), objectives.sum_of_squares


def bfgs(variant):
    solver = BFGS(objectives.logistic_objective, maxiter=STEPS, tol=TOLERANCE)

    def solution(theta, data):
        return solver.run(jnp.zeros(data["X"].shape[1]), theta, data).params

    return solution, objectives.sum_of_squares
