"""A release of JAX that computes wrong numbers must not go unnoticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("rows", [20_000, 40_000])
def test_products_of_small_matrices_are_right_in_long_batches(rows):
    # https://github.com/jax-ml/jax/issues/39103: wrong beyond 16,384 rows in jax 0.10.2 on a CPU.
    generator = np.random.default_rng(0)
    matrix, vectors = generator.normal(size=(3, 3)), generator.normal(size=(rows, 3))

    @jax.jit
    def squared_lengths(matrix, vectors):
        return jnp.sum(jax.vmap(lambda v: matrix @ v)(vectors) ** 2, axis=-1)

    expected = ((vectors @ matrix.T) ** 2).sum(axis=1)
    np.testing.assert_allclose(
        squared_lengths(jnp.asarray(matrix), jnp.asarray(vectors)), expected, rtol=1e-12
    )
