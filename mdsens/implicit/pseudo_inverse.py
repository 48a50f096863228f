"""The pseudo-inverse of a dense matrix, singular or not, with derivatives of every order."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["pseudo_inverse"]


@jax.custom_jvp
def pseudo_inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The pseudo-inverse of Moore and Penrose, A^+.

    A^+ b is the vector of smallest norm among those with the smallest |A x - b|. Its derivative is
    the one along matrices of the same rank: a matrix whose rank changes has none. At a solution
    that is good to some digits only, the singular values of free modes are only so small; hence
    the generous limit below which they count as zero.

    Arguments:
        matrix: A. Singular values below sqrt(eps) times the largest count as zero.

    Returns:
        A^+, of the transposed shape.

    Derivative: Golub and Pereyra 1973, SIAM J. Numer. Anal. 10, 413, equation 4.12.
    """
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    kept = values > jnp.finfo(matrix.dtype).eps ** 0.5 * values[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    return (right.T * inverse[None, :]) @ left.T


@pseudo_inverse.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (matrix,), (change,) = primals, tangents
    inverse = pseudo_inverse(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    # The second and third terms turn the null spaces of A^T and of A.
    outside_range = identity - matrix @ inverse
    null_space = identity - inverse @ matrix
    turned = inverse.T @ inverse
    tangent = -inverse @ change @ inverse
    tangent += inverse @ inverse.T @ change.T @ outside_range
    tangent += null_space @ change.T @ turned
    return inverse, tangent
