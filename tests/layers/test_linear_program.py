"""Linear programs against SciPy and the closed form of a vertex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mdsens.errors import InputError
from mdsens.layers.linear_program import LinearProgram
from mdsens.layers.program import InfeasibleError, UnboundedError

SOLVERS = ["clarabel", "interior-point"]
UNKNOWNS, EQUATIONS, INEQUALITIES = 5, 2, 6


def problem(seed):
    random = np.random.default_rng(seed)
    A, G = (random.normal(size=(rows, UNKNOWNS)) for rows in (EQUATIONS, INEQUALITIES))
    x = random.normal(size=UNKNOWNS)
    c = -A.T @ random.normal(size=EQUATIONS) - G.T @ random.random(INEQUALITIES)
    return c, A, A @ x, G, G @ x + random.random(INEQUALITIES)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_solution_and_multipliers_are_those_of_scipy(solver, seed):
    c, A, b, G, h = problem(seed)
    reference = scipy.optimize.linprog(c, G, h, A, b, bounds=(None, None), method="highs")
    params = LinearProgram(solver).run(None, c, (A, b), (G, h)).params
    expected = (reference.x, -reference.eqlin.marginals, -reference.ineqlin.marginals)
    for value, other in zip(params, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "mode"),
    [("interior-point", jax.jacfwd), ("interior-point", jax.jacrev), ("clarabel", jax.jacrev)],
    ids=["interior-point forward", "interior-point reverse", "clarabel reverse"],
)
def test_a_vertex_moves_with_its_rows_and_its_multipliers_with_the_objective(solver, mode):
    c, A, b, G, h = map(jnp.asarray, problem(0))
    marginals = scipy.optimize.linprog(c, G, h, A, b, bounds=(None, None)).ineqlin.marginals
    active = np.flatnonzero(np.abs(marginals) > 1e-9)
    assert len(active) == UNKNOWNS - EQUATIONS

    def vertex(c, A, b, G, h):
        rows = jnp.concatenate([A, G[active]])
        x = jnp.linalg.solve(rows, jnp.concatenate([b, h[active]]))
        return jnp.concatenate([x, jnp.linalg.solve(rows.T, -c)])

    def layer(c, A, b, G, h):
        params = LinearProgram(solver).run(None, c, (A, b), (G, h)).params
        return jnp.concatenate([params.primal, params.dual_eq, params.dual_ineq[active]])

    derivatives = jax.jit(mode(layer, range(5)))(c, A, b, G, h)
    expected = jax.jacfwd(vertex, range(5))(c, A, b, G, h)
    for derivative, reference in zip(derivatives, expected, strict=True):
        np.testing.assert_allclose(derivative, reference, atol=1e-9)


@pytest.mark.slow
def test_an_optimal_face_has_the_least_norm_derivative_and_is_not_called_unique():
    rows = jnp.concatenate([jnp.eye(2), -jnp.eye(2)])

    def solution(h):
        result = LinearProgram().run(None, jnp.array([-1.0, 0]), None, (rows, h))
        return result.params.primal, result.state.unique

    # The face x_0 = h_0 of a square: only its own row moves it, and no point slides along it.
    derivative, unique = jax.jit(jax.jacrev(solution, has_aux=True))(jnp.ones(4))
    np.testing.assert_allclose(derivative, [[1, 0, 0, 0], [0, 0, 0, 0]], atol=1e-9)
    assert not unique


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("rows", "bounds", "error", "words"),
    [
        (
            [[1.0, 0], [0, 1], [-1, -1], [-1, 0]],
            [1.0, 1, -3, 9],
            InfeasibleError,
            "of the linear program are infeasible",
        ),
        (
            [[1.0, 0], [0, 1], [-1, 0], [1, 1]],
            [1.0, 1, 1, 9],
            UnboundedError,
            "linear program is unbounded",
        ),
    ],
    ids=["infeasible", "unbounded"],
)
def test_a_program_without_solution_is_an_error(solver, rows, bounds, error, words):
    inequality = (jnp.array(rows), jnp.array(bounds))
    with pytest.raises(error, match=words):
        LinearProgram(solver).run(None, jnp.array([0.0, 1.0]), None, inequality)


def test_an_objective_is_needed():
    with pytest.raises(InputError, match="params_obj is None"):
        LinearProgram().run(None, None, None, (jnp.eye(2), jnp.ones(2)))
