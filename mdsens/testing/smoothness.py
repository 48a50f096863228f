"""Whether the energy goes on smoothly where a pair of atoms begins to interact."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.mechanics.energy import energy_and_forces
from mdsens.mechanics.hessian import hessian_vector_product
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: How near a kink is approached from both sides, as parts of its distance; a hundredth each time.
APPROACHES = (1e-4, 1e-6, 1e-8)
#: Distances that tell how large the energy and its derivatives are, as parts of the kink's.
SWEEP = np.linspace(0.7, 0.999, 16)
#: Where the third atom is, from the first one along the pair and across it, as parts of the
#: distance. Around a lone pair a density would be zero, where the root of it has no slope.
SPECTATOR = (0.5, 0.55)
#: The third atom where a pair is to be alone.
FAR = (0.0, 10.0)
#: Distances where nothing acts any more, as parts of the range, and how far edges reach beyond it.
BEYOND, SKIN = np.linspace(1.001, 1.3, 24), 0.4


@dataclasses.dataclass(frozen=True)
class Jumps:
    """How much the energy and its first two derivatives along a pair jump at a kink.

    Attributes:
        jumps: of the energy, the force and the second derivative, in their units.
        scales: how large each is where the atoms are nearer than the kink.
        pair: names of the two species, and the distance.
    """

    jumps: Float[np.ndarray, " 3"]
    scales: Float[np.ndarray, " 3"]
    pair: str


def jumps_at_kinks(potential: Potential, like: System) -> list[Jumps]:
    """What jumps at each distance where some derivative may, for each pair of species.

    A pair is moved apart through the distance, with a third atom nearby. Values at three distances
    on either side are extrapolated to it.

    Arguments:
        potential: the potential.
        like: a system with the units, dimensions and, where the potential knows none, species.

    Returns:
        One for each pair of species and each of its kinks.
    """
    count = len(potential.species or like.symbols)
    kinks = np.asarray(potential.kink_distances)
    if kinks.ndim == 1:
        kinks = np.broadcast_to(kinks[:, None, None], (len(kinks), count, count))
    found = []
    for first in range(count):
        for second in range(first, count):
            for kink in np.unique(kinks[:, first, second]):
                found.append(_jumps(potential, like, (first, second), float(kink)))
    return found


def force_beyond_range(potential: Potential, like: System) -> float:
    """The largest force between two lone atoms beyond the range of their potential.

    Arguments:
        potential: the potential.
        like: a system with the units, dimensions and, where the potential knows none, species.

    Returns:
        Of all pairs of species, energy/length.
    """
    count, reach = len(potential.species or like.symbols), float(potential.interaction_range)
    # As many distances as `_jumps` has, so that what is compiled serves both.
    distances = reach * np.resize(BEYOND, 2 * 3 * len(APPROACHES) + len(SWEEP) + 1)
    pairs = [(first, second) for first in range(count) for second in range(first, count)]
    return max(
        float(np.abs(_along_pair(potential, like, pair, reach, FAR, distances)[:, 1]).max())
        for pair in pairs
    )


def _jumps(potential: Potential, like: System, pair: tuple[int, int], kink: float) -> Jumps:
    sides = [kink * (1.0 + side * a * k) for side in (-1, 1) for a in APPROACHES for k in (1, 2, 3)]
    distances = np.array([*sides, *(kink * SWEEP), kink * BEYOND[1]])
    values = _along_pair(potential, like, pair, kink, SPECTATOR, distances)
    # Shape (side, approach, 3, quantity).
    near = values[: len(sides)].reshape(2, len(APPROACHES), 3, 3)
    limits = 3.0 * near[:, :, 0] - 3.0 * near[:, :, 1] + near[:, :, 2]
    swept = values[len(sides) :]
    swept[:, 0] -= swept[-1, 0]
    jumps = np.array([_limit(*quantity) for quantity in (limits[1] - limits[0]).T])
    first, second = ((potential.species or like.symbols)[index] for index in pair)
    return Jumps(jumps, np.abs(swept).max(axis=0), f"{first}-{second} {kink:.6g}")


def _along_pair(
    potential: Potential,
    like: System,
    pair: tuple[int, int],
    length: float,
    third: tuple[float, float],
    distances: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n 3"]:
    """Energy, slope and curvature at some distances of a pair, with a third atom beside it."""
    positions = np.zeros((3, like.dimension))
    positions[1, 0] = length
    positions[2, :2] = length * np.asarray(third)
    names = potential.species or like.symbols
    system = System(positions, None, names, [*pair, pair[0]], units=like.units)
    search = potential.edge_search(system, SKIN * float(potential.interaction_range))
    edge_list = search.find(positions, np.asarray(system.cell), capacity=(2, 0))
    return np.array(_mechanics_along(potential, system, edge_list, jnp.asarray(distances)))


def _limit(far: float, nearer: float, nearest: float) -> float:
    """What is left of a jump at last: nothing of a power of the distance, and all of a real one.

    By Aitken's extrapolation, where the jump falls each time.
    """
    if abs(far) > 2.0 * abs(nearer) > 4.0 * abs(nearest):
        return nearest - (nearest - nearer) ** 2 / (nearest - 2.0 * nearer + far)
    return nearest


@compiled
def _mechanics_along(
    potential: Potential, system: System, edge_list: EdgeList, distances: Float[Array, " n"]
) -> Float[Array, "n 3"]:
    """Energy, slope and curvature as the second atom moves away from the first."""
    away = jnp.zeros_like(system.positions).at[1, 0].set(1.0)

    def at(distance: Float[Array, ""]) -> Float[Array, " 3"]:
        moved = system.with_positions(system.positions.at[1, 0].set(distance))
        energy, forces = energy_and_forces(moved, potential, edge_list)
        product = hessian_vector_product(moved, potential, edge_list, away)
        return jnp.stack([energy, -forces[1, 0], product[1, 0]])

    return jax.lax.map(at, distances)
