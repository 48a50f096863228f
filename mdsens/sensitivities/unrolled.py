"""Derivatives of a minimiser's iterates, step by step: what unrolling gives before it converges."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mdsens.compilation import compiled
from mdsens.errors import InputError, RelaxationError
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.minimisers import FIRE, Minimiser, State, first_state
from mdsens.minimisers.minimiser import refresh
from mdsens.minimisers.steps import Bounds, Outlook, outlook, steps_while, within_skin
from mdsens.particles.constraints import require_unconstrained
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.progress import new_bar
from mdsens.relaxation.arguments import compiled_methods
from mdsens.values import boolean, instance, integer, real, shown, text

#: Skin of the edges as a fraction of the potential's range: random starts move far at first.
SKIN_FRACTION = 0.4


@dataclasses.dataclass(frozen=True, eq=False)
class UnrolledTangents:
    """Iterates of a minimiser from S starts, and their derivatives in one parameter.

    Attributes:
        parameter: name of the parameter.
        steps: shape (K,), the numbers of the steps that were recorded.
        positions: shape (K, S, N, D), the iterates, length.
        tangents: shape (K, S, N, D), d positions / d parameter at fixed starting positions.
        forces: shape (K, S), largest force on an atom, energy/length.
    """

    parameter: str
    steps: Int[np.ndarray, " K"]
    positions: Float[np.ndarray, "K S N D"]
    tangents: Float[np.ndarray, "K S N D"]
    forces: Float[np.ndarray, "K S"]

    @property
    def norms(self) -> Float[np.ndarray, "K S"]:
        """L1 norm of each tangent, in the unit of d positions / d parameter."""
        return np.abs(self.tangents).sum(axis=(2, 3))

    def of_starts(self, which: slice) -> "UnrolledTangents":
        """Those of some of the starts."""
        return UnrolledTangents(
            self.parameter, self.steps, self.positions[:, which], self.tangents[:, which],
            self.forces[:, which],
        )  # fmt: skip


def unrolled_tangents(
    systems: Sequence[System],
    potential: Potential,
    parameter: str,
    minimiser: Minimiser | None = None,
    steps: int = 2000,
    every: int = 10,
    skin: float | None = None,
    progress: bool = False,
) -> UnrolledTangents:
    """Differentiate every step of a minimiser in forward mode, from many starts side by side.

    The minimiser takes the same steps as in `mdsens.relax` with a fixed cell, and each state is
    pushed forward with its tangent: positions, velocities, time steps, everything that it
    remembers. It does not stop where forces vanish, and it takes the same number of steps from
    every start. The neighbour lists of all starts are renewed as soon as two atoms of one of them
    may have come nearer than its skin allows, with energy, forces and their tangents computed
    anew; so no contact is missed.

    The unrolled derivative converges to the implicit one of `mdsens.sensitivity` only if, and
    after, the iterates have settled in a minimum; on the way it can grow by orders of magnitude (D.
    Scieur et al., arXiv 2209.13271).

    Arguments:
        systems: S starts with the same number of atoms, species, boundaries and units.
        potential: the potential, with parameters for every species.
        parameter: name of one parameter, e.g. ``"diameter[small]"``.
        minimiser: the minimiser; None: FIRE.
        steps: number of steps to take.
        every: record an iterate after so many steps, and the last one.
        skin: length by which edges reach beyond the range; None: 0.4 times the range, or four
            times the longest step of the minimiser, if this is more. A shorter one shortens it.
        progress: whether to show a progress bar.

    Returns:
        The UnrolledTangents.

    Raises:
        InputError: starts that differ in more than positions and cell, or anything not allowed.
        RelaxationError: energy or forces are not finite.
    """
    instance(potential, "potential", Potential, "a potential, as from mdsens.potentials")
    if minimiser is not None:
        instance(minimiser, "minimiser", Minimiser, "a minimiser such as mdsens.relaxation.FIRE()")
    steps, every = integer(steps, "steps", at_least=1), integer(every, "every", at_least=1)
    if skin is not None:
        skin = real(skin, "skin", above=0.0)
    boolean(progress, "progress")
    name = single_parameter(potential, parameter)
    unrolling = _Unrolling(systems, potential, name, minimiser, skin)
    recorded = np.unique(np.append(np.arange(every, steps + 1, every), steps))
    iterates: list[tuple[np.ndarray, ...]] = []
    bar = progress_bar(f"unrolling {len(systems)} starts: step", steps) if progress else None
    with bar if bar is not None else contextlib.nullcontext():
        for step in recorded:
            iterates.append(unrolling.run_to(int(step)))
            if bar is not None:
                bar.update(bar.task_ids[0], completed=int(step))
    positions, tangents, forces = (np.stack(arrays) for arrays in zip(*iterates, strict=True))
    return UnrolledTangents(name, recorded, positions, tangents, forces)


def single_parameter(potential: Potential, name: str) -> str:
    """The full name of one parameter.

    Arguments:
        potential: the potential.
        name: what was given.

    Returns:
        The name as in ``potential.parameters``.

    Raises:
        InputError: there is no such parameter, or the name means several.
    """
    names = potential.expand_parameter_names(text(name, "parameter"))
    if len(names) != 1:
        raise InputError(f"parameter = {name!r} means {', '.join(names)}: give one of these")
    return names[0]


def progress_bar(what: str, total: int) -> Progress:
    """A bar for one long job of known length.

    Arguments:
        what: what is counted.
        total: how many there are.

    Returns:
        The bar, with one task.
    """
    bar = new_bar(TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
    bar.add_task(what, total=total)
    return bar


class _Unrolling:
    """Starts on their way down, with the tangents of their states."""

    def __init__(
        self,
        systems: Sequence[System],
        potential: Potential,
        parameter: str,
        minimiser: Minimiser | None,
        skin: float | None,
    ):
        self.systems, self.potential = _batch(systems), potential
        self.direction = potential.direction(parameter)
        reach = float(potential.interaction_range)
        given = FIRE() if minimiser is None else minimiser
        if given.runs_on_host(self.systems.positions[0]):
            kinds = ", ".join(kind.__name__ for kind in compiled_methods().values())
            raise InputError(
                f"minimiser = {type(given).__name__}: its steps are host code, which is not "
                f"differentiated; give one of {kinds}"
            )
        enough = max(SKIN_FRACTION * reach, 4.0 * given.trial_distance)
        skin = float(enough if skin is None else skin)
        self.searches = [potential.edge_search(system, skin) for system in systems]
        self.minimiser, self.allowed = within_skin(given, skin, fraction=0.25)
        self.capacity, self.taken = (1, 0), 0
        self.reference = self.systems.positions
        self.edge_lists = self._edges()
        self.state, self.tangent = _begin(
            self.minimiser, self.systems, self.edge_lists, self.potential, self.direction
        )
        self._check()

    def run_to(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, tangents and largest forces after a step."""
        while self.taken < step:
            self.state, self.tangent, count, stale = _advance(
                self.minimiser, self.systems, self.edge_lists, self.potential, self.direction,
                self.state, self.tangent, self.reference, self.allowed,
                jnp.asarray(step - self.taken),
            )  # fmt: skip
            self.taken += int(count)
            if bool(stale):
                self._check()
                self.reference = self.state.q
                self.edge_lists = self._edges()
                self.state, self.tangent = _refreshed(
                    self.systems, self.edge_lists, self.potential, self.direction,
                    self.state, self.tangent,
                )  # fmt: skip
            self._check()
        forces = jax.vmap(largest_force)(self.state.gradient)
        return np.asarray(self.state.q), np.asarray(self.tangent.q), np.asarray(forces)

    def _edges(self) -> EdgeList:
        """The edges of every start, in arrays of one shape."""
        while True:
            lists: list[EdgeList] = []
            places = np.asarray(self.reference), np.asarray(self.systems.cell)
            for search, positions, cell in zip(self.searches, *places, strict=True):
                lists.append(search.find(positions, cell, self.capacity))
                self.capacity = lists[-1].capacity
            if all(edge_list.capacity == self.capacity for edge_list in lists):
                # On the host: one copy to the device for each array instead of one for each start.
                return jax.tree.map(
                    lambda *leaves: jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves])),
                    *lists,
                )

    def _check(self) -> None:
        gradient = np.asarray(self.state.gradient)
        bad = ~np.isfinite(gradient).all(axis=(1, 2)) | ~np.isfinite(self.state.enthalpy)
        if bad.any():
            raise RelaxationError(
                f"energy or forces are not finite after {self.taken} steps from start "
                f"{int(np.argmax(bad))}: move overlapping atoms apart or take smaller steps"
            )


def _batch(systems: Sequence[System]) -> System:
    """One System whose arrays have a first axis over the starts."""
    if not isinstance(systems, (list, tuple)) or not systems:
        raise InputError(f"systems = {shown(systems)}: give a list of at least one System")
    for index, system in enumerate(systems):
        kind = "a mdsens.System, as from System.from_ase"
        instance(system, f"systems[{index}]", System, kind)
        require_unconstrained(system.constraints, f"systems[{index}], whose steps are unrolled")
    first = systems[0]
    for index, system in enumerate(systems):
        if _kind(system) != _kind(first):
            raise InputError(
                f"systems[{index}] is {system}, systems[0] is {first}: give starts with the same "
                "number of atoms, species, boundaries and units"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *systems)


def _kind(system: System) -> tuple[Any, ...]:
    """What all starts have in common."""
    return system.positions.shape, system.symbols, system.pbc, system.units


def _pushed_forward(
    function: Callable[..., Any], inputs: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[State, Any]:
    """A state and its tangent, with zeros where the state does not depend on the parameter."""
    state, tangent = eqx.filter_jvp(function, inputs, tangents)

    def filled(leaf: Any, change: Any) -> Any:
        return jnp.zeros_like(leaf) if change is None and eqx.is_inexact_array(leaf) else change

    return state, jax.tree.map(filled, state, tangent)


@compiled
def _begin(
    minimiser: Minimiser,
    systems: System,
    edge_lists: EdgeList,
    potential: Potential,
    direction: Potential,
) -> tuple[State, Any]:
    """The first state of every start, and its tangent."""

    def one(system: System, edge_list: EdgeList) -> tuple[State, Any]:
        return _pushed_forward(
            lambda p: first_state(minimiser, Landscape.of(system, p, edge_list), system.positions),
            (potential,),
            (direction,),
        )

    return eqx.filter_vmap(one)(systems, edge_lists)


@compiled
def _refreshed(
    systems: System,
    edge_lists: EdgeList,
    potential: Potential,
    direction: Potential,
    states: State,
    tangents: Any,
) -> tuple[State, Any]:
    """The same states with energy, gradient and their tangents computed anew, after new edges."""

    def one(system: System, edge_list: EdgeList, state: State, tangent: Any) -> tuple[State, Any]:
        return _pushed_forward(
            lambda s, p: refresh(Landscape.of(system, p, edge_list), s),
            (state, potential),
            (tangent, direction),
        )

    return eqx.filter_vmap(one)(systems, edge_lists, states, tangents)


@compiled(heavy=True)
def _advance(
    minimiser: Minimiser,
    systems: System,
    edge_lists: EdgeList,
    potential: Potential,
    direction: Potential,
    states: State,
    tangents: Any,
    references: Float[Array, "S N D"],
    allowed: Float[Array, ""],
    limit: Int[Array, ""],
) -> tuple[State, Any, Array, Array]:
    """Take at most ``limit`` steps from every start, until the edges of one may miss a pair.

    Returns:
        States, tangents, the number of steps taken, and whether the edges must be renewed.
    """

    def one(system: System, edge_list: EdgeList, state: State, tangent: Any) -> tuple[State, Any]:
        return _pushed_forward(
            lambda s, p: minimiser.step(Landscape.of(system, p, edge_list), s),
            (state, potential),
            (tangent, direction),
        )

    # All take the same number of steps, also those that have arrived.
    bounds = Bounds(jnp.asarray(0.0), limit, allowed)

    def look(current: State, system: System, edge_list: EdgeList, reference: Array) -> Outlook:
        landscape = Landscape.of(system, potential, edge_list)
        return outlook(landscape, current, reference, jnp.asarray(0), bounds)

    def look_around(carry: tuple[State, Any]) -> Outlook:
        return eqx.filter_vmap(look)(carry[0], systems, edge_lists, references)

    def step(carry: tuple[State, Any], _: Outlook) -> tuple[State, Any]:
        return eqx.filter_vmap(one)(systems, edge_lists, *carry)

    end, seen, taken = steps_while(
        lambda _, seen: ~jnp.any(seen.outdated), step, look_around, (states, tangents), limit
    )
    return *end, taken, jnp.any(seen.outdated)
