"""Atoms without load: rattlers in a packing, and atoms out of reach of all others."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.particles.edges import EdgeList, Edges, edge_blocks
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: A contact is loaded if it pushes harder than this many times the force that is left over.
LOAD_FACTOR = 10.0


def loose_atoms(
    system: System, potential: Potential, edge_list: EdgeList, fmax: float
) -> np.ndarray:
    """Find the atoms whose positions the energy does not determine.

    An atom all of whose edges have no energy and no slope is loose. Where particles only push
    (`Potential.contact`), so is one with fewer than D + 1 loaded contacts, and then one that
    loses its contacts with it, and so on (C. S. O'Hern et al., Phys. Rev. E 68, 011306 (2003),
    section II C).

    Arguments:
        system: the relaxed atoms.
        potential: the potential.
        edge_list: all edges within its range.
        fmax: the largest force left over, energy/length.

    Returns:
        Shape (N,), whether each atom is loose; a fixed atom never is.
    """
    count, fixed = system.atom_count, np.asarray(system.fixed)
    if not potential.contact:
        loaded = np.asarray(_interacting(system, potential, edge_list)).reshape(-1)[:count]
        return ~loaded & ~fixed
    loads = np.asarray(_edge_loads(system, potential, edge_list))
    contacts = loads > LOAD_FACTOR * fmax
    slots = contacts.shape[1]
    owners = np.concatenate([np.arange(count), np.asarray(edge_list.ghost_owners), [0]])
    ends = owners[np.asarray(edge_list.neighbors)].transpose(0, 2, 1).reshape(-1, slots)[:count]
    contacts = contacts.transpose(0, 2, 1).reshape(-1, slots)[:count]
    loose = np.zeros(count, bool)
    while True:
        contacts = contacts & ~loose[ends] & ~loose[:, None]
        now = (contacts.sum(axis=1) < system.dimension + 1) & ~fixed
        if (now == loose).all():
            return loose
        loose = now


@eqx.filter_jit
def _edge_loads(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, "B K C"]:
    def loads(edges: Edges) -> Float[Array, "K C"]:
        gradients = potential.site_energies_and_gradients(edges)[1]
        return 2.0 * jnp.sqrt(sum((g * g for g in gradients), start=jnp.zeros(edges.mask.shape)))

    return edge_blocks(
        loads, system.positions, system.cell, potential.species_index(system), edge_list
    )


@eqx.filter_jit
def _interacting(system: System, potential: Potential, edge_list: EdgeList) -> Bool[Array, "B C"]:
    def interacts(edges: Edges) -> Bool[Array, " C"]:
        energies, gradients = potential.site_energies_and_gradients(edges)
        slopes = [jnp.any(g != 0.0, axis=0) for g in gradients]
        return sum(slopes, start=energies != 0.0)

    return edge_blocks(
        interacts, system.positions, system.cell, potential.species_index(system), edge_list
    )
