"""Arrays that go from NumPy to JAX and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.arrays import (
    array_module,
    centred,
    column_sums,
    in_numpy,
    numbered,
    on_cache_lines,
    on_device,
    squared_lengths,
)


@pytest.mark.parametrize("value", [2.5, 3, True, [1.0, 2.0], np.arange(6).reshape(2, 3)])
def test_an_array_on_the_device_is_what_numpy_makes_of_it(value):
    found, expected = on_device(value), np.asarray(value)
    assert isinstance(found, jax.Array)
    assert (found.dtype, found.shape, found.weak_type) == (expected.dtype, expected.shape, False)
    np.testing.assert_array_equal(found, expected)
    assert on_device(value, float).dtype == np.float64


def test_it_has_memory_of_its_own():
    # Often, since JAX reads what it is given when it sees fit.
    for size in [3, 1000, 100_000] * 30:
        values = np.zeros(size)
        found = on_device(values)
        values[:] = 1.0
        assert not np.asarray(found).any()
        assert on_device(found) is found


@pytest.mark.parametrize(("shape", "dtype"), [((3, 1001), np.float64), ((2, 7), np.int32)])
def test_an_array_on_cache_lines_is_one_that_compiled_code_takes_as_it_lies(shape, dtype):
    for _ in range(5):
        found = on_cache_lines(shape, dtype)
        assert (found.shape, found.dtype) == (shape, dtype)
        assert found.flags["C_CONTIGUOUS"]
        assert found.flags["WRITEABLE"]
        assert found.ctypes.data % 64 == 0
    found[:] = 1
    taken = jax.dlpack.from_dlpack(found, copy=False)
    assert taken.unsafe_buffer_pointer() == found.ctypes.data


def test_another_shape_needs_no_program():
    compiled = []

    def heard(name, _, **about):
        compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(heard)
    for size in range(1, 40):
        on_device(np.zeros((3, size, 7)))
    assert not [name for name in compiled if name.endswith("backend_compile_duration")]


def test_what_is_traced_stays_so():
    seen = []

    @jax.jit
    def function(x):
        known = np.ones(2)
        seen.append((array_module((x, known)) is jnp, array_module(known) is np))
        both = in_numpy((x, known))
        seen.append((both[0] is x, in_numpy(known) is known))
        return on_device(x) + on_device(known)

    assert function(jnp.zeros(2)).tolist() == [1.0, 1.0]
    assert seen == [(True, True), (True, True)]
    assert isinstance(in_numpy({"a": jnp.ones(2)})["a"], np.ndarray)


@pytest.mark.parametrize("dimension", [1, 2, 3, 7])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_of_rows_and_columns_are_exact_to_rounding(dimension, order):
    values = np.random.default_rng(dimension).normal(size=(1001, dimension)) + 3.0
    rows = np.array(values, order=order)
    lengths = [math.fsum(value * value for value in row) for row in values]
    sums = [math.fsum(column) for column in values.T]
    np.testing.assert_allclose(squared_lengths(rows), lengths, rtol=4e-16 * dimension)
    np.testing.assert_allclose(column_sums(rows), sums, rtol=1e-14)
    left = centred(rows.astype(np.float32))
    assert left.dtype == float
    assert max(abs(math.fsum(column)) for column in left.T) < 1e-10
    np.testing.assert_allclose(left - left[0], rows - rows[0], atol=2e-6)
    np.testing.assert_array_equal(rows, values)
    for function in (squared_lengths, column_sums):
        traced = jax.jit(function)(jnp.asarray(rows))
        np.testing.assert_allclose(traced, function(rows), rtol=1e-13)


@pytest.mark.parametrize("bound", [50, 10**6], ids=["few may be", "many may be"])
@pytest.mark.parametrize("shape", [(300,), (60, 5), (0,)])
def test_different_keys_are_numbered_in_order(bound, shape):
    keys = np.random.default_rng(0).integers(0, 50, size=shape)
    chosen, which = numbered(keys, bound)
    assert chosen.tolist() == sorted(set(keys.ravel().tolist()))
    assert which.shape == shape
    np.testing.assert_array_equal(chosen[which], keys)
