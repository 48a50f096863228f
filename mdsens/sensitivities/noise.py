"""How much of a number is rounding: the level below which no structure can be known."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from mdsens.observables.observable import Observable
from mdsens.potentials.potential import Potential
from mdsens.units import powers, size_of_unit

#: A change that an estimate finds is taken for this much less than the error.
MARGIN = 1.5
#: Roundings that add up where one number is computed.
ROUNDINGS = 8.0
#: The part of the way to the minimum that a Newton step leaves, as a multiple of its length over
#: the potential's range, where it is so short that this is not looked at: of Lennard-Jones, whose
#: stiffness changes by about 21 times a part of the distance of neighbours.
ANHARMONICITY = 40.0


@dataclasses.dataclass(frozen=True)
class Noise:
    """What rounding leaves uncertain of a structure, its observables and their derivatives.

    Edge vectors are differences of coordinates of size X, and so have an error of u = eps X,
    whatever a potential computes from them. Forces then have one of K u with the stiffness K, and
    the positions at which they vanish are off by K u / lambda along a mode of stiffness lambda, of
    which the lowest counts: with n modes that share the noise, by about
    u (1 + K / (lambda_1 sqrt(n))). Relative to the range L of the potential, this is the relative
    error of a quantity of the natural size of its kind, where lengths are L and energies K L^2:
    that of the terms which cancel where the quantity itself is small or zero.

    A force that is computed outside has an error s of its own, which adds s / K to u. Where
    products with the Hessian come from differences of such forces, their relative error e takes the
    place of u / L in the derivatives, and is larger.

    Attributes:
        relative: uncertainty of the positions as a part of the range.
        energy: natural size of an energy, K L^2.
        length: natural size of a length, the range L of the potential.
        dimension: number of spatial dimensions, for what a volume is.
        units: ``"ase"`` or ``"reduced"``.
        differences: relative error of derivatives beside that of the positions, where they come
            from differences.
        left: part of the way to the minimum that a Newton step leaves. Estimates are of first
            order; where that nearly cancels for one number of an array, this part of the largest
            change among all of them counts too.
        reach: length of the Newton step as a part of the range. Where symmetry lets no change of
            first order be, one of the second is left, which estimates may see or not: relative to
            what rounding is relative to, it is `second_order`.
    """

    relative: float
    energy: float
    length: float
    dimension: int = 3
    units: str = "ase"
    differences: float = 0.0
    left: float = 0.0
    reach: float = 0.0

    @property
    def second_order(self) -> float:
        """Relative size of changes of second order along the Newton step."""
        return self.reach * (self.left or min(1.0, ANHARMONICITY * self.reach))

    def size(self, observable: Observable, value: ArrayLike) -> float:
        """Size of the terms that an observable is computed from, in its unit."""
        dimension = observable.dimension_in(self.dimension)
        return max(
            natural_size(dimension, self.energy, self.length, self.units),
            float(np.abs(np.asarray(value)).max(initial=0.0)),
        )

    def of_value(self, observable: Observable, value: ArrayLike) -> float:
        """Error of an observable, in its unit."""
        return (self.relative + self.second_order) * self.size(observable, value)

    def of_derivative(
        self,
        observable: Observable,
        value: ArrayLike,
        parameter: float,
        motion: float,
    ) -> float:
        """Error of an observable's derivative in a parameter.

        Arguments:
            observable: the observable.
            value: its value.
            parameter: value of the parameter; one that is zero counts as one.
            motion: the largest derivative of a coordinate in the parameter, length/unit; 0 where
                it is not known.

        Returns:
            The error, in the unit of the derivative.
        """
        rate = max(1.0 / (abs(parameter) or 1.0), motion / self.length)
        relative = self.relative + self.differences + self.second_order
        return relative * self.size(observable, value) * rate


def value_errors(
    noise: Noise,
    observables: Mapping[str, Observable],
    here: Mapping[str, ArrayLike],
    ahead: Mapping[str, ArrayLike],
) -> dict[str, Float[np.ndarray, "..."]]:
    """Absolute errors of observables.

    Arguments:
        noise: of the structure.
        observables: by name.
        here: their values.
        ahead: their values after one Newton step.

    Returns:
        The errors, shaped like the values.
    """
    return {
        name: _error(noise, here[name], ahead[name], noise.of_value(observable, here[name]))
        for name, observable in observables.items()
    }


def derivative_errors(
    noise: Noise,
    observables: Mapping[str, Observable],
    values: Mapping[str, ArrayLike],
    parameters: Mapping[str, float],
    motion: Mapping[str, float],
    here: Mapping[str, Mapping[str, Any]],
    ahead: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Float[np.ndarray, "..."]]]:
    """Absolute errors of the derivatives of observables.

    Arguments:
        noise: of the structure.
        observables: by name.
        values: their values.
        parameters: values of the parameters.
        motion: for each parameter the largest derivative of a coordinate in it.
        here: the derivatives.
        ahead: the derivatives after one Newton step.

    Returns:
        The errors, shaped like the derivatives.
    """
    return {
        name: {
            p: _error(
                noise,
                here[name][p],
                ahead[name][p],
                noise.of_derivative(observable, values[name], theta, motion.get(p, 0.0)),
            )
            for p, theta in parameters.items()
        }
        for name, observable in observables.items()
    }


def _error(
    noise: Noise, here: ArrayLike, ahead: ArrayLike, rounding: float
) -> Float[np.ndarray, "..."]:
    # In NumPy, of which nothing has to be compiled.
    change = np.abs(np.asarray(ahead) - np.asarray(here))
    return np.asarray(MARGIN * (change + noise.left * change.max(initial=0.0)) + rounding)


def noise_of(
    potential: Potential,
    positions: Float[ArrayLike, "N D"],
    cell: Float[ArrayLike, "D D"],
    lowest_eigenvalue: float,
    stiffness: float,
    units: str,
    differences: float = 0.0,
    left: float = 0.0,
    reach: float = 0.0,
) -> Noise:
    """The noise of a relaxed structure.

    Arguments:
        potential: the potential.
        positions: the relaxed positions, length.
        cell: the relaxed cell, length.
        lowest_eigenvalue: of the Hessian outside its null space, energy/length^2.
        stiffness: largest second derivative of the energy in a position, energy/length^2.
        units: ``"ase"`` or ``"reduced"``.
        differences: relative error of products with the Hessian, and of forces' derivatives in
            parameters, where these come from differences.
        left: part of the way to the minimum that a Newton step leaves.
        reach: length of that step as a part of the potential's range.

    Returns:
        The Noise.
    """
    length = float(potential.interaction_range)
    coordinates = [np.abs(np.asarray(one)).max(initial=length) for one in (positions, cell)]
    softness = 0.0
    if np.isfinite(lowest_eigenvalue):
        modes = np.sqrt(max(np.size(positions), 1))
        softness = stiffness / (max(abs(lowest_eigenvalue), 1e-300) * modes)
    rounding = ROUNDINGS * float(np.finfo(float).eps) * float(max(coordinates)) / length
    dimension = np.shape(cell)[-1]
    # Where no mode has a stiffness, the error of a force moves nothing.
    noise = 0.0
    if np.isfinite(lowest_eigenvalue):
        noise = potential.force_noise / max(stiffness * length, 1e-300)
    amplified = 1.0 + softness
    return Noise(
        (rounding + noise) * amplified,
        stiffness * length**2,
        length,
        dimension,
        units,
        differences * amplified,
        left,
        reach,
    )


def natural_size(dimension: str, energy: float, length: float, units: str) -> float:
    """Size of a quantity by its dimension.

    Arguments:
        dimension: e.g. ``"energy/length^3"``, ``"angle"`` or ``"1"``.
        energy: natural size of an energy.
        length: natural size of a length.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        In the unit of that dimension: e.g. energy / length^3; a radian in degrees for angles, 1
        for other pure numbers.
    """
    if dimension == "angle":
        return 180.0 / np.pi
    found = powers(dimension)
    size = energy ** found["energy"] * length ** found["length"]
    return float(size / size_of_unit(dimension, units))
