"""Bonds, angles and dihedrals of a molecule or a network, and fields that act on single atoms."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.potentials.bonded import BondedPotential
from mdsens.values import items, real_array, shown


class Bonds(BondedPotential):
    """Harmonic springs between pairs of atoms, E = sum k (r - r0)^2 / 2: an elastic network.

    LAMMPS's bond_style harmonic has K = k / 2.

    Arguments:
        pairs: indices of atoms, shape (T, 2).
        stiffness: k, energy/length^2; one value, one for each type, or one for each bond.
        length: r0, length; likewise.
        types: the type of each bond, shape (T,); None: each has its own where a value is an array.
        images: lattice vectors by which the second atom is shifted, (T, D); None: the nearest.

    Raises:
        InputError: indices or values of other shapes.
    """

    group_size: ClassVar[int] = 2
    measures: ClassVar[dict[str, str]] = {"stiffness": "energy/length^2", "length": "length"}

    def __init__(
        self, pairs: Any, stiffness: Any, length: Any, types: Any = None, images: Any = None
    ):
        super().__init__(pairs, {"stiffness": stiffness, "length": length}, types, images)

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of k (r - r0)^2 / 2, of one bond."""
        r = jnp.linalg.norm(places[1] - places[0])
        return 0.5 * values["stiffness"] * (r - values["length"]) ** 2


class Angles(BondedPotential):
    """Harmonic angles between two bonds of an atom, E = sum k (theta - theta0)^2 / 2.

    LAMMPS's angle_style harmonic has K = k / 2. An angle of exactly 180 degrees has no derivatives
    of its own, and is taken to have none.

    Arguments:
        triples: indices of atoms, the one between the two bonds in the middle, shape (T, 3).
        stiffness: k, energy per square of a radian; one value, one for each type, or each angle.
        angle: theta0, degrees; likewise.
        types: as for `Bonds`.
        images: lattice vectors by which the second and the third atom are shifted, shape (T, 2, D);
            None: each is the nearest to the one before.

    Raises:
        InputError: indices or values of other shapes.
    """

    group_size: ClassVar[int] = 3
    measures: ClassVar[dict[str, str]] = {"stiffness": "energy", "angle": "angle"}

    def __init__(
        self, triples: Any, stiffness: Any, angle: Any, types: Any = None, images: Any = None
    ):
        super().__init__(triples, {"stiffness": stiffness, "angle": angle}, types, images)

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of k (theta - theta0)^2 / 2, of one angle."""
        first, second = places[0] - places[1], places[2] - places[1]
        along = first @ second
        across = (first @ first) * (second @ second) - along**2
        straight = across <= 0.0
        theta = jnp.arctan2(jnp.sqrt(jnp.where(straight, 1.0, across)), along)
        theta = jnp.where(straight, jnp.where(along < 0.0, np.pi, 0.0), theta)
        return 0.5 * values["stiffness"] * (theta - jnp.deg2rad(values["angle"])) ** 2


class Dihedrals(BondedPotential):
    """Torsions about a bond, E = sum k (1 + cos(n phi - phase)).

    As LAMMPS's dihedral_style charmm: phi is zero where the first and the last atom are on the same
    side of the bond, positive where the last is turned clockwise, seen along it.

    Arguments:
        quadruples: indices of four atoms, the bond in the middle, shape (T, 4).
        stiffness: k, energy; one value, one for each type, or each dihedral.
        phase: degrees; likewise.
        multiplicity: n, whole numbers; likewise, and no parameters.
        types: as for `Bonds`.
        images: shape (T, 3, D), as for `Angles`.

    Raises:
        InputError: indices or values of other shapes, or two dimensions.
    """

    group_size: ClassVar[int] = 4
    measures: ClassVar[dict[str, str]] = {"stiffness": "energy", "phase": "angle"}

    def __init__(
        self,
        quadruples: Any,
        stiffness: Any,
        phase: Any = 0.0,
        multiplicity: Any = 1,
        types: Any = None,
        images: Any = None,
    ):
        numbers = np.asarray(multiplicity)
        if numbers.dtype.kind not in "iu" or numbers.ndim > 1 or (numbers < 1).any():
            raise InputError(
                f"Dihedrals: multiplicity = {shown(multiplicity)}: give whole numbers of at least 1"
            )
        given = {"stiffness": stiffness, "phase": phase}
        if numbers.ndim and types is None and items(quadruples) is not None:
            types = np.arange(len(items(quadruples) or ()))
        if numbers.ndim and (types is None or len(numbers) <= np.max(types)):
            raise InputError("Dihedrals: multiplicity: give one value, or one for each type")
        super().__init__(quadruples, given, types, images, multiplicity=numbers.astype(int))

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of k (1 + cos(n phi - phase)), of one dihedral."""
        if places.shape[1] != 3:
            raise InputError("Dihedrals: there are none in two dimensions")
        before, middle, after = places[1:] - places[:-1]
        first, second = jnp.cross(before, middle), jnp.cross(middle, after)
        sine = jnp.linalg.norm(middle) * (before @ second)
        phi = jnp.arctan2(sine, first @ second)
        turns = values["multiplicity"].astype(float)
        return values["stiffness"] * (1.0 + jnp.cos(turns * phi - jnp.deg2rad(values["phase"])))


class Trap(BondedPotential):
    """Harmonic wells that hold atoms, E = sum k |x - c|^2 / 2.

    Arguments:
        centre: c, length, one point for all, shape (D,), or one for each atom, shape (T, D).
        stiffness: k, energy/length^2; one value, or one for each of the atoms.
        atoms: indices, shape (T,); None: all.

    Raises:
        InputError: indices or values of other shapes.
    """

    invariant: ClassVar[bool] = False
    group_size: ClassVar[int] = 1
    measures: ClassVar[dict[str, str]] = {"stiffness": "energy/length^2"} | {
        f"centre_{axis}": "length" for axis in "xyz"
    }

    def __init__(self, centre: Any, stiffness: Any, atoms: Any = None):
        given = {"stiffness": stiffness, **_components("centre", centre, type(self).__name__)}
        super().__init__(_alone(atoms), given)

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of k |x - c|^2 / 2, of one atom."""
        apart = places[0] - _vector("centre", values, places.shape[1])
        return 0.5 * values["stiffness"] * (apart @ apart)


class UniformForce(BondedPotential):
    """A force that is the same wherever an atom is, E = -sum f . x.

    Arguments:
        force: f, energy/length, one for all, shape (D,), or one for each of the atoms, (T, D).
        atoms: indices, shape (T,); None: all.

    Raises:
        InputError: indices or values of other shapes.
    """

    invariant: ClassVar[bool] = False
    group_size: ClassVar[int] = 1
    measures: ClassVar[dict[str, str]] = {f"force_{axis}": "energy/length" for axis in "xyz"}

    def __init__(self, force: Any, atoms: Any = None):
        super().__init__(_alone(atoms), _components("force", force, type(self).__name__))

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of -f . x, of one atom."""
        return -(places[0] @ _vector("force", values, places.shape[1]))


class Wall(BondedPotential):
    """A flat wall that pushes atoms behind it back, E = sum k max(0, w - x.n)^2 / 2.

    Its second derivative jumps where an atom touches it.

    Arguments:
        normal: n, shape (D,), of any length; the side that it points to is free.
        position: w, of the wall along the normal of length one, length.
        stiffness: k, energy/length^2.
        atoms: indices, shape (T,); None: all.

    Raises:
        InputError: indices or values of other shapes, or a normal of length zero.
    """

    invariant: ClassVar[bool] = False
    group_size: ClassVar[int] = 1
    measures: ClassVar[dict[str, str]] = {"stiffness": "energy/length^2", "position": "length"} | {
        f"normal_{axis}": "1" for axis in "xyz"
    }

    def __init__(self, normal: Any, position: Any, stiffness: Any, atoms: Any = None):
        direction = real_array(normal, "Wall: normal", ("D",))
        if not direction.any():
            raise InputError(f"Wall: normal = {shown(normal)}: give a vector that is not zero")
        given = {"stiffness": stiffness, "position": position}
        super().__init__(_alone(atoms), given | _components("normal", direction, "Wall"))

    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of k max(0, w - x.n)^2 / 2, of one atom."""
        normal = _vector("normal", values, places.shape[1])
        height = places[0] @ normal / jnp.linalg.norm(normal)
        return 0.5 * values["stiffness"] * jnp.maximum(0.0, values["position"] - height) ** 2


def _alone(atoms: Any) -> Any:
    """Groups of one atom each."""
    return None if atoms is None else np.asarray(atoms).reshape(-1, 1)


def _components(name: str, vectors: Any, label: str) -> dict[str, Any]:
    """The components of vectors as parameters of their own."""
    array = real_array(vectors, f"{label}: {name}")
    if array.ndim not in (1, 2) or array.shape[-1] not in (2, 3):
        raise InputError(
            f"{label}: {name} has shape {array.shape}: give a vector, or one for each of the atoms"
        )
    return {f"{name}_{axis}": array[..., i] for i, axis in zip(range(3), "xyz", strict=True)
            if i < array.shape[-1]}  # fmt: skip


def _vector(name: str, values: dict[str, Any], dimension: int) -> Float[Array, " D"]:
    """The vector of one atom from its components."""
    missing = [axis for axis in "xyz"[:dimension] if f"{name}_{axis}" not in values]
    if missing:
        raise InputError(f"{name} has no component along {missing[0]}: give {dimension}")
    return jnp.stack([values[f"{name}_{axis}"] for axis in "xyz"[:dimension]])
