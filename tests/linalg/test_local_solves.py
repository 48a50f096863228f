"""A lattice's preconditioner made exact around a defect, against dense linear algebra."""

import numpy as np
import pytest
import scipy.sparse

from mdsens.linalg.conjugate_gradients import conjugate_gradients
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner, LatticeSites
from mdsens.linalg.local_solves import LocallyExact, made_exact
from mdsens.linalg.sparse_solver import SparseSolver

SIZE, RADIUS = 24, 2.5
PLACES = np.stack(np.divmod(np.arange(SIZE * SIZE), SIZE), axis=1)
AWAY = np.linalg.norm(PLACES - SIZE / 2, axis=1)
VOID = AWAY < RADIUS


def crystal(there, soft=()):
    """Springs between the sites of a square lattice that are there, and where these are.

    Those at sites that are soft push apart instead of pulling back across their length.
    """
    kept = np.flatnonzero(there)
    number = np.full(SIZE * SIZE, -1)
    number[kept] = np.arange(len(kept))
    whole = np.zeros((len(kept), len(kept), 2, 2))
    for i, (x, y) in enumerate(PLACES[kept]):
        for a, b, strength in ((1, 0, 1.0), (0, 1, 1.0), (1, 1, 0.5), (1, -1, 0.5)):
            j = number[((x + a) % SIZE) * SIZE + (y + b) % SIZE]
            if j < 0:
                continue
            along = np.array([a, b]) / np.hypot(a, b)
            across = -3.0 if i in soft else 0.05
            block = strength * (np.outer(along, along) + across * np.eye(2))
            whole[i, i] += block
            whole[j, j] += block
            whole[i, j] -= block
            whole[j, i] -= block
    dense = whole.transpose(0, 2, 1, 3).reshape(2 * len(kept), 2 * len(kept))
    sites = LatticeSites((SIZE, SIZE), PLACES[kept], np.zeros(len(kept), int), 1)
    return scipy.sparse.bsr_array(dense, blocksize=(2, 2)), sites


@pytest.fixture(scope="module")
def void():
    matrix, sites = crystal(~VOID)
    lattice = LatticePreconditioner(matrix, sites)
    return matrix, lattice, made_exact(lattice, matrix)


def test_the_rows_around_a_void_are_solved_for_exactly(void):
    matrix, _, exact = void
    assert isinstance(exact, LocallyExact)
    away = AWAY[~VOID]
    edge = np.flatnonzero(away < RADIUS + 1.0)
    assert set(edge) <= set(exact.rows.tolist())
    assert away[exact.rows].max() < RADIUS + 3.0
    assert len(exact.rows) < matrix.shape[0] // 8
    moved = np.zeros((matrix.shape[0] // 2, 2))
    moved[exact.rows] = np.random.default_rng(0).normal(size=(len(exact.rows), 2))
    np.testing.assert_allclose(exact(matrix @ moved.reshape(-1)), moved.reshape(-1), atol=1e-10)


def test_it_is_symmetric_and_positive_outside_of_translations(void):
    matrix, _, exact = void
    dense = exact(np.eye(matrix.shape[0]))
    np.testing.assert_allclose(dense, dense.T, atol=1e-5 * np.abs(dense).max())
    translations = np.linalg.qr(np.tile(np.eye(2), (matrix.shape[0] // 2, 1)))[0]
    outside = np.eye(matrix.shape[0]) - translations @ translations.T
    values = np.linalg.eigvalsh(outside @ (dense + dense.T) / 2 @ outside)
    largest = 1.0 / np.linalg.eigvalsh(matrix.toarray())[-1]
    assert (values > 1e-5 * largest).sum() == matrix.shape[0] - 2
    assert values.min() > -1e-5 * largest


def test_a_void_takes_fewer_iterations(void):
    matrix, lattice, exact = void
    translations = np.tile(np.eye(2), matrix.shape[0] // 2) / np.sqrt(matrix.shape[0] // 2)

    def project(vector):
        return vector - translations.T @ (translations @ vector)

    b = project(np.random.default_rng(1).normal(size=matrix.shape[0]))
    solve = [
        conjugate_gradients(matrix, b, inverse, project, 1e-9, 200) for inverse in (lattice, exact)
    ]
    assert solve[1].steps <= 0.8 * solve[0].steps
    expected = np.linalg.pinv(matrix.toarray(), rcond=1e-10) @ b
    np.testing.assert_allclose(solve[1].value, expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("moved", [False, True])
def test_many_columns_are_as_each_of_them(void, moved):
    matrix, _, exact = void
    count = matrix.shape[0] // 2
    # In another order, with places that no row has.
    rows = np.concatenate([np.arange(count), [count, count + 5]])
    if moved:
        rows = np.random.default_rng(2).permutation(rows)
    columns = np.random.default_rng(3).normal(size=(count, 2, 3))
    given = np.zeros((len(rows), 2, 3), np.float32)
    given[rows < count] = columns[rows[rows < count]]
    before = given.copy()
    found = exact.for_many_columns(rows, 1.7)(given)
    expected = 1.7 * exact(columns.reshape(2 * count, 3)).reshape(count, 2, 3)
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found[rows < count], expected[rows[rows < count]], atol=limit)
    assert not found[rows >= count].any()
    assert (given == before).all()


@pytest.mark.parametrize("columns", [1, 16])
def test_the_solver_says_so_and_solves(columns):
    matrix, sites = crystal(~VOID)
    moved = np.tile(np.eye(2), matrix.shape[0] // 2)
    solver = SparseSolver(
        matrix, moved, moved.T, "lattice", dimension=2, find_sites=lambda: sites
    )  # fmt: skip
    assert f"exact on {len(solver.preconditioner.rows)} of them" in str(solver)
    b = np.random.default_rng(4).normal(size=(matrix.shape[0], columns))
    found = solver.solve(b, rtol=1e-11)
    expected = np.linalg.pinv(matrix.toarray(), rcond=1e-10) @ b
    np.testing.assert_allclose(found.value, expected, atol=1e-8 * np.abs(expected).max())
    assert solver.method == "lattice"
    assert not solver.failures


def test_what_is_perfect_or_has_too_many_defects_keeps_its_lattice():
    everywhere = np.ones(SIZE * SIZE, bool)
    scattered = np.random.default_rng(5).random(SIZE * SIZE) > 0.2
    for there in (everywhere, scattered):
        matrix, sites = crystal(there)
        lattice = LatticePreconditioner(matrix, sites)
        assert made_exact(lattice, matrix) is lattice


def test_rows_whose_block_is_not_positive_are_left_to_the_lattice():
    matrix, sites = crystal(~VOID, soft=(0,))
    lattice = LatticePreconditioner(matrix, sites)
    own = matrix.toarray()[:2, :2]
    assert np.linalg.eigvalsh(own)[0] < 0.0
    assert made_exact(lattice, matrix) is lattice
    with pytest.raises(ValueError, match="not positive"):
        LocallyExact(lattice, matrix, np.array([0]))


@pytest.mark.parametrize(("stiffer", "taken"), [(1.02, True), (1.2, False)])
def test_an_average_that_is_another_is_made_anew(stiffer, taken):
    """As of atoms that were still off their sites."""
    matrix, sites = crystal(~VOID)
    given = LatticePreconditioner(stiffer * matrix, sites)
    moved = np.tile(np.eye(2), matrix.shape[0] // 2)
    solver = SparseSolver(
        matrix, moved, moved.T, "lattice", dimension=2, preconditioner=given
    )  # fmt: skip
    assert (solver.preconditioner.lattice is given) == taken
    assert solver.method == "lattice"
    assert bool(solver.failures) != taken
