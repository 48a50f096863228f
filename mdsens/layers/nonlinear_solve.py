"""How nonlinear programs are solved, in JAX or on the host, and how solutions have derivatives."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mdsens.compilation import compiled
from mdsens.implicit import custom_root
from mdsens.implicit.closures import closes_over_tracers
from mdsens.layers.nonlinear_host import scipy_minimum
from mdsens.layers.nonlinear_interior_point import nonlinear_interior_point
from mdsens.layers.nonlinear_kkt import Functions, KKTSolver, condition
from mdsens.layers.nonlinear_outcome import NonlinearProgramState, judged, raise_unless_minimum
from mdsens.layers.trees import dtype_of

Given: TypeAlias = tuple[
    PyTree, tuple[PyTree, PyTree] | None, tuple[Any, ...], dict[str, Any]
]  # initial parameters, bounds, args and kwargs

__all__ = ["MAXITER", "Problem", "differentiable", "primal"]

MAXITER = {"interior-point": 200, "slsqp": 1000, "trust-constr": 5000}
_SOLVE = KKTSolver()

#: Numbers computed, each loop once, from which on fast code is worth the longer time to compile it:
#: up to ten unknowns with as many rows take as long in code that was compiled in a hurry.
_LITTLE = 80_000


@runtime_checkable
class Problem(Protocol):
    """A `NonlinearProgram`, as far as it matters here."""

    solver: Any
    tol: float | None
    maxiter: int | None
    throw: bool

    def functions(
        self,
        init_params: PyTree,
        bounds: tuple[PyTree, PyTree] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Functions:
        """The program for flat vectors."""


def primal(tree: PyTree) -> PyTree:
    """The numbers behind tangents of eager derivatives, of which there is no host code to call."""

    def lowered(leaf: Any) -> Any:
        while isinstance(leaf, jax.core.Tracer) and hasattr(leaf, "primal"):
            leaf = leaf.primal
        return leaf

    return jax.tree.map(lowered, tree)


def differentiable(solver: Problem) -> Callable[..., Any]:
    """(init_params, bounds, args, kwargs) -> ((x, y), state), with derivatives but in the first."""
    if closes_over_tracers(solver):
        explicit = custom_root(
            lambda sol, *given: _condition(sol, solver, *given),
            has_aux=True,
            solve=_SOLVE,
            symmetric=True,
            least_squares=True,
        )(lambda _, *given: _solve(None, solver, *given))
        return lambda init, *given: explicit(None, jax.lax.stop_gradient(init), *given)
    # The solver is an argument, so that what is compiled for one serves all that are equal to it.
    return lambda init, *given: _by_arguments(None, solver, jax.lax.stop_gradient(init), *given)


def _condition(sol: tuple[Array, Array], solver: Problem, *given: Any) -> tuple[Array, Array]:
    return condition(solver.functions(*given), *sol)


def _solve(
    _: None, solver: Problem, *given: Any
) -> tuple[tuple[Array, Array], NonlinearProgramState]:
    name = "interior-point" if solver.solver == "auto" else solver.solver
    tol = solver.tol
    if tol is None:
        tol = float(jnp.finfo(dtype_of(given[0])).eps) ** 0.5
    maxiter = MAXITER[name] if solver.maxiter is None else solver.maxiter
    if name == "interior-point":
        x, y, state = _by_interior_point(solver, given, tol, maxiter)
    else:
        found = _by_scipy(solver, given, name, tol, maxiter)
        x, y, state = _finish(solver, given, *found, tol)
    return raise_unless_minimum(x, y, state) if solver.throw else ((x, y), state)


_by_arguments = custom_root(
    _condition, has_aux=True, solve=_SOLVE, symmetric=True, least_squares=True
)(_solve)


@compiled(heavy=True, much=_LITTLE)
def _by_interior_point(
    solver: Problem,
    given: Given,
    tol: float,
    maxiter: int,
) -> tuple[Array, Array, NonlinearProgramState]:
    functions = solver.functions(*given)
    start = ravel_pytree(given[0])[0]
    found = nonlinear_interior_point(functions, start, tol, maxiter)
    return judged(functions, *found, tol)


def _by_scipy(
    solver: Problem,
    given: Given,
    name: str,
    tol: float,
    maxiter: int,
) -> tuple[Array, Array, Array, Array]:
    functions = solver.functions(*given)

    def evaluate(what: str, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_evaluate(what, solver, given, x, y), np.float64)

    flat = ravel_pytree(given[0])[0]
    x, y, status, count = scipy_minimum(
        evaluate,
        np.asarray(flat, np.float64),
        np.asarray(functions.lower, np.float64),
        np.asarray(functions.upper, np.float64),
        functions.box,
        name,
        tol,
        maxiter,
    )
    return (
        jnp.asarray(x, flat.dtype),
        jnp.asarray(y, flat.dtype),
        jnp.asarray(status),
        jnp.asarray(count),
    )


@compiled
def _evaluate(
    what: str,
    solver: Problem,
    given: Given,
    x: Any,
    y: Any,
) -> Array:
    functions = solver.functions(*given)
    x = jnp.asarray(x, dtype_of(given[0]))
    if what == "value":
        return functions.objective(x)
    if what == "gradient":
        return jax.grad(functions.objective)(x)
    if what == "rows":
        return functions.rows(x)
    if what == "jacobian":
        return jax.jacfwd(functions.rows)(x)
    if what == "hessian":
        return jax.hessian(functions.objective)(x)
    return jax.hessian(lambda x: jnp.asarray(y, x.dtype) @ functions.rows(x))(x)


@compiled
def _finish(
    solver: Problem,
    given: Given,
    x: Array,
    y: Array,
    status: Array,
    count: Array,
    tol: float,
) -> tuple[Array, Array, NonlinearProgramState]:
    functions = solver.functions(*given)
    return judged(functions, x, y, status, count, tol)
