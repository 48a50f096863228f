"""Quadratic programs by products, by functions and over pytrees: those of their matrices."""

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from compiled_programs import compiled
from jax.flatten_util import ravel_pytree

from mdsens.errors import InputError
from mdsens.implicit import LinearSolveError
from mdsens.layers import OSQP, BoxOSQP, EqualityConstrainedQP, QuadraticProgram

RANDOM = np.random.default_rng(4)
ROOT = RANDOM.normal(size=(5, 5))
Q, c = ROOT @ ROOT.T + np.eye(5), RANDOM.normal(size=5)
A, b = RANDOM.normal(size=(2, 5)), RANDOM.normal(size=2)
G, h = RANDOM.normal(size=(3, 5)), np.array([0.1, 0.2, 0.3])
EXAMPLE = {"u": jnp.zeros((2, 2)), "v": jnp.zeros(1)}
unravel = ravel_pytree(EXAMPLE)[1]


def times(matrix, x):
    return matrix @ ravel_pytree(x)[0]


def times_Q(matrix, x):
    return unravel(times(matrix, x))


def objective(x, params):
    matrix, linear = params
    flat = ravel_pytree(x)[0]
    return 0.5 * flat @ matrix @ flat + linear @ flat + 7.0


BY_MATVEC = QuadraticProgram(matvec_Q=times_Q, matvec_A=times, matvec_G=times)
BY_FUNCTION = OSQP(fun=objective, matvec_A=times, matvec_G=times)


def by_matvec(linear):
    return BY_MATVEC.run(None, (Q, unravel(linear)), (A, b), (G, h))


def by_function(linear):
    return BY_FUNCTION.run(EXAMPLE, (Q, linear), (A, b), (G, h))


def by_matrices(linear):
    return QuadraticProgram().run(None, (Q, linear), (A, b), (G, h))


def flat(step):
    return ravel_pytree(step.params)[0]


@pytest.mark.parametrize("run", [by_matvec, by_function])
def test_solution_and_derivatives_are_those_of_the_matrices(run):
    linear = jnp.asarray(c)
    assert run(linear).params.primal["u"].shape == (2, 2)
    np.testing.assert_allclose(flat(run(linear)), flat(by_matrices(linear)), rtol=0, atol=1e-12)
    found, expected = (jax.jacrev(lambda c, f=f: flat(f(c)))(linear) for f in (run, by_matrices))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_the_conditions_vanish_at_the_solution():
    params = by_matvec(jnp.asarray(c)).params
    assert (
        BY_MATVEC.l2_optimality_error(params, (Q, unravel(jnp.asarray(c))), (A, b), (G, h)) < 1e-12
    )
    error = BY_FUNCTION.l2_optimality_error(params, (Q, jnp.asarray(c)), (A, b), (G, h))
    assert error < 1e-12


@pytest.mark.peer
def test_equalities_alone_have_the_solution_of_jaxopt():
    pytree = {"u": jnp.asarray(c[:2]), "v": jnp.asarray(c[2:])}
    matrices = {"u": jnp.asarray(Q[:2, :2]), "v": jnp.asarray(Q[2:, 2:])}
    rows = {"u": jnp.asarray(A[:1, :2]), "v": jnp.asarray(A[1:, 2:])}
    values = {"u": jnp.asarray(b[:1]), "v": jnp.asarray(b[1:])}
    found, expected = (
        solver.run(None, (matrices, pytree), (rows, values)).params
        for solver in (EqualityConstrainedQP(), jaxopt.EqualityConstrainedQP(tol=1e-12))
    )
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    functional = EqualityConstrainedQP(fun=objective, matvec_A=times)
    params, _ = functional.run(EXAMPLE, (Q, c), (A, b))
    system = np.block([[Q, A.T], [A, np.zeros((2, 2))]])
    solution = np.linalg.solve(system, np.concatenate([-c, b]))
    np.testing.assert_allclose(ravel_pytree(params)[0], solution, rtol=0, atol=1e-12)
    assert functional.l2_optimality_error(params, (Q, c), (A, b)) < 1e-12


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OSQP(fun=objective, matvec_Q=times_Q), "both given"),
        (lambda: OSQP(matvec_Q=3.0), "matvec_Q = 3.0"),
        (lambda: OSQP(fun=objective).run(None, (Q, c)), "without init_params"),
        (lambda: OSQP(matvec_A=times).run(None, (Q, c), (A, b[:1])), "A x has the shapes"),
        (lambda: OSQP().run(None, (Q, EXAMPLE)), "a matrix for each array"),
    ],
)
def test_what_does_not_go_together_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def solution_in_jaxopt(c, bounds):
    solver = jaxopt.BoxOSQP(matvec_Q=times_Q, matvec_A=times, tol=1e-10, maxiter=100_000)
    return solver.run(None, (Q, unravel(c)), G, bounds).params


@pytest.mark.peer
@pytest.mark.promotes("JAXopt does")
def test_bounds_by_products_and_by_functions_are_those_of_jaxopt():
    linear, bounds = jnp.asarray(c), (jnp.full(3, -0.1), jnp.asarray(h))
    for solver, example, given in (
        (BoxOSQP(times_Q, times), None, (Q, unravel(linear))),
        (BoxOSQP(fun=objective, matvec_A=times), EXAMPLE, (Q, linear)),
    ):
        found = solver.run(example, given, G, bounds)
        assert found.params.primal[0]["u"].shape == (2, 2)
        assert solver.l2_optimality_error(found.params, given, G, bounds) < 1e-12
        expected = solution_in_jaxopt(linear, bounds)
        np.testing.assert_allclose(flat(found), ravel_pytree(expected)[0], atol=1e-9)


def test_derivatives_of_bounds_by_products_are_those_of_the_matrices():
    bounds = (jnp.full(3, -0.1), jnp.asarray(h))

    def rows(solver, G, linear):
        return solver.run(None, (Q, linear), G, bounds).params.primal[1]

    given = (jnp.asarray(G), jnp.asarray(c))
    by_products = BoxOSQP(matvec_Q=jnp.matmul, matvec_A=jnp.matmul)
    slopes = [jax.jacobian(rows, (1, 2))(s, *given) for s in (by_products, BoxOSQP())]
    for got, expected in zip(*slopes, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_equations_without_matrices_have_the_solution_and_derivatives_of_the_factorisation():
    def solution(solver, Q, linear, A, b):
        return ravel_pytree(solver.run(None, (Q, linear), (A, b)).params)[0]

    given = tuple(map(jnp.asarray, (Q, c, A, b)))
    by_products = EqualityConstrainedQP(jnp.matmul, jnp.matmul, solver="minres")
    factorised = EqualityConstrainedQP()
    state = by_products.run(None, given[:2], given[2:]).state
    assert state.error < 1e-11
    assert state.unique
    twice = (np.stack([A[0], A[0]]), np.stack([b[0], b[0]]))
    assert not by_products.run(None, given[:2], twice).state.unique
    flat = (jnp.asarray(Q).at[-1].set(0).at[:, -1].set(0), jnp.asarray(c).at[-1].set(0))
    no_last = (jnp.asarray(A).at[:, -1].set(0), given[3])
    assert not by_products.run(None, flat, no_last).state.unique
    slopes = [jax.jacrev(solution, (1, 2, 3, 4))(s, *given) for s in (by_products, factorised)]
    values = [solution(s, *given) for s in (by_products, factorised)]
    for got, expected in zip((values[0], *slopes[0]), (values[1], *slopes[1]), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-10)


def test_a_chain_of_thousands_of_unknowns_needs_no_matrix():
    """A string held at both ends under a load hangs in a parabola."""
    size = 2001

    def energy(x, load):
        return 0.5 * jnp.sum(jnp.diff(x) ** 2) + load * jnp.sum(x)

    solver = EqualityConstrainedQP(
        fun=energy, matvec_A=lambda _, x: x[jnp.array([0, -1])], solver="minres", tol=1e-10
    )
    load = 1e-6
    held = (None, jnp.zeros(2))
    found, state = solver.run(jnp.zeros(size), jnp.asarray(load), held)
    k = np.arange(size)
    np.testing.assert_allclose(found.primal, load / 2 * k * (k - size + 1), atol=1e-6)
    assert state.iter_num > 0
    # What holds the ends is the load.
    np.testing.assert_allclose(found.dual_eq, -load * size / 2, rtol=1e-6)
    assert solver.l2_optimality_error(found, jnp.asarray(load), held) < 1e-9


def test_equations_that_contradict_one_another_do_not_converge():
    solver = EqualityConstrainedQP(solver="minres", maxiter=100)
    with pytest.raises(LinearSolveError, match="did not converge"):
        solver.run(None, (Q, c), (np.stack([A[0], A[0]]), np.array([0.0, 1.0])))


def test_the_matrices_of_functions_are_one_program():
    size = 7
    centre = RANDOM.normal(size=size)
    start, targets = jnp.zeros(size), jnp.asarray(centre)
    program = QuadraticProgram(fun=lambda x, targets: jnp.sum((x - targets) ** 2))
    before = len(compiled)
    solution = program.run(start, targets).params.primal
    # What forms the matrices, what solves, and what takes vectors apart.
    assert "jit(_matrices)" in compiled[before:]
    assert len(compiled) - before <= 12
    np.testing.assert_allclose(solution, centre, rtol=1e-12)


def test_functions_may_close_over_what_is_differentiated():
    def first(scale):
        program = QuadraticProgram(fun=lambda x, centre: jnp.sum((x - scale * centre) ** 2))
        return program.run(jnp.zeros(2), jnp.asarray([3.0, 4.0])).params.primal[0]

    assert jax.grad(first)(2.0) == pytest.approx(3.0, rel=1e-12)


def test_a_function_among_the_parameters_may_close_over_what_is_differentiated():
    program = QuadraticProgram(fun=lambda x, pull: pull(x))

    def solution(target):
        return program.run(jnp.zeros(2), lambda x: jnp.sum((x - target**2) ** 2)).params.primal

    found = jax.jacrev(solution)(jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(found, np.diag([2.0, 4.0]), rtol=0, atol=1e-12)
