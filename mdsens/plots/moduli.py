"""Young's modulus along every direction, and how it changes with each parameter."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mdsens.elastic_directions import (
    ElasticRange,
    checked_constants,
    compliance_change,
    compliance_tensor,
    direction_name,
    elastic_ranges,
    youngs_modulus_along,
    youngs_modulus_change,
)
from mdsens.errors import InputError
from mdsens.markup import for_figure
from mdsens.plots.style import (
    DERIVATIVE_COLORS,
    around_zero,
    derivative_name,
    new_figure,
)
from mdsens.units import pretty_unit
from mdsens.values import instance

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity

#: What results with elastic constants are called, up to their options.
ELASTIC_CONSTANTS = "elastic_constants"
#: Colours of the modulus itself.
MODULUS_COLORS = "viridis"
#: Width and height of the picture of a surface, pixels.
SURFACE_PIXELS = 280
#: Places along a ray at which it may enter the surface; between two of them it is found exactly.
RAY_STEPS = 129
#: Where the surface is seen from, and where the light comes from.
VIEWPOINT, LIGHT = (1.0, 0.75, 0.65), (0.8, 0.2, 1.0)
#: Panels side by side.
MOST_COLUMNS = 4
#: Inches: width and height of a panel, and what is left free above and below all.
PANEL, MARGIN = (2.9, 2.35), 0.42
#: Inches from the corner of a panel, with width and height, of what it holds.
SURFACE_PLACE, POLAR_PLACE = np.array([0.15, 0.05, 2.0, 2.0]), np.array([0.42, 0.32, 1.45, 1.45])
BAR_PLACE, TITLE_PLACE = np.array([2.27, 0.3, 0.09, 1.5]), np.array([1.17, 2.14, 0.0, 0.0])


def youngs_modulus(
    relaxed: "Sensitivity | Equilibrium", observable: str = ELASTIC_CONSTANTS
) -> Figure:
    """Young's modulus along every direction, and how it changes with each parameter.

    In three dimensions the surface r(n) = E(n), in two a polar curve; see `youngs_modulus_figure`.

    Arguments:
        relaxed: derivatives of elastic constants; or a relaxed crystal, for the modulus alone.
        observable: which ones, where these are several, e.g.
            ``"elastic_constants(relaxed_ions=False)"``.

    Returns:
        The Figure.

    Raises:
        InputError: there are no elastic constants, or a strain lowers the energy.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.observables.elasticity import elastic_constants
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities import Sensitivity

    what = "a Sensitivity, as from mdsens.sensitivity, or an Equilibrium, as from mdsens.relax"
    instance(relaxed, "relaxed", (Sensitivity, Equilibrium), what)
    if isinstance(relaxed, Equilibrium):
        asked = elastic_constants()
        asked.check(relaxed)
        unit = asked.units_of(relaxed.system)
        return youngs_modulus_figure(np.asarray(asked(relaxed)), unit=unit)
    if observable not in relaxed.observables:
        raise InputError(
            f"the sensitivity has no {observable}: take one of mdsens.sensitivity(equilibrium, "
            f"{observable!r})"
        )
    units = {name: relaxed.units(observable, name) for name in relaxed.parameters}
    return youngs_modulus_figure(
        np.asarray(relaxed.observed[observable]),
        {name: np.asarray(found) for name, found in relaxed[observable].items()},
        relaxed.observables[observable].units_of(relaxed.equilibrium.system),
        units,
        {name: np.asarray(found) for name, found in relaxed.errors[observable].items()},
    )


def youngs_modulus_figure(
    constants: Float[np.ndarray, "V V"],
    derivatives: Mapping[str, ArrayLike] | None = None,
    unit: str = "GPa",
    derivative_units: Mapping[str, str] | None = None,
    errors: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """The surface r(n) = E(n), with E and each dE/dtheta as colour; in two dimensions a curve.

    Parameters with which E does not change along any direction, within its error, are named below.

    Arguments:
        constants: elastic constants in ASE's Voigt order, shape (6, 6); (3, 3) in two dimensions.
        derivatives: their derivatives by parameter.
        unit: unit of the constants.
        derivative_units: unit of each derivative.
        errors: absolute errors of the derivatives, of the same shape; NaN where they are not known.

    Returns:
        The Figure.

    Raises:
        InputError: the constants are of another shape or not finite, or a strain lowers the energy.
    """
    matrix = checked_constants(constants)
    given = {name: np.asarray(of, float) for name, of in (derivatives or {}).items()}
    compliance = compliance_tensor(matrix)
    changes = compliance_change(matrix, np.reshape([*given.values()], (-1, *matrix.shape)))
    noise = {name: _noise(matrix, np.asarray(of, float)) for name, of in (errors or {}).items()}
    units = derivative_units or {}
    flat = len(compliance) == 2
    view = None if flat else _SeenSurface.of(compliance)
    directions = _circle() if view is None else view.directions
    modulus = youngs_modulus_along(compliance, directions)
    slopes = dict(zip(given, youngs_modulus_change(compliance, changes, directions), strict=True))
    # At a point that has no derivative there is nothing to see.
    still = [
        name
        for name, slope in slopes.items()
        if not np.abs(slope).max() > np.nan_to_num(noise.get(name, 0.0))
    ]
    panels = ["", *(name for name in slopes if name not in still)]
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    wide, high = PANEL
    figure = new_figure((wide * columns, MARGIN * 2.0 + high * rows))
    # Every panel has its place: to look for one takes longer than to draw them all.
    figure.set_layout_engine("none")
    size = np.tile(figure.get_size_inches(), 2)
    for index, name in enumerate(panels):
        row, column = divmod(index, columns)
        corner = np.array([wide * column, MARGIN + high * (rows - 1 - row), 0.0, 0.0])
        inner = POLAR_PLACE if flat else SURFACE_PLACE
        axes = figure.add_axes((corner + inner) / size, projection="polar" if flat else None)
        values = slopes[name] if name else modulus
        scale = around_zero(values) if name else _range_of(values)
        colors = ScalarMappable(scale, DERIVATIVE_COLORS if name else MODULUS_COLORS)
        if view is not None:
            view.draw(axes, values, scale, colors.get_cmap())
        else:
            _draw_curve(axes, modulus, values, scale, colors.get_cmap())
        x, y, *_ = (corner + TITLE_PLACE) / size
        title = derivative_name("E", name) if name else "E"
        figure.text(x, y, title, fontsize=10, ha="center")
        bar = figure.colorbar(colors, cax=figure.add_axes((corner + BAR_PLACE) / size))
        bar.set_label(pretty_unit(units.get(name, "") if name else unit), fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.ax.yaxis.get_offset_text().set_fontsize(7)
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
    title = _title(elastic_ranges(matrix, ["youngs_modulus"])["youngs_modulus"], unit)
    figure.text(0.5, 1.0 - 0.5 * MARGIN / size[1], title, fontsize=10, ha="center", va="center")
    notes = [f"r = E along each direction ({pretty_unit(unit)}), by its angle from x"]
    if view is not None:
        notes = [f"r = E along each direction; axes end at {view.reach:g} {pretty_unit(unit)}"]
    if still:
        names = ", ".join(for_figure(name) for name in still)
        notes.append(f"E does not change with {names}")
    figure.text(0.5, 0.5 * MARGIN / size[1], "\n".join(notes), fontsize=8, ha="center", va="center")
    return figure


class _SeenSurface(NamedTuple):
    """What is seen of the surface r(n) = E(n), point by point of a picture.

    A ray p(t) = w + t c meets it where S_ijkl p_i p_j p_k p_l = |p|^3, both sides polynomials in t
    but for a root.

    Attributes:
        hit: where the surface is seen, shape (P, P).
        directions: n of each point that is seen, shape (K, 3).
        shade: how light each of them is, shape (K,).
        reach: where the axes end, in the unit of the modulus.
        half: half of what the picture shows, likewise.
        modulus: of the three axes, likewise.
        right: what points to the right.
        up: what points up.
    """

    hit: Bool[np.ndarray, "P P"]
    directions: Float[np.ndarray, "K 3"]
    shade: Float[np.ndarray, " K"]
    reach: float
    half: float
    modulus: Float[np.ndarray, " 3"]
    right: Float[np.ndarray, " 3"]
    up: Float[np.ndarray, " 3"]

    @classmethod
    def of(cls, compliance: Float[np.ndarray, "3 3 3 3"]) -> Self:
        """Look at a surface from the viewpoint."""
        toward = np.array(VIEWPOINT) / np.linalg.norm(VIEWPOINT)
        right = np.cross([0.0, 0.0, 1.0], toward)
        right /= np.linalg.norm(right)
        up = np.cross(toward, right)
        ranges = youngs_modulus_along(compliance, _sphere())
        # Between these it may be a little larger.
        largest = 1.02 * float(ranges.max())
        reach = _above(1.13 * largest)
        # The ends of all axes, with their names, are inside the picture.
        seen = np.abs(np.stack([right, up])).max() * reach
        half = max(1.02 * largest, 1.13 * seen)
        tensor = _symmetric(compliance) * half
        grid = (np.arange(SURFACE_PIXELS) + 0.5) / SURFACE_PIXELS * 2.0 - 1.0
        across = grid[None, :, None] * right + grid[::-1][:, None, None] * up
        near = np.linalg.norm(across, axis=-1) < 1.001 * largest / half
        points = across[near]
        depths = _entries(tensor, points, toward, largest / half)
        found = np.isfinite(depths)
        places = points[found] + depths[found, None] * toward
        sizes = np.linalg.norm(places, axis=-1, keepdims=True)
        outward = 4.0 * _cubic(tensor, places) - 3.0 * sizes * places
        outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
        light = np.array(LIGHT) / np.linalg.norm(LIGHT)
        shade = 0.66 + 0.34 * np.clip(outward @ light, 0.0, 1.0)
        hit = near.copy()
        hit[near] = found
        modulus = youngs_modulus_along(compliance, np.eye(3))
        return cls(hit, places / sizes, shade, reach, half, modulus, right, up)

    def draw(self, axes: Axes, values: np.ndarray, scale: Normalize, colors: Colormap) -> None:
        """Draw the surface in colours of values at its directions."""
        picture = np.ones((*self.hit.shape, 4))
        picture[..., 3] = self.hit
        picture[self.hit, :3] = colors(scale(values))[:, :3] * self.shade[:, None]
        extent = (-self.half, self.half, -self.half, self.half)
        axes.imshow(picture, extent=extent, interpolation="antialiased", zorder=2)
        plane = np.stack([self.right, self.up], axis=1)
        for axis, (name, begin) in enumerate(zip("xyz", self.modulus, strict=True)):
            end = self.reach * plane[axis]
            axes.plot(
                *np.array([begin * plane[axis], end]).T, color="black", linewidth=0.9, zorder=3
            )
            axes.annotate(name, end, xytext=5.0 * end / max(np.linalg.norm(end), 1e-12),
                          textcoords="offset points", ha="center", va="center", fontsize=8,
                          zorder=3)  # fmt: skip
        axes.set_xlim(-self.half, self.half)
        axes.set_ylim(-self.half, self.half)
        axes.set_axis_off()


def _entries(
    tensor: np.ndarray, points: Float[np.ndarray, "K 3"], toward: np.ndarray, largest: float
) -> Float[np.ndarray, " K"]:
    """Where rays first enter the surface, seen from ahead; infinite where they pass it."""
    # S_ijkl p_i p_j p_k p_l of p = w + t c, by powers of t.
    first = np.tensordot(tensor, toward, 1)
    second = np.tensordot(first, toward, 1)
    third = np.tensordot(second, toward, 1)
    squares = np.sum(points**2, axis=-1)
    pairs = (points[:, :, None] * points[:, None, :]).reshape(-1, 9)
    coefficients = (
        np.sum((pairs @ tensor.reshape(9, 9)) * pairs, axis=-1),
        4.0 * np.sum((pairs @ first.reshape(9, 3)) * points, axis=-1),
        6.0 * pairs @ second.ravel(),
        4.0 * points @ third,
    )
    fourth = float(third @ toward)

    def inside(t: np.ndarray, chosen: slice | np.ndarray) -> np.ndarray:
        value: np.ndarray = np.full_like(t, fourth)
        for coefficient in reversed(coefficients):
            value = value * t + coefficient[chosen]
        square = squares[chosen] + t**2
        found: np.ndarray = value <= square * np.sqrt(square)
        return found

    depths = np.full(len(points), np.inf)
    steps = np.linspace(largest, -largest, RAY_STEPS)
    waiting = np.arange(len(points))
    for t in steps:
        entered = inside(np.full(len(waiting), t), waiting)
        depths[waiting[entered]] = t
        waiting = waiting[~entered]
    found = np.flatnonzero(np.isfinite(depths))
    low, high = depths[found], depths[found] + (steps[0] - steps[1])
    for _ in range(20):
        middle = 0.5 * (low + high)
        within = inside(middle, found)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    depths[found] = low
    return depths


def _symmetric(tensor: np.ndarray) -> np.ndarray:
    """The part of S_ijkl that S_ijkl n_i n_j n_k n_l depends on."""
    orders = list(itertools.permutations(range(4)))
    return np.asarray(sum(tensor.transpose(order) for order in orders) / len(orders))


def _cubic(tensor: np.ndarray, points: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 3"]:
    """S_ijkl p_i p_j p_k of a symmetric tensor."""
    pairs = (points[:, :, None] * points[:, None, :]).reshape(-1, 9)
    forms = (pairs @ tensor.reshape(9, 9)).reshape(-1, 3, 3)
    return np.asarray((forms @ points[:, :, None])[:, :, 0])


def _sphere() -> Float[np.ndarray, "K 3"]:
    """Unit vectors over a sphere, close enough for a scale of colours."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, 31), np.linspace(0, 2 * np.pi, 61))
    flat = np.sin(polar)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), np.cos(polar)], -1).reshape(-1, 3)


def _circle() -> Float[np.ndarray, "K 2"]:
    angles = np.linspace(0.0, 2.0 * np.pi, 361)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _draw_curve(
    axes: Axes, modulus: np.ndarray, values: np.ndarray, scale: Normalize, colors: Colormap
) -> None:
    """Draw r = E of `_circle` in polar axes, in colours of values."""
    angles = np.linspace(0.0, 2.0 * np.pi, len(modulus))
    points = np.stack([angles, modulus], axis=-1)
    lines = LineCollection(
        list(np.stack([points[:-1], points[1:]], axis=1)), cmap=colors, norm=scale, linewidths=3.0,
        capstyle="round",
    )  # fmt: skip
    lines.set_array(0.5 * (values[:-1] + values[1:]))
    axes.add_collection(lines)
    axes.set_ylim(0.0, 1.12 * modulus.max())
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_xticks(np.arange(0.0, 2.0 * np.pi, np.pi / 4.0))
    axes.grid(linewidth=0.4)


def _noise(constants: np.ndarray, errors: np.ndarray) -> float:
    """The largest error of a change of E along any direction, from those of its constants."""
    if not np.isfinite(errors).all():
        return 0.0
    directions = _circle() if len(constants) == 3 else _sphere()
    rows, columns = np.nonzero(errors)
    single = np.zeros((len(rows), *errors.shape))
    single[np.arange(len(rows)), rows, columns] = errors[rows, columns]
    changes = compliance_change(constants, single)
    each = youngs_modulus_change(compliance_tensor(constants), changes, directions)
    return float(np.abs(each).sum(axis=0).max(initial=0.0))


def _range_of(values: np.ndarray) -> Normalize:
    """Limits of colours; where all are alike, a little around them."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * abs(high):
        low, high = 0.99 * high, 1.01 * high
    return Normalize(low, high)


def _above(value: float) -> float:
    """The smallest round number above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    rounds = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
    return float(next(one for one in rounds if one * power >= value * 0.9999) * power)


def _title(found: ElasticRange, unit: str) -> str:
    """What is said of all panels: the smallest and the largest modulus, and where they are."""
    pretty = pretty_unit(unit)
    if found.isotropic:
        return f"Young's modulus E: {found.maximum:.4g} {pretty} along every direction"
    low, high = (
        f"{value:.4g} {pretty} along {direction_name(directions[0])}"
        for value, directions in (
            (found.minimum, found.minimum_directions),
            (found.maximum, found.maximum_directions),
        )
    )
    return f"Young's modulus E: {low} to {high}"
