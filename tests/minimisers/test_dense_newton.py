"""Newton's steps with the dense Hessian: definite or not, with translations or without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.minimisers import dense_newton


def hessian(eigenvalues, null_vectors):
    """A symmetric matrix with these eigenvalues across the null vectors."""
    size = len(eigenvalues) + len(null_vectors)
    random = np.random.default_rng(1).normal(size=(size, size))
    basis, _ = np.linalg.qr(np.concatenate([null_vectors, random]).T)
    across = basis[:, len(null_vectors) : size]
    return (across * eigenvalues) @ across.T


@pytest.mark.parametrize(
    ("case", "eigenvalues"),
    [
        ("definite", [0.5, 1.0, 2.0, 3.0]),
        ("saddle", [-0.5, 1.0, 2.0, 3.0]),
        ("free", [0.0, 1.0, 2.0, 3.0]),
        ("soft", [1e-5, 1.0, 2.0, 3.0]),
    ],
)
@pytest.mark.parametrize("held", [False, True])
def test_a_step_is_that_of_the_absolute_eigenvalues(case, eigenvalues, held, monkeypatch):
    moves = np.zeros((2, 6)) if held else np.array([[1.0, 0.0] * 3, [0.0, 1.0] * 3])
    null_vectors = moves[moves.any(axis=1)]
    eigenvalues = np.array([*eigenvalues, *([4.0, 5.0] if held else [])])
    matrix = hessian(eigenvalues, null_vectors)
    gradient = matrix @ np.random.default_rng(2).normal(size=6)
    values, vectors = np.linalg.eigh(matrix)
    sizes = np.abs(values)
    inverse = np.where(sizes > 1e-9 * sizes.max(), 1.0 / sizes, 0.0)
    expected = vectors @ (inverse * (vectors.T @ gradient))
    if case in ("definite", "soft"):
        # No eigenvectors are asked for.
        nothing = jnp.full(6, jnp.nan), jnp.full((6, 6), jnp.nan)
        monkeypatch.setattr(dense_newton, "eigh", lambda _: nothing)
    found = jax.jit(lambda *given: dense_newton._down_where_definite(*given))(
        matrix, gradient, moves
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert case != "saddle" or jnp.vdot(found, gradient) > 0.0
