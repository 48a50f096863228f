"""Surfaces, curves and bands show the numbers that they are made of."""

import ase.build
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection

import mdsens
from mdsens import plots
from mdsens.elastic_directions import compliance_tensor, youngs_modulus_along
from mdsens.errors import InputError
from mdsens.plots.moduli import SURFACE_PIXELS
from mdsens.potentials import LennardJones
from mdsens.sensitivities import energy_volume
from mdsens.sensitivities.energy_volume import require_periodic

ISOTROPIC = np.diag([3.0, 3, 3, 1, 1, 1]) + np.pad(np.full((3, 3), 1.0) - np.eye(3), (0, 3))


@pytest.fixture(scope="module")
def argon():
    atoms = ase.build.bulk("Ar", "fcc", a=5.26)
    # No shell of neighbours comes near the switch.
    potential = LennardJones(epsilon=0.0104, sigma=3.405, cutoff=6.2, onset=5.7)
    system = mdsens.System.from_ase(atoms)
    return mdsens.relax(system, potential, cell="isotropic", fmax=1e-10)


@pytest.fixture(scope="module")
def curve(argon):
    return energy_volume(argon, strain=0.02, points=5)


def picture(axes):
    (image,) = axes.images
    return image.get_array(), image.get_extent()


def test_an_isotropic_body_is_a_sphere_of_its_modulus():
    figure = plots.youngs_modulus_figure(ISOTROPIC)
    image, (low, high, *_) = picture(figure.axes[0])
    # With lambda = mu = 1: E = mu (3 lambda + 2 mu) / (lambda + mu).
    area = (image[..., 3] > 0).sum() * ((high - low) / SURFACE_PIXELS) ** 2
    np.testing.assert_allclose(area, np.pi * 2.5**2, rtol=1e-2)


def test_a_surface_is_seen_as_far_as_its_modulus_along_the_edge():
    constants = ISOTROPIC + np.diag([0, 0, 4.0, 0, 0, 0])
    figure = plots.youngs_modulus_figure(constants)
    image, (low, high, *_) = picture(figure.axes[0])
    rows = np.flatnonzero((image[..., 3] > 0).any(axis=1))
    height = (rows[-1] - rows[0] + 1) * (high - low) / SURFACE_PIXELS
    compliance = compliance_tensor(constants)
    n = np.random.default_rng(0).normal(size=(40_000, 3))
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    toward = np.array(plots.moduli.VIEWPOINT) / np.linalg.norm(plots.moduli.VIEWPOINT)
    up = np.array([0.0, 0, 1]) - toward[2] * toward
    points = youngs_modulus_along(compliance, n)[:, None] * n
    highest = (points @ up / np.linalg.norm(up)).max()
    np.testing.assert_allclose(height, 2.0 * highest, rtol=1e-2)


def test_derivatives_have_colours_around_zero_and_units_and_still_ones_are_named():
    changes = {"sigma": np.diag([1.0, 1, 1, 0, 0, 0]), "p": np.zeros((6, 6))}
    noise = {"sigma": np.full((6, 6), 1e-9), "p": np.full((6, 6), 1e-9)}
    units = {"sigma": "GPa/Ang", "p": "GPa"}
    figure = plots.youngs_modulus_figure(ISOTROPIC, changes, "GPa", units, noise)
    texts = [text.get_text() for text in figure.texts]
    assert "dE / d sigma" in texts
    assert "E does not change with p" in texts[-1]
    _, bar, *others = figure.axes
    assert bar.get_ylabel() == "GPa"
    low, high = others[1].get_ylim()
    assert low == -high
    assert others[1].get_ylabel() == "GPa/Å"


def test_in_two_dimensions_a_polar_curve_is_drawn():
    constants = np.array([[20.0, 5, 0], [5, 30, 0], [0, 0, 4]])
    figure = plots.youngs_modulus_figure(constants, unit="N/m")
    assert figure.axes[0].name == "polar"
    (line,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    first = line.get_segments()[0][0]
    np.testing.assert_allclose(first, [0.0, 20.0 - 25.0 / 30.0])


def test_one_line_draws_a_crystal_and_its_derivatives(argon):
    sensitivity = mdsens.sensitivity(argon, "elastic_constants")
    figure = plots.youngs_modulus(sensitivity)
    assert {"E", "dE / d epsilon", "dE / d sigma"} <= {text.get_text() for text in figure.texts}
    with pytest.raises(InputError, match="has no elastic_constants"):
        plots.youngs_modulus(sensitivity, "elastic_constants(relaxed_ions=False)")


def test_slopes_of_energies_against_volumes_are_minus_the_pressures(argon, curve):
    near = energy_volume(argon, strain=1e-4, points=3, wrt=[])
    slope = (near.energies[2] - near.energies[0]) / (near.volumes[2] - near.volumes[0])
    assert abs(slope) < 1e-6 * abs(curve.pressures).max() * 1e2
    np.testing.assert_allclose(near.energies[1], float(argon.energy), rtol=1e-12)
    # d2E/dV2 = K / V.
    bulk = -(near.pressures[2] - near.pressures[0]) / (near.volumes[2] - near.volumes[0])
    expected = mdsens.observables.bulk_modulus()(argon) * 0.006241509125883258
    np.testing.assert_allclose(bulk * near.volumes[1], float(expected), rtol=1e-5)


def test_energies_scale_with_epsilon_and_with_sigma_as_with_length(curve):
    parameters, changes = curve.parameters, curve.derivatives
    np.testing.assert_allclose(
        parameters["epsilon"] * changes["epsilon"], curve.energies, rtol=1e-10
    )
    # E depends on V / sigma^3 alone where no neighbour is at the cutoff.
    by_length = 3.0 * curve.pressures * curve.volumes
    np.testing.assert_allclose(
        parameters["sigma"] * changes["sigma"], by_length, atol=1e-10 * np.abs(by_length).max()
    )


def test_a_band_adds_independent_changes(curve):
    both = curve.uncertainty({"epsilon": 0.02, "sigma": 0.01})
    single = [curve.uncertainty({name: u}) for name, u in (("epsilon", 0.02), ("sigma", 0.01))]
    np.testing.assert_allclose(both, np.hypot(*single))
    figure = plots.energy_volume(curve, {"epsilon": 0.02, "sigma": 0.01})
    above, below = figure.axes
    (band,) = [c for c in above.collections if isinstance(c, PolyCollection)]
    heights = band.get_paths()[0].vertices
    left = heights[heights[:, 0] == curve.volumes[0], 1]
    np.testing.assert_allclose(np.ptp(left), 2.0 * both[0], rtol=1e-9)
    assert below.get_xlabel() == "volume per atom (Å³)"
    with pytest.raises(InputError, match="'sgima' is no parameter"):
        curve.uncertainty({"sgima": 0.1})


def test_a_cluster_has_no_energies_against_volumes():
    with pytest.raises(InputError, match="periodic in every direction"):
        require_periodic((True, True, False))


@pytest.fixture
def bands():
    along = np.array([0.0, 0.5, 1.0, 1.0, 1.5])
    frequencies = np.array([[0.0, 4], [1, 4], [2, 5], [2, 4], [3, 3]])
    derivatives = np.array([[np.nan, 2.0], [1, 2], [1, -4], [1, 2], [1, 2]])
    return along, frequencies, derivatives


LABELS = ["GAMMA", "", "X", "U_1", "L"]


def test_bands_have_the_colour_of_their_derivative_and_break_where_the_path_does(bands):
    along, frequencies, derivatives = bands
    at = np.linspace(0.0, 5.0, 50)
    figure = plots.phonon_bands_figure(
        along, frequencies, LABELS, derivatives, "sigma", "THz/Ang", density=(at, at**2)
    )
    axes, density, bar = figure.axes
    (lines,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    # Four steps of the path, of which one leads nowhere, and two bands.
    assert len(lines.get_segments()) == 6
    # What has no derivative at one end has that of the other.
    np.testing.assert_allclose(np.asarray(lines.get_array()), [1, 2, 1, -1, 1, 2])
    assert lines.norm.vmin == -lines.norm.vmax == -2.0
    assert bar.get_ylabel() == "df / d sigma (THz/Å)"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Γ", "X|U$_{1}$", "L"]
    assert density.get_ylim() == axes.get_ylim()
    assert axes.get_ylim()[0] == 0.0


def test_imaginary_frequencies_are_below_zero_shaded_and_said(bands):
    along, frequencies, _ = bands
    axes = plots.phonon_bands_figure(along, frequencies - 1.0, LABELS).axes[0]
    assert axes.get_ylim()[0] < -1.0
    assert [text.get_text() for text in axes.texts] == ["imaginary: the crystal is not stable"]
    stable = plots.phonon_bands_figure(along, frequencies, LABELS).axes[0]
    assert not stable.texts


def test_bands_of_other_shapes_are_refused(bands):
    along, frequencies, derivatives = bands
    with pytest.raises(InputError, match=r"\(4,\) with frequencies of shape \(5, 2\)"):
        plots.phonon_bands_figure(along[:4], frequencies)
    with pytest.raises(InputError, match="derivatives of shape"):
        plots.phonon_bands_figure(along, frequencies, (), derivatives[:, :1])
    with pytest.raises(InputError, match="2 labels of 5 wave vectors"):
        plots.phonon_bands_figure(along, frequencies, ["GAMMA", "X"])
