"""A segment of one relaxation's steps, compiled where the minimiser is."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers.line_search import LineSearchMinimiser
from mdsens.minimisers.minimiser import Minimiser, State, on_the_host
from mdsens.minimisers.steps import Bounds, Outlook, outlook, steps_while


class Segment(NamedTuple):
    """What one run of steps did.

    Attributes:
        state: the state reached.
        steps: number of steps taken.
        enthalpies: shape (limit,), enthalpy after each step; unused entries are NaN.
        forces: shape (limit,), largest force after each step.
        stresses: shape (limit,), largest stress after each step that the load does not balance;
            None where the cell is fixed.
        outlook: how it stands.
    """

    state: State
    steps: Int[Any, ""]
    enthalpies: Float[Any, " limit"]
    forces: Float[Any, " limit"]
    stresses: Float[Any, " limit"] | None
    outlook: Outlook


def advance(
    minimiser: Minimiser,
    landscape: Landscape,
    state: State,
    reference: Float[Array, "R D"],
    bounds: Bounds,
    limit: int,
) -> Segment:
    """Take steps until converged, not finite, stalled, out of steps, or too far from the edges.

    Arguments:
        minimiser: the algorithm.
        landscape: the function to minimise; its edges are those at ``reference``.
        state: where to begin.
        reference: degrees of freedom at which the edges were found, shape (R, D).
        bounds: where to stop.
        limit: size of the record, and steps to take at most; on the host no more than the
            minimiser takes at a time.

    Returns:
        The Segment. What the minimiser remembered at the beginning is used up.
    """
    if minimiser.own_edges:
        return minimiser.steps(landscape, state, bounds, limit)
    if not minimiser.runs_on_host(state.q):
        if isinstance(minimiser, LineSearchMinimiser):
            # A number of its own for every skin would be a program of its own.
            length = on_device(minimiser.max_step, float)
            minimiser = dataclasses.replace(minimiser, max_step=length)
        given = (minimiser, landscape, state.without_memory(), reference, bounds, limit)
        return _advance_compiled(given, state.memory)
    count, course = 0, list[tuple[Any, ...]]()
    reference, bounds = in_numpy((reference, bounds))
    seen = _look(landscape, state, reference, count, bounds)
    while bool(seen.due) and count < min(limit, minimiser.steps_at_a_time):
        before = int(state.evaluations)
        state = minimiser.step(landscape, state)
        # What gives up before it has tried anything has taken no step.
        taken = not (bool(state.stalled) and int(state.evaluations) == before)
        count += taken
        seen = _look(landscape, state, reference, count, bounds)
        if taken:
            course.append((state.enthalpy, seen.force, seen.stress))

    def column(place: int) -> Float[np.ndarray, " limit"]:
        return np.array([float(entry[place]) for entry in course])

    stresses = None if seen.stress is None else column(2)
    if isinstance(state.q, np.ndarray):
        # What follows is given arrays of JAX's, whatever the method.
        state = dataclasses.replace(
            jax.tree.map(on_device, state.without_memory()), memory=state.memory
        )
    return Segment(state, np.asarray(count), column(0), column(1), stresses, seen)


def _look(
    landscape: Landscape, state: State, reference: Float[Any, "R D"], steps: int, bounds: Bounds
) -> Outlook:
    """`outlook` on the host."""
    return outlook(landscape, on_the_host(state), reference, np.asarray(steps), bounds)


@compiled(heavy=True, donate="all-except-first")
def _advance_compiled(given: tuple[Any, ...], memory: Any) -> Segment:
    """Of `advance`; the minimiser's memory, the largest of it, is written over in its place."""
    minimiser, landscape, here, reference, bounds, limit = given
    state = dataclasses.replace(here, memory=memory)

    def look(course: tuple[Any, ...]) -> Outlook:
        return outlook(landscape, course[0], reference, course[1], bounds)

    def step(course: tuple[Any, ...], _: Outlook) -> tuple[Any, ...]:
        current, steps, record = course
        current = minimiser.step(landscape, current)
        news = current.enthalpy, *landscape.forces_left(current.q, current.gradient)
        record = jax.tree.map(lambda column, value: column.at[steps].set(value), record, news)
        return current, steps + 1, record

    blank = jnp.full(limit, jnp.nan)
    record = blank, blank, None if landscape.relaxing_cell is None else blank
    course = (state, jnp.asarray(0), record)
    (state, steps, record), seen, _ = steps_while(
        lambda _, seen: seen.due, step, look, course, limit
    )
    return Segment(state, steps, *record, seen)
