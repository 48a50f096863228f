"""Projections against closed forms, Clarabel and finite differences; their derivatives at kinks."""

import functools

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerical import agrees, derivative
from numpy.testing import assert_allclose

from mdsens.errors import InputError
from mdsens.layers.projection import (
    kl_projection_simplex,
    projection_affine_set,
    projection_box,
    projection_box_section,
    projection_halfspace,
    projection_hypercube,
    projection_hyperplane,
    projection_l1_ball,
    projection_l1_sphere,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_non_negative,
    projection_simplex,
    projection_sparse_simplex,
)

# Rounding of a short computation with numbers of a few units.
NOISE = 16 * np.finfo(float).eps

X = np.array([0.9, -0.45, 0.35, -1.2, 0.6])
A = np.array([[1.0, 2.0, -1.0, 0.5, 0.3], [0.2, -1.0, 0.4, 1.5, 2.0]])
B = np.array([0.7, -0.2])
REDUNDANT = np.vstack([A, A[0] - 2 * A[1]])
W = np.array([0.5, 1.0, 2.0, 0.8, 1.3])

# name: (projection, hyperparameters, constraints for cvxpy)
CONVEX = {
    "non-negative": (projection_non_negative, None, lambda p, h: [p >= 0]),
    "box": (projection_box, (-0.5, 0.5), lambda p, h: [p >= h[0], p <= h[1]]),
    "hypercube": (projection_hypercube, 0.7, lambda p, h: [p >= 0, p <= h]),
    "simplex": (projection_simplex, 1.5, lambda p, h: [p >= 0, cp.sum(p) == h]),
    "l1 ball": (projection_l1_ball, 1.5, lambda p, h: [cp.norm1(p) <= h]),
    "l2 ball": (projection_l2_ball, 1.5, lambda p, h: [cp.norm2(p) <= h]),
    "linf ball": (projection_linf_ball, 0.5, lambda p, h: [cp.norm_inf(p) <= h]),
    "hyperplane": (projection_hyperplane, (A[0], 0.3), lambda p, h: [h[0] @ p == h[1]]),
    "halfspace": (projection_halfspace, (A[0], -1.0), lambda p, h: [h[0] @ p <= h[1]]),
    "affine set": (projection_affine_set, (A, B), lambda p, h: [h[0] @ p == h[1]]),
    "box section": (
        projection_box_section,
        (-0.5, 0.8 * np.ones(5), W, 1.0),
        lambda p, h: [p >= h[0], p <= h[1], h[2] @ p == h[3]],
    ),
}
OTHERS = {
    "l1 sphere": (projection_l1_sphere, 1.5),
    "l2 sphere": (projection_l2_sphere, 1.5),
    "sparse simplex": (lambda x, value: projection_sparse_simplex(x, 2, value=value), 1.5),
    "kl simplex": (kl_projection_simplex, 1.5),
}
ALL = {name: case[:2] for name, case in CONVEX.items()} | OTHERS


def floats(hyperparams):
    return jax.tree.map(lambda value: jnp.asarray(value, float), hyperparams)


@functools.cache
def compiled(name):
    """Projection, its Jacobians in both modes and the Hessian of a function of it."""
    projection, _ = ALL[name]

    def energy(x, h):
        return jnp.sum(jnp.sin(projection(x, h)))

    return jax.jit(
        lambda x, h: (
            projection(x, h),
            jax.jacfwd(projection, (0, 1))(x, h),
            jax.jacrev(projection, (0, 1))(x, h),
            jax.hessian(energy)(x, h),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVEX)
def test_projections_solve_their_program(name):
    _, hyperparams, constraints = CONVEX[name]
    p = cp.Variable(5)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(p - X)), constraints(p, hyperparams))
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert_allclose(compiled(name)(X, floats(hyperparams))[0], p.value, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", [1, 2], ids=["forward", "reverse"])
def test_derivatives_are_those_of_finite_differences(name, mode):
    h = floats(ALL[name][1])
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), (X, h))

    def moved(step):
        at = jax.tree.map(lambda at, d: at + step * d, (jnp.asarray(X), h), direction)
        return compiled(name)(*at)[0]

    jacobians = compiled(name)(X, h)[mode]
    tangent = sum(
        jax.tree.leaves(
            jax.tree.map(lambda J, d: jnp.tensordot(J, d, np.ndim(d)), jacobians, direction)
        )
    )
    # Steps stay on the piece that the point lies on; numbers of a few units are right to rounding.
    agrees(tangent, derivative(moved, 0.0, 1e-4, noise=NOISE), 1e-8, scale=1.0)


def test_the_simplex_projection_has_its_closed_form_jacobian():
    p, (in_x, in_value), _, _ = compiled("simplex")(X, 1.5)
    s = (np.asarray(p) > 0).astype(float)
    assert_allclose(in_x, np.diag(s) - np.outer(s, s) / s.sum(), atol=1e-15)
    assert_allclose(in_value, s / s.sum(), atol=1e-15)


KINKS = {
    "non-negative": [(np.zeros(5), None), (X * (X > 0), None)],
    "box": [(np.array([0.5, -0.5, 0, 0.5, 1]), (-0.5, 0.5)), (np.zeros(5), (0.0, 0.0))],
    "hypercube": [(np.zeros(5), 0.0), (np.ones(5) * 0.7, 0.7)],
    "simplex": [(np.zeros(5), 0.0), (np.array([1.0, 1, 0, 0, 0]), 1.0), (np.ones(5), 2.0)],
    "l1 ball": [
        (np.zeros(5), 0.0),
        (np.zeros(5), 1.5),
        (np.array([1.0, 0, -0.5, 0, 0]), 1.5),
        (np.array([1.0, 0, -1.0, 0, 0]), 1.5),
    ],
    "l2 ball": [(np.zeros(5), 0.0), (np.zeros(5), 1.5), (1.5 * np.eye(5)[2], 1.5), (X, 0.0)],
    "linf ball": [(np.zeros(5), 0.0), (0.5 * np.sign(X), 0.5)],
    "halfspace": [(np.zeros(5), (A[0], 0.0))],
    "box section": [
        (np.zeros(5), (-0.5, 0.8 * np.ones(5), W, -0.5 * W.sum())),
        (np.zeros(5), (-0.5, 0.8 * np.ones(5), W, 0.8 * W.sum())),
        (X, (0.3, 0.3 * np.ones(5), W, 0.3 * W.sum())),
    ],
}


@pytest.mark.parametrize(("name", "at"), [(n, i) for n, c in KINKS.items() for i in range(len(c))])
def test_at_kinks_the_jacobian_is_that_of_a_projection_and_all_derivatives_are_finite(name, at):
    x, hyperparams = KINKS[name][at]
    values = compiled(name)(x, floats(hyperparams))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    for jacobians in values[1:3]:
        jacobian = np.asarray(jacobians[0])
        eigenvalues = np.linalg.eigvalsh((jacobian + jacobian.T) / 2)
        assert_allclose(jacobian, jacobian.T, atol=1e-14)
        assert -1e-14 <= eigenvalues[0] <= eigenvalues[-1] <= 1 + 1e-14


# Sets that are a single point: the projection onto them does not move with x.
@pytest.mark.parametrize(
    ("name", "at"), [("box", 1), ("simplex", 0), ("l1 ball", 0), ("l2 ball", 0), ("box section", 2)]
)
def test_a_projection_onto_one_point_has_derivative_zero(name, at):
    x, hyperparams = KINKS[name][at]
    assert_allclose(compiled(name)(x, floats(hyperparams))[1][0], np.zeros((5, 5)), atol=0)


@pytest.mark.parametrize("name", ["l1 sphere", "l2 sphere"])
def test_the_origin_is_projected_onto_the_sphere(name):
    values = compiled(name)(np.zeros(5), 1.5)
    assert_allclose(np.linalg.norm(values[0], {"l1 sphere": 1, "l2 sphere": 2}[name]), 1.5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_large_entries_do_not_spoil_the_simplex():
    assert_allclose(projection_simplex(1e17 + 1e3 * jnp.arange(3.0)), [0, 0, 1])


def test_norms_neither_overflow_nor_underflow():
    assert_allclose(projection_l2_ball(jnp.array([3e300, 4e300])), [0.6, 0.8], rtol=1e-14)
    assert_allclose(projection_l2_sphere(jnp.array([3e-300, 4e-300])), [0.6, 0.8], rtol=1e-14)


def test_redundant_rows_change_neither_projection_nor_derivative():
    redundant = REDUNDANT @ np.eye(5), np.append(B, B[0] - 2 * B[1])
    jacobian = jax.jacrev(projection_affine_set)
    assert_allclose(
        projection_affine_set(X, redundant), projection_affine_set(X, (A, B)), atol=1e-14
    )
    assert_allclose(jacobian(X, redundant), jacobian(X, (A, B)), atol=1e-14)


def test_infinite_bounds_of_a_box_section_leave_a_simplex_or_a_hyperplane():
    assert_allclose(
        projection_box_section(X, (0.0, jnp.inf, 1.0, 1.5)), projection_simplex(X, 1.5), atol=1e-15
    )
    assert_allclose(
        projection_box_section(X, (-jnp.inf, jnp.inf, W, 1.0)),
        projection_hyperplane(X, (W, 1.0)),
        atol=1e-15,
    )


def test_pytrees_are_projected_as_one_vector():
    tree = {"a": X[:2].reshape(1, 2), "b": X[2:]}
    normal = {"a": A[0, :2].reshape(1, 2), "b": A[0, 2:]}
    for projection, of_tree, of_vector in (
        (projection_l2_ball, 1.0, 1.0),
        (projection_l2_sphere, 1.0, 1.0),
        (projection_halfspace, (normal, -1.0), (A[0], -1.0)),
        (projection_box, ({"a": -0.1, "b": -0.2}, 0.3), (np.array([-0.1] * 2 + [-0.2] * 3), 0.3)),
    ):
        leaves = jax.tree.leaves(projection(tree, of_tree))
        assert_allclose(
            np.concatenate([np.ravel(leaf) for leaf in leaves]), projection(X, of_vector)
        )


def test_many_vectors_are_projected_by_vmap():
    batch = np.stack([X, -X, 2 * X])
    values = jax.vmap(projection_box_section, (0, None))(batch, (-1.0, 1.0, W, 0.5))
    each = [projection_box_section(x, (-1.0, 1.0, W, 0.5)) for x in batch]
    assert_allclose(values, np.stack(each), atol=1e-15)


@pytest.mark.parametrize("name", ALL)
def test_single_precision_stays(name):
    projection, hyperparams = ALL[name]
    h = jax.tree.map(
        lambda v: v if isinstance(v, float) else jnp.asarray(v, jnp.float32), hyperparams
    )
    assert projection(jnp.asarray(X, jnp.float32), h).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: projection_simplex(X, -1.0), "negative"),
        (lambda: projection_simplex(X, np.ones(2)), "one number"),
        (lambda: projection_simplex(np.ones((2, 2))), "vmap"),
        (lambda: projection_simplex(np.ones(3, bool)), "bool"),
        (lambda: projection_l1_ball(X, -1.0), "negative"),
        (lambda: projection_l2_ball(X, -1.0), "negative"),
        (lambda: projection_l2_sphere(X, jnp.nan), "not a number"),
        (lambda: projection_linf_ball(X, -1.0), "lower bound"),
        (lambda: projection_box(X, (1.0, 0.0)), "lower bound"),
        (lambda: projection_box({"a": X}, ({"b": 0.0}, 1.0)), "structure"),
        (lambda: projection_box(X, (np.zeros(3), 1.0)), "broadcasts"),
        (lambda: projection_hyperplane(X, (0 * X, 1.0)), "normal"),
        (lambda: projection_halfspace(X, (0 * X, 1.0)), "normal"),
        (lambda: projection_affine_set(X, (REDUNDANT, np.append(B, 5.0))), "contradict"),
        (lambda: projection_affine_set(X, (A, np.ones(3))), "shapes"),
        (lambda: projection_box_section(X, (0.0, 1.0, W, 100.0)), "out of reach"),
        (lambda: projection_box_section(X, (0.0, 1.0, -W, 1.0)), "weights > 0"),
        (lambda: projection_box_section(X, (1.0, 0.0, W, 1.0)), "above"),
        (lambda: projection_sparse_simplex(X, 0), "max_nz"),
    ],
)
def test_empty_sets_and_wrong_inputs_are_errors(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_an_empty_set_inside_compiled_code_is_an_error():
    with pytest.raises(Exception, match="negative"):
        jax.jit(projection_simplex)(X, -1.0).block_until_ready()


def test_arrays_without_numbers_change_nothing_and_alone_have_no_sphere():
    nothing = jnp.zeros(0)
    x, a = {"x": jnp.asarray(X), "y": nothing}, {"x": jnp.asarray(W), "y": nothing}
    for projection in (projection_hyperplane, projection_halfspace):
        found = projection(x, (a, 0.3))
        assert_allclose(found["x"], projection(X, (W, 0.3)), rtol=0, atol=NOISE)
        assert found["y"].shape == (0,)
    with pytest.raises(InputError, match="the normal a is 0"):
        projection_hyperplane(nothing, (nothing, 0.3))
    with pytest.raises(InputError, match="the sphere has no point"):
        projection_l2_sphere(nothing)
