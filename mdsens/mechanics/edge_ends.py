"""The atoms at both ends of the edges, as the rows and columns of a matrix need them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdsens.compilation import compiled
from mdsens.modules import Module
from mdsens.particles.edges import (
    EdgeList,
    Sites,
    extended_positions,
)
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential


class EdgeEnds(Module):
    """Where edges begin and lead to, and the index of the atom that each end belongs to."""

    extended: Sites
    sites: Sites
    owners: Int[Array, " E"]
    free: Bool[Array, " E"]


@compiled(seldom=True)
def edge_ends(
    system: System, potential: Potential, edge_list: EdgeList, free: Bool[Array, " N"]
) -> EdgeEnds:
    """The ends of a list's edges, which of their atoms are free, and which atom each one is.

    Arguments:
        system: N atoms.
        potential: the potential, which knows the species.
        edge_list: which edges there are.
        free: shape (N,), atoms that may move.

    Returns:
        The E = N + G + 1 ends: atoms, ghosts, and that of slots without an edge, whose owner is N.
    """
    count = system.atom_count
    extended, sites = extended_positions(
        system.positions, system.cell, potential.species_index(system), edge_list
    )
    nothing = jnp.full(1, count, jnp.int32)
    owners = jnp.concatenate([jnp.arange(count, dtype=jnp.int32), edge_list.ghost_owners, nothing])
    free = jnp.concatenate([free, free[edge_list.ghost_owners], jnp.zeros(1, bool)])
    return EdgeEnds(extended, sites, owners, free)


def atoms_of_block(
    geometry: EdgeEnds, block: Int[Array, ""], size: int
) -> tuple[Int[Array, " C"], Bool[Array, " C"]]:
    """Indices of a block's atoms, N for those that only fill it up, and whether each may move."""
    count = geometry.owners[-1]
    own = jnp.minimum(block.astype(jnp.int32) * size + jnp.arange(size, dtype=jnp.int32), count)
    return own, (own < count) & geometry.free[jnp.minimum(own, geometry.free.size - 1)]
