"""Finite-difference oracles: forces and stress from energies, Hessians from forces, and the like.

All are central differences, extrapolated to step zero (L. F. Richardson, Phil. Trans. R. Soc. A
210, 307 (1911)), and each knows how wrong it may itself be.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

#: How many times smaller than what is asked of it the error of an oracle has to be.
MARGIN = 10.0
#: A function of a batch of points, shape (M, *point), that gives M numbers or arrays.
Batched = Callable[[np.ndarray], Any]
#: How wrong a value may be: one number, or one for each entry.
Noise = float | np.floating[Any] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Oracle:
    """What a number or an array ought to be, and how wrong that may be, entry by entry.

    Attributes:
        value: what it ought to be.
        error: how wrong that may be, of the same shape.
    """

    value: Float[Any, "..."]
    error: Float[Any, "..."]

    def __getitem__(self, entry: Any) -> "Oracle":
        return Oracle(self.value[entry], self.error[entry])

    def __neg__(self) -> "Oracle":
        return Oracle(-self.value, self.error)

    def reshape(self, *shape: int) -> "Oracle":
        """The same in another shape."""
        return Oracle(self.value.reshape(*shape), self.error.reshape(*shape))

    @property
    def T(self) -> "Oracle":
        """The same, transposed."""
        return Oracle(self.value.T, self.error.T)


def extrapolate(slopes: Sequence[Any]) -> Any:
    """The limit of central differences whose step was halved from one to the next.

    Arguments:
        slopes: numbers, or arrays of one shape.

    Returns:
        A number or an array of that shape.
    """
    column = list(slopes)
    for power in range(1, len(column)):
        factor = 4.0**power
        column = [
            (factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(column)
        ]
    return column[0]


def extrapolated(differences: Sequence[Any], errors: Sequence[Noise]) -> Oracle:
    """The oracle from differences whose step was halved from one to the next.

    Its error is how far the result is from that without the largest step (more than what the
    whole series is wrong by, and large where some step crosses a kink), and what the errors of
    the differences add up to.

    Arguments:
        differences: central differences.
        errors: how wrong rounding makes each.

    Returns:
        The Oracle.
    """
    value = extrapolate(differences)
    truncation = np.abs(value - extrapolate(differences[1:]))
    weights = [abs(extrapolate(list(unit))) for unit in np.eye(len(differences))]
    noise = sum(weight * error for weight, error in zip(weights, errors, strict=True))
    return Oracle(value, truncation + noise)


def derivative(
    function: Callable[[float], Any],
    at: float = 0.0,
    step: float = 1e-3,
    levels: int = 3,
    *,
    noise: Noise,
) -> Oracle:
    """The derivative of a function of one number, whose values may be arrays.

    Arguments:
        function: takes a number, returns one or an array.
        at: where to differentiate.
        step: the largest step.
        levels: how many steps, each half of the one before.
        noise: how wrong one value of the function may be; see `rounding`.

    Returns:
        The Oracle, of the shape of the function's values.
    """
    steps = [step / 2**level for level in range(levels)]
    slopes = [
        (np.asarray(function(at + h)) - np.asarray(function(at - h))) / (2 * h) for h in steps
    ]
    return extrapolated(slopes, [noise / h for h in steps])


def second_derivative(
    function: Callable[[float], Any],
    at: float = 0.0,
    step: float = 1e-2,
    levels: int = 3,
    *,
    noise: Noise,
) -> Oracle:
    """The second derivative of a function of one number.

    Arguments:
        function: takes a number, returns one or an array.
        at: where to differentiate.
        step: the largest step.
        levels: how many steps, each half of the one before.
        noise: how wrong one value of the function may be; see `rounding`.

    Returns:
        The Oracle, of the shape of the function's values.
    """
    middle = np.asarray(function(at))
    steps = [step / 2**level for level in range(levels)]
    curvatures = [
        (np.asarray(function(at + h)) - 2 * middle + np.asarray(function(at - h))) / h**2
        for h in steps
    ]
    return extrapolated(curvatures, [4 * noise / h**2 for h in steps])


def along(
    function: Batched,
    point: Float[Any, "..."] | float,
    directions: Float[Any, "..."],
    step: float,
    levels: int = 3,
    *,
    noise: Noise,
) -> Oracle:
    """Derivatives along many directions, of a function of a batch of points at once.

    Arguments:
        function: of a batch of points.
        point: where to differentiate, of any shape.
        directions: shape (M, *point).
        step: the largest step.
        levels: how many steps, each half of the one before.
        noise: how wrong one value of the function may be; see `rounding`.

    Returns:
        The Oracle, with M rows.
    """
    steps = [step / 2**level for level in range(levels)]
    batch = [point + h * directions for size in steps for h in (size, -size)]
    values = np.asarray(function(np.concatenate(batch)))
    sides = values.reshape(levels, 2, len(directions), *values.shape[1:])
    slopes = [(above - below) / (2 * h) for h, (above, below) in zip(steps, sides, strict=True)]
    return extrapolated(slopes, [noise / h for h in steps])


def rounding(function: Batched, point: Any, step: float = 1e-6, count: int = 3) -> Any:
    """How wrong rounding makes the values of a function of a batch of points, entry by entry.

    Fourth differences along some directions: of what is smooth nothing is left, and of errors of
    one standard deviation sqrt(70) times as much (J. J. More, S. M. Wild, SIAM J. Sci. Comput.
    33, 1292 (2011)). Three standard deviations, of the worst direction.

    Arguments:
        function: of a batch of points.
        point: where to evaluate it, of any shape.
        step: how far to go, so little that only rounding changes by more than the fourth power.
        count: how many directions.

    Returns:
        A number, or an array of the shape of the function's values.
    """
    point = np.asarray(point, float)
    directions = np.random.default_rng(14).uniform(-1.0, 1.0, (count, *point.shape))
    batch = np.concatenate([point + offset * step * directions for offset in range(-2, 3)])
    values = np.asarray(function(batch))
    fourth = np.tensordot(
        [1.0, -4.0, 6.0, -4.0, 1.0], values.reshape(5, count, *values.shape[1:]), 1
    )
    return 3.0 * np.abs(fourth).max(axis=0) / np.sqrt(70.0)


def unit_displacements(positions: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "ND N D"]:
    """Each coordinate of each atom in turn, shape (N D, N, D)."""
    return np.eye(positions.size).reshape(positions.size, *positions.shape)


def forces(energies: Batched, positions: Float[np.ndarray, "N D"], step: float = 5e-4) -> Oracle:
    """Forces from energies of a batch of positions.

    Arguments:
        energies: takes positions, shape (M, N, D), and returns M energies.
        positions: shape (N, D), in units of length.
        step: the largest displacement, length.

    Returns:
        The Oracle, shape (N, D), energy/length.
    """
    noise = rounding(energies, positions)
    slopes = along(energies, positions, unit_displacements(positions), step, noise=noise)
    return -slopes.reshape(*positions.shape)


def hessian(forces_of: Batched, positions: Float[np.ndarray, "N D"], step: float = 5e-4) -> Oracle:
    """The Hessian from forces on a batch of positions, index D i + a.

    Arguments:
        forces_of: takes positions, shape (M, N, D), and returns forces of that shape.
        positions: shape (N, D), in units of length.
        step: the largest displacement, length.

    Returns:
        The Oracle, shape (N D, N D), energy/length^2.
    """
    noise = rounding(forces_of, positions)
    slopes = along(forces_of, positions, unit_displacements(positions), step, noise=noise)
    return -slopes.reshape(positions.size, positions.size).T


def virial(
    energies: Callable[[np.ndarray, np.ndarray], Any],
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    step: float = 5e-4,
) -> Oracle:
    """Derivative of the energy in the strain, from energies of batches of positions and cells.

    Arguments:
        energies: takes positions, shape (M, N, D), and cells, shape (M, D, D); M energies.
        positions: shape (N, D), in units of length.
        cell: shape (D, D), lattice vectors as rows.
        step: the largest strain.

    Returns:
        The Oracle, shape (D, D), energy.
    """
    dimension = len(cell)
    strains = np.eye(dimension**2).reshape(-1, dimension, dimension)

    def strained_energies(batch: np.ndarray) -> Any:
        deformations = np.eye(dimension) + batch
        return energies(positions @ deformations, cell @ deformations)

    noise = rounding(lambda batch: energies(batch, np.tile(cell, (len(batch), 1, 1))), positions)
    slopes = along(strained_energies, np.zeros_like(cell), strains, step, noise=noise)
    return slopes.reshape(dimension, dimension)
