"""Elastic moduli along directions, how they change, and where they are largest and smallest.

With the compliance S = C^-1 as a tensor, unit vectors n and m, n perpendicular to m (J. F. Nye,
Physical Properties of Crystals (1957), chapter VIII; A. Marmier et al., Comput. Phys. Commun. 181,
2102 (2010)):

    Young's modulus          1 / E(n) = S_ijkl n_i n_j n_k n_l
    linear compressibility   beta(n) = S_ijkk n_i n_j
    shear modulus            1 / G(n, m) = 4 S_ijkl n_i m_j n_k m_l
    Poisson's ratio          nu(n, m) = -E(n) S_ijkl n_i n_j m_k m_l

Each is a ratio of sums that are linear in S, so that dS = -S dC S gives its derivative.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.voigt import VOIGT_INDICES

#: Properties that have one direction, and those that have another one across it.
ALONG, ACROSS = ("youngs_modulus", "linear_compressibility"), ("shear_modulus", "poisson_ratio")
#: So many directions are looked at before the best ones are refined.
GRID_DIRECTIONS = 1_000
#: Properties that vary less than this, relative, are the same in every direction.
ISOTROPIC = 1e-8
#: How far from a direction slopes and curvatures there are taken.
STEP = 1e-4
#: Steps of a refinement at most, how long one is, and what it is divided by at least.
MOST_STEPS, LONGEST_STEP, LEAST_CURVATURE = 50, 0.1, 1e-6
#: Directions are written in whole numbers up to this one.
LARGEST_INDEX = 3


class ElasticRange(NamedTuple):
    """The smallest and the largest value of an elastic property over all directions.

    Attributes:
        minimum: the smallest value.
        maximum: the largest one.
        minimum_directions: where that is: n, shape (1, D), or n and m, shape (2, D), unit vectors
            along Cartesian axes; one of several where these are equivalent.
        maximum_directions: likewise.
    """

    minimum: float
    maximum: float
    minimum_directions: Float[np.ndarray, "one_or_two D"]
    maximum_directions: Float[np.ndarray, "one_or_two D"]

    @property
    def isotropic(self) -> bool:
        """Whether it is the same in every direction."""
        size = max(abs(self.minimum), abs(self.maximum))
        return self.maximum - self.minimum <= ISOTROPIC * size

    @property
    def anisotropy(self) -> float:
        """The largest over the smallest value; NaN where their signs differ, or one is zero."""
        if not self.minimum * self.maximum > 0.0:
            return np.nan
        return max(self.maximum / self.minimum, self.minimum / self.maximum)


def compliance_tensor(constants: Float[Any, "V V"]) -> Float[np.ndarray, "D D D D"]:
    """The compliance S_ijkl of elastic constants.

    Arguments:
        constants: C_ab in ASE's Voigt order, shape (6, 6), or (3, 3) in two dimensions.

    Returns:
        Shape (D, D, D, D), in one over the unit of the constants.

    Raises:
        InputError: they are of another shape or not finite, or a strain lowers the energy.
    """
    matrix = checked_constants(constants)
    return _as_tensor(np.linalg.inv(matrix))


def compliance_change(
    constants: Float[Any, "V V"], change: Float[Any, "*changes V V"]
) -> Float[np.ndarray, "*changes D D D D"]:
    """The change dS = -S dC S of the compliance with one of the elastic constants.

    Arguments:
        constants: C_ab, as in `compliance_tensor`.
        change: dC_ab, or several of them, per unit of anything.

    Returns:
        dS_ijkl, per the same unit.

    Raises:
        InputError: as of `compliance_tensor`.
    """
    compliance = np.linalg.inv(checked_constants(constants))
    return _as_tensor(-compliance @ np.asarray(change, float) @ compliance)


def youngs_modulus_along(
    compliance: Float[Any, "D D D D"], n: Float[Any, "*directions D"]
) -> Float[np.ndarray, "*directions"]:
    """Young's modulus E(n) = 1 / S_ijkl n_i n_j n_k n_l.

    Arguments:
        compliance: S_ijkl.
        n: unit vectors, shape (..., D).

    Returns:
        Shape (...), in the unit of the elastic constants.
    """
    return np.asarray(1.0 / (_monomials(n) @ _coefficients(compliance)))


def youngs_modulus_change(
    compliance: Float[Any, "D D D D"],
    changes: Float[Any, "P D D D D"],
    n: Float[Any, "*directions D"],
) -> Float[np.ndarray, "P *directions"]:
    """The change dE(n) = -E(n)^2 dS_ijkl n_i n_j n_k n_l of Young's modulus.

    Arguments:
        compliance: S_ijkl.
        changes: dS_ijkl, of `compliance_change`, one for each of P parameters.
        n: unit vectors, shape (..., D).

    Returns:
        Shape (P, ...), in the unit of the elastic constants per that of the change.
    """
    monomials = _monomials(n)
    young = 1.0 / (monomials @ _coefficients(compliance))
    return np.asarray(-(young**2) * np.moveaxis(monomials @ _coefficients(changes).T, -1, 0))


def property_at(
    name: str,
    compliance: Float[Any, "D D D D"],
    directions: Float[Any, "one_or_two D"],
    change: Float[Any, "D D D D"] | None = None,
) -> tuple[float, float]:
    """An elastic property in one direction, and its change with the compliance.

    Arguments:
        name: ``"youngs_modulus"``, ``"linear_compressibility"``, ``"shear_modulus"`` or
            ``"poisson_ratio"``.
        compliance: S_ijkl.
        directions: n, shape (1, D), or n and m, shape (2, D): unit vectors.
        change: dS_ijkl; None: no change.

    Returns:
        The value, and its change at the same directions; where the value is largest or smallest
        over all directions, that is also the change of the largest or smallest value.
    """
    d = np.zeros_like(compliance) if change is None else np.asarray(change)
    n, m = directions[0], directions[-1]
    if name == "linear_compressibility":
        value, slope = (float(np.einsum("ijkk,i,j", s, n, n)) for s in (compliance, d))
        return value, slope
    if name == "shear_modulus":
        shear = 1.0 / (4.0 * _quartic(compliance, n, m, n, m))
        return float(shear), float(-4.0 * shear**2 * _quartic(d, n, m, n, m))
    young = youngs_modulus_along(compliance, n)
    (young_slope,) = youngs_modulus_change(compliance, d[None], n)
    if name == "youngs_modulus":
        return float(young), float(young_slope)
    across = _quartic(compliance, n, n, m, m)
    return float(-young * across), float(-young_slope * across - young * _quartic(d, n, n, m, m))


def elastic_ranges(
    constants: Float[Any, "V V"], names: Iterable[str] = (*ALONG, *ACROSS)
) -> dict[str, ElasticRange]:
    """The smallest and largest values of elastic properties over all directions.

    Those of the transverse direction m follow from a matrix of two rows in closed form; n is looked
    for among high-symmetry and evenly spread directions, and refined.

    Arguments:
        constants: C_ab in ASE's Voigt order, shape (6, 6), or (3, 3) in two dimensions.
        names: which of them.

    Returns:
        ``"youngs_modulus"`` and ``"shear_modulus"`` in the unit of the constants,
        ``"linear_compressibility"`` in one over it, and ``"poisson_ratio"``.

    Raises:
        InputError: as of `compliance_tensor`.
    """
    given = np.asarray(constants, dtype=float)
    # A run tells them on the terminal, in its page and in a figure.
    return {name: _range(name, given.tobytes(), given.shape) for name in names}


@functools.lru_cache(maxsize=64)
def _range(name: str, constants: bytes, shape: tuple[int, ...]) -> ElasticRange:
    compliance = compliance_tensor(np.frombuffer(constants).reshape(shape))
    return ElasticRange(*_extremes(name, compliance, _candidates(len(compliance))))


def direction_name(direction: Float[Any, " D"]) -> str:
    """A direction as it is printed: in small whole numbers, or as a unit vector.

    Arguments:
        direction: a unit vector along Cartesian axes, shape (D,).

    Returns:
        E.g. ``"[1 -1 0]"`` or ``"(0.21, -0.54, 0.82)"``.
    """
    vector = np.asarray(direction, float)
    for length in range(1, LARGEST_INDEX**2 * len(vector) + 1):
        indices = vector * np.sqrt(length)
        whole = np.round(indices)
        if np.abs(indices - whole).max() < 1e-5 and np.abs(whole).max() <= LARGEST_INDEX:
            return f"[{' '.join(str(int(index)) for index in whole)}]"
    return f"({', '.join(f'{one + 0.0:.2f}' for one in np.round(vector, 2))})"


def checked_constants(constants: Float[Any, "V V"]) -> Float[np.ndarray, "V V"]:
    """Elastic constants of which there is a compliance.

    Arguments:
        constants: C_ab in ASE's Voigt order, shape (6, 6), or (3, 3) in two dimensions.

    Returns:
        The same, in NumPy.

    Raises:
        InputError: they are of another shape or not finite, or a strain lowers the energy.
    """
    matrix = np.asarray(constants, float)
    if matrix.shape not in ((6, 6), (3, 3)):
        raise InputError(
            f"elastic constants of shape {matrix.shape}: give (6, 6), or (3, 3) in two dimensions"
        )
    if not np.isfinite(matrix).all():
        raise InputError("elastic constants that are not finite: give numbers")
    if not np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] > 0.0:
        raise InputError(
            "elastic constants of which a strain lowers the energy: they have no moduli along "
            "directions; relax the cell too, as with cell='full'"
        )
    return matrix


def _as_tensor(compliance: Float[Any, "*changes V V"]) -> Float[np.ndarray, "*changes D D D D"]:
    """S_ijkl of a compliance in Voigt's notation, in which a shear is twice the strain."""
    dimension = 3 if compliance.shape[-1] == 6 else 2
    place = np.zeros((dimension, dimension), int)
    factor = np.full((dimension, dimension), 0.5)
    for voigt, (row, column) in enumerate(zip(*VOIGT_INDICES[dimension], strict=True)):
        place[row, column] = place[column, row] = voigt
    np.fill_diagonal(factor, 1.0)
    taken = compliance[..., place[:, :, None, None], place[None, None]]
    return np.asarray(taken * factor[:, :, None, None] * factor)


class _Products(NamedTuple):
    """The products of four components of a vector that differ, as products of two pairs.

    Attributes:
        pairs: components of the pairs, shape (2, Q).
        sets: pairs of the products, shape (2, M).
        sums: which T_ijkl each product has before it, shape (D^4, M), ones and zeros.
    """

    pairs: Any
    sets: Any
    sums: Any


@functools.cache
def _products(dimension: int) -> _Products:
    pairs = list(itertools.combinations_with_replacement(range(dimension), 2))
    four = list(itertools.combinations_with_replacement(range(dimension), 4))
    sets = [(pairs.index(one[:2]), pairs.index(one[2:])) for one in four]
    sums = np.zeros((dimension,) * 4 + (len(four),))
    for place, one in enumerate(four):
        for order in set(itertools.permutations(one)):
            sums[(*order, place)] = 1.0
    return _Products(np.array(pairs).T, np.array(sets).T, sums.reshape(-1, len(four)))


def _monomials(n: Any) -> Float[np.ndarray, "... M"]:
    """n_i n_j n_k n_l of each set of indices."""
    of = _products(np.shape(n)[-1])
    pairs = np.asarray(n, float)[..., of.pairs].prod(axis=-2)
    return np.asarray(pairs[..., of.sets[0]] * pairs[..., of.sets[1]])


def _coefficients(tensor: Any) -> Float[np.ndarray, "... M"]:
    """What each of `_monomials` has before it in T_ijkl n_i n_j n_k n_l."""
    given, sums = np.asarray(tensor), _products(np.shape(tensor)[-1]).sums
    return np.asarray(given.reshape(*given.shape[:-4], len(sums)) @ sums)


def _quartic(tensor: Any, a: Any, b: Any, c: Any, d: Any) -> Float[np.ndarray, "..."]:
    """T_ijkl a_i b_j c_k d_l."""
    pairs = np.reshape(tensor, (len(tensor) ** 2, -1))
    return np.asarray(np.sum((_outer(a, b) @ pairs) * _outer(c, d), axis=-1))


def _outer(a: Any, b: Any) -> Float[np.ndarray, "... P"]:
    """a_i b_j, with i and j as one index."""
    product = np.asarray(a)[..., :, None] * np.asarray(b)[..., None, :]
    return product.reshape(*product.shape[:-2], -1)


def _candidates(dimension: int) -> Float[np.ndarray, "K D"]:
    """Directions to begin at: of high symmetry first, which are named where several are alike."""
    if dimension == 2:
        angles = np.pi * np.arange(180) / 180
        order = np.lexsort((angles, angles % (np.pi / 4) > 1e-9))
        return np.stack([np.cos(angles), np.sin(angles)], axis=-1)[order]
    grid = np.stack(np.meshgrid(*[[1, 0, -1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    # One of each pair of opposite ones: its first component that is not zero is positive.
    grid = np.array([one for one in grid if tuple(one) > (0, 0, 0)], float)
    grid = grid[np.argsort((grid != 0.0).sum(axis=-1), kind="stable")]
    # Evenly spread over half a sphere: a spiral of the golden angle.
    z = (np.arange(GRID_DIRECTIONS) + 0.5) / GRID_DIRECTIONS
    angles = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(GRID_DIRECTIONS)
    radius = np.sqrt(1.0 - z**2)
    spiral = np.stack([radius * np.cos(angles), radius * np.sin(angles), z], axis=-1)
    return np.concatenate([grid / np.linalg.norm(grid, axis=-1, keepdims=True), spiral])


def _extremes(
    name: str, compliance: np.ndarray, candidates: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray]:
    low_values, low_across = _over_transverse(name, compliance, candidates, 1.0)
    high_values, high_across = _over_transverse(name, compliance, candidates, -1.0)
    low, low_directions = _refined(name, compliance, candidates, low_values, low_across, 1.0)
    high, high_directions = _refined(name, compliance, candidates, high_values, high_across, -1.0)
    return low, high, low_directions, high_directions


def _refined(
    name: str,
    compliance: np.ndarray,
    candidates: np.ndarray,
    values: np.ndarray,
    across: np.ndarray | None,
    sign: float,
) -> tuple[float, np.ndarray]:
    """The smallest value (largest, of sign -1), from the best few candidates."""
    scale = np.abs(values).max()
    signed = sign * values

    def of(points: np.ndarray) -> np.ndarray:
        found, _ = _over_transverse(name, compliance, points, sign)
        return np.asarray(sign * found / scale)

    best = int(np.flatnonzero(signed <= signed.min() + 1e-9 * scale)[0])
    n, lowest = candidates[best], float(signed[best] / scale)
    for start in np.argsort(signed, kind="stable")[:2]:
        refined, value = _lowest_nearby(of, candidates[start])
        if value < lowest - 1e-9:
            n, lowest = refined, value
    extreme, m = _over_transverse(name, compliance, n[None], sign)
    directions = [n] if m is None else [n, m[0]]
    return float(extreme[0]), np.array([_upright(one) for one in directions])


def _lowest_nearby(
    of: Callable[[np.ndarray], np.ndarray], start: np.ndarray
) -> tuple[np.ndarray, float]:
    """The direction where a function of directions, shape (K, D), is lowest, and how low it is.

    By Newton's method, downhill along every principal curvature, with differences of a second
    order. SciPy's minimisers take longer to import than this takes.
    """
    n, value = start, float(of(start[None])[0])
    for _ in range(MOST_STEPS):
        plane = _perpendicular(n[None])[0]
        offsets = np.array(list(itertools.product((0, 1, -1), repeat=len(plane))))
        around = of(_unit(n + STEP * offsets @ plane))
        slopes, curvatures = _quadratic(offsets, around)
        sizes, axes = np.linalg.eigh(curvatures)
        step = -(axes @ ((axes.T @ slopes) / np.maximum(np.abs(sizes), LEAST_CURVATURE))) @ plane
        step *= min(1.0, LONGEST_STEP / max(float(np.linalg.norm(step)), 1e-300))
        trials = _unit(n + 0.25 ** np.arange(6)[:, None] * step)
        values = of(trials)
        lowest = int(np.argmin(values))
        if not values[lowest] < value:
            break
        n, value = trials[lowest], float(values[lowest])
    return n, value


def _quadratic(offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and curvatures per unit of length of values at `STEP` times offsets of -1, 0, 1."""
    by_place = dict(zip(map(tuple, offsets), values, strict=True))
    count = offsets.shape[1]
    units = np.eye(count, dtype=int)

    def at(offset: np.ndarray) -> float:
        return float(by_place[tuple(offset)])

    slopes = np.array([at(unit) - at(-unit) for unit in units]) / (2.0 * STEP)
    curvatures = np.empty((count, count))
    for i, one in enumerate(units):
        for j, other in enumerate(units):
            if i == j:
                second = at(one) - 2.0 * at(0 * one) + at(-one)
            else:
                second = at(one + other) - at(one - other) - at(other - one) + at(-one - other)
                second /= 4.0
            curvatures[i, j] = second / STEP**2
    return slopes, curvatures


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _upright(direction: np.ndarray) -> np.ndarray:
    """Of two opposite directions the one whose first component is positive."""
    (leading, *_) = direction[np.abs(direction) > 1e-9]
    return direction * np.sign(leading) + 0.0


def _over_transverse(
    name: str, compliance: np.ndarray, n: Float[np.ndarray, "K D"], sign: float
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "K D"] | None]:
    """The smallest value (largest, of sign -1) over m at each n, and where that is."""
    if name == "youngs_modulus":
        return youngs_modulus_along(compliance, n), None
    if name == "linear_compressibility":
        return _outer(n, n) @ np.trace(compliance, axis1=2, axis2=3).ravel(), None
    plane = _perpendicular(n)
    shear = name == "shear_modulus"
    # Both are quadratic forms in m.
    if shear:
        form = 4.0 * _contracted(compliance.swapaxes(1, 2), n)
    else:
        form = -youngs_modulus_along(compliance, n)[:, None, None] * _contracted(compliance, n)
    form = plane @ (form + form.swapaxes(1, 2)) / 2.0 @ plane.swapaxes(1, 2)
    values, vectors = np.linalg.eigh(form)
    # The least of 1 / G is the largest of G.
    chosen = 0 if (sign > 0) != shear else -1
    extreme = 1.0 / values[:, chosen] if shear else values[:, chosen]
    return extreme, (vectors[:, None, :, chosen] @ plane)[:, 0]


def _contracted(tensor: np.ndarray, n: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K D D"]:
    """T_ijkl n_i n_j."""
    size = len(tensor)
    return (_outer(n, n) @ tensor.reshape(size**2, -1)).reshape(-1, size, size)


def _perpendicular(n: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K T D"]:
    """Unit vectors across each direction: two, or one in two dimensions."""
    if n.shape[-1] == 2:
        return np.stack([-n[:, 1], n[:, 0]], axis=-1)[:, None]
    # Across the axis that it is least along.
    axis = np.eye(3)[np.argmin(np.abs(n), axis=-1)]
    first = np.cross(n, axis)
    first /= np.linalg.norm(first, axis=-1, keepdims=True)
    return np.stack([first, np.cross(n, first)], axis=1)
