"""Batches a part at a time: the results of one element after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.layers.chunks import in_chunks


def both(pair, shift):
    left, right = pair
    return {"sum": left + right + shift, "last": right[-1]}


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("size", [1, 8_000, 100_000])
def test_parts_of_a_batch_have_the_results_of_each(count, size):
    left, right = np.arange(3.0 * count).reshape(count, 3), np.array([10.0, 20.0, 30.0])
    found = jax.vmap(in_chunks(both, size), ((0, None), None))((left, right), 0.5)
    np.testing.assert_array_equal(found["sum"], left + right + 0.5)
    np.testing.assert_array_equal(found["last"], np.full(count, 30.0))


def test_a_batch_of_batches_has_them_too():
    values = np.arange(12.0).reshape(3, 4)
    run = in_chunks(lambda x: {"square": x**2}, 200_000)
    found = jax.jit(jax.vmap(jax.vmap(run)))(jnp.asarray(values))
    np.testing.assert_array_equal(found["square"], values**2)
