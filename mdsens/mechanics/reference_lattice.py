"""The perfect lattice that most atoms of a crystal stand near, and which site each has."""

import functools
import itertools

import numpy as np
from jaxtyping import Bool, Float, Int

from mdsens.linalg.lattice_preconditioner import LatticeSites
from mdsens.particles.curve_order import curve_order
from mdsens.particles.lattice import completed_cell

#: Atoms whose neighbours are looked at, and how many of these are tried as the typical one.
SAMPLED, TRIED = 400, 8
#: Distances that are the same, as a part of that of nearest neighbours; and how far an atom may be
#: from its site.
SAME, ON_SITE = 0.15, 0.35
#: Part of the atoms that a translation of the lattice takes to others, and part that has a site.
FREQUENT, COVERED = 0.7, 0.85
#: Volume between vectors that are independent, as a part of the product of their lengths.
INDEPENDENT = 0.1
#: Distances of nearest neighbours that are empty where a periodic direction has vacuum in it.
VACUUM = 2.0
#: Atoms in the primitive cell at most.
MOST_IN_BASIS = 16
#: Lattice vectors that the cell has in each direction, to a whole number within this.
COMMENSURATE = 0.2


def lattice_sites(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool, ...],
    species: Int[np.ndarray, " N"],
    starts: Int[np.ndarray, " M"],
    neighbors: Int[np.ndarray, " P"],
) -> LatticeSites | None:
    """Recognise the lattice of a crystal with few defects from its positions.

    Its translations are the vectors between neighbours that nearly all atoms have alike; of these
    the shortest that are independent span a primitive cell (in up to three dimensions: H.
    Minkowski). Where species are spread over sites at random, they do not tell sites apart.

    Arguments:
        positions: shape (N, D), length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        species: shape (N,), index of each atom's species.
        starts: shape (N + 1,), where the neighbours of each atom begin in their list.
        neighbors: shape (P,), indices of neighbours; the atom itself may be one of them.

    Returns:
        The LatticeSites; None where too few atoms are on a lattice.
    """
    rows = np.random.default_rng(0).permutation(len(positions))[:SAMPLED]
    counts = starts[rows + 1] - starts[rows]
    owners = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    others = neighbors[np.repeat(starts[rows], counts) + within]
    return lattice_sites_of_sample(positions, cell, pbc, species, rows, owners, others)


def lattice_sites_of_sample(
    positions: Float[np.ndarray, "N D"],
    cell: Float[np.ndarray, "D D"],
    pbc: tuple[bool, ...],
    species: Int[np.ndarray, " N"],
    rows: Int[np.ndarray, " S"],
    owners: Int[np.ndarray, " P"],
    others: Int[np.ndarray, " P"],
) -> LatticeSites | None:
    """The same where neighbours are known of some atoms alone.

    Arguments:
        positions: shape (N, D), length.
        cell: shape (D, D), lattice vectors as rows.
        pbc: D values, whether each direction is periodic.
        species: shape (N,), index of each atom's species.
        rows: shape (S,), these atoms.
        owners: shape (P,), for each neighbour which of them it is one of.
        others: shape (P,), the neighbours.

    Returns:
        The LatticeSites; None where too few atoms are on a lattice.
    """
    count, whole = len(positions), completed_cell(cell, pbc)
    vectors, owners, others = _vectors_between(positions, whole, pbc, rows, owners, others)
    if len(vectors) == 0:
        return None
    nearest = float(np.median(_shortest(vectors, owners, len(rows))))
    positions, pbc = _opened(positions, whole, pbc, VACUUM * nearest)
    for same_species in (True, False) if len(np.unique(species)) > 1 else (False,):
        alike = species[rows[owners]] == species[others] if same_species else None
        primitive = _primitive_cell(vectors, owners, len(rows), SAME * nearest, alike)
        if primitive is None:
            continue
        multiples = _multiples(primitive, whole, pbc)
        if multiples is None:
            continue
        primitive = _matched(primitive, multiples, whole, pbc)
        kinds_of = species if same_species else np.zeros(count, int)
        sites = _assigned(positions, primitive, multiples, pbc, kinds_of, rows, nearest)
        if sites is not None:
            return sites
    return None


def _vectors_between(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], rows: np.ndarray,
    owners: np.ndarray, others: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Vectors from sampled atoms to the nearest images of their neighbours; whose; and to which."""
    fractional = (positions[others] - positions[rows[owners]]) @ np.linalg.inv(cell)
    fractional -= np.round(fractional) * np.asarray(pbc)
    vectors = fractional @ cell
    apart = others != rows[owners]
    return vectors[apart], owners[apart], others[apart]


def _opened(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], vacuum: float
) -> tuple[np.ndarray, tuple[bool, ...]]:
    """The images of atoms that are together, and no period where vacuum parts them from others.

    Such a period is that of the vacuum, and none of the lattice.
    """
    inverse = np.linalg.inv(cell)
    fractional, heights = positions @ inverse, 1.0 / np.linalg.norm(inverse, axis=0)
    closed = list(pbc)
    for axis in np.flatnonzero(pbc):
        column = fractional[:, axis] % 1.0
        ordered = np.sort(column)
        gaps = np.diff(ordered, append=ordered[0] + 1.0)
        widest = int(gaps.argmax())
        if gaps[widest] * heights[axis] > vacuum:
            closed[axis] = False
            # From above the vacuum on.
            begin = ordered[(widest + 1) % len(ordered)]
            fractional[:, axis] = (column - begin) % 1.0
    return fractional @ cell, tuple(closed)


def _shortest(vectors: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """The length of the shortest vector of each atom that has one."""
    shortest = np.full(count, np.inf)
    np.minimum.at(shortest, owners, np.linalg.norm(vectors, axis=1))
    return shortest[np.isfinite(shortest)]


def _primitive_cell(
    vectors: np.ndarray, owners: np.ndarray, count: int, tolerance: float, alike: np.ndarray | None
) -> Float[np.ndarray, "D D"] | None:
    """Shortest independent vectors that nearly all atoms have to a neighbour that is alike."""
    if alike is not None:
        vectors, owners = vectors[alike], owners[alike]
    dimension = vectors.shape[1]
    for typical in range(min(TRIED, count)):
        own = vectors[owners == typical]
        chosen: list[np.ndarray] = []
        for vector in own[np.argsort(np.linalg.norm(own, axis=1), kind="stable")]:
            trial = np.array([*chosen, vector])
            lengths = np.prod(np.linalg.norm(trial, axis=1))
            # A determinant of rounding may be negative.
            square = max(float(np.linalg.det(trial @ trial.T)), 0.0)
            if np.sqrt(square) <= INDEPENDENT * lengths:
                continue
            near = np.linalg.norm(vectors - vector, axis=1) < tolerance
            if (np.bincount(owners[near], minlength=count) > 0).sum() >= FREQUENT * count:
                chosen.append(vectors[near].mean(axis=0))
            if len(chosen) == dimension:
                return np.array(chosen)
    return None


def _multiples(
    primitive: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...]
) -> Int[np.ndarray, "k D"] | None:
    """The periodic lattice vectors of the cell in whole numbers of those of the lattice."""
    exact = cell[list(pbc)] @ np.linalg.inv(primitive)
    whole = np.round(exact).astype(np.int64)
    if np.abs(exact - whole).max(initial=0.0) > COMMENSURATE:
        return None
    return whole if np.linalg.matrix_rank(whole) == len(whole) else None


def _matched(
    primitive: np.ndarray, multiples: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...]
) -> np.ndarray:
    """The primitive cell, changed as little as the periods of the system demand."""
    missing = cell[list(pbc)] - multiples @ primitive
    return primitive + np.linalg.pinv(multiples.astype(float).reshape(-1, len(cell))) @ missing


def _assigned(
    positions: np.ndarray, primitive: np.ndarray, multiples: np.ndarray, pbc: tuple[bool, ...],
    kinds_of: np.ndarray, rows: np.ndarray, nearest: float,
) -> LatticeSites | None:  # fmt: skip
    """Atoms on the sites of a lattice."""
    fractional = (positions - positions[rows[0]]) @ np.linalg.inv(primitive)
    basis = _basis(fractional[rows], kinds_of[rows], primitive, SAME * nearest)
    if basis is None:
        return None
    places_of_basis, kinds_of_basis = basis
    apart = fractional[:, None] - places_of_basis
    cells = np.round(apart)
    distances = np.linalg.norm((apart - cells) @ primitive, axis=2)
    distances[kinds_of[:, None] != kinds_of_basis] = np.inf
    kinds = distances.argmin(axis=1)
    off = distances[np.arange(len(kinds)), kinds]
    cells = cells[np.arange(len(kinds)), kinds].astype(np.int64)
    periods = _all_periods(cells, multiples, primitive, pbc)
    rings, turned = smith_normal_form(periods)
    if any(ring > 2**31 for ring in rings):
        return None
    places = (cells @ turned) % np.array(rings)
    key = np.ravel_multi_index(tuple(places.T), rings) * len(places_of_basis) + kinds
    has_site = off < ON_SITE * nearest
    if len(np.unique(key)) < len(key):
        # Of two atoms at one site the nearer has it.
        order = np.argsort(off, kind="stable")
        _, first = np.unique(key[order], return_index=True)
        nearer = np.zeros(len(kinds), bool)
        nearer[order[first]] = True
        has_site &= nearer
    if has_site.mean() < COVERED:
        return None
    # Asked for where many columns are solved for alone.
    along_curve = functools.partial(curve_order, positions)
    kinds = np.where(has_site, kinds, -1)
    return LatticeSites(rings, places, kinds, len(places_of_basis), along_curve)


def _basis(
    fractional: np.ndarray, kinds_of: np.ndarray, primitive: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Sites of the primitive cell that most atoms stand at, in its own coordinates."""
    left = np.ones(len(fractional), bool)
    places: list[np.ndarray] = []
    kinds: list[int] = []
    while left.sum() > (1.0 - COVERED) * len(fractional):
        if len(places) == MOST_IN_BASIS:
            return None
        candidates = np.flatnonzero(left)
        best: np.ndarray | None = None
        for start in candidates[:TRIED]:
            near = _near(fractional, fractional[start], primitive, tolerance) & left
            near &= kinds_of == kinds_of[start]
            if best is None or near.sum() > best.sum():
                best, origin, kind = near, fractional[start], kinds_of[start]
        assert best is not None
        apart = fractional[best] - origin
        place = origin + (apart - np.round(apart)).mean(axis=0)
        around = _near(fractional, place, primitive, 2.0 * tolerance)
        left &= ~(around & (kinds_of == kind))
        # A few atoms by themselves are a defect, no site.
        if best.sum() > 0.02 * len(fractional):
            places.append(place)
            kinds.append(int(kind))
        left[candidates[0]] = False
    return (np.array(places), np.array(kinds)) if places else None


def _near(
    fractional: np.ndarray, place: np.ndarray, primitive: np.ndarray, distance: float
) -> Bool[np.ndarray, " M"]:
    apart = fractional - place
    near: np.ndarray = np.linalg.norm((apart - np.round(apart)) @ primitive, axis=1) < distance
    return near


def _all_periods(
    cells: np.ndarray, multiples: np.ndarray, primitive: np.ndarray, pbc: tuple[bool, ...]
) -> Int[np.ndarray, "D D"]:
    """Periods in every direction: along those that are not periodic, twice the extent and more."""
    dimension = len(primitive)
    periods = [list(map(int, row)) for row in multiples]
    while len(periods) < dimension:
        spanned = np.array(periods, float).reshape(-1, dimension) @ primitive
        best, most = 0, -1.0
        for axis in range(dimension):
            across = _across(primitive[axis], spanned)
            if np.linalg.norm(across) > most:
                best, most, normal = axis, float(np.linalg.norm(across)), across
        heights = (cells @ primitive) @ (normal / most)
        length = int(np.ceil((np.ptp(heights) + 4.0 * most) / most))
        periods.append([length if axis == best else 0 for axis in range(dimension)])
    return np.array(periods, dtype=np.int64)


def _across(vector: np.ndarray, spanned: np.ndarray) -> np.ndarray:
    """The part of a vector outside a span."""
    if len(spanned) == 0:
        return vector
    return vector - np.linalg.pinv(spanned) @ (spanned @ vector)


def smith_normal_form(
    matrix: Int[np.ndarray, "D D"],
) -> tuple[tuple[int, ...], Int[np.ndarray, "D D"]]:
    """Rings whose product is the lattice of whole numbers modulo the rows of a matrix.

    Arguments:
        matrix: shape (D, D), of full rank.

    Returns:
        Lengths of the rings, and V, shape (D, D): the row n is at n V on them, each coordinate
        modulo its length; U matrix V is their diagonal matrix for some U of determinant 1 or -1.
    """
    size = len(matrix)
    left = [[int(entry) for entry in row] for row in matrix]
    turned = [[int(i == j) for j in range(size)] for i in range(size)]

    def subtract_column(to: int, source: int, times: int) -> None:
        for row in (*left, *turned):
            row[to] -= times * row[source]

    for corner in range(size):
        while True:
            entries = [
                (abs(left[i][j]), i, j)
                for i, j in itertools.product(range(corner, size), repeat=2)
                if left[i][j]
            ]
            _, up, side = min(entries)
            left[corner], left[up] = left[up], left[corner]
            for line in (*left, *turned):
                line[corner], line[side] = line[side], line[corner]
            pivot = left[corner][corner]
            for row in range(corner + 1, size):
                times = left[row][corner] // pivot
                left[row] = [a - times * b for a, b in zip(left[row], left[corner], strict=True)]
            for column in range(corner + 1, size):
                subtract_column(column, corner, left[corner][column] // pivot)
            rest = range(corner + 1, size)
            if not any(left[k][corner] or left[corner][k] for k in rest):
                break
    rings = tuple(abs(left[k][k]) for k in range(size))
    return rings, np.array(turned, dtype=np.int64)
