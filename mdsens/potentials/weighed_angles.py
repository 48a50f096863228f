"""Potentials of angles, weighed by what each of their two bonds is worth."""

import abc
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.potentials.three_body import (
    Bonds,
    ThreeBodyPotential,
    changed,
    row,
    rows,
    sum_over,
)


class WeighedAnglePotential(ThreeBodyPotential):
    """A sum over bonds and over angles between them, each with the weights of its two bonds.

    E = sum_i sum_{j != i} bond(r_ij, zeta_ij),
    zeta_ij = sum_{k != i, j} angular_ijk(cos theta_jik) w_ij(r_ij) w_ik(r_ik),

    with bonds to whose energies zeta_ij / 2 is added. The weights are computed once for each bond,
    and both terms of two bonds together. A subclass gives `bond_energies`, `weights`, `angular`
    and `bond_ranges`.
    """

    @abc.abstractmethod
    def weights(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Weights of bonds; parameters are already those of each bond.

        Arguments:
            r: lengths of the bonds, in units of length.

        Returns:
            Weights, without a unit; zero beyond the bond's range.
        """

    @abc.abstractmethod
    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """What an angle between bonds costs; parameters are those of the triplet.

        Arguments:
            cosine: cosines of the angles.

        Returns:
            Energies, in units of energy.
        """

    def triplet_terms(
        self,
        first: Self,
        second: Self,
        r_first: Float[Array, "..."],
        r_second: Float[Array, "..."],
        cosine: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """What an angle costs times the weights of both bonds, energy."""
        return self.angular(cosine) * first.weights(r_first) * second.weights(r_second)

    def _along_bonds(self, bonds: Bonds) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Energies of bonds without angles and weights, (R, C) each, and slopes of both."""
        of_bonds = self._of_bonds(bonds.centre, bonds.species)

        def radial(r: Float[Array, "R C"]) -> tuple[Array, Array]:
            energies, weights = of_bonds.bond_energies(r, jnp.zeros_like(r)), of_bonds.weights(r)
            return jnp.where(bonds.inside, energies, 0.0), jnp.where(bonds.inside, weights, 0.0)

        found: tuple[tuple[Array, Array], tuple[Array, Array]]
        found = jax.jvp(radial, (bonds.r,), (jnp.ones_like(bonds.r),))
        return found

    def _of_chosen_bonds(
        self, bonds: Bonds
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "R C"], ...]]:
        """Site energies, and gradients along each bond.

        Of each two bonds j and k: with G = (angular_ijk + angular_ikj) / 2, the energy is
        G w_j w_k, and its gradient along bond j is
        G w_j' w_k u_j + G' w_j w_k (u_k - cos theta u_j) / r_j.
        """
        centre, species, _, r, units, most = bonds
        room, nothing = len(r), jnp.zeros((1, r.shape[1]))
        of_bonds = self._of_bonds(centre, species)
        (pairs, weights), (pair_slopes, weight_slopes) = self._along_bonds(bonds)

        def add_bond(slot: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
            energy, by_weights, gradients = total
            kind, unit, weight = row(species, slot), rows(units, slot), row(weights, slot)
            of_first, of_second = (self._of_first(centre, kind, turned) for turned in (False, True))

            def add_angle(other: Array, total: tuple[Any, ...]) -> tuple[Any, ...]:
                (energy, by_weight, along, across), by_weights, gradients = total
                there, here = rows(units, other), rows(of_bonds, other)
                cosine = sum((u * v for u, v in zip(unit, there, strict=True)), start=nothing)
                kinds = row(species, other)
                terms = [
                    self._of_second(entries, here, kinds)
                    for entries in ((of_first, of_second) if of_first else (of_first,))
                ]

                def angular(cosine: Array) -> Array:
                    found = [term.angular(cosine) for term in terms]
                    return sum(found[1:], start=found[0]) / len(found)

                angle, slope = jax.jvp(angular, (cosine,), (jnp.ones_like(cosine),))
                weight_there = row(weights, other)
                turning = slope * weight * weight_there
                sums = (
                    energy + angle * weight * weight_there,
                    by_weight + angle * weight_there,
                    along + turning * cosine,
                    tuple(a + turning * v for a, v in zip(across, there, strict=True)),
                )
                by_weights = changed(by_weights, row(by_weights, other) + angle * weight, other)
                turning = turning / row(r, other)
                gradients = tuple(
                    changed(values, row(values, other) + turning * (u - cosine * v), other)
                    for values, u, v in zip(gradients, unit, there, strict=True)
                )
                return sums, by_weights, gradients

            none = energy, nothing, nothing, tuple(nothing for _ in units)
            (energy, by_weight, along, across), by_weights, gradients = sum_over(
                room, lambda other: other < slot, add_angle, (none, by_weights, gradients)
            )
            by_weights = changed(by_weights, row(by_weights, slot) + by_weight, slot)
            length = row(r, slot)
            gradients = tuple(
                changed(values, row(values, slot) + (a - along * u) / length, slot)
                for values, u, a in zip(gradients, unit, across, strict=True)
            )
            return energy, by_weights, gradients

        zeros = jnp.zeros_like(r)
        start = nothing, zeros, tuple(zeros for _ in units)
        energy, by_weights, gradients = sum_over(room, lambda slot: slot < most, add_bond, start)
        stretching = pair_slopes + by_weights * weight_slopes
        gradients = tuple(
            gradient + stretching * unit for gradient, unit in zip(gradients, units, strict=True)
        )
        return energy[0] + jnp.sum(pairs, axis=0), gradients
