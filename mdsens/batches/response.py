"""Responses and observables of many small structures side by side, compiled."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.batches.padding import (
    Devices,
    PaddedLandscape,
    with_potential,
)
from mdsens.implicit import orthonormal_basis
from mdsens.implicit.linearisation import directional_change
from mdsens.linalg.null_space import NEGLIGIBLE, NULL_FRACTION
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.minimisers.dense_newton import dense_jacobian, eigh, in_turn
from mdsens.observables.observable import Observable
from mdsens.potentials.potential import Potential
from mdsens.relaxation.certificate import EIGENVALUE_COUNT
from mdsens.relaxation.equilibrium import Equilibrium


class Response(eqx.Module):
    """How P parameters move each structure, and what its Hessian is like."""

    tangents: Float[Array, "*W P R D"]
    positions: Float[Array, "*W P N D"]
    cells: Float[Array, "*W P D D"]
    residuals: Float[Array, "*W P"]
    newton_step: Float[Array, "*W R D"]
    stiffness: Float[Array, "*W"]
    eigenvalues: Float[Array, "*W E"]
    null_rank: Int[Array, "*W"]
    floppy: Int[Array, "*W"]
    rattlers: Bool[Array, "*W N"]


@eqx.filter_jit
def respond(
    devices: Devices,
    landscapes: PaddedLandscape,
    shared: Potential | None,
    directions: Potential,
    q: Float[Array, "W R D"],
    forces: Float[Array, " W"],
) -> Response:
    """The response of the structures in all slots to changes along P directions."""

    def in_slots(
        landscapes: PaddedLandscape, q: Array, forces: Array, common: tuple[Any, ...]
    ) -> Response:
        shared, directions = common

        def one(landscape: PaddedLandscape, q: Array, force: Array) -> Response:
            return _response(with_potential(landscape, shared), directions, q, force)

        return jax.vmap(one)(landscapes, q, forces)

    return devices.spread(in_slots, (landscapes, q, forces), (shared, directions))


def _response(
    landscape: Landscape,
    directions: Potential,
    q: Float[Array, "R D"],
    force: Float[Array, ""],
) -> Response:
    """The same for one structure."""
    found = find_rattlers(landscape.system_at(q), landscape.potential, landscape.edge_list, force)
    rattlers = landscape.rattlers | found
    landscape = eqx.tree_at(lambda l: l.rattlers, landscape, rattlers)
    landscape = landscape.with_rattlers_at(q).backbone()
    modes = _Modes(landscape, q)

    def condition(q: Array, potential: Potential) -> Array:
        return eqx.tree_at(lambda l: l.potential, landscape, potential).condition(q)

    rights = directional_change(condition, q, (landscape.potential,), (directions,))
    rights = rights.reshape(-1, q.size)
    tangents, residuals = modes.solve(-rights)
    newton_step = modes.solve(-landscape.condition(q).reshape(1, -1))[0].reshape(q.shape)
    tangents = tangents.reshape(-1, *q.shape)

    def moved(q: Array) -> tuple[Array, Array]:
        system = landscape.system_at(q)
        return system.positions, system.cell

    positions, cells = jax.vmap(lambda tangent: jax.jvp(moved, (q,), (tangent,))[1])(tangents)
    return Response(
        tangents, positions, cells, residuals, newton_step, modes.stiffness, modes.lowest,
        modes.null_rank, modes.floppy, rattlers,
    )  # fmt: skip


class _Modes:
    """All eigenvalues and modes of a Hessian, and solves outside its null space.

    Attributes:
        stiffness: largest entry of the Hessian in size.
        lowest: lowest eigenvalues outside the null space, infinite where there are fewer.
        null_rank: number of independent null vectors by symmetry.
        floppy: number of null modes that no symmetry explains.
    """

    def __init__(self, landscape: Landscape, q: Float[Array, "R D"]):
        matrix = dense_jacobian(landscape, q)
        size = q.size
        constrained = jnp.broadcast_to(landscape.constrained_rows(q), q.shape).reshape(-1)
        vectors = jnp.where(constrained, 0.0, landscape.null_vectors(q).reshape(-1, size))
        lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        kept = lengths > NEGLIGIBLE * jnp.max(lengths, initial=0.0)
        basis = in_turn(orthonormal_basis)(jnp.where(kept, vectors, 0.0))
        known = jnp.any(basis != 0.0, axis=1)
        self.matrix = jnp.where(constrained[:, None] | constrained[None, :], 0.0, matrix)
        self.stiffness = jnp.max(jnp.abs(self.matrix))
        largest = jnp.maximum(jnp.max(jnp.sum(jnp.abs(self.matrix), axis=1)), 1e-300)
        half = self.matrix - basis.T @ (basis @ self.matrix)
        across = half - (half @ basis.T) @ basis
        # Null modes by symmetry, and what is constrained, are moved above all others.
        above = basis.T @ basis + jnp.diag(constrained.astype(float))
        values, self.modes = eigh(across + 2.0 * largest * above)
        regular = (jnp.abs(values) >= NULL_FRACTION * largest) & (values < 1.5 * largest)
        self.inverse = jnp.where(regular, 1.0 / jnp.where(regular, values, 1.0), 0.0)
        self.regular = regular
        lowest = jnp.sort(jnp.where(regular, values, jnp.inf))[:EIGENVALUE_COUNT]
        missing = max(EIGENVALUE_COUNT - size, 0)
        self.lowest = jnp.pad(lowest, (0, missing), constant_values=jnp.inf)
        self.null_rank = jnp.sum(known)
        self.floppy = jnp.sum(jnp.abs(values) < NULL_FRACTION * largest)

    def solve(self, rights: Float[Array, "P RD"]) -> tuple[Array, Array]:
        """Solutions of smallest norm, refined once, and relative residuals."""

        def apply(rights: Array, weights: Array) -> Array:
            return (rights @ self.modes * weights[None, :]) @ self.modes.T

        wanted = apply(rights, self.regular.astype(float))
        solutions = apply(wanted, self.inverse)
        solutions = solutions + apply(wanted - solutions @ self.matrix, self.inverse)
        left = apply(wanted - solutions @ self.matrix, self.regular.astype(float))
        size = jnp.maximum(jnp.linalg.norm(wanted, axis=1), 1e-300)
        return solutions, jnp.linalg.norm(left, axis=1) / size


@eqx.filter_jit
def observe(
    devices: Devices,
    observables: tuple[Observable, ...],
    landscapes: PaddedLandscape,
    shared: Potential | None,
    directions: Potential,
    q: Float[Array, "W R D"],
    forces: Float[Array, " W"],
    tangents: Float[Array, "W P R D"],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Observables in all slots, and their changes along P directions."""

    def in_slots(
        landscapes: PaddedLandscape,
        q: Array,
        forces: Array,
        tangents: Array,
        common: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        shared, directions = common
        observe = functools.partial(_observe_one, observables, shared, directions)
        return jax.vmap(observe)(landscapes, q, forces, tangents)

    common = (shared, directions)
    return devices.spread(in_slots, (landscapes, q, forces, tangents), common)


def _observe_one(
    observables: tuple[Observable, ...],
    shared: Potential | None,
    directions: Potential,
    landscape: PaddedLandscape,
    q: Float[Array, "R D"],
    force: Float[Array, ""],
    tangents: Float[Array, "P R D"],
) -> tuple[dict[str, Array], dict[str, Array]]:
    landscape = with_potential(landscape, shared)
    start = landscape.system.positions

    def values(q: Array, potential: Potential) -> dict[str, Array]:
        changed = eqx.tree_at(lambda l: l.potential, landscape, potential)
        equilibrium = Equilibrium(changed, q, start, force, float("inf"), None)
        return {o.name: jnp.asarray(o(equilibrium)) for o in observables}

    def along(inputs: tuple[Array, Potential]) -> dict[str, Array]:
        return jax.jvp(values, (q, landscape.potential), inputs)[1]

    return values(q, landscape.potential), jax.lax.map(along, (tangents, directions))
