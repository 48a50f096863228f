"""What the viewer of pages shows of a structure: atoms, cell, and how they move with parameters."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.colors import to_hex

from mdsens.diameters import diameters_of
from mdsens.errors import InputError
from mdsens.markup import visible
from mdsens.pages import View, structure_view
from mdsens.particles.species_names import species_names
from mdsens.plots.structures import (
    FIXED_COLOR,
    SPECIES_COLORS,
    motion_error,
    non_affine,
    radius_of,
    shown_positions,
    shown_unit,
)
from mdsens.units import pretty_unit, quotient_unit_name, unit_name
from mdsens.values import choice, instance

if TYPE_CHECKING:
    from mdsens.particles import System
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity

#: Structures of more atoms turn too slowly in a page.
MOST_ATOMS = 20_000
#: Vectors of all parameters together that a page has room for: 5 MB of them.
MOST_VECTORS = 150_000
#: Atoms that tell how far apart neighbours are.
ATOMS_ASKED = 200
#: Colours of lengths of motions, from none, which is pale, to the longest.
PALETTE = [to_hex(color) for color in colormaps["magma_r"](np.linspace(0.04, 0.8, 16))]
#: Bonds are drawn between atoms no farther apart than this times the sum of their radii.
REACH = 1.15
#: Discs that touch.
CONTACT = 1.0


@dataclasses.dataclass(frozen=True)
class Motion:
    """How a structure moves with a parameter, and what that cannot be told from zero.

    Attributes:
        parameter: its name.
        value: its value, in ``parameter_unit``.
        parameter_unit: e.g. ``"eV"``.
        unit: of the vectors, e.g. ``"Ang/eV"``.
        vectors: d positions / d parameter without what the strain of the cell does, shape (N, 3).
        whole: the same with that.
        cell: d cell / d parameter, shape (3, 3); None where the cell is fixed.
        error: absolute error of the vectors.
    """

    parameter: str
    value: float
    parameter_unit: str
    unit: str
    vectors: Float[np.ndarray, "N 3"]
    whole: Float[np.ndarray, "N 3"]
    cell: Float[np.ndarray, "3 3"] | None
    error: float

    @property
    def moves(self) -> bool:
        """Whether any particle moves by more than the error."""
        return bool(np.abs(self.vectors).max(initial=0.0) > self.error)


def motions_of(result: "Sensitivity") -> dict[str, Motion]:
    """How a relaxed structure moves with each parameter.

    Arguments:
        result: the sensitivity of a relaxed structure.

    Returns:
        By parameter.
    """
    system = result.equilibrium.system
    dimension = system.dimension
    error = max(result.tangents.errors, default=0.0)
    moved = {name: np.asarray(one) for name, one in result.positions.items()}
    largest = {name: float(np.abs(one).max()) for name, one in moved.items()}
    found = {}
    for name, vectors in moved.items():
        whole, cell = np.zeros((system.atom_count, 3)), None
        whole[:, :dimension] = vectors
        beside = whole
        if result.relaxes_cell:
            cell = np.zeros((3, 3))
            cell[:dimension, :dimension] = np.asarray(result.cell[name])
            beside = np.zeros_like(whole)
            beside[:, :dimension] = non_affine(
                system.positions, system.cell, vectors, cell[:dimension, :dimension]
            )
        measured = result.parameter_dimension(name)
        found[name] = Motion(
            name, float(result.parameters[name]), unit_name(measured, system.units),
            quotient_unit_name("length", measured, system.units), beside, whole, cell,
            motion_error(name, result.parameters, largest, error),
        )  # fmt: skip
    return found


def scene(
    atoms: ase.Atoms,
    motions: Sequence[Motion] = (),
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
    title: str = "",
    position_error: float | None = None,
    parameter: str | None = None,
) -> dict[str, Any]:
    """A structure and its motions as plain numbers and texts, for `mdsens.pages.structure_view`.

    Arguments:
        atoms: the structure, N atoms.
        motions: how it moves.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.
        title: what it is.
        position_error: absolute error of the positions, length; None where it is not known.
        parameter: the one whose motion is shown first; the first that moves by default.

    Returns:
        A dictionary of plain Python numbers, texts, lists and dictionaries.
    """
    names = species_names(atoms)
    species = list(dict.fromkeys(names))
    fixed: set[int] = set()
    for constraint in atoms.constraints:
        fixed |= set(np.atleast_1d(getattr(constraint, "index", [])).astype(int).tolist())
    shown, cell = shown_positions(atoms), np.array(atoms.cell[:])
    images = np.rint((shown - atoms.positions) @ np.linalg.pinv(cell)).astype(int)
    kept = _moving_most(motions, len(atoms), parameter)
    number = {name: place for place, name in enumerate(species)}
    return {
        "title": visible(title),
        "dimension": dimension,
        "lengthUnit": pretty_unit(length_unit),
        "species": [visible(name) for name in species],
        "colors": list(SPECIES_COLORS),
        "fixedColor": FIXED_COLOR,
        "radii": [radius_of(name, diameters or {}) for name in species],
        "reach": CONTACT if diameters else REACH,
        "kinds": [number[name] for name in names] if len(species) > 1 else None,
        "fixed": sorted(fixed),
        "spacing": _spacing(shown, radius_of(names[0], diameters or {})),
        "positions": _rounded(atoms.positions, 1e-8),
        "positionError": position_error,
        "images": images.ravel().tolist() if images.any() else None,
        "cell": cell.tolist(),
        "pbc": [bool(one) for one in atoms.pbc],
        "offsets": _offsets(shown, cell, np.array(atoms.pbc), dimension),
        "palette": PALETTE,
        "parameter": None if parameter is None else visible(parameter),
        "motions": [_said_of(motion, length_unit) for motion in kept],
        "left": len(motions) - len(kept),
    }


def _moving_most(motions: Sequence[Motion], atoms: int, parameter: str | None) -> Sequence[Motion]:
    """The motions that a page has room for: those of the largest displacements per relative change.

    What is asked for by name is among them; they stay in their order.
    """
    room = max(MOST_VECTORS // atoms, 1)
    if len(motions) <= room:
        return motions

    def size(motion: Motion) -> float:
        if motion.parameter == parameter:
            return np.inf
        return float(np.abs(motion.vectors).max(initial=0.0)) * (abs(motion.value) or 1.0)

    chosen = sorted(range(len(motions)), key=lambda place: -size(motions[place]))[:room]
    return [motions[place] for place in sorted(chosen)]


def view(
    result: "System | Equilibrium | Sensitivity", parameter: str | None = None, title: str = ""
) -> View:
    """A structure that one turns, moves and picks atoms of, for a notebook or a page.

    Arguments:
        result: a structure, a relaxed one, or its sensitivity, which shows how it moves.
        parameter: of a relaxed structure, which one it shall show the motion with; of a
            sensitivity, which one first.
        title: what it is; a few words on the structure by default.

    Returns:
        The View.

    Raises:
        InputError: too many atoms, or a parameter that there is no derivative in.
        UnreliableDerivativeError: a parameter is given, and the structure is unconverged or
            unstable.
    """
    said, made = scene_of_result(result, parameter, title)
    return View(said, structure_view("structure", made))


def scene_of_result(
    result: "System | Equilibrium | Sensitivity", parameter: str | None = None, title: str = ""
) -> tuple[str, dict[str, Any]]:
    """What `view` shows, as a title and plain numbers and texts.

    Arguments:
        result: as of `view`.
        parameter: likewise.
        title: likewise.

    Returns:
        The title, and the scene.

    Raises:
        InputError: as of `view`.
        UnreliableDerivativeError: likewise.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.particles import System
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity, sensitivity

    if parameter is not None and isinstance(result, Equilibrium):
        result = sensitivity(result, wrt=parameter)
    motions: list[Motion] = []
    equilibrium: Equilibrium | None = None
    if isinstance(result, Sensitivity):
        if parameter is not None:
            choice(parameter, "parameter", result.parameters)
        motions, equilibrium = list(motions_of(result).values()), result.equilibrium
    elif isinstance(result, Equilibrium):
        equilibrium = result
    system = (
        equilibrium.system
        if equilibrium is not None
        else instance(result, "result", System, "a System, an Equilibrium or a Sensitivity")
    )
    require_few_atoms(system.atom_count)
    made = scene(
        system.to_ase(), motions, unit_name("length", system.units), system.dimension,
        None if equilibrium is None else diameters_of(equilibrium), title or str(system),
        _position_error(equilibrium), parameter,
    )  # fmt: skip
    return title or str(system), made


def require_few_atoms(count: int) -> None:
    """Raise InputError where a structure has more atoms than a page can turn.

    Arguments:
        count: how many it has.
    """
    if count > MOST_ATOMS:
        raise InputError(
            f"the structure has {count:,} atoms, and a page shows {MOST_ATOMS:,} at most: take a "
            "viewer for large ones; to_ase() and relaxed.extxyz have what it reads"
        )


def _position_error(equilibrium: "Equilibrium | None") -> float | None:
    """How far a relaxed structure is from its minimum at most, where its Hessian is known."""
    if equilibrium is None or "certificate" not in vars(equilibrium):
        return None
    return position_error(
        float(equilibrium.largest_force),
        equilibrium.certificate.lowest_eigenvalue,
        equilibrium.system.atom_count,
    )


def position_error(largest_force: float, lowest_eigenvalue: float, atoms: int) -> float | None:
    """How far a structure is from its minimum at most, outside the null space of its Hessian.

    The norm of H^-1 F is at most that of F by the lowest eigenvalue, and that of F at most the
    largest force times the square root of the number of atoms.

    Arguments:
        largest_force: largest norm of a force, energy/length.
        lowest_eigenvalue: of the Hessian, energy/length^2.
        atoms: number of atoms.

    Returns:
        The distance, length; None where it is not positive and finite.
    """
    if not 0.0 < lowest_eigenvalue < np.inf:
        return None
    return float(np.sqrt(atoms) * largest_force / lowest_eigenvalue)


def _said_of(motion: Motion, length_unit: str) -> dict[str, Any]:
    step = motion.error or 1e-12
    said = {
        "name": visible(motion.parameter),
        "value": motion.value,
        "parameterUnit": pretty_unit(motion.parameter_unit),
        "unit": pretty_unit(shown_unit(motion.unit, length_unit)),
        "error": motion.error,
        "vectors": _rounded(np.where(np.abs(motion.vectors) > step, motion.vectors, 0.0), step),
        "whole": None,
        "cell": None,
    }
    if motion.cell is not None:
        said |= {"whole": _rounded(motion.whole, step), "cell": motion.cell.tolist()}
    return said


def _rounded(numbers: np.ndarray, step: float) -> list[float]:
    """All of them in one list, with a digit more than a step supports."""
    decimals = int(np.clip(np.ceil(-np.log10(step)) + 1, 0, 15))
    # Minus zero is zero.
    rounded: list[float] = (np.round(numbers, decimals).ravel() + 0.0).tolist()
    return rounded


def _spacing(positions: np.ndarray, radius: float) -> float:
    """The distance to the nearest neighbour that is typical of the atoms that are asked."""
    if len(positions) < 2:
        return 2.0 * radius
    asked = np.unique(np.linspace(0, len(positions) - 1, ATOMS_ASKED).astype(int))
    # SciPy's tree takes longer to import than this takes.
    squares = [np.sum((positions - positions[atom]) ** 2, axis=1) for atom in asked]
    nearest = [np.delete(of, atom).min() for of, atom in zip(squares, asked, strict=True)]
    return float(np.sqrt(np.median(nearest))) or 2.0 * radius


def _offsets(
    positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray, dimension: int
) -> list[list[float]]:
    """Where to draw the frame of the periodic directions: beside surfaces, along a wire."""
    spanned = cell[periodic]
    if len(spanned) in (0, dimension):
        return [[0.0, 0.0, 0.0]]
    space = np.eye(3)[:dimension]
    # Directions in the space of the structure that are across all periodic ones.
    across = np.linalg.svd(spanned @ space.T)[2][len(spanned) :] @ space
    heights = positions @ across.T
    if len(across) == 1:
        return [(height * across[0]).tolist() for height in (heights.min(), heights.max())]
    return [(heights.mean(axis=0) @ across).tolist()]
