"""What is said before a derivative is taken where there is none, or a wrong one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from jaxopt._src import base as jaxopt_base

from mdsens.errors import InputError, LinearSolveError, MdsensError, UnreliableDerivativeError
from mdsens.implicit import custom_root, unrolled
from mdsens.layers import projection_birkhoff

FLAT = jnp.ones((2, 2))
BOTH = jnp.asarray([2.0, 2.0])
MODES = pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])


def decorated(condition, solver, **options):
    return custom_root(condition, **options)(lambda init, a: solver(a))


WRONG = {
    "F without x": (lambda x, a: a - 2.0, lambda a: 1.0 * a, 2.0, "dF/dx is zero"),
    "F constant": (lambda x, a: 0.0, lambda a: 1.0 * a, 2.0, "dF/dx is zero"),
    "flat at the root": (lambda x, a: x**2 - a, jnp.sqrt, 0.0, "dF/dx is zero"),
    "singular": (lambda x, a: FLAT @ x - a, lambda a: a / 2, BOTH, "singular matrix: pass null_"),
    "no root": (lambda x, a: x**2 - a, lambda a: 1 + 0 * a, 9.0, "the solver returned no root"),
    "start for root": (lambda x, a: x - a, lambda a: 0 * a, 9.0, "the solver returned no root"),
    "complex F": (lambda x, a: x - a + 1j, lambda a: a, 1.0, "returned complex"),
    "integer F": (lambda x, a: jnp.int32(0), lambda a: a, 1.0, "returned int32"),
    "integer root": (lambda x, a: x - a, lambda a: jnp.asarray(3), 3.0, "the solution holds"),
    "complex root": (lambda x, a: x - a, lambda a: a + 0j, 3.0, "the solution holds"),
}


@MODES
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_of_ours(mode, name):
    condition, solver, at, message = WRONG[name]
    root = decorated(condition, solver)
    with pytest.raises(MdsensError, match=message) as raised:
        mode(lambda a: root(None, a))(at)
    assert "\n" not in raised.value.args[0]


def test_the_kind_of_error_tells_the_kind_of_problem():
    assert issubclass(LinearSolveError, MdsensError)
    for name, kind in (("singular", LinearSolveError), ("no root", UnreliableDerivativeError)):
        condition, solver, at, _ = WRONG[name]
        root = decorated(condition, solver)
        with pytest.raises(kind):
            jax.jacrev(lambda a, root=root: root(None, a))(at)


def test_compiled_code_says_the_same_in_one_line_of_the_runtimes():
    condition, solver, at, message = WRONG["no root"]
    root = decorated(condition, solver)
    with pytest.raises((RuntimeError, ValueError)) as raised:
        jax.block_until_ready(jax.jit(jax.grad(lambda a: root(None, a)))(at))
    assert [message in line for line in str(raised.value).splitlines()].count(True) == 1


def test_the_member_of_a_batch_without_a_root_is_named():
    root = decorated(lambda x, a: x**2 - a, lambda a: jnp.where(a > 5, 1.0, jnp.sqrt(a)))
    slopes = jax.jit(jax.vmap(jax.grad(lambda a: root(None, a))))
    np.testing.assert_allclose(slopes(jnp.asarray([1.0, 4.0, 4.0])), [0.5, 0.25, 0.25])
    with pytest.raises((RuntimeError, ValueError), match=r"member 1 of a batch: .* no root"):
        jax.block_until_ready(slopes(jnp.asarray([4.0, 9.0, 1.0])))


LOOSE = {
    "2% off": (lambda x, a: x**2 - a, lambda a: 1.02 * jnp.sqrt(a), 9.0),
    "at zero, 1e-3 off": (lambda x, a: x - a, lambda a: a + 1e-3, 0.0),
    "of size 1e6, 1e-3 off": (lambda x, a: x - a, lambda a: 1.001 * a, 1e6),
    # What is off lies where the condition is ten million times weaker than elsewhere.
    "along a valley": (
        lambda x, a: jnp.asarray([1e7, 1.0]) * (x - a),
        lambda a: a + jnp.asarray([0.0, 5.0]),
        BOTH,
    ),
    "in other units": (
        lambda x, a: jnp.asarray([1.0, 1e12]) * (x - a),
        lambda a: 1.001 * a,
        jnp.asarray([1e6, 1e-6]),
    ),
}


@pytest.mark.parametrize("name", LOOSE)
def test_what_a_loose_tolerance_gives_is_a_root(name):
    condition, solver, at = LOOSE[name]
    found = jax.jacrev(lambda a: decorated(condition, solver)(None, a))(at)
    exact = np.eye(np.size(at)) if np.ndim(at) else 1.0
    if name == "2% off":
        exact = 1 / (2 * 1.02 * 3)
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("solve", ["dense", "svd"])
def test_a_regular_condition_is_solved_in_either_precision(solve, kind):
    """Also by a solver that would find null spaces, where rounding is none."""
    matrix = np.random.default_rng(3).normal(size=(8, 8))
    matrix = jnp.asarray(matrix @ matrix.T + np.eye(8), kind)
    root = decorated(
        lambda x, a: matrix @ x - a, lambda a: jnp.linalg.solve(matrix, a), solve=solve
    )
    found = jax.jacrev(lambda a: root(None, a))(jnp.ones(8, kind))
    assert found.dtype == kind
    atol = 100 * float(jnp.finfo(kind).eps)
    np.testing.assert_allclose(found, np.linalg.inv(np.float64(matrix)), atol=atol)


@pytest.mark.parametrize("options", [{"root_tol": None}, {"root_tol": 10.0}])
def test_whoever_wants_a_derivative_elsewhere_says_so(options):
    root = decorated(lambda x, a: x**2 - a, lambda a: 1 + 0 * a, **options)
    np.testing.assert_allclose(jax.grad(lambda a: root(None, a))(9.0), 0.5)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, "0.1", True])
def test_a_tolerance_of_roots_is_a_positive_number(wrong):
    with pytest.raises(InputError, match="root_tol"):
        custom_root(lambda x, a: x - a, root_tol=wrong)


class Result(NamedTuple):
    params: jax.Array
    state: dict


def test_a_named_tuple_stays_one():
    def solver(init, a):
        return Result(jnp.sqrt(a), {"steps": 7, "word": "converged"})

    root = custom_root(lambda x, a: x**2 - a, has_aux=True)(solver)
    given = root(None, 4.0)
    assert isinstance(given, Result)
    assert given.state["word"] == "converged"
    np.testing.assert_allclose(jax.grad(lambda a: root(None, a).params)(4.0), 0.25)
    np.testing.assert_allclose(jax.jit(lambda a: root(None, a).params)(4.0), 2)
    assert isinstance(unrolled(lambda x, a: x, has_aux=True)(solver)(1.0, 4.0), Result)


def test_a_solver_without_aux_where_one_is_announced_is_an_error():
    with pytest.raises(InputError, match=r"has_aux=True.*return \(sol, aux\)"):
        custom_root(lambda x, a: x - a, has_aux=True)(lambda init, a: a)(None, 1.0)


@pytest.mark.slow
@pytest.mark.promotes("JAXopt divides by a count")
def test_solvers_of_jaxopt_project_onto_the_birkhoff_polytope(monkeypatch):
    """With our custom_root in place of JAXopt's, whose solvers give named tuples."""
    monkeypatch.setattr(jaxopt_base.idf, "custom_root", custom_root)
    scores = np.random.default_rng(0).random((3, 3))
    scores = (scores + scores.T) / 2
    plan = jaxopt.projection.projection_birkhoff(
        scores, lambda fun: jaxopt.GradientDescent(fun, stepsize=0.3, acceleration=False)
    )
    np.testing.assert_allclose(np.sum(plan, axis=0), np.ones(3), atol=1e-3)
    np.testing.assert_allclose(np.sum(plan, axis=1), np.ones(3), atol=1e-3)
    np.testing.assert_allclose(plan, projection_birkhoff(scores), atol=1e-3)
