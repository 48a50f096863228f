"""Many columns in single precision, refined in double, and the matrix of clusters behind them."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

from mdsens.linalg import lattice_preconditioner
from mdsens.linalg.clustered_matrix import CLUSTER, ClusteredMatrix
from mdsens.linalg.columns_together import ColumnsTogether
from mdsens.linalg.conjugate_gradients import Trial
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner, LatticeSites

SIZE, COLUMNS = 9, 6


def chiral(size, basis=1):
    """Springs of a periodic square lattice; with two sites in its cell, one that has no centre."""
    count = size * size * basis
    matrix = np.zeros((count, count, 2, 2))
    generator = np.random.default_rng(4)
    for cell in range(size * size):
        x, y = divmod(cell, size)
        for own in range(basis):
            i = cell * basis + own
            for across, along, direction in ((1, 0, [1, 0.2]), (0, 1, [0, 1])):
                other = (own + 1) % basis if across else own
                j = ((x + across) % size * size + (y + along) % size) * basis + other
                block = (1 + own) * (np.outer(direction, direction) + 0.3 * np.eye(2))
                block *= 1.0 + 0.2 * generator.uniform(-1, 1)
                for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                    matrix[a, b] += sign * block
            if own:
                block = 0.7 * np.eye(2)
                for a, b, sign in ((i, i, 1), (i - 1, i - 1, 1), (i, i - 1, -1), (i - 1, i, -1)):
                    matrix[a, b] += sign * block
    dense = matrix.transpose(0, 2, 1, 3).reshape(2 * count, 2 * count)
    cells, kinds = np.divmod(np.arange(count), basis)
    sites = LatticeSites((size, size), np.stack(np.divmod(cells, size), axis=1), kinds, basis)
    return scipy.sparse.bsr_array(dense, blocksize=(2, 2)), sites


def null_space(count):
    return np.tile(np.eye(2), count).reshape(2, -1) / np.sqrt(count)


@pytest.mark.parametrize("count", [CLUSTER * 16 + 3, 81])
def test_a_matrix_in_clusters_multiplies_as_it_does_in_whatever_order(count):
    dense = chiral(SIZE)[0].toarray()[: 2 * count, : 2 * count]
    matrix = scipy.sparse.bsr_array(dense, blocksize=(2, 2))
    clustered = ClusteredMatrix(matrix, np.random.default_rng(1).permutation(count))
    vectors = np.random.default_rng(2).normal(size=(count, 2, COLUMNS))
    there = clustered.rows < count
    given = np.zeros((len(there), 2, COLUMNS), np.float32)
    given[there] = vectors[clustered.rows[there]]
    expected = (dense @ vectors.reshape(2 * count, COLUMNS)).reshape(vectors.shape)
    found = (clustered @ given) * clustered.scale
    np.testing.assert_allclose(found[there], expected[clustered.rows[there]], atol=1e-5)
    assert not found[~there].any()
    assert sorted(clustered.rows[there]) == list(range(count))


@pytest.mark.parametrize("without", [0, 2])
@pytest.mark.parametrize("basis", [1, 2])
def test_a_lattice_multiplies_many_columns_as_each_by_itself(basis, without, monkeypatch):
    # Some at a time.
    monkeypatch.setattr(lattice_preconditioner, "TRANSFORMED", 4)
    matrix, sites = chiral(SIZE, basis)
    # Some atoms without a site.
    sites = dataclasses.replace(
        sites, kinds=np.where(np.arange(len(sites.kinds)) < without, -1, sites.kinds)
    )
    preconditioner = LatticePreconditioner(matrix, sites)
    assert np.iscomplexobj(preconditioner._inverse) == (basis == 2)
    count = len(sites.kinds)
    rows = np.random.default_rng(1).permutation(count)
    # A place without an atom, where not all of these have sites.
    rows = np.append(rows, [count] * (without > 0)).astype(int)
    columns = np.random.default_rng(2).normal(size=(2 * count, COLUMNS))
    given = np.zeros((len(rows), 2, COLUMNS), np.float32)
    given[:count] = columns.reshape(count, 2, COLUMNS)[rows[:count]]
    found = preconditioner.for_many_columns(rows, 3.0)(given)
    expected = 3.0 * preconditioner(columns).reshape(count, 2, COLUMNS)[rows[:count]]
    np.testing.assert_allclose(found[:count], expected, atol=1e-5 * np.abs(expected).max())
    assert not found[count:].any()


@pytest.mark.parametrize("basis", [1, 2])
@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e25])
def test_columns_together_reach_residuals_that_single_precision_does_not(basis, unit):
    matrix, sites = chiral(SIZE, basis)
    matrix = matrix * unit
    count = len(sites.kinds)
    null = null_space(count)
    b = np.random.default_rng(3).normal(size=(2 * count, COLUMNS)) * 10.0 ** np.arange(-9, 9, 3)
    b[:, 2] = 0.0
    b -= null.T @ (null @ b)
    rtols = np.array([1e-12, 1e-9, 1e-9, 1e-2, 1e-6, 1e-10])
    together = ColumnsTogether(matrix, LatticePreconditioner(matrix, sites), null)
    x, residuals, steps = together.solve(b, rtols, 200)
    x -= null.T @ (null @ x)
    assert x[:, 2].any() == residuals[2] == steps[2] == 0
    norms = np.linalg.norm(b, axis=0)
    kept = norms > 0
    true = np.linalg.norm(b - matrix @ x, axis=0)[kept] / norms[kept]
    assert (true <= residuals[kept] * (1 + 1e-2) + 1e-13).all()
    assert (residuals <= rtols).all()
    expected = np.linalg.pinv(matrix.toarray() / unit, hermitian=True) @ b / unit
    error = np.linalg.norm(x - expected, axis=0)[kept] / np.linalg.norm(expected, axis=0)[kept]
    assert (error <= 100 * rtols[kept]).all()


def test_negative_curvature_and_a_trial_end_columns_and_hold_up_no_other():
    matrix, sites = chiral(SIZE)
    values, vectors = np.linalg.eigh(matrix.toarray())
    soft = vectors[:, 2]
    indefinite = matrix.toarray() - 2.0 * values[2] * np.outer(soft, soft)
    null = null_space(len(sites.kinds))
    inverse = LatticePreconditioner(matrix, sites)
    together = ColumnsTogether(scipy.sparse.bsr_array(indefinite, blocksize=(2, 2)), inverse, null)
    b = np.stack([vectors[:, 9] + vectors[:, 30], soft], axis=1)
    x, residuals, _ = together.solve(b, np.full(2, 1e-9), 200)
    assert residuals[1] == 1.0
    # What rounding leaves of the soft mode has ended the other at last.
    left = np.linalg.norm(b[:, 0] - indefinite @ x[:, 0]) / np.linalg.norm(b[:, 0])
    assert left < 0.1
    assert residuals[0] == pytest.approx(left, rel=1e-3)
    together = ColumnsTogether(matrix, inverse, null)
    *_, steps = together.solve(b, np.full(2, 1e-9), 200, Trial(2, 1e-6))
    assert (steps == 2).all()
