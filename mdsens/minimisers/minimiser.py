"""What every minimiser is: a state, a first state and a step; and the one loop that runs them."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.mechanics.enthalpy import Landscape, largest_force


class State(eqx.Module):
    """Where a minimiser is.

    Attributes:
        q: degrees of freedom, shape (R, D).
        enthalpy: H(q), energy.
        gradient: dH/dq, shape (R, D), energy/length.
        evaluations: number of evaluations of the gradient so far.
        stalled: whether no step lowers the enthalpy any more.
        memory: what the minimiser remembers from step to step.
    """

    q: Float[Array, "R D"]
    enthalpy: Float[Array, ""]
    gradient: Float[Array, "R D"]
    evaluations: Int[Array, ""]
    stalled: Bool[Array, ""]
    memory: Any

    def without_memory(self) -> "State":
        """The same place for compiled code, which what host code remembers does not concern."""
        return dataclasses.replace(self, memory=())


class Minimiser(eqx.Module):
    """An algorithm that takes steps down a landscape."""

    @abc.abstractmethod
    def start(self, q: Float[Array, "R D"]) -> Any:
        """The memory before the first step."""

    @abc.abstractmethod
    def step(self, landscape: Landscape, state: State) -> State:
        """One step: a new state, with enthalpy and gradient at its q."""

    @property
    def trial_distance(self) -> float | Float[Array, ""]:
        """How far an atom may be moved within a step before the enthalpy is compared, length."""
        return 0.0

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Whether its steps for this many degrees of freedom are host code, and not compiled."""
        return False

    def limited(self, distance: float | Float[Array, ""]) -> "Minimiser":
        """This minimiser with trial moves of at most the given length, so that edges stay valid."""
        return self

    def aimed_at(self, fmax: float) -> "Minimiser":
        """This minimiser, told at which largest force the relaxation stops."""
        return self


def first_state(minimiser: Minimiser, landscape: Landscape, q: Float[Array, "R D"]) -> State:
    """The state at q before the first step."""
    enthalpy, gradient = evaluate(landscape, q)
    return State(q, enthalpy, gradient, jnp.asarray(1), jnp.asarray(False), minimiser.start(q))


@eqx.filter_jit
def evaluate(
    landscape: Landscape, q: Float[Array, "R D"]
) -> tuple[Float[Array, ""], Float[Array, "R D"]]:
    """The enthalpy and its gradient, compiled."""
    return landscape.enthalpy_and_gradient(q)


def refresh(landscape: Landscape, state: State) -> State:
    """The same state with enthalpy and gradient computed anew, after new edges."""
    enthalpy, gradient = evaluate(landscape, state.q)
    return eqx.tree_at(
        lambda s: (s.enthalpy, s.gradient, s.evaluations),
        state,
        (enthalpy, gradient, state.evaluations + 1),
    )


class Segment(eqx.Module):
    """What one compiled run of steps did.

    Attributes:
        state: the state reached.
        steps: number of steps taken.
        enthalpies: shape (limit,), enthalpy after each step; unused entries are NaN.
        forces: shape (limit,), largest force after each step.
        outdated: whether the edges must be found anew before the next step.
    """

    state: State
    steps: Int[Array, ""]
    enthalpies: Float[Array, " limit"]
    forces: Float[Array, " limit"]
    outdated: Bool[Array, ""]


def advance(
    minimiser: Minimiser,
    landscape: Landscape,
    state: State,
    reference: Float[Array, "R D"],
    allowed_distance: Float[Array, ""],
    fmax: Float[Array, ""],
    step_limit: Int[Array, ""],
    limit: int,
) -> Segment:
    """Take steps until converged, not finite, stalled, out of steps, or too far from the edges.

    Arguments:
        minimiser: the algorithm.
        landscape: the function to minimise; its edges are those at ``reference``.
        state: where to begin.
        reference: degrees of freedom at which the edges were found, shape (R, D).
        allowed_distance: how far two atoms may come nearer before the edges may miss one.
        fmax: largest force at which to stop, energy/length.
        step_limit: steps to take at most.
        limit: size of the record, and steps to take at most.

    Returns:
        The Segment. What the minimiser remembered at the beginning is used up.
    """
    if minimiser.runs_on_host(state.q):
        return _advance_on_host(
            minimiser, landscape, state, reference, allowed_distance, fmax, step_limit
        )
    here = state.without_memory()
    given = (minimiser, landscape, here, reference, allowed_distance, fmax, step_limit, limit)
    return _advance_compiled(given, state.memory)


def unfinished(state: State, fmax: float | Float[Array, ""]) -> Bool[Array, ""]:
    """Whether another step is to be taken: not converged, finite, and still going down."""
    force = largest_force(state.gradient)
    return (force > fmax) & jnp.isfinite(state.enthalpy) & ~state.stalled


@eqx.filter_jit
def _outlook(
    landscape: Landscape,
    state: State,
    reference: Float[Array, "R D"],
    allowed_distance: Float[Array, ""],
    fmax: Float[Array, ""],
) -> tuple[Bool[Array, ""], Bool[Array, ""], Float[Array, ""]]:
    """Whether another step is to be taken, whether the edges are outdated, the largest force."""
    outdated = landscape.displacement_bound(state.q, reference) >= allowed_distance
    return unfinished(state, fmax), outdated, largest_force(state.gradient)


def _advance_on_host(
    minimiser: Minimiser,
    landscape: Landscape,
    state: State,
    reference: Float[Array, "R D"],
    allowed_distance: Float[Array, ""],
    fmax: Float[Array, ""],
    step_limit: Int[Array, ""],
) -> Segment:
    enthalpies: list[Array] = []
    forces: list[Array] = []
    while True:
        here = state.without_memory()
        going, outdated, force = _outlook(landscape, here, reference, allowed_distance, fmax)
        if len(enthalpies) > len(forces):
            forces.append(force)
        # Each step is long, and so progress is shown after every one.
        if not going or outdated or len(forces) >= min(int(step_limit), 1):
            break
        state = minimiser.step(landscape, state)
        enthalpies.append(state.enthalpy)
    blank = jnp.zeros(0)
    return Segment(
        state,
        jnp.asarray(len(forces)),
        jnp.stack(enthalpies) if enthalpies else blank,
        jnp.stack(forces) if forces else blank,
        outdated,
    )


@eqx.filter_jit(donate="all-except-first")
def _advance_compiled(given: tuple[Any, ...], memory: Any) -> Segment:
    """Of `advance`; the minimiser's memory, the largest of it, is written over in its place."""
    minimiser, landscape, here, reference, allowed_distance, fmax, step_limit, limit = given
    state = dataclasses.replace(here, memory=memory)

    def outdated(current: State) -> Bool[Array, ""]:
        return landscape.displacement_bound(current.q, reference) >= allowed_distance

    def going(carry: tuple[Any, ...]) -> Bool[Array, ""]:
        current, steps, _, _ = carry
        wanted = unfinished(current, fmax) & ~outdated(current)
        return wanted & (steps < jnp.minimum(step_limit, limit))

    def one_step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        current, steps, enthalpies, forces = carry
        current = minimiser.step(landscape, current)
        return (
            current,
            steps + 1,
            enthalpies.at[steps].set(current.enthalpy),
            forces.at[steps].set(largest_force(current.gradient)),
        )

    blank = jnp.full(limit, jnp.nan)
    end = jax.lax.while_loop(going, one_step, (state, jnp.asarray(0), blank, blank))
    return Segment(*end, outdated(end[0]))
