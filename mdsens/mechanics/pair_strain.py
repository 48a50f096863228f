"""How forces and virial of pairs change with any strain: all strains in one pass over the edges."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.mechanics.enthalpy import Landscape
from mdsens.particles.edges import EdgeList, edges_between, extended_positions, map_blocks
from mdsens.particles.system import System
from mdsens.potentials.pair import PairPotential

#: Atoms from which on this saves more than the program costs that the compiler has to make.
WORTH_COMPILING = 1000
#: Slots of which all is stored before it is summed up.
TOGETHER = 8


class PairStrain(NamedTuple):
    """Forces and virial of pairs, and their derivatives in a strain S: all edges R become R + R S.

    Attributes:
        forces: shape (N, D), energy/length.
        virial: shape (D, D), energy.
        forces_in_strain: of component a of each force in S_bc, shape (N, D, D, D), energy/length.
        virial_in_strain: of component ab in S_cd, shape (D, D, D, D), energy.
    """

    forces: Float[Array, "N D"]
    virial: Float[Array, "D D"]
    forces_in_strain: Float[Array, "N D D D"]
    virial_in_strain: Float[Array, "D D D D"]


def pair_strain(system: System, potential: PairPotential, edge_list: EdgeList) -> PairStrain:
    """Forces and virial of pairs, and their derivatives in a strain.

    With K_ab = radial R_a R_b + transverse delta_ab the second derivatives of each edge's energy,
    radial = (phi'' - phi'/r) / r^2 and transverse = phi'/r, all are sums of these two times
    products of R's components, of which each is computed once.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within its range.

    Returns:
        The PairStrain.
    """
    count, dimension = system.positions.shape
    extended, sites = extended_positions(
        system.positions, system.cell, potential.species_index(system), edge_list
    )

    def one_block(block: tuple[Any, ...]) -> tuple[Any, ...]:
        neighbors, atoms = block

        def one_slot(end: Array) -> tuple[Array, ...]:
            edges = edges_between(extended, end[None], atoms)
            slope, curvature = potential.slopes_and_curvatures(edges)
            r = jnp.where(edges.mask, edges.distances, 1.0)
            transverse = slope / r
            radial = (curvature - transverse) / (r * r)
            vectors = [jnp.where(edges.mask, component, 0.0)[0] for component in edges.vectors]
            return radial[0], transverse[0], *vectors

        def some_slots(total: Any, ends: Array) -> tuple[Any, None]:
            # One slot at a time, and stored: the sums then share what is expensive.
            radial, transverse, *vectors = jax.lax.map(one_slot, ends)

            def sums(weight: Array, order: int, axis: int | None) -> list[Array]:
                products = (
                    functools.reduce(jnp.multiply, [vectors[axis] for axis in axes], weight)
                    for axes in _axes(dimension, order)
                )
                return [jnp.sum(product, axis=axis) for product in products]

            found = (
                sums(transverse, 1, 0), sums(radial, 3, 0),
                sums(transverse, 2, None), sums(radial, 4, None),
            )  # fmt: skip
            return jax.tree.map(jnp.add, total, found), None

        # As few as stay near the processor; what fills up the last ones leads nowhere.
        filling = [(0, -len(neighbors) % TOGETHER), (0, 0)]
        blank = extended.positions.shape[1] - 1
        groups = jnp.pad(neighbors, filling, constant_values=blank)
        groups = groups.reshape(-1, TOGETHER, neighbors.shape[1])
        of_atoms, numbers = jnp.zeros(neighbors.shape[1]), jnp.zeros(())
        zeros = tuple(
            [zero for _ in _axes(dimension, order)]
            for order, zero in ((1, of_atoms), (3, of_atoms), (2, numbers), (4, numbers))
        )
        return jax.lax.scan(some_slots, zeros, groups)[0]

    found = map_blocks(one_block, edge_list.neighbors, sites)
    first, third = (
        _tensor([part.reshape(-1)[:count] for part in parts], dimension, order)
        for parts, order in zip(found[:2], (1, 3), strict=True)
    )
    second, fourth = (
        _tensor([jnp.sum(part) for part in parts], dimension, order)
        for parts, order in zip(found[2:], (2, 4), strict=True)
    )
    identity = jnp.eye(dimension)
    virial = second / 2
    # Of V_ab in S_cd: half of R_a K_bd R_c, and what the longer R_a adds.
    virial_in_strain = (
        fourth / 2
        + jnp.einsum("ac,bd->abcd", second, identity) / 2
        + jnp.einsum("ad,cb->abcd", identity, virial)
    )
    forces_in_strain = third + jnp.einsum("ac,nb->nabc", identity, first)
    return PairStrain(first, virial, forces_in_strain, virial_in_strain)


def _axes(dimension: int, order: int) -> list[tuple[int, ...]]:
    """The components of a symmetric tensor that differ."""
    return list(itertools.combinations_with_replacement(range(dimension), order))


def _tensor(components: list[Array], dimension: int, order: int) -> Array:
    """The symmetric tensor with these components; of each atom where they are arrays of them."""
    places = {axes: place for place, axes in enumerate(_axes(dimension, order))}
    every = itertools.product(range(dimension), repeat=order)
    chosen = np.array([places[tuple(sorted(axes))] for axes in every])
    stacked = jnp.stack(components, axis=-1)[..., chosen]
    return stacked.reshape(*stacked.shape[:-1], *(order * (dimension,)))


def has_pair_strain(landscape: Landscape) -> bool:
    """Whether `cell_columns_of_pairs` is for a landscape, and worth it."""
    whole = landscape.potential.of_structure
    many = landscape.system.atom_count >= WORTH_COMPILING
    return isinstance(landscape.potential, PairPotential) and not whole and many


@compiled(heavy=True)
def cell_columns_of_pairs(
    landscape: Landscape, q: Float[Array, "R D"], strains: Float[Array, "U D D"]
) -> Float[Array, "U R D"]:
    """Derivatives of a landscape's condition along coordinates of its cell; of pairs alone.

    Arguments:
        landscape: the landscape, whose cell relaxes.
        q: degrees of freedom, shape (R, D).
        strains: directions of the coordinates eta, shape (U, D, D).

    Returns:
        Changes of the condition along each, shape (U, R, D), energy/length.
    """
    count, system = landscape.system.atom_count, landscape.system_at(q)
    assert isinstance(landscape.potential, PairPotential)
    found = pair_strain(system, landscape.potential, landscape.edge_list)

    def gradient(eta: Any, forces: Any, virial: Any) -> Float[Array, "R D"]:
        moved = jnp.concatenate([q[:count], eta])
        here = landscape.system_at(moved)
        return landscape.gradient_of_mechanics(moved, here, forces, virial)

    here = q[count:], found.forces, found.virial
    deformation = landscape.deformation(q)

    def along(direction: Float[Array, "D D"]) -> Float[Array, "R D"]:
        change: Callable[..., Any] = landscape.relaxing_cell.deformation  # type: ignore[union-attr]
        stretch = jax.jvp(change, (q[count:],), (direction,))[1]
        strain = jnp.linalg.solve(deformation, stretch)
        tangents = (
            direction,
            jnp.tensordot(found.forces_in_strain, strain, 2),
            jnp.tensordot(found.virial_in_strain, strain, 2),
        )
        return jax.jvp(gradient, here, tangents)[1]

    return jax.vmap(along)(strains)
