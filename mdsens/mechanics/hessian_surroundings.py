"""What linear solves with a Hessian need beside its blocks: null vectors, constraints, the cell."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.strain_of_hessian import StrainDerivatives
from mdsens.values import is_traced


class Surroundings(NamedTuple):
    """What linear solves need beside the Hessian of the positions, in JAX or as NumPy arrays.

    Attributes:
        q: degrees of freedom, shape (R, D).
        constrained: shape (N,), atoms that are fixed or rattlers.
        null_vectors: shape (M, R, D), those of `Landscape.null_vectors`.
        cell: shape (D, D), lattice vectors that q refers to, as rows.
        periodic: shape (D,), whether each direction is.
        species: shape (N,), index of each atom's species.
        rotations: shape (k, D, D), generators of the rotations that the boundaries allow.
        cell_columns: shape (R D, D^2), the columns that belong to the cell; None if it is fixed.
        strains: shape (D^2, D^2), the projection onto the strains that are allowed, or None.
        follows: T, shape (D, D), or (N, D, D), one for each atom: positions follow q as dx = dq T;
            None where they are q.
        motions: shape (N, D, D), the projection onto what constraints let each atom do, or
            (N D, N D), onto what they let all do together; None where there are none.
    """

    q: Any
    constrained: Any
    null_vectors: Any
    cell: Any
    periodic: Any
    species: Any
    rotations: Any
    cell_columns: Any
    strains: Any
    follows: Any
    motions: Any


def hessian_surroundings(landscape: Landscape, q: Float[Array, "R D"]) -> Surroundings:
    """What linear solves with a landscape's Hessian need beside that of the positions.

    Arguments:
        landscape: the function; rattlers without their edges.
        q: degrees of freedom, shape (R, D).

    Returns:
        The Surroundings; q may be traced.
    """
    columns = None if landscape.cell_mode is None else cell_columns(landscape, q)
    return surroundings_of(landscape, q)._replace(cell_columns=columns)


def surroundings_of(landscape: Landscape, q: Float[Array, "R D"]) -> Surroundings:
    """The same without the columns of the cell."""
    filled = None if is_traced(q) else landscape.filled
    if filled is None:
        return _surroundings_of(landscape, q)
    more, filling = filled
    found = _surroundings_of(more, on_device(filling.places(q)))
    return found._replace(
        q=q,
        constrained=np.asarray(found.constrained)[: filling.count],
        null_vectors=filling.taken(found.null_vectors),
        species=landscape.system.species,
    )


@compiled(seldom=True)
def _surroundings_of(landscape: Landscape, q: Float[Array, "R D"]) -> Surroundings:
    count, follows, motions = landscape.system.atom_count, None, None
    cell = landscape.relaxing_cell
    if landscape.cell_mode is not None:
        follows = landscape.deformation(q)
    if landscape.motion is not None:
        motions = landscape.motion.motions
        follows = motions if follows is None else motions @ follows
    return Surroundings(
        q,
        landscape.constrained_rows(q)[:count, 0],
        landscape.null_vectors(q),
        landscape.system.cell,
        jnp.asarray(landscape.system.pbc),
        landscape.system.species,
        landscape.rotations(),
        None,
        None if cell is None else cell.strains.reshape(2 * (cell.strains.shape[0] ** 2,)),
        follows,
        motions,
    )


def null_vectors_of(landscape: Landscape, q: Float[Array, "R D"]) -> Float[Any, "M R D"]:
    """`Landscape.null_vectors`, by the program that linear solves with the Hessian need anyway.

    Arguments:
        landscape: the function; rattlers without their edges.
        q: degrees of freedom, shape (R, D).

    Returns:
        Shape (M, R, D).
    """
    return surroundings_of(landscape, q).null_vectors


def cell_columns(landscape: Landscape, q: Float[Array, "R D"]) -> Float[Any, "RD U"]:
    """The columns of the condition's derivative that belong to the cell, from products."""
    count, dimension = landscape.system.positions.shape
    strains = _allowed_strains(landscape)
    units = np.zeros((len(strains), q.size))
    units[:, count * dimension :] = strains
    columns = hessian_products(landscape, q, units.reshape(-1, *q.shape))
    return columns.reshape(len(strains), q.size).T @ strains


def cell_columns_of_strains(
    landscape: Landscape, q: Float[Array, "R D"], found: StrainDerivatives
) -> Float[np.ndarray, "RD U"]:
    """The same from what any strain does."""
    strains, dimension = _allowed_strains(landscape), q.shape[1]
    directions = on_device(strains.reshape(-1, dimension, dimension))
    columns = np.asarray(_columns_of_strains(landscape, q, directions, found))
    return columns.reshape(len(strains), q.size).T @ strains


@compiled(seldom=True)
def _columns_of_strains(
    landscape: Landscape,
    q: Float[Array, "R D"],
    directions: Float[Array, "U D D"],
    found: StrainDerivatives,
) -> Float[Array, "U R D"]:
    """Changes of the condition along coordinates of the cell, from those in strains."""
    count, deformation = landscape.system.atom_count, landscape.deformation(q)
    # The virial V_ab is what a strain does to the strained: it follows the longer edges, too.
    longer = jnp.einsum("ad,cb->abcd", jnp.eye(len(found.virial)), found.virial)

    def gradient(eta: Any, forces: Any, virial: Any) -> Float[Array, "R D"]:
        moved = jnp.concatenate([q[:count], eta])
        here = landscape.system_at(moved)
        return landscape.gradient_of_mechanics(moved, here, forces, virial)

    def along(direction: Float[Array, "D D"]) -> Float[Array, "R D"]:
        change: Callable[..., Any] = landscape.relaxing_cell.deformation  # type: ignore[union-attr]
        stretch = jax.jvp(change, (q[count:],), (direction,))[1]
        strain = jnp.linalg.solve(deformation, stretch)
        tangents = (
            direction,
            -jnp.tensordot(found.of_positions, strain, 2),
            jnp.tensordot(found.of_strain + longer, strain, 2),
        )
        return jax.jvp(gradient, (q[count:], found.forces, found.virial), tangents)[1]

    return jax.vmap(along)(directions)


def _allowed_strains(landscape: Landscape) -> Float[np.ndarray, "U DD"]:
    """Directions among all D^2 of eta outside of which nothing changes."""
    assert landscape.relaxing_cell is not None
    allowed = landscape.relaxing_cell.strains
    size = len(allowed) ** 2
    if is_traced(allowed):
        return np.eye(size)
    return orthonormal_rows(np.asarray(allowed).reshape(size, size))
