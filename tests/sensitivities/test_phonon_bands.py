"""Phonon bands along paths: closed forms, single wave vectors, and scaling."""

import ase.build
import ase.units
import numpy as np
import pytest

import mdsens
from mdsens.observables import phonon_frequencies
from mdsens.particles.wave_paths import wave_path
from mdsens.potentials import LennardJones
from mdsens.sensitivities import phonon_bands

pytestmark = pytest.mark.xdist_group("phonon-bands")
#: Nearest neighbours alone.
POTENTIAL = LennardJones(0.0104, 3.4, 4.6, onset=4.3)


@pytest.fixture(scope="module")
def crystal():
    system = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.4))
    return mdsens.relax(system, POTENTIAL, fmax=1e-12, cell="isotropic")


@pytest.fixture(scope="module")
def bands(crystal):
    return phonon_bands(crystal, "GXWKGL", 24)


def test_bands_of_nearest_neighbours_follow_their_closed_form(crystal, bands):
    # Of springs k between nearest neighbours, along G-X: m w^2 is 8 k sin^2(qa/4) for waves that
    # are longitudinal, and half of it for those that are not.
    on_the_way = bands.distances <= bands.labels[1][0] + 1e-12
    distances, found = bands.distances[on_the_way], bands.frequencies[on_the_way]
    lattice = np.cbrt(4.0 * float(crystal.volume))
    r = lattice / np.sqrt(2.0)
    # Curvature of the only spring, which bears no load.
    x6 = (3.4 / r) ** 6
    stiffness = 4 * 0.0104 * (156 * x6**2 - 42 * x6) / r**2
    mass = ase.data.atomic_masses[18]
    squares = 8.0 * stiffness / mass * np.sin(distances * lattice / 4.0) ** 2
    to_thz = ase.units.second / 1e12 / (2.0 * np.pi)
    expected = np.sqrt(np.stack([squares / 2, squares / 2, squares], axis=1)) * to_thz
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # X is at 2 pi / a.
    assert bands.labels[1] == (pytest.approx(2.0 * np.pi / lattice), "X")


def test_bands_are_those_of_single_wave_vectors(crystal, bands):
    for place in (3, 9, 17):
        alone = phonon_frequencies(tuple(bands.vectors[place]))(crystal)
        np.testing.assert_allclose(bands.frequencies[place], alone, rtol=1e-10)


def test_bands_scale_with_their_potential(bands):
    # A frequency goes as the root of the energy over the mass and the square of a length; cutoff
    # and onset hold no shell.
    epsilon, sigma = (bands.derivatives[name] for name in ("epsilon", "sigma"))
    scale = np.abs(bands.frequencies).max()
    half = 0.5 * bands.frequencies
    np.testing.assert_allclose(epsilon * 0.0104, half, atol=1e-9 * scale)
    np.testing.assert_allclose(sigma * 3.4, -bands.frequencies, atol=1e-9 * scale)
    assert bands.units == {
        "distance": "1/Ang", "frequency": "THz", "epsilon": "THz/eV", "sigma": "THz/Ang",
    }  # fmt: skip


def test_nothing_moves_at_gamma_and_no_derivative_is_lost(bands):
    np.testing.assert_array_equal(bands.vectors[0], 0.0)
    np.testing.assert_allclose(bands.frequencies[0], 0.0, atol=1e-7)
    for slopes in bands.derivatives.values():
        assert np.isfinite(slopes).all()
        np.testing.assert_allclose(slopes[0], 0.0, atol=1e-7)


def test_the_recommended_path_of_fcc_is_the_known_one(crystal):
    found = phonon_bands(crystal, points=16, wrt=[])
    names = [name for _, name in found.labels]
    assert names == ["GAMMA", "X", "U", "K", "GAMMA", "L", "W", "X"]
    assert found.derivatives == {}
    assert len(found.distances) == 16
    assert (np.diff(found.distances) >= 0.0).all()


def test_the_path_of_a_sheared_cell_is_as_long_as_its_wave_vectors_say():
    cell = np.array([[3.3, 0.0, 0.0], [0.9, 3.1, 0.0], [-0.3, 0.4, 3.2]])
    system = mdsens.System(np.zeros((1, 3)), cell)
    path = wave_path(system, [("A", [0, 0, 0]), ("B", [0.5, 0, 0]), ("C", [0.5, 0.2, -0.3])], 7)
    # The waves exp(i k x) have k a_i = 2 pi q_i.
    corners = [np.linalg.solve(cell, 2.0 * np.pi * np.array(q))
               for q in ([0, 0, 0], [0.5, 0, 0], [0.5, 0.2, -0.3])]  # fmt: skip
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    np.testing.assert_allclose(
        [at for at, _ in path.labels], [0.0, lengths[0], lengths.sum()], rtol=1e-12
    )


def test_bands_come_back_from_plain_numbers(bands):
    again = type(bands).from_dict(bands.to_dict())
    np.testing.assert_array_equal(again.frequencies, bands.frequencies)
    assert again.labels == bands.labels


@pytest.mark.slow
def test_bands_are_drawn_in_the_colours_of_a_derivative(bands):
    figure = mdsens.plots.phonon_bands(bands, "sigma")
    texts = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert "X" in texts
    assert any("THz/" in axes.get_ylabel() for axes in figure.axes)


@pytest.mark.slow
def test_a_density_of_states_has_the_colours_of_its_derivative(crystal):
    observable = "phonon_density_of_states(2.2, mesh=2, bins=11)"
    states = mdsens.sensitivity(crystal, observable, wrt="sigma")
    figure = mdsens.plots.phonon_density_of_states(states)
    (strips,) = figure.axes[0].collections
    # At the middle of a bin both are those of the sensitivity; what goes up is red.
    (name,) = states.observables
    slopes, shown = np.asarray(states[name]["sigma"]), np.asarray(strips.get_array())
    assert len(shown) % (len(slopes) - 1) == 0
    per_bin = len(shown) // (len(slopes) - 1)
    begins, ends = shown.reshape(-1, per_bin)[:, 0], shown.reshape(-1, per_bin)[:, -1]
    step = np.diff(slopes) / per_bin
    np.testing.assert_allclose(begins, slopes[:-1] + step / 2, atol=1e-9 * abs(slopes).max())
    np.testing.assert_allclose(ends, slopes[1:] - step / 2, atol=1e-9 * abs(slopes).max())
    assert strips.get_cmap()(strips.norm(abs(slopes).max()))[0] > 0.6
    assert "THz/Å" not in figure.axes[0].get_ylabel()
    assert figure.axes[1].get_ylabel() == "dg / d sigma ((1/THz)/Å)"
    with pytest.raises(mdsens.InputError, match="no derivative by it; give one of sigma"):
        mdsens.plots.phonon_density_of_states(states, "epsilon")
    with pytest.raises(mdsens.InputError, match="it is of volume; give one of 'phonon_density"):
        mdsens.plots.phonon_density_of_states(mdsens.sensitivity(crystal, "volume", wrt="sigma"))


def test_a_density_is_drawn_upright_beside_bands_in_its_own_colours(bands):
    at = np.linspace(0.1, 2.0, 5)
    figure = mdsens.plots.phonon_bands(
        bands, "sigma", density=(at, at**2, 1.0 - at), density_derivative_unit="1/Ang"
    )
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels[0].startswith("frequency")
    assert any(one.startswith("dg / d sigma") for one in labels)
    assert any(one.startswith("df / d sigma") for one in labels)
    outline = figure.axes[1].lines[0].get_xydata()
    np.testing.assert_allclose(outline, np.column_stack([at**2, at]))


@pytest.mark.parametrize(("density", "wrong"), [
    (([0.1, 0.2], [1.0, 2.0, 3.0]), "2, 3 frequencies, values and derivatives; give as many"),
    (([0.2, 0.1], [1.0, 2.0]), "frequencies do not increase: sort them"),
    (([0.1, 0.2],), "give frequencies, as many densities"),
])  # fmt: skip
def test_what_is_no_density_is_refused(bands, density, wrong):
    with pytest.raises(mdsens.InputError, match=wrong):
        mdsens.plots.phonon_bands(bands, density=density)


@pytest.mark.parametrize(("path", "points", "wrong"), [
    ("GQ", 10, "the lattice has no point 'Q'; give some of G"),
    ("G", 10, "two or more points in a row"),
    ([("G", [0, 0, 0]), ("X", [0.5, 0])], 10, "path: X has shape"),
    ([("G", [0, 0, 0]), ("G", [0, 0, 0])], 10, "it has no length"),
    ("GXWKGL", 3, "the path has 6 corners; give 6 or more"),
])  # fmt: skip
def test_what_is_no_path_is_refused(crystal, path, points, wrong):
    with pytest.raises(mdsens.InputError, match=wrong):
        phonon_bands(crystal, path, points)


def test_what_has_no_brillouin_zone_is_refused():
    cluster = mdsens.System.from_ase(ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]]))
    with pytest.raises(mdsens.InputError, match="has no Brillouin zone; ask for phonon_freq"):
        phonon_bands(mdsens.relax(cluster, POTENTIAL), "GX")
