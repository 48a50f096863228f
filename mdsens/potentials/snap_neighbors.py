"""Neighbours on the sphere in four dimensions, and the densities they make there, for SNAP."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.particles.edges import Edges
from mdsens.potentials.bispectrum import (
    Quadrature,
    derivatives_at_points,
    quadrature,
    values_at_points,
    values_of_centre,
)
from mdsens.potentials.snap_in_files import SnapInFiles


class NeighborsOnSphere(SnapInFiles):
    """From edges to densities on the sphere, for `mdsens.potentials.SNAP`."""

    rcutfac: eqx.AbstractVar[float]
    twojmax: eqx.AbstractVar[int]
    rfac0: eqx.AbstractVar[float]
    rmin0: eqx.AbstractVar[float]
    switchflag: eqx.AbstractVar[bool]
    chemflag: eqx.AbstractVar[bool]
    wselfallflag: eqx.AbstractVar[bool]
    sinner: eqx.AbstractVar[tuple[float, ...] | None]
    dinner: eqx.AbstractVar[tuple[float, ...] | None]

    @property
    def _quadrature(self) -> Quadrature:
        return quadrature(self.twojmax)

    @property
    def _elements(self) -> int:
        """How many densities each atom has."""
        return len(self.species) if self.chemflag else 1

    @property
    def _cutoffs(self) -> Float[np.ndarray, "S S"]:
        radii = np.array(self.radii)
        return self.rcutfac * (radii[:, None] + radii)

    def _slots(self, edges: Edges) -> Any:
        """The edges of one slot after another: vectors, and all else that an edge is made of."""
        slots = edges.mask.shape[0]
        here = jnp.broadcast_to(edges.species, (slots, *edges.species.shape))
        return edges.vectors, (edges.mask, here, edges.neighbor_species)

    def _point_and_strength(
        self,
        vectors: tuple[Float[Array, " C"], ...],
        mask: Array,
        species: Int[Array, " C"],
        neighbor_species: Int[Array, " C"],
    ) -> tuple[tuple[Float[Array, " C"], ...], Float[Array, " C"]]:
        """Where neighbours stand on the sphere in four dimensions, and with which strength."""

        def of_pair(table: Float[np.ndarray, "S S"]) -> Any:
            if len(table) == 1:
                return float(table[0, 0])
            return jnp.asarray(table)[species, neighbor_species]

        cutoff = of_pair(self._cutoffs)
        squared = sum((v * v for v in vectors[1:]), start=vectors[0] * vectors[0])
        inside = mask & (squared < cutoff * cutoff)
        # Slots without an edge lead far out, where nothing is to be computed.
        r = jnp.sqrt(jnp.where(inside, squared, 1.0))
        scaled = (r - self.rmin0) / (cutoff - self.rmin0)
        theta = self.rfac0 * jnp.pi * scaled
        # LAMMPS takes the root of a square: below rmin0, where the sine is negative, signs change.
        sign = jnp.where(theta < 0.0, -1.0, 1.0) if self.rmin0 > 0.0 else 1.0
        sine = sign * jnp.sin(theta) / r
        q = (sign * jnp.cos(theta), *(jnp.where(inside, sine * v, 0.0) for v in vectors))
        weights = np.array(self.weights)
        strength = (
            float(weights[0]) if len(weights) == 1 else jnp.asarray(weights)[neighbor_species]
        )
        if self.switchflag:
            fading = 0.5 * (jnp.cos(jnp.pi * scaled) + 1.0)
            strength = strength * jnp.where(scaled > 0.0, fading, 1.0)
        if self.switchinnerflag:
            means = [(np.add.outer(one, one) / 2.0) for one in map(np.array, self._inner)]
            middle, half_width = (of_pair(mean) for mean in means)
            part = jnp.clip((r - middle) / half_width, -1.0, 1.0)
            strength = strength * 0.5 * (1.0 + jnp.sin(0.5 * jnp.pi * part))
        return q, jnp.where(inside, strength, 0.0)

    @property
    def _inner(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Middles and half widths of the switches at short distances; none where there are none."""
        return self.sinner or (), self.dinner or ()

    def _of_element(self, species: Int[Array, " C"]) -> Float[Array, "E 1 C"]:
        """1 in the density of each atom's element, 0 in all others."""
        if self._elements == 1:
            return jnp.ones((1, 1, *species.shape))
        elements = jnp.arange(self._elements, dtype=species.dtype)[:, None, None]
        return jnp.where(species[None, None] == elements, 1.0, 0.0)

    def _values_of_edge(
        self,
        vectors: tuple[Float[Array, " C"], ...],
        mask: Array,
        species: Int[Array, " C"],
        neighbor_species: Int[Array, " C"],
    ) -> Float[Array, "E V C"]:
        """What one edge of each atom adds to the densities at the points."""
        q, strength = self._point_and_strength(vectors, mask, species, neighbor_species)
        values = strength[None] * values_at_points(self._quadrature, q)
        return self._of_element(neighbor_species) * values[None]

    def _gradient_of_edge(
        self,
        vectors: tuple[Float[Array, " C"], ...],
        rest: tuple[Array, Array, Array],
        slopes: Float[Array, "E V C"],
    ) -> tuple[Float[Array, " C"], ...]:
        """Gradients along one edge of each atom, from slopes in the values at the points."""
        (q, strength), pull_back = jax.vjp(lambda v: self._point_and_strength(v, *rest), vectors)
        values, along = derivatives_at_points(self._quadrature, q)
        chosen = jnp.sum(self._of_element(rest[2]) * slopes, axis=0)
        by_strength = jnp.sum(chosen * values, axis=0)
        columns = self._quadrature.points_of_values.T[: len(q)]
        by_point = strength[None] * jnp.einsum("dv,vc->dc", columns, chosen * along)
        gradient: tuple[Array, ...] = pull_back((tuple(by_point), by_strength))[0]
        return gradient

    def _curvature_of_edge(
        self,
        vectors: tuple[Float[Array, " C"], ...],
        rest: tuple[Array, Array, Array],
        slopes: Float[Array, "E V C"],
    ) -> Float[Array, "D D C"]:
        """Second derivatives along one edge of each atom, at given slopes in the values.

        A value is a strength s times a function of the point q. To second order in both, what is
        summed over values is left of it: a number, a vector and a matrix.
        """
        q0, s0 = self._point_and_strength(vectors, *rest)
        chosen = jnp.sum(self._of_element(rest[2]) * slopes, axis=0)
        columns = self._quadrature.points_of_values.T[: len(q0)]
        value, first, second = (
            jnp.einsum("kv,vc->kc", weights, chosen * derivative)
            for weights, derivative in zip(
                (
                    np.ones((1, columns.shape[1])),
                    columns,
                    (columns[:, None] * columns).reshape(-1, columns.shape[1]),
                ),
                derivatives_at_points(self._quadrature, q0, 2),
                strict=True,
            )
        )
        second = second.reshape(len(q0), *first.shape)

        def energy(v: tuple[Array, ...]) -> Float[Array, ""]:
            q, s = self._point_and_strength(v, *rest)
            step = jnp.stack(q) - jnp.stack(q0)
            along = jnp.sum(first * step, axis=0)
            bent = 0.5 * jnp.einsum("ic,ijc,jc->c", step, second, step)
            return jnp.sum(s * (value[0] + along) + s0 * bent)

        def along(unit: Float[Array, " D"]) -> Float[Array, "D C"]:
            step = tuple(jnp.broadcast_to(u, vectors[0].shape) for u in unit)
            return jnp.stack(jax.jvp(jax.grad(energy), (vectors,), (step,))[1])

        found: Array = jax.vmap(along)(jnp.eye(len(vectors)))
        return found

    def _values(self, edges: Edges) -> Float[Array, "E V C"]:
        """Densities around each atom at the points."""
        centre = values_of_centre(self._quadrature)[None, :, None]
        itself = jnp.ones((self._elements, 1, edges.mask.shape[1]))
        if not self.wselfallflag:
            itself = self._of_element(edges.species)

        def add(total: Array, slot: Any) -> tuple[Array, None]:
            vectors, rest = slot
            return total + self._values_of_edge(vectors, *rest), None

        values, _ = jax.lax.scan(add, itself * centre, self._slots(edges))
        return values
