"""A relaxation inside a function that JAX traces: compiled steps, and a host that finds edges.

What the host is called back for is done by NumPy and the neighbour search alone. A callback that
starts compiled code of its own waits for the threads that wait for it, and where there is one core
never returns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.errors import InputError, RelaxationError
from mdsens.mechanics.enthalpy import Landscape, typical_force
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.minimisers.dense_newton import DenseNewton
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.steps import (
    SEGMENT_STEPS,
    Bounds,
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
        before: what convergence goes by before the last step, energy/length.
    """

    state: State
    edge_list: EdgeList
    reference: Float[Array, "R D"]
    steps: Int[Array, ""]
    before: Float[Array, ""]


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
        course = descent.run(method, course, options.fmax, options.max_steps)
    course = descent.checked(course)
    q = course.state.q
    landscape = descent.landscape(course)
    force, stress = landscape.forces_left(q, course.state.gradient)
    rattlers = find_rattlers(landscape.system_at(q), potential, course.edge_list, force)
    return Found(landscape.settled(q), course.edge_list, rattlers, force, stress)


def _automatically(descent: "_TracedDescent", course: Course) -> Course:
    """L-BFGS until the forces are small, then Newton steps; as `descend_automatically`.

    Systems too large for a dense Hessian go on with L-BFGS to the end.
    """
    options = descent.options
    policy = automatic(descent.potential, options.max_step)
    if course.state.q.size > EIGENVECTOR_LIMIT or descent.potential.made_by_calls:
        return descent.run(policy.last, course, options.fmax, options.max_steps)
    newton = DenseNewton(max_step=options.max_step)

    def going(carry: tuple[Any, ...]) -> Bool[Array, ""]:
        course, _, stuck = carry
        left = descent.left(course)
        finite = jnp.isfinite(left) & jnp.isfinite(course.state.enthalpy)
        wanted = finite & (left > options.fmax) & (course.steps < options.max_steps)
        return wanted & ~stuck

    def one_round(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        course, target, _ = carry
        target = jnp.maximum(target, options.fmax)
        course = descent.run(policy.first, course, target, options.max_steps)
        stalled = course.state.stalled
        course = descent.run(
            newton, course, options.fmax, options.max_steps, while_worth=policy.goes_on
        )
        left = descent.left(course)
        stuck = stalled & ~policy.goes_on(course.before, left)
        return descent.without_memory(course), policy.next_target(left), stuck

    begin = (course, policy.first_target(typical_force(course.state.gradient)), jnp.asarray(False))
    return jax.lax.while_loop(going, one_round, begin)[0]


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

    def left(self, course: Course) -> Float[Array, ""]:
        """What convergence goes by, held against the largest force allowed, energy/length."""
        landscape, state = self.landscape(course), course.state
        return landscape.held_against_fmax(*landscape.forces_left(state.q, state.gradient))

    def begin(self) -> Course:
        """The start, with its edges."""
        edge_list = self._edges(self.start)
        landscape = Landscape.in_cell(self.start, self.potential, edge_list, self.relaxing_cell)
        q = landscape.settled(landscape.coordinates)
        landscape = landscape.touching(q)
        enthalpy, gradient = landscape.enthalpy_and_gradient(q)
        state = State(q, enthalpy, gradient, jnp.asarray(1), jnp.asarray(False), ())
        return Course(state, edge_list, q, jnp.asarray(0), jnp.asarray(jnp.inf))

    def run(
        self,
        minimiser: Minimiser,
        course: Course,
        fmax: float | Array,
        step_limit: int,
        while_worth: Callable[[Any, Any], Any] | None = None,
    ) -> Course:
        """Let a minimiser take steps until the largest force is ``fmax``.

        Arguments:
            minimiser: the algorithm.
            course: where to begin.
            fmax: largest force at which to stop, energy/length.
            step_limit: steps of the whole relaxation at most.
            while_worth: whether to go on, by what convergence goes by before and after a step.

        Returns:
            The Course at the end, with the minimiser's memory.
        """
        minimiser, allowed = within_skin(minimiser, self.skin, trial_fraction(self.potential))
        bounds = Bounds(jnp.asarray(fmax, float), jnp.asarray(step_limit), allowed)
        first = course.steps
        state = dataclasses.replace(
            course.state, stalled=jnp.asarray(False), memory=minimiser.start(course.state.q)
        )
        course = dataclasses.replace(course, state=state)

        def look(course: Course) -> Outlook:
            landscape = self.landscape(course)
            return outlook(landscape, course.state, course.reference, course.steps, bounds)

        def going(course: Course, seen: Outlook) -> Bool[Array, ""]:
            wanted = seen.unfinished
            if while_worth is not None:
                wanted &= (course.steps == first) | while_worth(course.before, seen.left)
            return wanted

        def step(course: Course, seen: Outlook) -> Course:
            after = minimiser.step(self.landscape(course), course.state)
            return dataclasses.replace(
                course, state=after, steps=course.steps + 1, before=seen.left
            )

        def segment(carry: tuple[Course, Outlook]) -> tuple[Course, Outlook]:
            course, seen, _ = steps_while(
                lambda course, seen: going(course, seen) & seen.due, step, look, carry[0],
                SEGMENT_STEPS,
            )  # fmt: skip
            course = jax.lax.cond(
                going(course, seen) & seen.outdated,
                self._with_new_edges, lambda same: same, self._told(course),
            )  # fmt: skip
            return course, seen

        begin = (course, look(course))
        return jax.lax.while_loop(lambda carry: going(*carry), segment, begin)[0]

    def without_memory(self, course: Course) -> Course:
        """The same place, without what a minimiser remembers."""
        return dataclasses.replace(course, state=course.state.without_memory())

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
