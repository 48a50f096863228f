"""Energies of listed groups of atoms: bonds, angles, dihedrals, and fields that hold single atoms.

Each group adds a term of its own, so the Hessian is known in blocks, and sparse. A group may reach
across periodic boundaries; which images its atoms are is found once, in the structure that relaxes.
"""

import abc
from typing import Any, ClassVar, Self

import ase.geometry.minkowski_reduction
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.particles.lattice import completed_cell
from mdsens.particles.system import System
from mdsens.potentials.parameter_tree import parameters_and_constants
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.potentials.tree_potential import TreePotential
from mdsens.values import index_array, is_traced, listing, real_array, shown

#: Where in the tree of parameters that is which is none, and what of it is no group's own.
HELD, SHARED = "held", ("groups", "types", "images")
#: Relative difference of two images' distances below which neither is the nearest.
ALIKE = 1e-6


class BondedPotential(TreePotential, StructurePotential):
    """A sum over listed groups of atoms of a function of their places.

    A subclass gives `term_energy` of one group, and the dimensions of its parameters. Each of these
    is one number for all groups, or an array of one for each type of group.

    Arguments:
        groups: indices of atoms, shape (T, n), one row for each of T groups; None: each atom alone.
        parameters: by name.
        types: the type of each group, shape (T,); None: each has a type of its own where a
            parameter is an array.
        images: lattice vectors by which the atoms of a group after the first are shifted, shape
            (T, n - 1, D), whole numbers; None: each is the nearest image to the one before.

    Raises:
        InputError: indices of another shape, or a parameter for other types than there are.
    """

    in_groups: ClassVar[bool] = True
    #: How many atoms a group has, and what each parameter measures.
    group_size: ClassVar[int]
    measures: ClassVar[dict[str, str]]

    def __init__(
        self,
        groups: Any,
        parameters: dict[str, Any],
        types: Any = None,
        images: Any = None,
        **constants: Any,
    ):
        label = type(self).__name__
        if groups is not None:
            groups = index_array(groups, f"{label}: atoms", 2**31, ("T", self.group_size),
                                 from_end=False)  # fmt: skip
            _check_distinct(groups, label, images)
        tree = {name: _values(value, f"{label}: {name}") for name, value in parameters.items()}
        sizes = {len(value) for value in tree.values() if value.ndim}
        if types is not None:
            types = index_array(types, f"{label}: types", 2**31, (len(groups),), from_end=False)
        elif sizes and groups is not None:
            types = np.arange(len(groups))
        needed = 0 if types is None else int(types.max(initial=-1)) + 1
        wrong = [name for name, value in tree.items() if value.ndim and len(value) != needed]
        if wrong:
            raise InputError(
                f"{label}: {wrong[0]} has {len(tree[wrong[0]])} values, and there are {needed} "
                f"types of the {len(groups) if groups is not None else 'single'} groups: give one "
                "value, or one for each type"
            )
        if images is not None:
            shape = (len(groups), self.group_size - 1, "D")
            images = np.asarray(images)
            images = images[:, None] if images.ndim == 2 and self.group_size == 2 else images
            real_array(images, f"{label}: images", shape)
            if images.dtype.kind not in "iu":
                raise InputError(f"{label}: images = {shown(images.tolist())}: give whole numbers")
        held = {"groups": groups, "types": types, "images": images, **constants}
        dimensions = {name: self.measures[name] for name in tree}
        self._set(label, {**tree, HELD: held}, dimensions, None)

    @property
    def _title(self) -> str:
        return type(self).__name__

    @abc.abstractmethod
    def term_energy(self, places: Float[Array, "n D"], values: dict[str, Any]) -> Float[Array, ""]:
        """The energy of one group.

        Arguments:
            places: of its atoms, shape (n, D), in units of length, the images that are bonded.
            values: its parameters, and constants of its own, by name.

        Returns:
            In units of energy.
        """

    def in_system(self, system: System) -> Self:
        """The same, of which is known which images are bonded.

        Arguments:
            system: where it is to act.

        Returns:
            The potential.

        Raises:
            InputError: an atom that is not there, or images that cannot be told apart.
        """
        count, held = system.atom_count, self.parameter_tree[HELD]
        groups, images = held["groups"], held["images"]
        if groups is None:
            groups = np.arange(count)[:, None]
        if groups.size and groups.max() >= count:
            raise InputError(
                f"{self._title}: there is no atom {groups.max()}; allowed are 0 to {count - 1}"
            )
        if images is None:
            images = self._nearest(groups, system)
        if images.shape[-1] != system.dimension:
            raise InputError(
                f"{self._title}: images have {images.shape[-1]} numbers each: give "
                f"{system.dimension}"
            )
        if groups is held["groups"] and images is held["images"]:
            return self
        known = {**self.tree, HELD: {**held, "groups": groups, "images": images}}
        _, constants = parameters_and_constants(known, self._title)
        return self._with(constants=constants)

    def _nearest(self, groups: np.ndarray, system: System) -> np.ndarray:
        shape = (len(groups), self.group_size - 1, system.dimension)
        if not any(system.pbc) or self.group_size == 1:
            return np.zeros(shape, int)
        system = jax.lax.stop_gradient(system)
        if is_traced((system.positions, system.cell)):
            raise InputError(
                f"{self._title}: which images are bonded is not known where JAX traces the "
                "structure: give images"
            )
        positions, cell = np.asarray(system.positions), np.asarray(system.cell)
        places = positions[groups]
        vectors = (places[:, 1:] - places[:, :-1]).reshape(-1, system.dimension)
        shifts, unclear = nearest_shifts(vectors, cell, system.pbc)
        if unclear.any():
            rows = np.unique(np.flatnonzero(unclear) // (self.group_size - 1))
            raise InputError(
                f"{self._title}: in rows {listing(rows)} two images are equally near: give images"
            )
        return np.cumsum(shifts.reshape(shape), axis=1)

    def _terms(
        self, positions: Float[Array, "N D"], cell: Float[Array, "D D"]
    ) -> tuple[Float[Array, "T n D"], dict[str, Any]]:
        """The places of all groups, and their parameters and constants."""
        tree = self.parameter_tree
        held = tree.pop(HELD)
        if held["groups"] is None or held["images"] is None:
            raise InputError(f"{self._title}: no system is known: relax one, or use in_system")
        places = positions[held["groups"]]
        shifts = jnp.asarray(held["images"], float) @ cell
        places = jnp.concatenate([places[:, :1], places[:, 1:] + shifts], axis=1)
        count, types = len(held["groups"]), held["types"]
        numbers = {**tree, **{name: one for name, one in held.items() if name not in SHARED}}

        def of_terms(value: Any) -> Array:
            value = jnp.asarray(value)
            return value[types] if value.ndim else jnp.broadcast_to(value, (count,))

        return places, {name: of_terms(value) for name, value in numbers.items()}

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """The sum over all groups, in units of energy."""
        return jnp.sum(jax.vmap(self.term_energy)(*self._terms(positions, cell)))

    def structure_blocks(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> list[tuple[Float[Array, "T n n D D"], Int[Array, "T n"]]]:
        """Second derivatives of each group's energy, energy/length^2, and the group's atoms."""
        terms = self._terms(positions, cell)
        blocks = jax.vmap(jax.hessian(self.term_energy))(*terms).transpose(0, 1, 3, 2, 4)
        return [(blocks, jnp.asarray(self.parameter_tree[HELD]["groups"]))]

    def _settings(self, units: str) -> list[tuple[str, str]]:
        groups = self.parameter_tree[HELD]["groups"]
        return [("groups of atoms", "all" if groups is None else str(len(groups)))]


def nearest_shifts(
    vectors: Float[np.ndarray, "M D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool | np.bool_, ...],
) -> tuple[Int[np.ndarray, "M D"], np.ndarray]:
    """The lattice vectors that make vectors shortest, and whether others do as well.

    Arguments:
        vectors: shape (M, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.

    Returns:
        Numbers of lattice vectors, shape (M, D); shape (M,), where two images are equally near.
    """
    dimension = len(cell)
    whole, periodic = np.eye(3), np.zeros(3, bool)
    whole[:dimension, :dimension] = completed_cell(cell, pbc)
    periodic[:dimension] = pbc
    reduced, steps = ase.geometry.minkowski_reduction.minkowski_reduce(whole, periodic)
    padded = np.zeros((len(vectors), 3))
    padded[:, :dimension] = vectors
    first = -np.round(padded @ np.linalg.inv(reduced)) * periodic
    around = np.stack(np.meshgrid(*[(-1, 0, 1) if p else (0,) for p in periodic]), -1)
    turns = first[:, None] + around.reshape(-1, 3)[None]
    lengths = np.linalg.norm(padded[:, None] + turns @ reduced, axis=-1)
    order = np.argsort(lengths, axis=1)
    rows = np.arange(len(vectors))
    shortest, second = lengths[rows, order[:, 0]], lengths[rows, order[:, 1]]
    shifts = np.rint(turns[rows, order[:, 0]] @ steps).astype(int)
    return shifts[:, :dimension], second - shortest <= ALIKE * second


def _check_distinct(groups: np.ndarray, label: str, images: Any) -> None:
    """Raise InputError where an atom is twice in a group, without images that tell it apart."""
    ordered = np.sort(groups, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if twice.size and images is None:
        raise InputError(
            f"{label}: rows {listing(twice)} have an atom twice: give different atoms, or images"
        )


def _values(value: Any, label: str) -> Any:
    array = real_array(value, label)
    if array.ndim > 1:
        raise InputError(f"{label} has shape {array.shape}: give one value, or one for each type")
    return array
