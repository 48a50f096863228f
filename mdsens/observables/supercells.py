"""How large a supercell is that has the force constants of the infinite crystal."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdsens.errors import InputError, warn
from mdsens.particles.lattice import heights
from mdsens.relaxation import Equilibrium
from mdsens.values import integer, is_traced, items

#: Cells that a wave is longer or shorter than a supercell by where it fits into it.
FITS = 1e-9


def checked_counts(kind: str, word: str, given: Any) -> int | tuple[int, ...] | None:
    """A number of cells or wave vectors, or one for each direction.

    Arguments:
        kind: the observable that they are for.
        word: what they are called there.
        given: a whole number of at least 1, several, or None.

    Returns:
        The number, or several; None for None.

    Raises:
        InputError: something else.
    """
    if given is None:
        return None
    several = items(given)
    if several is None:
        return integer(given, f"{kind}: {word}", at_least=1)
    return tuple(integer(one, f"{kind}: {word}", at_least=1) for one in several)


def require_large_supercell(
    name: str,
    equilibrium: Equilibrium,
    wave_vector: Float[np.ndarray, " D"],
    supercell: int | tuple[int, ...],
) -> None:
    """Raise InputError where a supercell is too small for the frequencies of a wave.

    Its force constants are sums over the images of its atoms. They are those of the crystal where
    no atom feels two images of another, and where the wave fits into it, all images move alike.

    Arguments:
        name: of the observable.
        equilibrium: the relaxed structure of the cell.
        wave_vector: in the basis of the reciprocal lattice, shape (D,).
        supercell: numbers of cells.
    """
    system = equilibrium.system
    if isinstance(supercell, tuple) and len(supercell) != system.dimension:
        raise InputError(
            f"{name}: supercell has {len(supercell)} numbers: give {system.dimension}, or one"
        )
    counts = np.broadcast_to(supercell, system.dimension)
    repeated = wave_vector * counts
    if (np.abs(repeated - np.round(repeated)) <= FITS).all() or is_traced(system.cell):
        return
    reach, needed = _needed(equilibrium)
    if (counts < needed).any():
        enough = ", ".join(str(number) for number in np.maximum(needed, counts))
        raise InputError(
            f"{name}: the supercell is too small: forces reach {reach:.6g}, and around it some "
            f"atoms feel two images of another; give supercell=({enough}), one that the wave fits "
            "into, or none, as frequencies are those of the infinite crystal without one"
        )


def warn_of_small_supercell(name: str, equilibrium: Equilibrium, counts: tuple[int, ...]) -> None:
    """Warn where the force constants of a supercell are not those of the crystal, with the size.

    Arguments:
        name: of what is made of them.
        equilibrium: the relaxed structure of the cell.
        counts: numbers of cells.
    """
    reach, needed = _needed(equilibrium)
    if (np.array(counts) < needed).any():
        enough = ", ".join(str(number) for number in np.maximum(needed, counts))
        warn(
            f"{name}: forces reach {reach:.6g}, and in a supercell of {counts} some atoms feel two "
            "images of another: frequencies are those of the crystal only at waves that fit into "
            f"it; give supercell=({enough}) for all others too"
        )


def _needed(equilibrium: Equilibrium) -> tuple[float, Int[np.ndarray, " D"]]:
    """How far forces reach, and the numbers of cells with which no atom feels two images."""
    system, potential = equilibrium.system, equilibrium.potential
    # Of atoms with a common neighbour too, where energies are not those of pairs.
    reach = float(potential.interaction_range) * (1.0 if potential.pairwise else 2.0)
    needed = np.ones(system.dimension, int)
    between_planes = heights(np.asarray(system.cell), system.pbc)
    needed[list(system.pbc)] = np.floor(2.0 * reach / between_planes).astype(int) + 1
    return reach, needed
