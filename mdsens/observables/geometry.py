"""Distances, angles and displacements of atoms; lengths and angles of the cell."""

import dataclasses
import functools
import hashlib
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.errors import InputError, warn
from mdsens.observables.nearest_image import images_as_near, nearest_image
from mdsens.observables.observable import Observable, name_of
from mdsens.particles.system import System
from mdsens.relaxation import Equilibrium
from mdsens.values import integer, real_array

#: Sine of an angle below which the three atoms are in line: beyond what a relaxation determines.
IN_LINE = 1e-7
#: Relative difference of distances that are the same, as relaxed ones are.
SAME = 1e-6


def distance(i: SupportsIndex, j: SupportsIndex) -> Observable:
    """Distance between two atoms, to the nearest image.

    Where several images are equally near, as in a cell of two neighbours, the distance to one of
    them is followed: they part where their symmetry ends, as in a shear, which a warning says where
    it is differentiated by. A larger cell tells them.

    Arguments:
        i: index of one atom; a negative one counts from the last.
        j: index of the other.

    Returns:
        The Observable.

    Raises:
        InputError: no whole numbers, or the same atom twice.
    """
    return _distance(*_different_atoms("distance", i=i, j=j))


@functools.cache
def _distance(i: int, j: int) -> Observable:
    name = name_of("distance", i, j)

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        first, second = _atoms(name, equilibrium, i, j)
        return jnp.linalg.norm(_nearest_vector(equilibrium, first, second))

    caution = functools.partial(_warn_of_ties, name, ((i, j),))
    return Observable(name, "length", value, caution=caution, fills_from=_atoms_needed(i, j))


def angle(i: SupportsIndex, j: SupportsIndex, k: SupportsIndex) -> Observable:
    """Angle at atom j between atoms i and k, to their nearest images, in degrees.

    Three atoms in line, to 1e-7 of a radian, are where the angle has a kink: it falls whichever
    way an atom leaves the line. The derivative is 0 there. That is right wherever the atoms stay in
    line, as by symmetry; and elsewhere it is the mean of the derivatives of both sides.

    Arguments:
        i: index of one end; a negative one counts from the last.
        j: index of the corner.
        k: index of the other end.

    Returns:
        The Observable.

    Raises:
        InputError: no whole numbers, or an atom twice.
    """
    return _angle(*_different_atoms("angle", i=i, j=j, k=k))


@functools.cache
def _angle(i: int, j: int, k: int) -> Observable:
    name = name_of("angle", i, j, k)

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        first, corner, second = _atoms(name, equilibrium, i, j, k)
        u = _nearest_vector(equilibrium, corner, first)
        v = _nearest_vector(equilibrium, corner, second)
        return jnp.degrees(_angle_between(u, v))

    caution = functools.partial(_warn_of_ties, name, ((j, i), (j, k)))
    fills_from = _atoms_needed(i, j, k)
    return Observable(name, "angle", value, caution=caution, fills_from=fills_from)


@functools.cache
def lattice_constants() -> Observable:
    """Lengths of the lattice vectors of the periodic directions, in their order.

    Returns:
        The Observable: one length for each.
    """

    def value(equilibrium: Equilibrium) -> Float[Array, " n"]:
        return jnp.linalg.norm(_lattice("lattice_constants", equilibrium, 1), axis=1)

    return Observable("lattice_constants", "length", value, fills_from=1)


@functools.cache
def cell_angles() -> Observable:
    """Angles between the lattice vectors of the periodic directions, in degrees.

    Returns:
        The Observable: alpha, beta and gamma in ASE's order, between the second and the third
        vector, the first and the third, the first and the second; of two vectors the one that is
        between them.
    """

    def value(equilibrium: Equilibrium) -> Float[Array, " n"]:
        lattice = _lattice("cell_angles", equilibrium, 2)
        pairs = ((1, 2), (0, 2), (0, 1)) if len(lattice) == 3 else ((0, 1),)
        angles = [_angle_between(lattice[i], lattice[j]) for i, j in pairs]
        return jnp.degrees(jnp.stack(angles))

    return Observable("cell_angles", "angle", value, fills_from=1)


def _atoms_needed(*atoms: int) -> int | None:
    """How many atoms there must be for all of these; None where some are counted from the last."""
    return None if min(atoms) < 0 else max(atoms) + 1


def _lattice(name: str, equilibrium: Equilibrium, at_least: int) -> Float[Array, "n D"]:
    """The lattice vectors of the periodic directions."""
    system = equilibrium.system
    periodic = np.flatnonzero(system.pbc)
    if len(periodic) < at_least:
        vectors = "a periodic direction" if at_least == 1 else "two periodic directions"
        raise InputError(f"{name} needs {vectors}, and pbc = {system.pbc}: leave it out")
    return system.cell[periodic]


def mean_squared_displacement(reference: Any = None) -> Observable:
    """Mean over atoms of the squared displacement from a reference structure.

    Arguments:
        reference: shape (N, D), length; None: the structure that the relaxation began at.

    Returns:
        The Observable; a part of the SHA-256 digest of a reference is in its name.

    Raises:
        InputError: the reference is no array of finite numbers of shape (N, D).
    """
    if reference is None:
        return _displacement(None, b"")
    given = real_array(reference, "mean_squared_displacement: reference", ("N", "D"))
    # Zeros of either sign are the same place.
    return _displacement(given.shape, (given + 0.0).tobytes())


def _displacement(shape: tuple[int, int] | None, data: bytes) -> Observable:
    name = "mean_squared_displacement"
    if shape is not None:
        digest = hashlib.sha256(repr(shape).encode() + data).hexdigest()[:12]
        name = f"{name}(reference={digest})"
    return Observable(name, "length^2", _MeanSquaredDisplacement(shape, data))


@dataclasses.dataclass(frozen=True)
class _MeanSquaredDisplacement:
    """From positions that are compared by their values, and so are observables with them.

    Attributes:
        shape: of the positions; None: from those that the relaxation began at.
        data: the bytes of their numbers.
    """

    shape: tuple[int, int] | None
    data: bytes

    def __call__(self, equilibrium: Equilibrium) -> Float[Array, ""]:
        """The value, length^2."""
        if self.shape is None:
            given = equilibrium.start
        elif self.shape == equilibrium.positions.shape:
            given = jnp.asarray(np.frombuffer(self.data).reshape(self.shape))
        else:
            raise InputError(
                f"the reference has shape {self.shape}: give {equilibrium.positions.shape}"
            )
        return jnp.mean(jnp.sum((equilibrium.positions - given) ** 2, axis=1))


def _warn_of_ties(
    name: str,
    pairs: tuple[tuple[int, int], ...],
    equilibrium: Equilibrium,
    conditions: list[str],
) -> None:
    """Warn where atoms have several nearest images, which conditions may part."""
    system = equilibrium.system
    positions, lattice = np.asarray(system.positions), np.asarray(system.cell)[list(system.pbc)]
    for i, j in pairs:
        count = images_as_near(positions[j] - positions[i], lattice, SAME)
        if count > 1:
            warn(
                f"{name}: {count} images of atom {j} are equally near to atom {i}, and "
                f"{conditions[0]} may part them: derivatives are those of one of them; take a "
                "larger cell"
            )


def _nearest_vector(equilibrium: Equilibrium, i: int, j: int) -> Float[Array, " D"]:
    """From atom i to the nearest image of atom j, shape (D,)."""
    system = equilibrium.system
    return _vector_between(system, on_device(i), on_device(j))


@compiled
def _vector_between(system: System, i: Int[Array, ""], j: Int[Array, ""]) -> Float[Array, " D"]:
    vector = system.positions[j] - system.positions[i]
    return nearest_image(vector, system.cell[np.flatnonzero(system.pbc)])


@compiled
def _angle_between(u: Float[Array, " D"], v: Float[Array, " D"]) -> Float[Array, ""]:
    """The angle between two vectors, in radians; in line its derivative is 0."""
    cosine = jnp.dot(u, v)
    # The area between them; a difference of squares would lose half the digits near a line.
    normal = jnp.atleast_1d(jnp.cross(u, v)) if len(u) == 3 else u[:1] * v[1:] - u[1:] * v[:1]
    square = jnp.dot(normal, normal)
    in_line = square <= IN_LINE**2 * jnp.dot(u, u) * jnp.dot(v, v)
    sine = jnp.sqrt(jnp.where(in_line, 1.0, square))
    # atan2 of sine and cosine keeps its derivative at right and nearly straight angles.
    kink = jnp.arctan2(*jax.lax.stop_gradient((jnp.sqrt(square), cosine)))
    return jnp.where(in_line, kink, jnp.arctan2(sine, cosine))


def _different_atoms(kind: str, **indices: Any) -> list[int]:
    """Whole numbers, all different."""
    atoms = [integer(index, f"{kind}: {name}") for name, index in indices.items()]
    if len(set(atoms)) < len(atoms):
        raise InputError(f"{name_of(kind, *atoms)}: give different atoms")
    return atoms


def _atoms(name: str, equilibrium: Equilibrium, *indices: int) -> list[int]:
    """Indices from 0 on of different atoms that there are."""
    count = equilibrium.system.atom_count
    for index in indices:
        if not -count <= index < count:
            raise InputError(f"{name}: there is no atom {index}; allowed are 0 to {count - 1}")
    atoms = [index % count for index in indices]
    if len(set(atoms)) < len(atoms):
        raise InputError(f"{name} of {count} atoms: two of them are the same; give different atoms")
    return atoms
