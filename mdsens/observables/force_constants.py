"""Force constants: how the force on one atom follows another."""

import functools
import math
from typing import Any, SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.mechanics.dynamical_matrix import force_constants_between
from mdsens.observables.observable import Observable, name_of
from mdsens.observables.waves import mesh_of_wave_vectors
from mdsens.relaxation import Equilibrium
from mdsens.values import integer, is_traced, items, shown

#: Wave vectors whose sum gives those of one image, at most.
MOST_WAVES = 100_000


def force_constants(i: SupportsIndex, j: SupportsIndex, image: Any = None) -> Observable:
    """Second derivatives d2E / dx_i dx_j of the energy in the positions of two atoms.

    Minus how the force on atom i changes as atom j moves; all other atoms stay, also those that
    would follow. Those of one image are of the infinite crystal, exactly: sums over as many waves
    as tell all images apart that the potential couples (M. Born, K. Huang, Dynamical Theory of
    Crystal Lattices (1954), section 24).

    Arguments:
        i: index of one atom; a negative one counts from the last.
        j: index of the other, which may be the same.
        image: of atom j, D whole numbers: how many lattice vectors it is away from the cell of atom
            i, with the positions as they are. None: all images of atom j move alike, as those of a
            supercell with periodic boundaries, whose force constants phonopy has.

    Returns:
        The Observable: (D, D), energy/length^2; rows are components of i, columns those of j.

    Raises:
        InputError: no whole numbers; and when it is evaluated: there is no such atom, an image
            along a direction that is not periodic or of a cell that is so small that too many are
            coupled, or an energy of the whole structure.
    """
    atoms = integer(i, "force_constants: i"), integer(j, "force_constants: j")
    if image is None:
        return _force_constants(*atoms, None)
    several = items(image)
    if several is None:
        raise InputError(
            f"force_constants: image = {shown(image)}: give whole numbers, as in (0, 0, 1)"
        )
    return _force_constants(*atoms, tuple(integer(n, "force_constants: image") for n in several))


@functools.cache
def _force_constants(i: int, j: int, image: tuple[int, ...] | None) -> Observable:
    name = name_of("force_constants", i, j, image)

    def waves(equilibrium: Equilibrium) -> tuple[Array, Array]:
        """Wave vectors, and the factors of what each adds: constants, whatever is traced."""
        if image is None:
            return jnp.zeros((1, equilibrium.system.dimension)), jnp.ones(1, complex)
        vectors, weights = mesh_of_wave_vectors(_counts(name, equilibrium, image))
        factors = weights * np.exp(-2j * np.pi * vectors @ np.array(image))
        return on_device(vectors), on_device(factors)

    def value(equilibrium: Equilibrium, held: tuple[Array, Array]) -> Float[Array, "D D"]:
        system, potential = equilibrium.system, equilibrium.potential
        atoms = on_device(np.array([i, j]) % system.atom_count)
        return force_constants_between(system, potential, equilibrium.edge_list, *held, atoms)

    def require(equilibrium: Equilibrium) -> None:
        system = equilibrium.system
        count, dimension = system.positions.shape
        for index in (i, j):
            if not -count <= index < count:
                raise InputError(f"{name}: there is no atom {index}; allowed are 0 to {count - 1}")
        if image is None:
            return
        if len(image) != dimension:
            raise InputError(
                f"{name}: image has {len(image)} numbers: give {dimension}, one for each direction"
            )
        for axis, (along, periodic) in enumerate(zip(image, system.pbc, strict=True)):
            if along and not periodic:
                raise InputError(
                    f"{name}: image is {along} in direction {axis}, which is not periodic: give 0 "
                    "there"
                )
        if not is_traced(equilibrium.edge_list):
            _counts(name, equilibrium, image)

    return Observable(name, "energy/length^2", value, stationary=waves, require=require)


def _counts(name: str, equilibrium: Equilibrium, image: tuple[int, ...]) -> tuple[int, ...]:
    """Waves along each direction that tell apart all images that are coupled, and the one asked."""
    images = equilibrium.edge_list.ghost_images
    if is_traced(images):
        raise InputError(
            f"{name}: how many images are coupled is known outside jit and vmap: ask for it there, "
            "or without an image"
        )
    # Two neighbours of one atom are coupled, unless there are pairs alone.
    reach = np.abs(np.asarray(images)).max(axis=0, initial=0).astype(int)
    reach = reach if equilibrium.potential.pairwise else 2 * reach
    counts = reach + np.maximum(reach, np.abs(image)) + 1
    if math.prod(counts.tolist()) > MOST_WAVES:
        raise InputError(
            f"{name}: {math.prod(counts.tolist())} images may be coupled, and up to {MOST_WAVES} "
            "are told apart: take a larger cell, or a nearer image"
        )
    return tuple(counts.tolist())
