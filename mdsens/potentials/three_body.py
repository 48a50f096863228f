"""Potentials of bonds that the atom's other bonds weaken or turn: two formulas each."""

import abc
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.edge_sums import of_slots_held
from mdsens.potentials.potential import Potential

#: Of so many species, the entry of a table is chosen among all rather than gathered.
MOST_SELECTED = 2
#: Room for bonds that nearly always is enough, and the slots from which on more is made only then.
USUAL_BONDS, MANY_SLOTS = 16, 48


class Bonds(NamedTuple):
    """The bonds of atoms, first among room for R of each."""

    centre: Int[Array, "1 C"]
    species: Int[Array, "R C"]
    inside: Bool[Array, "R C"]
    r: Float[Array, "R C"]
    units: tuple[Float[Array, "R C"], ...]
    #: The largest number of bonds.
    most: Int[Array, ""]


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

        def add_slot(count: Array, here: Array) -> tuple[Array, Array]:
            return count + here.astype(count.dtype), jnp.where(here, count, slots)

        # Slot by slot, of all atoms: what runs through memory in any other order takes longer.
        count, rank = jax.lax.scan(add_slot, jnp.zeros(edges.species.shape, int), bonded)
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
        distances, most = edges.distances, jnp.max(count)

        def first_bonds(values: tuple[Array, ...]) -> tuple[Array, ...]:
            nothing = tuple(jnp.zeros_like(value[0]) for value in values)

            def of_slot(slot: Array) -> tuple[Array, ...]:
                def choose(edge: Array, found: tuple[Array, ...]) -> tuple[Array, ...]:
                    here = rank[edge] == slot
                    return tuple(
                        jnp.where(here, value[edge], before)
                        for value, before in zip(values, found, strict=True)
                    )

                return jax.lax.fori_loop(0, len(rank), choose, nothing)

            places = jnp.arange(room)
            found: tuple[Array, ...] = of_slots_held(of_slot, places, places < most)
            return found

        def to_edges(values: tuple[Array, ...]) -> tuple[Array, ...]:
            def add(slot: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
                here = rank == slot
                return tuple(
                    jnp.where(here, value[slot][None], part)
                    for value, part in zip(values, total, strict=True)
                )

            zeros = tuple(jnp.zeros(rank.shape) for _ in values)
            return sum_over(room, lambda slot: slot < most, add, zeros)

        inside = jnp.arange(room)[:, None] < count[None]
        # Slots without a bond lead far out, where exponentials overflow.
        lengths, species, *vectors = first_bonds(
            (distances, edges.neighbor_species, *edges.vectors)
        )
        r = jnp.where(inside, lengths, 0.5 * self.interaction_range)
        units = tuple(component / r for component in vectors)
        bonds = Bonds(edges.species[None], species, inside, r, units, most)
        energy, gradients = self._of_chosen_bonds(bonds)
        return energy, to_edges(gradients)

    def _of_chosen_bonds(
        self, bonds: "Bonds"
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "R C"], ...]]:
        """Site energies, and gradients along each bond."""
        centre, species, inside, r, units, most = bonds
        room, axes = len(r), range(len(units))
        second = self._of_bonds(centre, species)

        nothing = jnp.zeros((1, r.shape[1]))
        counted, surroundings = jnp.zeros_like(r), tuple[Array, ...]()
        if self.coordinated:

            def coordinations(r: Array) -> Array:
                return jnp.where(inside, second.coordination_terms(r), 0.0)

            counts, counted = jax.jvp(coordinations, (r,), (jnp.ones_like(r),))
            surroundings = (jnp.sum(counts, axis=0, keepdims=True),)

        def at(potential: Self, coordination: tuple[Array, ...]) -> Self:
            return potential.at_coordination(*coordination) if coordination else potential

        def slopes_of(
            first_slot: Array, of_first: tuple[Self, ...], slot: Array
        ) -> tuple[Array, ...]:
            """What one slot does to another: the term of zeta, the cosine, and all slopes."""
            unit, other = rows(units, first_slot), rows(units, slot)
            cosine = sum((u * v for u, v in zip(unit, other, strict=True)), start=nothing)
            one, two = rows(second, first_slot), rows(second, slot)
            triplet = self._of_second(of_first, two, row(species, slot))

            def terms(r_first: Array, r_second: Array, cosine: Array, *around: Array) -> Array:
                here = at(triplet, around)
                found = here.triplet_terms(one, two, r_first, r_second, cosine)
                return jnp.where(row(inside, slot) & (slot != first_slot), found, 0.0)

            found, pullback = jax.vjp(
                terms, row(r, first_slot), row(r, slot), cosine, *surroundings
            )
            return found, cosine, *pullback(jnp.ones_like(found))

        def over_others(slot: Array, add: Any, start: Any) -> Any:
            """A sum over all slots but one, as far as any atom has bonds."""
            return sum_over(room, lambda other: (other < most) & (other != slot), add, start)

        def add_bond(slot: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
            energy, gradients, by_surroundings, kept = total
            of_first = self._of_first(centre, row(species, slot))

            def add_term(other: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
                sums, kept = total
                found, cosine, by_first, by_second, by_cosine, *by_around = slopes_of(
                    slot, of_first, other
                )
                kept = tuple(
                    changed(values, value, other)
                    for values, value in zip(kept, (cosine, by_second, by_cosine), strict=True)
                )
                return jax.tree.map(jnp.add, sums, (found, by_first, *by_around)), kept

            none = (nothing, nothing, *(nothing for _ in surroundings))
            (zeta, by_first, *by_around), kept = over_others(slot, add_term, (none, kept))
            unit, length = rows(units, slot), row(r, slot)

            def energies(r: Array, zeta: Array, *around: Array) -> Array:
                bonds = at(rows(second, slot), around).bond_energies(r, zeta)
                return jnp.where(row(inside, slot), bonds, 0.0)

            bond, pullback = jax.vjp(energies, length, zeta, *surroundings)
            by_length, by_zeta, *by_own = pullback(jnp.ones_like(bond))

            def add_gradients(other: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
                along, across, gradients = total
                cosine, by_second, by_cosine = rows(kept, other)
                there, length_there = rows(units, other), row(r, other)
                turning = by_zeta * by_cosine
                stretching = by_zeta * by_second - turning * cosine / length_there
                gradients = tuple(
                    changed(
                        values,
                        row(values, other) + stretching * v + turning / length_there * u,
                        other,
                    )
                    for values, u, v in zip(gradients, unit, there, strict=True)
                )
                across = tuple(a + turning * v for a, v in zip(across, there, strict=True))
                return along - turning * cosine, across, gradients

            start = nothing, tuple(nothing for _ in axes), gradients
            turned, across, gradients = over_others(slot, add_gradients, start)
            along = by_length + by_zeta * by_first + turned / length
            gradients = tuple(
                changed(values, row(values, slot) + along * u + a / length, slot)
                for values, u, a in zip(gradients, unit, across, strict=True)
            )
            by_surroundings = tuple(
                before + own + by_zeta * of_others
                for before, own, of_others in zip(by_surroundings, by_own, by_around, strict=True)
            )
            return energy + bond[0], gradients, by_surroundings, kept

        zeros = jnp.zeros_like(r)
        start = (nothing[0], (zeros,) * len(axes), (nothing,) * len(surroundings), (zeros,) * 3)
        energy, gradients, slopes, _ = sum_over(room, lambda slot: slot < most, add_bond, start)
        for slope in slopes:
            gradients = tuple(
                gradient + slope * counted * unit
                for gradient, unit in zip(gradients, units, strict=True)
            )
        return energy, gradients

    def _of_bonds(self, centre: Int[Array, "1 C"], neighbor: Int[Array, "K C"]) -> Self:
        """This potential with every table replaced by the entries of bonds."""
        size = self._size
        pairs = centre * size + neighbor
        triplets = pairs * size + neighbor

        def value(leaf: Array) -> Array:
            if leaf.ndim == 0 or size == 1:
                return leaf.reshape(())
            return self._chosen(leaf, pairs if leaf.ndim == 2 else triplets)

        return jax.tree.map(value, self)

    def _of_first(
        self, centre: Int[Array, "1 C"], first: Int[Array, "1 C"], turned: bool = False
    ) -> tuple[Self, ...]:
        """For each species of another bond this potential with the entries of the triplets.

        Arguments:
            centre: species of the atoms.
            first: species at the end of one bond.
            turned: whether this bond is the second of the triplet, and the other the first.
        """
        size = self._size
        if size == 1:
            return ()
        pairs = centre * size + first

        def of(second: int) -> Any:
            return jax.tree.map(
                lambda leaf: self._chosen(side(leaf, second), pairs) if leaf.ndim == 3 else leaf,
                self,
            )

        def side(leaf: Array, second: int) -> Array:
            return leaf[:, second] if turned else leaf[:, :, second]

        return tuple(of(second) for second in range(size))

    def _of_second(self, of_first: tuple[Self, ...], bond: Self, second: Int[Array, "1 C"]) -> Self:
        """This potential with the entries of triplets.

        Arguments:
            of_first: what `_of_first` returns.
            bond: this potential with the entries of the second bond.
            second: the species at its end.
        """

        def value(leaf: Array, of_bond: Array, *entries: Array) -> Array:
            if leaf.ndim < 3 or not entries:
                return of_bond
            found = entries[0]
            for index, entry in enumerate(entries[1:], 1):
                found = jnp.where(second == index, entry, found)
            return found

        return jax.tree.map(value, self, bond, *of_first)

    @property
    def _size(self) -> int:
        """How many species there are."""
        return len(self.species or ("",))

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


def row(values: Array, slot: Array) -> Array:
    """One slot of an array, (1, C); what is one value stays so."""
    return jax.lax.dynamic_slice_in_dim(values, slot, 1) if values.ndim else values


def rows(tree: Any, slot: Array) -> Any:
    """The same of all arrays of a pytree."""
    return jax.tree.map(lambda values: row(values, slot), tree)


def changed(values: Array, value: Array, slot: Array) -> Array:
    """An array with another slot, (1, C), in the place of one."""
    return jax.lax.dynamic_update_slice_in_dim(values, value, slot, 0)


def sum_over(room: int, wanted: Any, add: Any, start: Any) -> Any:
    """A loop over slots that leaves out those that are not wanted.

    Arguments:
        room: how many slots there are.
        wanted: from a slot to whether it counts.
        add: from a slot and a total to the next total.
        start: the first total.
    """

    def add_if_wanted(slot: Array, total: Any) -> Any:
        return jax.lax.cond(
            wanted(slot), lambda total: add(slot, total), lambda total: total, total
        )

    return jax.lax.fori_loop(0, room, add_if_wanted, start)
