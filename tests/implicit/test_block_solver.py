"""Derivatives by solvers that belong to one solution and solve for a block of columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.errors import LinearSolveError
from mdsens.implicit import BlockSolver, LinearSolution, MatrixFreeSolver, root_jvp, root_vjp
from mdsens.implicit.refinement import refined_jvp, refined_vjp

RANDOM = np.random.default_rng(2)
SIZE = 4
MIXED = RANDOM.normal(size=(SIZE, SIZE)) + 3 * np.eye(SIZE)
CONVEX = MIXED @ MIXED.T
X = RANDOM.normal(size=SIZE)
WEIGHTS = np.asarray(0.7)
DIRECTIONS = np.array([1.0, -2.0, 0.5])
COTANGENTS = RANDOM.normal(size=(2, SIZE))


def condition(x, weight):
    return jnp.asarray(MIXED) @ x - weight * jnp.sin(jnp.arange(1.0, SIZE + 1)) * x[0]


def gradient(x, weight):
    """Of an energy that is not quadratic; symmetric."""
    return jnp.asarray(CONVEX) @ x + 0.3 * x**3 - weight * jnp.arange(1.0, SIZE + 1)


def hessian(x):
    return CONVEX + np.diag(0.9 * np.asarray(x) ** 2)


class Factors(BlockSolver):
    """A dense matrix; on the host, or in JAX."""

    def __init__(self, matrix, library=np):
        self.matrix, self.library, self.blocks = matrix, library, []

    def _solved(self, matrix, columns):
        self.blocks.append(columns.shape)
        if self.library is np:
            assert isinstance(columns, np.ndarray | jax.Array)
            assert not isinstance(columns, jax.core.Tracer)
        count = np.zeros(len(columns))
        value = self.library.linalg.solve(matrix, self.library.asarray(columns).T).T
        return LinearSolution(value, count, count, count.astype(int))

    def solve(self, columns):
        return self._solved(self.matrix, columns)

    def solve_transposed(self, columns):
        return self._solved(self.matrix.T, columns)


def slope_of_mixed():
    matrix = MIXED.copy()
    matrix[:, 0] -= WEIGHTS * np.sin(np.arange(1.0, SIZE + 1))
    return matrix


def test_a_solver_on_the_host_solves_for_all_directions_in_one_block():
    solver = Factors(slope_of_mixed())
    ours = root_jvp(condition, jnp.asarray(X), (WEIGHTS,), (DIRECTIONS,), solver)
    right = np.sin(np.arange(1.0, SIZE + 1)) * X[0]
    expected = np.outer(DIRECTIONS, np.linalg.pinv(slope_of_mixed()) @ right)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    (by_weight,) = root_vjp(condition, jnp.asarray(X), (WEIGHTS,), COTANGENTS, solver)
    np.testing.assert_allclose(by_weight, COTANGENTS @ expected[0], rtol=1e-12)
    assert solver.blocks == [(3, SIZE), (2, SIZE)]


def test_one_direction_is_a_block_of_one():
    solver = Factors(slope_of_mixed())
    given = condition, jnp.asarray(X), (WEIGHTS,)
    several = root_jvp(*given, (DIRECTIONS,), solver)
    ours = root_jvp(*given, (DIRECTIONS[1],), solver)
    np.testing.assert_allclose(ours, several[1], rtol=1e-14)
    (by_weight,) = root_vjp(*given, jnp.asarray(COTANGENTS[0]), solver)
    np.testing.assert_allclose(by_weight, root_vjp(*given, COTANGENTS, solver)[0][0], rtol=1e-14)
    assert [shape[0] for shape in solver.blocks] == [3, 1, 1, 2]


@pytest.mark.slow
def test_a_solver_in_jax_serves_inside_compiled_code():
    solver = Factors(jnp.asarray(slope_of_mixed()), jnp)

    @jax.jit
    def both(x, weight):
        given = condition, x, (weight,)
        return root_jvp(*given, (DIRECTIONS,), solver), root_vjp(*given, COTANGENTS, solver)[0]

    forward, reverse = both(X, WEIGHTS)
    expected = [
        root_jvp(condition, jnp.asarray(X), (WEIGHTS,), (DIRECTIONS,)),
        root_vjp(condition, jnp.asarray(X), (WEIGHTS,), COTANGENTS)[0],
    ]
    np.testing.assert_allclose(forward, expected[0], rtol=1e-12)
    np.testing.assert_allclose(reverse, expected[1], rtol=1e-12)


def test_large_right_hand_sides_are_the_same(monkeypatch):
    given = condition, jnp.asarray(X), (WEIGHTS,), (DIRECTIONS,), Factors(slope_of_mixed())
    small = root_jvp(*given)
    monkeypatch.setattr("mdsens.implicit.linearisation.WORTH_COMPILING", 1)
    np.testing.assert_allclose(root_jvp(*given), small, rtol=1e-14)


def test_products_alone_give_the_solution_of_smallest_norm():
    chain = np.diag([1.0, 2, 2, 1]) - np.eye(SIZE, k=1) - np.eye(SIZE, k=-1)
    shear = np.array([1.0, -2.0, 3.0, -2.0])

    def forces(x, load):
        return load * jnp.asarray(shear) - jnp.asarray(chain) @ x

    x = jnp.asarray(np.linalg.pinv(chain) @ shear)
    uniform = jnp.ones((1, SIZE))
    solver = MatrixFreeSolver(forces, x, (WEIGHTS,), uniform)
    ours = root_jvp(forces, x, (WEIGHTS,), (DIRECTIONS,), solver)
    expected = np.outer(DIRECTIONS, np.linalg.pinv(chain) @ shear)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-14)
    (by_load,) = root_vjp(forces, x, (WEIGHTS,), COTANGENTS, solver)
    np.testing.assert_allclose(by_load, COTANGENTS @ expected[0], rtol=1e-10)
    rough = MatrixFreeSolver(forces, x, (WEIGHTS,), uniform, rtol=0.5)
    assert rough.solve(COTANGENTS).steps.max() < solver.solve(COTANGENTS).steps.max()


def test_products_with_an_indefinite_matrix_are_an_error():
    solver = MatrixFreeSolver(
        lambda x, w: jnp.asarray([1.0, -1.0]) * x - w, jnp.ones(2), (WEIGHTS,)
    )
    with pytest.raises((LinearSolveError, jax.errors.JaxRuntimeError), match="did not converge"):
        solver.solve(np.ones((1, 2)))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_error_of_what_is_refined_is_of_second_order_in_the_distance(mode):
    x = jnp.asarray(X)
    weights = np.arange(1.0, SIZE + 1)
    errors = []
    for distance in (1e-2, 1e-3):
        ahead = x + distance * jnp.asarray(RANDOM.permuted(np.ones(SIZE)))
        solver, exact = Factors(hessian(x)), np.linalg.inv(hessian(ahead)) @ weights
        if mode == "forward":
            found = root_jvp(gradient, x, (WEIGHTS,), (DIRECTIONS,), solver)
            ours, _ = refined_jvp(gradient, ahead, (WEIGHTS,), (DIRECTIONS,), found, solver)
            expected = np.outer(DIRECTIONS, exact)
        else:
            found = solver.solve(-COTANGENTS).value
            (ours,) = refined_vjp(gradient, ahead, (WEIGHTS,), COTANGENTS, found, solver)
            expected = COTANGENTS @ exact
        errors.append(np.abs(ours - expected).max())
    assert 50 < errors[0] / errors[1] < 200
