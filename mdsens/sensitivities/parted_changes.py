"""Changes of forces with many parameters: on all cores, and several from one pass over edges.

A parameter of pairs A-B changes the forces on atoms of A and B alone, where each pair of atoms has
an energy of its own. Parameters of species that are all different are therefore changed together,
and their changes are told apart by the species of the atoms: of 55 pairs of ten species from a
dozen passes. A. R. Curtis, M. J. D. Powell, J. K. Reid, J. Inst. Math. Appl. 13, 117 (1974).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.implicit.linearisation import SIDE_BY_SIDE, compiled_change
from mdsens.mechanics.enthalpy import Landscape
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.parameters import is_symmetric, parameter_fields
from mdsens.resources import on_all_cores

#: Numbers in all changes below which another program takes longer to compile than it saves.
WORTH_PARTING = 1_000_000


def species_acted_on(landscape: Landscape, names: list[str]) -> dict[str, frozenset[int]] | None:
    """The species whose atoms feel each of some parameters, where these may be changed together.

    Arguments:
        landscape: in which they act.
        names: of parameters.

    Returns:
        Indices of species by name; None where some act on more than the atoms of two species, or
        where there is too little to be saved.
    """
    potential = landscape.potential
    separate = isinstance(potential, PairPotential) and landscape.motion is None
    if not separate or landscape.cell_mode is not None or potential.species is None:
        return None
    if len(names) * landscape.system.positions.size < WORTH_PARTING:
        return None
    pairs = {field.name for field in parameter_fields(potential) if is_symmetric(field)}
    entries = potential._entries()
    found = {}
    for name in names:
        table, place = entries.get(name, (None, ()))
        if table not in pairs or len(place) != 2:
            return None
        found[name] = frozenset(place)
    return found


def apart(species: Sequence[frozenset[int]]) -> list[list[int]]:
    """What acts on some species in groups of which no two act on the same: which is in each."""
    taken: list[set[int]] = []
    groups: list[list[int]] = []
    for index, own in enumerate(species):
        place = next((k for k, others in enumerate(taken) if not others & own), len(taken))
        if place == len(taken):
            taken.append(set())
            groups.append([])
        taken[place] |= own
        groups[place].append(index)
    return groups


def parted_changes(
    condition: Any,
    q: Float[Array, "R D"],
    theta: Any,
    directions: Any,
    species: Sequence[frozenset[int]],
    species_of_rows: Int[np.ndarray, " R"],
) -> Float[np.ndarray, "K R D"]:
    """Changes of a condition along K directions, from those along the sum of each group.

    Arguments:
        condition: F(q, theta).
        q: degrees of freedom, shape (R, D).
        theta: the parameters, a pytree.
        directions: K directions of these, stacked.
        species: indices of those that each direction acts on.
        species_of_rows: shape (R,), index of each atom's species.

    Returns:
        dF/dtheta, shape (K, R, D).
    """

    def changes(summed: Any) -> list[np.ndarray]:
        def change(group: int) -> np.ndarray:
            one = jax.tree.map(lambda leaf: leaf[group], summed)
            return np.asarray(compiled_change(condition, q, (theta,), (one,)))

        return on_all_cores(change, range(len(jax.tree.leaves(summed)[0])))

    return told_apart(changes, directions, species, species_of_rows)


def told_apart(
    changes: Callable[[Any], Any],
    directions: Any,
    species: Sequence[frozenset[int]],
    species_of_rows: Int[np.ndarray, " R"],
) -> Float[np.ndarray, "K R D"]:
    """Changes along K directions, from those along the sums of such as act on other atoms.

    Arguments:
        changes: those along G directions that are stacked, each (R, D).
        directions: K directions, stacked.
        species: indices of those that each direction acts on.
        species_of_rows: shape (R,), index of each atom's species.

    Returns:
        Shape (K, R, D).
    """
    groups = apart(species)
    summed = jax.tree.map(
        lambda leaf: np.stack([leaf[members].sum(axis=0) for members in groups]), directions
    )
    of_groups = changes(summed)
    found = np.zeros((len(species), *of_groups[0].shape))
    for members, change in zip(groups, of_groups, strict=True):
        for one in members:
            rows = np.isin(species_of_rows, list(species[one]))
            found[one, rows] = change[rows]
    return found


def changes_of_many(
    condition: Any, q: Float[Array, "R D"], theta: Any, directions: Any
) -> Float[np.ndarray, "K R D"]:
    """Changes of a condition along K directions, some of them by each core.

    Arguments:
        condition: F(q, theta), computed without calls of anything that must not be called twice
            at a time.
        q: degrees of freedom, shape (R, D).
        theta: the parameters, a pytree.
        directions: K directions of these, stacked.

    Returns:
        dF/dtheta, shape (K, R, D).
    """
    count = len(jax.tree.leaves(directions)[0])

    def change(start: int) -> np.ndarray:
        some = jax.tree.map(lambda leaf: leaf[start : start + SIDE_BY_SIDE], directions)
        return np.asarray(compiled_change(condition, q, (theta,), (some,)))

    return np.concatenate(on_all_cores(change, range(0, count, SIDE_BY_SIDE)))
