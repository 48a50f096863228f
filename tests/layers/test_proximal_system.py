"""Derivatives of proximal gradient's solutions with many unknowns, by symmetric iterations."""

import jax
import jax.numpy as jnp
import numpy as np

from mdsens.implicit.linear import solve
from mdsens.implicit.proximal_system import ProximalSystem
from mdsens.layers import ProximalGradient, prox_lasso

SIZE = 210
RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(60, SIZE)) / np.sqrt(60)
y = X[:, :6] @ RANDOM.normal(size=6) + 0.1 * RANDOM.normal(size=60)


def squares(x):
    residual = X @ x - y
    return residual @ residual / 2


LASSO = ProximalGradient(squares, prox_lasso, maxiter=5000, tol=1e-11)


def weights(penalty):
    return LASSO.run(jnp.zeros(SIZE), penalty).params


def on_the_support(penalty):
    """x, dx/dpenalty: the signs are fixed, and least squares is left."""
    x = np.asarray(weights(penalty))
    support = np.flatnonzero(x)
    gram = X[:, support].T @ X[:, support]
    slope = np.zeros(SIZE)
    slope[support] = -np.linalg.solve(gram, np.sign(x[support]))
    return x, slope


def test_the_derivatives_of_a_batch_of_lassos_are_those_on_their_supports():
    penalties = jnp.asarray([0.3, 0.1])
    expected = np.stack([on_the_support(penalty)[1] for penalty in (0.3, 0.1)])
    one = jnp.ones(2)
    forward = jax.jvp(jax.vmap(weights), (penalties,), (one,))[1]
    np.testing.assert_allclose(forward, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    cotangent = jnp.asarray(RANDOM.normal(size=(2, SIZE)))
    (backward,) = jax.vjp(jax.vmap(weights), penalties)[1](cotangent)
    np.testing.assert_allclose(backward, np.sum(cotangent * expected, axis=1), rtol=1e-9)


def test_an_operator_that_is_none_of_a_convex_function_is_differentiated_all_the_same():
    turn = 0.9 * np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]
    pull = RANDOM.normal(size=SIZE)
    solver = ProximalGradient(
        lambda x, strength: x @ x / 4 - strength * (pull @ x),
        lambda v, _, scaling: turn @ v,
        stepsize=1.0, acceleration=False, tol=1e-11,
    )  # fmt: skip
    slope = jax.jvp(
        lambda strength: solver.run(jnp.zeros(SIZE), None, strength).params, (2.0,), (1.0,)
    )[1]
    expected = np.linalg.solve(np.eye(SIZE) - turn / 2, turn @ pull)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-9)


def test_both_systems_of_a_stiff_hessian_have_the_solution_of_numpy():
    values = np.geomspace(1e-2, 1e2, SIZE)
    basis = np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]
    hessian = (basis * values) @ basis.T
    shrink = np.where(np.arange(SIZE) % 3 == 0, 0.0, np.where(np.arange(SIZE) % 3 == 1, 0.5, 1.0))
    matrix = -(np.eye(SIZE) - shrink[:, None] * (np.eye(SIZE) - hessian))
    b = RANDOM.normal(size=SIZE)
    system = ProximalSystem(lambda v: shrink * v, lambda v: hessian @ v)
    for solver, A in ((system, matrix), (system.transposed(), matrix.T)):
        found = solve(lambda v, A=A: A @ v, jnp.asarray(b), solver=solver)
        assert found.steps > 0  # iterations, and not the dense matrix
        assert found.residual < 1e-10
        expected = np.linalg.solve(A, b)
        error = np.linalg.norm(found.value - expected) / np.linalg.norm(expected)
        assert error < 1e-8
