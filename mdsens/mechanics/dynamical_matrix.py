"""The dynamical matrix of an infinite crystal, exactly: from the edges of one cell alone.

A wave with the wave vector q displaces the image of atom j that is n lattice vectors away by
u_j exp(2 pi i q.n), with q in the basis of the reciprocal lattice. Along it an edge changes by
d = u_neighbor exp(2 pi i q.n) - u_own, and the energy of a cell to second order by half of
u^+ H(q) u = sum over atoms i of d^+ (d2E_i/dR dR) d, since the energy E_i of an atom is a function
of its own edges alone. All images within the potential's range are edges: no supercell is needed,
and nothing is left out.

Where others (phonopy is one) take the phase exp(2 pi i q.(n + s_j - s_i)), with the fractional
positions s, the amplitudes u_j differ by the phases exp(2 pi i q.s_j), and frequencies are the
same. These phases depend on no position: derivatives of H(q) are those of the energy alone.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.mechanics.energy import require_edges
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    edges_between,
    extended_positions,
    map_blocks,
)
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced

#: Columns of Hessians in waves that one call of a program computes where they are few atoms':
#: milliseconds, even where one wave is asked for.
COLUMNS = 128
#: Numbers in an array over the edges of all waves that are taken at a time: 32 MiB.
AT_A_TIME = 2**22


def products_with_waves(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "W D"],
    waves: Complex[Array, "W N D"],
) -> Complex[Array, "W N D"]:
    """Products H(q) u of second derivatives of the energy with waves; gathers only.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        wave_vectors: shape (W, D), q of each wave in the basis of the reciprocal lattice; 0 in
            directions that are not periodic.
        waves: shape (W, N, D), the displacements u of the atoms of one cell, length.

    Returns:
        Shape (W, N, D), energy/length.

    Raises:
        InputError: the edge list has no reverse edges, and the potential needs them.
    """
    parts = []
    if potential.acts_along_edges:
        parts.append(_along_edges(system, potential, edge_list, wave_vectors, waves))
    if potential.of_structure:
        parts.append(_of_structure(system, potential, wave_vectors, waves))
    return sum(parts[1:], start=parts[0])


def require_known_waves(potential: Potential, wave_vectors: Float[np.ndarray, "Q D"]) -> None:
    """Raise InputError where an energy of the whole structure is asked for waves in its images.

    It knows of all images together, which move alike where the wave vector is zero.

    Arguments:
        potential: the potential.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
    """
    if np.any(wave_vectors != np.round(wave_vectors)):
        require_edges(
            potential,
            "a wave of an infinite crystal",
            "use q = 0 of a supercell, whose vibrations are those of more wave vectors",
        )


def _of_structure(
    system: System,
    potential: Potential,
    wave_vectors: Float[Array, "W D"],
    waves: Complex[Array, "W N D"],
) -> Complex[Array, "W N D"]:
    """The products of an energy of the whole structure; NaN where images do not move alike."""
    species = potential.species_index(system)

    def gradient(positions: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return -potential.structure_mechanics(positions, system.cell, species)[1]

    def product(change: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return jax.jvp(gradient, (system.positions,), (change,))[1]

    def one_wave(wave: tuple[Array, Array]) -> Complex[Array, "N D"]:
        wave_vector, displacements = wave
        alike = jnp.all(wave_vector == jnp.round(wave_vector))
        parts = [product(part) for part in (displacements.real, displacements.imag)]
        return jnp.where(alike, jax.lax.complex(*parts), jnp.nan)

    return jax.lax.map(one_wave, (wave_vectors, waves))


def _along_edges(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "W D"],
    waves: Complex[Array, "W N D"],
) -> Complex[Array, "W N D"]:
    """The products of what acts along edges."""
    neighbors, reverse = edge_list.neighbors, edge_list.reverse
    if reverse is None and not potential.pairwise:
        raise InputError("the edge list has no reverse edges, which only pair potentials can do "
                         "without: find it with_reverse=True")  # fmt: skip
    (blocks, _, size), dimension = neighbors.shape, system.dimension
    count, filling = system.atom_count, blocks * size - system.atom_count
    response = _response(system, potential, edge_list)
    changes = dimension * neighbors.shape[1]
    if (
        not potential.pairwise
        and 2 * len(waves) > changes
        and (changes * dimension * neighbors.size <= AT_A_TIME)
    ):
        response = _by_blocks(response, dimension, neighbors.shape)

    def one_wave(wave: tuple[Array, Array]) -> Complex[Array, "N D"]:
        wave_vector, displacements = wave
        angles = 2.0 * jnp.pi * (edge_list.ghost_images @ wave_vector)
        phases = jax.lax.complex(jnp.cos(angles), jnp.sin(angles))
        own = displacements.T
        nothing = jnp.zeros((dimension, 1), own.dtype)
        ends = jnp.concatenate([own, own[:, edge_list.ghost_owners] * phases[None], nothing], 1)
        begins = jnp.pad(own, ((0, 0), (0, filling))).reshape(dimension, blocks, 1, size)
        changes = [_at(ends[axis], neighbors) - begins[axis] for axis in range(dimension)]
        real, imaginary = jnp.real(jnp.stack(changes)), jnp.imag(jnp.stack(changes))
        parts = jax.vmap(response)(jnp.stack([real, imaginary]))
        here = jax.lax.complex(parts[0], parts[1])
        if potential.pairwise or reverse is None:
            # Both ends of an edge see the same pair energy: what moves one moves back the other.
            gradients = [-2.0 * jnp.sum(component, axis=1) for component in here]
        else:
            # The same edge seen from its other end, which is an image there.
            ones = jnp.ones(count + 1, phases.dtype)
            turned = _at(jnp.concatenate([ones[:-1], phases, ones[-1:]]), neighbors)
            gradients = [
                jnp.sum(turned * _at(component.reshape(-1), reverse) - component, axis=1)
                for component in here
            ]
        return jnp.stack([gradient.reshape(-1)[:count] for gradient in gradients], axis=1)

    some = max(1, AT_A_TIME // (2 * dimension * neighbors.size))
    return _some_at_a_time(one_wave, (wave_vectors, waves), some)


@compiled(heavy=True)
def wave_hessians(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "Q D"],
) -> Complex[Array, "Q ND ND"]:
    """The matrices H(q) of second derivatives of a cell's energy in waves.

    Divided by the roots of the masses of rows and columns they are dynamical matrices, whose
    eigenvalues are squares of angular frequencies.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice; 0 in directions that are
            not periodic.

    Returns:
        Shape (Q, N D, N D), index D i + a, energy/length^2; Hermitian to rounding.
    """
    count, (atoms, dimension) = len(wave_vectors), system.positions.shape
    units = jnp.eye(atoms * dimension, dtype=complex).reshape(-1, atoms, dimension)
    columns = products_with_waves(
        system, potential, edge_list,
        jnp.repeat(wave_vectors, len(units), axis=0), jnp.tile(units, (count, 1, 1)),
    )  # fmt: skip
    return columns.reshape(count, len(units), len(units)).transpose(0, 2, 1)


def hessians_of_waves(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[np.ndarray, "Q D"],
) -> Complex[Any, "Q ND ND"]:
    """`wave_hessians` by one program for any number of wave vectors.

    On the host, or with JAX where it traces the system.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.

    Returns:
        Shape (Q, N D, N D), energy/length^2.
    """

    def hessians(some: Float[Array, "W D"]) -> Complex[Array, "W ND ND"]:
        return wave_hessians(system, potential, edge_list, some)

    return of_some_waves(hessians, wave_vectors, (system, potential), system.positions.size)


def of_some_waves(
    function: Callable[[Float[Array, "W D"]], Any],
    wave_vectors: Float[np.ndarray, "Q D"],
    given: Any,
    vibrations: int,
) -> Any:
    """What a compiled function finds for wave vectors, always the same number of them at a time.

    Whatever number is asked for, there is one program.

    Arguments:
        function: of a number of wave vectors; returns arrays with a row for each.
        wave_vectors: shape (Q, D).
        given: what else it depends on; where JAX traces it, all are taken at once.
        vibrations: of each wave vector.

    Returns:
        Its arrays with Q rows; of NumPy, where nothing is traced.
    """
    if is_traced(given):
        return function(on_device(wave_vectors))
    some = max(1, COLUMNS // vibrations)
    rounds = -(-len(wave_vectors) // some)
    filled = np.zeros((rounds * some, wave_vectors.shape[1]))
    filled[: len(wave_vectors)] = wave_vectors
    parts = [in_numpy(function(on_device(part))) for part in np.split(filled, rounds)]
    return jax.tree.map(lambda *of: np.concatenate(of)[: len(wave_vectors)], *parts)


@compiled(heavy=True)
def force_constants_between(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "Q D"],
    factors: Complex[Array, " Q"],
    atoms: Int[Array, " 2"],
) -> Float[Array, "D D"]:
    """Real part of the sum over waves of H_ij(q), each times a factor.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
        factors: shape (Q,).
        atoms: i and j.

    Returns:
        Shape (D, D), energy/length^2: rows are components of i, columns those of j.
    """
    count, dimension = system.positions.shape
    axes = jnp.arange(dimension)
    units = jnp.zeros((dimension, count, dimension), complex).at[axes, atoms[1], axes].set(1.0)
    columns = products_with_waves(
        system, potential, edge_list,
        jnp.repeat(wave_vectors, dimension, axis=0), jnp.tile(units, (len(wave_vectors), 1, 1)),
    )  # fmt: skip
    of_waves = columns[:, atoms[0]].reshape(len(wave_vectors), dimension, dimension)
    return jnp.real(jnp.tensordot(factors, of_waves, 1)).T


def _response(
    system: System, potential: Potential, edge_list: EdgeList
) -> Callable[[Float[Array, "D B K C"]], Float[Array, "D B K C"]]:
    """How gradients of site energies follow changes of their edges.

    Of many changes at once, what does not depend on them is computed once.
    """
    extended, sites = extended_positions(
        system.positions, system.cell, potential.species_index(system), edge_list
    )

    def edges_of(block: tuple[Any, ...]) -> Edges:
        return edges_between(extended, *block)

    if potential.pairwise:
        rows = map_blocks(
            lambda block: potential.edge_hessians(edges_of(block)), edge_list.neighbors, sites
        )
        # Half of the energy of a pair is that of each of its ends.
        return lambda changes: (
            0.5 * jnp.stack([sum(map(jnp.multiply, row, changes)) for row in rows])
        )

    def change_of_gradients(block: tuple[Any, ...]) -> Float[Array, "D K C"]:
        edges, changes = edges_of(block[:2]), tuple(block[2])

        def gradients(vectors: tuple[Array, ...]) -> tuple[Array, ...]:
            return potential.site_energies_and_gradients(edges.with_vectors(vectors))[1]

        return jnp.stack(jax.jvp(gradients, (edges.vectors,), (changes,))[1])

    return lambda changes: jnp.swapaxes(
        map_blocks(
            change_of_gradients, edge_list.neighbors, sites, jnp.swapaxes(changes, 0, 1)
        ), 0, 1,
    )  # fmt: skip


def _by_blocks(
    response: Callable[[Float[Array, "D B K C"]], Float[Array, "D B K C"]],
    dimension: int,
    shape: tuple[int, ...],
) -> Callable[[Float[Array, "D B K C"]], Float[Array, "D B K C"]]:
    """The same from the matrix of each site, which a change of each edge alone tells.

    Worth it where there are more changes than a site has edges and components: all others are
    products of matrices, and derivatives are of the matrices alone.
    """
    blocks, slots, size = shape
    units = jnp.eye(dimension * slots).reshape(-1, dimension, 1, slots, 1)

    def column(unit: tuple[Array]) -> Float[Array, "D B K C"]:
        return response(jnp.broadcast_to(unit[0], (dimension, *shape)))

    some = max(1, AT_A_TIME // (dimension * math.prod(shape) * slots))
    columns = _some_at_a_time(column, (units,), some)
    matrices = columns.transpose(2, 4, 1, 3, 0).reshape(blocks, size, *2 * (dimension * slots,))

    def product(changes: Float[Array, "D B K C"]) -> Float[Array, "D B K C"]:
        flat = changes.transpose(1, 3, 0, 2).reshape(blocks, size, -1)
        found = jnp.einsum("bcij,bcj->bci", matrices, flat)
        return found.reshape(blocks, size, dimension, slots).transpose(2, 0, 3, 1)

    return product


def _at(values: Array, places: Array) -> Array:
    return values.at[places].get(mode="promise_in_bounds")


def _some_at_a_time(
    function: Callable[[Any], Array], arrays: tuple[Array, ...], some: int
) -> Array:
    """The function's results for each row of arrays, some rows together: bounds the memory."""
    count = len(arrays[0])
    rounds = -(-count // some)
    some = -(-count // rounds)

    def in_rounds(array: Array) -> Array:
        filled = jnp.pad(array, ((0, rounds * some - count), *[(0, 0)] * (array.ndim - 1)))
        return filled.reshape(rounds, some, *array.shape[1:])

    found = jax.lax.map(jax.vmap(function), tuple(map(in_rounds, arrays)))
    return found.reshape(rounds * some, *found.shape[2:])[:count]
