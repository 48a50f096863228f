"""A relaxation inside a function that JAX traces: compiled steps, and a host that finds edges.

What the host is called back for is done by NumPy and the neighbour search alone. A callback that
starts compiled code of its own waits for the threads that wait for it, and where there is one core
never returns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.errors import InputError, RelaxationError
from mdsens.lbfgs_history import LBFGSHistory
from mdsens.mechanics.enthalpy import Landscape, typical_force
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.minimisers.dense_newton import DenseNewton
from mdsens.minimisers.line_search import reached, search
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.steps import (
    SEGMENT_STEPS,
    AnyMinimiser,
    Bounds,
    Outcome,
    Outlook,
    failure,
    outlook,
    steps_while,
    trial_fraction,
    within_skin,
)
from mdsens.modules import Module
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation.automatic import automatic
from mdsens.relaxation.driver import Callback, progress_bar, show_progress
from mdsens.resources import EIGENVECTOR_LIMIT


@dataclasses.dataclass(frozen=True)
class TracedOptions:
    """How to relax; the names mean what they mean in `mdsens.relax`.

    Attributes:
        method: ``"auto"``, or a Minimiser.
        fmax: largest force at which to stop, energy/length.
        max_steps: steps to take at most.
        max_step: largest move of an atom in one trial, length.
        skin: length by which edges reach beyond the range; None: a fraction of it.
        callback: told about the course.
        progress: whether to show it.
        capacity: edges per atom and periodic images that there is room for.
    """

    method: str | Minimiser
    fmax: float
    max_steps: int
    max_step: float
    skin: float | None
    callback: Callback | None
    progress: bool
    capacity: tuple[int, int]


class Course(Module):
    """Where a relaxation is, and its edges with the place at which they were found.

    Attributes:
        state: degrees of freedom, enthalpy, gradient, and the minimiser's memory.
        edge_list: edges, those at ``reference``.
        reference: degrees of freedom, shape (R, D).
        steps: steps taken so far.
    """

    state: State
    edge_list: EdgeList
    reference: Float[Array, "R D"]
    steps: Int[Array, ""]


class Found(NamedTuple):
    """Where a relaxation has ended.

    Attributes:
        q: degrees of freedom, shape (R, D), length.
        edge_list: all edges within the potential's range.
        rattlers: shape (N,), atoms without load.
        force: the largest force, energy/length.
        stress: the largest stress that the load does not balance, energy/length^D; None where the
            cell is fixed.
    """

    q: Float[Array, "R D"]
    edge_list: EdgeList
    rattlers: Bool[Array, " N"]
    force: Float[Array, ""]
    stress: Float[Array, ""] | None


def relax_traced(
    start: System,
    potential: Potential,
    relaxing_cell: RelaxingCell | None,
    options: TracedOptions,
) -> Found:
    """Relax inside a traced function; `vmap` of it relaxes many side by side.

    Arguments:
        start: where to begin.
        potential: the potential.
        relaxing_cell: what of the cell relaxes, and against which load; None: it is fixed.
        options: how to relax.

    Returns:
        Where it has ended.

    Raises:
        InputError: a method whose steps are host code.
    """
    descent = _TracedDescent(start, potential, relaxing_cell, options)
    course = descent.begin()
    method = options.method
    if isinstance(method, Newton) and course.state.q.size <= EIGENVECTOR_LIMIT:
        method = DenseNewton(max_step=method.max_step)
    if method == "auto":
        course = _automatically(descent, course)
    else:
        assert isinstance(method, Minimiser)
        if method.runs_on_host(course.state.q):
            raise InputError(
                f"method = {type(method).__name__}: its steps are host code for "
                f"{course.state.q.size} degrees of freedom, and cannot be traced: use 'auto' or "
                "'lbfgs', or relax outside jit and vmap"
            )
        course = descent.run(method, course)
    course = descent.checked(course)
    q = course.state.q
    landscape = descent.landscape(course)
    force, stress = landscape.forces_left(q, course.state.gradient)
    rattlers = find_rattlers(landscape.system_at(q), potential, course.edge_list, force)
    return Found(landscape.settled(q), course.edge_list, rattlers, force, stress)


class Legs(Module):
    """What the method "auto" remembers.

    Attributes:
        past: steps of L-BFGS since Newton's method was tried last.
        target: the largest force to try it at, energy/length.
        newton: whether it is being tried.
        stalled: whether L-BFGS found no way down before.
    """

    past: LBFGSHistory
    target: Float[Array, ""]
    newton: Bool[Array, ""]
    stalled: Bool[Array, ""]


def _automatically(descent: "_TracedDescent", course: Course) -> Course:
    """L-BFGS until the forces are small, then Newton steps; as `descend_automatically`.

    Systems too large for a dense Hessian go on with L-BFGS to the end. Both methods take their
    steps in one loop, by one line search: each evaluation in a program takes as long to compile as
    all else of a method.
    """
    options = descent.options
    policy = automatic(descent.potential, options.max_step)
    if course.state.q.size > EIGENVECTOR_LIMIT or descent.potential.made_by_calls:
        return descent.run(policy.last, course)
    first, _ = descent.within_skin(policy.first)
    newton, allowed = descent.within_skin(DenseNewton(max_step=options.max_step))

    def step(course: Course, seen: Outlook) -> Course:
        state, legs, landscape = course.state, course.state.memory, descent.landscape(course)
        begins = course.steps < 0
        tries = legs.newton | legs.stalled | (seen.left <= legs.target)
        # Of several side by side none tries while others only take the cheaper steps, or all would
        # have a Hessian made at each of these.
        waits = tries & eqxi.unvmap_any(seen.due & ~tries)
        by_newton = tries & ~waits
        along, length = first.direction(legs.past, state.gradient)
        along, length = jax.lax.cond(
            eqxi.unvmap_any(seen.due & by_newton),
            lambda: (
                jnp.where(by_newton, newton.direction(landscape, state), along),
                jnp.where(by_newton, 1.0, length),
            ),
            lambda: (along, length),
        )
        found, accepted = search(
            landscape, state, along, length, newton.max_step, 0.9, waits=waits, measures=begins
        )
        left = landscape.held_against_fmax(*landscape.forces_left(found.q, found.gradient))
        ends = by_newton & ~policy.goes_on(seen.left, left)
        past = legs.past.with_step(
            found.q - state.q, found.gradient - state.gradient, accepted & ~tries
        )
        first_target = policy.first_target(typical_force(found.gradient))
        target = jnp.where(begins, first_target, policy.next_target(left))
        target = jnp.where(begins | ends, jnp.maximum(target, options.fmax), legs.target)
        stalled = jnp.where(tries, legs.stalled & ~ends, ~accepted & legs.past.empty)
        legs = Legs(past.forgotten(ends | ~accepted), target, tries & ~ends, stalled)
        after = reached(state, found, ends & course.state.memory.stalled, legs)
        return dataclasses.replace(course, state=after, steps=course.steps + jnp.where(waits, 0, 1))

    no = jnp.asarray(False)
    legs = Legs(first.start(course.state.q), jnp.asarray(0.0), no, no)
    return descent.steps(course, legs, allowed, step, evaluates=True)


class _TracedDescent:
    """One relaxation on its way down, as a function of traced values."""

    def __init__(
        self,
        start: System,
        potential: Potential,
        relaxing_cell: RelaxingCell | None,
        options: TracedOptions,
    ) -> None:
        self.start, self.potential, self.relaxing_cell = start, potential, relaxing_cell
        self.options = options
        self.search = potential.edge_search(start, options.skin)
        self.skin = jnp.asarray(self.search.skin, float)
        self.bar = progress_bar() if options.progress else None

    def landscape(self, course: Course) -> Landscape:
        """The function that is minimised, with the edges of a course."""
        return self._landscape(course.edge_list, course.reference)

    def _landscape(self, edge_list: EdgeList, reference: Float[Array, "R D"]) -> Landscape:
        given = self.start, self.potential, edge_list, self.relaxing_cell
        return Landscape.in_cell(*given).touching(reference)

    def begin(self) -> Course:
        """The start, with its edges, where nothing is evaluated yet: one step before the first."""
        edge_list = self._edges(self.start)
        landscape = Landscape.in_cell(self.start, self.potential, edge_list, self.relaxing_cell)
        q, nowhere = landscape.settled(landscape.coordinates), jnp.asarray(jnp.inf)
        state = State(q, nowhere, jnp.zeros_like(q), jnp.asarray(0), jnp.asarray(False), ())
        return Course(state, edge_list, q, jnp.asarray(-1))

    def _evaluated(self, course: Course) -> Course:
        """The same place before the first step, with its enthalpy and gradient."""
        enthalpy, gradient = self.landscape(course).enthalpy_and_gradient(course.state.q)
        state = dataclasses.replace(
            course.state, enthalpy=enthalpy, gradient=gradient, evaluations=jnp.asarray(1)
        )
        return dataclasses.replace(course, state=state, steps=jnp.asarray(0))

    def within_skin(self, minimiser: AnyMinimiser) -> tuple[AnyMinimiser, Float[Array, ""]]:
        """A minimiser whose trial moves the edges outlast, and how near atoms may come, length."""
        return within_skin(minimiser, self.skin, trial_fraction(self.potential))

    def run(self, minimiser: Minimiser, course: Course) -> Course:
        """Let a minimiser take steps until the largest force is small enough.

        Arguments:
            minimiser: the algorithm.
            course: where to begin.

        Returns:
            The Course at the end, with the minimiser's memory.
        """
        minimiser, allowed = self.within_skin(minimiser)

        def step(course: Course, _: Outlook) -> Course:
            after = minimiser.step(self.landscape(course), course.state)
            return dataclasses.replace(course, state=after, steps=course.steps + 1)

        return self.steps(course, minimiser.start(course.state.q), allowed, step)

    def steps(
        self,
        course: Course,
        memory: Any,
        allowed: Float[Array, ""],
        step: Callable[[Course, Outlook], Course],
        evaluates: bool = False,
    ) -> Course:
        """Take steps until the largest force is small enough, with new edges where they are due.

        Arguments:
            course: where to begin.
            memory: what is remembered there.
            allowed: how far two atoms may come nearer before the edges may miss one, length.
            step: takes a step.
            evaluates: whether the first evaluates the beginning, and leads nowhere.

        Returns:
            The Course at the end.
        """
        fmax, limit = self.options.fmax, self.options.max_steps
        bounds = Bounds(jnp.asarray(fmax, float), jnp.asarray(limit), allowed)
        course = dataclasses.replace(course, state=dataclasses.replace(course.state, memory=memory))

        def look(course: Course) -> Outlook:
            landscape = self.landscape(course)
            return outlook(landscape, course.state, course.reference, course.steps, bounds)

        def with_new_edges(given: tuple[Course, Outlook]) -> tuple[Course, Outlook]:
            course, seen = given
            course = self._with_new_edges(course)
            if self.landscape(course).holds_bonds:
                return course, look(course)
            return course, seen._replace(outdated=jnp.asarray(False))

        def segment(given: tuple[Course, Outlook]) -> tuple[Course, Outlook]:
            course, seen, _ = steps_while(
                lambda _, seen: seen.due, step, look, given[0], SEGMENT_STEPS, given[1]
            )
            found: tuple[Course, Outlook] = jax.lax.cond(
                seen.unfinished & seen.outdated,
                with_new_edges, lambda same: same, (self._told(course), seen),
            )  # fmt: skip
            return found

        if evaluates:
            going, far = jnp.asarray(Outcome.GOING, jnp.int32), jnp.asarray(jnp.inf)
            stress = None if self.relaxing_cell is None else far
            seen = Outlook(going, jnp.asarray(False), far, stress, far)
        else:
            course = self._evaluated(course)
            seen = look(course)
        end: tuple[Course, Outlook] = jax.lax.while_loop(
            lambda given: given[1].unfinished, segment, (course, seen)
        )
        return end[0]

    def checked(self, course: Course) -> Course:
        """The same course; an error when it runs, where it has led to nothing finite."""
        landscape = self.landscape(course)
        start = landscape.coordinates

        def check(q: Any, start: Any, enthalpy: Any, gradient: Any, steps: Any, *more: Any) -> Any:
            q, start, enthalpy, gradient = map(np.asarray, (q, start, enthalpy, gradient))
            reach, deformation = float(more[0]), np.asarray(more[1])
            if self.bar is not None:
                self.bar.stop()
            wrong = failure(
                q, start, float(enthalpy), gradient, int(steps), reach, self.start.atom_count,
                deformation,
            )  # fmt: skip
            if wrong is not None:
                raise RelaxationError(wrong)
            return q

        state = course.state
        reach = jnp.asarray(self.search.cutoff if self.potential.acts_along_edges else jnp.inf)
        deformation = jnp.asarray(landscape.deformation(state.q))
        given = (
            state.q, start, state.enthalpy, state.gradient, course.steps, reach, deformation,
        )  # fmt: skip
        q = _call_back(check, jax.ShapeDtypeStruct(state.q.shape, state.q.dtype), *given)
        return dataclasses.replace(course, state=dataclasses.replace(state, q=q))

    def _with_new_edges(self, course: Course) -> Course:
        # Edges that were missing have neither energy nor force yet: both are as they were.
        landscape, state = self.landscape(course), course.state
        edge_list = self._edges(landscape.system_at(state.q))
        q = landscape.settled(state.q)
        if landscape.holds_bonds:
            _, gradient = self._landscape(edge_list, q).enthalpy_and_gradient(q)
            state = dataclasses.replace(state, q=q, gradient=gradient)
        return dataclasses.replace(course, state=state, edge_list=edge_list, reference=q)

    def _edges(self, system: System) -> EdgeList:
        return self.search.find_traced(system.positions, system.cell, self.options.capacity)

    def _told(self, course: Course) -> Course:
        """The same course, of which the callback has been told."""
        tell, bar = self.options.callback, self.bar
        if tell is None and bar is None:
            return course

        def on_host(steps: Any, enthalpy: Any, force: Any, positions: Any) -> np.ndarray:
            news = int(steps), float(enthalpy), float(force)
            if bar is not None:
                bar.start()
                show_progress(bar, *news)
            if tell is not None:
                tell(*news, np.asarray(positions))
            return np.asarray(steps)

        landscape = self.landscape(course)
        positions = landscape.system_at(course.state.q).positions
        force, _ = landscape.forces_left(course.state.q, course.state.gradient)
        steps = _call_back(
            on_host, jax.ShapeDtypeStruct((), course.steps.dtype),
            course.steps, course.state.enthalpy, force, positions,
        )  # fmt: skip
        return dataclasses.replace(course, steps=steps)


def _call_back(function: Callable[..., Any], shapes: Any, *values: Array) -> Any:
    """Call host code with numbers when the compiled code runs; for each of a batch in turn."""
    return jax.pure_callback(function, shapes, *values, vmap_method="sequential")
