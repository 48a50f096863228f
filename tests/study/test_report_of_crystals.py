"""Reports of crystals show their moduli along directions, and energies against volumes."""

import ase.build
import ase.io
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.study import load_study, run_study
from mdsens.study.figure_names import possible_figures
from mdsens.study.report import write_report
from mdsens.study.report_figures import figure_sets
from mdsens.study.report_structures import Shown
from mdsens.study.results_file import read_results

STUDY = """
[structure]
file = "argon.extxyz"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.405
cutoff = 6.2
onset = 5.7

[relaxation]
cell = "isotropic"
fmax = 1e-10

[sensitivity]
observables = ["elastic_constants"]
wrt = ["sigma"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystal")
    ase.io.write(folder / "argon.extxyz", ase.build.bulk("Ar", "fcc", a=5.26))
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.mark.slow
def test_a_run_draws_moduli_and_the_curve_that_is_asked_for(folder, capsys):
    from mdsens.study.terminal import show_run

    settings = ["energy_volume.points=3", "energy_volume.uncertainty={sigma=0.01}"]
    finished = run_study(load_study(folder, settings), folder / "out")
    results = read_results(folder / "out")
    curve = results["energy_volume"]
    np.testing.assert_allclose(curve["energies"][1], results["energy"], rtol=1e-10)
    assert curve["uncertainty"] == {"sigma": 0.01}
    assert {"youngs-modulus.png", "energy-volume.png"} <= {
        path.name for path in finished.folder.iterdir()
    }
    page = (folder / "out" / "report.html").read_text()
    constants = np.array(results["observables"]["elastic_constants"]["value"])
    c11, c12 = constants[0, 0], constants[0, 1]
    along = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12)
    assert f"{along:.5g}" in page
    assert "[1 0 0]" in page
    assert "alt='energy-volume'" in page
    assert "alt='youngs-modulus'" in page
    show_run(finished)
    assert "[1 1 1]" in capsys.readouterr().out
    # From the files alone it is drawn again.
    assert folder / "out" / "energy-volume.png" in write_report(folder / "out")


def test_every_density_of_states_that_is_asked_for_has_its_figure(tmp_path):
    names = [f"phonon_density_of_states(2.5,{mesh},3)" for mesh in range(2, 14)]
    numbers = {"value": [0.0, 1.0, 0.5], "units": "1/THz", "labels": ["f=0.5", "f=1.5", "f=2.5"]}
    results = {
        "observables": dict.fromkeys(names, numbers),
        "sensitivities": {name: {"sigma": [0.1, 0.0, -0.1]} for name in names},
        "units": {"sensitivities": {name: {"sigma": "(1/THz)/Ang"} for name in names}},
        "vectors": ["dsigma"],
    }
    shown = {"": Shown(ase.Atoms("Ar"), [], 0)}
    sets = figure_sets(tmp_path, results, shown)
    densities = [draw for draw in sets if names[0] in draw.args or names[-1] in draw.args]
    drawn = {file: figure for draw in densities for file, figure in draw()}
    assert list(drawn) == ["phonon-density-dsigma", "phonon-density-12-dsigma"]
    # Each says which it is.
    assert [figure.axes[0].get_title() for figure in drawn.values()] == [names[0], names[-1]]
    possible = possible_figures({"": names}, ["sigma"])
    assert {f"{file}.png" for file in drawn} <= set(possible)
    assert len(set(possible)) == len(possible)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("energy_volume.points=2", "energy_volume.points = 2: give 3 or more, or 0"),
        ("energy_volume.uncertainty={sgima=0.1}", "energy_volume.uncertainty: 'sgima'"),
        ("energy_volume.uncertainty={sigma=-0.1}", "energy_volume.uncertainty"),
        ("energy_volume.strain=0.6", "energy_volume.strain"),
    ],
)
def test_curves_that_cannot_be_are_refused(folder, setting, said):
    with pytest.raises(InputError, match=said.split("[")[0]):
        load_study(folder, [setting])
