"""A release of JAX that computes wrong numbers must not go unnoticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(("dtype", "rows"), [(jnp.float64, 16_385), (jnp.float32, 32_769)])
def test_a_product_and_a_sum_over_a_long_batch_are_right(dtype, rows):
    # https://github.com/jax-ml/jax/issues/39103: on CPUs, jax 0.10.2 repeats the first rows.
    numbers = np.arange(rows)
    vectors = jnp.stack([jnp.asarray(numbers, dtype), *jnp.zeros((2, rows), dtype)], axis=1)
    matrix = jnp.eye(3, dtype=dtype)
    lengths = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(vectors)
    np.testing.assert_allclose(np.asarray(lengths), (numbers**2.0).astype(lengths.dtype), rtol=1e-6)
