"""Finite-difference oracles: forces and stress from energies, Hessians from forces, derivatives of
relaxed structures from relaxing again. All are central differences, extrapolated to step zero
(L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911)).

An oracle knows how wrong it may itself be, and whoever asks it for more than that is told so.
"""

import dataclasses
import itertools

import equinox as eqx
import jax
import numpy as np

#: How many times smaller than what is asked of it the error of an oracle has to be.
MARGIN = 10.0


class UnfitOracleError(AssertionError):
    """The oracle is not good enough to judge; what it was to judge may well be right."""


@dataclasses.dataclass(frozen=True)
class Oracle:
    """What a number or an array ought to be, and how wrong that may be, entry by entry."""

    value: np.ndarray
    error: np.ndarray

    def __getitem__(self, entry):
        return Oracle(self.value[entry], self.error[entry])

    def __neg__(self):
        return Oracle(-self.value, self.error)

    def reshape(self, *shape):
        return Oracle(self.value.reshape(*shape), self.error.reshape(*shape))

    @property
    def T(self):
        return Oracle(self.value.T, self.error.T)


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


def extrapolate(slopes):
    """The limit of central differences whose step was halved from one to the next."""
    column = list(slopes)
    for power in range(1, len(column)):
        factor = 4.0**power
        column = [
            (factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(column)
        ]
    return column[0]


def extrapolated(differences, errors):
    """The oracle from differences whose step was halved from one to the next.

    Its error is how far the result is from that without the largest step (more than what the
    whole series is wrong by, and large where some step crosses a kink), and what the errors of
    the differences add up to.
    """
    value = extrapolate(differences)
    truncation = np.abs(value - extrapolate(differences[1:]))
    weights = [abs(extrapolate(unit)) for unit in np.eye(len(differences))]
    noise = sum(weight * error for weight, error in zip(weights, errors, strict=True))
    return Oracle(value, truncation + noise)


def derivative(function, at=0.0, step=1e-3, levels=3, *, noise):
    """The derivative of a function of one number, whose values may be arrays.

    The noise is how wrong one value of the function may be: a number, or one for each entry. See
    `rounding` and `left_over`.
    """
    steps = [step / 2**level for level in range(levels)]
    slopes = [
        (np.asarray(function(at + h)) - np.asarray(function(at - h))) / (2 * h) for h in steps
    ]
    return extrapolated(slopes, [noise / h for h in steps])


def second_derivative(function, at=0.0, step=1e-2, levels=3, *, noise):
    """The second derivative of a function of one number."""
    middle = np.asarray(function(at))
    steps = [step / 2**level for level in range(levels)]
    curvatures = [
        (np.asarray(function(at + h)) - 2 * middle + np.asarray(function(at - h))) / h**2
        for h in steps
    ]
    return extrapolated(curvatures, [4 * noise / h**2 for h in steps])


def along(function, point, directions, step, levels=3, *, noise):
    """Derivatives along many directions, of a function of a batch of points at once.

    The directions have shape (M, *point.shape); the result has M rows.
    """
    steps = [step / 2**level for level in range(levels)]
    slopes = []
    for h in steps:
        batch = np.concatenate([point + h * directions, point - h * directions])
        above, below = np.split(np.asarray(function(batch)), 2)
        slopes.append((above - below) / (2 * h))
    return extrapolated(slopes, [noise / h for h in steps])


def rounding(function, point, step=1e-6, count=3):
    """How wrong rounding makes the values of a function of a batch of points, entry by entry.

    Fourth differences along some directions: of what is smooth nothing is left, and of errors of
    one standard deviation sqrt(70) times as much (J. J. More, S. M. Wild, SIAM J. Sci. Comput.
    33, 1292 (2011)). Three standard deviations, of the worst direction.
    """
    point = np.asarray(point, float)
    directions = np.random.default_rng(14).uniform(-1.0, 1.0, (count, *point.shape))
    batch = np.concatenate([point + offset * step * directions for offset in range(-2, 3)])
    values = np.asarray(function(batch))
    fourth = np.tensordot(
        [1.0, -4.0, 6.0, -4.0, 1.0], values.reshape(5, count, *values.shape[1:]), 1
    )
    return 3.0 * np.abs(fourth).max(axis=0) / np.sqrt(70.0)


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


def unit_displacements(positions):
    """Each coordinate of each atom in turn, shape (N D, N, D)."""
    return np.eye(positions.size).reshape(positions.size, *positions.shape)


def forces(energies, positions, step=5e-4):
    """Forces from energies of a batch of positions."""
    noise = rounding(energies, positions)
    slopes = along(energies, positions, unit_displacements(positions), step, noise=noise)
    return -slopes.reshape(positions.shape)


def hessian(forces_of, positions, step=5e-4):
    """The Hessian from forces on a batch of positions, index D i + a."""
    noise = rounding(forces_of, positions)
    slopes = along(forces_of, positions, unit_displacements(positions), step, noise=noise)
    return -slopes.reshape(positions.size, positions.size).T


def virial(energies, positions, cell, step=5e-4):
    """Derivative of the energy in the strain, from energies of batches of positions and cells."""
    dimension = len(cell)
    strains = np.eye(dimension**2).reshape(-1, dimension, dimension)

    def strained_energies(batch):
        deformations = np.eye(dimension) + batch
        return energies(positions @ deformations, cell @ deformations)

    noise = rounding(lambda batch: energies(batch, np.tile(cell, (len(batch), 1, 1))), positions)
    slopes = along(strained_energies, np.zeros_like(cell), strains, step, noise=noise)
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
