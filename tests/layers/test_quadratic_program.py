"""Quadratic programs against cvxpy, closed forms and problems built around their active rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.layers.box_program import BoxConstrainedQP, BoxQP
from mdsens.layers.equality_program import EqualityConstrainedQP
from mdsens.layers.linear_program import LinearProgram
from mdsens.layers.polyhedron import projection_polyhedron
from mdsens.layers.program import InfeasibleError, UnboundedError, UnsolvedError
from mdsens.layers.quadratic_program import QuadraticProgram

SOLVERS = ["interior-point", "clarabel", "osqp"]
UNKNOWNS, EQUATIONS, INEQUALITIES, ACTIVE = 5, 2, 6, 2
FROM_THE_RUNTIME = (RuntimeError, ValueError)


def problem(seed, rank=UNKNOWNS):
    """A program with the first inequalities active, the others not, and its solution.

    With rank + EQUATIONS + ACTIVE >= UNKNOWNS the solution is unique.
    """
    random = np.random.default_rng(seed)
    half = random.normal(size=(UNKNOWNS, rank))
    Q = half @ half.T
    A = random.normal(size=(EQUATIONS, UNKNOWNS))
    G = random.normal(size=(INEQUALITIES, UNKNOWNS))
    x, nu = random.normal(size=UNKNOWNS), random.normal(size=EQUATIONS)
    active = np.arange(INEQUALITIES) < ACTIVE
    slack = np.where(active, 0, random.uniform(0.5, 1, INEQUALITIES))
    multipliers = np.where(active, random.uniform(0.5, 1, INEQUALITIES), 0)
    c = -Q @ x - A.T @ nu - G.T @ multipliers
    return (Q, c, A, A @ x, G, G @ x + slack), (x, nu, multipliers)


def solve(arguments, solver="interior-point"):
    Q, c, A, b, G, h = arguments
    return QuadraticProgram(solver).run(None, (Q, c), (A, b), (G, h))


def by_known_active_rows(arguments):
    """The solution from the linear system of the rows that are active by construction."""
    Q, c, A, b, G, h = arguments
    rows = jnp.concatenate([A, G[:ACTIVE]])
    empty = jnp.zeros((len(rows), len(rows)))
    matrix = jnp.block([[(Q + Q.T) / 2, rows.T], [rows, empty]])
    return jnp.linalg.solve(matrix, jnp.concatenate([-c, b, h[:ACTIVE]]))


def by_layer(arguments, solver="interior-point"):
    params = solve(arguments, solver).params
    return jnp.concatenate([params.primal, params.dual_eq, params.dual_ineq[:ACTIVE]])


def value_and_jacobian(function, argnums=0):
    """Both from one compilation, which is what these tests spend their time on."""

    def twice(*arguments):
        value = function(*arguments)
        return value, value

    def swapped(*arguments):
        jacobian, value = jax.jacrev(twice, argnums, has_aux=True)(*arguments)
        return value, jacobian

    return jax.jit(swapped)


def assert_close(actual, expected, tolerance):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("rank", [UNKNOWNS, 2], ids=["definite", "semi-definite"])
def test_solution_and_multipliers_are_those_the_program_was_built_around(solver, rank):
    arguments, expected = problem(1, rank)
    assert_close(tuple(solve(arguments, solver).params), expected, 1e-11)


def test_solution_and_multipliers_of_random_programs_are_those_of_cvxpy():
    import cvxpy

    random = np.random.default_rng(5)
    half = random.normal(size=(UNKNOWNS, UNKNOWNS))
    A = random.normal(size=(EQUATIONS, UNKNOWNS))
    G = random.normal(size=(INEQUALITIES, UNKNOWNS))
    x = random.normal(size=UNKNOWNS)
    Q, c, h = half @ half.T, 10 * random.normal(size=UNKNOWNS), G @ x + random.random(INEQUALITIES)
    unknown = cvxpy.Variable(UNKNOWNS)
    constraints = [A @ unknown == A @ x, G @ unknown <= h]
    objective = cvxpy.quad_form(unknown, Q) / 2 + c @ unknown
    reference = cvxpy.Problem(cvxpy.Minimize(objective), constraints)
    reference.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    expected = (unknown.value, *(constraint.dual_value for constraint in constraints))
    assert_close(tuple(solve((Q, c, A, A @ x, G, h)).params), expected, 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "mode"),
    [("interior-point", jax.jacfwd), ("interior-point", jax.jacrev), ("clarabel", jax.jacrev)],
    ids=["interior-point forward", "interior-point reverse", "clarabel reverse"],
)
def test_all_derivatives_are_those_of_the_active_rows_system(solver, mode):
    arguments, _ = problem(2)
    arguments = tuple(map(jnp.asarray, arguments))
    derivative = jax.jit(mode(functools.partial(by_layer, solver=solver)))(arguments)
    expected = jax.jacfwd(by_known_active_rows)(arguments)
    assert_close(derivative, expected, 1e-9)


@pytest.mark.slow
def test_derivatives_hold_for_a_semi_definite_matrix():
    arguments, _ = problem(3, rank=2)
    arguments = tuple(map(jnp.asarray, arguments))
    expected = jax.jacfwd(by_known_active_rows)(arguments)
    assert_close(jax.jit(jax.jacrev(by_layer))(arguments), expected, 1e-8)


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_active_rows_system():
    arguments, _ = problem(2)
    arguments = tuple(map(jnp.asarray, arguments))
    directions = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), arguments)

    def curvature(function, outer, inner):
        def along(t):
            moved = jax.tree.map(lambda a, d: a + t * d, arguments, directions)
            return jnp.sum(function(moved) ** 2)

        return jax.jit(outer(inner(along)))(0.0)

    expected = curvature(by_known_active_rows, jax.jacfwd, jax.jacfwd)
    assert abs(expected) > 1
    np.testing.assert_allclose(curvature(by_layer, jax.jacfwd, jax.jacrev), expected, rtol=1e-9)
    np.testing.assert_allclose(curvature(by_layer, jax.jacrev, jax.jacrev), expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["interior-point", "clarabel"])
def test_a_batch_has_the_gradients_of_its_members(solver):
    members = [problem(seed)[0] for seed in (2, 4, 6)]
    batch = tuple(jnp.stack(values) for values in zip(*members, strict=True))

    def loss(function, *arguments):
        return jnp.sum(function(arguments) ** 2)

    layer = functools.partial(loss, functools.partial(by_layer, solver=solver))
    gradients = jax.jit(jax.vmap(jax.grad(layer, range(6))))(*batch)
    closed_form = functools.partial(loss, by_known_active_rows)
    expected = jax.vmap(jax.grad(closed_form, range(6)))(*batch)
    for gradient, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_the_whole_batch_is_one_call_on_the_host(monkeypatch):
    from mdsens.layers import host_solvers

    batches = []
    callback = jax.pure_callback

    def counting(function, *arguments, **options):
        def counted(*values):
            batches.append(values[1].shape)
            return function(*values)

        return callback(counted, *arguments, **options)

    monkeypatch.setattr(host_solvers.jax, "pure_callback", counting)
    (Q, c, A, b, G, h), _ = problem(2)
    shifts = jnp.linspace(0, 0.1, 7)
    jax.vmap(lambda shift: solve((Q, c + shift, A, b, G, h), "clarabel").params.primal)(shifts)
    assert batches == [(7, UNKNOWNS)]


@pytest.mark.slow
def test_single_precision_stays_single_and_is_as_good():
    arguments, (x, _, _) = problem(1)
    result = solve(tuple(jnp.asarray(value, jnp.float32) for value in arguments))
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(result.params.primal, x, rtol=0, atol=1e-4)


# Closed forms


@pytest.mark.slow
def test_an_equality_constrained_program_is_its_linear_system():
    (Q, c, A, b, _, _), _ = problem(7)

    def layer(c, b):
        params = EqualityConstrainedQP().run(None, (Q, c), (A, b)).params
        return jnp.concatenate([params.primal, params.dual_eq])

    matrix = np.block([[Q, A.T], [A, np.zeros((EQUATIONS, EQUATIONS))]])
    inverse = np.linalg.inv(matrix)
    c, b = jnp.asarray(c), jnp.asarray(b)
    value, (by_c, by_b) = value_and_jacobian(layer, (0, 1))(c, b)
    np.testing.assert_allclose(value, inverse @ np.concatenate([-c, b]), atol=1e-11)
    np.testing.assert_allclose(by_c, -inverse[:, :UNKNOWNS], atol=1e-11)
    np.testing.assert_allclose(by_b, inverse[:, UNKNOWNS:], atol=1e-11)


@pytest.mark.slow
def test_a_redundant_equation_changes_neither_the_solution_nor_its_derivative():
    (Q, c, A, b, _, _), _ = problem(7)
    twice = np.concatenate([A, A[:1] + A[1:]])

    def layer(matrix, b):
        values = jnp.concatenate([b, b[:1] + b[1:]])[: len(matrix)]
        return EqualityConstrainedQP().run(None, (Q, c), (matrix, values)).params.primal

    b = jnp.asarray(b)
    layer = value_and_jacobian(layer, 1)
    assert_close(layer(twice, b), layer(A, b), 1e-11)


@pytest.mark.slow
def test_a_separable_program_in_a_box_is_clipped_and_so_is_its_derivative():
    curvatures = jnp.array([1.0, 2, 4, 5])
    c = jnp.array([3.0, -1, -20, 0.5])
    bounds = (jnp.array([-1.0, -jnp.inf, -1, 0.25]), jnp.array([jnp.inf, 9, 2, 0.25]))

    def layer(c):
        return BoxQP().run(None, (jnp.diag(curvatures), c), bounds).params

    value, jacobian = value_and_jacobian(layer)(c)
    np.testing.assert_allclose(value, [-1, 0.5, 2, 0.25], atol=1e-12)
    np.testing.assert_allclose(jacobian, np.diag([0, -1 / 2, 0, 0]), atol=1e-12)


def test_rows_with_equal_bounds_are_equations():
    (Q, c, A, b, G, h), (x, nu, multipliers) = problem(2)
    lower = np.concatenate([b, np.full(INEQUALITIES, -np.inf)])
    rows, upper = np.concatenate([A, G]), np.concatenate([b, h])
    params = BoxConstrainedQP().run(None, (Q, c), rows, (lower, upper)).params
    y = np.concatenate([nu, multipliers])
    expected = ((x, rows @ x), y, (np.maximum(y, 0), np.maximum(-y, 0)))
    assert_close(tuple(params), expected, 1e-11)


@pytest.mark.slow
def test_the_projection_onto_a_half_space_and_its_jacobian_have_closed_forms():
    normal, point, bound = jnp.array([3.0, 4]), jnp.array([3.0, 1]), jnp.asarray(1.0)
    rows = jnp.stack([normal, jnp.ones(2)])  # without a bound on the second

    def projected(point, bound):
        h = jnp.stack([bound, jnp.asarray(jnp.inf)])
        return projection_polyhedron(point, (None, None, rows, h))

    unit = np.asarray(normal) / 5
    expected = point - (normal @ point - bound) / 25 * normal
    value, (by_point, by_bound) = value_and_jacobian(projected, (0, 1))(point, bound)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(by_point, np.eye(2) - np.outer(unit, unit), atol=1e-12)
    np.testing.assert_allclose(by_bound, unit / 5, atol=1e-12)


# Where the solution has kinks or is not unique


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["interior-point", "clarabel"])
def test_at_a_row_just_touched_the_derivative_is_a_one_sided_one(solver):
    def projected(c):
        return BoxQP(solver).run(None, (jnp.eye(2), -c), (0.0, jnp.inf)).params

    # max(c, 0): the derivative is 0 or 1 at 0.
    jacobian = np.asarray(jax.jit(jax.jacrev(projected))(jnp.array([0.0, 3.0])))
    assert jacobian[0, 0] in (0, 1)
    np.testing.assert_array_equal(jacobian - np.diag(np.diag(jacobian)), 0)


@pytest.mark.slow
def test_equal_rows_share_the_derivative_and_say_so():
    rows = jnp.array([[1.0, 0], [1, 0]])

    def solution(h):
        result = QuadraticProgram().run(None, (jnp.eye(2), jnp.zeros(2)), None, (rows, h))
        return result.params.primal, result.state.unique

    derivative, unique = jax.jit(jax.jacrev(solution, has_aux=True))(jnp.array([-3.0, -3.0]))
    np.testing.assert_allclose(derivative, [[0.5, 0.5], [0, 0]], atol=1e-12)
    assert not unique


# Errors

OPPOSED = (jnp.array([[1.0, 0], [-1, 0]]), jnp.array([-1.0, -1]))
SLAB = (jnp.array([[1.0, 0], [-1, 0]]), jnp.array([1.0, 1]))
ROUND = (jnp.eye(2), jnp.array([1.0, -1]))
FLAT = (jnp.zeros((2, 2)), jnp.array([1.0, -1]))
SADDLE = (jnp.diag(jnp.array([1.0, -1])), jnp.ones(2))
WITHOUT_NUMBERS = (jnp.eye(2) * jnp.nan, jnp.ones(2))


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("objective", "inequality", "error", "words"),
    [
        (ROUND, OPPOSED, InfeasibleError, "infeasible"),
        (FLAT, SLAB, UnboundedError, "unbounded"),
        (SADDLE, SLAB, InputError, "not convex"),
        (WITHOUT_NUMBERS, SLAB, InputError, "not finite"),
    ],
    ids=["infeasible", "unbounded", "not convex", "not finite"],
)
def test_a_program_without_solution_is_an_error(solver, objective, inequality, error, words):
    with pytest.raises(error, match=words):
        QuadraticProgram(solver).run(None, objective, None, inequality)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["interior-point", "clarabel"])
def test_a_program_without_solution_is_an_error_in_a_compiled_batch(solver):
    def primal(h):
        return QuadraticProgram(solver).run(None, ROUND, None, (OPPOSED[0], h)).params.primal

    with pytest.raises(FROM_THE_RUNTIME, match="constraints of the quadratic program are infeas"):
        jax.block_until_ready(jax.jit(jax.vmap(primal))(jnp.array([[1.0, 1], [-1, -1]])))


def test_contradicting_equations_are_an_error():
    rows = (jnp.array([[1.0, 1], [1, 1]]), jnp.array([1.0, 2]))
    with pytest.raises(InfeasibleError, match="infeasible"):
        EqualityConstrainedQP().run(None, ROUND, rows)


def test_too_few_iterations_are_an_error():
    arguments, _ = problem(1)
    Q, c, A, b, G, h = arguments
    with pytest.raises(UnsolvedError, match="raise maxiter"):
        QuadraticProgram("interior-point", maxiter=1).run(None, (1e-3 * Q, 1e3 * c), (A, b), (G, h))


@pytest.mark.parametrize(
    ("objective", "inequality", "words"),
    [
        ((jnp.eye(2), jnp.ones(2, bool)), None, "c holds bool"),
        ((jnp.eye(3), jnp.ones(2)), None, r"Q has the shape \(3, 3\)"),
        ((jnp.eye(2), jnp.ones((2, 1))), None, r"c has the shape \(2, 1\)"),
        (ROUND, (jnp.eye(3), jnp.ones(3)), r"params_ineq\[0\] has the shape \(3, 3\)"),
        (ROUND, jnp.ones(2), "params_ineq = "),
        (None, None, "params_obj = None: give a tuple"),
    ],
)
def test_wrong_arguments_are_named(objective, inequality, words):
    with pytest.raises(InputError, match=words):
        QuadraticProgram().run(None, objective, None, inequality)


def test_an_unknown_solver_is_an_error():
    with pytest.raises(InputError, match="solver = 'simplex': allowed are auto"):
        QuadraticProgram("simplex")


EYE, FIRST, SECOND = np.eye(3), np.array([-1.0, 0.5, -2.0]), np.array([-1.1, 0.4, -2.1])
# A solver, and two objectives with the same active rows.
NEARBY = [
    (QuadraticProgram(), (EYE, FIRST), (EYE, SECOND)),
    (LinearProgram(), FIRST, SECOND),
]


@pytest.mark.parametrize(("solver", "first", "second"), NEARBY, ids=["quadratic", "linear"])
def test_a_solution_nearby_saves_the_iterations_and_changes_nothing_else(solver, first, second):
    """x >= 0 and x_0 + x_1 + x_2 <= 1."""
    rows = (np.vstack([-np.eye(3), np.ones(3)]), np.array([0.0, 0.0, 0.0, 1.0]))
    run = jax.jit(lambda start, given: solver.run(start, given, None, rows))
    start = run(None, first).params
    cold, warm = run(None, second), run(start, second)
    assert cold.state.iter_num > 1
    assert warm.state.iter_num == 0
    for got, expected in zip(*map(jax.tree.leaves, (warm.params, cold.params)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    slopes = [
        jax.jacobian(lambda d, s=s: run(s, jax.tree.map(lambda g: g + d * g, second)).params)(0.0)
        for s in (None, start)
    ]
    for got, expected in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    # From afar, where other rows are active, it is the solver that finds them.
    opposite = jax.tree.map(lambda g: g if g.ndim == 2 else -g, second)
    far = jax.vmap(lambda s: run(s, opposite))(jax.tree.map(lambda leaf: leaf[None], start))
    assert far.state.iter_num > 1
    expected = run(None, opposite).params.primal
    np.testing.assert_allclose(far.params.primal[0], expected, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="dual_ineq has the shape"):
        solver.run(start._replace(dual_ineq=np.zeros(2)), second, None, rows)
