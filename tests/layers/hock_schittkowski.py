"""Test problems of nonlinear programming, with their solutions.

W. Hock & K. Schittkowski 1981, Test Examples for Nonlinear Programming Codes, Springer. Theirs are
inequalities c(x) >= 0; here they are -c(x) <= 0.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Problem:
    """One test problem: functions, start, bounds, and the least value of the objective."""

    fun: Callable[..., Any]
    start: tuple[float, ...]
    value: float
    eq_fun: Callable[..., Any] | None = None
    ineq_fun: Callable[..., Any] | None = None
    bounds: Any = None


def _hs93_ineq(x):
    product = x[0] * x[1] * x[2] * x[3] * x[4] * x[5]
    power = 0.00062 * x[0] * x[3] * x[4] ** 2 * (x[0] + x[1] + x[2])
    power += 0.00058 * x[1] * x[2] * x[5] ** 2 * (x[0] + 1.57 * x[1] + x[3])
    return jnp.stack([2.07 - 0.001 * product, power - 1])


def _hs93(x):
    return (
        0.0204 * x[0] * x[3] * (x[0] + x[1] + x[2])
        + 0.0187 * x[1] * x[2] * (x[0] + 1.57 * x[1] + x[3])
        + 0.0607 * x[0] * x[3] * x[4] ** 2 * (x[0] + x[1] + x[2])
        + 0.0437 * x[1] * x[2] * x[5] ** 2 * (x[0] + 1.57 * x[1] + x[3])
    )


def _hs100(x):
    return (
        (x[0] - 10) ** 2
        + 5 * (x[1] - 12) ** 2
        + x[2] ** 4
        + 3 * (x[3] - 11) ** 2
        + 10 * x[4] ** 6
        + 7 * x[5] ** 2
        + x[6] ** 4
        - 4 * x[5] * x[6]
        - 10 * x[5]
        - 8 * x[6]
    )


def _hs100_ineq(x):
    return jnp.stack(
        [
            2 * x[0] ** 2 + 3 * x[1] ** 4 + x[2] + 4 * x[3] ** 2 + 5 * x[4] - 127,
            7 * x[0] + 3 * x[1] + 10 * x[2] ** 2 + x[3] - x[4] - 282,
            23 * x[0] + x[1] ** 2 + 6 * x[5] ** 2 - 8 * x[6] - 196,
            4 * x[0] ** 2 + x[1] ** 2 - 3 * x[0] * x[1] + 2 * x[2] ** 2 + 5 * x[5] - 11 * x[6],
        ]
    )


def _rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


PROBLEMS = {
    1: Problem(_rosenbrock, (-2.0, 1.0), 0.0, bounds=((-np.inf, -1.5), np.inf)),
    6: Problem(
        lambda x: (1 - x[0]) ** 2, (-1.2, 1.0), 0.0, eq_fun=lambda x: 10 * (x[1] - x[0] ** 2)
    ),
    7: Problem(
        lambda x: jnp.log(1 + x[0] ** 2) - x[1],
        (2.0, 2.0),
        -np.sqrt(3),
        eq_fun=lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
    ),
    10: Problem(
        lambda x: x[0] - x[1],
        (-10.0, 10.0),
        -1.0,
        ineq_fun=lambda x: 3 * x[0] ** 2 - 2 * x[0] * x[1] + x[1] ** 2 - 1,
    ),
    12: Problem(
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
        (0.0, 0.0),
        -30.0,
        ineq_fun=lambda x: 4 * x[0] ** 2 + x[1] ** 2 - 25,
    ),
    26: Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        (-2.6, 2.0, 2.0),
        0.0,
        eq_fun=lambda x: (1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3,
    ),
    35: Problem(
        lambda x: (
            9
            - 8 * x[0]
            - 6 * x[1]
            - 4 * x[2]
            + 2 * x[0] ** 2
            + 2 * x[1] ** 2
            + x[2] ** 2
            + 2 * x[0] * x[1]
            + 2 * x[0] * x[2]
        ),
        (0.5, 0.5, 0.5),
        1 / 9,
        ineq_fun=lambda x: x[0] + x[1] + 2 * x[2] - 3,
        bounds=(0.0, np.inf),
    ),
    39: Problem(
        lambda x: -x[0],
        (2.0, 2.0, 2.0, 2.0),
        -1.0,
        eq_fun=lambda x: jnp.stack([x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2]),
    ),
    40: Problem(
        lambda x: -x[0] * x[1] * x[2] * x[3],
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
        eq_fun=lambda x: jnp.stack(
            [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]]
        ),
    ),
    43: Problem(
        lambda x: (
            x[0] ** 2
            + x[1] ** 2
            + 2 * x[2] ** 2
            + x[3] ** 2
            - 5 * x[0]
            - 5 * x[1]
            - 21 * x[2]
            + 7 * x[3]
        ),
        (0.0, 0.0, 0.0, 0.0),
        -44.0,
        ineq_fun=lambda x: jnp.stack(
            [
                jnp.sum(x**2) + x[0] - x[1] + x[2] - x[3] - 8,
                x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[3] ** 2 - x[0] - x[3] - 10,
                2 * x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + 2 * x[0] - x[1] - x[3] - 5,
            ]
        ),
    ),
    65: Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[0] + x[1] - 10) ** 2 / 9 + (x[2] - 5) ** 2,
        (-5.0, 5.0, 0.0),
        0.9535288567,
        ineq_fun=lambda x: jnp.sum(x**2) - 48,
        bounds=((-4.5, -4.5, -5.0), (4.5, 4.5, 5.0)),
    ),
    71: Problem(
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        (1.0, 5.0, 5.0, 1.0),
        17.0140172892,
        eq_fun=lambda x: jnp.sum(x**2) - 40,
        ineq_fun=lambda x: 25 - jnp.prod(x),
        bounds=(1.0, 5.0),
    ),
    93: Problem(
        _hs93,
        (5.54, 4.4, 12.02, 11.82, 0.702, 0.852),
        135.075961,
        ineq_fun=_hs93_ineq,
        bounds=(0.0, np.inf),
    ),
    100: Problem(_hs100, (1.0, 2.0, 0.0, 4.0, 0.0, 1.0, 1.0), 680.6300573, ineq_fun=_hs100_ineq),
}
