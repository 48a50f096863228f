"""The proximal operator of the nuclear norm, the sum of the singular values of a matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from mdsens.errors import InputError
from mdsens.layers.checks import float_array
from mdsens.layers.parameters import nonnegative, step_size

__all__ = ["prox_nuclear_norm"]

_TIE = 100.0  # rounding units of the largest singular value within which one is at the threshold


def prox_nuclear_norm(
    x: Real[ArrayLike, "m n"], reg: ArrayLike | None = 1.0, scaling: ArrayLike = 1.0
) -> Float[Array, "m n"]:
    """The proximal operator of g(y) = reg |y|_*, soft thresholding of the singular values.

    Arguments:
        x: the matrix, **shape** (m, n).
        reg: a number >= 0; `None` means 1.
        scaling: a number >= 0 that multiplies g.

    Returns:
        U max(S - scaling reg, 0) V^T with x = U S V^T, **shape** (m, n). Derivatives of every order
        are right for repeated and zero singular values too; where one is at the threshold, they
        are those from above.

    Raises:
        InputError: if `reg` or `scaling` is negative or `x` is not a matrix.

    Derivative: Candes, Sing-Long and Trzasko 2013, arXiv 1210.4139, theorem 4.3, in a form that
    holds where singular values coincide.
    """
    x = float_array("x", x, finite=True)
    if x.ndim != 2 or x.size == 0:
        raise InputError(
            f"x has shape {x.shape}; allowed is (m, n): use jax.vmap for many matrices."
        )
    reg = nonnegative("reg", 1.0 if reg is None else reg, x.dtype)
    return _threshold(x, reg * step_size(scaling, x.dtype))


@jax.custom_jvp
def _threshold(x: Array, threshold: Array) -> Array:
    U, s, Vt = jnp.linalg.svd(x, full_matrices=False)
    return (U * jnp.maximum(s - threshold, 0)[None, :]) @ Vt


@_threshold.defjvp
def _threshold_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The derivative of W W^T x - threshold W, with W the isometry of what is kept."""
    x, threshold = primals
    x_dot, threshold_dot = tangents
    W = _isometry(x, threshold)
    W_dot = _isometry_tangent(x, threshold, W, x_dot)
    y_dot = W_dot @ (W.T @ x) + W @ (W_dot.T @ x) + W @ (W.T @ x_dot) - threshold * W_dot
    # With threshold 0 all is kept, also where W, and not y, is undetermined.
    y_dot = jnp.where(threshold == 0, x_dot, y_dot)
    return _threshold(x, threshold), y_dot - threshold_dot * W


def _singular_values(x: Array, threshold: Array) -> tuple[Array, Array, Array, Array]:
    """The decomposition x = U diag(s) V^T and which of the values are kept."""
    U, s, Vt = jnp.linalg.svd(x, full_matrices=False)
    tie = jnp.minimum(_TIE * jnp.finfo(x.dtype).eps * s[0], threshold / 2)
    return U, s, Vt.T, s >= threshold - tie


@jax.custom_jvp
def _isometry(x: Array, threshold: Array) -> Array:
    """W = sum of u v^T over the singular values that are kept."""
    U, _, V, kept = _singular_values(x, threshold)
    return jnp.where(kept, U, 0) @ V.T


@_isometry.defjvp
def _isometry_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    W = _isometry(*primals)
    return W, _isometry_tangent(*primals, W, tangents[0])


def _commutator(W: Array, x: Array) -> Array:
    """The double commutator of [0 W; W^T 0] with [0 x; x^T 0], which vanishes at the solution."""
    return W @ (W.T @ x) - 2 * W @ (x.T @ W) + (x @ W.T) @ W


def _isometry_tangent(x: Array, threshold: Array, W: Array, x_dot: Array) -> Array:
    """How W turns with x, from a smooth condition of which W is an isolated root.

    The condition is double commutator(W, x) + c (W - W W^T W) = 0. Unlike the derivative of the
    singular vectors, its linearisation is regular where singular values coincide, and its own
    derivatives give the higher orders. In the basis of the singular vectors it is diagonal.
    """
    U, s, V, kept = jax.lax.stop_gradient(_singular_values(x, threshold))
    scale = jnp.where(s[0] == 0, 1, s[0])
    w = kept.astype(x.dtype)

    def condition(W: Array) -> Array:
        return _commutator(W, x) + scale * (W - W @ (W.T @ W))

    def matvec(D: Array) -> Array:
        return jax.jvp(condition, (W,), (D,))[1]

    def eigenvalue(w1: Array, s1: Array, w2: Array, s2: Array) -> Array:
        """Of the linearised condition, for two singular values with their part in W."""
        value = -(w1 - w2) * (s1 - s2) + scale * (1 - w1**2 - w1 * w2 - w2**2)
        # Only a singular value of 0 that is kept, with threshold 0, leaves W undetermined.
        return jnp.where(jnp.abs(value) <= jnp.finfo(x.dtype).eps ** 2 * scale, jnp.inf, value)

    def solve(_: object, right: Array) -> Array:
        core = U.T @ right @ V
        even = (core + core.T) / 2 / eigenvalue(w[:, None], s[:, None], w[None, :], s[None, :])
        odd = (core - core.T) / 2 / eigenvalue(w[:, None], s[:, None], -w[None, :], -s[None, :])
        outer = eigenvalue(w, s, jnp.zeros_like(w), jnp.zeros_like(s))
        rest = U @ ((U.T @ right - core @ V.T) / outer[:, None])
        rest = rest + ((right @ V - U @ core) / outer[None, :]) @ V.T
        return U @ (even + odd) @ V.T + rest

    forcing = -jax.jvp(lambda x: _commutator(W, x), (x,), (x_dot,))[1]
    return jax.lax.custom_linear_solve(matvec, forcing, solve, solve, symmetric=True)
