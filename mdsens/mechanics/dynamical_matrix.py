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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.mechanics.closed_form_hessian import embedded_edges
from mdsens.mechanics.energy import require_edges
from mdsens.mechanics.hessian import site_matrices
from mdsens.particles.edges import (
    EdgeList,
    Edges,
    edge_blocks,
    edges_between,
    extended_positions,
)
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced

#: Vibrations of the waves that one call of a program takes together where they are few atoms', and
#: the number of waves where they are more: milliseconds, even where one wave is asked for.
TOGETHER, LEAST_TOGETHER = 128, 4
#: Numbers in arrays over waves that are taken at a time: 32 MiB.
AT_A_TIME = 2**22
#: Numbers in the matrices of these at most, unless there is one: 64 MiB.
MOST_TOGETHER = 2**22


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
    every = jnp.arange(system.atom_count, dtype=jnp.int32)
    found = _between(system, potential, edge_list, wave_vectors, every, every)
    return found.reshape(len(wave_vectors), system.positions.size, system.positions.size)


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
    some = max(LEAST_TOGETHER, TOGETHER // vibrations)
    some = max(1, min(some, MOST_TOGETHER // vibrations**2))
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
    of_waves = _between(system, potential, edge_list, wave_vectors, atoms[:1], atoms[1:])
    return jnp.real(jnp.tensordot(factors, of_waves[:, 0, :, 0], 1))


def _between(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "Q D"],
    rows: Int[Array, " R"],
    columns: Int[Array, " S"],
) -> Complex[Array, "Q R D S D"]:
    """The blocks of H(q) in the rows of some atoms and the columns of some, distinct in each."""
    dimension = system.dimension
    total = jnp.zeros((len(wave_vectors), len(rows), dimension, len(columns), dimension), complex)
    if potential.acts_along_edges:
        given = system, potential, edge_list, wave_vectors
        total = _added_along_edges(total, *given, rows, columns)
    if potential.of_structure:
        blocks = _of_structure(system, potential, rows, columns)
        alike = jnp.all(wave_vectors == jnp.round(wave_vectors), axis=1)
        # What knows of all images together knows of no others.
        known = jnp.where(alike[:, None, None, None, None], blocks[None], jnp.nan)
        total = total + known.astype(complex)
    return total


def _of_structure(
    system: System, potential: Potential, rows: Int[Array, " R"], columns: Int[Array, " S"]
) -> Float[Array, "R D S D"]:
    """The second derivatives of an energy of the whole structure, whose images move alike."""
    species, shape = potential.species_index(system), system.positions.shape

    def gradient(positions: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return -potential.structure_mechanics(positions, system.cell, species)[1]

    def column(place: Int[Array, ""]) -> Float[Array, "R D"]:
        unit = jnp.zeros(shape).at[columns[place // shape[1]], place % shape[1]].set(1.0)
        return jax.jvp(gradient, (system.positions,), (unit,))[1][rows]

    found = jax.lax.map(column, jnp.arange(len(columns) * shape[1]))
    return found.reshape(len(columns), shape[1], len(rows), shape[1]).transpose(2, 3, 0, 1)


class _Waves(NamedTuple):
    """What the ends of edges, E of them among the extended positions, are in one wave.

    Attributes:
        phases: exp(2 pi i q.n) of each.
        rows: the place, among the atoms whose rows are asked for, of the atom that it belongs to.
        columns: the same of the columns.
    """

    phases: Complex[Array, " E"]
    rows: Int[Array, " E"]
    columns: Int[Array, " E"]


class _Edges(NamedTuple):
    """What each edge of C atoms adds to H(q): a block, and to the row of its atom the opposite.

    Attributes:
        blocks: energy/length^2, that of each atom itself first.
        ends: where they are, among the extended positions.
    """

    blocks: Float[Array, "W C D D"]
    ends: Int[Array, "W C"]

    def numbers(self, hessians: Complex[Array, "Q R D S D"]) -> int:
        """Numbers that are computed on the way."""
        return 2 * self.blocks.size

    def added_to(self, hessian: Complex[Array, "R D S D"], waves: _Waves) -> Any:
        """The sum with these."""
        phases = jnp.conj(_at(waves.phases, self.ends[:1])) * _at(waves.phases, self.ends)
        rows = jnp.broadcast_to(_at(waves.rows, self.ends[:1]), self.ends.shape)
        entries = _times(self.blocks, phases[..., None, None])
        where = rows, slice(None), _at(waves.columns, self.ends)
        return hessian.at[where].add(entries, mode="drop")


class _Sites(NamedTuple):
    """What the energies of C atoms add, each of which depends on W of them.

    Attributes:
        matrices: energy/length^2, atoms before components.
        ends: where the atoms are, among the extended positions.
    """

    matrices: Float[Array, "C W D D W"]
    ends: Int[Array, "W C"]

    def numbers(self, hessians: Complex[Array, "Q R D S D"]) -> int:
        """Numbers that are computed on the way."""
        return 2 * self.ends.size * hessians[0, 0].size

    def added_to(self, hessian: Complex[Array, "R D S D"], waves: _Waves) -> Any:
        """The sum with these."""
        phases = _at(waves.phases, self.ends.T)
        places = jnp.arange(hessian.shape[2], dtype=jnp.int32)
        members = _at(waves.columns, self.ends.T)[..., None] == places[None, None]
        # Products of matrices add up faster what is in one column than one block after another.
        along = jnp.where(members, phases[..., None], 0.0)
        parts = jnp.concatenate([along.real, along.imag], axis=2)
        found = jnp.einsum("cwabv,cvn->cwanb", self.matrices, parts)
        real, imaginary = jnp.split(found, 2, axis=3)
        rows = jax.lax.complex(real, imaginary) * jnp.conj(phases)[..., None, None, None]
        return hessian.at[_at(waves.rows, self.ends.T)].add(rows, mode="drop")


class _Densities(NamedTuple):
    """What the densities around C atoms add: w g^+ g, with the gradient g of each.

    Attributes:
        gradients: density/length, of each atom itself first.
        ends: where they are, among the extended positions.
        weights: the second derivatives of the embedding.
    """

    gradients: Float[Array, "W C D"]
    ends: Int[Array, "W C"]
    weights: Float[Array, " C"]

    def numbers(self, hessians: Complex[Array, "Q R D S D"]) -> int:
        """Numbers that are computed on the way."""
        return 2 * len(self.weights) * (hessians.shape[1] + hessians.shape[3]) * hessians.shape[2]

    def added_to(self, hessian: Complex[Array, "R D S D"], waves: _Waves) -> Any:
        """The sum with these."""
        gradients = _times(self.gradients, _at(waves.phases, self.ends)[..., None])
        dimension, atoms = self.gradients.shape[2], jnp.arange(len(self.weights))
        first, second = (
            jnp.zeros((len(atoms), size, dimension), complex)
            .at[atoms, _at(places, self.ends)]
            .add(gradients, mode="drop")
            for size, places in ((len(hessian), waves.rows), (hessian.shape[2], waves.columns))
        )
        weighed = _times(self.weights[:, None, None], jnp.conj(first))
        return hessian + jnp.tensordot(weighed, second, ((0,), (0,)))


def _added_along_edges(
    total: Complex[Array, "Q R D S D"],
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[Array, "Q D"],
    rows: Int[Array, " R"],
    columns: Int[Array, " S"],
) -> Complex[Array, "Q R D S D"]:
    """The same with what acts along edges, one block of atoms after another."""
    count, blank = system.atom_count, system.atom_count + len(edge_list.ghost_owners)
    blocks, _, size = edge_list.neighbors.shape
    species = potential.species_index(system)
    extended, sites = extended_positions(system.positions, system.cell, species, edge_list)
    every = jnp.arange(count, dtype=jnp.int32)
    owners = jnp.concatenate([every, edge_list.ghost_owners, jnp.full(1, count, jnp.int32)])

    def places_of(atoms: Int[Array, " M"]) -> Int[Array, " E"]:
        """The place among some atoms that each end belongs to; beyond the last where to none."""
        places = jnp.full(count + 1, len(atoms), jnp.int32)
        return places.at[atoms].set(jnp.arange(len(atoms), dtype=jnp.int32))[owners]

    row_of, column_of = places_of(rows), places_of(columns)
    own = jnp.arange(blocks * size, dtype=jnp.int32).reshape(blocks, size)
    # Beyond the last atom there are only places without an edge.
    own = jnp.where(own < count, own, blank)
    slopes = weights = None
    if potential.embedded:
        derivatives = edge_blocks(
            potential.embedding_derivatives, system.positions, system.cell, species, edge_list
        )
        slopes, weights = (array.reshape(-1)[:count] for array in derivatives)
        weights = edge_list.in_blocks(weights).reshape(blocks, size)
        slopes = jnp.concatenate([slopes, slopes[edge_list.ghost_owners], jnp.zeros(1)])

    def add_block(total: Array, block: tuple[Any, ...]) -> tuple[Array, None]:
        neighbors, here, at, weights = block
        edges = edges_between(extended, neighbors, here)
        ends = jnp.concatenate([at[None], neighbors])
        found = _of_edges(potential, edges, ends, slopes, weights)

        def add_to(one: tuple[Array, Array]) -> Array:
            hessian, wave_vector = one
            angles = 2.0 * jnp.pi * (edge_list.ghost_images @ wave_vector)
            ones = jnp.ones(count + 1, complex)
            of_ghosts = jax.lax.complex(jnp.cos(angles), jnp.sin(angles))
            phases = jnp.concatenate([ones[:-1], of_ghosts, ones[-1:]])
            for part in found:
                hessian = part.added_to(hessian, _Waves(phases, row_of, column_of))
            return hessian

        some = max(1, AT_A_TIME // (2 * total[0].size + sum(part.numbers(total) for part in found)))
        return _some_at_a_time(add_to, (total, wave_vectors), some), None

    return jax.lax.scan(add_block, total, (edge_list.neighbors, sites, own, weights))[0]


def _of_edges(
    potential: Potential,
    edges: Edges,
    ends: Int[Array, "W C"],
    slopes: Float[Array, " E"] | None,
    weights: Float[Array, " C"] | None,
) -> list[_Edges | _Sites | _Densities]:
    """What the edges of C atoms add: these lead to the ends from the second on."""
    if potential.pairwise:
        return [_with_own(potential.edge_hessians(edges), ends)]
    if slopes is None or weights is None:
        whole = site_matrices(potential, edges)
        return [_Sites(whole.transpose(0, 1, 3, 4, 2), ends)]
    here, there = _at(slopes, ends[:1]), _at(slopes, ends[1:])
    rows, components = embedded_edges(potential, edges, here, there)
    gradients = jnp.stack(components, axis=-1)
    own = -jnp.sum(gradients, axis=0, keepdims=True)
    densities = _Densities(jnp.concatenate([own, gradients]), ends, weights)
    return [_with_own(rows, ends), densities]


def _with_own(rows: list[list[Float[Array, "K C"]]], ends: Int[Array, "W C"]) -> _Edges:
    """The blocks of edges by their components, and those of the atoms themselves."""
    matrices = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    own = jnp.sum(matrices, axis=0, keepdims=True)
    return _Edges(jnp.concatenate([own, -matrices]), ends)


def _times(real: Float[Array, "..."], factors: Complex[Array, "..."]) -> Complex[Array, "..."]:
    return jax.lax.complex(real * jnp.real(factors), real * jnp.imag(factors))


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


def _at(values: Array, places: Array) -> Array:
    return values.at[places].get(mode="promise_in_bounds")
