"""Sparse systems with a few dense rows beside them, against NumPy's pseudo-inverse."""

import numpy as np
import pytest
import scipy.sparse

from mdsens.linalg.border import Border, Bordered, BorderedPreconditioner
from mdsens.linalg.bordered_columns import BorderedColumns
from mdsens.linalg.lattice_preconditioner import LatticeSites
from mdsens.linalg.sparse_solver import METHODS, WIDE_COLUMNS, SparseSolver

SIZE, CORNER = 12, 3
GENERATOR = np.random.default_rng(0)


def springs():
    """A periodic square lattice of springs, a few of which are cut, shape (288, 288)."""
    count = SIZE * SIZE
    matrix = np.zeros((count, count, 2, 2))
    for i in range(count):
        x, y = divmod(i, SIZE)
        for a, b, strength in ((1, 0, 1.0), (0, 1, 1.0), (1, 1, 0.5), (1, -1, 0.5)):
            j = ((x + a) % SIZE) * SIZE + (y + b) % SIZE
            along = np.array([a, b]) / np.hypot(a, b)
            block = strength * (np.outer(along, along) + 0.05 * np.eye(2)) * (i % 29 != 3)
            matrix[i, i] += block
            matrix[j, j] += block
            matrix[i, j] -= block
            matrix[j, i] -= block
    dense = matrix.transpose(0, 2, 1, 3).reshape(2 * count, 2 * count)
    return scipy.sparse.bsr_array(dense, blocksize=(2, 2))


MATRIX = springs()
INVERSE = np.linalg.pinv(MATRIX.toarray(), rcond=1e-10)
TRANSLATIONS = np.tile(np.eye(2), SIZE * SIZE)


def border(least):
    """Columns that no translation feels, and a corner whose Schur complement has this least."""
    columns = GENERATOR.normal(size=(MATRIX.shape[0], CORNER))
    columns -= TRANSLATIONS.T @ (TRANSLATIONS @ columns) / (SIZE * SIZE)
    through = INVERSE @ columns
    turned = np.linalg.qr(GENERATOR.normal(size=(CORNER, CORNER)))[0]
    corner = columns.T @ through + turned @ np.diag([least, 20.0, 400.0]) @ turned.T
    return Border(columns, (corner + corner.T) / 2)


def whole(given):
    return np.block([[MATRIX.toarray(), given.columns], [given.columns.T, given.corner]])


def solver_of(given, method):
    null = np.pad(TRANSLATIONS, ((0, 0), (0, CORNER)))
    places = np.stack(np.divmod(np.arange(SIZE * SIZE), SIZE), axis=1)
    sites = LatticeSites((SIZE, SIZE), places, np.zeros(SIZE * SIZE, int), 1)
    return SparseSolver(
        MATRIX, null, TRANSLATIONS.T, method, dimension=2, find_sites=lambda: sites, border=given
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [5.0, -5.0], ids=["held", "unstable"])
def test_every_way_solves_with_a_border(method, least):
    given = border(least)
    solver = solver_of(given, method)
    b = GENERATOR.normal(size=(len(whole(given)), 4))
    b[:-CORNER, 3] = 0.0
    solution = solver.solve(b, rtol=1e-11)
    expected = np.linalg.pinv(whole(given), rcond=1e-10) @ b
    # An average over a lattice in single precision may not be exact enough for MINRES.
    gave_way = method == "lattice" and least < 0.0 and bool(solver.failures)
    assert solver.method == ("multigrid" if gave_way else method)
    assert np.abs(solution.value - expected).max() < 1e-8 * np.abs(expected).max()
    assert solver.positive_definite == (method == "direct" and least > 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [5.0, -5.0], ids=["held", "unstable"])
def test_the_lowest_eigenvalue_is_that_of_the_whole(method, least):
    given = border(least)
    expected = np.linalg.eigvalsh(whole(given))
    expected = expected[np.abs(expected) > 1e-9][0]
    assert solver_of(given, method).lowest_eigenvalue() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [5.0, -5.0], ids=["held", "unstable"])
def test_descent_goes_down_whatever_the_border_is(method, least):
    given = border(least)
    gradient = np.append(GENERATOR.normal(size=MATRIX.shape[0]), GENERATOR.normal(size=CORNER))
    found = solver_of(given, method).descend(gradient, rtol=1e-8, reach=0.1)
    assert gradient @ found.value < 0.0
    assert found.negative_curvature == (least < 0.0)


def test_a_border_eliminated_by_the_inverse_leaves_the_inverse():
    given = border(5.0)
    found = BorderedPreconditioner(lambda r: INVERSE @ r, MATRIX, given, signed=True)
    b = np.append(INVERSE @ GENERATOR.normal(size=MATRIX.shape[0]), np.ones(CORNER))
    np.testing.assert_allclose(Bordered(MATRIX, given) @ found(b), b, atol=1e-11)


def test_null_vectors_of_the_matrix_alone_are_told_from_those_that_move_the_border():
    given = border(5.0)
    inside = np.pad(TRANSLATIONS[:1] / SIZE, ((0, 0), (0, CORNER)))
    moving = np.zeros((1, len(whole(given))))
    moving[0, -1] = 1.0
    mixed = np.concatenate([inside + moving, inside - moving]) / np.sqrt(2.0)
    found = given.null_vectors_inside(mixed)
    np.testing.assert_allclose(np.abs(found), inside[:, :-CORNER], atol=1e-15)


def test_many_columns_are_solved_for_with_their_border_eliminated():
    given = border(5.0)
    solver = solver_of(given, "lattice")
    b = GENERATOR.normal(size=(len(whole(given)), 2 * WIDE_COLUMNS))
    b[:-CORNER, 0] = b[-CORNER:, 1] = b[:, 2] = 0.0
    solution = solver.solve(b, rtol=1e-10)
    expected = np.linalg.pinv(whole(given), rcond=1e-10) @ b
    assert isinstance(solver._together, BorderedColumns)
    assert solver.method == "lattice"
    assert np.abs(solution.value - expected).max() < 1e-8 * np.abs(expected).max()


def test_bounds_of_residuals_lie_above_them_however_roughly_it_is_solved():
    given = border(5.0)
    columns = solver_of(given, "lattice")._together
    b = GENERATOR.normal(size=(len(whole(given)), 2 * WIDE_COLUMNS))
    b[:-CORNER] -= TRANSLATIONS.T @ (TRANSLATIONS @ b[:-CORNER]) / (SIZE * SIZE)
    for rtol in (1e-2, 1e-4, 1e-8):
        found, bounds, _ = columns.solve(b, np.full(b.shape[1], rtol), 100)
        left = np.linalg.norm(b - whole(given) @ found, axis=0) / np.linalg.norm(b, axis=0)
        assert (left <= 1.01 * bounds).all()
        assert (bounds <= 10.0 * rtol).all()


def test_a_border_that_a_null_vector_moves_is_not_eliminated():
    given = Border(np.zeros((MATRIX.shape[0], CORNER)), np.diag([0.0, 1.0, 2.0]))
    solver = solver_of(given, "lattice")
    null = np.zeros((3, len(whole(given))))
    null[:2, :-CORNER] = TRANSLATIONS
    null[2, -CORNER] = 1.0
    moved = SparseSolver(
        MATRIX, null, TRANSLATIONS.T, "lattice", 2, find_sites=solver._find_sites, border=given
    )
    b = GENERATOR.normal(size=(len(whole(given)), 2 * WIDE_COLUMNS))
    solution = moved.solve(b, rtol=1e-10)
    expected = np.linalg.pinv(whole(given), rcond=1e-10) @ b
    assert moved._together is None
    assert np.abs(solution.value - expected).max() < 1e-8 * np.abs(expected).max()
