"""Sparse linear systems by every way against NumPy's pseudo-inverse, and the faults of each."""

import functools

import numpy as np
import pytest
import scipy.sparse

from mdsens.implicit import LinearSolveError
from mdsens.linalg.conjugate_gradients import block_conjugate_gradients, conjugate_gradients
from mdsens.linalg.multigrid import (
    BlockJacobi,
    Multigrid,
    positive_semidefinite_projection,
    row_of_blocks,
    strong_couplings,
)
from mdsens.linalg.sparse_solver import (
    CHOLMOD_REACH,
    FACTOR_BYTES,
    MEMORY_FRACTION,
    METHODS,
    TOGETHER,
    SparseSolver,
    column_groups,
)

GENERATOR = np.random.default_rng(0)


@functools.cache
def lattice(size, pinned=False, weakest=0.05):
    """Springs of random stiffness between neighbours of a periodic square lattice, 2 x 2 blocks."""
    count = size * size
    generator = np.random.default_rng(1)
    matrix = np.zeros((count, count, 2, 2))
    for i in range(count):
        x, y = divmod(i, size)
        for j, strength in (
            (((x + 1) % size) * size + y, 1.0),
            (x * size + (y + 1) % size, 1.0),
            (((x + 1) % size) * size + (y + 1) % size, weakest),
        ):
            turned = generator.normal(size=(2, 2))
            block = strength * (turned @ turned.T + 0.2 * np.eye(2))
            matrix[i, i] += block
            matrix[j, j] += block
            matrix[i, j] -= block
            matrix[j, i] -= block
    if pinned:
        matrix[0, 0] += np.eye(2)
    dense = matrix.transpose(0, 2, 1, 3).reshape(2 * count, 2 * count)
    return scipy.sparse.bsr_array(dense, blocksize=(2, 2))


def translations(matrix):
    return np.tile(np.eye(2), matrix.shape[0] // 2)


def solver_of(matrix, method, null=True):
    moved = translations(matrix)
    return SparseSolver(matrix, moved if null else moved[:0], moved.T, method, dimension=2)


@pytest.fixture(params=["CHOLMOD", "SuperLU"])
def factors(request, monkeypatch):
    """The factorisation of the optional package, and that which is there without it."""
    if request.param == "SuperLU":
        monkeypatch.setattr("mdsens.linalg.factorisation._cholmod", lambda: None)
    return request.param


@pytest.mark.parametrize("method", [method for method in METHODS if method != "lattice"])
@pytest.mark.parametrize("pinned", [False, True], ids=["singular", "regular"])
def test_every_way_gives_the_solution_of_least_norm(method, pinned):
    matrix = lattice(12, pinned)
    b = GENERATOR.normal(size=(matrix.shape[0], 3))
    solver = solver_of(matrix, method, null=not pinned)
    solution = solver.solve(b, rtol=1e-12)
    # 1e-10 of the largest singular value separates the two null modes from all others.
    expected = np.linalg.pinv(matrix.toarray(), rcond=1e-10) @ b
    assert solver.method == method
    assert np.abs(solution.value - expected).max() < 1e-9 * np.abs(expected).max()
    assert solution.residuals.max() <= 1e-12


@pytest.mark.parametrize("pinned", [False, True], ids=["singular", "regular"])
def test_either_factorisation_solves_for_columns_and_says_what_it_is(factors, pinned):
    matrix = lattice(12, pinned)
    solver = solver_of(matrix, "direct", null=not pinned)
    b = GENERATOR.normal(size=(matrix.shape[0], 3))
    expected = np.linalg.pinv(matrix.toarray(), rcond=1e-10) @ b
    for columns, wanted in ((b, expected), (b[:, :1], expected[:, :1])):
        solution = solver.solve(columns, rtol=1e-12)
        assert np.abs(solution.value - wanted).max() < 1e-9 * np.abs(wanted).max()
        assert solution.steps.max() == 0
    assert solver.positive_definite
    assert str(solver) == f"direct, {factors} ({matrix.shape[0]:,} unknowns)"


@pytest.mark.parametrize("shift", [0.0, 2.0], ids=["definite", "indefinite"])
def test_a_factorisation_tells_whether_the_matrix_is_positive_definite(factors, shift):
    matrix = lattice(8, pinned=True)
    dense = matrix.toarray() - shift * np.eye(matrix.shape[0])
    solver = solver_of(scipy.sparse.bsr_array(dense, blocksize=(2, 2)), "direct", null=False)
    assert solver.method == "direct"
    assert solver.positive_definite == (np.linalg.eigvalsh(dense)[0] > 0)
    b = GENERATOR.normal(size=(len(dense), 1))
    expected = np.linalg.solve(dense, b)
    assert np.abs(solver.solve(b).value - expected).max() < 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("limit", [288, 36, 35])
def test_the_faster_factorisation_is_chosen_for_larger_flat_systems(factors, limit, monkeypatch):
    monkeypatch.setattr("mdsens.linalg.sparse_solver.DIRECT_LIMIT", {2: limit})
    matrix = lattice(12, pinned=True)
    reach = CHOLMOD_REACH if factors == "CHOLMOD" else 1
    wanted = "direct" if matrix.shape[0] <= limit * reach else "multigrid"
    assert solver_of(matrix, "auto", null=False).method == wanted


def test_a_factor_that_would_not_fit_into_the_memory_is_not_made(monkeypatch):
    matrix = lattice(12, pinned=True)
    enough = int(FACTOR_BYTES * matrix.shape[0] / MEMORY_FRACTION)
    for memory, wanted in ((enough + 1, "direct"), (enough - 1, "multigrid")):
        monkeypatch.setattr("mdsens.linalg.sparse_solver.available_memory", lambda m=memory: m)
        assert solver_of(matrix, "auto", null=False).method == wanted


def test_a_direction_down_an_indefinite_matrix_needs_no_second_factorisation(monkeypatch):
    dense = lattice(8, pinned=True).toarray() - 2.0 * np.eye(128)
    solver = solver_of(scipy.sparse.bsr_array(dense, blocksize=(2, 2)), "direct", null=False)

    def fail(*_, **__):
        raise MemoryError("no room for the factor")

    monkeypatch.setattr("scipy.sparse.linalg.splu", fail)
    gradient = GENERATOR.normal(size=128)
    found = solver.descend(gradient, 1e-3)
    assert found.negative_curvature
    assert found.value @ gradient < 0
    # Where it is needed after all and cannot be had, the next way is taken.
    b = GENERATOR.normal(size=(128, 1))
    expected = np.linalg.solve(dense, b)
    assert np.abs(solver.solve(b).value - expected).max() < 1e-6 * np.abs(expected).max()
    assert solver.method != "direct"
    assert "direct: no room for the factor" in solver.failures


def test_a_factorisation_refuses_a_matrix_that_is_singular(factors):
    """A mode without any stiffness that no null vector tells of."""
    matrix = lattice(8, pinned=True).toarray()
    matrix[20:22] = matrix[:, 20:22] = 0.0
    matrix[20, 20] = matrix[21, 21] = 1e-18
    solver = solver_of(scipy.sparse.bsr_array(matrix, blocksize=(2, 2)), "direct", null=False)
    assert solver.method != "direct"
    assert "direct: the factor is singular" in solver.failures


@pytest.mark.parametrize("method", [method for method in METHODS if method != "lattice"])
def test_the_lowest_eigenvalue_is_found(method):
    matrix = lattice(12)
    expected = np.linalg.eigvalsh(matrix.toarray())[2]
    assert solver_of(matrix, method).lowest_eigenvalue(200, 1e-3) == pytest.approx(
        expected, rel=1e-2
    )


def test_an_indefinite_matrix_has_a_negative_lowest_eigenvalue_and_is_solved_all_the_same():
    matrix = lattice(8, pinned=True).toarray()
    lowest = np.linalg.eigvalsh(matrix)[:3].mean()
    indefinite = scipy.sparse.bsr_array(matrix - lowest * np.eye(len(matrix)), blocksize=(2, 2))
    solver = solver_of(indefinite, "multigrid", null=False)
    assert solver.lowest_eigenvalue(steps=100) < 0
    b = GENERATOR.normal(size=(len(matrix), 1))
    value = solver.solve(b, rtol=1e-11).value
    expected = np.linalg.solve(indefinite.toarray(), b)
    assert np.abs(value - expected).max() < 1e-5 * np.abs(expected).max()


def test_conjugate_gradients_end_at_negative_curvature_with_a_direction_downhill():
    matrix = lattice(6).toarray()
    indefinite = scipy.sparse.bsr_array(matrix - 4.0 * np.eye(len(matrix)), blocksize=(2, 2))
    g = GENERATOR.normal(size=len(matrix))
    ended = conjugate_gradients(indefinite, -g, lambda r: r, lambda v: v, 1e-10, 1000)
    assert ended.negative_curvature
    assert g @ ended.value < 0


def test_the_convex_part_is_positive_semidefinite_and_keeps_what_is_convex():
    convex = lattice(6)
    np.testing.assert_allclose(
        positive_semidefinite_projection(convex).toarray(), convex.toarray(), atol=1e-14
    )
    # A coupling that pushes apart what has moved apart, in one direction.
    blocks = convex.copy()
    rows = row_of_blocks(blocks)
    one, other = 3, int(blocks.indices[(rows == 3) & (blocks.indices != 3)][0])
    push = np.outer([0.6, 0.8], [0.6, 0.8]) * 10.0
    for row, column, sign in ((one, other, 1), (other, one, 1), (one, one, -1), (other, other, -1)):
        blocks.data[(rows == row) & (blocks.indices == column)] += sign * push
    assert np.linalg.eigvalsh(blocks.toarray())[0] < -1.0
    part = positive_semidefinite_projection(blocks).toarray()
    assert np.linalg.eigvalsh(part)[0] > -1e-12
    assert np.abs(part - part.T).max() < 1e-14
    assert np.abs(part @ translations(blocks).T).max() < 1e-13
    touched = np.abs(part - convex.toarray()).reshape(36, 2, 36, 2).max(axis=(1, 3)) > 1e-12
    assert set(zip(*np.nonzero(touched), strict=True)) <= {
        (i, j) for i in (one, other) for j in (one, other)
    }


def test_where_a_matrix_curves_down_its_convex_part_gives_the_direction():
    matrix = lattice(8, pinned=True).toarray()
    indefinite = scipy.sparse.bsr_array(matrix - 0.5 * np.eye(len(matrix)), blocksize=(2, 2))
    solver = solver_of(indefinite, "multigrid", null=False)
    gradient = GENERATOR.normal(size=len(matrix))
    before = solver.preconditioner
    down = solver.descend(gradient, 1e-6)
    assert down.negative_curvature
    # What is kept for matrices nearby is that of the convex part.
    assert solver.preconditioner is not before
    assert gradient @ down.value < 0
    # At a saddle, where nothing else leads anywhere, the curvature is followed as far as is asked.
    gradient *= 1e-12
    assert np.abs(solver_of(indefinite, "multigrid", null=False).descend(gradient, 1e-6).value
                  ).max() < 1e-9  # fmt: skip
    leaves = solver_of(indefinite, "multigrid", null=False).descend(gradient, 1e-6, reach=0.3)
    assert np.linalg.norm(leaves.value.reshape(-1, 2), axis=1).max() == pytest.approx(0.3)
    assert leaves.value @ (indefinite @ leaves.value) < 0
    assert gradient @ leaves.value <= 0


def test_the_stiff_part_leaves_translations_without_force_and_is_symmetric():
    # Enough neighbours that weak ones are left out.
    points = GENERATOR.random((80, 2)) * 4
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    weights = np.where((distance < 1.8) & (distance > 0), np.exp(-6 * distance), 0.0)
    blocks = -weights[:, :, None, None] * np.eye(2)
    blocks[np.arange(80), np.arange(80)] = weights.sum(axis=1)[:, None, None] * np.eye(2)
    dense = blocks.transpose(0, 2, 1, 3).reshape(160, 160)
    part = strong_couplings(scipy.sparse.bsr_array(dense, blocksize=(2, 2)))
    assert len(part.indices) < 0.7 * (np.count_nonzero(weights) + 80)
    assert np.abs(part @ np.tile(np.eye(2), (80, 1))).max() < 1e-12 * np.abs(dense).max()
    assert np.abs((part - part.T).toarray()).max() == 0.0


def test_multigrid_needs_no_more_iterations_as_the_system_grows():
    steps = []
    for size in (24, 48):
        matrix = lattice(size)
        b = GENERATOR.normal(size=(matrix.shape[0], 1))
        steps.append(int(solver_of(matrix, "multigrid").solve(b, rtol=1e-8).steps[0]))
        plain = int(solver_of(matrix, "block-jacobi").solve(b, rtol=1e-8).steps[0])
    assert steps[1] <= 1.5 * steps[0]
    assert steps[1] < plain / 2


def test_a_hierarchy_is_repeatable_and_uses_up_no_random_numbers(monkeypatch):
    # The coarser levels draw them.
    monkeypatch.setattr("mdsens.linalg.multigrid.COARSEST", 10)
    matrix = lattice(24, pinned=True)
    residual = np.ones(matrix.shape[0])
    np.random.seed(5)
    expected = np.random.random(2)
    np.random.seed(5)
    first = Multigrid(matrix, translations(matrix).T)(residual)
    drawn = np.random.random(2)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(Multigrid(matrix, translations(matrix).T)(residual), first)


@pytest.mark.parametrize("unit", [1.0, 1e-90])
def test_many_columns_are_smoothed_in_single_precision_and_none_is_lost(unit):
    matrix = unit * lattice(24, pinned=True)
    multigrid = Multigrid(matrix, translations(matrix).T)
    columns = GENERATOR.normal(size=(matrix.shape[0], 3)) * [1.0, 1e-100, 1e30]
    together = multigrid(columns)
    for column, found in zip(columns.T, together.T, strict=True):
        expected = multigrid(np.ascontiguousarray(column))
        assert 0 < np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    # Conjugate gradients make up for it.
    solution = solver_of(matrix, "multigrid", null=False).solve(columns, rtol=1e-12)
    left = np.linalg.norm(matrix @ solution.value - columns, axis=0)
    assert (left < 2e-12 * np.linalg.norm(columns, axis=0)).all()


def test_a_hierarchy_that_fails_to_build_gives_way_to_the_diagonal(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no coarse level")

    monkeypatch.setattr("pyamg.smoothed_aggregation_solver", fail)
    matrix = lattice(10)
    solver = solver_of(matrix, "multigrid")
    assert solver.method == "block-jacobi"
    assert "no coarse level" in solver.failures[0]
    b = GENERATOR.normal(size=(matrix.shape[0], 1))
    expected = np.linalg.pinv(matrix.toarray(), rcond=1e-10) @ b
    assert np.abs(solver.solve(b, 1e-12).value - expected).max() < 1e-9 * np.abs(expected).max()


def test_down_an_indefinite_matrix_the_diagonal_serves_where_no_hierarchy_is_built(
    monkeypatch, caplog
):
    matrix = lattice(12, pinned=True).toarray()
    values, vectors = np.linalg.eigh(matrix)
    indefinite = matrix - 2.0 * values[0] * np.outer(vectors[:, 0], vectors[:, 0])
    solver = solver_of(scipy.sparse.bsr_array(indefinite, blocksize=(2, 2)), "multigrid", False)

    def fail(*_, **__):
        raise RuntimeError("no coarse level")

    monkeypatch.setattr("pyamg.smoothed_aggregation_solver", fail)
    gradient = vectors[:, 0] + vectors[:, 7]
    with caplog.at_level("DEBUG", logger="mdsens.linalg"):
        found = solver.descend(gradient, 0.01)
    assert found.negative_curvature
    assert gradient @ found.value < 0
    (told,) = caplog.messages
    assert "positive semidefinite projection: no coarse level" in told


@pytest.mark.parametrize("failing", ["scipy.sparse.linalg.splu", "cvxopt.cholmod.numeric"])
def test_a_factorisation_that_fails_gives_way_to_multigrid(monkeypatch, failing):
    def fail(*_, **__):
        raise MemoryError("no room for the factor")

    monkeypatch.setattr(failing, fail)
    if "splu" in failing:
        monkeypatch.setattr("mdsens.linalg.factorisation._cholmod", lambda: None)
    solver = solver_of(lattice(10), "direct")
    assert solver.method == "multigrid"
    assert "no room for the factor" in solver.failures[0]


def test_a_null_mode_that_is_not_known_is_an_error_and_not_a_number():
    matrix = lattice(6)
    solver = solver_of(matrix, "block-jacobi", null=False)
    # Along a translation, which nothing holds.
    with pytest.raises(LinearSolveError, match="did not converge"):
        solver.solve(translations(matrix).T[:, :1].copy())


def test_numbers_that_are_not_finite_are_an_error():
    matrix = lattice(6)
    with pytest.raises(LinearSolveError, match="right-hand side"):
        solver_of(matrix, "direct").solve(np.full((matrix.shape[0], 1), np.nan))
    matrix.data[0, 0, 0] = np.nan
    with pytest.raises(LinearSolveError, match="matrix of the linear system is not finite"):
        solver_of(matrix, "direct")


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="'cholesky'"):
        solver_of(lattice(4), "cholesky")


@pytest.mark.parametrize("kind", [Multigrid, BlockJacobi])
def test_preconditioners_are_symmetric_and_positive(kind):
    matrix = lattice(10, pinned=True)
    made = kind(matrix, translations(matrix).T) if kind is Multigrid else kind(matrix)
    applied = np.stack([made(unit) for unit in np.eye(matrix.shape[0])])
    assert np.abs(applied - applied.T).max() < 1e-12 * np.abs(applied).max()
    assert np.linalg.eigvalsh((applied + applied.T) / 2)[0] > 0


@pytest.mark.parametrize("method", [method for method in METHODS if method != "lattice"])
def test_many_right_hand_sides_are_solved_as_if_each_were_alone(method):
    matrix = lattice(12)
    b = GENERATOR.normal(size=(matrix.shape[0], 20)) * 10.0 ** GENERATOR.integers(-6, 6, 20)
    b[:, 3] = 0.0
    b[:, 5] = translations(matrix)[0]
    solver, heard = solver_of(matrix, method), []
    together = solver.solve(b, rtol=1e-12, callback=heard.append)
    alone = np.concatenate([solver.solve(column[:, None], 1e-12).value for column in b.T], axis=1)
    sizes = np.abs(alone).max(axis=0)
    np.testing.assert_array_equal(together.value[:, [3, 5]], 0.0)
    assert (np.abs(together.value - alone).max(axis=0) <= 1e-9 * sizes).all()
    assert heard[-1] == 20


def test_a_block_takes_fewer_steps_than_its_columns_alone():
    matrix = lattice(24, pinned=True)
    b = np.random.default_rng(3).normal(size=(matrix.shape[0], 12))
    one = BlockJacobi(matrix)
    alone = [conjugate_gradients(matrix, c, one, lambda v: v, 1e-10, 1000).steps for c in b.T]
    x, residuals, steps = block_conjugate_gradients(matrix, b, one, lambda v: v, 1e-10, 1000)
    expected = np.linalg.solve(matrix.toarray(), b)
    assert np.abs(x - expected).max() < 1e-7 * np.abs(expected).max()
    assert residuals.max() <= 1e-10
    assert steps < 0.6 * min(alone)


def test_a_block_of_dependent_columns_is_solved():
    matrix = lattice(6, pinned=True)
    first = np.random.default_rng(4).normal(size=matrix.shape[0])
    b = np.stack([first, -3.0 * first, 0.0 * first, first], axis=1)
    x, residuals, _ = block_conjugate_gradients(
        matrix, b, BlockJacobi(matrix), lambda v: v, 1e-12, 200
    )
    expected = np.linalg.solve(matrix.toarray(), b)
    assert np.abs(x - expected).max() < 1e-9 * np.abs(expected).max()
    assert residuals.max() <= 1e-12


def test_a_block_that_meets_negative_curvature_says_so():
    matrix = lattice(6, pinned=True).toarray()
    values, vectors = np.linalg.eigh(matrix)
    indefinite = matrix - 2.0 * values[0] * np.outer(vectors[:, 0], vectors[:, 0])
    b = np.stack([vectors[:, 1] + vectors[:, 7], vectors[:, 0]], axis=1)
    _, residuals, steps = block_conjugate_gradients(
        scipy.sparse.csr_array(indefinite), b, lambda r: r, lambda v: v, 1e-12, 500
    )
    assert steps < 500
    assert residuals[1] == 1.0


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_preconditioner_that_is_not_finite_ends_a_block_and_another_way_is_taken():
    matrix = lattice(12, pinned=True)
    b = GENERATOR.normal(size=(matrix.shape[0], 3))
    solver = solver_of(matrix, "multigrid", null=False)
    solver.preconditioner = lambda r: np.full_like(r, np.inf)
    _, residuals, steps = block_conjugate_gradients(
        matrix, b, solver.preconditioner, lambda v: v, 1e-10, 100
    )
    assert (residuals == 1.0).all()
    assert steps == 1
    solution = solver.solve(b, 1e-10)
    assert np.abs(matrix @ solution.value - b).max() < 1e-6


def test_a_column_without_negative_curvature_is_solved_beside_one_with_it():
    matrix = lattice(12, pinned=True).toarray()
    values, vectors = np.linalg.eigh(matrix)
    indefinite = matrix - 2.0 * values[0] * np.outer(vectors[:, 0], vectors[:, 0])
    b = np.stack([vectors[:, 1] + vectors[:, 7], vectors[:, 0], vectors[:, 3]], axis=1)
    solver = solver_of(scipy.sparse.bsr_array(indefinite, blocksize=(2, 2)), "multigrid", False)
    solution = solver.solve(b, 1e-10)
    assert np.abs(indefinite @ solution.value - b).max() < 1e-6


def test_columns_are_taken_together_in_equal_groups():
    assert column_groups(0, 1000) == []
    assert column_groups(TOGETHER, 1000) == [slice(0, TOGETHER)]
    sizes = [group.stop - group.start for group in column_groups(3 * TOGETHER + 4, 1000)]
    assert sum(sizes) == 3 * TOGETHER + 4
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 2


def test_no_more_columns_are_taken_together_than_the_memory_allows(monkeypatch):
    path = "mdsens.linalg.sparse_solver.available_memory"
    monkeypatch.setattr(path, lambda: 2_000_000)
    assert 1 < len(column_groups(TOGETHER, 1000)) < TOGETHER
    monkeypatch.setattr(path, lambda: 0)
    assert len(column_groups(TOGETHER, 1000)) == TOGETHER
    matrix = lattice(12)
    b = GENERATOR.normal(size=(matrix.shape[0], 3))
    heard: list[int] = []
    solver_of(matrix, "multigrid").solve(b, 1e-10, callback=heard.append)
    assert heard == [1, 2, 3]


@pytest.mark.parametrize("method", ["multigrid", "block-jacobi"])
@pytest.mark.parametrize("excess", [1.02, 1.5])
def test_one_soft_spot_among_many_soft_waves_is_found(method, excess):
    matrix = lattice(16, pinned=True).toarray()
    spot = np.zeros(len(matrix))
    spot[[200, 202]] = 1.0, -1.0
    # This much softer in one direction and the matrix curves down there, a little.
    softer = matrix - excess / (spot @ np.linalg.solve(matrix, spot)) * np.outer(spot, spot)
    expected = np.linalg.eigvalsh(softer)[0]
    assert expected < 0
    solver = solver_of(scipy.sparse.bsr_array(softer, blocksize=(2, 2)), method, null=False)
    assert solver.lowest_eigenvalue() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("method", ["multigrid", "block-jacobi"])
@pytest.mark.parametrize("size", [8, 10])
def test_a_solution_that_is_told_solves_the_system_or_is_refused(method, size):
    """Iterations that add up their residuals do not see that of a product which is rounding."""
    matrix = lattice(size, pinned=True).toarray()
    values, vectors = np.linalg.eigh(matrix)
    soft = vectors[:, 0]
    refused = []
    for weakest in (1e-7, 1e-11, 1e-12, 1e-13, 1e-14):
        softened = matrix - (values[0] - weakest) * np.outer(soft, soft)
        softened = (softened + softened.T) / 2
        given = scipy.sparse.bsr_array(softened, blocksize=(2, 2))
        try:
            found = solver_of(given, method, null=False).solve(soft[:, None], tolerance=1e-6)
        except LinearSolveError:
            refused.append(weakest)
        else:
            assert np.linalg.norm(softened @ found.value[:, 0] - soft) <= 1e-6
    # Where there are digits to spare nothing is refused, and else none is left.
    assert refused == [1e-11, 1e-12, 1e-13, 1e-14]
