"""A segment of steps in all slots of a batch, compiled."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.batches.padding import with_potential
from mdsens.compilation import compiled
from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.minimisers.steps import SEGMENT_STEPS, Bounds, Outlook, outlook, steps_while
from mdsens.modules import Module
from mdsens.potentials.potential import Potential


class Begin(Module):
    """What the host has changed in the slots before a segment of steps."""

    starts: Float[Array, "W R D"]
    fresh: Bool[Array, " W"]
    renewed: Bool[Array, " W"]
    fmax: Float[Array, " W"]
    limits: Int[Array, " W"]


class Course(Module):
    """Where each slot is, where its edges were found, and how many steps it has taken."""

    state: State
    reference: Float[Array, "*W R D"]
    steps: Int[Array, "*W"]


class Report(Module):
    """What the host is told after a segment of steps."""

    q: Float[Array, "W R D"]
    positions: Float[Array, "W N D"]
    cells: Float[Array, "W D D"]
    enthalpy: Float[Array, " W"]
    steps: Int[Array, " W"]
    evaluations: Int[Array, " W"]
    outlook: Outlook


@compiled
def blank_course(minimiser: Minimiser, starts: Float[Array, "W R D"]) -> Course:
    """A course at given starts, shape (W, R, D), of which nothing has been computed yet."""

    def one(q: Float[Array, "R D"]) -> Course:
        state = State(
            q, jnp.zeros(()), jnp.zeros_like(q), jnp.asarray(0), jnp.asarray(False),
            minimiser.start(q),
        )  # fmt: skip
        return Course(state, q, jnp.asarray(0))

    return jax.vmap(one)(starts)


@compiled(heavy=True, donate="all-except-first")
def advance(given: tuple[Any, ...], course: Course) -> tuple[Course, Report]:
    """Take steps in all slots until a quarter of those that were going need the host.

    What was reached before is written over in its place.
    """
    minimiser, devices, landscapes, shared, begin, allowed = given
    run = functools.partial(_advance_slots, minimiser)
    return devices.spread(run, (landscapes, course, begin), (shared, allowed))


def _advance_slots(
    minimiser: Minimiser,
    landscapes: Landscape,
    course: Course,
    begin: Begin,
    common: tuple[Potential | None, Float[Array, ""]],
) -> tuple[Course, Report]:
    shared, allowed = common

    def prepare(landscape: Landscape, course: Course, begin: Begin) -> Course:
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
            jnp.where(begin.fresh, 0, before.evaluations) + jnp.where(new, 1, 0),
            before.stalled & ~begin.fresh,
            memory,
        )
        steps = jnp.where(begin.fresh, 0, course.steps)
        return Course(state, jnp.where(new, q, course.reference), steps)

    def look(landscape: Landscape, course: Course, begin: Begin) -> Outlook:
        landscape = with_potential(landscape, shared)
        bounds = Bounds(begin.fmax, begin.limits, allowed)
        return outlook(landscape, course.state, course.reference, course.steps, bounds)

    def step(landscape: Landscape, course: Course, going: Array) -> Course:
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

    def look_around(course: Course) -> Outlook:
        return jax.vmap(look)(landscapes, course, begin)

    course = jax.vmap(prepare)(landscapes, course, begin)
    # Worth a return to the host: to fill slots, and to renew edges.
    enough = jnp.maximum(1, 3 * jnp.sum(look_around(course).due) // 4)
    course, seen, _ = steps_while(
        lambda _, seen: jnp.sum(seen.due) >= enough,
        lambda course, seen: jax.vmap(step)(landscapes, course, seen.due),
        look_around,
        course,
        SEGMENT_STEPS,
    )
    moved = jax.vmap(lambda landscape, q: landscape.system_at(q))(landscapes, course.state.q)
    state = course.state
    return course, Report(
        state.q, moved.positions, moved.cell, state.enthalpy, course.steps, state.evaluations, seen,
    )  # fmt: skip
