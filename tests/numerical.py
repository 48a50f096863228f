"""Finite-difference oracles: forces and stress from energies, Hessians from forces, derivatives of
relaxed structures from relaxing again. All are central differences, extrapolated to step zero
(L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911))."""

import itertools

import numpy as np


def extrapolate(slopes):
    """The limit of central differences whose step was halved from one to the next."""
    column = list(slopes)
    for power in range(1, len(column)):
        factor = 4.0**power
        column = [
            (factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(column)
        ]
    return column[0]


def derivative(function, at=0.0, step=1e-3, levels=2):
    """The derivative of a function of one number, whose values may be arrays."""
    steps = [step / 2**level for level in range(levels)]
    differences = [np.asarray(function(at + h)) - np.asarray(function(at - h)) for h in steps]
    return extrapolate(d / (2 * h) for d, h in zip(differences, steps, strict=True))


def second_derivative(function, at=0.0, step=1e-2, levels=3):
    """The second derivative of a function of one number."""
    middle = np.asarray(function(at))
    steps = [step / 2**level for level in range(levels)]
    curvatures = [
        (np.asarray(function(at + h)) - 2 * middle + np.asarray(function(at - h))) / h**2
        for h in steps
    ]
    return extrapolate(curvatures)


def along(function, point, directions, step, levels=2):
    """Derivatives along many directions, of a function of a batch of points at once.

    The directions have shape (M, *point.shape); the result has M rows.
    """
    slopes = []
    for level in range(levels):
        h = step / 2**level
        batch = np.concatenate([point + h * directions, point - h * directions])
        above, below = np.split(np.asarray(function(batch)), 2)
        slopes.append((above - below) / (2 * h))
    return extrapolate(slopes)


def unit_displacements(positions):
    """Each coordinate of each atom in turn, shape (N D, N, D)."""
    return np.eye(positions.size).reshape(positions.size, *positions.shape)


def forces(energies, positions, step=2e-4):
    """Forces from energies of a batch of positions."""
    slopes = along(energies, positions, unit_displacements(positions), step)
    return -slopes.reshape(positions.shape)


def hessian(forces_of, positions, step=2e-4):
    """The Hessian from forces on a batch of positions, index D i + a."""
    slopes = along(forces_of, positions, unit_displacements(positions), step)
    return -slopes.reshape(positions.size, positions.size).T


def virial(energies, positions, cell, step=2e-4):
    """Derivative of the energy in the strain, from energies of batches of positions and cells."""
    dimension = len(cell)
    strains = np.eye(dimension**2).reshape(-1, dimension, dimension)

    def strained_energies(batch):
        deformations = np.eye(dimension) + batch
        return energies(positions @ deformations, cell @ deformations)

    slopes = along(strained_energies, np.zeros_like(cell), strains, step)
    return slopes.reshape(dimension, dimension)


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
