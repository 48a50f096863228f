"""Linear systems against NumPy, SciPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from numerical import agrees, derivative

from mdsens.implicit import linear
from mdsens.implicit.known_matrix import KnownMatrix
from mdsens.implicit.linear import LinearSolveError, orthonormal_basis, solve
from mdsens.implicit.null_space import OrthonormalRows

FROM_THE_RUNTIME = (RuntimeError, ValueError)  # which of them depends on the path through JAX
RANDOM = np.random.default_rng(1)
EPSILON = np.finfo(float).eps


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order_of_tests():
    global RANDOM
    RANDOM = np.random.default_rng(1)


def product(matrix):
    return lambda v: jnp.asarray(matrix) @ v


def compiled_solve(matvec, b, **options):
    """One compilation is faster than one for each operation."""
    return jax.jit(lambda b: solve(matvec, b, **options))(b)


def symmetric_with_null_space(size, nullity, eigenvalues):
    """A symmetric matrix, and vectors of its null space that are neither normal nor orthogonal."""
    vectors = np.linalg.qr(RANDOM.normal(size=(size, size)))[0]
    spectrum = np.concatenate([np.zeros(nullity), eigenvalues])
    matrix = (vectors * spectrum) @ vectors.T
    return (matrix + matrix.T) / 2, RANDOM.normal(size=(nullity, nullity)) @ vectors[:, :nullity].T


def primitives(jaxpr, name):
    """All equations of one primitive, also inside nested functions."""
    found = [equation for equation in jaxpr.eqns if equation.primitive.name == name]
    for inner in _inner_jaxprs(jaxpr):
        found += primitives(inner, name)
    return found


def _inner_jaxprs(jaxpr):
    for equation in jaxpr.eqns:
        leaves = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr")
        )
        for leaf in leaves:
            if hasattr(leaf, "eqns"):
                yield leaf
            elif hasattr(leaf, "jaxpr"):
                yield leaf.jaxpr


def test_a_general_dense_system_agrees_with_numpy():
    matrix, b = RANDOM.normal(size=(30, 30)), RANDOM.normal(size=30)
    solution = compiled_solve(product(matrix), b)
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), rtol=1e-11)
    assert solution.residual < 1e-13


def test_more_columns_than_one_chunk_give_the_same_matrix():
    matrix, b = RANDOM.normal(size=(300, 300)) + 30 * np.eye(300), RANDOM.normal(size=300)
    solution = compiled_solve(product(matrix), b)
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), rtol=1e-10)


def test_unknowns_may_be_a_pytree():
    matrix, b = RANDOM.normal(size=(5, 5)), RANDOM.normal(size=5)

    def matvec(v):
        flat = jnp.asarray(matrix) @ jnp.concatenate([v["a"], v["b"].ravel()])
        return {"a": flat[:1], "b": flat[1:].reshape(2, 2)}

    value = compiled_solve(matvec, {"a": b[:1], "b": b[1:].reshape(2, 2)}).value
    expected = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(value["a"], expected[:1], rtol=1e-11)
    np.testing.assert_allclose(value["b"], expected[1:].reshape(2, 2), rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
@pytest.mark.parametrize("solver", ["dense", "gmres"])
def test_first_derivatives_are_those_of_the_inverse(transform, solver):
    matrix, b = RANDOM.normal(size=(4, 4)) + 4 * np.eye(4), RANDOM.normal(size=4)
    weights = RANDOM.normal(size=4)

    def weighted(matrix, b):
        return weights @ solve(lambda v: matrix @ v, b, solver=solver).value

    by_matrix, by_b = jax.jit(transform(weighted, argnums=(0, 1)))(matrix, b)
    adjoint = np.linalg.solve(matrix.T, weights)
    np.testing.assert_allclose(by_b, adjoint, rtol=1e-10)
    expected = -np.outer(adjoint, np.linalg.solve(matrix, b))
    np.testing.assert_allclose(by_matrix, expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(jax.jacfwd, jax.jacfwd), (jax.jacrev, jax.jacrev)])
def test_second_derivative_along_a_line_of_matrices(first, second):
    start, change = RANDOM.normal(size=(2, 4, 4)) + 2 * np.eye(4)
    b = RANDOM.normal(size=4)

    def along(t):
        return solve(lambda v: (start + t * change) @ v, jnp.asarray(b)).value

    step = np.linalg.solve(start, change)
    expected = 2 * step @ step @ np.linalg.solve(start, b)
    np.testing.assert_allclose(jax.jit(second(first(along)))(0.0), expected, rtol=1e-9)


SOLVERS = {
    "dense": "dense",
    "cg": "cg",
    "gmres": "gmres",
    "minres": "minres",
    "lineax CG": lineax.CG(rtol=1e-13, atol=1e-14, stabilise_every=None),
    "lineax LU": lineax.LU(),
    "function": functools.partial(
        lambda matvec, b, tol: jax.scipy.sparse.linalg.cg(matvec, b, tol=tol)[0], tol=1e-13
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sign"), [*((name, 1) for name in SOLVERS), ("cg", -1), ("minres", -1)]
)
def test_a_deflated_solve_is_the_pseudo_inverse(name, sign):
    matrix, null_space = symmetric_with_null_space(24, 3, sign * np.linspace(1e-3, 1e-2, 21))
    b = RANDOM.normal(size=24)
    solution = compiled_solve(
        product(matrix),
        b,
        solver=SOLVERS[name],
        symmetric=True,
        null_space=null_space,
        least_squares=True,
    )
    expected = np.linalg.pinv(matrix, rcond=1e-10) @ b
    difference = np.linalg.norm(solution.value - expected) / np.linalg.norm(expected)
    assert difference < 1e-10
    basis = np.linalg.qr(null_space.T)[0]
    np.testing.assert_allclose(solution.null_component, np.linalg.norm(basis.T @ b), rtol=1e-10)


def test_a_deflated_solve_takes_indefinite_matrices_and_superfluous_vectors():
    matrix, null_space = symmetric_with_null_space(12, 2, np.linspace(-3, 4, 10))
    b = RANDOM.normal(size=12)
    vectors = np.stack([null_space[0], 0 * b, null_space[0] * 1e5, 1e-30 * null_space[1]])
    value = compiled_solve(
        product(matrix), b, symmetric=True, null_space=vectors, least_squares=True
    ).value
    np.testing.assert_allclose(value, np.linalg.pinv(matrix, rcond=1e-10) @ b, atol=1e-11)


def test_an_empty_null_space_is_no_null_space():
    matrix = np.diag([1.0, 2.0])
    value = compiled_solve(
        product(matrix), np.ones(2), symmetric=True, null_space=np.zeros((0, 2))
    ).value
    np.testing.assert_allclose(value, [1.0, 0.5], rtol=1e-15)


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
def test_the_derivative_follows_a_null_space_that_turns(transform):
    b, diagonal = jnp.asarray([1.0, -2.0, 0.5]), np.diag([0.0, 1.0, 3.0])

    def turned(angle, numpy):
        cosine, sine = numpy.cos(angle), numpy.sin(angle)
        zero, one = 0 * angle, 1 + 0 * angle
        rotation = numpy.stack(
            [
                numpy.stack([cosine, -sine, zero]),
                numpy.stack([sine, cosine, zero]),
                numpy.stack([zero, zero, one]),
            ]
        )
        return rotation @ diagonal @ rotation.T, 2 * rotation[:, :1].T

    def deflated(angle):
        matrix, null_space = turned(angle, jnp)
        return solve(
            lambda v: matrix @ v, b, symmetric=True, null_space=null_space, least_squares=True
        ).value

    def reference(angle):
        return np.linalg.pinv(turned(np.asarray(angle), np)[0], rcond=1e-10) @ b

    # Eigenvalues from 1 to 3 or so: the pseudo-inverse is as good as rounding.
    expected = derivative(reference, 0.3, 2e-2, 4, noise=1e-15)
    agrees(jax.jit(transform(deflated))(0.3), expected, 1e-9)


def tridiagonal(size, below, above):
    diagonal = np.linspace(3.0, 60.0, size)
    sparse = scipy.sparse.diags([below, diagonal, above], [-1, 0, 1], (size, size), format="csc")

    def matvec(v):
        padded = jnp.pad(v, 1)
        return diagonal * v + below * padded[:-2] + above * padded[2:]

    return sparse, matvec


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False], ids=["cg", "gmres"])
def test_five_thousand_unknowns_without_a_matrix(symmetric):
    sparse, matvec = tridiagonal(5000, -1.0, -1.0 if symmetric else 0.5)
    b = RANDOM.normal(size=5000)
    solution = compiled_solve(matvec, b, symmetric=symmetric)
    expected = scipy.sparse.linalg.spsolve(sparse, b)
    assert np.linalg.norm(solution.value - expected) < 1e-11 * np.linalg.norm(expected)
    assert solution.steps > 0


def test_a_preconditioner_saves_iterations_and_changes_nothing():
    sparse, matvec = tridiagonal(3000, -1.0, -1.0)
    b, diagonal = RANDOM.normal(size=3000), sparse.diagonal()
    plain = compiled_solve(matvec, b, symmetric=True)
    helped = compiled_solve(matvec, b, symmetric=True, preconditioner=lambda v: v / diagonal)
    np.testing.assert_allclose(helped.value, plain.value, atol=1e-10)
    assert helped.steps < plain.steps / 2


def test_a_preconditioner_goes_with_a_null_space():
    matrix, null_space = symmetric_with_null_space(30, 2, -np.linspace(1, 100, 28))
    b = RANDOM.normal(size=30)
    value = compiled_solve(
        product(matrix),
        b,
        solver="cg",
        symmetric=True,
        null_space=null_space,
        least_squares=True,
        preconditioner=lambda v: v / np.diagonal(matrix),
    ).value
    np.testing.assert_allclose(value, np.linalg.pinv(matrix, rcond=1e-10) @ b, atol=1e-10)


def test_the_residual_is_the_true_one():
    sparse, matvec = tridiagonal(400, -1.0, -1.0)
    b = RANDOM.normal(size=400)
    solution = compiled_solve(matvec, b, solver="cg", symmetric=True, max_steps=4, throw=False)
    expected = np.linalg.norm(sparse @ solution.value - b) / np.linalg.norm(b)
    assert expected > 1e-6
    np.testing.assert_allclose(solution.residual, expected, rtol=1e-10)


def test_nothing_on_the_right_gives_nothing():
    solution = compiled_solve(product(np.eye(3)), np.zeros(3))
    assert solution.residual == 0
    np.testing.assert_array_equal(solution.value, np.zeros(3))


@pytest.mark.slow
def test_iterations_that_do_not_converge_raise_an_error():
    _, matvec = tridiagonal(400, -1.0, -1.0)
    with pytest.raises(LinearSolveError, match="did not converge"):
        solve(matvec, np.ones(400), solver="cg", symmetric=True, max_steps=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transform", "shape"),
    [(jax.jit, (400,)), (jax.vmap, (2, 400)), (lambda f: lambda b: jax.vjp(f, b)[0], (400,))],
    ids=["jit", "vmap", "vjp"],
)
def test_iterations_that_do_not_converge_raise_an_error_in_transformations(transform, shape):
    _, matvec = tridiagonal(400, -1.0, -1.0)

    def value(b):
        return solve(matvec, b, solver="cg", symmetric=True, max_steps=4).value

    with pytest.raises(FROM_THE_RUNTIME, match="did not converge"):
        jax.block_until_ready(transform(value)(jnp.ones(shape)))


@pytest.mark.slow
def test_a_transposed_solve_that_does_not_converge_raises_an_error():
    diagonal = jnp.linspace(1.0, 100.0, 50)

    def value(b):  # one iteration suffices for this b, but not for the cotangent of ones
        return solve(lambda v: diagonal * v, b, solver="cg", symmetric=True, max_steps=1).value

    result, pull_back = jax.vjp(value, jnp.eye(50)[3])
    np.testing.assert_allclose(result[3], 1 / diagonal[3], rtol=1e-12)
    with pytest.raises(FROM_THE_RUNTIME, match="did not converge"):
        jax.block_until_ready(pull_back(jnp.ones(50)))


def test_a_singular_matrix_asks_for_its_null_space():
    matrix = np.asarray([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
    with pytest.raises(LinearSolveError, match=r"singular.*pass null_space"):
        solve(product(matrix), np.asarray([1.0, -2.0, 1.0]), symmetric=True)


def test_unknowns_in_very_different_units_are_not_taken_for_singular():
    solution = compiled_solve(product(np.diag([1.0, 1e-20, 1e20])), np.ones(3))
    np.testing.assert_allclose(solution.value, [1.0, 1e20, 1e-20], rtol=1e-14)


def test_a_matrix_that_is_not_symmetric_is_noticed():
    with pytest.raises(LinearSolveError, match="not symmetric"):
        solve(product(np.eye(3) + np.eye(3, k=1)), np.ones(3), symmetric=True)


def test_what_is_said_to_be_definite_and_is_not_has_its_answer_all_the_same():
    def solved(matrix, b):
        return solve(lambda v: matrix @ v, b, symmetric=True).value

    vectors = np.linalg.qr(RANDOM.normal(size=(8, 8)))[0]
    spectra = np.stack([np.linspace(1, 3, 8), -np.linspace(1, 3, 8), np.linspace(-2.5, 3, 8)])
    matrices = np.einsum("ij,kj,lj->kil", vectors, spectra, vectors)
    # Rounding aside, the last is symmetric no more, as approximate Hessians are not.
    lopsided = matrices[0] + 1e-9 * np.triu(RANDOM.normal(size=(8, 8)), 1)
    matrices = np.stack([*matrices, lopsided])
    b = RANDOM.normal(size=(4, 8))
    expected = np.stack([np.linalg.solve(A, right) for A, right in zip(matrices, b, strict=True)])
    for found in (
        jax.jit(jax.vmap(solved))(matrices, b),
        [jax.jit(solved)(*each) for each in zip(matrices, b, strict=True)],
        [solved(*each) for each in zip(matrices, b, strict=True)],
    ):
        np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=1e-14)


def test_not_a_number_on_the_right_is_an_error():
    with pytest.raises(LinearSolveError, match="not finite"):
        solve(product(np.eye(3)), np.asarray([1.0, np.nan, 0.0]), symmetric=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "magic"}, "'magic' is unknown; allowed are"),
        ({"solver": 3}, "solver is a int; allowed are"),
        ({"solver": "cg"}, "symmetric=True"),
        ({"null_space": np.ones((1, 2))}, "pass symmetric=True"),
        ({"null_space": np.ones(2), "symmetric": True}, "leading axis"),
        ({"null_space": {"x": np.ones((1, 2))}, "symmetric": True}, "structure"),
    ],
)
def test_arguments_that_do_not_go_together_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        solve(product(np.eye(2)), np.ones(2), **options)


def test_a_matrix_that_is_not_square_is_named():
    with pytest.raises(ValueError, match="must be square"):
        solve(lambda v: v[:1], np.ones(2))


def test_many_right_hand_sides_share_one_factorisation():
    matrix = jnp.asarray(RANDOM.normal(size=(6, 6)))
    many = jnp.asarray(RANDOM.normal(size=(5, 6)))
    batched = jax.vmap(lambda b: solve(lambda v: matrix @ v, b).value)
    np.testing.assert_allclose(
        jax.jit(batched)(many), np.linalg.solve(matrix, many.T).T, rtol=1e-10
    )
    factorisations = primitives(jax.make_jaxpr(batched)(many).jaxpr, "lu")
    assert [equation.invars[0].aval.shape for equation in factorisations] == [(6, 6)]


def test_single_precision_is_solved_to_its_own_accuracy():
    matrix = np.asarray([[3.0, 1.0], [1.0, 2.0]], np.float32)
    value = compiled_solve(
        product(matrix), np.ones(2, np.float32), solver="cg", symmetric=True
    ).value
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, [0.2, 0.4], rtol=1e-6)


def test_an_orthonormal_basis_spans_what_was_given_and_drops_the_rest():
    vectors = RANDOM.normal(size=(3, 8))
    given = np.stack([vectors[0], 0 * vectors[0], 1e200 * vectors[1], vectors[0] + vectors[1]])
    basis = np.asarray(orthonormal_basis(given))
    kept = basis[[0, 2]]
    np.testing.assert_array_equal(basis[[1, 3]], 0)
    np.testing.assert_allclose(kept @ kept.T, np.eye(2), atol=1e-15)
    expected = np.linalg.qr(vectors[:2].T)[0]
    np.testing.assert_allclose(kept.T @ kept, expected @ expected.T, atol=1e-14)


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_rows_that_are_a_basis_span_the_null_space_as_vectors_do(solver):
    matrix, vectors = symmetric_with_null_space(12, 2, np.linspace(1.0, 3.0, 10))
    right = RANDOM.normal(size=12)
    right -= vectors.T @ np.linalg.lstsq(vectors.T, right, rcond=None)[0]
    rows = np.concatenate([np.linalg.qr(vectors.T)[0].T, np.zeros((1, 12))])
    found = compiled_solve(
        product(matrix), right, solver=solver, symmetric=True,
        null_space=OrthonormalRows(jnp.asarray(rows)),
    )  # fmt: skip
    np.testing.assert_allclose(found.value, np.linalg.pinv(matrix) @ right, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_dense_matrix_that_is_not_finite_is_named(bad):
    matrix = np.diag([1.0, 2.0, 3.0])
    matrix[2, 1] = bad
    for options in ({}, {"symmetric": True}):
        with pytest.raises(LinearSolveError, match="not finite"):
            solve(product(matrix), np.ones(3), solver="dense", **options)


def test_nearly_parallel_vectors_become_orthonormal_to_rounding():
    direction, other = np.linalg.qr(RANDOM.normal(size=(9, 2)))[0].T
    basis = np.asarray(orthonormal_basis(np.stack([direction, direction + 1e-6 * other])))
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-14)


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
def test_the_projector_on_a_span_can_be_differentiated_with_zero_vectors(transform):
    start, change = RANDOM.normal(size=(2, 3, 5))
    start[1] = change[1] = 0

    def projector(t):
        basis = orthonormal_basis(start + t * change)
        return basis.T @ basis

    def reference(t):
        basis = np.linalg.qr((start + t * change)[[0, 2]].T)[0]
        return basis @ basis.T

    expected = (reference(1e-5) - reference(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(transform(projector))(0.0), expected, atol=1e-8)


def test_the_automatic_choice_is_dense_up_to_the_limit():
    size = linear.DENSE_LIMIT + 1
    assert compiled_solve(lambda v: 2 * v, np.ones(20)).steps == 0
    assert compiled_solve(lambda v: 2 * v, np.ones(size), symmetric=True).steps > 0


def indefinite_with_null_space(size, nullity):
    spectrum = np.concatenate([np.linspace(-4, -1, 7), np.linspace(0.5, 9, size - nullity - 7)])
    return symmetric_with_null_space(size, nullity, spectrum)


def test_minres_solves_indefinite_and_singular_systems_without_their_null_space():
    matrix, _ = indefinite_with_null_space(40, 3)
    b = matrix @ RANDOM.normal(size=40)
    solution = compiled_solve(product(matrix), b, solver="minres", symmetric=True)
    np.testing.assert_allclose(solution.value, np.linalg.pinv(matrix, rcond=1e-10) @ b, atol=1e-10)


def test_minres_takes_as_many_steps_as_in_scipy():
    matrix, _ = indefinite_with_null_space(40, 0)
    b, diagonal = RANDOM.normal(size=40), 1 + np.arange(40.0)
    steps = []
    scipy.sparse.linalg.minres(
        matrix, b, M=np.diag(1 / diagonal), rtol=1e-9, callback=lambda x: steps.append(x)
    )
    solution = compiled_solve(
        product(matrix),
        b,
        solver="minres",
        symmetric=True,
        preconditioner=lambda v: v / diagonal,
        rtol=1e-10,
    )
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), rtol=1e-6)
    assert abs(int(solution.steps) - len(steps)) <= 4


def test_the_automatic_choice_for_large_indefinite_matrices_is_minres():
    diagonal = jnp.concatenate([-jnp.ones(1), jnp.full(linear.DENSE_LIMIT, 2.0)])
    b = np.ones(linear.DENSE_LIMIT + 1)
    solution = compiled_solve(lambda v: diagonal * v, b, symmetric=True, definite=False)
    np.testing.assert_allclose(solution.value, 1 / diagonal, rtol=1e-12)
    assert solution.steps == 2


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
def test_the_pseudo_inverse_finds_both_null_spaces_and_follows_them(transform):
    left, right = RANDOM.normal(size=(2, 5, 3))
    turn_left, turn_right = RANDOM.normal(size=(2, 5, 3))
    b = RANDOM.normal(size=5)

    def matrix(t, numpy):  # of rank 3, and not symmetric
        return numpy.asarray(left + t * turn_left) @ numpy.asarray(right + t**2 * turn_right).T

    def found(t):
        return solve(
            lambda v: matrix(t, jnp) @ v, jnp.asarray(b), solver="svd", least_squares=True
        ).value

    def reference(t):
        return np.linalg.pinv(matrix(t, np), rcond=1e-10) @ b

    t = 0.4
    np.testing.assert_allclose(found(t), reference(t), rtol=1e-11)
    singular = np.linalg.svd(matrix(t, np), compute_uv=False)
    noise = 10 * EPSILON * singular[0] / singular[2] * np.abs(reference(t)).max()
    expected = derivative(reference, t, 1e-2, 4, noise=noise)
    agrees(jax.jit(transform(found))(t), expected, 1e-8)


def test_the_pseudo_inverse_has_second_derivatives():
    def squared_norm(t):  # the pseudo-inverse of t [[1, 1], [1, 1]] is [[1, 1], [1, 1]] / (4 t)
        matrix = t * jnp.ones((2, 2))
        return jnp.sum(solve(lambda v: matrix @ v, jnp.ones(2), solver="svd").value ** 2)

    # x = 1 / (2 t) in both components.
    np.testing.assert_allclose(jax.jit(jax.hessian(squared_norm))(2.0), 3 / 2.0**4, rtol=1e-12)


SINGULAR = np.asarray([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    "options", [{"solver": "svd"}, {"null_space": np.ones((1, 3))}], ids=["found", "given"]
)
def test_a_right_side_out_of_the_range_is_an_error_unless_least_squares_are_asked_for(options):
    b = np.asarray([1.0, 0.0, 0.0])
    with pytest.raises(LinearSolveError, match=r"leaves the range.*pass least_squares=True"):
        solve(product(SINGULAR), b, symmetric=True, **options)
    with pytest.raises(FROM_THE_RUNTIME, match="leaves the range"):
        jax.block_until_ready(
            jax.jit(lambda b: solve(product(SINGULAR), b, symmetric=True, **options).value)(b)
        )
    solution = solve(product(SINGULAR), b, symmetric=True, least_squares=True, **options)
    np.testing.assert_allclose(solution.value, np.linalg.pinv(SINGULAR) @ b, atol=1e-14)
    np.testing.assert_allclose(solution.null_component, 3**-0.5, rtol=1e-12)


@pytest.mark.parametrize("solver", ["cg", "minres"])
def test_iterations_notice_a_matrix_that_is_not_symmetric(solver):
    matrix = np.diag(np.arange(1.0, 21)) + 0.01 * np.eye(20, k=1)
    with pytest.raises(LinearSolveError, match="not symmetric"):
        solve(product(matrix), np.ones(20), solver=solver, symmetric=True)


@pytest.mark.parametrize("solver", ["dense", "gmres", "svd"])
def test_a_matrix_that_is_not_a_number_is_an_error(solver):
    matrix = np.diag([1.0, np.nan, 2.0])
    with pytest.raises(LinearSolveError, match="matrix of the linear system is not finite"):
        solve(product(matrix), np.ones(3), solver=solver)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
def test_where_gmres_stagnates_a_factorisation_takes_over(transform):
    """A cyclic shift, on which restarted GMRES makes no progress at all."""
    size = linear.DENSE_FIRST + 50

    def value(t):
        return solve(lambda v: jnp.roll(v, 1) * t, jnp.eye(size)[0]).value

    expected = np.zeros(size)
    expected[-1] = 0.5
    np.testing.assert_allclose(jax.jit(value)(2.0), expected, atol=1e-14)
    np.testing.assert_allclose(jax.jit(transform(value))(2.0), -expected / 2, atol=1e-14)


@pytest.mark.slow
def test_a_singular_matrix_on_which_gmres_stagnates_is_named():
    size = linear.DENSE_FIRST + 50
    kept = jnp.ones(size).at[7].set(0)
    with pytest.raises(LinearSolveError, match="singular matrix"):
        solve(lambda v: kept * jnp.roll(v, 1), jnp.ones(size))


def test_a_known_matrix_is_solved_with_and_products_tell_whether_it_is_right():
    matrix = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])
    right = np.array([1.0, 2.0, -3.0])
    solved = functools.partial(
        solve, lambda v: matrix @ v, right, symmetric=True, null_space=np.ones((1, 3))
    )
    found = solved(solver=KnownMatrix(jnp.asarray(matrix)))
    np.testing.assert_allclose(found.value, np.linalg.pinv(matrix) @ right, rtol=1e-14)
    with pytest.raises(LinearSolveError, match="did not converge"):
        solved(solver=KnownMatrix(jnp.asarray(matrix + 0.1 * np.diag([1.0, 2.0, 3.0]))))
