"""Newton's method with the dense Hessian of a small system, compiled: for many side by side."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian import hessian
from mdsens.minimisers.line_search import LineSearchMinimiser, reached, search_down
from mdsens.minimisers.minimiser import State

#: Columns of a Hessian that are computed at a time.
COLUMNS = 64


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
        values, vectors = eigh(dense_jacobian(landscape, state.q))
        sizes = jnp.abs(values)
        inverse = jnp.where(sizes > NULL_FRACTION * jnp.max(sizes), 1.0 / sizes, 0.0)
        along = inverse * (vectors.T @ state.gradient.reshape(-1))
        direction = -(vectors @ along).reshape(state.q.shape)
        result, accepted = search_down(landscape, state, direction, on_device(self.max_step))
        return reached(state, result, ~accepted, ())


def dense_jacobian(landscape: Landscape, q: Float[Array, "R D"]) -> Float[Array, "RD RD"]:
    """The matrix of the condition's derivative: the Hessian, and 1 on constrained atoms' diagonal.

    Arguments:
        landscape: the function.
        q: degrees of freedom, shape (R, D).

    Returns:
        Shape (R D, R D), symmetrised, in units of energy/length^2.
    """
    if landscape.cell_mode is None and landscape.motion is None:
        matrix = hessian(landscape.system_at(q), landscape.potential, landscape.edge_list, COLUMNS)
        constrained = jnp.broadcast_to(landscape.constrained_rows(q), q.shape).reshape(-1)
        matrix = jnp.where(
            constrained[:, None] | constrained[None, :], jnp.diag(constrained.astype(float)), matrix
        )
        return (matrix + matrix.T) / 2

    def column(index: Array) -> Array:
        unit = jnp.zeros(q.size).at[index].set(1.0).reshape(q.shape)
        return jax.jvp(landscape.condition, (q,), (unit,))[1].reshape(-1)

    matrix = jax.lax.map(column, jnp.arange(q.size), batch_size=min(COLUMNS, q.size))
    return (matrix + matrix.T) / 2


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
