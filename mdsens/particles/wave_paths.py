"""Paths through the Brillouin zone: wave vectors, and how far along the path each of them is."""

import dataclasses
import itertools
import warnings
from typing import Any, TypeAlias

import numpy as np
from ase.cell import Cell
from ase.dft.kpoints import parse_path_string
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.particles.system import System
from mdsens.values import integer, items, real_array, shown

#: Symmetric points lie at fractions of these parts of reciprocal lattice vectors, if at any.
PARTS = 24
#: What rounding leaves of a symmetric point's place, in reciprocal lattice vectors.
ROUNDING = 1e-10

#: Wave vectors of a path at most.
MOST_POINTS = 100_000

#: Names and wave vectors of the corners of a part of a path that has no gap.
Piece: TypeAlias = list[tuple[str, Float[np.ndarray, " D"]]]


@dataclasses.dataclass(frozen=True)
class WavePath:
    """Wave vectors along straight lines between symmetric points.

    Attributes:
        vectors: in the basis of the reciprocal lattice, shape (P, D).
        distances: length of the path up to each, 1/length, with the factor 2 pi, shape (P,); where
            one comes twice, the path goes on elsewhere.
        labels: distances and names of the symmetric points.
    """

    vectors: Float[np.ndarray, "P D"]
    distances: Float[np.ndarray, " P"]
    labels: tuple[tuple[float, str], ...]


def wave_path(system: System, path: Any = None, points: int = 100) -> WavePath:
    """A path through the Brillouin zone of a system.

    The lines between corners are divided evenly, as far as whole numbers allow.

    Arguments:
        system: what is periodic.
        path: names of symmetric points, ``"GXWKGL"``, with a comma where the path goes on
            elsewhere: those of the Bravais lattice in W. Setyawan, S. Curtarolo, Comput. Mater.
            Sci. 49, 299 (2010), as ASE finds it; or pairs of names and wave vectors in the basis of
            the reciprocal lattice. None: the path that Y. Hinuma et al., Comput. Mater. Sci. 128,
            140 (2017), recommend for the space group, by seekpath; of a supercell, that of its
            primitive cell.
        points: how many wave vectors, corners included.

    Returns:
        The WavePath.

    Raises:
        InputError: a system that is not periodic, or not in each of three directions where there is
            no path; no path, an unknown name; or fewer points than the path has corners.
    """
    points = integer(points, "phonon_bands: points", at_least=2, at_most=MOST_POINTS)
    if not any(system.pbc):
        raise InputError(
            f"phonon_bands with pbc = {tuple(system.pbc)}: what is not periodic has no Brillouin "
            "zone; ask for phonon_frequencies"
        )
    if path is None:
        pieces = _recommended(system)
    elif isinstance(path, str):
        pieces = _named(system, path)
    else:
        pieces = [_given(path, system.dimension)]
    corners = sum(map(len, pieces))
    if points < corners:
        raise InputError(
            f"phonon_bands: points = {points}: the path has {corners} corners; give {corners} or "
            "more"
        )
    return _divided(pieces, 2.0 * np.pi * np.linalg.pinv(np.asarray(system.cell)).T, points)


def _recommended(system: System) -> list[Piece]:
    if system.dimension < 3 or not all(system.pbc):
        raise InputError(
            f"phonon_bands with pbc = {tuple(system.pbc)}: a path is recommended for crystals that "
            "are periodic in three directions; give path, such as 'GMKG', or pairs of names and "
            "wave vectors"
        )
    import seekpath

    cell = np.asarray(system.cell)
    fractional = np.asarray(system.positions) @ np.linalg.inv(cell)
    with warnings.catch_warnings():
        # Of what spglib will be called by, and of supercells.
        warnings.simplefilter("ignore")
        try:
            found = seekpath.get_path_orig_cell(
                (cell, fractional, np.asarray(system.species) + 1), with_time_reversal=True
            )
        except Exception as error:
            # Its own errors, and those of spglib, have no class in common.
            raise InputError(
                f"phonon_bands: seekpath finds no path for this structure ({shown(str(error))}); "
                "give path"
            ) from None
    pieces: list[Piece] = []
    for begin, end in found["path"]:
        corner = (end, _on_fraction(found["point_coords"][end]))
        if pieces and pieces[-1][-1][0] == begin:
            pieces[-1].append(corner)
        else:
            pieces.append([(begin, _on_fraction(found["point_coords"][begin])), corner])
    return pieces


def _named(system: System, path: str) -> list[Piece]:
    periodic = np.zeros(3, bool)
    periodic[: system.dimension] = system.pbc
    cell = np.zeros((3, 3))
    cell[: system.dimension, : system.dimension] = np.asarray(system.cell)
    try:
        known = Cell(cell).bandpath(path="", npoints=0, pbc=periodic.tolist()).special_points
    except Exception as error:
        # Its own errors have no class in common.
        raise InputError(
            f"phonon_bands: path = {shown(path)}: ASE knows no symmetric points of this lattice "
            f"({shown(str(error))}); give pairs of names and wave vectors"
        ) from None
    try:
        parts = parse_path_string(path.strip())
    except ValueError:
        parts = []
    for name in (name for part in parts for name in part):
        if name not in known:
            raise InputError(
                f"phonon_bands: path = {shown(path)}: the lattice has no point {shown(name)}; give "
                f"some of {', '.join(known)}"
            )
    if not parts or min(map(len, parts)) < 2:
        raise InputError(
            f"phonon_bands: path = {shown(path)}: give names of two or more points in a row, such "
            "as 'GXWKGL', with a comma where the path goes on elsewhere"
        )
    return [
        [(name, _on_fraction(known[name][: system.dimension])) for name in part] for part in parts
    ]


def _given(path: Any, dimension: int) -> Piece:
    corners = items(path)
    if corners is None or len(corners) < 2:
        raise InputError(
            f"phonon_bands: path = {shown(path)}: give names such as 'GXWKGL', or two or more "
            "pairs of a name and a wave vector"
        )
    piece: Piece = []
    for corner in corners:
        pair = items(corner)
        if pair is None or len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(
                f"phonon_bands: path: {shown(corner)} is no corner: give pairs of a name and a "
                f"wave vector, as ('X', {[0.5] + [0] * (dimension - 1)})"
            )
        name = f"phonon_bands: path: {pair[0]}"
        piece.append((pair[0], real_array(pair[1], name, (dimension,)) + 0.0))
    for (begin, here), (end, there) in itertools.pairwise(piece):
        if np.array_equal(here, there):
            raise InputError(
                f"phonon_bands: path: from {begin} to {end} it has no length; give each corner once"
            )
    return piece


def _on_fraction(vector: Any) -> Float[np.ndarray, " D"]:
    """Where rounding has moved a point from a fraction, that fraction: Gamma is 0 exactly."""
    given = np.asarray(vector, float)
    fraction = np.round(PARTS * given) / PARTS + 0.0
    return np.where(np.abs(given - fraction) < ROUNDING, fraction, given)


def _divided(pieces: list[Piece], reciprocal: Float[np.ndarray, "D D"], points: int) -> WavePath:
    """Wave vectors between corners, of which each line gets a share by its length."""
    lines = [pair for piece in pieces for pair in itertools.pairwise(piece)]
    steps = np.array([end - begin for (_, begin), (_, end) in lines])
    lengths = np.linalg.norm(steps @ reciprocal, axis=1)
    counts = _shares(lengths, points - len(pieces))
    vectors, distances, labels = [], [], []
    along, line = 0.0, 0
    for piece in pieces:
        vectors.append(piece[0][1][None])
        distances.append([along])
        labels.append((along, piece[0][0]))
        for (_, begin), (name, end) in itertools.pairwise(piece):
            parts = np.linspace(0.0, 1.0, counts[line] + 1)[1:]
            # The end itself, not what rounding makes of it.
            between = begin + parts[:-1, None] * (end - begin)
            vectors.append(np.concatenate([between, end[None]]))
            distances.append(along + parts * lengths[line])
            along, line = float(distances[-1][-1]), line + 1
            labels.append((along, name))
    return WavePath(np.concatenate(vectors), np.concatenate(distances), tuple(labels))


def _shares(lengths: Float[np.ndarray, " L"], whole: int) -> list[int]:
    """Whole numbers of at least one whose sum is given, each next to where it is coarsest."""
    counts = np.ones(len(lengths), int)
    for _ in range(whole - len(lengths)):
        counts[np.argmax(lengths / counts)] += 1
    return counts.tolist()
