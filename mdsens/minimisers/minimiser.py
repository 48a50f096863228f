"""What every minimiser is: a state, a first state and a step."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.mechanics.enthalpy import Landscape
from mdsens.modules import Module


class State(Module):
    """Where a minimiser is.

    Attributes:
        q: degrees of freedom, shape (R, D).
        enthalpy: H(q), energy.
        gradient: dH/dq, shape (R, D), energy/length.
        evaluations: number of evaluations of the gradient so far.
        stalled: whether no step lowers the enthalpy any more.
        memory: what the minimiser remembers from step to step.

    Between the steps of one on the host these may be NumPy's arrays.
    """

    q: Float[Any, "R D"]
    enthalpy: Float[Any, ""]
    gradient: Float[Any, "R D"]
    evaluations: Int[Any, ""]
    stalled: Bool[Any, ""]
    memory: Any

    def without_memory(self) -> "State":
        """The same place for compiled code, which what host code remembers does not concern."""
        return dataclasses.replace(self, memory=())


def on_the_host(state: State) -> State:
    """The place of a state in NumPy's arrays; where they are that already, the state itself."""
    return state if isinstance(state.q, np.ndarray) else in_numpy(state.without_memory())


class Minimiser(Module):
    """An algorithm that takes steps down a landscape."""

    #: Steps on the host between which nobody looks at the course: one, where each is long.
    steps_at_a_time: ClassVar[int] = 1
    #: Whether it finds edges of its own, and takes its steps by `steps`, many at a time.
    own_edges: ClassVar[bool] = False

    @abc.abstractmethod
    def start(self, q: Float[Array, "R D"]) -> Any:
        """The memory before the first step."""

    @abc.abstractmethod
    def step(self, landscape: Landscape, state: State) -> State:
        """One step: a new state, with enthalpy and gradient at its q."""

    def steps(self, landscape: Landscape, state: State, bounds: Any, limit: int) -> Any:
        """Steps of one that has `own_edges`, with what `mdsens.minimisers.segment.advance` takes.

        Raises:
            NotImplementedError: it takes them one by one.
        """
        raise NotImplementedError(f"{type(self).__name__} takes its steps one by one")

    @property
    def trial_distance(self) -> float | Float[Array, ""]:
        """How far an atom may be moved within a step before the enthalpy is compared, length."""
        return 0.0

    def for_host(self) -> "Minimiser":
        """This minimiser for a relaxation that is not traced."""
        return self

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Whether its steps for this many degrees of freedom are host code, and not compiled."""
        return False

    def limited(self, distance: float | Float[Array, ""]) -> Self:
        """This minimiser with trial moves of at most the given length, so that edges stay valid."""
        return self

    def storable(self, memory: Any) -> Any:
        """What of its memory a file can hold: all of it, where that is arrays."""
        return memory

    def aimed_at(self, fmax: float) -> "Minimiser":
        """This minimiser, told at which largest force the relaxation stops."""
        return self


def first_state(minimiser: Minimiser, landscape: Landscape, q: Float[Array, "R D"]) -> State:
    """The state at q before the first step."""
    enthalpy, gradient = landscape.evaluate(q)
    return State(q, enthalpy, gradient, on_device(1), on_device(False), minimiser.start(q))


def refresh(landscape: Landscape, state: State) -> State:
    """The same state with enthalpy and gradient computed anew, after new edges."""
    enthalpy, gradient = landscape.evaluate(state.q)
    return eqx.tree_at(
        lambda s: (s.enthalpy, s.gradient, s.evaluations),
        state,
        (enthalpy, gradient, on_device(in_numpy(state.evaluations) + 1)),
    )
