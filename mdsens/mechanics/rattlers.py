"""Atoms without load: rattlers in a packing, and atoms out of reach of all others."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.mechanics.shared_energy import mechanics_on_host, on_shares, shares_of_cores
from mdsens.particles.edges import EdgeList, Edges, edge_blocks
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential, looked_up

#: A contact is loaded if it pushes harder than this many times the force that is left over.
LOAD_FACTOR = 10.0
#: Overlaps, as parts of the distance at which a pair touches, beyond which a packing has a load of
#: its own, and the part of the largest load that is one too, however much force is left over.
OVERLAP, PART_OF_LARGEST = 1e-3, 0.01
#: How far atoms are moved to see whether they feel anything, as a part of the potential's range,
#: and the part of the typical force that they feel then: less is that of an edge that only just
#: comes in range.
LITTLE, PART_OF_TYPICAL = 1e-6, 1e-3


@compiled(seldom=True)
def find_rattlers(
    system: System, potential: Potential, edge_list: EdgeList, fmax: Float[Array, ""]
) -> Bool[Array, " N"]:
    """Find the atoms whose positions the energy does not determine.

    An atom all of whose edges have no energy and no slope is a rattler. Where particles only push
    (`Potential.contact`), so is one that nothing pushes harder than the force that is left over:
    in equilibrium a contact with a load needs another one to balance it, so this is a rattler (C.
    S. O'Hern et al., Phys. Rev. E 68, 011306 (2003), section II C). Where as much is left over as
    contacts push, that tells nothing, and all that carry a load in a packing are counted in.

    Arguments:
        system: the relaxed atoms.
        potential: the potential.
        edge_list: all edges within its range.
        fmax: the largest force left over, energy/length.

    Returns:
        Shape (N,), whether each atom is a rattler; a fixed atom never is, nor any atom of an energy
        of the whole structure, which may know of all.
    """
    if potential.of_structure:
        return jnp.zeros(system.atom_count, bool)
    if potential.contact:
        loads, overlaps = _largest_loads(system, potential, edge_list)
        small = LOAD_FACTOR * fmax
        of_packing = jnp.minimum(small, PART_OF_LARGEST * jnp.max(loads))
        loaded = loads > jnp.where(jnp.max(overlaps) > OVERLAP, of_packing, small)
    else:
        loaded = _interacting(system, potential, edge_list)
    return ~loaded.reshape(-1)[: system.atom_count] & ~system.fixed


def rattlers_on_host(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    fmax: Float[Array, ""],
    gradient: Float[Any, "R D"] | None = None,
) -> Bool[Array, " N"]:
    """`find_rattlers` outside of what JAX traces, of large systems by all cores.

    An atom on which any force acts has an edge with a slope. Where all are such, as in nearly every
    structure that was relaxed from one without symmetry, or would be if all moved a little, as in a
    crystal, no edge is looked at.

    Arguments:
        system: the relaxed atoms.
        potential: the potential.
        edge_list: all edges within its range.
        fmax: the largest force left over, energy/length.
        gradient: shape (R, D), that of the enthalpy there, energy/length; None: it is not known.

    Returns:
        Shape (N,), whether each atom is a rattler.
    """
    nowhere, fixed = on_device(np.zeros(system.atom_count, bool)), np.asarray(system.fixed)
    if potential.of_structure:
        return nowhere
    if not potential.contact:
        if gradient is not None:
            acted_on = np.asarray(gradient)[: system.atom_count].any(axis=1)
            if (acted_on | fixed).all():
                return nowhere
        if (_pulled_back(system, potential, edge_list) | fixed).all():
            return nowhere
    shares = shares_of_cores(potential, edge_list)
    if not shares or potential.contact:
        return find_rattlers(system, potential, edge_list, fmax)
    found = on_shares(_compiled_interacting, system, potential, shares)
    loaded = found(system.positions, lambda _, loaded: loaded.reshape(-1))
    none = ~np.concatenate(loaded)[: system.atom_count]
    return on_device(none & ~fixed)


def _pulled_back(
    system: System, potential: Potential, edge_list: EdgeList
) -> Bool[np.ndarray, " N"]:
    """Whether each atom feels a force where all are moved a little, of the size of most others.

    The program that evaluates everything else tells, where forces cancel by symmetry.
    """
    positions = np.asarray(system.positions)
    moves = np.random.default_rng(0).normal(size=positions.shape)
    moved = positions + LITTLE * float(potential.interaction_range) * moves
    _, forces, _ = mechanics_on_host(system, potential, edge_list, with_virial=True)(moved)
    sizes = np.sqrt((forces**2).sum(axis=1))
    return sizes > PART_OF_TYPICAL * np.median(sizes)


def _largest_loads(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """How hard each atom is pushed at most, and the largest of its relative overlaps."""
    ranges = potential.pair_ranges

    def load(edges: Edges) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        gradients = potential.site_energies_and_gradients(edges)[1]
        squares = sum((g * g for g in gradients), start=jnp.zeros(edges.mask.shape))
        touching = jnp.asarray(potential.interaction_range)
        if ranges is not None:
            touching = looked_up(ranges, edges.species[None], edges.neighbor_species)
        overlaps = jnp.where(edges.mask, 1.0 - edges.distances / touching, 0.0)
        # Half of a pair's energy is the atom's own.
        return 2.0 * jnp.sqrt(jnp.max(squares, axis=0)), jnp.max(overlaps, axis=0)

    return edge_blocks(
        load, system.positions, system.cell, potential.species_index(system), edge_list
    )


def _interacting(system: System, potential: Potential, edge_list: EdgeList) -> Bool[Array, "B C"]:
    def interacts(edges: Edges) -> Bool[Array, " C"]:
        energies, gradients = potential.site_energies_and_gradients(edges)
        slopes = sum((g != 0.0 for g in gradients), start=jnp.zeros(edges.mask.shape, bool))
        return jnp.any(slopes, axis=0) | (energies != 0.0)

    return edge_blocks(
        interacts, system.positions, system.cell, potential.species_index(system), edge_list
    )


_compiled_interacting = compiled(heavy=True)(_interacting)
