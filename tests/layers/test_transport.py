"""Projections onto the transport polytope against Clarabel, SciPy and finite differences."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from numerical import agrees, derivative
from numpy.testing import assert_allclose

from mdsens.errors import InputError
from mdsens.layers.transport import (
    kl_projection_birkhoff,
    kl_projection_transport,
    projection_birkhoff,
    projection_transport,
)

PROJECTIONS = {"euclidean": projection_transport, "entropic": kl_projection_transport}
rng = np.random.default_rng(8)
S = rng.normal(size=(4, 5))
A, B = rng.dirichlet(3 * np.ones(4)), rng.dirichlet(3 * np.ones(5))


def energy(projection):
    return lambda S, marginals: jnp.sum(jnp.sin(3 * projection(S, marginals)))


compiled = {name: jax.jit(projection) for name, projection in PROJECTIONS.items()}
jacobians = {
    name: [jax.jit(mode(projection, (0, 1))) for mode in (jax.jacfwd, jax.jacrev)]
    for name, projection in PROJECTIONS.items()
}
gradients = {name: jax.jit(jax.grad(energy(p))) for name, p in PROJECTIONS.items()}
hessians = {name: jax.jit(jax.hessian(energy(p))) for name, p in PROJECTIONS.items()}


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("scale", [1e-3, 0.1, 3.0])
def test_projections_solve_their_program(name, scale):
    P = cp.Variable(S.shape, nonneg=True)
    cost = {
        "euclidean": lambda: cp.sum_squares(P - scale * S) / 2,
        "entropic": lambda: -cp.sum(cp.entr(P)) - cp.sum(cp.multiply(P, scale * S)),
    }[name]()
    problem = cp.Problem(cp.Minimize(cost), [cp.sum(P, axis=1) == A, cp.sum(P, axis=0) == B])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert_allclose(compiled[name](scale * S, (A, B)), P.value, atol=1e-6)


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_plans_have_their_marginals_to_rounding(name, scale):
    P = np.asarray(compiled[name](scale * S, (A, B)))
    assert P.min() >= 0
    assert_allclose(P.sum(axis=1), A, atol=1e-12)
    assert_allclose(P.sum(axis=0), B, atol=1e-12)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_where_scores_are_large_the_plan_is_that_of_the_linear_program(name):
    rows, columns = scipy.optimize.linear_sum_assignment(-S[:, :4])
    permutation = np.zeros((4, 4))
    permutation[rows, columns] = 1
    ones = np.ones(4)
    assert_allclose(PROJECTIONS[name](1e3 * S[:, :4], (ones, ones)), permutation, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("mode", [0, 1], ids=["forward", "reverse"])
@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_derivatives_are_those_of_finite_differences(name, mode, scale):
    directions = np.random.default_rng(9)
    dS, da, db = (directions.normal(size=v.shape) for v in (S, A, B))
    db = db + (da.sum() - db.sum()) / db.size  # the totals stay equal

    def moved(h):
        return compiled[name](scale * S + h * dS, (A + h * da, B + h * db))

    in_S, (in_a, in_b) = jacobians[name][mode](scale * S, (A, B))
    tangent = np.tensordot(in_S, dS, 2) + in_a @ da + in_b @ db
    # Newton's method stops at 8 units of rounding in the sums of columns.
    agrees(tangent, derivative(moved, 0.0, 1e-4, noise=1e-14), 1e-7, scale=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTIONS)
def test_second_derivatives_are_those_of_finite_differences(name):
    direction = np.random.default_rng(10).normal(size=S.shape)

    def slope(h):
        return gradients[name](0.3 * S + h * direction, (A, B))

    hessian = hessians[name](0.3 * S, (A, B))
    expected = derivative(slope, 0.0, 1e-4, noise=1e-14)
    agrees(np.tensordot(hessian, direction, 2), expected, 1e-7, scale=1.0)


@pytest.mark.parametrize("name", ["vertex", "zero marginals", "ties"])
def test_at_vertices_and_kinks_the_jacobian_is_that_of_a_projection(name):
    x, marginals = {
        "vertex": (1e2 * S, (np.full(4, 0.25), np.append(np.full(4, 0.25), 0.0))),
        "zero marginals": (S, (np.array([0.0, 0.5, 0.0, 0.5]), np.array([0.5, 0, 0, 0.25, 0.25]))),
        "ties": (0 * S, (np.full(4, 0.25), np.full(5, 0.2))),
    }[name]
    for mode in jacobians["euclidean"]:
        in_S, (in_a, in_b) = mode(x, marginals)
        J = np.asarray(in_S).reshape(20, 20)
        eigenvalues = np.linalg.eigvalsh((J + J.T) / 2)
        assert np.isfinite(in_a).all()
        assert np.isfinite(in_b).all()
        assert_allclose(J, J.T, atol=1e-12)
        assert -1e-12 <= eigenvalues[0] <= eigenvalues[-1] <= 1 + 1e-12


def test_at_a_vertex_the_plan_does_not_move():
    marginals = np.full(4, 0.25), np.append(np.full(4, 0.25), 0.0)
    for mode in jacobians["euclidean"]:
        assert_allclose(mode(1e2 * S, marginals)[0], np.zeros((4, 5, 4, 5)), atol=0)


@pytest.mark.parametrize(
    ("birkhoff", "name"), [(projection_birkhoff, "euclidean"), (kl_projection_birkhoff, "entropic")]
)
def test_doubly_stochastic_matrices_are_plans_with_marginals_of_one(birkhoff, name):
    ones = np.ones(4)
    expected = PROJECTIONS[name](S[:, :4], (ones, ones))
    assert_allclose(birkhoff(S[:, :4]), expected, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTIONS)
def test_many_plans_are_found_by_vmap(name):
    batch = np.stack([S, 0.1 * S, -S])
    plans = jax.vmap(PROJECTIONS[name], (0, None))(batch, (A, B))
    each = [compiled[name](one, (A, B)) for one in batch]
    assert_allclose(plans, np.stack(each), atol=1e-13)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_single_precision_stays(name):
    a, b = np.full(4, 0.25, np.float32), np.full(5, 0.2, np.float32)
    P = PROJECTIONS[name](S.astype(np.float32), (a, b))
    assert P.dtype == jnp.float32
    assert_allclose(P, compiled[name](S, (np.full(4, 0.25), np.full(5, 0.2))), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: projection_transport(S, (A, 2 * B)), "totals"),
        (lambda: projection_transport(S, (A - 0.5, B)), "negative"),
        (lambda: projection_transport(S, (B, A)), "shapes"),
        (lambda: kl_projection_transport(S, (A, np.array([1.0, 0, 0, 0, 0]))), "positive"),
        (lambda: projection_birkhoff(S), "square"),
        (lambda: projection_transport(S.astype(bool), (A, B)), "bool"),
    ],
)
def test_wrong_inputs_are_errors(call, words):
    with pytest.raises(InputError, match=words):
        call()
