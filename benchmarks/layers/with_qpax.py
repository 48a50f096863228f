"""The problems with qpax: as it comes, whose gradients are smoothed, and with as good as none."""

import jax
import jax.numpy as jnp
import qpax

VARIANTS = ("", "tight")


def _options(variant):
    return {"solver_tol": 1e-9, "target_kappa": 1e-9, "max_iter": 60} if variant == "tight" else {}


def qp(variant):
    def one(Q, c, A, b, G, h):
        return qpax.solve_qp_primal(Q, c, A, b, G, h, **_options(variant))

    def solution(theta, data):
        return jax.vmap(one)(data["Q"], theta, data["A"], data["b"], data["G"], data["h"])

    return solution


portfolio = qp


def lp(variant):
    def one(c, G, h):
        size = len(c)
        nothing = (jnp.zeros((size, size)), c, jnp.zeros((0, size)), jnp.zeros(0))
        return qpax.solve_qp_primal(*nothing, G, h, **_options(variant))

    return lambda theta, data: jax.vmap(one)(data["c"], data["G"], theta)
