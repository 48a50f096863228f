"""Structures with an arrow on each particle."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import ase
import ase.data
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon
from matplotlib.quiver import Quiver, QuiverKey
from numpy.typing import ArrayLike

from mdsens.diameters import diameters_of
from mdsens.markup import for_figure
from mdsens.particles.species_names import species_names
from mdsens.plots.style import new_figure
from mdsens.units import pretty_unit, quotient_unit_name, unit_name
from mdsens.values import choice, instance

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity

#: Fills of species, of falling lightness so that they differ in grey too (after Okabe and Ito).
SPECIES_COLORS = ("#C9DFF1", "#E8A33D", "#3C8D6E", "#7A4E8A")
#: Fill of atoms that are constrained, and colour of arrows.
FIXED_COLOR, ARROW_COLOR = "#8C8C8C", "#101010"
#: A picture narrower than this part of its height has no room for two texts above it.
NARROW = 0.7
#: Characters of two texts above a picture that there is room for in one line.
LONGEST_LINE = 55
#: Vectors shorter than this part of the longest are not drawn.
SHORTEST_ARROW = 0.02
#: Vectors that move no particle by this part of a length, per relative change, are none.
NO_MOTION = 1e-8
#: Most arrows that a projection of three dimensions shows, the longest ones.
MOST_ARROWS = 150


def structure(result: "Equilibrium | Sensitivity", parameter: str) -> Figure:
    """A structure with an arrow on each particle: how it moves with one parameter.

    Where the cell relaxes, what the strain of the cell does to all particles alike is left out:
    arrows are the non-affine part, and the title says so.

    Arguments:
        result: a relaxed structure, or its sensitivity to the parameter.
        parameter: its name, e.g. ``"sigma"`` or ``"sigma[Ar-Kr]"``.

    Returns:
        The Figure.

    Raises:
        InputError: no result, or a parameter that it has no derivative in.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity, sensitivity

    if isinstance(result, Equilibrium):
        result = sensitivity(result, wrt=parameter)
    instance(result, "result", Sensitivity, "an Equilibrium or a Sensitivity")
    choice(parameter, "parameter", result.parameters)
    equilibrium = result.equilibrium
    system = equilibrium.system
    moved = np.asarray(result.positions[parameter])
    if result.relaxes_cell:
        moved = non_affine(system.positions, system.cell, moved, result.cell[parameter])
    vectors = np.zeros((system.atom_count, 3))
    vectors[:, : system.dimension] = moved
    error = max(result.tangents.errors, default=0.0)
    largest = {name: float(np.abs(one).max()) for name, one in result.positions.items()}
    if np.abs(vectors).max() <= motion_error(parameter, result.parameters, largest, error):
        vectors[:] = 0.0
    dimension = result.parameter_dimension(parameter)
    return structure_figure(
        equilibrium.system.to_ase(),
        vectors,
        parameter,
        quotient_unit_name("length", dimension, system.units),
        unit_name("length", system.units),
        system.dimension,
        diameters_of(equilibrium),
        without_strain=result.relaxes_cell,
    )


def motion_error(
    parameter: str, parameters: Mapping[str, float], largest: Mapping[str, float], error: float
) -> float:
    """What derivatives of positions in a parameter cannot be told from zero.

    Arguments:
        parameter: its name.
        parameters: values of all that the derivatives are in.
        largest: largest component of the derivative in each, length/unit.
        error: relative error, of the largest theta dx/dtheta among the parameters.

    Returns:
        Their absolute error, length/unit of the parameter.
    """
    sizes = {name: abs(value) or 1.0 for name, value in parameters.items()}
    motion = max(sizes[name] * largest[name] for name in parameters)
    return max(error * motion, NO_MOTION) / sizes[parameter]


def non_affine(
    positions: ArrayLike, cell: ArrayLike, moved: ArrayLike, cell_moved: ArrayLike
) -> Float[np.ndarray, "N D"]:
    """What remains of a motion without that of the cell, which moves x by x . d strain.

    Arguments:
        positions: shape (N, D), length.
        cell: lattice vectors as rows, shape (D, D), length.
        moved: derivative of the positions in a parameter, shape (N, D), length/unit.
        cell_moved: that of the cell, shape (D, D), length/unit.

    Returns:
        dx/dtheta - x . d strain/dtheta, shape (N, D), length/unit.
    """
    # A direction without a lattice vector has no strain: the pseudo-inverse leaves it out.
    strain = np.linalg.pinv(np.asarray(cell)) @ np.asarray(cell_moved)
    return np.asarray(moved) - np.asarray(positions) @ strain


def structure_figure(
    atoms: ase.Atoms,
    vectors: np.ndarray,
    parameter: str | None,
    unit: str,
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
    without_strain: bool = False,
) -> Figure:
    """A structure with an arrow on each particle: how it moves with one parameter.

    Two-dimensional structures are shown as circles of their true diameters; three-dimensional
    ones as seen along the axis across which the vectors move most, nearer atoms in front.

    Arguments:
        atoms: the relaxed structure.
        vectors: shape (N, 3), d positions / d parameter, in ``unit``.
        parameter: name of the parameter; None: no arrows, and no title.
        unit: unit of the vectors, e.g. ``"Ang/eV"``.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.
        without_strain: whether the vectors are the non-affine part alone, which the title says.

    Returns:
        The Figure.
    """
    figure = new_figure((5.6, 5.4))
    handles = draw_structure(
        figure.add_subplot(),
        atoms,
        vectors,
        parameter,
        unit,
        length_unit,
        dimension,
        diameters,
        without_strain,
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def structure_figures(
    atoms: ase.Atoms,
    motions: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
    without_strain: bool = False,
) -> Iterator[tuple[str, Figure]]:
    """The `structure_figure` of several parameters, one after another.

    What they share is drawn once: seen from the same side, the next is the same Figure with other
    arrows.

    Arguments:
        atoms: the relaxed structure.
        motions: by parameter, shape (N, 3), d positions / d parameter, in the parameter's unit.
        units: units of these.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.
        without_strain: whether the motions are the non-affine part alone, which the titles say.

    Returns:
        Parameters and their figures, each to be used before the next is asked for.
    """
    known: dict[int, Figure] = {}
    for parameter, vectors in motions.items():
        view = _view_axis(vectors, atoms) if dimension == 3 else 2
        if view in known:
            # Titles are of one height: all else stays where it is.
            known[view].set_layout_engine("none")
            (axes,) = known[view].axes
            for artist in [*axes.collections, *axes.artists]:
                if isinstance(artist, (Quiver, QuiverKey)):
                    artist.remove()
            plane, arrows = _in_plane(view, shown_positions(atoms), vectors)
            unit = shown_unit(units[parameter], length_unit)
            _draw_arrows(axes, plane, arrows, unit, _title(parameter, without_strain), dimension)
        else:
            known[view] = structure_figure(
                atoms, vectors, parameter, units[parameter], length_unit, dimension, diameters,
                without_strain,
            )  # fmt: skip
        yield parameter, known[view]


def draw_structure(
    axes: Axes,
    atoms: ase.Atoms,
    vectors: np.ndarray,
    parameter: str | None,
    unit: str,
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
    without_strain: bool = False,
) -> list[Line2D]:
    """Draw the panel of `structure_figure`.

    Arguments:
        axes: where to draw.
        atoms: the relaxed structure.
        vectors: shape (N, 3), d positions / d parameter, in ``unit``.
        parameter: name of the parameter; None: no arrows, and no title.
        unit: unit of the vectors, e.g. ``"Ang/eV"``.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.
        without_strain: whether the vectors are the non-affine part alone, which the title says.

    Returns:
        What a legend shows: species, constrained atoms, the periodic box.
    """
    view = _view_axis(vectors, atoms) if dimension == 3 else 2
    across, up = _axes_across(view)
    # Seen from -y, x points right and z up; seen from x or z, the other two do so likewise.
    toward = -1.0 if view == 1 else 1.0
    positions = shown_positions(atoms)
    names = np.array(species_names(atoms))
    species = list(dict.fromkeys(names))
    radii = np.array([radius_of(name, diameters or {}) for name in names])
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        fixed[constraint.index] = True

    plane, arrows = _in_plane(view, positions, vectors)
    _draw_particles(axes, atoms, plane, positions[:, view] * toward, radii, names, species, fixed,
                    (across, up), dimension)  # fmt: skip
    _draw_box(axes, atoms, (across, up))
    if parameter is not None:
        title = _title(parameter, without_strain)
        _draw_arrows(axes, plane, arrows, shown_unit(unit, length_unit), title, dimension)
    axes.set_aspect("equal")
    labels = f" ({pretty_unit(length_unit)})"
    axes.set_xlabel("xyz"[across] + labels)
    axes.set_ylabel("xyz"[up] + labels)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=9, markerfacecolor=_color(i),
               markeredgecolor="black", markeredgewidth=0.6, label=for_figure(name))
        for i, name in enumerate(species)
    ]  # fmt: skip
    if fixed.any():
        handles.append(
            Line2D([], [], marker="o", linestyle="", markersize=9, markerfacecolor=FIXED_COLOR,
                   markeredgecolor="black", markeredgewidth=0.6, label="held fixed")
        )  # fmt: skip
    if any(atoms.pbc):
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.9,
                              label="periodic box"))  # fmt: skip
    return handles


def _axes_across(view: int) -> list[int]:
    return [axis for axis in range(3) if axis != view]


def _in_plane(view: int, *vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Vectors as they are seen along an axis."""
    return tuple(one[:, _axes_across(view)] for one in vectors)


def _title(parameter: str, without_strain: bool) -> str:
    return f"d x / d {for_figure(parameter)}" + ", non-affine part" * without_strain


def shown_unit(unit: str, length_unit: str) -> str:
    """The unit of arrows: a pure number is a length per length here, and reads better as one.

    Arguments:
        unit: of d positions / d parameter.
        length_unit: of the positions.

    Returns:
        E.g. ``"Å/Å"``.
    """
    return f"{pretty_unit(length_unit)}/{pretty_unit(length_unit)}" if unit == "1" else unit


def _color(index: int) -> str:
    return SPECIES_COLORS[index % len(SPECIES_COLORS)]


def radius_of(name: str, diameters: Mapping[str, float]) -> float:
    """The radius at which a species is drawn.

    Arguments:
        name: of the species.
        diameters: those that are known, by species, length.

    Returns:
        Half of that, or its covalent radius, or 0.5 for what is no element.
    """
    if name in diameters:
        return diameters[name] / 2.0
    number = ase.data.atomic_numbers.get(name, 0)
    return float(ase.data.covalent_radii[number]) if number else 0.5


def _view_axis(vectors: np.ndarray, atoms: ase.Atoms) -> int:
    """The axis to look along: the one that hides least of the vectors."""
    hidden = np.sum(vectors**2, axis=0)
    shares = hidden / max(hidden.sum(), 1e-300)
    # Where all are alike, along y: z, which tells a surface from its bulk, then points up.
    preference = np.array([0.02, 0.0, 0.04])
    return int(np.argmin(shares + preference))


def shown_positions(atoms: ase.Atoms) -> np.ndarray:
    """Positions with every particle inside the box where it is periodic.

    Arguments:
        atoms: N atoms.

    Returns:
        Shape (N, 3), length.
    """
    if not any(atoms.pbc):
        return atoms.positions
    # A little beyond the lower faces is left there: crystals like to begin at zero.
    return atoms.get_positions(wrap=True, eps=0.03)


def _draw_particles(
    axes: Axes,
    atoms: ase.Atoms,
    plane: np.ndarray,
    depth: np.ndarray,
    radii: np.ndarray,
    names: np.ndarray,
    species: list[str],
    fixed: np.ndarray,
    shown_axes: tuple[int, int],
    dimension: int,
) -> None:
    span = max(np.ptp(depth), 1e-9)
    patches, colors, edges = [], [], []
    for index in np.argsort(depth, kind="stable"):
        fill = FIXED_COLOR if fixed[index] else _color(species.index(names[index]))
        # Farther atoms fade towards white.
        fade = 0.65 * (depth.max() - depth[index]) / span if np.ptp(depth) > 1e-6 else 0.0
        shifts = _images(atoms, plane[index], radii[index], shown_axes) if dimension == 2 else []
        for shift in [np.zeros(2), *shifts]:
            home = not np.any(shift)
            whiten = fade if home else 0.6
            patches.append(Circle(tuple(plane[index] + shift), radii[index]))
            colors.append(_blend(fill, whiten))
            edges.append(_blend("#202020", fade * 0.8 if home else 0.6))
    axes.add_collection(
        PatchCollection(patches, facecolors=colors, edgecolors=edges, linewidths=0.5, zorder=1)
    )
    margin = 1.15 * radii.max()
    corners = [plane.min(axis=0) - margin, plane.max(axis=0) + margin]
    if any(atoms.pbc[list(shown_axes)]):
        box = _box_corners(atoms, shown_axes)
        edge = 0.25 * radii.max() if dimension == 2 else margin
        low = (
            np.minimum(corners[0], box.min(axis=0) - edge) if dimension == 3 else box.min(0) - edge
        )
        high = (
            np.maximum(corners[1], box.max(axis=0) + edge) if dimension == 3 else box.max(0) + edge
        )
        corners = [low, high]
    axes.set_xlim(corners[0][0], corners[1][0])
    axes.set_ylim(corners[0][1], corners[1][1])


def _images(
    atoms: ase.Atoms, centre: np.ndarray, radius: float, shown_axes: tuple[int, int]
) -> list[np.ndarray]:
    """Shifts to periodic images that reach into a rectangular picture of the box."""
    cell = atoms.cell[:][:, list(shown_axes)]
    box = _box_corners(atoms, shown_axes)
    low, high = box.min(axis=0) - 1.3 * radius, box.max(axis=0) + 1.3 * radius
    ranges = [(-1, 0, 1) if atoms.pbc[axis] else (0,) for axis in range(3)]
    shifts = [np.array(n) @ cell for n in itertools.product(*ranges) if any(n)]
    return [s for s in shifts if np.all(centre + s > low) and np.all(centre + s < high)]


def _blend(color: str, white: float) -> tuple[float, ...]:
    return tuple(c + (1.0 - c) * white for c in to_rgb(color))


def _box_corners(atoms: ase.Atoms, shown_axes: tuple[int, int]) -> np.ndarray:
    """The corners of the projected cell, shape (corners, 2)."""
    cell = atoms.cell[:]
    corners = [np.array(n) @ cell for n in itertools.product((0, 1), repeat=3)]
    return np.unique(np.round(np.array(corners)[:, list(shown_axes)], 9), axis=0)


def _draw_box(axes: Axes, atoms: ase.Atoms, shown_axes: tuple[int, int]) -> None:
    """The outline of the cell in its periodic directions."""
    drawn = [i for i in range(3) if atoms.pbc[i]]
    cell = atoms.cell[:][:, list(shown_axes)]
    starts = {tuple(np.round(np.array(n) @ cell, 9))
              for n in itertools.product((0, 1), repeat=3)
              if all(n[i] == 0 for i in range(3) if i not in drawn)}  # fmt: skip
    points = np.array(sorted(starts))
    if len(points) >= 3 and np.linalg.matrix_rank(points - points[0], tol=1e-6) == 2:
        outline = _outline(cell[drawn])
        axes.add_patch(Polygon(outline, closed=True, fill=False, linestyle="--", linewidth=0.9,
                               edgecolor="black", zorder=2))  # fmt: skip
    elif len(points) >= 2:
        # A surface seen from its side: its two periodic ends.
        for x in (points[:, 0].min(), points[:, 0].max()):
            axes.axvline(x, color="black", linestyle="--", linewidth=0.9, zorder=2)


def _outline(edges: np.ndarray) -> np.ndarray:
    """The outline of a parallelepiped, of whose edges at one corner the projections are given.

    Around it every edge is followed once, in the order of their angles, and then once back.
    """
    edges = edges[np.linalg.norm(edges, axis=1) > 1e-9]
    downwards = (edges[:, 1] < 0.0) | ((edges[:, 1] == 0.0) & (edges[:, 0] < 0.0))
    upwards = np.where(downwards[:, None], -edges, edges)
    upwards = upwards[np.argsort(np.arctan2(upwards[:, 1], upwards[:, 0]))]
    lowest = edges[downwards].sum(axis=0)
    return lowest + np.cumsum(np.concatenate([upwards, -upwards]), axis=0)


def _draw_arrows(
    axes: Axes,
    plane: np.ndarray,
    vectors: np.ndarray,
    unit: str,
    title: str,
    dimension: int,
) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    longest = lengths.max(initial=0.0)
    if longest <= 0.0:
        axes.set_title(title + ": no particle moves", fontsize=11, loc="left")
        return
    drawn, remark = lengths > SHORTEST_ARROW * longest, ""
    if dimension == 3 and drawn.sum() > MOST_ARROWS:
        drawn &= lengths >= np.sort(lengths)[-MOST_ARROWS]
        remark = f" (the {MOST_ARROWS} longest)"
    wide, high = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
    extent, narrow = max(wide, high), wide < NARROW * high
    # The longest arrow spans a tenth of the picture, the typical one is still to be seen.
    scale = longest / (0.11 * extent)
    arrows = axes.quiver(
        plane[drawn, 0], plane[drawn, 1], vectors[drawn, 0], vectors[drawn, 1],
        angles="xy", scale_units="xy", scale=scale, color=ARROW_COLOR, width=0.0045,
        units="height" if narrow else "width",
        headwidth=3.6, headlength=4.2, headaxislength=3.8, zorder=3, edgecolor="white",
        linewidth=0.35,
    )  # fmt: skip
    key = _round_number(longest)
    text = f"{key:g} {pretty_unit(unit)}".strip()
    if len(title + remark + text) > LONGEST_LINE:
        remark = f"\n{remark.strip()}"
    axes.set_title(title + remark, fontsize=11, loc="left", pad=8)
    # Beside the title; of a tall and narrow picture, where there is no room for both, at its right.
    beside = 1.06 + 0.5 * key / scale / wide
    x, y, side = (beside, 0.97, "S") if narrow else (0.90, 1.035, "W")
    axes.quiverkey(arrows, x, y, key, text, labelpos=side, coordinates="axes",
                   fontproperties={"size": 9})  # fmt: skip


def _round_number(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(digit for digit in (5, 2, 1) if digit * power <= value * 1.0001) * power)
