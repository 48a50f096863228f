"""Random starts of packings: particles of given diameters anywhere in a periodic box."""

from collections.abc import Mapping

import numpy as np

from mdsens.errors import InputError
from mdsens.particles.system import System
from mdsens.values import choice, distinct_names, instance, integer, real

#: Most particles of a packing; ten times as many do not fit into the memory of one machine.
MOST_PARTICLES = 10_000_000
#: Bounds of diameters, length, and of packing fractions: no packing lies beyond.
SMALLEST_DIAMETER, LARGEST_DIAMETER = 1e-6, 1e6
SMALLEST_FRACTION, LARGEST_FRACTION = 1e-6, 10.0


def random_packing(
    count: int | Mapping[str, int],
    diameters: Mapping[str, float],
    packing_fraction: float,
    dimension: int = 2,
    seed: int = 0,
    units: str = "reduced",
) -> System:
    """Particles at random places of a periodic square or cube, to be relaxed to a packing.

    Arguments:
        count: number of particles, shared equally by the species; a mapping gives that of each.
        diameters: diameter of each species, length; with the packing fraction it sets the box.
        packing_fraction: volume of all particles over that of the box, as if none overlapped.
        dimension: 2 or 3.
        seed: of the random positions.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.

    Returns:
        The System; species in the order of ``diameters``.

    Raises:
        InputError: counts and diameters do not go together, or one is not allowed.
    """
    instance(diameters, "diameters", Mapping, "a mapping of species to diameters")
    names = distinct_names(list(diameters), "diameters")
    sizes = {
        name: real(
            diameters[name], f"diameters.{name}",
            at_least=SMALLEST_DIAMETER, at_most=LARGEST_DIAMETER,
        )
        for name in names
    }  # fmt: skip
    counts = _counts(count, names)
    packing_fraction = real(
        packing_fraction, "packing_fraction", at_least=SMALLEST_FRACTION, at_most=LARGEST_FRACTION
    )
    dimension = integer(dimension, "dimension", at_least=2, at_most=3)
    seed = integer(seed, "seed", at_least=0)
    species = np.repeat(np.arange(len(names)), [counts[name] for name in names])
    each = np.array([sizes[name] for name in names])[species]
    ball = np.pi / 4 if dimension == 2 else np.pi / 6
    length = (ball * np.sum(each**dimension) / packing_fraction) ** (1 / dimension)
    positions = np.random.default_rng(seed).random((len(species), dimension)) * length
    return System(positions, np.eye(dimension) * length, names, species, True, units=units)


def _counts(count: int | Mapping[str, int], names: tuple[str, ...]) -> dict[str, int]:
    """Number of particles of each species."""
    if not isinstance(count, Mapping):
        total = integer(count, "count", at_least=1, at_most=MOST_PARTICLES)
        if total % len(names):
            raise InputError(
                f"count = {total}: cannot be shared equally by the species {', '.join(names)}; "
                f"give a multiple of {len(names)}, or a count of each"
            )
        return dict.fromkeys(names, total // len(names))
    if not count:
        raise InputError(f"count = {{}}: give the number of each of {', '.join(names)}")
    for key, given, allowed in (
        *(("count", name, names) for name in count),
        *(("diameters", name, tuple(count)) for name in names),
    ):
        choice(given, key, allowed)
    counts = {name: integer(count[name], f"count.{name}", at_least=1) for name in names}
    if sum(counts.values()) > MOST_PARTICLES:
        raise InputError(f"count: {sum(counts.values())} particles; allowed are {MOST_PARTICLES:,}")
    return counts
