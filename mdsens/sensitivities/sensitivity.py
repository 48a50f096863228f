"""sensitivity: how positions and observables change with the potential's parameters."""

import dataclasses
import functools
from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import track

from mdsens.errors import InputError, UnreliableDerivativeError
from mdsens.implicit.sparse_solver import column_groups
from mdsens.observables.observable import Observable, parse
from mdsens.particles.precision import require_double_precision
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Certificate, Equilibrium, Landscape
from mdsens.sensitivities.linear_response import (
    AssembledResponse,
    LinearResponse,
    MatrixFreeResponse,
)
from mdsens.sensitivities.results import Sensitivity, Tangents

#: Ways to compute a Jacobian.
MODES = ("auto", "forward", "reverse")


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
        observables: one or several, as objects or as text such as ``"distance(0,1)"``.
        wrt: names of parameters, e.g. ``["sigma"]`` or ``"sigma[Ar-Kr]"``; None: all.
        mode: ``"forward"``, ``"reverse"``, or ``"auto"``: the one with fewer solves.
        allow_unconverged: give derivatives where the structure is not a converged, stable minimum.
        error_estimate: also estimate the derivatives' own error, by one more solve for each.
        progress: whether to show the linear solves of a large system as they go.

    Returns:
        The Sensitivity: ``sens["volume"]["sigma"]``, ``sens.positions["sigma"]``.

    Raises:
        InputError: an unknown observable, parameter or mode.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    require_double_precision()
    if mode not in MODES:
        raise InputError(f"mode = {mode!r}: allowed are {', '.join(MODES)}")
    given = [observables] if isinstance(observables, (Observable, str)) else list(observables)
    asked = [parse(item) if isinstance(item, str) else item for item in given]
    potential = equilibrium.potential
    names = potential.expand_parameter_names(wrt if wrt is None or isinstance(wrt, str) else [*wrt])
    if not allow_unconverged:
        require_reliable(equilibrium.certificate)
    landscape = differentiable_landscape(equilibrium)

    values = _values(tuple(asked), equilibrium)
    outputs = sum(value.size for value in values.values())
    if mode == "auto":
        mode = "forward" if not asked or len(names) <= outputs else "reverse"

    response: LinearResponse = MatrixFreeResponse(landscape, equilibrium.q)
    if equilibrium.hessian_solver is not None:
        response = AssembledResponse(landscape, equilibrium.q, equilibrium.hessian_solver, progress)
    solve_forward = functools.partial(response.tangents, names, error_estimate)
    tangents = Tangents(solve_forward)
    residuals: list[float] = []
    errors: list[float] = []
    if mode == "forward":
        derivatives = _push_forward(equilibrium, asked, tangents.q)
        residuals, errors = tangents.residuals, tangents.errors
    else:
        derivatives, residuals = _pull_back(equilibrium, response, asked, names, values, progress)

    certificate = equilibrium.certificate
    certificate = dataclasses.replace(
        certificate,
        linear_residual=max(residuals, default=None),
        derivative_error=max(errors, default=None),
        linear_solver=str(response),
    )
    return Sensitivity(
        equilibrium=equilibrium,
        observables={o.name: o for o in asked},
        observed=values,
        derivatives=derivatives,
        parameters={name: potential.parameters[name] for name in names},
        mode=mode,
        certificate=certificate,
        tangents=tangents,
    )


def require_reliable(certificate: Certificate) -> None:
    """Raise UnreliableDerivativeError, with the remedy, unless the structure is a minimum."""
    override = "or pass allow_unconverged=True"
    if not certificate.converged:
        raise UnreliableDerivativeError(
            f"the structure is unconverged: largest force {certificate.fmax:.2e}, asked "
            f"{certificate.fmax_asked:.2e}, and derivatives there can have the wrong sign; relax "
            f"with more steps (max_steps) or method='auto', {override}"
        )
    if not certificate.stable:
        raise UnreliableDerivativeError(
            f"the structure is a saddle: lowest eigenvalue {certificate.lowest_eigenvalue:.3g}; "
            f"displace the atoms a little and relax again, {override}"
        )


def differentiable_landscape(equilibrium: Equilibrium) -> Landscape:
    """The landscape without loose atoms' edges, with the null vectors that were found."""
    floppy = equilibrium.certificate.floppy_vectors
    return eqx.tree_at(
        lambda landscape: landscape.floppy, equilibrium.backbone, jnp.asarray(floppy)
    )


def _value(
    observable: Observable, equilibrium: Equilibrium, q: Float[Array, "R D"], potential: Potential
) -> Float[Array, "..."]:
    """An observable as a function of what it depends on."""
    moved = eqx.tree_at(lambda e: (e.q, e.landscape.potential), equilibrium, (q, potential))
    return jnp.asarray(observable(moved))


def _values(
    observables: tuple[Observable, ...], equilibrium: Equilibrium
) -> dict[str, Float[Array, "..."]]:
    """Values of observables by name."""
    traceable = tuple(observable for observable in observables if observable.traceable)
    found = dict(_compiled_values(traceable, equilibrium.for_compiled_code()))
    # In the order they were asked for.
    return {o.name: found[o.name] if o.traceable else o(equilibrium) for o in observables}


@eqx.filter_jit
def _compiled_values(
    observables: tuple[Observable, ...], equilibrium: Equilibrium
) -> dict[str, Array]:
    return {o.name: jnp.asarray(o(equilibrium)) for o in observables}


def _push_forward(
    equilibrium: Equilibrium, observables: list[Observable], tangents: dict[str, Array]
) -> dict[str, dict[str, Array]]:
    """Derivatives of observables from tangents of q, by name."""
    potential = equilibrium.potential
    derivatives: dict[str, dict[str, Array]] = {observable.name: {} for observable in observables}
    traceable = tuple(observable for observable in observables if observable.traceable)
    bare = equilibrium.for_compiled_code()
    for name, tangent in tangents.items():
        direction = potential.direction(name)
        changes = dict(_compiled_changes(traceable, bare, tangent, direction))
        for observable in observables:
            if not observable.traceable:
                changes[observable.name] = _change(observable, equilibrium, tangent, direction)
            derivatives[observable.name][name] = changes[observable.name]
    return derivatives


def _change(
    observable: Observable, equilibrium: Equilibrium, tangent: Array, direction: Potential
) -> Array:
    return jax.jvp(
        lambda q, potential: _value(observable, equilibrium, q, potential),
        (equilibrium.q, equilibrium.potential),
        (tangent, direction),
    )[1]


@eqx.filter_jit
def _compiled_changes(
    observables: tuple[Observable, ...],
    equilibrium: Equilibrium,
    tangent: Array,
    direction: Potential,
) -> dict[str, Array]:
    return {o.name: _change(o, equilibrium, tangent, direction) for o in observables}


def _pull_back(
    equilibrium: Equilibrium,
    response: LinearResponse,
    observables: list[Observable],
    names: list[str],
    values: dict[str, Array],
    progress: bool,
) -> tuple[dict[str, dict[str, Array]], list[float]]:
    """Derivatives of observables by one linear solve for each number, and its residuals."""
    potential, bare = equilibrium.potential, equilibrium.for_compiled_code()
    entries = [
        (observable, index)
        for observable in observables
        for index in range(values[observable.name].size)
    ]
    found: dict[str, list[Potential]] = {observable.name: [] for observable in observables}
    residuals: list[float] = []
    groups = [entries[group] for group in column_groups(len(entries), equilibrium.q.size)]
    told = "solving for derivatives"
    for group in track(groups, told, transient=True, disable=not progress):
        gradients = []
        for observable, index in group:
            pull = _compiled_gradients if observable.traceable else _gradients
            gradients.append(pull(observable, bare, jnp.asarray(index)))
        by_q = np.stack([np.asarray(gradient) for gradient, _ in gradients])
        through_q, of_group = response.cotangents(by_q)
        residuals += of_group
        for (observable, _), (_, by_potential), through in zip(
            group, gradients, through_q, strict=True
        ):
            found[observable.name].append(jax.tree.map(jnp.add, through, by_potential))
    derivatives = {
        observable.name: {
            name: jnp.stack(
                [potential.derivative(one, name) for one in found[observable.name]]
            ).reshape(values[observable.name].shape)
            for name in names
        }
        for observable in observables
    }
    return derivatives, residuals


def _gradients(
    observable: Observable, equilibrium: Equilibrium, index: Array
) -> tuple[Array, Potential]:
    """Explicit gradients of one entry of an observable in q and in the potential."""

    def entry(q: Float[Array, "R D"], potential: Potential) -> Array:
        return _value(observable, equilibrium, q, potential).reshape(-1)[index]

    return jax.grad(entry, argnums=(0, 1))(equilibrium.q, equilibrium.potential)


_compiled_gradients = eqx.filter_jit(_gradients)
