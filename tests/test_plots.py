"""Figures show what they should: every particle, arrows to scale, units on the axes."""

import ase
import ase.build
import cases
import numpy as np
import pytest
import scipy.spatial
import xarray
from matplotlib.collections import PatchCollection
from matplotlib.patches import Polygon
from matplotlib.quiver import Quiver

import mdsens
from mdsens import plots
from mdsens.errors import InputError


def artists(figure, kind):
    return [artist for artist in figure.axes[0].get_children() if isinstance(artist, kind)]


@pytest.fixture
def disks():
    atoms = ase.Atoms("X3", [[1.0, 1, 0], [3, 1, 0], [1.9, 3.9, 0]], cell=[4, 4, 0], pbc=[1, 1, 0])
    atoms.set_array("species_name", np.array(["large", "small", "large"]))
    return atoms


def test_disks_have_their_true_diameters_and_images_across_the_box(disks):
    vectors = np.array([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    sizes = {"large": 1.0, "small": 0.6}
    figure = plots.structure_figure(disks, vectors, "sigma", "reduced", "reduced", 2, sizes)
    (patches,) = artists(figure, PatchCollection)
    widths = sorted(np.ptp(path.vertices[:, 0]) for path in patches.get_paths())
    # Three particles, and the third seen again below the lower edge.
    np.testing.assert_allclose(widths, [0.6, 1.0, 1.0, 1.0], atol=1e-3)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "x (reduced units)"
    assert axes.get_title(loc="left") == "d x / d sigma"


def test_arrows_point_where_particles_go_and_short_ones_are_left_out(disks):
    vectors = np.array([[1.0, 0, 0], [0, 0.5, 0], [0.001, 0, 0]])
    figure = plots.structure_figure(disks, vectors, "sigma", "reduced", "reduced", 2)
    (arrows,) = artists(figure, Quiver)
    np.testing.assert_allclose(arrows.U, [1.0, 0.0])
    np.testing.assert_allclose(arrows.V, [0.0, 0.5])


@pytest.mark.parametrize(
    ("cell", "periodic"),
    [
        (np.diag([4.0, 5.0, 6.0]), [True] * 3),
        ([[4.0, 0, 0], [-1.5, 5, 0], [0.7, -0.9, 6]], [True] * 3),
        ([[0, 3.0, 3.0], [3, 0, 3], [3, 3, 0]], [True] * 3),
        ([[4.0, 0, 0], [-1.5, 5, 0], [0.7, -0.9, 6]], [True, False, True]),
    ],
    ids=["box", "sheared cell", "primitive cell", "slab"],
)
def test_the_box_is_the_outline_of_the_cells_corners(cell, periodic):
    atoms = ase.Atoms("Ar", [[1.0, 1.0, 1.0]], cell=cell, pbc=periodic)
    figure = plots.structure_figure(atoms, np.array([[1.0, 0.0, 0.5]]), "sigma", "1")
    (drawn,) = artists(figure, Polygon)
    fractions = np.array([n for n in np.ndindex(2, 2, 2) if not np.any(np.array(n) > periodic)])
    corners = (fractions @ atoms.cell[:])[:, [0, 2]]
    hull = scipy.spatial.ConvexHull(corners)
    path = drawn.get_xy()
    nearest, _ = scipy.spatial.cKDTree(path).query(corners[hull.vertices])
    np.testing.assert_allclose(nearest, 0.0, atol=1e-9)
    x, y = path.T
    area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2.0
    # In two dimensions SciPy calls the area a volume.
    np.testing.assert_allclose(area, hull.volume)


def test_three_dimensions_are_seen_along_the_axis_that_hides_least():
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 4.0]])
    for moving, hidden in ((0, 1), (1, 0), (2, 1)):
        vectors = np.zeros((2, 3))
        vectors[:, moving] = 1.0
        figure = plots.structure_figure(atoms, vectors, "sigma", "1")
        shown = [axis for axis in "xyz" if axis != "xyz"[hidden]]
        assert figure.axes[0].get_xlabel() == f"{shown[0]} (Å)"
        assert figure.axes[0].get_ylabel() == f"{shown[1]} (Å)"


def test_nothing_that_moves_is_said_in_the_title():
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 4.0]])
    figure = plots.structure_figure(atoms, np.zeros((2, 3)), "epsilon", "Ang/eV")
    assert "no particle moves" in figure.axes[0].get_title(loc="left")


def test_bars_are_logarithmic_where_there_is_a_logarithm():
    results = {
        "parameters": {"epsilon": 2.0, "sigma": 3.0},
        "observables": {
            "energy": {"value": -4.0, "units": "eV"},
            "pressure": {"value": 0.0, "units": "eV/Ang^3"},
            "stress": {"value": [1.0, 2.0], "units": "eV/Ang^3"},
        },
        "sensitivities": {
            "energy": {"epsilon": -2.0, "sigma": 4.0},
            "pressure": {"epsilon": 0.0, "sigma": 5.0},
            "stress": {"epsilon": [0.0, 0.0], "sigma": [0.0, 0.0]},
        },
    }
    energy, pressure = plots.sensitivities_figure(results).axes
    assert [bar.get_width() for bar in energy.patches] == [1.0, -3.0]
    assert energy.get_xlabel() == "d ln O / d ln θ"
    assert [bar.get_width() for bar in pressure.patches] == [0.0, 15.0]
    assert pressure.get_xlabel() == "θ dO/dθ (eV/Å³)"


def test_bars_have_their_errors_and_what_is_below_them_is_a_grey_zero():
    results = {
        "parameters": {"epsilon": 2.0, "sigma": 3.0},
        "observables": {
            "energy": {"value": -4.0, "error": 0.0, "units": "eV"},
            "pressure": {"value": 9e-15, "error": 1e-13, "units": "eV/Ang^3"},
        },
        "sensitivities": {
            "energy": {"epsilon": -2.0, "sigma": 0.1},
            "pressure": {"epsilon": 1e-16, "sigma": -1e-15},
        },
        "sensitivity_errors": {
            "energy": {"epsilon": 0.4, "sigma": 0.2},
            "pressure": {"epsilon": 1e-14, "sigma": 2e-14},
        },
    }
    energy, pressure = plots.sensitivities_figure(results).axes
    assert [bar.get_width() for bar in energy.patches] == [1.0, 0.0]
    texts = {text.get_text(): text.get_color() for text in energy.texts}
    assert texts == {"1": "black", "0": plots.ZERO_COLOR}
    # theta / O times the errors: 0.4 * 2 / 4 above and below 1, and 0.2 * 3 / 4 around 0.
    whiskers = [c.get_segments()[0][:, 0] for c in energy.collections if c.get_segments()]
    np.testing.assert_allclose(whiskers, [[0.8, 1.2], [-0.15, 0.15]])
    # No logarithm of a pressure that is zero, and no bar of its noise.
    assert pressure.get_xlabel() == "θ dO/dθ (eV/Å³)"
    assert [bar.get_width() for bar in pressure.patches] == [0.0, 0.0]
    assert {text.get_text() for text in pressure.texts} == {"0"}
    assert pressure.get_title(loc="right") == "O is zero"


def test_convergence_is_logarithmic_and_shows_what_was_asked_for():
    axes = plots.convergence_figure([0, 1, 2], [1.0, 1e-4, 1e-9], 1e-8).axes[0]
    assert axes.get_yscale() == "log"
    curve, line = axes.lines
    np.testing.assert_allclose(curve.get_ydata(), [1.0, 1e-4, 1e-9])
    assert line.get_ydata()[0] == 1e-8
    assert axes.get_ylabel() == "largest force (eV/Å)"


@pytest.mark.parametrize(
    ("unit", "pretty"), [("eV/Ang^3", "eV/Å³"), ("1", ""), ("reduced", "reduced units")]
)
def test_units_are_spelled_out(unit, pretty):
    assert plots.pretty_unit(unit) == pretty


# From results -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strained():
    """A crystal with a vacancy in a cell that relaxes: it scales, and the neighbours move in."""
    return mdsens.relax(cases.vacancy_crystal(), cases.POTENTIALS["lj-smooth"], cell="isotropic")


@pytest.mark.slow
def test_a_structure_in_a_cell_that_relaxes_shows_what_the_strain_does_not_explain(strained):
    sensitivity = mdsens.sensitivity(strained, wrt="sigma")
    figure = plots.structure(sensitivity, "sigma")
    title = figure.axes[0].get_title(loc="left")
    assert title.startswith("d x / d sigma, non-affine part")
    (arrows,) = artists(figure, Quiver)
    # The isotropic strain of the cell, from its edge.
    edge, slope = strained.cell[0, 0], sensitivity.cell["sigma"][0, 0]
    left = sensitivity.positions["sigma"] - strained.positions * slope / edge
    longest = np.linalg.norm(left, axis=1).max()
    seen = np.hypot(arrows.U, arrows.V)
    assert 0.5 * longest < seen.max() <= longest * (1 + 1e-12)


@pytest.mark.slow
def test_a_crystal_that_only_scales_has_no_non_affine_part():
    crystal = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 1.6, cubic=True), units="reduced")
    relaxed = mdsens.relax(crystal, cases.POTENTIALS["lj-smooth"], cell="isotropic")
    figure = plots.structure(relaxed, "sigma")
    assert figure.axes[0].get_title(loc="left").endswith("non-affine part: no particle moves")


def test_motion_below_its_error_is_none(strained):
    """The depth of all pairs moves nothing; what is left of it is as large as the forces allow."""
    loose = mdsens.relax(strained.system, strained.potential, cell="isotropic", fmax=1e-6)
    sensitivity = mdsens.sensitivity(loose)
    assert np.abs(sensitivity.positions["epsilon"]).max() > 0.0
    figure = plots.structure(sensitivity, "epsilon")
    assert "no particle moves" in figure.axes[0].get_title(loc="left")


def test_a_structure_in_a_fixed_cell_shows_all_of_its_motion():
    relaxed = mdsens.relax(cases.dimer(), cases.POTENTIALS["lj-smooth"])
    figure = plots.structure(relaxed, "sigma")
    assert figure.axes[0].get_title(loc="left") == "d x / d sigma"
    (arrows,) = artists(figure, Quiver)
    moved = np.asarray(mdsens.sensitivity(relaxed).positions["sigma"])
    assert np.hypot(arrows.U, arrows.V).max() == pytest.approx(np.linalg.norm(moved, axis=1).max())


def test_bars_and_curves_are_drawn_from_results(strained):
    sensitivity = mdsens.sensitivity(strained, ["volume", "energy"])
    volume, _ = plots.sensitivities(sensitivity).axes
    labels = [label.get_text() for label in volume.get_yticklabels()]
    widths = dict(zip(labels, [bar.get_width() for bar in volume.patches], strict=True))
    assert widths["sigma"] == pytest.approx(float(sensitivity.logarithmic()["volume"]["sigma"]))
    axes = plots.convergence(strained).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), strained.history.forces)
    assert axes.lines[1].get_ydata()[0] == strained.fmax


@pytest.mark.parametrize(
    ("draw", "line"),
    [
        (lambda e: plots.structure(e, "sigmma"), "no parameter|did you mean"),
        (
            lambda e: plots.structure(mdsens.sensitivity(e, wrt="sigma"), "epsilon"),
            "allowed are",
        ),
        (lambda e: plots.structure("a crystal", "sigma"), "give an Equilibrium or a Sensitivity"),
        (plots.sensitivities, "give a Sensitivity"),
        (lambda e: plots.convergence(mdsens.relax_batch([e.system], e.potential)[0]), "no history"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(draw, line):
    with pytest.raises(InputError, match=line) as error:
        draw(mdsens.relax(cases.dimer(), cases.POTENTIALS["lj-smooth"]))
    assert "\n" not in str(error.value)


def test_figures_of_several_parameters_are_those_of_each(disks, tmp_path):
    generator = np.random.default_rng(3)
    motions = {name: generator.normal(size=(len(disks), 3)) for name in ("sigma", "epsilon")}
    motions["alpha"] = 1e-3 * motions["sigma"]
    units = {"sigma": "1", "epsilon": "Ang/eV", "alpha": "Ang"}
    for dimension in (2, 3):
        # In three dimensions they are seen from several sides.
        motions["from above"] = motions["sigma"] * [1.0, 1.0, 0.01]
        motions["from a side"] = motions["sigma"] * [0.01, 1.0, 1.0]
        units |= {"from above": "1", "from a side": "1"}
        together = plots.structure_figures(disks, motions, units, dimension=dimension)
        one_by_one = (
            (name, plots.structure_figure(disks, vectors, name, units[name], dimension=dimension))
            for name, vectors in motions.items()
        )
        written = [
            plots.write_figures((tmp_path / f"{kind}-{name}.png", figure) for name, figure in given)
            for kind, given in (("together", together), ("alone", one_by_one))
        ]
        for path, other in zip(*written, strict=True):
            assert path.read_bytes() == other.read_bytes()
        assert len({path.read_bytes() for path in written[0]}) == len(motions)


def test_a_figure_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        plots.write_figures([(tmp_path / "nowhere" / "a.png", plots.style.new_figure((1, 1)))])


def swept_packings(runs):
    """What is known of runs over a seed, as `mdsens.load` returns it."""
    axes, units = ("structure.seed",), {"units": "reduced"}
    numbers = np.linspace(-1.5, 2.5, runs)
    data = {
        "state": (axes, np.full(runs, "finished")),
        "energy": (axes, numbers, units),
        "error_energy": (axes, np.full(runs, 1e-9), units),
        "d_energy": (("parameter", *axes), [numbers], {"units_epsilon": "1"}),
        "error_d_energy": (("parameter", *axes), [np.full(runs, 1e-9)]),
    }
    coordinates = {"structure.seed": np.arange(runs), "parameter": ["epsilon"]}
    return xarray.Dataset(data, coordinates)


@pytest.mark.parametrize("runs", [5, 200])
def test_each_seed_of_a_sweep_has_a_dot_inside_its_panel(runs):
    found = swept_packings(runs)
    figure = plots.sweep_figure(found, ["structure.seed"], "structure.seed")
    figure.canvas.draw()
    places = []
    for axes in figure.axes:
        (line,) = axes.get_lines()
        assert (len(line.get_xdata()), line.get_marker()) == (runs, "o")
        places.append(axes.get_window_extent())
        # Numbers at the left and titles above are on the paper, and on no other panel.
        around = axes.get_tightbbox()
        assert figure.bbox.x0 <= around.x0
        assert around.y1 <= figure.bbox.y1
    assert places[0].x1 < figure.axes[1].get_tightbbox().x0
