"""The problems with JAXopt: as it comes, and with linear solves as exact as the others'."""

import functools

import jax
import jax.numpy as jnp
import jaxopt
import jaxopt._src.isotonic
import jaxopt.isotonic
import jaxopt.linear_solve
import jaxopt.projection
import jaxopt.prox
import numpy as np

from benchmarks.layers import objectives
from benchmarks.layers.objectives import STEPS, TOLERANCE

VARIANTS = ("", "tight")


def _linear_solve(variant):
    if variant != "tight":
        return jaxopt.linear_solve.solve_normal_cg
    return functools.partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-12, maxiter=20_000)


def ridge(variant):
    attach = jaxopt.implicit_diff.custom_root(
        jax.grad(objectives.ridge_objective), solve=_linear_solve(variant)
    )
    solve = attach(lambda init, penalty, data: objectives.ridge_solution(penalty, data))
    return lambda theta, data: jax.vmap(lambda log: solve(None, jnp.exp(log), data))(theta)


def lasso(variant):
    solver = jaxopt.ProximalGradient(
        objectives.lasso_objective, jaxopt.prox.prox_lasso, maxiter=STEPS, tol=TOLERANCE,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        start = jnp.zeros(data["X"].shape[1])
        return jax.vmap(lambda log: solver.run(start, jnp.exp(log), data).params)(theta)

    return solution


def logistic(variant):
    solver = jaxopt.BFGS(
        objectives.logistic_objective, maxiter=STEPS, tol=TOLERANCE,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip
    return lambda theta, data: solver.run(jnp.zeros(data["X"].shape[1]), theta, data).params


def svm(variant):
    solver = jaxopt.ProjectedGradient(
        objectives.svm_objective, jax.vmap(jaxopt.projection.projection_simplex, (0, None)),
        maxiter=STEPS, tol=TOLERANCE, implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip
    return lambda theta, data: solver.run(objectives.svm_start(data), 1.0, theta, data).params


def sparse_coding(variant):
    solver = jaxopt.ProximalGradient(
        objectives.sparse_coding_objective, jaxopt.prox.prox_lasso, maxiter=STEPS, tol=TOLERANCE,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        start = jnp.zeros((len(data["Y"]), len(theta)))
        return solver.run(start, data["penalty"], theta, data).params

    return solution


def isotonic(variant):
    function = jaxopt.isotonic.isotonic_l2_pav
    return None if variant else lambda theta, data: jax.vmap(function)(theta)


_pav = jaxopt._src.isotonic._isotonic_l2_pav_numba
# Numba cannot type what JAX of today hands over; of a copy it can.
jaxopt._src.isotonic._isotonic_l2_pav_numba = lambda y: _pav(np.array(y))


def curve_fit(variant):
    solver = jaxopt.LevenbergMarquardt(
        objectives.curve_residual, maxiter=200, tol=TOLERANCE, xtol=TOLERANCE, gtol=TOLERANCE,
        solver="cholesky", materialize_jac=True, implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        return jax.vmap(lambda y: solver.run(data["start"], data["t"], y).params)(theta)

    return solution


def fixed_point(variant):
    solver = jaxopt.AndersonAcceleration(
        objectives.layer, maxiter=STEPS, tol=TOLERANCE, ridge=1e-10,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip

    def solution(theta, data):
        return solver.run(jnp.zeros((len(data["x"]), len(theta))), theta, data).params

    return solution


def root(variant):
    attach = jaxopt.implicit_diff.custom_root(
        objectives.root_condition, solve=_linear_solve(variant)
    )
    solve = attach(lambda init, theta, data: objectives.root_solver(theta, data))
    return lambda theta, data: solve(None, theta, data)


def transport(variant):
    make = jaxopt.LBFGS if variant == "tight" else None
    arguments = {"make_solver": lambda fun: make(fun=fun, tol=1e-10, maxiter=2000)} if make else {}

    def solution(theta, data):
        marginals = (data["rows"], data["columns"])
        return jaxopt.projection.projection_transport(theta, marginals, **arguments)

    return solution


def _osqp(variant):
    return jaxopt.OSQP(
        tol=TOLERANCE if variant == "tight" else 1e-3, maxiter=STEPS,
        implicit_diff_solve=_linear_solve(variant),
    )  # fmt: skip


def qp(variant):
    def one(Q, c, A, b, G, h):
        found = _osqp(variant).run(params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h))
        return found.params.primal

    def solution(theta, data):
        return jax.vmap(one)(data["Q"], theta, data["A"], data["b"], data["G"], data["h"])

    return solution


portfolio = qp


def lp(variant):
    def one(c, G, h):
        Q = jnp.zeros((len(c), len(c)))
        return _osqp(variant).run(params_obj=(Q, c), params_ineq=(G, h)).params.primal

    return lambda theta, data: jax.vmap(one)(data["c"], data["G"], theta)
