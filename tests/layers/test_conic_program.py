"""Conic programs against closed forms, quadratic programs and diffcp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from mdsens.errors import InputError
from mdsens.layers.cones import Cones
from mdsens.layers.conic_program import ConicProgram
from mdsens.layers.program import InfeasibleError, UnboundedError
from mdsens.layers.quadratic_program import QuadraticProgram

SOLVERS = ["clarabel", "scs"]

# min t with |z| <= t and z fixed, so that t = |z|; unknowns (t, z).
NORM_ROWS = np.concatenate([np.eye(3)[1:], -np.eye(3)])
NORM_CONES = Cones(zero=2, second_order=(3,))
NORM_OBJECTIVE = jnp.array([1.0, 0, 0])


def norm(z, solver="clarabel"):
    b = jnp.concatenate([z, jnp.zeros(3)])
    return ConicProgram(NORM_CONES, solver).run(None, NORM_ROWS, b, NORM_OBJECTIVE).params.primal[0]


def test_a_conic_program_has_the_contract_of_all_solvers():
    program = ConicProgram(NORM_CONES)
    arguments = (NORM_ROWS, jnp.asarray([3.0, 4.0, 0.0, 0.0, 0.0]), NORM_OBJECTIVE)
    state = program.init_state(None, *arguments)
    params, state = program.update(None, state, *arguments)
    np.testing.assert_allclose(params.primal, [5, 3, 4], atol=1e-10)
    assert state.iter_num > 0
    assert program.l2_optimality_error(params, *arguments) < 1e-9
    moved = params._replace(primal=params.primal + 0.1)
    assert program.l2_optimality_error(moved, *arguments) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_norm_has_its_closed_form_and_gradient(solver):
    value, gradient = jax.value_and_grad(norm)(jnp.array([3.0, 4.0]), solver)
    np.testing.assert_allclose(value, 5, atol=1e-11)
    np.testing.assert_allclose(gradient, [0.6, 0.8], atol=1e-10)


@pytest.mark.slow
def test_the_norm_has_its_closed_form_curvature_in_a_compiled_batch():
    points = jnp.array([[3.0, 4.0], [-0.6, 0.8]])
    hessians = jax.jit(jax.vmap(jax.hessian(norm)))(points)
    for point, hessian in zip(np.asarray(points), hessians, strict=True):
        size = np.linalg.norm(point)
        expected = (np.eye(2) - np.outer(point, point) / size**2) / size
        np.testing.assert_allclose(hessian, expected, atol=1e-10)


@pytest.mark.slow
def test_the_exponential_cone_gives_the_exponential_and_its_derivative():
    # min z with (a, 1, z) in the cone, so that z = exp(a).
    program = ConicProgram(Cones(exponential=1))
    rows, objective = jnp.array([[0.0], [0], [-1]]), jnp.ones(1)

    def exponential(a):
        b = jnp.stack([a, jnp.ones_like(a), jnp.zeros_like(a)])
        return program.run(None, rows, b, objective).params.primal[0]

    value, slope = jax.jit(jax.value_and_grad(exponential))(jnp.asarray(0.7))
    np.testing.assert_allclose([value, slope], np.exp(0.7), atol=1e-10)


@pytest.mark.slow
def test_with_a_quadratic_objective_and_linear_cones_it_is_a_quadratic_program():
    random = np.random.default_rng(0)
    half, rows = random.normal(size=(4, 4)), random.normal(size=(6, 4))
    values = rows @ random.normal(size=4) + np.where(np.arange(6) < 1, 0, random.random(6))
    arguments = tuple(map(jnp.asarray, (half @ half.T, 5 * random.normal(size=4), rows, values)))

    def conic(P, c, A, b):
        solution = ConicProgram(Cones(zero=1, nonnegative=5)).run(None, A, b, c, P).params
        return (jnp.concatenate([solution.primal, solution.dual]),) * 2

    def quadratic(Q, c, A, b):
        params = QuadraticProgram().run(None, (Q, c), (A[:1], b[:1]), (A[1:], b[1:])).params
        return (jnp.concatenate(params),) * 2

    derivatives, value = jax.jit(jax.jacrev(conic, range(4), has_aux=True))(*arguments)
    expected, reference = jax.jit(jax.jacrev(quadratic, range(4), has_aux=True))(*arguments)
    np.testing.assert_allclose(value, reference, atol=1e-10)
    for derivative, reference in zip(derivatives, expected, strict=True):
        np.testing.assert_allclose(derivative, reference, atol=1e-9)


@pytest.mark.slow
def test_derivatives_are_those_of_diffcp():
    import diffcp

    random = np.random.default_rng(3)
    cones = Cones(zero=1, nonnegative=3, second_order=(3,), exponential=1)
    names = {"z": 1, "l": 3, "q": [3], "ep": 1}
    unknowns = 5
    # Interior on both sides, so that primal and dual have solutions.
    slack = np.concatenate([[0], random.random(3), [2, 0.5, -0.3], [0.1, 1, 2]])
    dual = np.concatenate([random.normal(size=1), random.random(3), [1, 0.2, 0.4], [-1, 0.5, 2]])
    A = random.normal(size=(cones.dimension, unknowns))
    b, c = A @ random.normal(size=unknowns) + slack, -A.T @ dual
    x, y, s, _, adjoint = diffcp.solve_and_derivative(
        scipy.sparse.csc_matrix(A),
        b,
        c,
        names,
        solve_method="CLARABEL",
        mode="dense",
        tol_gap_abs=1e-11,
        tol_gap_rel=1e-11,
        tol_feas=1e-11,
    )
    weights = [random.normal(size=len(value)) for value in (x, y, s)]

    def loss(A, b, c):
        solution = ConicProgram(cones).run(None, A, b, c).params
        return sum(w @ value for w, value in zip(weights, solution, strict=True))

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*map(jnp.asarray, (A, b, c)))
    expected = sum(w @ v for w, v in zip(weights, (x, y, s), strict=True))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    by_A, by_b, by_c = adjoint(*weights)
    # diffcp differentiates at the solver's point, which is not polished.
    for gradient, reference in zip(gradients, (by_A.toarray(), by_b, by_c), strict=True):
        np.testing.assert_allclose(gradient, reference, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("b", "c", "error"),
    [([-1.0, -1], 1.0, InfeasibleError), ([1.0, jnp.nan], 1.0, InputError)],
    ids=["infeasible", "not finite"],
)
def test_a_program_without_solution_is_an_error(solver, b, c, error):
    rows = jnp.array([[1.0], [-1.0]])
    with pytest.raises(error, match="conic program"):
        ConicProgram(Cones(nonnegative=2), solver).run(None, rows, jnp.array(b), jnp.array([c]))


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_unbounded_program_is_an_error(solver):
    with pytest.raises(UnboundedError, match="conic program is unbounded"):
        ConicProgram(Cones(nonnegative=1), solver).run(
            None, jnp.array([[1.0]]), jnp.ones(1), jnp.ones(1)
        )


def test_rows_must_match_the_cones():
    with pytest.raises(InputError, match=r"b has the shape \(3,\); allowed is \(2,\)"):
        ConicProgram(Cones(nonnegative=2)).run(None, jnp.ones((3, 1)), jnp.ones(3), jnp.ones(1))
