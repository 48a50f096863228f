"""Linear maps that host code evaluates, against the matrix that they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.implicit.linear_map import LinearMap

MATRIX = np.random.default_rng(0).normal(size=(3, 4))
SHAPES = [np.zeros((2, 2))]


def by_matrix(calls: list[str]) -> LinearMap:
    """The matrix as a map from a list of one (2, 2) array to three numbers."""

    def forwards(given: list[np.ndarray]) -> np.ndarray:
        calls.append("forwards")
        return np.asarray(given[0]).reshape(-1, 4) @ MATRIX.T

    def backwards(given: np.ndarray) -> list[np.ndarray]:
        calls.append("backwards")
        return [(np.asarray(given) @ MATRIX).reshape(-1, 2, 2)]

    def traced(given: list[jax.Array]) -> jax.Array:
        calls.append("traced")
        return jnp.asarray(MATRIX) @ given[0].ravel()

    return LinearMap(forwards, backwards, traced, SHAPES, np.zeros(3))


POINT = jnp.arange(4.0).reshape(2, 2)
WEIGHTS = jnp.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize(
    ("evaluate", "expected", "code"),
    [
        (lambda f: f([POINT]), MATRIX @ np.arange(4.0), {"forwards"}),
        (
            lambda f: jax.grad(lambda x: WEIGHTS @ jnp.sin(f([x])))(POINT).ravel(),
            (np.asarray(WEIGHTS) * np.cos(MATRIX @ np.arange(4.0))) @ MATRIX,
            {"forwards", "backwards"},
        ),
        (
            lambda f: jax.jvp(lambda x: f([x]), (POINT,), (POINT**2,))[1],
            MATRIX @ np.arange(4.0) ** 2,
            {"forwards"},
        ),
        (lambda f: jax.jacfwd(lambda x: f([x]))(POINT).reshape(3, 4), MATRIX, {"forwards"}),
        (
            lambda f: jax.jacrev(lambda x: f([x]))(POINT).reshape(3, 4),
            MATRIX,
            {"forwards", "backwards"},
        ),
        (
            lambda f: jax.vmap(jax.vmap(lambda x: f([x]), in_axes=2), in_axes=0)(
                jnp.eye(4).reshape(2, 2, 2, 2).transpose(2, 0, 1, 3)
            ),
            MATRIX.T.reshape(2, 2, 3),
            {"forwards"},
        ),
        (lambda f: jax.jit(lambda x: f([x]))(POINT), MATRIX @ np.arange(4.0), {"traced"}),
        (
            lambda f: jax.jit(jax.vjp(lambda x: f([x]), POINT)[1])(WEIGHTS)[0].ravel(),
            np.asarray(WEIGHTS) @ MATRIX,
            {"forwards", "traced"},
        ),
        (
            lambda f: jax.jit(jax.jacrev(lambda x: f([x])))(POINT).reshape(3, 4),
            MATRIX,
            {"traced"},
        ),
    ],
    ids=[
        "value", "grad", "jvp", "jacfwd", "jacrev", "vmap of vmap", "jit", "jit of vjp",
        "jit of jacrev",
    ],
)  # fmt: skip
def test_a_map_is_its_matrix_by_the_code_that_fits(evaluate, expected, code) -> None:
    calls: list[str] = []
    np.testing.assert_allclose(evaluate(by_matrix(calls)), expected, rtol=1e-14, atol=1e-14)
    assert set(calls) == code
