"""Energy against volume, its uncertainty, and how it changes with each parameter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdsens.curves import EnergyVolume, checked_uncertainty
from mdsens.markup import for_figure
from mdsens.plots.style import (
    BAR_COLOR,
    OTHER_COLOR,
    new_figure,
    plain_frame,
    with_unit,
)
from mdsens.units import pretty_unit
from mdsens.values import instance

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium

#: Colours of the derivatives by single parameters.
LINE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Dashes of the parameters after these.
LINE_STYLES = ("-", "--", ":")
#: What is smaller than this, beside the energies, is rounding.
ROUNDING = 1e-10
#: Points of a line through all that is known.
LINE_POINTS = 201


def energy_volume(
    relaxed: "Equilibrium | EnergyVolume",
    uncertainty: float | Mapping[str, float] | None = None,
    **options: Any,
) -> Figure:
    """The energy of a crystal against its volume, with a band of uncertainty.

    Below, theta dE/dtheta at constant volume, for each parameter; see `energy_volume_figure`.

    Arguments:
        relaxed: a relaxed crystal; or its curve, of `mdsens.sensitivities.energy_volume`.
        uncertainty: relative standard uncertainty of every parameter, or of those named in a
            table; None: there is no band.
        options: what `mdsens.sensitivities.energy_volume` takes, of a crystal: ``strain``,
            ``points``, ``wrt``.

    Returns:
        The Figure.

    Raises:
        InputError: as of `mdsens.sensitivities.energy_volume`, or an uncertainty of something else.
        RelaxationError: energy or forces are not finite in a strained cell.
    """
    # Not by each report of a run, which is drawn from its files without JAX.
    from mdsens.relaxation import Equilibrium
    from mdsens.sensitivities.energy_volume import energy_volume as energy_volume_curve

    what = "an Equilibrium, as from mdsens.relax, or an EnergyVolume of it"
    instance(relaxed, "relaxed", (Equilibrium, EnergyVolume), what)
    curve = relaxed
    if isinstance(curve, Equilibrium):
        curve = energy_volume_curve(curve, **options)
    return energy_volume_figure(curve, uncertainty)


def energy_volume_figure(
    curve: EnergyVolume, uncertainty: float | Mapping[str, float] | None = None
) -> Figure:
    """A curve of energies against volumes with its band, and theta dE/dtheta below.

    Between its points the curve has their energies and slopes, which are minus the pressures.

    Arguments:
        curve: energies against volumes.
        uncertainty: relative standard uncertainty of every parameter, or of those named in a
            table; None: there is no band.

    Returns:
        The Figure.

    Raises:
        InputError: an uncertainty of something else than the parameters of the curve.
    """
    every = {name: curve.parameters[name] * of for name, of in curve.derivatives.items()}
    smallest = ROUNDING * np.abs(curve.energies).max()
    slopes = {name: of for name, of in every.items() if np.abs(of).max() > smallest}
    still = ", ".join(for_figure(name) for name in every if name not in slopes)
    figure = new_figure((6.2, 5.4 if slopes else 3.6))
    above, *below = figure.subplots(
        2 if slopes else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 2] if slopes else [1]
    )[:, 0]
    _draw_energies(above, curve, uncertainty)
    for axes in below:
        for index, (name, of) in enumerate(slopes.items()):
            style = LINE_STYLES[index // len(LINE_COLORS) % len(LINE_STYLES)]
            axes.plot(*_smooth(curve.volumes, of), color=LINE_COLORS[index % len(LINE_COLORS)],
                      linestyle=style, linewidth=1.2, label=for_figure(name))  # fmt: skip
        axes.axhline(0.0, color="black", linewidth=0.6)
        axes.axvline(curve.relaxed_volume, color="#8A8A8A", linewidth=0.7, linestyle=":")
        axes.set_ylabel(with_unit("θ ∂E/∂θ", curve.units["energy"]) + "\nper atom")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        plain_frame(axes)
    if still:
        figure.text(0.995, 0.005, f"θ ∂E/∂θ is zero for {still}", fontsize=8, ha="right")
    flat = curve.units["volume"].endswith("^2")
    (below or [above])[-1].set_xlabel(
        with_unit("area per atom" if flat else "volume per atom", curve.units["volume"])
    )
    return figure


def _draw_energies(
    axes: Axes, curve: EnergyVolume, uncertainty: float | Mapping[str, float] | None
) -> None:
    # Here and below: few reports have this figure, and SciPy takes long to import.
    from scipy.interpolate import CubicHermiteSpline

    volumes = _evenly(curve.volumes)
    energies = CubicHermiteSpline(curve.volumes, curve.energies, -curve.pressures)(volumes)
    if uncertainty is not None:
        off = curve.uncertainty(uncertainty)
        _, band = _smooth(curve.volumes, off)
        axes.fill_between(volumes, energies - band, energies + band, color=BAR_COLOR, alpha=0.2,
                          linewidth=0.0, label=_band_name(curve, uncertainty))  # fmt: skip
    axes.plot(volumes, energies, color=BAR_COLOR, linewidth=1.4)
    axes.plot(curve.volumes, curve.energies, "o", color=BAR_COLOR, markersize=3.5)
    axes.axvline(curve.relaxed_volume, color="#8A8A8A", linewidth=0.7, linestyle=":")
    text = f"{curve.relaxed_volume:.4g} {pretty_unit(curve.units['volume'])}".strip()
    axes.plot([curve.relaxed_volume], [curve.relaxed_energy], "o", color=OTHER_COLOR, markersize=6,
              zorder=4, label=f"relaxed structure, {text}")  # fmt: skip
    axes.set_ylabel(with_unit("energy per atom", curve.units["energy"]))
    axes.legend(fontsize=8, loc="upper center", facecolor="white", edgecolor="none", framealpha=1.0)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.margins(y=0.12)
    plain_frame(axes)


def _smooth(
    volumes: Float[np.ndarray, " P"], values: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """A smooth line through points whose slopes are not known."""
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(volumes, values, k=min(3, len(volumes) - 1))
    return _evenly(volumes), spline(_evenly(volumes))


def _evenly(volumes: Float[np.ndarray, " P"]) -> Float[np.ndarray, " Q"]:
    return np.linspace(volumes[0], volumes[-1], LINE_POINTS)


def _band_name(curve: EnergyVolume, uncertainty: float | Mapping[str, float]) -> str:
    """What the band says: of which parameters, and how uncertain they are."""
    given = checked_uncertainty(uncertainty, curve.derivatives)
    if not isinstance(uncertainty, Mapping):
        return f"every parameter ± {100.0 * uncertainty:g} %"
    return ", ".join(f"{for_figure(name)} ± {100.0 * one:g} %" for name, one in given.items())
