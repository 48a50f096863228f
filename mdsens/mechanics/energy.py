"""Energy, forces and virial in one pass over the edges; gathers only."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.particles.edges import EdgeList, Edges, edge_blocks, entries_at, map_blocks
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Slots that forces of pairs take in one pass over the atoms (measured for Lennard-Jones: three
#: quarters of the time; with two at a time half as much again where atoms are no power of two).
SLOTS_TOGETHER = 4


def site_energies(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, " N"]:
    """Energy of each atom.

    Arguments:
        system: N atoms.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (N,), in units of energy.

    Raises:
        InputError: the energy is one of the whole structure.
    """
    require_edges(potential, "an energy of each atom")
    return _energies_along_edges(system, potential, edge_list)


def _energies_along_edges(
    system: System, potential: Potential, edge_list: EdgeList
) -> Float[Array, " N"]:
    species = potential.species_index(system)
    energies = edge_blocks(
        potential.site_energies,
        system.positions, system.cell, species, edge_list,
    )  # fmt: skip
    own = potential.own_energies(species)
    energies = energies.reshape(-1)[: system.atom_count]
    return edge_list.of_present(energies if own is None else energies + own)


def energy(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, ""]:
    """Potential energy of a system, in units of energy: site energies, and what else there is."""
    species, parts = potential.species_index(system), []
    if potential.acts_along_edges:
        parts.append(jnp.sum(_energies_along_edges(system, potential, edge_list)))
    if potential.of_structure:
        here = potential.evaluated_in(system)
        parts.append(here.structure_energy(system.positions, system.cell, species))
    return sum(parts[1:], start=parts[0])


def energy_and_forces(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[Float[Array, ""], Float[Array, "N D"]]:
    """Energy and forces together.

    With g_e the derivative of an atom's site energy with respect to its edge vector R_e, the
    force on the atom is the sum over its edges of g_e minus g of the same edge seen from its other
    end: both are read, and nothing is scattered.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Energy; forces, shape (N, D), energy/length.
    """
    energy, forces, _ = _mechanics(system, potential, edge_list, with_virial=False)
    return energy, forces


def energy_forces_virial(
    system: System, potential: Potential, edge_list: EdgeList
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    """Energy, forces, and the virial dE/d(strain) = sum_e R_e g_e, together.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Energy; forces, shape (N, D), energy/length; virial, shape (D, D), energy.
    """
    return _mechanics(system, potential, edge_list, with_virial=True)


#: The same as one program, which all share that evaluate on the host.
compiled_energy_forces_virial = compiled(heavy=True)(energy_forces_virial)
#: For those who evaluate once, of a structure whose relaxation needs no virial.
compiled_mechanics_once = compiled(heavy=True, seldom=True)(energy_forces_virial)
compiled_energy_and_forces = compiled(heavy=True)(energy_and_forces)
compiled_site_energies = compiled(heavy=True)(site_energies)


def require_edges(potential: Potential, what: str, instead: str = "") -> None:
    """Raise InputError where an energy is one of the whole structure, and no sum over edges.

    Arguments:
        potential: the potential.
        what: that is asked of it, for the message.
        instead: what to do; empty: use another potential.
    """
    if potential.of_structure:
        raise InputError(
            f"{type(potential).__name__} has an energy of the whole structure, and {what} needs "
            f"one along edges: {instead or 'use another potential'}"
        )


def _mechanics(
    system: System, potential: Potential, edge_list: EdgeList, with_virial: bool
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    parts = []
    if potential.acts_along_edges:
        along_edges = _in_two_passes if potential.in_two_passes else _over_blocks
        parts.append(along_edges(system, potential, edge_list, with_virial))
    if potential.of_structure:
        given = system.positions, system.cell, potential.species_index(system)
        parts.append(potential.evaluated_in(system).structure_mechanics(*given))
    return jax.tree.map(lambda *terms: sum(terms[1:], start=terms[0]), *parts)


def _in_two_passes(
    system: System, potential: Potential, edge_list: EdgeList, with_virial: bool
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    """The same of atoms embedded in densities: a sum over slots for these, then one for forces.

    No array of all edges is written, or read from its other end: a third of the time less.
    """
    species, count, dimension = potential.species_index(system), system.atom_count, system.dimension
    given = system.positions, system.cell, species, edge_list
    densities = edge_blocks(potential.site_densities, *given, additive=True)
    density = densities.reshape(-1)[:count]
    embedding, slopes = potential.embedding(density, species)

    def of_slots(edges: Edges, here: Array, there: Array) -> tuple[Any, ...]:
        energies, along = potential.bond_slopes(edges, here, there)
        weights = along / edges.distances
        forces = tuple(weights * component for component in edges.vectors)
        virial = []
        if with_virial:
            # Each edge is seen from both of its ends.
            inside = [jnp.where(edges.mask, component, 0.0) for component in edges.vectors]
            virial = [[0.5 * jnp.sum(r * force, axis=0) for force in forces] for r in inside]
        return 0.5 * jnp.sum(energies, axis=0), tuple(jnp.sum(f, axis=0) for f in forces), virial

    energies, components, virial = edge_blocks(of_slots, *given, additive=True, values=slopes)
    forces = jnp.stack([c.reshape(-1)[:count] for c in components], axis=1)
    strain = jnp.zeros((dimension, dimension))
    if with_virial:
        strain = jnp.stack([jnp.stack([jnp.sum(entry) for entry in row]) for row in virial])
    own = potential.own_energies(species)
    alone = edge_list.of_present(embedding if own is None else embedding + own)
    return jnp.sum(energies) + jnp.sum(alone), forces, strain


def _over_blocks(
    system: System, potential: Potential, edge_list: EdgeList, with_virial: bool
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    whole, components, strain = energy_and_slopes(system, potential, edge_list, with_virial)
    if not potential.pairwise:
        components = tuple(_minus_reverse(component, edge_list) for component in components)
    forces = jnp.stack([c.reshape(-1)[: system.atom_count] for c in components], axis=1)
    return whole, forces, strain


def energy_and_slopes(
    system: System, potential: Potential, edge_list: EdgeList, with_virial: bool
) -> tuple[Float[Array, ""], tuple[Float[Array, "B *K C"], ...], Float[Array, "D D"]]:
    """What atoms tell by their own edges: all of the energy, and what forces are made of.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential, one that acts along edges.
        edge_list: all edges within its range, or a share of them.
        with_virial: whether the virial is wanted.

    Returns:
        Energy; D components of what is summed over edges to forces, energy/length: for pair
        potentials the forces themselves, (B, C), for others the derivatives of each atom's energy
        with respect to its edge vectors, (B, K, C); virial, shape (D, D), energy, zero where it is
        not wanted. Of a share of the edges all but the derivatives is what it adds.
    """
    dimension = system.dimension
    central = potential.pairwise and potential.invariant

    def one_block(edges: Edges) -> tuple[Any, ...]:
        energies, gradients = potential.site_energies_and_gradients(edges)
        virial = []
        if with_virial:
            inside = [jnp.where(edges.mask, component, 0.0) for component in edges.vectors]
            # Of central forces it is symmetric, and half of it is enough.
            virial = [
                [jnp.sum(r * g, axis=0) for g in gradients[row if central else 0 :]]
                for row, r in enumerate(inside)
            ]
        if potential.pairwise:
            # Both ends of an edge see the same pair energy: g of the reverse edge is -g.
            return energies, tuple(2.0 * jnp.sum(g, axis=0) for g in gradients), virial
        return energies, gradients, virial

    energies, gradients, virial = edge_blocks(
        one_block,
        system.positions,
        system.cell,
        potential.species_index(system),
        edge_list,
        additive=potential.pairwise,
        together=SLOTS_TOGETHER,
    )
    strain = jnp.zeros((dimension, dimension))
    if with_virial:
        axes = range(dimension)
        places = [[(min(i, j), abs(i - j)) if central else (i, j) for j in axes] for i in axes]
        strain = jnp.stack(
            [jnp.stack([jnp.sum(virial[row][place]) for row, place in line]) for line in places]
        )
    own = potential.own_energies(potential.species_index(system))
    if edge_list.present is not None:
        energies = edge_list.of_present(energies.reshape(-1)[: system.atom_count])
    whole = jnp.sum(energies)
    if own is not None:
        whole = whole + jnp.sum(edge_list.in_blocks(edge_list.of_present(own)))
    return whole, gradients, strain


#: The same as one program, which each core runs for its share of the edges.
compiled_energy_and_slopes = compiled(heavy=True)(energy_and_slopes)


def _minus_reverse(gradient: Float[Array, "B K C"], edge_list: EdgeList) -> Float[Array, "B C"]:
    """Sum over an atom's edges of g minus g of the reverse edge; a slot without edge cancels."""
    if edge_list.reverse is None:
        raise InputError("the edge list has no reverse edges, which only pair potentials can do "
                         "without: find it with_reverse=True")  # fmt: skip
    flat = gradient.reshape(-1)

    def one_block(block: tuple[Array, Array]) -> Array:
        own, reverse = block
        return jnp.sum(own - entries_at(flat, reverse), axis=0)

    return map_blocks(one_block, gradient, edge_list.reverse)
