"""Proximal operators against Clarabel, closed forms and finite differences."""

import functools

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerical import agrees, derivative
from numpy.testing import assert_allclose

from mdsens.errors import InputError
from mdsens.layers.projection import projection_simplex
from mdsens.layers.prox import (
    make_prox_from_projection,
    prox_elastic_net,
    prox_group_lasso,
    prox_lasso,
    prox_log_barrier,
    prox_non_negative_lasso,
    prox_non_negative_ridge,
    prox_none,
    prox_nuclear_norm,
    prox_ridge,
    prox_total_variation_1d,
)

# Rounding of a short computation with numbers of a few units.
NOISE = 16 * np.finfo(float).eps

X = np.array([0.9, -0.45, 0.35, -1.2, 0.6, 0.5])
MATRIX = np.random.default_rng(5).normal(size=(4, 3))

# name: (operator, regulariser, g for cvxpy, domain)
CASES = {
    "none": (prox_none, 1.0, lambda y, r: 0 * cp.sum(y), None),
    "lasso": (prox_lasso, 0.8, lambda y, r: r * cp.norm1(y), None),
    "weighted lasso": (prox_lasso, X**2, lambda y, r: r @ cp.abs(y), None),
    "non-negative lasso": (prox_non_negative_lasso, 0.8, lambda y, r: r * cp.norm1(y), 0),
    "ridge": (prox_ridge, 0.8, lambda y, r: r / 2 * cp.sum_squares(y), None),
    "non-negative ridge": (
        prox_non_negative_ridge,
        0.8,
        lambda y, r: r / 2 * cp.sum_squares(y),
        0,
    ),
    "elastic net": (
        prox_elastic_net,
        (0.8, 0.7),
        lambda y, r: r[0] * (cp.norm1(y) + r[1] / 2 * cp.sum_squares(y)),
        None,
    ),
    "group lasso": (prox_group_lasso, 0.8, lambda y, r: r * cp.norm2(y), None),
    "log barrier": (prox_log_barrier, 0.8, lambda y, r: -r * cp.sum(cp.log(y)), None),
    "total variation": (prox_total_variation_1d, 0.8, lambda y, r: r * cp.tv(y), None),
    "nuclear norm": (prox_nuclear_norm, 0.8, lambda y, r: r * cp.normNuc(y), None),
}
SCALING = 0.5


def point(name):
    return MATRIX if name == "nuclear norm" else X


@functools.cache
def compiled(name):
    """Operator, its Jacobians in both modes and the Hessian of a function of it."""
    operator = CASES[name][0]

    def energy(x, reg, scaling):
        return jnp.sum(jnp.sin(operator(x, reg, scaling)))

    return jax.jit(
        lambda x, reg, scaling: (
            operator(x, reg, scaling),
            jax.jacfwd(operator, (0, 1, 2))(x, reg, scaling),
            jax.jacrev(operator, (0, 1, 2))(x, reg, scaling),
            jax.hessian(energy)(x, reg, scaling),
        )
    )


def evaluate(name, x, reg, scaling=SCALING):
    return compiled(name)(*jax.tree.map(lambda v: jnp.asarray(v, float), (x, reg, scaling)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_proximal_operators_solve_their_program(name):
    _, reg, g, domain = CASES[name]
    x = point(name)
    y = cp.Variable(x.shape)
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(y - x) / 2 + SCALING * g(y, reg)),
        [] if domain is None else [y >= domain],
    )
    tight = {} if name == "nuclear norm" else {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12}
    problem.solve(solver=cp.CLARABEL, **tight)
    assert_allclose(evaluate(name, x, reg)[0], y.value, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", [1, 2], ids=["forward", "reverse"])
def test_derivatives_are_those_of_finite_differences(name, mode):
    _, reg, _, _ = CASES[name]
    at = jax.tree.map(lambda v: jnp.asarray(v, float), (point(name), reg, SCALING))
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), at)

    def moved(step):
        return compiled(name)(*jax.tree.map(lambda leaf, d: leaf + step * d, at, direction))[0]

    products = jax.tree.map(
        lambda J, d: jnp.tensordot(J, d, np.ndim(d)), compiled(name)(*at)[mode], direction
    )
    # Steps stay on the piece that the point lies on; numbers of a few units are right to rounding.
    expected = derivative(moved, 0.0, 1e-4, noise=NOISE)
    agrees(sum(jax.tree.leaves(products)), expected, 1e-8, scale=1.0)


KINKS = {
    "lasso": [(np.array([0.4, -0.4, 0, 1, 1, 1]), 0.8), (0 * X, 0.0)],
    "non-negative lasso": [(np.array([0.4, -0.4, 0, 1, 1, 1]), 0.8), (0 * X, 0.0)],
    "non-negative ridge": [(0 * X, 0.8)],
    "elastic net": [(np.array([0.4, -0.4, 0, 1, 1, 1]), (0.8, 0.7)), (0 * X, (0.0, 0.0))],
    "group lasso": [(0 * X, 0.8), (0.4 * np.eye(6)[0], 0.8), (0 * X, 0.0)],
    "log barrier": [(0 * X, 0.0), (X, 0.0), (-1e8 + 0 * X, 0.8)],
    "total variation": [
        (0 * X, 0.8),
        (0 * X, 0.0),
        (np.array([0.0, 0.4, 0.4, 0.0, 0.4, 0.8]), 0.8),
        (np.array([0.0, 0, 1, 1, 1, 0]), 0.5),
    ],
    "nuclear norm": [
        (np.zeros((4, 3)), 0.8),
        (np.zeros((4, 3)), 0.0),
        (np.eye(4)[:, :3], 0.8),
        (np.eye(4)[:, :3] * 0.4, 0.8),
        (np.linalg.qr(MATRIX)[0] * 0.4, 0.8),
        (np.outer(MATRIX[:, 0], MATRIX[0]), 0.8),
        (np.outer(MATRIX[:, 0], MATRIX[0]), 0.0),
    ],
}


@pytest.mark.parametrize(("name", "at"), [(n, i) for n, c in KINKS.items() for i in range(len(c))])
def test_at_kinks_the_jacobian_is_that_of_an_operator_and_all_derivatives_are_finite(name, at):
    x, reg = KINKS[name][at]
    values = evaluate(name, x, reg)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    for jacobians in values[1:3]:
        jacobian = np.asarray(jacobians[0]).reshape(x.size, x.size)
        eigenvalues = np.linalg.eigvalsh((jacobian + jacobian.T) / 2)
        assert_allclose(jacobian, jacobian.T, atol=1e-14)
        assert -1e-14 <= eigenvalues[0] <= eigenvalues[-1] <= 1 + 1e-14


@pytest.mark.parametrize(
    ("name", "reg"),
    [
        (name, (0.0, 0.0) if name == "elastic net" else 0.0)
        for name in CASES
        if "weighted" not in name
    ],
)
def test_without_a_regulariser_the_operator_is_the_projection_onto_its_domain(name, reg):
    x = point(name)
    restricted = "non-negative" in name or name == "log barrier"
    inside = (x > 0) if restricted else np.ones(x.shape, bool)
    value, (jacobian, *_), _, _ = evaluate(name, x, reg)
    assert_allclose(value, np.where(inside, x, 0), atol=1e-14)
    assert_allclose(
        np.asarray(jacobian).reshape(x.size, x.size), np.diag(inside.ravel() * 1.0), atol=1e-14
    )


def test_the_total_variation_has_the_mean_over_each_segment_for_a_jacobian():
    x = np.array([0.0, 0.1, 5.0, 5.2, 5.1, -3.0])
    value, (in_x, in_reg, _), _, _ = evaluate("total variation", x, 0.8)
    mean = np.zeros((6, 6))
    for segment in (slice(0, 2), slice(2, 5), slice(5, 6)):
        mean[segment, segment] = 1 / (segment.stop - segment.start)
    assert_allclose(in_x, mean, atol=1e-15)
    # Each segment is pulled by its jumps: up by one, down by two, up by one.
    pull = np.array([1 / 2, 1 / 2, -2 / 3, -2 / 3, -2 / 3, 1])
    assert_allclose(value, mean @ x + 0.4 * pull, atol=1e-15)
    assert_allclose(in_reg, SCALING * pull, atol=1e-15)


@pytest.mark.parametrize("size", [1, 2, 300])
@pytest.mark.parametrize("reg", [0.01, 1.0, 30.0])
def test_the_total_variation_solution_fulfils_the_optimality_conditions(size, reg):
    rng = np.random.default_rng(6)
    for x in (rng.normal(size=size).cumsum(), rng.integers(0, 3, size=size).astype(float)):
        y = np.asarray(jax.jit(prox_total_variation_1d)(x, reg))
        dual, jumps = np.cumsum(x - y), np.sign(np.diff(y))
        assert abs(dual[-1]) < 1e-12
        assert np.abs(dual).max() <= reg + 1e-12
        assert_allclose(dual[:-1][jumps != 0], -reg * jumps[jumps != 0], atol=1e-12)


@pytest.mark.parametrize(
    "values", [[2.0, 2.0, 0.3], [1.0, 0.0, 0.0], [2.0, 1.0, 0.5]], ids=["repeated", "zero", "both"]
)
def test_second_derivatives_of_the_nuclear_norm_hold_for_repeated_and_zero_singular_values(values):
    U, _, Vt = np.linalg.svd(MATRIX, full_matrices=False)
    x = (U * np.array(values)) @ Vt
    direction = np.random.default_rng(7).normal(size=x.shape)

    def slope(x):
        value, (jacobian, *_), _, _ = evaluate("nuclear norm", x, 0.8)
        return np.tensordot(np.cos(value), jacobian, 2)

    expected = derivative(lambda t: slope(x + t * direction), 0.0, 1e-3, noise=NOISE)
    hessian = evaluate("nuclear norm", x, 0.8)[3]
    agrees(np.tensordot(hessian, direction, 2), expected, 1e-7, scale=1.0)


def test_groups_are_made_by_vmap_and_pytrees_by_leaves():
    batch = np.stack([X, 0.1 * X])
    groups = jax.vmap(prox_group_lasso, (0, None))(batch, 0.8)
    assert_allclose(groups[0], X * (1 - 0.8 / np.linalg.norm(X)), rtol=1e-14)
    assert_allclose(groups[1], 0 * X)
    tree = {"a": X[:2], "b": X[2:].reshape(2, 2)}
    result = prox_lasso(tree, {"a": 0.1, "b": 0.2})
    assert_allclose(result["a"], prox_lasso(X[:2], 0.1))
    assert_allclose(result["b"].ravel(), prox_lasso(X[2:], 0.2))


def test_a_projection_is_a_proximal_operator_for_every_scaling():
    prox = make_prox_from_projection(projection_simplex)
    assert_allclose(prox(X, 2.0, 7.0), projection_simplex(X, 2.0), atol=0)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_stays(name):
    operator, reg, _, _ = CASES[name]
    reg = jax.tree.map(lambda v: v if isinstance(v, float) else v.astype(np.float32), reg)
    x = jnp.asarray(point(name), jnp.float32)
    assert operator(x, reg, 0.5).dtype == jnp.float32


@pytest.mark.parametrize(
    "operator", [case[0] for name, case in CASES.items() if name not in ("none", "elastic net")]
)
def test_negative_regularisers_and_scalings_are_errors(operator):
    x = MATRIX if operator is prox_nuclear_norm else X
    with pytest.raises(InputError, match="negative"):
        operator(x, -1.0)
    with pytest.raises(InputError, match=r"scaling = -1\.0 is negative"):
        operator(x, 1.0, -1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: prox_elastic_net(X, (1.0, -1.0)), r"ratio = -1\.0 is negative"),
        (lambda: prox_lasso(np.ones(3, bool)), "bool"),
        (lambda: prox_lasso({}), "no arrays"),
        (lambda: prox_nuclear_norm(X), "vmap"),
        (lambda: prox_total_variation_1d(MATRIX), "vmap"),
        (lambda: prox_total_variation_1d(X, X**2), "one number"),
    ],
)
def test_wrong_inputs_are_errors(call, words):
    with pytest.raises(InputError, match=words):
        call()
