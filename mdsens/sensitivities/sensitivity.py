"""sensitivity: how positions and observables change with the potential's parameters."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.errors import UnreliableDerivativeError
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.linalg.sparse_solver import column_groups
from mdsens.mechanics.enthalpy import Landscape
from mdsens.observables.observable import Observable
from mdsens.particles.precision import require_double_precision
from mdsens.progress import tracked
from mdsens.relaxation import Equilibrium
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.sensitivities.arguments import asked_observables, asked_parameters
from mdsens.sensitivities.by_differences import changes_by_differences, refused
from mdsens.sensitivities.linear_response import LinearResponse, weights
from mdsens.sensitivities.noise import derivative_errors, noise_of, value_errors
from mdsens.sensitivities.results import Sensitivity, Tangents
from mdsens.sensitivities.variables import Variables, expanded_names, kind_of
from mdsens.values import boolean, choice, instance

#: Derivatives by the names of observable and parameter.
Derivatives: TypeAlias = dict[str, dict[str, Array]]
#: What observables are stationary in, of each function that says so.
Held: TypeAlias = tuple[Any, ...]

#: Ways to compute a Jacobian.
MODES = ("auto", "forward", "reverse")
#: Conditions that leave little of the symmetry that a structure has.
BREAKING = ("stress", "strain", "fixed_positions")
#: Solves for which one would wait no longer than for the compiler, which takes several times as
#: long over the gradient of an observable made of second derivatives as over its tangent.
FORWARD_SOLVES = 20


def sensitivity(
    equilibrium: Equilibrium,
    observables: Observable | str | Iterable[Observable | str] = (),
    wrt: str | Iterable[str] | None = None,
    mode: str = "auto",
    allow_unconverged: bool = False,
    error_estimate: bool = True,
    progress: bool = False,
) -> Sensitivity:
    """Derivatives of the relaxed positions and of observables in the potential's parameters.

    One linear solve with the Hessian per parameter (forward mode) or per number that the
    observables return (reverse mode): Blondel et al., arXiv 2105.15183, eq. 2 and section 2.1.

    Arguments:
        equilibrium: a converged, stable relaxed structure.
        observables: one or several, as objects or as text such as ``"distance(0,1)"``; each once.
        wrt: names of parameters, e.g. ``["sigma"]`` or ``"sigma[Ar-Kr]"``; None: all.
        mode: ``"forward"``, ``"reverse"``, or ``"auto"``: the one with fewer solves.
        allow_unconverged: give derivatives where the structure is not a converged, stable minimum.
        error_estimate: also estimate the error of each value and derivative, by one more solve of
            low precision for each.
        progress: whether to show the linear solves of a large system as they go.

    Returns:
        The Sensitivity: ``sens["volume"]["sigma"]``, ``sens.positions["sigma"]``.

    Raises:
        InputError: an unknown observable, parameter or mode, one given twice, or anything else that
            is not allowed.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    require_double_precision()
    instance(equilibrium, "equilibrium", Equilibrium, "an Equilibrium, as from mdsens.relax")
    choice(mode, "mode", MODES)
    boolean(allow_unconverged, "allow_unconverged")
    boolean(error_estimate, "error_estimate")
    boolean(progress, "progress")
    asked = asked_observables(observables)
    landscape, potential = equilibrium.landscape, equilibrium.potential
    calls = potential.calls
    names = expanded_names(asked_parameters(wrt), potential, landscape.system, landscape.cell_mode)
    variables = Variables.of(landscape, names)
    if not allow_unconverged:
        require_reliable(equilibrium)
    held = _held(asked, equilibrium)
    values = _values(asked, equilibrium, held)
    for observable in asked:
        if observable.examine is not None:
            observable.examine(np.asarray(values[observable.name]))
        breaking = [name for name in names if kind_of(name, potential) in BREAKING]
        if observable.caution is not None and breaking:
            observable.caution(equilibrium, breaking)
    outputs = sum(value.size for value in values.values())
    by_differences: tuple[Observable, ...] = ()
    if mode != "reverse" and potential.made_by_calls and names:
        by_differences = _refused(asked, equilibrium, variables, held, names[0])
    if by_differences:
        mode = "forward"
    if mode == "auto":
        worth = FORWARD_SOLVES if any(o.stationary is not None for o in asked) else 1
        mode = "forward" if not asked or len(names) <= worth * outputs else "reverse"

    response = linear_response(equilibrium, progress, variables)
    solve_forward = functools.partial(response.tangents, names, error_estimate)
    tangents = Tangents(solve_forward)
    moved, held_ahead = None, held
    if error_estimate and names and (asked or mode == "forward"):
        moved = equilibrium.moved_little(response.ahead)
        held_ahead = _held(asked, moved)
    derivatives: Derivatives
    ahead: Derivatives
    if mode == "forward":
        residuals = tangents.residuals
        given = asked, by_differences, variables, response.noise_of_differences
        derivatives, off = _forward(equilibrium, *given, held, tangents.q)
        ahead = {}
        if moved is not None:
            ahead, _ = _forward(moved, *given, held_ahead, tangents.ahead)
    else:
        off = {}
        derivatives, ahead, residuals = _pull_back(
            equilibrium,
            moved,
            response,
            asked,
            variables,
            (held, held_ahead),
            names,
            values,
            progress,
        )

    certificate = dataclasses.replace(
        equilibrium.certificate,
        linear_residual=max(residuals, default=None),
        linear_solver=str(response),
    )
    parameters = variables.values(names)
    by_name = {observable.name: observable for observable in asked}
    unknown = {name: np.full(np.shape(value), np.nan) for name, value in values.items()}
    found = Sensitivity(
        equilibrium=equilibrium,
        observables=by_name,
        observed=values,
        derivatives=derivatives,
        parameters=parameters,
        mode=mode,
        errors={name: dict.fromkeys(names, nothing) for name, nothing in unknown.items()},
        value_errors=unknown,
        certificate=certificate,
        tangents=tangents,
        variables=variables,
    )
    if moved is None:
        return _counted(found, calls)
    noise = noise_of(
        potential, equilibrium.positions, equilibrium.cell, certificate.lowest_eigenvalue,
        response.stiffness, equilibrium.system.units, response.noise_of_differences, response.left,
        response.reach,
    )  # fmt: skip
    solved = tangents.q if mode == "forward" else {}
    motion = {name: float(np.abs(np.asarray(t)).max(initial=0.0)) for name, t in solved.items()}
    errors = derivative_errors(noise, by_name, values, parameters, motion, derivatives, ahead)
    for observed, of_parameters in off.items():
        for name, more in of_parameters.items():
            errors[observed][name] = errors[observed][name] + more
    relative = tangents.errors if mode == "forward" else _relative(found, errors)
    complete = dataclasses.replace(
        found,
        errors=errors,
        value_errors=value_errors(noise, by_name, values, _values(asked, moved, held_ahead)),
        certificate=dataclasses.replace(
            certificate, derivative_error=max(relative, default=None), rough=response.rough
        ),
    )
    return _counted(complete, calls)


def _counted(found: Sensitivity, before: int) -> Sensitivity:
    """The same with the calls of a calculator since there were so many."""
    calls = found.equilibrium.potential.calls - before
    return dataclasses.replace(
        found, certificate=dataclasses.replace(found.certificate, calls=calls)
    )


def _relative(found: Sensitivity, errors: dict[str, dict[str, np.ndarray]]) -> list[float]:
    """Errors of theta dO/dtheta relative to the largest of these; none where all are zero."""
    relative, sizes = [], weights(found.parameters)
    for name, by_parameter in found.derivatives.items():
        leading, off = (
            max(
                size * float(np.linalg.norm(np.asarray(of[parameter])))
                for parameter, size in zip(found.parameters, sizes, strict=True)
            )
            for of in (by_parameter, errors[name])
        )
        if leading > off:
            relative.append(off / leading)
    return relative


def require_reliable(equilibrium: Equilibrium) -> None:
    """Raise UnreliableDerivativeError, with the remedy, unless the structure is a minimum.

    Arguments:
        equilibrium: the relaxed structure.

    Raises:
        UnreliableDerivativeError: the structure is unconverged or a saddle, or its lowest
            eigenvalue is below zero by no more than what the forces that are left explain, or is
            none in a structure of which null modes are not looked for.
    """
    certificate = equilibrium.certificate
    override = "or pass allow_unconverged=True"
    if not certificate.converged:
        raise UnreliableDerivativeError(
            f"the structure is unconverged: {_left_over(equilibrium)}, {override}"
        )
    if certificate.stable:
        return
    if certificate.estimated:
        # Of structures that are not small, null modes that no symmetry explains are not looked for.
        stiffness = linear_response(equilibrium).stiffness
        if abs(certificate.lowest_eigenvalue) <= NULL_FRACTION * stiffness:
            raise UnreliableDerivativeError(
                f"a lowest eigenvalue of {certificate.lowest_eigenvalue:.1g} is none beside a "
                f"stiffness of {stiffness:.3g}: something moves freely, as a part that touches "
                "nothing does; fix or remove it (up to "
                f"{EIGENVECTOR_LIMIT:,} degrees of freedom, all of that is projected out)"
            )
    # A force that is left over an edge of length r bends what is floppy by F / r, of either sign.
    interaction_range = float(equilibrium.potential.interaction_range)
    left = 10.0 * certificate.largest_force / interaction_range
    if -certificate.lowest_eigenvalue <= left:
        raise UnreliableDerivativeError(
            f"a lowest eigenvalue of {certificate.lowest_eigenvalue:.3g} is no more than what a "
            f"force of {certificate.largest_force:.2e} leaves open; relax to a smaller fmax, "
            f"{override}"
        )
    raise UnreliableDerivativeError(
        f"the structure is a saddle: lowest eigenvalue {certificate.lowest_eigenvalue:.3g}; "
        f"displace the atoms a little and relax again, {override}"
    )


def _left_over(equilibrium: Equilibrium) -> str:
    """What an unconverged structure has left, and the remedy."""
    certificate = equilibrium.certificate
    force, fmax = certificate.largest_force, certificate.fmax
    largest = float(np.abs(np.asarray(equilibrium.positions)).max())
    rounding = np.finfo(float).eps * largest * linear_response(equilibrium).stiffness
    if fmax < force <= rounding:
        return (
            f"largest force {force:.2e}, asked {fmax:.2e}, and about {force:.0e} is what rounding "
            f"leaves where coordinates are as large as {largest:.2g}; ask for a larger fmax, or "
            "begin with atoms nearer to the origin"
        )
    left = f"largest force {force:.2e}, asked {fmax:.2e}"
    if force <= fmax:
        left = f"largest stress {certificate.largest_stress:.2e}, asked {certificate.smax:.2e}"
    return (
        f"{left}, and derivatives there can have the wrong sign; relax with more steps (max_steps) "
        "or method='auto'"
    )


def linear_response(
    equilibrium: Equilibrium, progress: bool = False, variables: Variables | None = None
) -> LinearResponse:
    """How a structure follows what it depends on: from the Hessian if that fits into the memory.

    Arguments:
        equilibrium: a relaxed structure.
        progress: whether to show the linear solves of a large system as they go.
        variables: what it depends on; None: the potential.

    Returns:
        The LinearResponse.
    """
    landscape = differentiable_landscape(equilibrium)
    given = landscape, equilibrium.q, equilibrium.hessian_solver, progress
    return LinearResponse(*given, variables)


def differentiable_landscape(equilibrium: Equilibrium) -> Landscape:
    """The landscape without rattlers' edges, with the null vectors that were found."""
    floppy = equilibrium.certificate.floppy_vectors
    return eqx.tree_at(lambda landscape: landscape.floppy, equilibrium.backbone, on_device(floppy))


def _held(observables: tuple[Observable, ...], equilibrium: Equilibrium) -> Held:
    """What observables are stationary in at an equilibrium: of each function once."""
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


def _values(
    observables: tuple[Observable, ...], equilibrium: Equilibrium, held: Held
) -> dict[str, Float[Array, "..."]]:
    """Values of observables by name."""
    if not observables:
        return {}
    traceable, others = _apart(observables)
    found = dict(
        _compiled_values(traceable, equilibrium.for_compiled_code(), held, equilibrium.mechanics)
    )
    if not all(np.isfinite(np.asarray(value)).all() for value in found.values()):
        # Outside of compiled code they say what is the matter.
        found = _observed(traceable, equilibrium, held)
    found |= _observed(others, equilibrium, ())
    # In the order they were asked for.
    return {o.name: found[o.name] for o in observables}


def _apart(
    observables: tuple[Observable, ...],
) -> tuple[tuple[Observable, ...], tuple[Observable, ...]]:
    """Those that may be compiled, and those that may not."""
    traceable = tuple(o for o in observables if o.traceable)
    return traceable, tuple(o for o in observables if not o.traceable)


@compiled
def _compiled_values(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    mechanics: tuple[Array, Array, Array],
) -> dict[str, Array]:
    return _observed(observables, equilibrium.with_mechanics(mechanics), held)


def _held_of(some: tuple[Observable, ...], observables: tuple[Observable, ...], held: Held) -> Held:
    """Of what observables are stationary in that of some of them."""
    wanted = _stationary(some)
    functions = _stationary(observables)
    return tuple(one for one, of in zip(held, functions, strict=True) if of in wanted)


def _refused(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    variables: Variables,
    held: Held,
    name: str,
) -> tuple[Observable, ...]:
    """Observables of which only differences tell how they change."""
    traceable, _ = _apart(observables)

    def changes(observable: Observable, tangent: Array, direction: Variables) -> dict[str, Array]:
        own = _held_of((observable,), observables, held)
        given = variables, tangent, direction
        return _changes((observable,), equilibrium.for_compiled_code(), own, *given)

    return refused(traceable, changes, equilibrium.q, variables.direction(name))


def _forward(
    equilibrium: Equilibrium,
    observables: tuple[Observable, ...],
    by_differences: tuple[Observable, ...],
    variables: Variables,
    noise: float,
    held: Held,
    tangents: dict[str, Array],
) -> tuple[Derivatives, dict[str, dict[str, np.ndarray]]]:
    """Derivatives of observables from tangents of q, by name, and errors of differences."""
    direct = tuple(one for one in observables if one not in by_differences)
    own = _held_of(direct, observables, held)
    derivatives = _push_forward(equilibrium, direct, variables, own, tangents)
    errors: dict[str, dict[str, np.ndarray]] = {one.name: {} for one in by_differences}
    if not by_differences:
        return derivatives, errors
    own = _held_of(by_differences, observables, held)

    def values(at: Equilibrium) -> dict[str, Array]:
        return dict(_compiled_values(by_differences, at.for_compiled_code(), own, at.mechanics))

    derivatives |= {one.name: {} for one in by_differences}
    for name, theta in variables.values(list(tangents)).items():
        along = tangents[name], variables.direction(name)
        given = abs(theta) or 1.0, max(noise, float(np.finfo(float).eps))
        found, off = changes_by_differences(values, equilibrium, variables, *along, *given)
        for observable in by_differences:
            derivatives[observable.name][name] = on_device(found[observable.name])
            errors[observable.name][name] = off[observable.name]
    return {one.name: derivatives[one.name] for one in observables}, errors


def _push_forward(
    equilibrium: Equilibrium,
    observables: tuple[Observable, ...],
    variables: Variables,
    held: Held,
    tangents: dict[str, Array],
) -> Derivatives:
    """Derivatives of observables from tangents of q, by name."""
    derivatives: Derivatives = {observable.name: {} for observable in observables}
    if not observables:
        return {}
    traceable, others = _apart(observables)
    bare = equilibrium.for_compiled_code()
    for name, tangent in tangents.items():
        given = variables, tangent, variables.direction(name)
        changes = dict(_compiled_changes(traceable, bare, held, *given))
        if others:
            changes |= _changes(others, equilibrium, (), *given)
        for observable in observables:
            derivatives[observable.name][name] = changes[observable.name]
    return derivatives


def rehearse(
    equilibrium: Equilibrium, observables: Iterable[Observable | str], wrt: Iterable[str]
) -> None:
    """Have the programs that `sensitivity` needs in forward mode, that of changes of observables
    first: it takes longest to compile.

    Arguments:
        equilibrium: of the form that `sensitivity` will be given, relaxed or not.
        observables: as in `sensitivity`.
        wrt: likewise.
    """
    asked, landscape = asked_observables(observables), equilibrium.landscape
    given = asked_parameters(wrt), equilibrium.potential, landscape.system, landscape.cell_mode
    names = expanded_names(*given)
    variables, held = Variables.of(landscape, names), _held(asked, equilibrium)
    for name in names[:1]:
        still = on_device(np.zeros(equilibrium.q.shape))
        _push_forward(equilibrium, asked, variables, held, {name: still})
    linear_response(equilibrium, False, variables).tangents(names, True)
    _values(asked, equilibrium, held)


def _changes(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    held: Held,
    variables: Variables,
    tangent: Array,
    direction: Variables,
) -> dict[str, Array]:
    """How observables change along a direction of what they depend on."""

    def values(q: Float[Array, "R D"], variables: Variables) -> dict[str, Array]:
        return _observed(observables, variables.at(equilibrium, q), held)

    return jax.jvp(values, (equilibrium.q, variables), (tangent, direction))[1]


_compiled_changes = compiled(_changes)


def _pull_back(
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
    """Derivatives of observables by one linear solve for each number, the same ahead, residuals."""
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
            pull = _compiled_gradients if observable.traceable else _gradients
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


_compiled_gradients = compiled(_gradients)
