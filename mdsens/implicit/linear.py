"""Linear systems A x = b given by matrix-vector products: one door for all of them.

Small systems are solved with a dense factorisation, large ones without a matrix. A null space is
projected out exactly, and the residual that was reached is computed after every solve.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from mdsens.errors import InputError, LinearSolveError
from mdsens.implicit import backends
from mdsens.implicit.backends import MatrixVectorProduct, Solver
from mdsens.implicit.host import raise_where
from mdsens.implicit.known_matrix import KnownMatrix
from mdsens.implicit.null_space import (
    OrthonormalRows,
    deflated_matrix,
    deflated_product,
    flat_null_space,
    orthonormal_basis,
    project_out,
)
from mdsens.implicit.proximal_system import ProximalSystem
from mdsens.implicit.pseudo_inverse import pseudo_inverse
from mdsens.resources import DENSE_LIMIT

__all__ = [
    "DENSE_LIMIT",
    "LinearSolution",
    "LinearSolveError",
    "Solver",
    "orthonormal_basis",
    "solve",
]

TOLERANCE = 1e-6
"""Relative residual above which a solution is an error, unless less was asked for."""

DENSE_FIRST = 200
"""Up to here it does so at once; a larger matrix without symmetry must have defied GMRES."""

_NAMES = ("auto", "dense", "svd", "cg", "minres", "gmres")
_WORDS = f"{', '.join(map(repr, _NAMES))}, a lineax solver, or a function (matvec, b) -> x"


class LinearSolution(eqx.Module):
    """The solution of a linear system and how good it is.

    Attributes:
        value: x, with the structure of the right-hand side.
        residual: |A x - b| / |b|, with the null space projected out of both; 0 if b is 0.
        null_component: norm of the component of the right-hand side outside the range of A, which
            no x can balance; 0 where no null space was given or looked for.
        steps: iterations taken; 0 for direct solvers.

    Of K right-hand sides all have an extra leading axis. Only `value` can be differentiated.
    """

    value: PyTree[Float[Array | np.ndarray, "..."]]
    residual: Float[Array | np.ndarray, "*K"]
    null_component: Float[Array | np.ndarray, "*K"]
    steps: Int[Array | np.ndarray, "*K"]


def solve(
    matvec: MatrixVectorProduct,
    b: PyTree[ArrayLike],
    *,
    solver: Solver | None = None,
    several: bool = False,
    symmetric: bool = False,
    definite: bool = True,
    null_space: PyTree[ArrayLike] | OrthonormalRows | None = None,
    least_squares: bool = False,
    preconditioner: MatrixVectorProduct | None = None,
    rtol: float | Float[Array, ""] = 1e-12,
    max_steps: int | None = None,
    tolerance: float | Float[Array, ""] | None = None,
    throw: bool = True,
) -> LinearSolution:
    """Solve A x = b for a square matrix A that is given as a function v -> A v.

    The solution can be differentiated, in both modes and any order, in `b` and in everything that
    `matvec` closes over; derivatives are further solves with A or its transpose. `several`, and
    `vmap` over `b` alone, set A up once for all right-hand sides. Outside `jax.jit` every call is
    traced anew, so wrap repeated calls.

    Arguments:
        matvec: v -> A v, linear, from and to the structure of `b`.
        b: right-hand side, a pytree of floating-point arrays with n numbers in all.
        solver: `None` or `"auto"`: `"dense"` (Cholesky where it can be, else LU) up to
            `DENSE_LIMIT` unknowns, with a short try of GMRES before it above `DENSE_FIRST` if A is
            not symmetric; above the limit, without a matrix, `"cg"` if symmetric and definite,
            `"minres"` if only symmetric, else `"gmres"`.
            Or one of these words; or `"svd"`, a dense pseudo-inverse, which finds the null spaces
            of A and A^T itself; or a `lineax.AbstractLinearSolver`; or a function `(matvec, b) ->
            x`; or a `KnownMatrix`, for `"dense"` with a matrix that no products have to tell.
        several: `b` holds K right-hand sides, along an extra leading axis of every leaf; dense
            methods then solve for them side by side, iterations, which that slows, in turn.
        symmetric: A is symmetric; found out with two products, and an error if it is not.
        definite: a symmetric A is also definite, of either sign, apart from its null space.
        null_space: vectors that span the null space of a symmetric A, with the structure of `b` and
            an extra leading axis of length m on every leaf. They need not be orthonormal; zero and
            dependent vectors are ignored. x is then the solution of smallest norm. Where the
            vectors are not known, `"svd"` finds them, and `"minres"` does without. A basis can be
            given as `OrthonormalRows`.
        least_squares: where b leaves the range of a singular A, return the vector of smallest norm
            among those with the smallest residual, instead of raising an error.
        preconditioner: v -> approximately A^-1 v, symmetric for a symmetric A; for `"cg"`,
            `"gmres"` and solvers of lineax that know the option; for `"minres"` positive definite.
        rtol: relative residual at which iterations stop, a traced number for `"cg"` and `"minres"`
            alone. Rounding may stop them a little above.
        max_steps: most iterations (of GMRES: restarts); `None`: ten times the number of unknowns.
        tolerance: largest acceptable residual; `None`: `TOLERANCE` in double precision, or what a
            solver of lineax says as its attribute of this name, if that is larger.
        throw: raise an error if `tolerance` is missed, otherwise leave the verdict to the caller.

    Returns:
        A `LinearSolution`, with an extra leading axis of everything for `several`.

    Raises:
        LinearSolveError: if A is singular and no null space was given, if the iterations did not
            converge, if the right-hand side leaves the range of a singular matrix, if the matrix is
            not symmetric though `symmetric` says so, or if something is not finite.
        InputError: for arguments that do not go together.

    With V an orthonormal basis of the null space and P = 1 - V V^T the system solved is
    (P A P + s V V^T) x = P b, which has the pseudo-inverse's answer for every s other than 0.
    """
    like = b
    if several:
        like = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf)[1:], leaf.dtype), b)
    flat, unravel = ravel_pytree(like)
    vector = jax.vmap(lambda one: ravel_pytree(one)[0])(b) if several else flat
    size, dtype = flat.size, flat.dtype
    if size == 0:
        zero = jnp.zeros(vector.shape[:-1])
        return LinearSolution(b, zero, zero, zero.astype(int))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"b holds {dtype} numbers; allowed are real floating-point arrays.")
    method = _choose(solver, size, symmetric, definite)
    basis = flat_null_space(null_space, like)
    if basis is not None and not symmetric:
        raise InputError(
            "null_space was given for a matrix that is not said to be symmetric, whose left null "
            "space may differ; pass symmetric=True if it is symmetric."
        )
    epsilon = float(jnp.finfo(dtype).eps)
    stop: Any = rtol if isinstance(rtol, jax.core.Tracer) else max(rtol, 4 * epsilon)
    # A solver may know that products are no more exact than this.
    loose: float = getattr(solver, "tolerance", 0.0)
    tolerance = max(TOLERANCE, epsilon**0.5, loose) if tolerance is None else tolerance

    def flat_matvec(v: Array) -> Array:
        return _same_size(ravel_pytree(matvec(unravel(v)))[0], size).astype(dtype)

    def unravelled(value: Array) -> PyTree:
        return (jax.vmap(unravel) if several else unravel)(value)

    frozen, frozen_basis = _without_derivatives(flat_matvec, basis, jnp.zeros(size, dtype))

    def project(v: Array) -> Array:
        return project_out(frozen_basis, v)

    if method == "svd":
        if basis is not None:
            raise InputError("solver='svd' finds the null space itself; leave out null_space.")
        matrix = backends.materialise(flat_matvec, size, dtype)
        return _pseudo_inverse_solution(
            matrix, vector, unravelled, symmetric, least_squares, tolerance, throw
        )
    asymmetric: ArrayLike = False
    not_finite: ArrayLike = False
    if method == "dense":
        if isinstance(solver, KnownMatrix):
            matrix = jax.lax.stop_gradient(solver.matrix)
        else:
            matrix = backends.materialise(frozen, size, dtype)
        shift = jnp.mean(jnp.abs(jnp.diagonal(matrix)))
    else:
        probed = backends.probe_matrix(frozen, project, size, dtype)
        shift, not_finite = probed.quotient, ~probed.finite
        asymmetric = symmetric & (probed.asymmetry > max(epsilon**0.5, loose))
    shift = jnp.where((shift != 0) & jnp.isfinite(shift), shift, 1)

    def product(v: Array) -> Array:
        return deflated_product(frozen, frozen_basis, shift, v)

    def transposed_product(v: Array) -> Array:
        return jax.linear_transpose(product, v)(v)[0]

    flat_preconditioner = None
    if preconditioner is not None:
        given = preconditioner

        def flat_preconditioner(v: Array) -> Array:
            return deflated_product(
                lambda w: ravel_pytree(given(unravel(w)))[0], frozen_basis, 1 / shift, v
            )

    if method == "dense":
        backend = backends.dense(deflated_matrix(matrix, frozen_basis, shift), symmetric, definite)
    elif method == "gmres" and max_steps is not None:
        backend = backends.restarted_gmres(
            product, flat, shift, flat_preconditioner, stop, 50, max_steps
        )
    elif method in ("gmres", "gmres or dense"):
        dense_limit = DENSE_LIMIT if method == "gmres or dense" else 0
        backend = backends.gmres(product, flat, shift, flat_preconditioner, stop, dense_limit)
    elif isinstance(method, ProximalSystem):
        first = backends.proximal(method, product, flat, unravel, stop)
        backend = backends.gmres(product, flat, shift, None, stop, DENSE_LIMIT, first)
    elif isinstance(method, str):
        backend = backends.symmetric_iterations(
            method, product, flat, shift, flat_preconditioner, stop, max_steps
        )
    elif isinstance(method, lineax.AbstractLinearSolver):
        backend = backends.from_lineax(method, product, flat, symmetric, flat_preconditioner)
    else:
        backend = backends.from_function(method, product, flat, unravel)
    if method != "dense":
        backend = backend._replace(asymmetric=asymmetric, not_finite=not_finite)

    # Inside a transformation the solve may be staged out and transposed, and its right-hand side
    # exists only later: the check has to travel with it. Otherwise a plain exception is kinder.
    travels = throw and isinstance(vector, jax.core.Tracer)

    def checked(apply: Callable[..., Any], multiply: Callable[..., Any]) -> Callable[..., Any]:
        def run(_: Any, right: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            norm = jnp.linalg.norm(right)
            safe_norm = jnp.where(norm > 0, norm, 1)
            if method == "dense":
                # The null space is in the matrix that was factorised.
                x, steps = apply(right / safe_norm)
                x = jnp.where(norm == 0, 0, safe_norm * x)
            else:
                # Its part of the answer is known, and a solver that was made for A alone cannot
                # find it. Derivatives have such a part where the null space turns.
                inside = project(right)
                x, steps = apply(inside / safe_norm)
                x = jnp.where(norm == 0, 0, safe_norm * project(x) + (right - inside) / shift)
            residual = jnp.linalg.norm(multiply(x) - right) / safe_norm
            problem = _problem(norm, residual, tolerance, backend)
            if travels:
                x = raise_where(x, problem, _messages(tolerance), LinearSolveError)
            return x, (residual, steps, problem)

        return run

    def solved(vector: Array) -> tuple[Array, tuple[Array, Any, Array]]:
        value, diagnostics = jax.lax.custom_linear_solve(
            lambda v: deflated_product(flat_matvec, basis, shift, v),
            project_out(basis, vector),
            solve=checked(backend.forward, product),
            transpose_solve=checked(backend.backward, product if symmetric else transposed_product),
            symmetric=symmetric,
            has_aux=True,
        )
        return project_out(basis, value), diagnostics

    if several:
        solved = jax.vmap(solved) if method == "dense" else functools.partial(jax.lax.map, solved)
    value, diagnostics = solved(vector)
    residual, steps, problem = jax.lax.stop_gradient(diagnostics)
    if throw and not travels:
        value = _raise_if(value, problem, residual, tolerance)
    null_component = jnp.zeros_like(residual)
    if frozen_basis is not None:
        given_vector = jax.lax.stop_gradient(vector)
        null_component = jnp.linalg.norm(given_vector @ frozen_basis.T, axis=-1)
        if throw and not least_squares:
            outside = null_component > tolerance * jnp.linalg.norm(given_vector, axis=-1)
            value = _raise_if(value, jnp.where(outside, 5, -1), residual, tolerance)
    # The number of steps may be a literal, which is no Array before JAX 0.8.
    return LinearSolution(unravelled(value), residual, null_component, jnp.asarray(steps))


def _pseudo_inverse_solution(
    matrix: Array,
    b: Array,
    unravelled: Callable[..., Any],
    symmetric: bool,
    least_squares: bool,
    tolerance: float | Array,
    throw: bool,
) -> LinearSolution:
    value = b @ pseudo_inverse(matrix).T
    known, right, x = jax.lax.stop_gradient((matrix, b, value))
    norm = jnp.linalg.norm(right, axis=-1)
    outside = jnp.linalg.norm(x @ known.T - right, axis=-1)
    residual = outside / jnp.where(norm > 0, norm, 1)
    if throw:
        # What depends on b is not looked at with least_squares, where b may be a tangent that is
        # yet to be transposed.
        asymmetry = jnp.max(jnp.abs(known - known.T)) if symmetric else jnp.zeros((), known.dtype)
        largest = jnp.max(jnp.abs(known))
        problem = jnp.asarray(-1)
        if not least_squares:
            problem = jnp.where(residual > tolerance, 5, problem)
            problem = jnp.where(jnp.isfinite(norm), problem, 0)
        problem = jnp.where(asymmetry > jnp.finfo(b.dtype).eps ** 0.5 * largest, 2, problem)
        problem = jnp.where(jnp.isfinite(largest), problem, 4)
        value = _raise_if(value, problem, residual, tolerance)
    return LinearSolution(unravelled(value), residual, outside, jnp.zeros(norm.shape, int))


def _choose(solver: Solver | None, size: int, symmetric: bool, definite: bool) -> Any:
    if isinstance(solver, str) and solver not in _NAMES:
        raise InputError(f"solver={solver!r} is unknown; allowed are {_WORDS}.")
    if not (
        solver is None
        or isinstance(solver, str | lineax.AbstractLinearSolver | ProximalSystem | KnownMatrix)
        or callable(solver)
    ):
        raise InputError(f"solver is a {type(solver).__name__}; allowed are {_WORDS}.")
    if (solver in ("cg", "minres") or isinstance(solver, lineax.CG)) and not symmetric:
        raise InputError(
            "conjugate gradients and MINRES need a symmetric matrix: pass symmetric=True, or "
            "solver='gmres'."
        )
    if isinstance(solver, KnownMatrix):
        return "dense"
    if isinstance(solver, ProximalSystem):
        return solver if size > DENSE_FIRST else "dense"
    if solver is not None and solver != "auto":
        return solver
    if size <= DENSE_FIRST or (symmetric and size <= DENSE_LIMIT):
        return "dense"
    if size <= DENSE_LIMIT:
        return "gmres or dense"
    if not symmetric:
        return "gmres"
    return "cg" if definite else "minres"


def _same_size(product: Array, size: int) -> Array:
    if product.size != size:
        raise InputError(
            f"matvec returned {product.size} numbers for {size}; the matrix must be square."
        )
    return product


def _without_derivatives(
    matvec: Callable[..., Any], basis: Array | None, example: Array
) -> tuple[Callable[..., Any], Array | None]:
    """The same product, blind to derivatives, which custom_linear_solve takes care of."""
    converted, closed_over = jax.closure_convert(matvec, example)
    closed_over = jax.lax.stop_gradient(closed_over)
    return lambda v: converted(v, *closed_over), jax.lax.stop_gradient(basis)


def _problem(
    norm: Array, residual: Array, tolerance: float | Array, backend: backends.Backend
) -> Array:
    """The index of the message that applies, or -1."""
    found = jnp.where(residual <= tolerance, -1, 3)
    found = jnp.where(jnp.isnan(residual), 1, found)  # a breakdown, or a factor that is singular
    found = jnp.where(backend.asymmetric, 2, found)
    found = jnp.where(backend.singular, 1, found)
    found = jnp.where(backend.not_finite, 4, found)
    return jnp.where(jnp.isfinite(norm), jnp.where(norm == 0, -1, found), 0)


SINGULAR = (
    "singular matrix: pass null_space with the vectors that span its null space, or solver='svd' "
    "to find them, or remove the unknowns that nothing determines."
)


def _messages(tolerance: float | Array) -> list[str]:
    limit = "the tolerance" if isinstance(tolerance, jax.core.Tracer) else f"{tolerance:.1e}"
    return [
        "the right-hand side of the linear system is not finite; look at the solution and at the "
        "condition's derivatives there.",
        SINGULAR,
        "symmetric=True was given, but the matrix is not symmetric; pass symmetric=False.",
        f"the linear solve did not converge: its relative residual is above {limit}; pass "
        "another solver, more max_steps, a preconditioner, or the null_space of the matrix.",
        "the matrix of the linear system is not finite: the condition or its derivative holds NaN "
        "or infinity at the solution; look at what the condition returns there.",
        "the right-hand side leaves the range of the singular matrix, so that no solution exists; "
        "pass least_squares=True for the one of smallest residual and norm.",
    ]


def raise_if(value: Any, problem: Array, messages: list[str], remark: str = "") -> Any:
    """The value, or a `LinearSolveError` with the message of that index; -1: no problem."""
    if isinstance(problem, jax.core.Tracer):
        return raise_where(value, problem, messages, LinearSolveError)
    if (found := _first(problem)) >= 0:
        raise LinearSolveError(messages[found] + remark)
    return value


def _first(problem: Array) -> int:
    """The first problem of those of several right-hand sides, or -1."""
    problems = np.ravel(problem)
    return int(problems[np.argmax(problems >= 0)]) if problems.size else -1


def _raise_if(value: Array, problem: Array, residual: Array, tolerance: float | Array) -> Array:
    reached = ""
    if not isinstance(problem, jax.core.Tracer) and _first(problem) == 3:
        reached = f" (reached: {float(np.max(residual)):.1e})"
    return raise_if(value, problem, _messages(tolerance), reached)
