"""Responses and observables of many small structures side by side, compiled."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.batches.padding import Devices, with_potential
from mdsens.compilation import compiled
from mdsens.implicit import (
    BlockSolver,
    LinearSolution,
    jacobian_error_estimate,
    jvp_solution,
    newton_step,
    orthonormal_basis,
)
from mdsens.linalg.null_space import NEGLIGIBLE, NULL_FRACTION
from mdsens.mechanics.condition import Condition
from mdsens.mechanics.dense_jacobian import dense_jacobian
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.minimisers.dense_newton import eigh, in_turn
from mdsens.modules import Module
from mdsens.observables.observable import Observable
from mdsens.potentials.potential import Potential
from mdsens.relaxation.certificate import EIGENVALUE_COUNT
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.sensitivities.linear_response import LONGEST, STRAIGHT, part_left, part_taken, reach_of


class Response(Module):
    """How P parameters move each structure, and what its Hessian is like.

    `step` leads to where the structure's error is of second order, `left` is the part of the
    way that it leaves, and `ahead` are the tangents there; `None` where no errors are
    estimated. `free` is a motion along all floppy modes; zero where there are none.
    """

    tangents: Float[Array, "*W P R D"]
    residuals: Float[Array | np.ndarray, "*W P"]
    step: Float[Array, "*W R D"] | None
    left: Float[Array | np.ndarray, "*W"] | None
    ahead: Float[Array, "*W P R D"] | None
    errors: Float[Array | np.ndarray, "*W P"] | None
    positions: Float[Array, "*W P N D"]
    cells: Float[Array, "*W P D D"]
    stiffness: Float[Array, "*W"]
    eigenvalues: Float[Array, "*W E"]
    null_rank: Int[Array, "*W"]
    floppy: Int[Array, "*W"]
    free: Float[Array, "*W R D"]
    rattlers: Bool[Array, "*W N"]


@compiled
def respond(
    devices: Devices,
    landscapes: Landscape,
    shared: Potential | None,
    directions: Potential,
    q: Float[Array, "W R D"],
    forces: Float[Array, " W"],
    estimate: bool,
) -> Response:
    """The response of the structures in all slots to changes along P directions."""

    def in_slots(
        landscapes: Landscape, q: Array, forces: Array, common: tuple[Any, ...]
    ) -> Response:
        shared, directions = common

        def one(landscape: Landscape, q: Array, force: Array) -> Response:
            return _response(with_potential(landscape, shared), directions, q, force, estimate)

        return jax.vmap(one)(landscapes, q, forces)

    return devices.spread(in_slots, (landscapes, q, forces), (shared, directions))


def _response(
    landscape: Landscape,
    directions: Potential,
    q: Float[Array, "R D"],
    force: Float[Array, ""],
    estimate: bool,
) -> Response:
    """The same for one structure."""
    potential = landscape.potential
    found = find_rattlers(landscape.system_at(q), potential, landscape.edge_list, force)
    rattlers = landscape.rattlers | found
    landscape = eqx.tree_at(lambda l: l.rattlers, landscape, rattlers)
    landscape = landscape.with_rattlers_at(q).backbone()
    modes = _Modes(landscape, q)
    condition = Condition(landscape)
    given = condition, q, (potential,), (directions,), modes
    step = left = ahead = errors = None
    if estimate:
        step = newton_step(condition, q, (potential,), modes) - q
        reach = reach_of(step, potential.interaction_range)
        step = part_taken(step, potential.interaction_range) * step
        ahead = q + step
        of_step = part_left(step, newton_step(condition, ahead, (potential,), modes) - ahead)
        left = jnp.where(reach > LONGEST, 1.0, jnp.where(reach > STRAIGHT, of_step, 0.0))
        estimated = jacobian_error_estimate(*given, improved=ahead)
        tangents, residuals = estimated.derivative, estimated.residual
        ahead, errors = estimated.corrected, estimated.absolute
    else:
        solution = jvp_solution(*given)
        tangents, residuals = solution.value, solution.residual

    def moved(q: Array) -> tuple[Array, Array]:
        system = landscape.system_at(q)
        return system.positions, system.cell

    positions, cells = jax.vmap(lambda tangent: jax.jvp(moved, (q,), (tangent,))[1])(tangents)
    return Response(
        tangents, residuals, step, left, ahead, errors, positions, cells,
        modes.stiffness, modes.lowest, modes.null_rank, modes.floppy,
        modes.free.reshape(q.shape), rattlers,
    )  # fmt: skip


class _Modes(BlockSolver):
    """All eigenvalues and modes of a Hessian, and solves outside its null space.

    Attributes:
        stiffness: largest entry of the Hessian in size.
        lowest: lowest eigenvalues outside the null space, infinite where there are fewer.
        null_rank: number of independent null vectors by symmetry.
        floppy: number of null modes that no symmetry explains.
        free: a motion along all of these.
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
        floppy = jnp.abs(values) < NULL_FRACTION * largest
        self.floppy = jnp.sum(floppy)
        # In parts that have nothing to do with one another.
        parts = np.random.default_rng(0).normal(size=size)
        self.free = self.modes @ jnp.where(floppy, parts, 0.0)

    def solve(self, columns: Float[Array, "P R D"]) -> LinearSolution:
        """As of every BlockSolver, refined once."""
        rights = columns.reshape(len(columns), -1)

        def apply(rights: Array, weights: Array) -> Array:
            return (rights @ self.modes * weights[None, :]) @ self.modes.T

        wanted = apply(rights, self.regular.astype(float))
        value = apply(wanted, self.inverse)
        value = value + apply(wanted - value @ self.matrix, self.inverse)
        left = apply(wanted - value @ self.matrix, self.regular.astype(float))
        outside = jnp.linalg.norm(rights - wanted, axis=1)
        residual = jnp.linalg.norm(left, axis=1) / jnp.maximum(
            jnp.linalg.norm(wanted, axis=1), 1e-300
        )
        return LinearSolution(
            value.reshape(columns.shape), residual, outside, jnp.zeros(outside.shape, int)
        )


@compiled
def observe(
    devices: Devices,
    observables: tuple[Observable, ...],
    landscapes: Landscape,
    shared: Potential | None,
    directions: Potential,
    q: Float[Array, "W R D"],
    forces: Float[Array, " W"],
    tangents: Float[Array, "W P R D"],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Observables in all slots, and their changes along P directions."""

    def in_slots(
        landscapes: Landscape,
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
    landscape: Landscape,
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
