"""Linear solvers as functions `solve(matvec, b)`, by the names that JAXopt 0.8.5 has for them.

Each can be the `solve` of `custom_root`, `root_jvp` and `root_vjp`, the `implicit_diff_solve` of a
layer, or the `solver` of `layers.LevenbergMarquardt`; derivatives look at the residual that they
leave. On their own they return what they found, as JAX's functions of the same kind do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse import linalg
from jaxtyping import Array, Float, PyTree

from mdsens.implicit.backends import MatrixVectorProduct, materialise

__all__ = [
    "solve_bicgstab",
    "solve_cg",
    "solve_cholesky",
    "solve_gmres",
    "solve_inv",
    "solve_iterative_refinement",
    "solve_lu",
    "solve_normal_cg",
    "solve_qr",
]

Ridge = float | Float[Array, ""] | None


def solve_cg(
    matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None, init: PyTree = None, **kwargs: Any
) -> PyTree:
    """The solution of A x = b by conjugate gradients.

    Arguments:
        matvec: v -> A v, symmetric and positive definite.
        b: right-hand side, a pytree of floating-point arrays.
        ridge: what is added to the diagonal of A; None: nothing.
        init: where to begin, with the structure of `b`; None: zeros.
        **kwargs: of `jax.scipy.sparse.linalg.cg`; `tol`, the relative residual at which it stops,
            is 1e-12 without, or as little as there is in the precision of `b`.

    Returns:
        x, with the structure of `b`.
    """
    solution: PyTree = linalg.cg(_ridged(matvec, ridge), b, x0=init, **_tight(b, kwargs))[0]
    return solution


def solve_normal_cg(
    matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None, init: PyTree = None, **kwargs: Any
) -> PyTree:
    """The solution of A'A x = A'b by conjugate gradients, for any A, which may have more rows.

    Arguments:
        matvec: v -> A v.
        b: right-hand side, with the structure of A v.
        ridge: what is added to the diagonal of A'A; None: nothing.
        init: where to begin, with the structure of x; None: zeros, of the structure of `b`.
        **kwargs: as in `solve_cg`.

    Returns:
        x.
    """
    like = b if init is None else init
    transposed = jax.linear_transpose(matvec, like)
    return solve_cg(lambda v: transposed(matvec(v))[0], transposed(b)[0], ridge, init, **kwargs)


def solve_gmres(
    matvec: MatrixVectorProduct,
    b: PyTree,
    ridge: Ridge = None,
    init: PyTree = None,
    tol: float | None = None,
    **kwargs: Any,
) -> PyTree:
    """The solution of A x = b by GMRES.

    Arguments:
        matvec: v -> A v, of any A.
        b: as in `solve_cg`.
        ridge: likewise.
        init: likewise.
        tol: relative residual at which it stops; None: 1e-12, or as little as there is in the
            precision of `b`.
        **kwargs: of `jax.scipy.sparse.linalg.gmres`.

    Returns:
        x, with the structure of `b`.
    """
    if tol is not None:
        kwargs = {**kwargs, "tol": tol}
    solution: PyTree = linalg.gmres(_ridged(matvec, ridge), b, x0=init, **_tight(b, kwargs))[0]
    return solution


def solve_bicgstab(
    matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None, init: PyTree = None, **kwargs: Any
) -> PyTree:
    """The solution of A x = b by the stabilised method of biconjugate gradients.

    Arguments:
        matvec: v -> A v, of any A.
        b: as in `solve_cg`.
        ridge: likewise.
        init: likewise.
        **kwargs: of `jax.scipy.sparse.linalg.bicgstab`; `tol` as in `solve_cg`.

    Returns:
        x, with the structure of `b`.
    """
    solution: PyTree = linalg.bicgstab(_ridged(matvec, ridge), b, x0=init, **_tight(b, kwargs))[0]
    return solution


def solve_lu(matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None) -> PyTree:
    """The solution of A x = b by a dense factorisation with pivots.

    Arguments:
        matvec: v -> A v.
        b: right-hand side, a pytree of floating-point arrays.
        ridge: what is added to the diagonal of A; None: nothing.

    Returns:
        x, with the structure of `b`.
    """
    return _dense(jnp.linalg.solve, matvec, b, ridge)


def solve_cholesky(matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None) -> PyTree:
    """The solution of A x = b by a dense factorisation of a positive definite A.

    Arguments as in `solve_lu`; the result is not a number where A is not positive definite.
    """
    return _dense(
        lambda A, right: jax.scipy.linalg.solve(A, right, assume_a="pos"), matvec, b, ridge
    )


def solve_qr(matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None) -> PyTree:
    """The solution of A x = b by a dense factorisation with an orthogonal matrix.

    Arguments and result as in `solve_lu`.
    """

    def solve(A: Array, right: Array) -> Array:
        q, r = jnp.linalg.qr(A)
        solution: Array = jax.scipy.linalg.solve_triangular(r, q.T @ right)
        return solution

    return _dense(solve, matvec, b, ridge)


def solve_inv(matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge = None) -> PyTree:
    """The solution of A x = b by the inverse of A, the least exact way.

    Arguments and result as in `solve_lu`.
    """
    return _dense(lambda A, right: jnp.linalg.inv(A) @ right, matvec, b, ridge)


def solve_iterative_refinement(
    matvec: MatrixVectorProduct,
    b: PyTree,
    init: PyTree = None,
    maxiter: int = 10,
    tol: float | None = None,
    solve: Callable[..., PyTree] = solve_gmres,
    **kwargs: Any,
) -> PyTree:
    """The solution of A x = b by an inexact solver, called again for what it leaves.

    Arguments:
        matvec: v -> A v.
        b: right-hand side, a pytree of floating-point arrays.
        init: where to begin, with the structure of `b`; None: zeros.
        maxiter: most calls of the solver.
        tol: norm of b - A x at which it stops; None: 1e-12 |b|, or as little as there is in the
            precision of `b`.
        solve: `solve(matvec, residual, **kwargs)`.
        **kwargs: of `solve`; with a `ridge` the solver's matrix is not A, and more exact to solve.

    Returns:
        x, with the structure of `b`.

    x <- x + solve(A, b - A x): Moler 1967, J. ACM 14, 316.
    """
    flat, unravel = ravel_pytree(b)

    def left(x: Array) -> Array:
        residual: Array = flat - ravel_pytree(matvec(unravel(x)))[0]
        return residual

    limit = _tight(b, {})["tol"] * jnp.linalg.norm(flat) if tol is None else tol

    def improve(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, residual, count = state
        x = x + ravel_pytree(solve(matvec, unravel(residual), **kwargs))[0]
        return x, left(x), count + 1

    x = jnp.zeros_like(flat) if init is None else ravel_pytree(init)[0]
    return unravel(
        jax.lax.while_loop(
            lambda state: (jnp.linalg.norm(state[1]) > limit) & (state[2] < maxiter),
            improve,
            (x, left(x), jnp.asarray(0)),
        )[0]
    )


def _ridged(matvec: MatrixVectorProduct, ridge: Ridge) -> MatrixVectorProduct:
    if ridge is None:
        return matvec
    return lambda v: jax.tree.map(
        lambda Av, leaf: Av + jnp.asarray(ridge, leaf.dtype) * leaf, matvec(v), v
    )


def _tight(b: PyTree, options: dict[str, Any]) -> dict[str, Any]:
    epsilon = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(b))).eps)
    return {"tol": max(1e-12, 4 * epsilon), **options}


def _dense(
    solve: Callable[[Array, Array], Array], matvec: MatrixVectorProduct, b: PyTree, ridge: Ridge
) -> PyTree:
    flat, unravel = ravel_pytree(b)
    product = _ridged(matvec, ridge)
    matrix = materialise(lambda v: ravel_pytree(product(unravel(v)))[0], flat.size, flat.dtype)
    return unravel(solve(matrix, flat))
