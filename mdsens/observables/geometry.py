"""Distances, angles and displacements of atoms."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.observables.observable import Observable
from mdsens.relaxation import Equilibrium


@functools.cache
def distance(i: int, j: int) -> Observable:
    """Distance between two atoms, to the nearest image.

    Arguments:
        i: index of one atom.
        j: index of the other.
    """
    _check_different("distance", i, j)
    return Observable(
        f"distance({i},{j})",
        "length",
        lambda equilibrium: jnp.linalg.norm(_nearest_vector(equilibrium, i, j)),
    )


@functools.cache
def angle(i: int, j: int, k: int) -> Observable:
    """Angle at atom j between atoms i and k, to their nearest images, in degrees.

    Arguments:
        i: index of one end.
        j: index of the corner.
        k: index of the other end.
    """
    _check_different("angle", i, j, k)

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        u, v = _nearest_vector(equilibrium, j, i), _nearest_vector(equilibrium, j, k)
        # atan2 of sine and cosine keeps its derivative at right and nearly straight angles.
        cosine = jnp.dot(u, v)
        square = jnp.dot(u, u) * jnp.dot(v, v) - cosine**2
        sine = jnp.sqrt(jnp.where(square > 0, square, 1.0)) * (square > 0)
        return jnp.degrees(jnp.arctan2(sine, cosine))

    return Observable(f"angle({i},{j},{k})", "angle", value)


def mean_squared_displacement(reference: Any = None) -> Observable:
    """Mean over atoms of the squared displacement from a reference structure.

    Arguments:
        reference: shape (N, D), length; None: the structure that the relaxation began at.
    """

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        given = equilibrium.start if reference is None else jnp.asarray(reference, float)
        if given.shape != equilibrium.positions.shape:
            raise InputError(
                f"the reference has shape {given.shape}: give {equilibrium.positions.shape}"
            )
        return jnp.mean(jnp.sum((equilibrium.positions - given) ** 2, axis=1))

    return Observable("mean_squared_displacement", "length^2", value)


def _nearest_vector(equilibrium: Equilibrium, i: int, j: int) -> Float[Array, " D"]:
    """From atom i to the nearest image of atom j, shape (D,)."""
    system = equilibrium.system
    for index in (i, j):
        if not -system.atom_count <= index < system.atom_count:
            raise InputError(f"there is no atom {index}: allowed are 0 to {system.atom_count - 1}")
    vector = system.positions[j] - system.positions[i]
    lattice = system.cell[np.array(system.pbc, bool)]
    if not len(lattice):
        return vector
    # The image is chosen once; the distance then follows positions and cell.
    still, rows = jax.lax.stop_gradient((vector, lattice))
    home = jnp.round(jnp.linalg.lstsq(rows.T, still)[0])
    around = jnp.asarray(list(itertools.product((-1.0, 0.0, 1.0), repeat=len(lattice)))) - home
    lengths = jnp.sum((still + around @ rows) ** 2, axis=1)
    return vector + around[jnp.argmin(lengths)] @ lattice


def _check_different(name: str, *indices: int) -> None:
    if len(set(indices)) < len(indices):
        raise InputError(f"{name}{indices}: give different atoms")
