"""Projections onto cones against Clarabel, closed forms and the theorem of Moreau."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerical import agrees, derivative
from numpy.testing import assert_allclose

from mdsens.errors import InputError
from mdsens.layers.cones import (
    Cones,
    projection_cone,
    projection_dual_cone,
    projection_exponential_cone,
    projection_second_order_cone,
)

# Rounding of a short computation with numbers of a few units.
NOISE = 16 * np.finfo(float).eps

CONES = Cones(zero=2, nonnegative=2, second_order=(3, 3, 1), exponential=2)
X = np.random.default_rng(3).normal(size=(8, CONES.dimension))

project = jax.jit(jax.vmap(projection_exponential_cone))
jacobian = jax.jit(jax.vmap(jax.jacrev(projection_exponential_cone)))


@jax.jit
@jax.vmap
def hessian(x):
    return jax.hessian(lambda x: jnp.sum(jnp.sin(projection_exponential_cone(x))))(x)


project_both = jax.jit(
    jax.vmap(lambda x: (projection_cone(x, CONES), projection_dual_cone(x, CONES)))
)


@jax.jit
def second_order_derivatives(x):
    first = jax.jacrev(projection_second_order_cone)
    return first(x), jax.jacfwd(first)(x)


# Every sign and size of each entry: faces, edges, the apex, far along the flat faces.
SIZES = [-1e200, -1.0, -1e-3, -1e-30, 0.0, 1e-200, 1e-10, 1.0, 1e200]
GRID = np.stack(np.meshgrid(SIZES, SIZES, SIZES), axis=-1).reshape(-1, 3)
RANDOM = np.random.default_rng(4).normal(size=(300, 3))


def scaled(points):
    largest = np.abs(points).max(axis=1, keepdims=True)
    return np.where(largest == 0, 1, largest)


def nearest(x, cones, dual):
    """The projection by Clarabel, from the definitions of the cones."""
    p = cp.Variable(x.size)
    constraints, start = [], cones.zero
    if not dual:
        constraints.append(p[: cones.zero] == 0)
    constraints.append(p[start : start + cones.nonnegative] >= 0)
    start += cones.nonnegative
    for length in cones.second_order:
        constraints.append(cp.SOC(p[start], p[start + 1 : start + length]))
        start += length
    for _ in range(cones.exponential):
        u, v, w = p[start], p[start + 1], p[start + 2]
        # The dual is { -u exp(v / u) <= e w, u < 0 }: (u - v, -u, w) is in the cone.
        triple = (u - v, -u, w) if dual else (u, v, w)
        constraints.append(cp.ExpCone(*triple))
        start += 3
    problem = cp.Problem(cp.Minimize(cp.sum_squares(p - x)), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return p.value


@pytest.mark.slow
@pytest.mark.parametrize("dual", [False, True])
def test_projections_onto_products_and_their_duals_solve_their_program(dual):
    expected = np.stack([nearest(x, CONES, dual) for x in X])
    assert_allclose(project_both(X)[dual], expected, atol=2e-6)


def test_a_point_is_its_projection_less_the_dual_one_of_its_opposite():
    assert_allclose(project_both(X)[0] - project_both(-X)[1], X, atol=1e-15)


@pytest.mark.parametrize("points", [RANDOM, GRID], ids=["random", "extreme"])
def test_the_exponential_projection_is_in_the_cone_and_orthogonal_to_what_it_takes_away(points):
    size = scaled(points)
    x, y, z = (p := np.asarray(project(points)) / size).T
    moved = p - points / size
    with np.errstate(all="ignore"):
        # How far x, or z, is outside, whichever is less.
        inside = np.where(
            y > 0, np.fmin(x - y * np.log(z / y), y * np.exp(x / y) - z), np.maximum(x, -z)
        )
        u, v, w = moved.T
        dual = np.where(
            u < 0,
            np.fmin(-u * np.exp(v / u - 1) - w, u - v + u * np.log(-w / u)),
            np.maximum(-v, -w),
        )
    assert inside.max() < 1e-14
    assert dual.max() < 1e-14
    assert_allclose(np.sum(p * moved, axis=1), 0, atol=1e-14)


@pytest.mark.parametrize("points", [RANDOM, GRID], ids=["random", "extreme"])
def test_the_exponential_jacobian_is_that_of_a_projection_everywhere(points):
    J = np.asarray(jacobian(points))
    eigenvalues = np.linalg.eigvalsh(J)
    assert_allclose(J, J.transpose(0, 2, 1), atol=1e-13)
    assert eigenvalues.min() > -1e-13
    assert eigenvalues.max() < 1 + 1e-13
    # Euler: the projection is homogeneous.
    size = scaled(points)
    assert_allclose(
        np.einsum("nij,nj->ni", J, points / size), np.asarray(project(points)) / size, atol=1e-13
    )


def test_exponential_derivatives_are_those_of_finite_differences():
    smooth = RANDOM
    found = jacobian(smooth)
    for column, e in enumerate(np.eye(3)):
        expected = derivative(lambda t, e=e: project(smooth + t * e), 0.0, 1e-4, noise=NOISE)
        # Where a step crosses from one piece of the cone to another there is nothing to compare.
        fit = expected.error.max(axis=1) < 1e-8
        assert fit.mean() > 0.95
        agrees(found[fit, :, column], expected[fit], 1e-6, scale=1.0)


@pytest.mark.slow
def test_exponential_second_derivatives_are_finite_at_the_extremes_and_right_in_between():
    assert np.isfinite(hessian(GRID)).all()
    point = np.array([0.4, 0.3, -0.2])

    def slope(x):
        return np.cos(project(x[None])[0]) @ jacobian(x[None])[0]

    found = hessian(point[None])[0]
    for row, e in zip(found, np.eye(3), strict=True):
        expected = derivative(lambda t, e=e: slope(point + t * e), 0.0, 1e-3, noise=NOISE)
        agrees(row, expected, 1e-7, scale=1.0)


def test_the_second_order_cone_has_its_closed_form_jacobian():
    t, z = 0.5, np.array([1.0, -2.0, 0.7])
    length = np.linalg.norm(z)
    unit = z / length
    # Ali, Wong and Kolter 2017: the derivative where |z| > |t|.
    block = np.eye(3) * (1 + t / length) - t / length * np.outer(unit, unit)
    expected = 0.5 * np.block([[np.ones((1, 1)), unit[None]], [unit[:, None], block]])
    assert_allclose(jax.jacfwd(projection_second_order_cone)(np.append(t, z)), expected, atol=1e-15)


@pytest.mark.parametrize(
    "x", [[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0], [5.0, 3, 4], [-5.0, 3, 4], [0.0, 3, 4]]
)
def test_at_kinks_the_second_order_jacobian_is_that_of_a_projection(x):
    J, H = map(np.asarray, second_order_derivatives(np.array(x)))
    eigenvalues = np.linalg.eigvalsh((J + J.T) / 2)
    assert_allclose(J, J.T, atol=1e-15)
    assert -1e-15 < eigenvalues[0] <= eigenvalues[-1] < 1 + 1e-15
    assert np.isfinite(H).all()


def test_a_second_order_cone_of_one_entry_is_the_half_line():
    values = [projection_second_order_cone(np.array([t]))[0] for t in (-2.0, 0.0, 3.0)]
    assert_allclose(values, [0, 0, 3])


def test_single_precision_stays():
    single = project(RANDOM.astype(np.float32))
    assert single.dtype == jnp.float32
    assert_allclose(single, project(RANDOM), atol=2e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: projection_cone(X[0, :-1], CONES), "dimension"),
        (lambda: projection_cone(np.ones(3, bool), Cones(zero=3)), "bool"),
        (lambda: projection_exponential_cone(np.ones(4)), "three|\\(3,\\)"),
    ],
)
def test_wrong_inputs_are_errors(call, words):
    with pytest.raises(InputError, match=words):
        call()
