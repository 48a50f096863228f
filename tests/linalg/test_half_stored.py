"""Matrices of which one half is stored do what the dense matrix does."""

import numpy as np
import pytest

from mdsens.linalg.columns_together import ColumnsTogether
from mdsens.linalg.half_stored import PLACES, SIDE_BY_SIDE, HalfStored
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner, LatticeSites
from mdsens.mechanics.strain_of_hessian import strain_derivatives

ROWS = 12


@pytest.fixture(scope="module")
def pairs():
    """Random blocks of random pairs of rows, stored by half; and the dense matrix of the same."""
    random = np.random.default_rng(0)
    own, dense = random.normal(size=(ROWS, 6)), np.zeros((ROWS, 3, ROWS, 3))
    starts, columns, blocks = [0], [], []
    for i in range(ROWS):
        dense[i, :, i] = own[i][list(PLACES)].reshape(3, 3)
        for j in range(i + 1, ROWS):
            if random.random() < 0.5:
                block = random.normal(size=6)
                columns.append(j)
                blocks.append(block)
                dense[i, :, j] = dense[j, :, i] = block[list(PLACES)].reshape(3, 3)
        starts.append(len(columns))
    half = HalfStored(own, np.array(starts), np.array(columns, np.int32), np.array(blocks))
    return half, dense.reshape(3 * ROWS, 3 * ROWS)


@pytest.mark.parametrize("count", [5, SIDE_BY_SIDE + 1])
def test_products_are_those_of_the_dense_matrix(pairs, count):
    half, dense = pairs
    vectors = np.random.default_rng(1).normal(size=(3 * ROWS, count))
    np.testing.assert_allclose(half @ vectors[:, 0], dense @ vectors[:, 0], atol=1e-13)
    np.testing.assert_allclose(half @ vectors, dense @ vectors, atol=1e-13)
    single = half.in_single_precision()
    image = single @ vectors.astype(np.float32).reshape(ROWS, 3, count)
    np.testing.assert_allclose(
        single.scale * image.reshape(3 * ROWS, count), dense @ vectors, atol=1e-5
    )


def test_both_halves_and_chosen_rows_are_those_of_the_dense_matrix(pairs):
    half, dense = pairs
    np.testing.assert_array_equal(half.toarray(), dense)
    chosen = np.array([7, 0, 11])
    row, column, blocks = half.rows_of(chosen)
    found = np.zeros((ROWS, ROWS, 3, 3))
    found[row, column] = blocks
    expected = dense.reshape(ROWS, 3, ROWS, 3).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(found[chosen], expected[chosen])
    assert set(row) == set(chosen)
    np.testing.assert_array_equal(half.own_blocks(chosen), expected[chosen, chosen])


def test_strains_do_what_they_do_to_both_halves(pairs):
    half, _ = pairs
    random = np.random.default_rng(2)
    cell = 10.0 * np.eye(3) + random.normal(size=(3, 3))
    given = random.uniform(-5, 15, size=(ROWS, 3)), cell, (True, True, False)
    forces, virial = random.normal(size=(ROWS, 3)), random.normal(size=(3, 3))
    found = strain_derivatives(half, *given, forces, virial)
    expected = strain_derivatives(half.whole, *given, forces, virial)
    np.testing.assert_allclose(found.of_positions, expected.of_positions, atol=1e-11)
    np.testing.assert_allclose(found.of_strain, expected.of_strain, atol=1e-10)


def test_many_columns_of_a_chain_are_solved_for_in_double_precision():
    count = 64
    # A ring of springs, stiffer here and there.
    stiff = 1.0 + 0.2 * np.random.default_rng(3).random(count)
    unit = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    own = np.outer(stiff + np.roll(stiff, 1), unit)
    starts = np.array([0, 2, *range(3, count + 1), count])
    columns = np.concatenate([[1, count - 1], np.arange(2, count)]).astype(np.int32)
    blocks = -np.outer(np.concatenate([[stiff[0], stiff[-1]], stiff[1:-1]]), unit)
    half = HalfStored(own, starts, columns, blocks)
    places = np.stack([np.arange(count), np.zeros(count, int), np.zeros(count, int)], axis=1)
    sites = LatticeSites((count, 1, 1), places, np.zeros(count, int), 1)
    null = np.kron(np.ones(count) / np.sqrt(count), np.eye(3)).reshape(3, 3 * count)
    b = np.random.default_rng(4).normal(size=(3 * count, 20))
    b -= null.T @ (null @ b)
    dense = half.toarray()
    expected = np.linalg.pinv(dense) @ b
    together = ColumnsTogether(half, LatticePreconditioner(half, sites), null)
    found, residuals, _ = together.solve(b, np.full(20, 1e-10), 100)
    assert residuals.max() <= 1e-10
    found -= null.T @ (null @ found)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())
