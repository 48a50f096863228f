"""Derivatives of observables made of second derivatives, where no third ones are to be had."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import NoSecondDerivativesError
from mdsens.observables.observable import Observable
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities.variables import Variables

#: The step as a fraction of a parameter, or of the distance between atoms that it moves them by, is
#: this part of the fifth root of the noise of a value, which an error of fourth order asks for.
PART, LEAST, MOST = 0.1, 1e-4, 0.03
#: What the fourth order leaves, beside what the second one left of its own, squared.
LEFT = 10.0


def refused(
    observables: tuple[Observable, ...], changes: Callable[..., Any], *given: Any
) -> tuple[Observable, ...]:
    """Those observables whose derivatives would be derivatives of products with the Hessian.

    Arguments:
        observables: all.
        changes: takes one, and what is given; its derivative, which is traced and not computed.
        given: pytrees of arrays.

    Returns:
        Some of them, in their order.
    """

    def is_refused(observable: Observable) -> bool:
        try:
            jax.eval_shape(functools.partial(changes, observable), *given)
        except NoSecondDerivativesError:
            return True
        return False

    return tuple(filter(is_refused, observables))


def changes_by_differences(
    values: Callable[[Equilibrium], Mapping[str, Array]],
    equilibrium: Equilibrium,
    variables: Variables,
    tangent: Float[Array, "R D"],
    direction: Variables,
    size: float,
    noise: float,
) -> tuple[dict[str, Float[np.ndarray, "..."]], dict[str, Float[np.ndarray, "..."]]]:
    """Changes of observables along what a parameter does to a structure, by central differences.

    Of four values, extrapolated to no step. The structures are those that the tangent leads to, not
    relaxed again: what is left of forces there is of second order, the same on both sides.

    Arguments:
        values: the observables at an equilibrium that is near, with what they are stationary in
            held.
        equilibrium: the relaxed structure.
        variables: what it depends on.
        tangent: change of the degrees of freedom with the parameter, shape (R, D).
        direction: change of the variables with it.
        size: of the parameter, a natural one where it is zero.
        noise: relative error of the values.

    Returns:
        Derivatives by name, and their errors.
    """
    system = equilibrium.system
    between = float(np.abs(np.linalg.det(np.asarray(system.cell))) / system.atom_count) ** (
        1.0 / system.dimension
    )
    rate = max(1.0 / size, float(np.abs(np.asarray(tangent)).max(initial=0.0)) / between)
    step = float(np.clip(PART * noise**0.2, LEAST, MOST)) / rate

    def at(by: float) -> dict[str, np.ndarray]:
        shifted = jax.tree.map(lambda leaf, along: leaf + by * along, variables, direction)
        moved = shifted.at(equilibrium, jnp.asarray(equilibrium.q + by * np.asarray(tangent)))
        return {name: np.asarray(value) for name, value in values(moved).items()}

    one, other, far, further = (at(way * step) for way in (1.0, -1.0, 2.0, -2.0))
    found, errors = {}, {}
    for name, value in one.items():
        near = (value - other[name]) / (2.0 * step)
        wide = (far[name] - further[name]) / (4.0 * step)
        found[name] = np.asarray(near + (near - wide) / 3.0)
        left, scale = np.abs(found[name] - near).max(), max(np.abs(found[name]).max(), 1e-300)
        rounding = 2.0 * noise * np.abs(value).max() / step
        errors[name] = np.full(np.shape(value), min(LEFT * left**2 / scale, left) + rounding)
    return found, errors
