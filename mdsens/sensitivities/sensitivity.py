"""sensitivity: how positions and observables change with the potential's parameters."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from mdsens.arrays import on_device
from mdsens.observables.observable import Observable
from mdsens.particles.precision import require_double_precision
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities.arguments import asked_observables, asked_parameters
from mdsens.sensitivities.linear_response import linear_response, weights
from mdsens.sensitivities.noise import derivative_errors, noise_of, value_errors
from mdsens.sensitivities.observed import (
    Derivatives,
    forward_derivatives,
    held_of,
    pushed_forward,
    reverse_derivatives,
    told_by_differences_alone,
    values_of,
)
from mdsens.sensitivities.reliability import require_reliable, warn_of_undetermined
from mdsens.sensitivities.results import Sensitivity, Tangents
from mdsens.sensitivities.variables import Variables, expanded_names, kind_of
from mdsens.values import boolean, choice, instance

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
    held = held_of(asked, equilibrium)
    along = variables if mode == "forward" and names and not potential.made_by_calls else None
    values = values_of(asked, equilibrium, held, along)
    for observable in asked:
        if observable.examine is not None:
            observable.examine(np.asarray(values[observable.name]))
        breaking = [name for name in names if kind_of(name, potential) in BREAKING]
        if observable.caution is not None and breaking:
            observable.caution(equilibrium, breaking)
    outputs = sum(value.size for value in values.values())
    by_differences: tuple[Observable, ...] = ()
    if mode != "reverse" and potential.made_by_calls and names:
        by_differences = told_by_differences_alone(asked, equilibrium, variables, held, names[0])
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
        held_ahead = held_of(asked, moved)
    derivatives: Derivatives
    ahead: Derivatives
    if mode == "forward":
        residuals = tangents.residuals
        given = asked, by_differences, variables, response.noise_of_differences
        derivatives, off = forward_derivatives(equilibrium, *given, held, tangents.q)
        ahead = {}
        if moved is not None:
            ahead, _ = forward_derivatives(moved, *given, held_ahead, tangents.ahead)
    else:
        off = {}
        derivatives, ahead, residuals = reverse_derivatives(
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
    values_ahead = values_of(asked, moved, held_ahead, along)
    off_values = value_errors(noise, by_name, values, values_ahead)
    warn_of_undetermined(equilibrium, asked, held, values, off_values, noise)
    relative = tangents.errors if mode == "forward" else _relative(found, errors)
    complete = dataclasses.replace(
        found,
        errors=errors,
        value_errors=off_values,
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
    variables, held = Variables.of(landscape, names), held_of(asked, equilibrium)
    for name in names[:1]:
        still = on_device(np.zeros(equilibrium.q.shape))
        pushed_forward(equilibrium, asked, variables, held, {name: still})
    linear_response(equilibrium, False, variables).tangents(names, True)
    values_of(asked, equilibrium, held, variables if names else None)
