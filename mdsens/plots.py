"""Figures from results: structures with sensitivity vectors, bars, convergence, ensembles."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ase
import ase.data
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon

from mdsens.digits import is_zero, with_digits
from mdsens.markup import for_figure
from mdsens.particles.species_names import species_names

#: Fills of species, of falling lightness so that they differ in grey too (after Okabe and Ito).
SPECIES_COLORS = ("#C9DFF1", "#E8A33D", "#3C8D6E", "#7A4E8A")
#: Fill of atoms that are constrained, and colour of arrows and bars.
FIXED_COLOR, ARROW_COLOR, BAR_COLOR = "#8C8C8C", "#101010", "#0072B2"
#: Lines of structures with rattlers.
RATTLER_COLOR = "#D55E00"
#: Vectors shorter than this part of the longest are not drawn.
SHORTEST_ARROW = 0.02
#: Most arrows that a projection of three dimensions shows, the longest ones.
MOST_ARROWS = 150
#: Numbers that are zero within their errors, and their errors.
ZERO_COLOR = "#8A8A8A"
#: What bars are of an observable that has a logarithm.
LOGARITHMIC = "d ln O / d ln θ"


def pretty_unit(unit: str) -> str:
    """A unit as it is printed in figures and reports.

    Arguments:
        unit: e.g. ``"eV/Ang^3"``, ``"reduced"`` or ``"1"``.

    Returns:
        E.g. ``"eV/Å³"``, ``"reduced units"``, or an empty string for pure numbers.
    """
    if unit == "1":
        return ""
    if unit == "reduced":
        return "reduced units"
    unit = unit.replace("Ang", "Å").replace("degree", "°")
    return re.sub(r"\^(\d)", lambda found: "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(found[1])], unit)


def structure_figure(
    atoms: ase.Atoms,
    vectors: np.ndarray,
    parameter: str,
    unit: str,
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
) -> Figure:
    """A structure with an arrow on each particle: how it moves with one parameter.

    Two-dimensional structures are shown as circles of their true diameters; three-dimensional
    ones as seen along the axis across which the vectors move most, nearer atoms in front.

    Arguments:
        atoms: the relaxed structure.
        vectors: shape (N, 3), d positions / d parameter, in ``unit``.
        parameter: name of the parameter.
        unit: unit of the vectors, e.g. ``"Ang/eV"``.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.

    Returns:
        The Figure.
    """
    figure = _new_figure((5.6, 5.4))
    handles = draw_structure(
        figure.add_subplot(), atoms, vectors, parameter, unit, length_unit, dimension, diameters
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def draw_structure(
    axes: Axes,
    atoms: ase.Atoms,
    vectors: np.ndarray,
    parameter: str,
    unit: str,
    length_unit: str = "Ang",
    dimension: int = 3,
    diameters: Mapping[str, float] | None = None,
) -> list[Line2D]:
    """Draw the panel of `structure_figure`.

    Arguments:
        axes: where to draw.
        atoms: the relaxed structure.
        vectors: shape (N, 3), d positions / d parameter, in ``unit``.
        parameter: name of the parameter.
        unit: unit of the vectors, e.g. ``"Ang/eV"``.
        length_unit: unit of the positions.
        dimension: 2 or 3.
        diameters: diameter of each species, length; else covalent diameters are drawn.

    Returns:
        What a legend shows: species, constrained atoms, the periodic box.
    """
    view = _view_axis(vectors, atoms) if dimension == 3 else 2
    across, up = [axis for axis in range(3) if axis != view]
    # Seen from -y, x points right and z up; seen from x or z, the other two do so likewise.
    toward = -1.0 if view == 1 else 1.0
    positions = _shown_positions(atoms)
    names = np.array(species_names(atoms))
    species = list(dict.fromkeys(names))
    radii = np.array([_radius(name, diameters or {}) for name in names])
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        fixed[constraint.index] = True

    plane = positions[:, [across, up]]
    _draw_particles(axes, atoms, plane, positions[:, view] * toward, radii, names, species, fixed,
                    (across, up), dimension)  # fmt: skip
    _draw_box(axes, atoms, (across, up))
    # A pure number is a length per length here, and reads better as one.
    shown_unit = f"{pretty_unit(length_unit)}/{pretty_unit(length_unit)}" if unit == "1" else unit
    _draw_arrows(axes, plane, vectors[:, [across, up]], shown_unit, parameter, dimension)
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


def sensitivities_figure(results: Mapping[str, Any]) -> Figure:
    """A bar for each scalar observable and parameter: per cent of change per per cent.

    Where an observable is zero within its error there is no logarithm; theta dO/dtheta takes its
    place. Whiskers are errors, and what is not above its error is a grey zero.

    Arguments:
        results: what results.json holds.

    Returns:
        The Figure.
    """
    scalars = [
        name
        for name, observable in results["observables"].items()
        if isinstance(observable["value"], (int, float))
    ]
    parameters = list(results["parameters"])
    columns = min(len(scalars), 2) or 1
    rows = -(-len(scalars) // columns) or 1
    figure = _new_figure((1.2 + 3.2 * columns, 0.4 + rows * (0.95 + 0.27 * len(parameters))))
    for index, name in enumerate(scalars):
        axes = figure.add_subplot(rows, columns, index + 1)
        values, errors, label = _bar_values(results, name, parameters)
        _draw_bars(axes, values, errors, parameters, results["parameters"])
        axes.set_title(for_figure(name), loc="left", fontsize=10)
        if label != LOGARITHMIC:
            axes.set_title("O is zero", loc="right", fontsize=8, color=ZERO_COLOR)
        axes.set_xlabel(label, fontsize=9)
        if index % columns:
            axes.set_yticklabels([])
    if not scalars:
        figure.text(0.5, 0.5, "no scalar observables", ha="center")
    return figure


def convergence_figure(
    steps: Sequence[int], forces: Sequence[float], fmax: float, unit: str = "eV/Ang"
) -> Figure:
    """The largest force after each step, and the one asked for.

    Arguments:
        steps: numbers of the steps.
        forces: largest force after each, in ``unit``.
        fmax: largest force at which to stop.
        unit: unit of the forces.

    Returns:
        The Figure.
    """
    figure = _new_figure((5.6, 3.4))
    axes = figure.add_subplot()
    few = len(steps) < 60
    axes.plot(steps, forces, color=BAR_COLOR, linewidth=1.2, marker="o" if few else None,
              markersize=3.5)  # fmt: skip
    axes.axhline(fmax, color="black", linestyle="--", linewidth=1.0)
    axes.set_yscale("log")
    # The curve begins far above the line, so that its left end is free.
    axes.annotate("asked for", (0.0, fmax), xycoords=("axes fraction", "data"),
                  xytext=(6, 4), textcoords="offset points", ha="left", fontsize=9)  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel(f"largest force ({pretty_unit(unit)})")
    axes.set_xlim(0, max(max(steps, default=1), 1))
    _plain_frame(axes)
    return figure


def ensemble_figure(curves: Mapping[str, np.ndarray], ensemble: Mapping[str, Any]) -> Figure:
    """Derivatives through the steps of a minimiser from many starts, and the implicit ones.

    Left, the norms, with the implicit derivatives at the minima as marks at the right; right, how
    far each unrolled derivative is from the implicit one. Dashed: structures with rattlers.

    Arguments:
        curves: what ensemble.npz holds.
        ensemble: what results.json holds under ``"ensemble"``.

    Returns:
        The Figure.
    """
    figure = _new_figure((9.0, 3.9))
    norms, distances = figure.subplots(1, 2)
    draw_ensemble(norms, distances, curves)
    unit = pretty_unit(ensemble["units"]["norms"])
    norms.set_title(for_figure(f"unrolled {ensemble['minimiser']}"), loc="left", fontsize=11)
    norms.set_ylabel(
        f"L₁ norm of d x / d {for_figure(ensemble['parameter'])}" + f" ({unit})" * bool(unit)
    )
    distances.set_ylabel("distance from the implicit derivative\n(L₁, relative)")
    for axes in (norms, distances):
        axes.set_xlabel("step of the minimiser")
    return figure


def draw_ensemble(norms: Axes, distances: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Draw the two panels of `ensemble_figure`, without titles and labels of the axes.

    Arguments:
        norms: where the norms go.
        distances: where the distances from the implicit derivative go.
        curves: what ensemble.npz holds.
    """
    steps, rattlers = curves["steps"], curves["rattlers"].any(axis=1)
    for with_rattlers, colour, style in (
        (False, BAR_COLOR, "-"),
        (True, RATTLER_COLOR, (0, (4, 1.5))),
    ):
        chosen = rattlers == with_rattlers
        look: dict[str, Any] = {
            "color": colour, "linestyle": style, "linewidth": 1.3 if with_rattlers else 0.8,
            "alpha": 0.9 if with_rattlers else 0.55,
        }  # fmt: skip
        for axes, name in ((norms, "unrolled_norms"), (distances, "distances")):
            values = curves[name][:, chosen]
            # What is not above zero has no logarithm.
            axes.plot(steps, np.where(values > 0, values, np.nan), **look)
    implicit = curves["implicit_norms"]
    norms.plot(np.full(len(implicit), 1.04 * steps[-1]), implicit, "k_", markersize=7,
               markeredgewidth=0.8, clip_on=False)  # fmt: skip
    distances.axhline(1e-2, color="black", linestyle=":", linewidth=1.0)
    distances.annotate("1 %", (1.0, 1e-2), xycoords=("axes fraction", "data"), xytext=(2, 0),
                       textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    handles = [
        Line2D([], [], color=BAR_COLOR, linewidth=1.2, label="unrolled"),
        Line2D([], [], color="black", marker="_", markersize=8, linestyle="",
               label="implicit, at the minima"),
    ]  # fmt: skip
    if rattlers.any():
        rattlers_line = Line2D([], [], color=RATTLER_COLOR, linewidth=1.4, linestyle=(0, (4, 1.5)))
        rattlers_line.set_label("unrolled, with rattlers")
        handles.insert(1, rattlers_line)
    norms.legend(handles=handles, loc="upper left", frameon=False, fontsize=8)
    for axes in (norms, distances):
        axes.set_yscale("log")
        axes.set_xlim(0, steps[-1])
        _plain_frame(axes)
    # Room for the legend above the lines.
    low, high = norms.get_ylim()
    norms.set_ylim(low, high * (high / low) ** 0.3)


def _new_figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    return figure


def _plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _color(index: int) -> str:
    return SPECIES_COLORS[index % len(SPECIES_COLORS)]


def _radius(name: str, diameters: Mapping[str, float]) -> float:
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


def _shown_positions(atoms: ase.Atoms) -> np.ndarray:
    """Positions with every particle inside the box where it is periodic."""
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
    # A projected parallelepiped: the convex outline of its corners.
    points = np.array(sorted(starts))
    if len(points) >= 3 and np.linalg.matrix_rank(points - points[0], tol=1e-6) == 2:
        import scipy.spatial

        outline = points[scipy.spatial.ConvexHull(points).vertices]
        axes.add_patch(Polygon(outline, closed=True, fill=False, linestyle="--", linewidth=0.9,
                               edgecolor="black", zorder=2))  # fmt: skip
    elif len(points) >= 2:
        # A surface seen from its side: its two periodic ends.
        for x in (points[:, 0].min(), points[:, 0].max()):
            axes.axvline(x, color="black", linestyle="--", linewidth=0.9, zorder=2)


def _draw_arrows(
    axes: Axes,
    plane: np.ndarray,
    vectors: np.ndarray,
    unit: str,
    parameter: str,
    dimension: int,
) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    longest = lengths.max(initial=0.0)
    title = f"d x / d {for_figure(parameter)}"
    if longest <= 0.0:
        axes.set_title(title + ": no particle moves", fontsize=11, loc="left")
        return
    drawn = lengths > SHORTEST_ARROW * longest
    if dimension == 3 and drawn.sum() > MOST_ARROWS:
        drawn &= lengths >= np.sort(lengths)[-MOST_ARROWS]
        title += f" (the {MOST_ARROWS} longest)"
    extent = max(np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
    # The longest arrow spans a tenth of the picture, the typical one is still to be seen.
    scale = longest / (0.11 * extent)
    arrows = axes.quiver(
        plane[drawn, 0], plane[drawn, 1], vectors[drawn, 0], vectors[drawn, 1],
        angles="xy", scale_units="xy", scale=scale, color=ARROW_COLOR, width=0.0045,
        headwidth=3.6, headlength=4.2, headaxislength=3.8, zorder=3, edgecolor="white",
        linewidth=0.35,
    )  # fmt: skip
    key = _round_number(longest)
    text = f"{key:g} {pretty_unit(unit)}".strip()
    axes.set_title(title, fontsize=11, loc="left", pad=8)
    axes.quiverkey(arrows, 0.90, 1.035, key, text, labelpos="W", coordinates="axes",
                   fontproperties={"size": 9})  # fmt: skip


def _round_number(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(digit for digit in (5, 2, 1) if digit * power <= value * 1.0001) * power)


def _bar_values(
    results: Mapping[str, Any], name: str, parameters: list[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Bars of one observable, their errors, and what they are."""
    given = results["observables"][name]
    all_errors = results.get("sensitivity_errors") or {}

    def numbers(of: Mapping[str, Any]) -> np.ndarray:
        found = [of.get(parameter) for parameter in parameters]
        return np.array([np.nan if number is None else number for number in found])

    value, off = given["value"], given.get("error")
    off = np.nan if off is None else off
    sizes = np.array([results["parameters"][parameter] for parameter in parameters])
    changes = numbers(results["sensitivities"][name]) * sizes
    errors = numbers(all_errors.get(name, {})) * np.abs(sizes)
    if not is_zero(value, off):
        errors = errors / abs(value)
        errors += np.abs(changes) * off / value**2
        return changes / value, errors, LOGARITHMIC
    unit = pretty_unit(given["units"])
    return changes, errors, f"θ dO/dθ ({unit})" if unit else "θ dO/dθ"


def _draw_bars(
    axes: Axes,
    values: np.ndarray,
    errors: np.ndarray,
    parameters: list[str],
    sizes: Mapping[str, float],
) -> None:
    places = np.arange(len(parameters))[::-1]
    zero = is_zero(values, errors) | np.isnan(values)
    shown, known = np.where(zero, 0.0, values), np.nan_to_num(errors)
    axes.barh(places, shown, color=BAR_COLOR, height=0.62)
    axes.axvline(0.0, color="black", linewidth=0.8)
    low, high = (shown - known).min(initial=0.0), (shown + known).max(initial=0.0)
    reach = max(high - low, 1e-300)
    if not shown.any():
        # Nothing but zeros: room for their errors, and a scale where these are none.
        reach = reach if known.any() else 2.0
        low, high = -reach / 2, reach / 2
    # Room for the numbers at the ends of the bars, whichever way these point.
    width = 0.32 * max(high - low, 0.6 * reach)
    axes.set_xlim(low - (width if shown.min(initial=0.0) < 0 else 0.12 * width), high + width)
    # A whisker too short to be seen would only blur the end of its bar.
    wide = known > 0.004 * np.ptp(axes.get_xlim())
    for look, chosen in (("black", wide & ~zero), (ZERO_COLOR, wide & zero)):
        axes.errorbar(shown[chosen], places[chosen], xerr=known[chosen], fmt="none", ecolor=look,
                      elinewidth=1.1, capsize=2.5, capthick=1.1, zorder=3)  # fmt: skip
    axes.set_yticks(places, [for_figure(parameter) for parameter in parameters])
    axes.set_ylim(-0.6, len(parameters) - 0.4)
    for index, (place, value, parameter) in enumerate(zip(places, shown, parameters, strict=True)):
        text = with_digits(float(value), float(errors[index]), most=3)
        if sizes[parameter] == 0:
            text = "0, as θ = 0"
        side = -1 if value < 0 else 1
        end = value + side * known[index] * wide[index]
        axes.annotate(text, (end, place), xytext=(4 * side, 0), textcoords="offset points",
                      ha="left" if side > 0 else "right", va="center", fontsize=8,
                      color=ZERO_COLOR if zero[index] else "black")  # fmt: skip
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.tick_params(labelsize=9)
    _plain_frame(axes)
