"""Observables of an equilibrium: their values, and their changes with what they depend on."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import all_finite, on_device
from mdsens.compilation import MUCH_IN_TWO_CALLS, compiled
from mdsens.errors import InputError
from mdsens.linalg.sparse_solver import column_groups
from mdsens.mechanics.filling import Filling, serves_none_alone
from mdsens.observables.observable import Observable
from mdsens.progress import tracked
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities.by_differences import changes_by_differences, refused
from mdsens.sensitivities.linear_response import LinearResponse
from mdsens.sensitivities.variables import Variables

T = TypeVar("T")

#: Derivatives by the names of observable and parameter.
Derivatives: TypeAlias = dict[str, dict[str, Array]]
#: What observables are stationary in, of each function that says so.
Held: TypeAlias = tuple[Any, ...]


def held_of(observables: tuple[Observable, ...], equilibrium: Equilibrium) -> Held:
    """What observables are stationary in at an equilibrium.

    Arguments:
        observables: whose `stationary` is asked, each function once.
        equilibrium: where.

    Returns:
        What each of these functions gives, in their order.
    """
    return tuple(function(equilibrium) for function in _stationary(observables))


def _stationary(observables: tuple[Observable, ...]) -> list[Any]:
    functions = (o.stationary for o in observables if o.stationary is not None)
    return list(dict.fromkeys(functions))


def _observed(
    observables: tuple[Observable, ...], equilibrium: Equilibrium, held: Held
) -> dict[str, Float[Array, "..."]]:
    """Observables at one equilibrium, which keeps what several of them ask for."""
    known = dict(zip(_stationary(observables), held, strict=True))
    given = {o.name: known.get(o.stationary) for o in observables}
    asked = [o.asks(given[o.name]) for o in observables if o.asks is not None]
    knowing = equilibrium.asked_for(asked)
    return {o.name: jnp.asarray(o(knowing, given[o.name])) for o in observables}


def values_of(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    variables: Variables | None = None,
) -> dict[str, Float[Array, "..."]]:
    """Values of observables.

    Arguments:
        observables: in the order of what is returned.
        equilibrium: where.
        held: as `held_of` gives it for these observables there.
        variables: along which their changes are computed, too, of all of them: by a program that
            tells the values of those made of second derivatives as well, for which one of their own
            would take a second to compile; None: along nothing.

    Returns:
        The value of each by its name.
    """
    if not observables:
        return {}
    traceable, others = _apart(observables)
    told = tuple(one for one in traceable if one.held_tells)
    computed = tuple(one for one in traceable if not one.held_tells)
    found = _observed(told, equilibrium, _held_of_some(told, observables, held))
    if computed:
        own = _held_of_some(computed, observables, held)
        if variables is not None and any(one.stationary is not None for one in computed):
            nothing = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), variables)
            still = on_device(np.zeros(equilibrium.q.shape))
            given = traceable, equilibrium, held, variables
            of_all, _ = _changes_on_host(*given, (still, nothing))
            values = {one.name: of_all[one.name] for one in computed}
        else:
            values = _values_on_host(computed, equilibrium, own)
        if not all(np.isfinite(np.asarray(value)).all() for value in values.values()):
            # Outside of compiled code they say what is the matter.
            values = _observed(computed, equilibrium, own)
        found |= values
    found |= _observed(others, equilibrium, ())
    # In the order they were asked for.
    return {o.name: found[o.name] for o in observables}


def values_nearby(
    observables: tuple[Observable, ...], equilibrium: Equilibrium, held: Held
) -> dict[str, Float[Array, "..."]]:
    """Values of observables at a structure near the one that `held` was made for.

    Arguments:
        observables: in any order.
        equilibrium: where.
        held: as `held_of` gives it for these observables at the other structure.

    Returns:
        The value of each by its name; NaN for one that has none here.
    """
    told = tuple(one for one in observables if one.held_tells)
    others = tuple(one for one in observables if not one.held_tells)
    found = values_of(others, equilibrium, _held_of_some(others, observables, held))
    for one in told:
        try:
            found |= values_of((one,), equilibrium, held_of((one,), equilibrium))
        except InputError:
            found[one.name] = on_device(np.asarray(np.nan))
    return found


def _apart(
    observables: tuple[Observable, ...],
) -> tuple[tuple[Observable, ...], tuple[Observable, ...]]:
    """Those that may be compiled, and those that may not."""
    traceable = tuple(o for o in observables if o.traceable)
    return traceable, tuple(o for o in observables if not o.traceable)


@compiled(seldom=True)
def _compiled_values(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    mechanics: tuple[Array, Array, Array],
) -> dict[str, Array]:
    return _observed(observables, equilibrium.with_mechanics(mechanics), held)


def _values_on_host(
    observables: tuple[Observable, ...], equilibrium: Equilibrium, held: Held
) -> dict[str, Array]:
    """Values by code that is compiled, and serves structures of several sizes where it can."""
    energy, forces, virial = equilibrium.mechanics

    def values(bare: Equilibrium, filling: Filling | None) -> dict[str, Array]:
        filled = forces if filling is None else on_device(filling.rows(forces))
        return dict(_compiled_values(observables, bare, held, (energy, filled, virial)))

    return _in_compiled_code(values, observables, equilibrium)


def _in_compiled_code(
    compute: Callable[[Equilibrium, Filling | None], T],
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    variables: Variables | None = None,
) -> T:
    """What is computed of a structure, filled up where no observable or variable tells.

    It is computed as the structure is where the other atoms, which touch nothing, are not finite.
    """
    of_each_atom = variables is not None and variables.fixed_positions is not None
    count = equilibrium.landscape.system.atom_count
    tells = any(o.fills_from is None or o.fills_from > count for o in observables)
    if not (of_each_atom or tells or equilibrium.landscape.filled is None):
        found = compute(equilibrium.filled, equilibrium.landscape.filled.filling)
        if all_finite(found):
            return found
        serves_none_alone(equilibrium.potential)
    return compute(equilibrium.for_compiled_code(), None)


def _held_of_some(
    some: tuple[Observable, ...], observables: tuple[Observable, ...], held: Held
) -> Held:
    """Of what observables are stationary in that of some of them."""
    wanted = _stationary(some)
    functions = _stationary(observables)
    return tuple(one for one, of in zip(held, functions, strict=True) if of in wanted)


def told_by_differences_alone(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    variables: Variables,
    held: Held,
    name: str,
) -> tuple[Observable, ...]:
    """Observables of which only differences tell how they change.

    Arguments:
        observables: to choose from.
        equilibrium: where.
        variables: what they depend on.
        held: as in `values_of`.
        name: a variable by which their derivatives are tried.

    Returns:
        Those that refuse.
    """
    traceable, _ = _apart(observables)

    def changes(observable: Observable, tangent: Array, direction: Variables) -> dict[str, Array]:
        own = _held_of_some((observable,), observables, held)
        given = variables, tangent, direction
        return _changes((observable,), equilibrium.for_compiled_code(), own, *given)[1]

    return refused(traceable, changes, equilibrium.q, variables.direction(name))


def forward_derivatives(
    equilibrium: Equilibrium,
    observables: tuple[Observable, ...],
    by_differences: tuple[Observable, ...],
    variables: Variables,
    noise: float,
    held: Held,
    tangents: dict[str, Array],
) -> tuple[Derivatives, dict[str, dict[str, np.ndarray]]]:
    """Derivatives of observables in forward mode.

    Arguments:
        equilibrium: where.
        observables: in the order of what is returned.
        by_differences: those among them of which only differences tell how they change.
        variables: what they depend on.
        noise: relative error of what differences are taken of.
        held: as in `values_of`.
        tangents: of q, shape (R, D), by the names of variables.

    Returns:
        Derivatives by the names of observable and variable, and errors of differences likewise.
    """
    direct = tuple(one for one in observables if one not in by_differences)
    own = _held_of_some(direct, observables, held)
    derivatives = pushed_forward(equilibrium, direct, variables, own, tangents)
    errors: dict[str, dict[str, np.ndarray]] = {one.name: {} for one in by_differences}
    if not by_differences:
        return derivatives, errors
    own = _held_of_some(by_differences, observables, held)

    def values(at: Equilibrium) -> dict[str, Array]:
        return _values_on_host(by_differences, at, own)

    derivatives |= {one.name: {} for one in by_differences}
    for name, theta in variables.values(list(tangents)).items():
        along = tangents[name], variables.direction(name)
        given = abs(theta) or 1.0, max(noise, float(np.finfo(float).eps))
        found, off = changes_by_differences(values, equilibrium, variables, *along, *given)
        for observable in by_differences:
            derivatives[observable.name][name] = on_device(found[observable.name])
            errors[observable.name][name] = off[observable.name]
    return {one.name: derivatives[one.name] for one in observables}, errors


def pushed_forward(
    equilibrium: Equilibrium,
    observables: tuple[Observable, ...],
    variables: Variables,
    held: Held,
    tangents: dict[str, Array],
) -> Derivatives:
    """Derivatives of observables from tangents, all of them by derivatives of their functions.

    Arguments:
        equilibrium: where.
        observables: in the order of what is returned.
        variables: what they depend on.
        held: as in `values_of`.
        tangents: of q, shape (R, D), by the names of variables.

    Returns:
        Derivatives by the names of observable and variable.
    """
    derivatives: Derivatives = {observable.name: {} for observable in observables}
    if not observables:
        return {}
    traceable, others = _apart(observables)
    for name, tangent in tangents.items():
        along = tangent, variables.direction(name)
        changes = dict(_changes_on_host(traceable, equilibrium, held, variables, along)[1])
        if others:
            changes |= _changes(others, equilibrium, (), variables, *along)[1]
        for observable in observables:
            derivatives[observable.name][name] = changes[observable.name]
    return derivatives


def _changes(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    variables: Variables,
    tangent: Array,
    direction: Variables,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Observables, and how they change along a direction of what they depend on."""

    def values(q: Float[Array, "R D"], variables: Variables) -> dict[str, Array]:
        return _observed(observables, variables.at(equilibrium, q), held)

    known, changes = jax.jvp(values, (equilibrium.q, variables), (tangent, direction))
    return known, changes


_compiled_changes = compiled(seldom=True, much=MUCH_IN_TWO_CALLS)(_changes)


def _changes_on_host(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    variables: Variables,
    along: tuple[Array, Variables],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`_changes` by code that is compiled, and serves structures of several sizes where it can."""
    tangent, direction = along

    def changes(bare: Equilibrium, filling: Filling | None) -> Any:
        filled = tangent if filling is None else on_device(filling.rows(tangent))
        return _compiled_changes(observables, bare, held, variables, filled, direction)

    return _in_compiled_code(changes, observables, equilibrium, variables)


def reverse_derivatives(
    equilibrium: Equilibrium,
    moved: Equilibrium | None,
    response: LinearResponse,
    observables: tuple[Observable, ...],
    variables: Variables,
    held: tuple[Held, Held],
    names: list[str],
    values: dict[str, Array],
    progress: bool,
) -> tuple[Derivatives, Derivatives, list[float]]:
    """Derivatives of observables in reverse mode: one linear solve for each of their numbers.

    Arguments:
        equilibrium: where.
        moved: a Newton step ahead, where errors are estimated; None: nowhere.
        response: solves the linear systems.
        observables: in the order of what is returned.
        variables: what they depend on.
        held: as in `values_of`, here and ahead.
        names: of the variables asked for.
        values: of the observables, by name.
        progress: whether to show the solves as they go.

    Returns:
        Derivatives by the names of observable and variable, the same ahead, and the relative
        residuals of the solves.
    """
    bare = equilibrium.for_compiled_code()
    bare_ahead = None if moved is None else moved.for_compiled_code()
    entries = [
        (observable, index)
        for observable in observables
        for index in range(values[observable.name].size)
    ]
    here: dict[str, list[Variables]] = {observable.name: [] for observable in observables}
    ahead: dict[str, list[Variables]] = {observable.name: [] for observable in observables}
    residuals: list[float] = []

    def gradients(
        at: Equilibrium, held: Held, group: list[Any]
    ) -> tuple[np.ndarray, list[Variables]]:
        found, known = [], dict(zip(_stationary(observables), held, strict=True))
        for observable, index in group:
            pull = _gradients_on_host if observable.traceable else _gradients
            own = known.get(observable.stationary)
            found.append(pull(observable, at, own, variables, on_device(index)))
        return np.stack([np.asarray(by_q) for by_q, _ in found]), [
            explicit for _, explicit in found
        ]

    def add(
        to: dict[str, Any], group: list[Any], through_q: list[Variables], explicit: list[Variables]
    ) -> None:
        for (observable, _), *parts in zip(group, through_q, explicit, strict=True):
            to[observable.name].append(jax.tree.map(jnp.add, *parts))

    groups = [entries[group] for group in column_groups(len(entries), equilibrium.q.size)]
    description = "solving for derivatives"
    for group in tracked(groups, description, disable=not progress):
        by_q, explicit = gradients(bare, held[0], group)
        through_q, of_group, solutions = response.cotangents(by_q)
        residuals += of_group
        add(here, group, through_q, explicit)
        if bare_ahead is not None:
            by_q, explicit = gradients(bare_ahead, held[1], group)
            add(ahead, group, response.cotangents_ahead(by_q, solutions), explicit)

    def named(found: dict[str, list[Variables]]) -> Derivatives:
        return {
            observable: {
                name: jnp.stack([variables.derivative(one, name) for one in gradients]).reshape(
                    values[observable].shape
                )
                for name in names
            }
            for observable, gradients in found.items()
        }

    return named(here), {} if moved is None else named(ahead), residuals


def _gradients(
    observable: Observable, equilibrium: Equilibrium, held: Any, variables: Variables, index: Array
) -> tuple[Array, Variables]:
    """Explicit gradients of one entry of an observable in q and in the variables."""

    def entry(q: Float[Array, "R D"], variables: Variables) -> Array:
        return observable(variables.at(equilibrium, q), held).reshape(-1)[index]

    return jax.grad(entry, argnums=(0, 1))(equilibrium.q, variables)


_compiled_gradients = compiled(seldom=True, much=MUCH_IN_TWO_CALLS)(_gradients)


def _gradients_on_host(
    observable: Observable, equilibrium: Equilibrium, held: Any, variables: Variables, index: Array
) -> tuple[Any, Variables]:
    """`_gradients` by code that is compiled, and serves structures of several sizes if it can."""

    def gradients(bare: Equilibrium, filling: Filling | None) -> tuple[Any, Variables]:
        by_q, explicit = _compiled_gradients(observable, bare, held, variables, index)
        return by_q if filling is None else filling.taken(by_q), explicit

    return _in_compiled_code(gradients, (observable,), equilibrium, variables)
