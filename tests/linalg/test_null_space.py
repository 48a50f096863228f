"""Ranks and null modes: what every decision on the host agrees about."""

import numpy as np
import pytest
import scipy.linalg

from mdsens.linalg.null_space import DEPENDENT, NULL_FRACTION, is_null, orthonormal_rows


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_a_basis_is_orthonormal_and_spans_what_the_rows_span(scale):
    random = np.random.default_rng(0)
    rows = random.normal(size=(4, 30))
    rows[3] = rows[0] - 2 * rows[1]
    basis = orthonormal_rows(scale * rows)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), rtol=0, atol=1e-14)
    expected = scipy.linalg.orth(rows.T, rcond=1e-10)
    np.testing.assert_allclose(basis.T @ basis, expected @ expected.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("sine", "rank"), [(10 * DEPENDENT, 2), (0.1 * DEPENDENT, 1)])
def test_the_angle_to_the_others_decides_the_rank(sine, rank):
    basis = orthonormal_rows(np.array([[1.0, 0, 0], [1.0, sine, 0]]))
    assert len(basis) == rank
    np.testing.assert_allclose(basis @ basis.T, np.eye(rank), rtol=0, atol=1e-9)


def test_rows_as_short_as_rounding_leaves_them_are_no_directions():
    assert len(orthonormal_rows(np.diag([1.0, 1e-6, 1e-12]))) == 2
    assert orthonormal_rows(np.zeros((2, 5))).shape == (0, 5)
    assert orthonormal_rows(np.zeros((0, 5))).shape == (0, 5)


def test_null_modes_are_told_by_size_and_by_the_largest():
    values = np.array([-2.0, 3 * NULL_FRACTION, NULL_FRACTION, -NULL_FRACTION, 0.0])
    assert is_null(values).tolist() == [False, False, True, True, True]
    assert is_null(values, largest=10.0).tolist() == [False, True, True, True, True]
    assert is_null(np.zeros(3)).all()
