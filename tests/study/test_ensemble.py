"""An ensemble of random starts: what it says agrees with the library, and is on disk."""

import json

import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError
from mdsens.study import load_study, read_sweep, run_study, run_sweep, sweep_batch, write_report
from mdsens.study.ensemble import run_ensemble, run_ensembles, summary
from mdsens.study.results import finite
from mdsens.study.results_file import Results
from mdsens.study.sweep_batch import groups_of
from mdsens.study.sweep_file import read_manifest
from mdsens.study.sweep_report import ensemble_of_all
from mdsens.study.sweep_results import finished_results

pytestmark = pytest.mark.xdist_group("ensemble")

#: The second of these two packings has two rattlers.
SETTINGS = [
    "structure.count=20", "structure.packing_fraction=0.88", "ensemble.seeds=2",
    "ensemble.steps=120", 'sensitivity.observables=["energy"]',
    'sensitivity.wrt=["diameter[small]"]',
]  # fmt: skip


@pytest.fixture(scope="module")
def study():
    return load_study("soft-spheres-2d", SETTINGS)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    return run_study(study, tmp_path_factory.mktemp("runs") / "ensemble")


@pytest.fixture(scope="module")
def arrays(finished):
    with np.load(finished.folder / "ensemble.npz") as file:
        return dict(file)


@pytest.mark.slow
def test_results_have_the_keys_that_are_read(finished):
    results = Results.model_validate_json((finished.folder / "results.json").read_bytes())
    assert results.ensemble is not None
    sections = [results, results.ensemble, results.ensemble.units, *results.ensemble.starts]
    assert [section.model_extra for section in sections] == [{}] * len(sections)


def test_results_tell_about_every_start(finished):
    results = json.loads((finished.folder / "results.json").read_text())
    ensemble = results["ensemble"]
    assert ensemble["parameter"] == "diameter[small]"
    assert ensemble["minimiser"] == "FIRE"
    assert ensemble["marks"] == [50, 100, 120]
    assert [start["seed"] for start in ensemble["starts"]] == [0, 1]
    assert [start["rattlers"] for start in ensemble["starts"]] == [0, 2]
    for start in ensemble["starts"]:
        assert start["converged"] is True
        assert start["finite_difference_error"] < 1e-6
        assert set(start["distances"]) == {"50", "100", "120"}
    assert results["timing"]["ensemble_s"] > 0


@pytest.mark.slow
def test_the_implicit_norm_is_that_of_the_library(study, finished, arrays):
    """Relaxed from the random start itself, in one go."""
    for index, start in enumerate(study.starts(study.seeds)):
        minimum = mdsens.relax(start, study.potential, "fire", 1e-11, 100_000)
        held = ~np.asarray(minimum.landscape.rattlers)
        np.testing.assert_allclose(arrays["positions"][index][held], minimum.positions[held],
                                   atol=1e-7)  # fmt: skip
        moved = np.asarray(
            mdsens.sensitivity(minimum, wrt="diameter[small]").positions["diameter[small]"]
        )
        expected = np.abs(moved[held] - moved[held].mean(axis=0)).sum()
        start = finished.results["ensemble"]["starts"][index]
        assert start["implicit_norm"] == pytest.approx(expected, rel=1e-5)


def test_distances_leave_rattlers_and_drifts_out(arrays):
    for index, loose in enumerate(arrays["rattlers"]):
        off = (arrays["unrolled"] - arrays["implicit"])[index][~loose]
        expected = np.abs(off - off.mean(axis=0)).sum() / arrays["implicit_norms"][index]
        assert arrays["distances"][-1, index] == pytest.approx(expected, rel=1e-9)
    assert np.all(arrays["implicit"][1][arrays["rattlers"][1]] == 0.0)
    assert arrays["rattler_norms"][-1, 0] == 0.0
    rows = arrays["unrolled"][1][arrays["rattlers"][1]]
    assert arrays["rattler_norms"][-1, 1] == pytest.approx(np.abs(rows).sum())
    assert np.abs(rows).sum() > 0.1


def test_the_report_is_made_anew_from_the_files(finished):
    page = (finished.folder / "report.html").read_text()
    assert "Ensemble of random starts" in page
    assert "0 of 2" in page
    (finished.folder / "ensemble.png").unlink()
    written = write_report(finished.folder)
    assert finished.folder / "ensemble.png" in written
    assert (finished.folder / "report.html").read_text() == page


def test_the_figure_shows_every_start(finished, arrays):
    from mdsens import plots

    norms, distances = plots.ensemble_figure(arrays, finished.results["ensemble"]).axes
    assert norms.get_ylabel() == "L₁ norm of d x / d diameter[small] (reduced units)"
    drawn = [line.get_ydata() for line in norms.lines if len(line.get_xdata()) == 12]
    assert len(drawn) == 2
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(arrays["unrolled_norms"].T, axis=0))
    # The one with rattlers is dashed.
    assert [line.get_linestyle() for line in distances.lines[:2]] == ["-", "--"]


def test_starts_that_do_not_converge_have_no_implicit_derivative(study):
    stopped = load_study("soft-spheres-2d", [*SETTINGS, "relaxation.max_steps=1"])
    ensemble = run_ensemble(stopped)
    assert ensemble.kinds == ("unconverged", "unconverged")
    assert np.isnan(ensemble.implicit_norms).all()
    told = finite(summary(ensemble, study.potential, "reduced"))["starts"][0]
    assert told["converged"] is False
    assert told["implicit_norm"] is None
    assert told["distances"]["50"] is None
    assert told["unrolled_norms"]["50"] > 0


def test_without_seeds_there_is_no_ensemble():
    study = load_study("soft-spheres-2d")
    assert study.seeds == ()
    with pytest.raises(InputError, match=r"ensemble\.seeds = 0"):
        run_ensemble(study)


def test_a_rattled_structure_from_a_file_has_starts(trimer):
    study = load_study(
        trimer,
        ["structure.rattle.amplitude=0.1", "structure.rattle.seed=4", "ensemble.seeds=2",
         "ensemble.parameter=sigma"],
    )  # fmt: skip
    assert study.seeds == (4, 5)
    same, other = study.starts(study.seeds)
    assert (same.positions == study.system.positions).all()
    assert (other.positions != study.system.positions).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], ["ensemble.seeds = 3", "no seed", "structure.rattle"]),
        (["structure.rattle.amplitude=0.1", "relaxation.method=auto"], ["'auto'", "fire, grad"]),
        (["structure.rattle.amplitude=0.1"], ["ensemble.parameter is missing", "epsilon, sigma"]),
        (["ensemble.parameter=sigm"], ["ensemble.parameter", "'sigm'", "'sigma'?"]),
        (["ensemble.seed=3"], ["ensemble.seed", "seeds, steps, parameter", "'seeds'?"]),
        (["ensemble.steps=0"], ["ensemble.steps", "greater than 0"]),
        (["ensemble.seeds=-1"], ["ensemble.seeds", "-1"]),
    ],
)
def test_a_mistake_is_one_line(trimer, settings, words):
    with pytest.raises(InputError) as caught:
        load_study(trimer, ["ensemble.seeds=3", *settings])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_cell_that_relaxes_has_no_ensemble():
    with pytest.raises(InputError, match=r"relaxation\.cell = 'isotropic'"):
        load_study("soft-spheres-2d", ["ensemble.seeds=2", "relaxation.cell=isotropic"])


def test_a_name_of_several_parameters_is_a_mistake():
    with pytest.raises(InputError, match=r"ensemble\.parameter.*diameter\[large\]"):
        load_study("soft-spheres-2d", ["ensemble.seeds=2", "ensemble.parameter=diameter"])


@pytest.mark.slow
def test_a_sweep_over_seeds_tells_what_an_ensemble_tells(finished, tmp_path):
    """One start to a run: it can be interrupted, resumed and shared out."""
    seeds = "sweep.'structure.seed'=[0, 1]"
    side_by_side = ["ensemble.seeds=1", seeds, "sweep.batch_size=2"]
    sweep = read_sweep("soft-spheres-2d", [*SETTINGS, *side_by_side])
    assert groups_of(sweep) == [(0, 1)]
    unrolled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_batch, "run_ensembles", lambda of: unrolled.append(run_ensembles(of))
                      or unrolled[0])  # fmt: skip
        run_sweep(sweep, tmp_path / "out")
    # Once for both runs, and not again for each.
    assert [len(ensembles) for ensembles in unrolled] == [2]
    starts = finished.results["ensemble"]["starts"]
    with mdsens.load(tmp_path / "out") as found:
        assert found["ensemble_distances"].dims == ("structure.seed", "start", "mark")
        assert found["mark"].values.tolist() == [50, 100, 120]
        assert found["ensemble_seed"].values.ravel().tolist() == [0, 1]
        assert found["ensemble_rattlers"].values.ravel().tolist() == [0, 2]
        assert found["ensemble_implicit_norm"].attrs["units"] == "reduced"
        for run, start in enumerate(starts):
            told = found["ensemble_distances"][run, 0].values
            np.testing.assert_allclose(told, list(start["distances"].values()), rtol=1e-6)
            norm = float(found["ensemble_implicit_norm"][run, 0])
            assert norm == pytest.approx(start["implicit_norm"], rel=1e-6)
    # Beside the figures over the seed is that of all starts.
    manifest = read_manifest(tmp_path / "out")
    results = dict(finished_results(tmp_path / "out", manifest))
    figure = ensemble_of_all(tmp_path / "out", results)
    norms, _ = figure.axes
    drawn = [line.get_ydata() for line in norms.lines if len(line.get_xdata()) == 12]
    with np.load(finished.folder / "ensemble.npz") as file:
        wanted = np.sort(file["unrolled_norms"].T, axis=0)
    np.testing.assert_allclose(np.sort(drawn, axis=0), wanted, rtol=1e-6)
    assert (tmp_path / "out" / "sweep-2.png").is_file()


def test_starts_of_several_potentials_are_not_unrolled_side_by_side():
    swept = ["ensemble.seeds=1", "sweep.batch_size=2", "sweep.'potential.epsilon'=[1.0, 2.0]"]
    sweep = read_sweep("soft-spheres-2d", [*SETTINGS, *swept, "sweep.'structure.seed'=[0, 1]"])
    assert groups_of(sweep) == [(0, 1), (2, 3)]
    two = [*SETTINGS, "sweep.batch_size=2", "sweep.'structure.seed'=[0, 1]"]
    assert groups_of(read_sweep("soft-spheres-2d", two)) == [(0,), (1,)]
