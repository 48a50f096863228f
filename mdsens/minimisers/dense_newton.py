"""Newton's method with the dense Hessian of a small system, compiled: for many side by side."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.mechanics.dense_jacobian import dense_jacobian
from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search_down
from mdsens.minimisers.minimiser import State


class DenseNewton(LineSearchMinimiser):
    """Newton steps with |H|^-1, the inverse with the absolute eigenvalues, and a line search.

    The absolute eigenvalues turn saddles into points to leave: Y. Dauphin et al., NeurIPS 2014,
    arXiv 1406.2572.

    Arguments:
        max_step: largest move of an atom in one trial, length.
    """

    def start(self, q: Float[Array, "R D"]) -> Any:
        """Nothing to remember."""
        return ()

    def step(self, landscape: Landscape, state: State) -> State:
        """Move by the Newton step."""
        direction = self.direction(landscape, state)
        result, accepted = search_down(landscape, state, direction, on_device(self.max_step))
        return reached(state, result, ~accepted, ())

    def direction(self, landscape: Landscape, state: State) -> Float[Array, "R D"]:
        """The Newton step, shape (R, D), length."""
        matrix, gradient = dense_jacobian(landscape, state.q), state.gradient.reshape(-1)
        if landscape.cell_mode is None and landscape.motion is None:
            # No force is left along translations, and they alone are no direction on the way.
            some = landscape.null_vectors(state.q)[: landscape.system.dimension]
            step = _down_where_definite(matrix, gradient, some.reshape(len(some), -1))
        else:
            step = _down_or_up(matrix, gradient)
        return -step.reshape(state.q.shape)


def _down_where_definite(
    matrix: Float[Array, "n n"], gradient: Float[Array, " n"], null_vectors: Float[Array, "m n"]
) -> Float[Array, " n"]:
    """|H|^-1 g by a Cholesky factorisation, a tenth of the work of eigenvectors, where H has one.

    Arguments:
        matrix: H, symmetric.
        gradient: g, without a component along the null vectors.
        null_vectors: those that are known, at right angles to one another, or zero.
    """
    scale = jnp.max(jnp.abs(matrix))
    lengths = jnp.maximum(jnp.sum(null_vectors**2, axis=1, keepdims=True), 1.0)
    shifted = matrix + scale * (null_vectors / lengths).T @ null_vectors

    def factorised(matrix: Array, right: Array) -> Array:
        factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
        return jax.scipy.linalg.cho_solve((factor, True), right)

    probe = jnp.cos(jnp.arange(gradient.size, dtype=gradient.dtype) ** 2)
    solved = in_turn(factorised)(shifted, jnp.stack([gradient, probe], axis=1))
    grown = scale * jnp.linalg.norm(solved[:, 1]) / jnp.linalg.norm(probe)
    # What moves freely, or nearly so, is told by eigenvalues alone. No number is below any.
    return jax.lax.cond(
        grown < 1e-3 / NULL_FRACTION,
        lambda: solved[:, 0],
        lambda: _down_or_up(matrix, gradient),
    )


def _down_or_up(matrix: Float[Array, "n n"], gradient: Float[Array, " n"]) -> Float[Array, " n"]:
    """|H|^-1 g, with nothing along null modes."""
    values, vectors = eigh(matrix)
    sizes = jnp.abs(values)
    inverse = jnp.where(sizes > NULL_FRACTION * jnp.max(sizes), 1.0 / sizes, 0.0)
    found: Array = vectors @ (inverse * (vectors.T @ gradient))
    return found


def eigh(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues and eigenvectors of a symmetric matrix, safe in batches on several devices."""

    def one(matrix: Array) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(matrix)
        return values, vectors

    return in_turn(one)(matrix)


def in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of LAPACK that takes one matrix of a batch after the other where it must.

    A batch is worked on by all threads of the processor, and batches on several devices that share
    these would wait for one another for ever.

    Arguments:
        function: takes arrays and returns arrays.

    Returns:
        The same function, safe in batches on several devices.
    """
    if jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        return jax.custom_batching.sequential_vmap(function)
    return function
