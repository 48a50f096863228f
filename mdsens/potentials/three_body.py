"""Potentials of bonds that the atom's other bonds weaken or turn: two formulas each."""

import abc
import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.potential import Potential

#: Of so many species, the entry of a table is chosen among all rather than gathered.
MOST_SELECTED = 2


class ThreeBodyPotential(Potential):
    """A sum over bonds, each with what the atom's other bonds do to it.

    E = sum_i sum_{j != i} bond(r_ij, zeta_ij),
    zeta_ij = sum_{k != i, j} triplet(r_ij, r_ik, cos theta_jik).

    A subclass declares its parameters and gives `bond_energies`, `triplet_terms`, and how far they
    reach. Tables over bonds, of shape (S, S), have the entry [i, j] of an atom of species i with a
    neighbour of species j; tables over triplets, of shape (S, S, S), the entry [i, j, k] of its
    bonds to j and k, and [i, j, j] of its bond to j alone.
    """

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

    @abc.abstractmethod
    def _bond_ranges(self) -> Float[Array, "..."]:
        """How far bonds reach, of shape (), (S, S) or, where it differs by triplet, (S, S, S)."""

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The longest range of a bond, in units of length."""
        return on_device(in_numpy(self)._bond_ranges().max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The range of each pair of species, from either of its ends, in units of length."""
        ranges = self._bond_ranges()
        if ranges.ndim == 0:
            return None
        if ranges.ndim == 3:
            # The bond i-k is in the triplets i-j-k of all j.
            ranges = ranges.max(axis=1)
        return jnp.maximum(ranges, ranges.T)

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energies of the atom's bonds seen from it, shape (C,), energy."""
        return self.site_energies_and_gradients(edges)[0]

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients, from slopes of the two formulas.

        First bonds are taken one slot at a time, each with all others as second bonds.
        """
        slots, axes = edges.mask.shape[0], range(len(edges.vectors))
        r = edges.distances
        inside = edges.mask & (r < self.interaction_range)
        # Slots without a bond lead far out, where exponentials overflow.
        r = jnp.where(inside, r, 0.5 * self.interaction_range)
        units = tuple(jnp.where(inside, component / r, 0.0) for component in edges.vectors)
        second = self._of_bonds(edges.species[None], edges.neighbor_species)

        def add_bond(slot: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
            energy, gradients = total
            row = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=slot, slice_size=1)
            first = jax.tree.map(lambda leaf: row(leaf) if leaf.ndim else leaf, second)
            triplet = self._of_triplets(
                edges.species[None], row(edges.neighbor_species), edges.neighbor_species
            )
            others = inside & (jnp.arange(slots)[:, None] != slot)
            unit, length = [row(component) for component in units], row(r)
            cosine = sum((u * v for u, v in zip(unit, units, strict=True)), start=jnp.zeros(()))

            def terms(r_first: Array, r_second: Array, cosine: Array) -> Array:
                found = triplet.triplet_terms(first, second, r_first, r_second, cosine)
                return jnp.where(others, found, 0.0)

            found, pullback = jax.vjp(terms, jnp.broadcast_to(length, r.shape), r, cosine)
            by_first, by_second, by_cosine = pullback(jnp.ones_like(found))
            zeta = jnp.sum(found, axis=0, keepdims=True)

            def energies(r: Array, zeta: Array) -> Array:
                return jnp.where(row(inside), first.bond_energies(r, zeta), 0.0)

            bond, pullback = jax.vjp(energies, length, zeta)
            by_length, by_zeta = pullback(jnp.ones_like(bond))
            turning = by_zeta * by_cosine
            stretching = by_zeta * by_second - turning * cosine / r
            along = by_length + by_zeta * jnp.sum(by_first, axis=0, keepdims=True)
            along = along - jnp.sum(turning * cosine, axis=0, keepdims=True) / length
            changed = []
            for axis in axes:
                own = along * unit[axis]
                own = own + jnp.sum(turning * units[axis], axis=0, keepdims=True) / length
                of_others = stretching * units[axis] + turning / r * unit[axis]
                others_added = gradients[axis] + of_others
                own_added = row(others_added) + own
                changed.append(
                    jax.lax.dynamic_update_slice_in_dim(others_added, own_added, slot, 0)
                )
            return energy + bond[0], tuple(changed)

        nothing = (jnp.zeros(r.shape[1]), tuple(jnp.zeros_like(r) for _ in axes))
        return jax.lax.fori_loop(0, slots, add_bond, nothing)

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
            places = pairs if leaf.ndim == 2 else triplets
            if size > MOST_SELECTED:
                return leaf.reshape(-1).at[places].get(mode="promise_in_bounds")
            # Unlike gathers, choices between few are vectorised.
            entries = leaf.reshape(-1)
            found = jnp.broadcast_to(entries[0], places.shape)
            for index in range(1, leaf.size):
                found = jnp.where(places == index, entries[index], found)
            return found

        return jax.tree.map(value, self)
