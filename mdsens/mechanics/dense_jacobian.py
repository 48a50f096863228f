"""The dense matrix of the condition's derivative, of small systems inside what JAX traces."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian import has_closed_form, hessian

#: Columns that are computed at a time.
COLUMNS = 64


def known_in_closed_form(landscape: Landscape) -> bool:
    """Whether no products have to tell the matrix: each pair of atoms gives a block of it."""
    free = landscape.cell_mode is None and landscape.motion is None
    return free and has_closed_form(landscape.potential)


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
