"""Exact deflation of a known null space: orthonormal bases, projections, deflated matrices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from mdsens.errors import InputError

__all__ = ["OrthonormalRows", "orthonormal_basis"]

# Sine of the angle to the earlier vectors below which a vector adds nothing; smaller than that of
# `mdsens.linalg.null_space`, since orthogonalising twice resolves more than a Gram matrix does.
_DEPENDENT = 1e-7


@dataclasses.dataclass(frozen=True)
class OrthonormalRows:
    """Vectors of a null space that are known to be a basis, and need not be made one.

    Arguments:
        rows: with an extra leading axis on the unknowns' one leaf; orthonormal, or zero.
    """

    rows: Float[Array, "m ..."]


def orthonormal_basis(vectors: Float[ArrayLike, "m n"]) -> Float[Array, "m n"]:
    """Orthonormalise the rows of a matrix, leaving a zero row for each that adds nothing.

    It can be differentiated, with zero and dependent rows too, and takes NumPy arrays as well. The
    derivative of the basis is that of the Cholesky QR factorisation; only the span is meaningful.

    Arguments:
        vectors: m vectors of n numbers, in any scale.

    Returns:
        An array of the same shape. Its rows that are not zero are orthonormal and span what the
        given rows span.

    Raises:
        InputError: if `vectors` is not a matrix.

    Cholesky QR done twice: Yamamoto et al. 2015, ETNA 44, 306, algorithm 2.
    """
    rows = jnp.asarray(vectors)
    if rows.ndim != 2:
        raise InputError(f"vectors has shape {rows.shape}; allowed is (m, n), one vector per row.")
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        rows = rows.astype(float)
    if rows.shape[0] == 0:
        return rows
    kept = _independent(jax.lax.stop_gradient(rows))
    # The largest entry first: the square of a tiny or huge vector would under- or overflow.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=1, keepdims=True))
    rows = jnp.where(kept[:, None], rows / jnp.where(largest > 0, largest, 1), 0)
    rows = rows / jnp.sqrt(jnp.where(kept, jnp.sum(rows**2, axis=1), 1))[:, None]
    for _ in range(2):
        # A one on the diagonal keeps the factorisation regular where a row was dropped.
        gram = rows @ rows.T + jnp.diag(jnp.where(kept, 0.0, 1.0).astype(rows.dtype))
        factor = jnp.linalg.cholesky(gram)
        rows = jax.scipy.linalg.solve_triangular(factor, rows, lower=True)
    return rows


def _independent(rows: Array) -> Array:
    """Which rows do not depend on earlier ones, by Gram-Schmidt with reorthogonalisation."""
    count = rows.shape[0]
    threshold = max(_DEPENDENT, 10 * float(jnp.finfo(rows.dtype).eps) ** 0.5)

    def step(basis: Array, row_and_index: tuple[Array, Array]) -> tuple[Array, Array]:
        row, index = row_and_index
        row = row / jnp.maximum(jnp.max(jnp.abs(row)), jnp.finfo(row.dtype).tiny)
        row = row / jnp.maximum(jnp.linalg.norm(row), 1e-30)
        for _ in range(2):
            row = row - basis.T @ (basis @ row)
        norm = jnp.linalg.norm(row)
        keep = norm > threshold
        row = jnp.where(keep, row / jnp.where(keep, norm, 1), 0)
        return basis.at[index].set(row), keep

    return jax.lax.scan(step, jnp.zeros_like(rows), (rows, jnp.arange(count)))[1]


def flat_null_space(
    null_space: PyTree[ArrayLike] | OrthonormalRows | None, like: Any
) -> Array | None:
    """The orthonormal basis as a matrix with one flat vector per row; None if there is none."""
    if null_space is None:
        return None
    known = isinstance(null_space, OrthonormalRows)
    if isinstance(null_space, OrthonormalRows):
        null_space = null_space.rows
    structure: Any = jax.tree.structure(null_space)
    expected: Any = jax.tree.structure(like)
    if structure != expected:
        raise InputError(
            f"null_space has the structure {structure}; allowed is that of the unknowns, "
            f"{expected}, with an extra leading axis on every leaf."
        )
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(null_space)]
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(like)]
    counts = {leaf.shape[:1] for leaf in leaves}
    if len(counts) != 1 or any(leaf.shape[1:] != s for leaf, s in zip(leaves, shapes, strict=True)):
        raise InputError(
            f"null_space has leaves of shapes {[leaf.shape for leaf in leaves]}; allowed are the "
            f"shapes of the unknowns, {shapes}, each with the same leading axis."
        )
    (count,) = counts.pop()
    if count == 0:
        return None
    flat = jnp.concatenate([leaf.reshape(count, -1) for leaf in leaves], axis=1)
    dtype = ravel_pytree(like)[0].dtype
    return flat.astype(dtype) if known else orthonormal_basis(flat.astype(dtype))


def project_out(basis: Array | None, v: Array) -> Array:
    """P v with P = 1 - V V^T."""
    return v if basis is None else v - basis.T @ (basis @ v)


def deflated_product(
    matvec: Callable[..., Any], basis: Array | None, shift: Array, v: Array
) -> Array:
    """(P A P + s V V^T) v."""
    if basis is None:
        return matvec(v)
    inside = basis.T @ (basis @ v)
    return project_out(basis, matvec(v - inside)) + shift * inside


def deflated_matrix(matrix: Array, basis: Array | None, shift: Array) -> Array:
    """P A P + s V V^T."""
    if basis is None:
        return matrix
    matrix = matrix - (matrix @ basis.T) @ basis
    return project_out(basis, matrix) + shift * (basis.T @ basis)
