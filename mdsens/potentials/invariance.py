"""Whether an energy is the same where the whole structure is moved or turned: found by numbers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.compilation import compiled
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Change of the energy that is rounding, beside its size and what it is made of.
ROUNDING = 1e-9
#: How far atoms are displaced, as a fraction of the usual distance between them, so that no
#: symmetry hides anything; and what the structure moves by, in that distance.
DISPLACED, MOVED = 0.03, (0.37, -0.23, 0.31)
#: The axis that a structure in space turns about, and the angle.
AXIS, ANGLE = (0.36, 0.48, 0.8), 0.7


@compiled
def _energy(
    potential: Potential,
    positions: Float[Array, "N D"],
    cell: Float[Array, "D D"],
    species: Int[Array, " N"],
) -> Float[Array, ""]:
    return potential.structure_energy(positions, cell, species)


def energy_at_rest(potential: Potential, system: System) -> float:
    """The energy of a structure as it is, of a potential that is `of_structure`.

    Arguments:
        potential: the potential.
        system: N atoms, which JAX does not trace.

    Returns:
        The number.
    """
    species = potential.species_index(system)
    return float(_energy(potential, system.positions, system.cell, species))


class Changes(NamedTuple):
    """How an energy changes as the whole structure moves and turns, in words; None: it does not."""

    moved: str | None
    turned: str | None


def changes_as_a_whole(potential: Potential, system: System) -> Changes:
    """How an energy changes as the structure moves, and as it turns.

    Each atom is displaced a little before, so that no symmetry hides a change; the energy of that
    displacement is what a change is held against.

    Arguments:
        potential: the potential, one that is `of_structure`.
        system: N atoms, which JAX does not trace.

    Returns:
        The Changes, each told apart from the other.
    """
    dimension, species = system.dimension, potential.species_index(system)
    here, cell = np.asarray(system.positions), np.asarray(system.cell)
    length = _usual_distance(here)
    shaken = DISPLACED * length * np.random.default_rng(0).normal(size=here.shape)
    turn = _rotation(dimension)

    def at(positions: np.ndarray, cell: np.ndarray) -> float:
        found = _energy(potential, jnp.asarray(positions), jnp.asarray(cell), species)
        return float(found)

    start, still = at(here + shaken, cell), at(here, cell)
    moved = at(here + shaken + length * np.asarray(MOVED[:dimension]), cell)
    turned = at((here + shaken) @ turn, cell @ turn)
    allowed = ROUNDING * (abs(start) + abs(still) + abs(start - still))

    def told(value: float, what: str) -> str | None:
        if abs(value - start) <= allowed:
            return None
        return (
            f"the energy of the structure goes from {start:.10g} to {value:.10g} as the whole is "
            f"{what}"
        )

    return Changes(told(moved, "moved"), told(turned, "turned with its cell"))


def _usual_distance(positions: Float[np.ndarray, "N D"]) -> float:
    """About the distance between atoms: of a few to the nearest."""
    few = positions[:64]
    squares = np.sum((few[:, None] - positions[None]) ** 2, axis=-1)
    squares = squares[squares > 0.0]
    return float(np.sqrt(squares.min())) if squares.size else 1.0


def _rotation(dimension: int) -> Float[np.ndarray, "D D"]:
    """One about a direction that no lattice has."""
    cosine, sine = np.cos(ANGLE), np.sin(ANGLE)
    if dimension == 2:
        return np.array([[cosine, sine], [-sine, cosine]])
    x, y, z = AXIS
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + sine * cross + (1.0 - cosine) * (cross @ cross)
