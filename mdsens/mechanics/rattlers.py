"""Atoms without load: rattlers in a packing, and atoms out of reach of all others."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdsens.compilation import compiled
from mdsens.particles.edges import EdgeList, Edges, edge_blocks
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: A contact is loaded if it pushes harder than this many times the force that is left over.
LOAD_FACTOR = 10.0


@compiled
def find_rattlers(
    system: System, potential: Potential, edge_list: EdgeList, fmax: Float[Array, ""]
) -> Bool[Array, " N"]:
    """Find the atoms whose positions the energy does not determine.

    An atom all of whose edges have no energy and no slope is a rattler. Where particles only push
    (`Potential.contact`), so is one that nothing pushes harder than the force that is left over:
    in equilibrium a contact with a load needs another one to balance it, so this is a rattler (C.
    S. O'Hern et al., Phys. Rev. E 68, 011306 (2003), section II C).

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
        loaded = _largest_load(system, potential, edge_list) > LOAD_FACTOR * fmax
    else:
        loaded = _interacting(system, potential, edge_list)
    return ~loaded.reshape(-1)[: system.atom_count] & ~system.fixed


def _largest_load(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, "B C"]:
    def load(edges: Edges) -> Float[Array, " C"]:
        gradients = potential.site_energies_and_gradients(edges)[1]
        squares = sum((g * g for g in gradients), start=jnp.zeros(edges.mask.shape))
        # Half of a pair's energy is the atom's own.
        return 2.0 * jnp.sqrt(jnp.max(squares, axis=0))

    return edge_blocks(
        load, system.positions, system.cell, potential.species_index(system), edge_list
    )


def _interacting(system: System, potential: Potential, edge_list: EdgeList) -> Bool[Array, "B C"]:
    def interacts(edges: Edges) -> Bool[Array, " C"]:
        energies, gradients = potential.site_energies_and_gradients(edges)
        slopes = [jnp.any(g != 0.0, axis=0) for g in gradients]
        return sum(slopes, start=energies != 0.0)

    return edge_blocks(
        interacts, system.positions, system.cell, potential.species_index(system), edge_list
    )
