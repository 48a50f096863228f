"""A segment of steps in all slots of a batch, compiled."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.batches.padding import (
    PaddedLandscape,
    with_potential,
)
from mdsens.mechanics.enthalpy import largest_force
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.potentials.potential import Potential
from mdsens.relaxation.driver import SEGMENT_STEPS


class Begin(eqx.Module):
    """What the host has changed in the slots before a segment of steps."""

    starts: Float[Array, "W R D"]
    fresh: Bool[Array, " W"]
    renewed: Bool[Array, " W"]
    fmax: Float[Array, " W"]
    limits: Int[Array, " W"]


class Course(eqx.Module):
    """Where each slot is, where its edges were found, and how many steps it has taken."""

    state: State
    reference: Float[Array, "W R D"]
    steps: Int[Array, " W"]


class Report(eqx.Module):
    """What the host is told after a segment of steps."""

    q: Float[Array, "W R D"]
    positions: Float[Array, "W N D"]
    cells: Float[Array, "W D D"]
    enthalpy: Float[Array, " W"]
    force: Float[Array, " W"]
    steps: Int[Array, " W"]
    evaluations: Int[Array, " W"]
    stalled: Bool[Array, " W"]
    outdated: Bool[Array, " W"]
    unfinished: Bool[Array, " W"]


@eqx.filter_jit
def blank_course(minimiser: Minimiser, starts: Float[Array, "W R D"]) -> Course:
    """A course at given starts, shape (W, R, D), of which nothing has been computed yet."""

    def one(q: Float[Array, "R D"]) -> Course:
        state = State(
            q, jnp.zeros(()), jnp.zeros_like(q), jnp.asarray(0), jnp.asarray(False),
            minimiser.start(q),
        )  # fmt: skip
        return Course(state, q, jnp.asarray(0))

    return jax.vmap(one)(starts)


@eqx.filter_jit(donate="all-except-first")
def advance(given: tuple[Any, ...], course: Course) -> tuple[Course, Report]:
    """Take steps in all slots until a quarter of those that were going need the host.

    What was reached before is written over in its place.
    """
    minimiser, devices, landscapes, shared, begin, allowed = given
    run = functools.partial(_advance_slots, minimiser)
    return devices.spread(run, (landscapes, course, begin), (shared, allowed))


def _advance_slots(
    minimiser: Minimiser,
    landscapes: PaddedLandscape,
    course: Course,
    begin: Begin,
    common: tuple[Potential | None, Float[Array, ""]],
) -> tuple[Course, Report]:
    shared, allowed = common

    def prepare(landscape: PaddedLandscape, course: Course, begin: Begin) -> Course:
        """Fresh slots begin; those and the ones with new edges are evaluated."""
        landscape = with_potential(landscape, shared)
        q = jnp.where(begin.fresh, begin.starts, course.state.q)
        enthalpy, gradient = landscape.enthalpy_and_gradient(q)
        new = begin.fresh | begin.renewed
        before = course.state
        memory = jax.tree.map(
            lambda start, kept: jnp.where(begin.fresh, start, kept),
            minimiser.start(q), before.memory,
        )  # fmt: skip
        state = State(
            q,
            jnp.where(new, enthalpy, before.enthalpy),
            jnp.where(new, gradient, before.gradient),
            jnp.where(begin.fresh, 0, before.evaluations) + new,
            before.stalled & ~begin.fresh,
            memory,
        )
        steps = jnp.where(begin.fresh, 0, course.steps)
        return Course(state, jnp.where(new, q, course.reference), steps)

    def outlook(
        landscape: PaddedLandscape, course: Course, begin: Begin
    ) -> tuple[Array, Array, Array]:
        """Whether another step is to be taken, whether edges are outdated, the largest force."""
        state = course.state
        force = largest_force(state.gradient)
        unfinished = (
            (force > begin.fmax)
            & jnp.isfinite(state.enthalpy)
            & ~state.stalled
            & (course.steps < begin.limits)
        )
        outdated = landscape.displacement_bound(state.q, course.reference) >= allowed
        return unfinished, outdated, force

    def step(landscape: PaddedLandscape, course: Course, going: Array) -> Course:
        landscape, state = with_potential(landscape, shared), course.state
        # A slot that stands still takes a step without force, which is over at once.
        still = State(
            jnp.where(going, state.q, course.reference),
            jnp.where(going, state.enthalpy, jnp.inf),
            jnp.where(going, state.gradient, 0.0),
            state.evaluations, state.stalled, state.memory,
        )  # fmt: skip
        stepped = Course(minimiser.step(landscape, still), course.reference, course.steps + 1)
        return jax.tree.map(lambda new, old: jnp.where(going, new, old), stepped, course)

    def going(course: Course) -> Bool[Array, " W"]:
        unfinished, outdated, _ = jax.vmap(outlook)(landscapes, course, begin)
        return unfinished & ~outdated

    def carry_on(carry: tuple[Any, ...]) -> Bool[Array, ""]:
        _, now, taken = carry
        return (jnp.sum(now) >= enough) & (taken < SEGMENT_STEPS)

    def take_steps(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        course, now, taken = carry
        course = jax.vmap(step)(landscapes, course, now)
        return course, going(course), taken + 1

    course = jax.vmap(prepare)(landscapes, course, begin)
    now = going(course)
    # Worth a return to the host: to fill slots, and to renew edges.
    enough = jnp.maximum(1, 3 * jnp.sum(now) // 4)
    course, _, _ = jax.lax.while_loop(carry_on, take_steps, (course, now, jnp.asarray(0)))
    unfinished, outdated, force = jax.vmap(outlook)(landscapes, course, begin)
    moved = jax.vmap(lambda landscape, q: landscape.system_at(q))(landscapes, course.state.q)
    state = course.state
    return course, Report(
        state.q, moved.positions, moved.cell, state.enthalpy, force, course.steps,
        state.evaluations, state.stalled, outdated, unfinished,
    )  # fmt: skip
