"""Energy, forces and virial in one pass over the edges; gathers only."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.particles.edges import EdgeList, Edges, edge_blocks
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential


def site_energies(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, " N"]:
    """Energy of each atom.

    Arguments:
        system: N atoms.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (N,), in units of energy.
    """
    species = potential.species_index(system)
    energies = edge_blocks(
        lambda edges, _: potential.site_energies(edges),
        system.positions, system.cell, species, edge_list,
    )  # fmt: skip
    return energies.reshape(-1)[: system.atom_count]


def energy(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, ""]:
    """Potential energy of a system, in units of energy: the sum of its site energies."""
    return jnp.sum(site_energies(system, potential, edge_list))


def energy_forces_virial(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    """Energy, forces and virial together.

    With g_e the derivative of an atom's site energy with respect to its edge vector R_e, the
    force on the atom is the sum over its edges of g_e minus g of the same edge seen from its other
    end, and the virial is sum_e R_e g_e: both read, and never scatter.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Energy; forces, shape (N, D), energy/length; virial dE/d(strain), shape (D, D), energy.
    """
    species = potential.species_index(system)

    def one_block(edges: Edges, _: None) -> tuple[Array, ...]:
        energies, gradient = potential.site_energies_and_gradients(edges)
        virial = jnp.einsum("akc,bkc->ab", jnp.where(edges.mask, edges.vectors, 0.0), gradient)
        # Both ends of an edge see the same pair energy: g of the reverse edge is -g.
        own = 2.0 * jnp.sum(gradient, axis=1) if potential.pairwise else gradient
        return jnp.sum(energies), own, virial

    totals, gradients, virials = edge_blocks(
        one_block, system.positions, system.cell, species, edge_list
    )
    if potential.pairwise:
        forces = gradients
    else:
        blocks, dimension = gradients.shape[:2]
        by_component = gradients.transpose(1, 0, 2, 3).reshape(dimension, -1)

        def one_reverse(block: tuple[Array, Array]) -> Array:
            reverse, gradient = block
            other = by_component.at[:, reverse].get(mode="promise_in_bounds")
            # A slot without an edge is its own reverse, and cancels.
            return jnp.sum(gradient - other, axis=1)

        if blocks == 1:
            forces = one_reverse((edge_list.reverse[0], gradients[0]))[None]
        else:
            forces = jax.lax.map(one_reverse, (edge_list.reverse, gradients))
    by_atom = forces.transpose(0, 2, 1).reshape(-1, system.dimension)[: system.atom_count]
    return jnp.sum(totals), by_atom, jnp.sum(virials, axis=0)
