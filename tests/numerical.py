"""How tests judge by finite-difference oracles, which are those of `mdsens.testing`.

An oracle knows how wrong it may itself be, and whoever asks it for more than that is told so.
"""

import itertools

import equinox as eqx
import jax
import numpy as np

from mdsens.testing.finite_differences import (
    MARGIN,
    Oracle,
    along,
    derivative,
    forces,
    hessian,
    rounding,
    second_derivative,
    virial,
)

__all__ = [
    "Oracle",
    "UnfitOracleError",
    "agrees",
    "along",
    "derivative",
    "forces",
    "hessian",
    "images",
    "left_over",
    "relative_error",
    "rounding",
    "second_derivative",
    "virial",
]


class UnfitOracleError(AssertionError):
    """The oracle is not good enough to judge; what it was to judge may well be right."""


def agrees(value, oracle, rtol, scale=None, each=False):
    """Assert that a value is what the oracle says, and that the oracle is able to say so.

    The norm of the difference is at most rtol times the scale, by default the norm of the oracle's
    value, and the norm of the oracle's error ten times less; or entry by entry with each=True.
    """
    value = np.asarray(value)
    assert value.shape == oracle.value.shape, f"shape {value.shape}, not {oracle.value.shape}"
    size = np.abs if each else np.linalg.norm
    allowed = rtol * (size(oracle.value) if scale is None else np.asarray(scale))
    off, error = size(value - oracle.value), size(oracle.error)
    if not np.all(MARGIN * error <= allowed):
        raise UnfitOracleError(
            f"the oracle's own error, {error}, is not {MARGIN:.0f} times below what is allowed, "
            f"{allowed}: choose another step, more levels, or values with less noise"
        )
    assert np.all(off <= allowed), (
        f"{value} is off by {off} from {oracle.value}; allowed is {allowed}, "
        f"and the oracle's own error is {error}"
    )


def left_over(equilibrium, observe):
    """How wrong what is observed of structures relaxed near this one may be, entry by entry.

    Forces F that are left over move what has the gradient g by g H^+ F, at most by |H^+ g| |F|;
    each of them may be as large as the relaxation was allowed to leave it. What is observed has to
    be blind to directions that nothing determines. On top of that comes rounding.
    """
    forces = equilibrium.fmax * np.sqrt(len(equilibrium.q))
    inverse = np.linalg.pinv(equilibrium.dense_jacobian, rcond=1e-9, hermitian=True)
    value = np.asarray(observe(equilibrium))
    gradients = jax.jacrev(lambda q: observe(eqx.tree_at(lambda e: e.q, equilibrium, q)))(
        equilibrium.q
    )
    moves = np.linalg.norm(np.reshape(gradients, (-1, len(inverse))) @ inverse, axis=-1)
    return forces * moves.reshape(value.shape) + 16 * np.finfo(float).eps * np.abs(value)


def relative_error(value, reference):
    """Norm of the difference over the norm of the reference."""
    value, reference = np.asarray(value), np.asarray(reference)
    return np.linalg.norm(value - reference) / np.linalg.norm(reference)


def images(positions, cell, pbc, reach):
    """Every ordered pair within reach by brute force over images: i, j, shift and vector."""
    positions, cell = np.asarray(positions), np.asarray(cell)
    dimension = positions.shape[1]
    directions = [axis for axis in range(dimension) if pbc[axis]]
    lattice = cell[directions]
    counts = np.zeros(len(directions), int)
    if directions:
        # Distance between lattice planes along each periodic direction, with atoms anywhere.
        fractional = positions @ np.linalg.pinv(lattice)
        spread = np.ptp(fractional, axis=0)
        heights = 1.0 / np.linalg.norm(np.linalg.pinv(lattice), axis=0)
        counts = np.ceil(reach / heights + spread).astype(int)
    grid = np.array(list(itertools.product(*(range(-n, n + 1) for n in counts))), int)
    shifts = np.zeros((len(grid), dimension), int)
    shifts[:, directions] = grid
    vectors = positions[None, None] - positions[None, :, None] + (shifts @ cell)[:, None, None]
    lengths = np.linalg.norm(vectors, axis=-1)
    itself = (shifts == 0).all(axis=1)[:, None, None] & np.eye(len(positions), dtype=bool)
    found = np.argwhere((lengths <= reach) & ~itself)
    shift, first, second = found.T
    return first, second, shifts[shift], vectors[shift, first, second]
