"""A shell of neighbours inside the smooth switch of a potential: told, once, when it is found."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from mdsens.errors import warn
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.units import unit_name

#: Atoms whose distances are looked at, at most: a few hundred tell what a crystal's shells are.
SAMPLE = 500
#: Width of a shell, of the bins that distances are counted in, and of what is looked at on either
#: side of the switch, as fractions of the cutoff.
SHELL_WIDTH, BIN_WIDTH, SURROUNDINGS = 0.015, 0.005, 0.06
#: Neighbours that make a shell, per atom: a chain has two at each distance.
SHELL_COUNT = 1.5
#: Part of the bins that shells fill at most. Measured: crystals 0.03 to 0.12, glasses 0.6 to 1.
SHARPNESS = 0.2
#: The width of a gap between shells that a switch may fit into, as a fraction of the cutoff.
LEAST_GAP = 0.02

#: Potentials that have been told of, by all but the values of their parameters.
_told: set[Any] = set()


def warn_of_switched_shells(system: System, potential: Potential, edge_list: EdgeList) -> None:
    """Warn, once for each potential and switch, if a shell of a crystal lies inside the switch.

    Neighbours there interact by the switch rather than by the potential: what is computed depends
    on where the switch is, and third derivatives jump as the shell crosses its ends. In a glass, a
    liquid or a packing some pairs always do, and nothing is said.

    Arguments:
        system: the relaxed atoms.
        potential: the potential.
        edge_list: all edges within its range, or a little further.
    """
    switch = potential.switch_interval
    kind = jax.tree.structure(potential)
    if switch is None or kind in _told:
        return
    onsets, cutoffs = (np.asarray(length) for length in switch)
    if cutoffs.ndim == onsets.ndim == 0:
        message = _told_of(system, potential, edge_list, float(onsets), float(cutoffs))
    else:
        species = np.asarray(potential.species_index(system))
        shape = np.broadcast_shapes(onsets.shape, cutoffs.shape)
        onsets, cutoffs = (np.broadcast_to(length, shape) for length in (onsets, cutoffs))
        pairs = [(i, j) for i in range(len(cutoffs)) for j in range(i, len(cutoffs))]
        found = (
            _told_of(system, potential, edge_list, onsets[pair], cutoffs[pair], (species, *pair))
            for pair in pairs
        )
        message = next((one for one in found if one is not None), None)
    if message is not None:
        _told.add(kind)
        warn(message)


def _told_of(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    onset: float,
    cutoff: float,
    pair: tuple[Int[np.ndarray, " N"], int, int] | None = None,
) -> str | None:
    """What is to be told of a switch, of all pairs or those of two species; None: nothing."""
    chosen, whose = np.arange(system.atom_count), ""
    if pair is not None:
        chosen = np.flatnonzero(pair[0] == pair[1])
        names = potential.species or ()
        whose = f" of {names[pair[1]]}-{names[pair[2]]} pairs"
        if chosen.size == 0:
            return None
    chosen = chosen[np.unique(np.linspace(0, chosen.size - 1, SAMPLE).astype(int))]
    distances = distances_of(
        system, edge_list, chosen, None if pair is None else pair[0] == pair[2]
    )
    reach = float(edge_list.reach)
    shell = shell_between(distances, len(chosen), onset, cutoff, reach)
    if shell is None:
        return None
    gap = widest_gap(distances, cutoff, reach)
    choice = "" if gap is None else f", as in onset={gap[0]:.4g}, cutoff={gap[1]:.4g}"
    unit = "" if system.units == "reduced" else f" {unit_name('length', system.units)}"
    return (
        f"a shell of neighbours at {shell:.4g}{unit} lies inside the smooth switch of "
        f"{type(potential).__name__}{whose}, from its onset at {onset:.4g} to its cutoff at "
        f"{cutoff:.4g}: what is computed depends on where the switch is; choose onset and "
        f"cutoff between two shells{choice}"
    )


def distances_of(
    system: System,
    edge_list: EdgeList,
    chosen: np.ndarray,
    others: Bool[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, " E"]:
    """Distances from some atoms to all their neighbours, on the host.

    Arguments:
        system: N atoms.
        edge_list: which edges there are.
        chosen: indices of atoms.
        others: which atoms count as neighbours; None: all do.

    Returns:
        All of them, in rising order, length.
    """
    positions = np.asarray(system.positions)
    images = np.asarray(edge_list.ghost_images) @ np.asarray(system.cell)
    owners = np.asarray(edge_list.ghost_owners)
    extended = np.concatenate([positions, positions[owners] + images])
    size = edge_list.neighbors.shape[2]
    neighbors = np.asarray(edge_list.neighbors)[chosen // size, :, chosen % size]
    there = neighbors < len(extended)
    if others is not None:
        # A slot without an edge leads to the last entry, which is none.
        counted = np.concatenate([others, others[owners], [False]])
        there &= counted[np.minimum(neighbors, len(extended))]
    rows, slots = np.nonzero(there)
    vectors = extended[neighbors[rows, slots]] - positions[chosen[rows]]
    return np.sort(np.linalg.norm(vectors, axis=1))


def shell_between(
    distances: Float[np.ndarray, " E"], count: int, onset: float, cutoff: float, reach: float
) -> float | None:
    """The distance of the fullest shell between an onset and a cutoff, if there is one.

    Arguments:
        distances: from some atoms to all their neighbours, in rising order, length.
        count: number of these atoms.
        onset: where to begin, length.
        cutoff: where to end, length.
        reach: the longest distance there can be among those given, length.

    Returns:
        Its mean distance; None where there is no shell, or distances are spread over all lengths.
    """
    inside = distances[(distances > onset) & (distances < cutoff)]
    ends = np.searchsorted(inside, inside + SHELL_WIDTH * cutoff, side="right")
    sizes = ends - np.arange(len(inside))
    if sizes.max(initial=0) < SHELL_COUNT * count:
        return None
    low = max(onset - SURROUNDINGS * cutoff, 0.0)
    high = min(cutoff * (1.0 + SURROUNDINGS), reach)
    bins = np.histogram(distances, np.arange(low, high, BIN_WIDTH * cutoff))[0]
    # The number of bins that as many distances would fill evenly: all of them in a glass.
    filled = bins.sum() ** 2 / (len(bins) * (bins**2).sum())
    if filled > SHARPNESS:
        return None
    first = int(sizes.argmax())
    return float(inside[first : ends[first]].mean())


def widest_gap(
    distances: Float[np.ndarray, " E"], cutoff: float, reach: float
) -> tuple[float, float] | None:
    """Onset and cutoff of a switch that fits between two shells not far from a cutoff.

    Arguments:
        distances: in rising order, length.
        cutoff: the cutoff that there is, length.
        reach: the longest distance there can be among those given, length.

    Returns:
        Both, a fifth of the gap away from the shells; None where no gap is wide enough.
    """
    near = distances[(distances > 0.75 * cutoff) & (distances < reach)]
    ends = np.concatenate([[0.75 * cutoff], near, [reach]])
    gaps = np.diff(ends)
    below, gap = float(ends[gaps.argmax()]), float(gaps.max())
    return (below + 0.2 * gap, below + 0.8 * gap) if gap > LEAST_GAP * cutoff else None
