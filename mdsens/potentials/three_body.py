"""Potentials of bonds that the atom's other bonds weaken or turn: two formulas each."""

import abc
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.potential import Potential

#: Of so many species, the entry of a table is chosen among all rather than gathered.
MOST_SELECTED = 2
#: Room for bonds that nearly always is enough, and the slots from which on more is made only then.
USUAL_BONDS, MANY_SLOTS = 16, 48


class ThreeBodyPotential(Potential):
    """A sum over bonds, each with what the atom's other bonds do to it.

    E = sum_i sum_{j != i} bond(r_ij, zeta_ij),
    zeta_ij = sum_{k != i, j} triplet(r_ij, r_ik, cos theta_jik).

    A subclass declares its parameters and gives `bond_energies`, `triplet_terms`, and
    `bond_ranges`, how far they reach; one that is `coordinated` also `coordination_terms`, of which
    both formulas may depend on the sum Z_i over the atom's bonds. Tables over bonds, of shape
    (S, S), have the entry [i, j] of an atom of species i with a neighbour of species j; tables over
    triplets, of shape (S, S, S), the entry [i, j, k] of its bonds to j and k, and [i, j, j] of its
    bond to j alone.

    Arguments:
        species: names of the tables' rows; None where all species are alike.
    """

    #: Whether the two formulas depend on a sum over all bonds of the atom.
    coordinated: ClassVar[bool] = False

    species: tuple[str, ...] | None = eqx.field(static=True, kw_only=True, default=None)

    @abc.abstractmethod
    def bond_energies(self, r: Float[Array, " C"], zeta: Float[Array, " C"]) -> Float[Array, " C"]:
        """Energy of bonds seen from one of their ends; parameters are already those of each bond.

        Arguments:
            r: lengths of the bonds, in units of length.
            zeta: what the other bonds add up to, in the unit of `triplet_terms`.

        Returns:
            Energies, in units of energy; zero beyond the bond's range.
        """

    @abc.abstractmethod
    def triplet_terms(
        self,
        first: Self,
        second: Self,
        r_first: Float[Array, "K C"],
        r_second: Float[Array, "K C"],
        cosine: Float[Array, "K C"],
    ) -> Float[Array, "K C"]:
        """What the second bond of an atom does to the first; parameters are those of the triplet.

        Arguments:
            first: this potential with the parameters of the first bond.
            second: this potential with the parameters of the second bond.
            r_first: lengths of the first bonds, in units of length.
            r_second: lengths of the second bonds, in units of length.
            cosine: cosines of the angles between them.

        Returns:
            Terms of zeta; zero beyond the range of the second bond.
        """

    def coordination_terms(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """What each bond adds to the coordination of an atom; parameters are those of the bond.

        Arguments:
            r: lengths of the bonds, in units of length.

        Returns:
            Terms of Z; zero beyond the range of the bond.

        Raises:
            NotImplementedError: the potential is not coordinated.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no coordination_terms")

    def at_coordination(self, coordination: Float[Array, "1 C"]) -> Self:
        """This potential as its two formulas find it at atoms of a coordination Z.

        Arguments:
            coordination: Z of each atom.

        Returns:
            The potential.

        Raises:
            NotImplementedError: the potential is not coordinated.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no at_coordination")

    @abc.abstractmethod
    def bond_ranges(self) -> Float[Array, "..."]:
        """How far bonds reach, in units of length.

        Returns:
            Shape (), (S, S) or, where it differs by triplet, (S, S, S).
        """

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The longest range of a bond, in units of length."""
        return on_device(in_numpy(self).bond_ranges().max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The range of each pair of species, from either of its ends, in units of length."""
        return of_both_ends(self.bond_ranges())

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energies of the atom's bonds seen from it, shape (C,), energy."""
        return self.site_energies_and_gradients(edges)[0]

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients, from slopes of the two formulas.

        Bonds come first among the slots of each atom, and pairs of slots are taken one at a time,
        as far as any atom has bonds: lists of edges reach farther than bonds.
        """
        slots = edges.mask.shape[0]
        reach, distances = self.bond_ranges(), edges.distances
        ranges = of_both_ends(reach)
        if ranges is not None:
            reach = self._chosen(ranges, edges.species[None] * len(ranges) + edges.neighbor_species)
        bonded = edges.mask & (distances < reach)
        rank = jnp.where(bonded, jnp.cumsum(bonded, axis=0) - 1, slots)
        count = jnp.sum(bonded, axis=0)
        if slots < MANY_SLOTS:
            return self._of_first_bonds(slots, edges, rank, count)
        # Of a long list of edges few are bonds, where the potential reaches farther than these.
        return jax.lax.cond(
            jnp.max(count) <= USUAL_BONDS,
            lambda: self._of_first_bonds(USUAL_BONDS, edges, rank, count),
            lambda: self._of_first_bonds(slots, edges, rank, count),
        )

    def _of_first_bonds(
        self, room: int, edges: Edges, rank: Int[Array, "K C"], count: Int[Array, " C"]
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """The same, with room for so many bonds of an atom, from the rank of each edge in them."""
        axes, distances, most = range(len(edges.vectors)), edges.distances, jnp.max(count)

        def first_bonds(values: Array) -> Array:
            def of_slot(slot: Array) -> Array:
                chosen = jnp.where(rank == slot, values, jnp.zeros_like(values))
                return jnp.sum(chosen, axis=0, dtype=values.dtype)

            def of_slot_if_any(slot: Array) -> Array:
                return jax.lax.cond(slot < most, of_slot, lambda _: jnp.zeros_like(values[0]), slot)

            return jax.lax.map(of_slot_if_any, jnp.arange(room))

        def to_edges(values: tuple[Array, ...]) -> tuple[Array, ...]:
            def add(slot: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
                here = rank == slot
                return tuple(
                    jnp.where(here, value[slot][None], part)
                    for value, part in zip(values, total, strict=True)
                )

            def add_if_any(slot: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
                return jax.lax.cond(slot < most, add, lambda _, total: total, slot, total)

            zeros = tuple(jnp.zeros(rank.shape) for _ in values)
            return jax.lax.fori_loop(0, room, add_if_any, zeros)

        inside = jnp.arange(room)[:, None] < count[None]
        # Slots without a bond lead far out, where exponentials overflow.
        r = jnp.where(inside, first_bonds(distances), 0.5 * self.interaction_range)
        units = tuple(first_bonds(component) / r for component in edges.vectors)
        species = first_bonds(edges.neighbor_species)
        second = self._of_bonds(edges.species[None], species)

        def row(values: Array, slot: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(values, slot, 1) if values.ndim else values

        def rows(tree: Any, slot: Array) -> Any:
            return jax.tree.map(lambda values: row(values, slot), tree)

        nothing = jnp.zeros((1, r.shape[1]))
        counted, surroundings = jnp.zeros_like(r), tuple[Array, ...]()
        if self.coordinated:

            def coordinations(r: Array) -> Array:
                return jnp.where(inside, second.coordination_terms(r), 0.0)

            counts, counted = jax.jvp(coordinations, (r,), (jnp.ones_like(r),))
            surroundings = (jnp.sum(counts, axis=0, keepdims=True),)

        def at(potential: Self, coordination: tuple[Array, ...]) -> Self:
            return potential.at_coordination(*coordination) if coordination else potential

        def slopes_of(first_slot: Array, slot: Array) -> tuple[Array, ...]:
            """What one slot does to another: the term of zeta, the cosine, and all slopes."""
            unit, other = rows(units, first_slot), rows(units, slot)
            cosine = sum((u * v for u, v in zip(unit, other, strict=True)), start=nothing)
            triplet = self._of_triplets(
                edges.species[None], row(species, first_slot), row(species, slot)
            )
            one, two = rows(second, first_slot), rows(second, slot)

            def terms(r_first: Array, r_second: Array, cosine: Array, *around: Array) -> Array:
                here = at(triplet, around)
                found = here.triplet_terms(one, two, r_first, r_second, cosine)
                return jnp.where(row(inside, slot) & (slot != first_slot), found, 0.0)

            found, pullback = jax.vjp(
                terms, row(r, first_slot), row(r, slot), cosine, *surroundings
            )
            return tuple(part[0] for part in (found, cosine, *pullback(jnp.ones_like(found))))

        def add_bond(slot: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
            energy, gradients, by_surroundings = total
            zero = tuple(nothing[0] for _ in (*range(5), *surroundings))

            def others(other: Array) -> tuple[Array, ...]:
                return jax.lax.cond(
                    (other < most) & (other != slot), lambda: slopes_of(slot, other), lambda: zero
                )

            found, cosine, by_first, by_second, by_cosine, *by_around = jax.lax.map(
                others, jnp.arange(room)
            )
            unit, length = rows(units, slot), row(r, slot)
            zeta = jnp.sum(found, axis=0, keepdims=True)

            def energies(r: Array, zeta: Array, *around: Array) -> Array:
                bonds = at(rows(second, slot), around).bond_energies(r, zeta)
                return jnp.where(row(inside, slot), bonds, 0.0)

            bond, pullback = jax.vjp(energies, length, zeta, *surroundings)
            by_length, by_zeta, *by_own = pullback(jnp.ones_like(bond))
            turning = by_zeta * by_cosine
            stretching = by_zeta * by_second - turning * cosine / r
            along = by_length + by_zeta * jnp.sum(by_first, axis=0, keepdims=True)
            along = along - jnp.sum(turning * cosine, axis=0, keepdims=True) / length
            changed = []
            for axis in axes:
                own = along * unit[axis]
                own = own + jnp.sum(turning * units[axis], axis=0, keepdims=True) / length
                of_others = stretching * units[axis] + turning / r * unit[axis]
                added = gradients[axis] + of_others
                own = row(added, slot) + own
                changed.append(jax.lax.dynamic_update_slice_in_dim(added, own, slot, 0))
            by_surroundings = tuple(
                before + own + by_zeta * jnp.sum(of_others, axis=0, keepdims=True)
                for before, own, of_others in zip(by_surroundings, by_own, by_around, strict=True)
            )
            return energy + bond[0], tuple(changed), by_surroundings

        def add_if_any(slot: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
            return jax.lax.cond(
                slot < most, lambda total: add_bond(slot, total), lambda total: total, total
            )

        start = (nothing[0], tuple(jnp.zeros_like(r) for _ in axes), (nothing,) * len(surroundings))
        energy, gradients, slopes = jax.lax.fori_loop(0, room, add_if_any, start)
        for slope in slopes:
            gradients = tuple(
                gradient + slope * counted * unit
                for gradient, unit in zip(gradients, units, strict=True)
            )
        return energy, to_edges(gradients)

    def _of_bonds(self, centre: Int[Array, "1 C"], neighbor: Int[Array, "K C"]) -> Self:
        """This potential with every table replaced by the entries of bonds."""
        return self._of_triplets(centre, neighbor, neighbor)

    def _of_triplets(
        self, centre: Int[Array, "1 C"], first: Int[Array, "k C"], second: Int[Array, "K C"]
    ) -> Self:
        """This potential with every table replaced by the entries of triplets."""
        size = len(self.species or ("",))
        pairs = centre * size + second
        triplets = (centre * size + first) * size + second

        def value(leaf: Array) -> Array:
            if leaf.ndim == 0 or size == 1:
                return leaf.reshape(())
            return self._chosen(leaf, pairs if leaf.ndim == 2 else triplets)

        return jax.tree.map(value, self)

    def _chosen(self, table: Array, places: Int[Array, "K C"]) -> Array:
        """Entries of a table, by their places in it."""
        entries = table.reshape(-1)
        if len(table) > MOST_SELECTED:
            return entries.at[places].get(mode="promise_in_bounds")
        # Unlike gathers, choices between few are vectorised.
        found = jnp.broadcast_to(entries[0], places.shape)
        for index in range(1, entries.size):
            found = jnp.where(places == index, entries[index], found)
        return found


def of_both_ends(ranges: Any) -> Any:
    """Ranges of pairs of species, from either of their ends: (S, S); None of one value for all.

    Arguments:
        ranges: of bonds, of shape (), (S, S) or, where they differ by triplet, (S, S, S).
    """
    if ranges.ndim == 0:
        return None
    if ranges.ndim == 3:
        # The bond i-k is in the triplets i-j-k of all j.
        ranges = ranges.max(axis=1)
    return jnp.maximum(ranges, ranges.T)
