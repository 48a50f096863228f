"""Conjugate gradients of many columns that share products, and a lattice that is on trial."""

import functools

import numpy as np
import pytest
import scipy.sparse

from mdsens.linalg.conjugate_gradients import (
    Trial,
    conjugate_gradients,
    conjugate_gradients_side_by_side,
)
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner, LatticeSites
from mdsens.linalg.multigrid import BlockJacobi
from mdsens.linalg.sparse_solver import GIVEN_STEPS, TRIAL_STEPS, WIDE_COLUMNS, SparseSolver

RTOLS = np.array([1e-10, 1e-4, 1e-12, 1e-10, 1e-8])


@functools.cache
def grid(size, spread):
    """Springs between neighbours of a periodic square lattice, stiffer or softer by a factor."""
    generator, count = np.random.default_rng(7), size * size
    matrix = np.zeros((count, count, 2, 2))
    for i in range(count):
        x, y = divmod(i, size)
        for across, along, direction in (((x + 1) % size, y, [1, 0]), (x, (y + 1) % size, [0, 1])):
            j, unit = across * size + along, np.array(direction, float)
            block = spread ** generator.uniform(-1, 1) * (np.outer(unit, unit) + 0.3 * np.eye(2))
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                matrix[a, b] += sign * block
    dense = matrix.transpose(0, 2, 1, 3).reshape(2 * count, 2 * count)
    places = np.stack(np.divmod(np.arange(count), size), axis=1)
    sites = LatticeSites((size, size), places, np.zeros(count, int), 1)
    return scipy.sparse.bsr_array(dense, blocksize=(2, 2)), sites


@functools.cache
def inverse(size, spread):
    return np.linalg.pinv(grid(size, spread)[0].toarray(), hermitian=True)


@pytest.fixture(scope="module")
def pinned():
    matrix = grid(10, 3.0)[0].toarray()
    matrix[:2, :2] += np.eye(2)
    scales = 10.0 ** np.array([-9, 0, 5, 0, 0])
    b = np.random.default_rng(3).normal(size=(len(matrix), 5)) * scales
    b[:, 3] = 0.0
    return scipy.sparse.bsr_array(matrix, blocksize=(2, 2)), b


def side_by_side(matrix, b, *, steps=500, trial=None, rtols=RTOLS):
    one = BlockJacobi(matrix)
    return conjugate_gradients_side_by_side(matrix, b, one, lambda v: v, rtols, steps, trial)


def test_columns_side_by_side_take_the_steps_that_each_takes_alone(pinned):
    matrix, b = pinned
    x, residuals, steps = side_by_side(matrix, b)
    for column, rtol in enumerate(RTOLS):
        exact = np.linalg.solve(matrix.toarray(), b[:, column])
        assert np.linalg.norm(x[:, column] - exact) <= 300 * rtol * np.linalg.norm(exact)
        if b[:, column].any():
            left = b[:, column] - matrix @ x[:, column]
            true = np.linalg.norm(left) / np.linalg.norm(b[:, column])
            assert true <= rtol * (1 + 1e-3) + 1e-13
            assert residuals[column] == pytest.approx(true, rel=1e-2, abs=1e-13)
            one = BlockJacobi(matrix)
            alone = conjugate_gradients(matrix, b[:, column], one, lambda v: v, rtol, 500)
            assert steps[column] == alone.steps
    assert steps[3] == residuals[3] == 0


def test_columns_that_run_out_of_steps_are_returned_as_far_as_they_are(pinned):
    matrix, b = pinned
    x, residuals, steps = side_by_side(matrix, b, steps=9)
    assert (steps == [9, 9, 9, 0, 9]).all()
    left = np.linalg.norm(b - matrix @ x, axis=0)
    np.testing.assert_allclose(left, residuals * np.linalg.norm(b, axis=0), rtol=1e-9)


def test_a_column_that_meets_negative_curvature_holds_up_no_other(pinned):
    matrix = pinned[0].toarray()
    values, vectors = np.linalg.eigh(matrix)
    indefinite = matrix - 2.0 * values[0] * np.outer(vectors[:, 0], vectors[:, 0])
    b = np.stack([vectors[:, 1] + vectors[:, 7], vectors[:, 0]], axis=1)
    x, residuals, _ = conjugate_gradients_side_by_side(
        scipy.sparse.csr_array(indefinite), b, lambda r: r, lambda v: v, np.full(2, 1e-10), 300
    )
    assert residuals[1] == 1.0
    np.testing.assert_array_equal(x[:, 1], 0.0)
    np.testing.assert_allclose(indefinite @ x[:, 0], b[:, 0], atol=1e-9)


def test_a_trial_ends_those_that_are_not_far_enough_and_lets_the_others_go_on(pinned):
    matrix, b = pinned
    _, after_five, _ = side_by_side(matrix, b, steps=5)
    worst = int(after_five.argmax())
    between = float(np.sort(after_five)[-2:].mean())
    _, residuals, steps = side_by_side(matrix, b, trial=Trial(5, between))
    assert steps[worst] == 5
    assert residuals[worst] == after_five[worst]
    others = [column for column in (0, 1, 2, 4) if column != worst]
    assert (residuals[others] <= RTOLS[others]).all()
    alone = conjugate_gradients(
        matrix, b[:, worst], BlockJacobi(matrix), lambda v: v, 1e-10, 500, Trial(5, between)
    )
    assert alone.steps == 5
    assert alone.residual == pytest.approx(after_five[worst], rel=1e-9)


@pytest.mark.parametrize("columns", [1, 3, WIDE_COLUMNS])
@pytest.mark.parametrize(("spread", "method"), [(3.0, "lattice"), (30.0, "multigrid")])
def test_a_lattice_stays_where_it_serves_and_gives_way_where_it_does_not(columns, spread, method):
    matrix, sites = grid(20, spread)
    moved = np.tile(np.eye(2), matrix.shape[0] // 2)
    solver = SparseSolver(matrix, moved, moved.T, "lattice", dimension=2, find_sites=lambda: sites)
    b = np.random.default_rng(5).normal(size=(matrix.shape[0], columns))
    found = solver.solve(b, rtol=1e-11)
    expected = inverse(20, spread) @ b
    np.testing.assert_allclose(found.value, expected, atol=1e-8 * np.abs(expected).max())
    assert solver.method == found.method == method
    assert len(solver.failures) == (method == "multigrid")
    # Whatever the trial took counts as well, and what goes on does not begin anew.
    assert (found.steps > TRIAL_STEPS).all()
    if method == "lattice":
        given = solver.preconditioner, solver.project, 1e-11, 500
        more = found.steps - [
            conjugate_gradients(matrix, column, *given).steps for column in solver.project(b).T
        ]
        # Together they go on until the last is there, in single precision for the most part.
        assert (more >= 0).all()
        assert more.max() <= (5 if columns >= WIDE_COLUMNS else 0)


@pytest.mark.parametrize("columns", [1, WIDE_COLUMNS])
@pytest.mark.parametrize("unlike", [1.0, 8.0])
def test_a_lattice_of_a_matrix_nearby_gives_way_to_this_one_where_it_is_unlike(columns, unlike):
    """As that of atoms that were still off their sites, of which each iteration gains little."""
    matrix, sites = grid(20, 1.3)
    moved = np.tile(np.eye(2), matrix.shape[0] // 2)
    scales = np.tile([1.0, unlike], matrix.shape[0] // 2)
    stretched = scales[:, None] * matrix.toarray() * scales
    given = LatticePreconditioner(scipy.sparse.bsr_array(stretched, blocksize=(2, 2)), sites)
    b = np.random.default_rng(5).normal(size=(matrix.shape[0], columns))

    def solver(preconditioner):
        return SparseSolver(
            matrix, moved, moved.T, "lattice", dimension=2, preconditioner=preconditioner,
            find_sites=lambda: sites,
        )  # fmt: skip

    own, served = solver(None), solver(given)
    fewest, found = own.solve(b, rtol=1e-11), served.solve(b, rtol=1e-11)
    expected = inverse(20, 1.3) @ b
    np.testing.assert_allclose(found.value, expected, atol=1e-8 * np.abs(expected).max())
    # It is made exact around what is unlike the others.
    serving = getattr(served.preconditioner, "lattice", served.preconditioner)
    assert (serving is given) == (unlike == 1.0)
    assert len(served.failures) == (unlike > 1.0)
    # Those of the trial, and no more than a lattice of its own takes.
    assert (found.steps <= fewest.steps + (GIVEN_STEPS if unlike > 1.0 else 1)).all()
    # What has once served is not asked again.
    again = served.solve(b, rtol=1e-11)
    assert (again.steps <= fewest.steps + 1).all()
