"""The problems with cvxpylayers, whose layers for JAX run as they are: jit has no way with them."""

import cvxpy as cp
import jax.numpy as jnp
from cvxpylayers.jax import CvxpyLayer

VARIANTS = ("", "tight")
COMPILED = False

_ACCURATE = {
    "solve_method": "Clarabel", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11,

}  # fmt: skip


def _layer(variant, objective, rows, parameters, variable):
    problem = cp.Problem(cp.Minimize(objective), rows)
    arguments = _ACCURATE if variant == "tight" else {}
    return CvxpyLayer(problem, parameters, [variable], solver_args=arguments)


def _cached(build):
    """The layer is made once, as whoever trains with it does."""
    layers = []

    def layer(theta, data):
        if not layers:
            layers.append(build(theta, data))
        return layers[0]

    return layer


def qp(variant):
    def build(theta, data):
        size = theta.shape[1]
        x, c, F = cp.Variable(size), cp.Parameter(size), cp.Parameter((size, size))
        A, b = cp.Parameter(data["A"].shape[1:]), cp.Parameter(data["b"].shape[1])
        G, h = cp.Parameter(data["G"].shape[1:]), cp.Parameter(data["h"].shape[1])
        objective = cp.sum_squares(F @ x) / 2 + c @ x
        return _layer(variant, objective, [A @ x == b, G @ x <= h], [F, c, A, b, G, h], x)

    layer = _cached(build)

    def solution(theta, data):
        F = jnp.linalg.cholesky(data["Q"]).transpose(0, 2, 1)
        given = (data[name] for name in ("A", "b", "G", "h"))
        return layer(theta, data)(F, theta, *given)[0]

    return solution


def portfolio(variant):
    def build(theta, data):
        size = theta.shape[1]
        x, c = cp.Variable(size), cp.Parameter(size)
        objective = cp.quad_form(x, data["Q"][0], assume_PSD=True) / 2 + c @ x
        return _layer(variant, objective, [cp.sum(x) == 1, x >= 0], [c], x)

    layer = _cached(build)
    return lambda theta, data: layer(theta, data)(theta)[0]


def lp(variant):
    def build(theta, data):
        rows, size = data["G"].shape[1:]
        x, c = cp.Variable(size), cp.Parameter(size)
        G, h = cp.Parameter((rows, size)), cp.Parameter(rows)
        return _layer(variant, c @ x, [G @ x <= h], [c, G, h], x)

    layer = _cached(build)
    return lambda theta, data: layer(theta, data)(data["c"], data["G"], theta)[0]


def conic(variant):
    def build(theta, data):
        size = theta.shape[1]
        x, returns, L = cp.Variable(size), cp.Parameter(size), cp.Parameter((size, size))
        return _layer(variant, cp.norm(L @ x) - returns @ x, [cp.sum(x) == 1], [returns, L], x)

    layer = _cached(build)
    return lambda theta, data: layer(theta, data)(theta, data["L"])[0]


def transport(variant):
    def build(theta, data):
        x, goal = cp.Variable(theta.shape), cp.Parameter(theta.shape)
        # The last equation follows from the others.
        rows = [cp.sum(x, 1) == data["rows"], cp.sum(x, 0)[:-1] == data["columns"][:-1], x >= 0]
        return _layer(variant, cp.sum_squares(x - goal), rows, [goal], x)

    layer = _cached(build)
    return lambda theta, data: layer(theta, data)(theta)[0]
