"""A run leaves complete results, or nothing."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pandas
import pytest
import study_fixtures

import mdsens
from mdsens.errors import InputError, UnreliableDerivativeError
from mdsens.study import load_study, run_study, write_report
from mdsens.study.output import output_folder
from mdsens.study.results import finite
from mdsens.study.results_file import Results


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a small binary packing, whose parameters are named with brackets."""
    folder = tmp_path_factory.mktemp("runs") / "packing"
    study = load_study(
        "soft-spheres-2d",
        ["structure.count=16", "relaxation.method=auto", "name=small packing", "structure.seed=1"],
    )
    return study, run_study(study, folder, allow_unconverged=False)


def unknown_keys(section) -> list[str]:
    """Keys that the model of results.json does not know, in this part of it and those within."""
    found = list(section.model_extra)
    for value in vars(section).values():
        several = value.values() if isinstance(value, dict) else value
        for inner in several if isinstance(value, (dict, list)) else [value]:
            if hasattr(inner, "model_extra"):
                found += unknown_keys(inner)
    return found


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.slow
def test_results_hold_what_was_promised(finished):
    _, run = finished
    results = strict(run.folder / "results.json")
    assert results["schema"] == 2
    assert results["study"] == "small packing"
    assert results["converged"] is True
    assert 0 <= results["largest_force"] <= results["fmax"] == 1e-10
    assert results["parameters"] == {
        "diameter[large]": 1.0, "diameter[small]": 0.6, "epsilon": 1.0
    }  # fmt: skip
    assert set(results["certificate"]) >= {
        "lowest_eigenvalue", "null_modes", "linear_residual", "derivative_error"
    }  # fmt: skip
    assert results["certificate"]["derivative_error"] < 1e-5
    timing = results["timing"]
    assert 0 < timing["compile_s"] <= timing["relax_s"] + timing["sensitivity_s"]
    assert results["observables"]["pressure"]["units"] == "reduced"
    assert len(results["observables"]["stress"]["value"]) == 3
    assert results["versions"]["mdsens"] == mdsens.__version__


def test_results_have_the_keys_that_are_read(finished):
    _, run = finished
    results = Results.model_validate_json((run.folder / "results.json").read_bytes())
    assert unknown_keys(results) == []


@pytest.mark.slow
def test_every_number_has_an_error_and_noise_is_shown_as_zero(trimer, tmp_path, command):
    status, output, _ = command("run", trimer, "--out", tmp_path / "out")
    assert status == 0
    results = strict(tmp_path / "out" / "results.json")
    # No length in three equal atoms depends on the depth of the well, nor the energy on sigma.
    zeros = {("energy", "sigma"), ("distance(0,1)", "epsilon")}
    table = pandas.read_csv(tmp_path / "out" / "sensitivities.csv")
    for _, row in table.iterrows():
        name, parameter = row["observable"], row["parameter"]
        error = results["sensitivity_errors"][name][parameter]
        assert error == row["derivative_error"]
        assert results["observables"][name]["error"] == row["value_error"] > 0
        is_zero = abs(results["sensitivities"][name][parameter]) <= error
        assert is_zero == ((name, parameter) in zeros)
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", report)
    for name, parameter in zeros:
        (row,) = (r for r in rows if r.startswith(f"<td>{name}</td><td>{parameter}</td>"))
        assert row.split("</td>")[2] == "<td class='number zero'>0"
    # In the terminal, too, below the row of the observable.
    lines = [line.split() for line in output.splitlines()]
    assert any(line[:2] == ["epsilon", "0"] for line in lines)
    assert any(line[:2] == ["sigma", "0"] for line in lines)


def test_names_are_in_one_line_of_a_terminal(trimer, tmp_path, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "sensitivity.observables=['mean_squared_displacement']"
    status, output, _ = command("run", trimer, "--out", tmp_path / "out", "--set", long)
    assert status == 0
    rows = {line.split()[0]: line.split() for line in output.splitlines() if line.strip()}
    assert rows["mean_squared_displacement"][-1] == "Å²"
    assert rows["sigma"][-1] in ("Å", "Å²/Å")


@pytest.mark.slow
def test_results_agree_with_the_library(finished):
    study, run = finished
    results = strict(run.folder / "results.json")
    equilibrium = study.relax()
    sens = mdsens.sensitivity(equilibrium, study.observables)
    assert results["energy"] == pytest.approx(float(equilibrium.energy), rel=1e-12)
    for observable in sens:
        for parameter, derivative in sens[observable].items():
            np.testing.assert_allclose(
                results["sensitivities"][observable][parameter], derivative, rtol=1e-9, atol=1e-12
            )
    atoms = ase.io.read(run.folder / "relaxed.extxyz")
    np.testing.assert_allclose(atoms.positions[:, :2], equilibrium.positions, atol=1e-7)
    np.testing.assert_allclose(atoms.get_forces()[:, :2], equilibrium.forces, atol=1e-7)
    for parameter, moved in sens.positions.items():
        column = results["vectors"][parameter]
        np.testing.assert_allclose(atoms.arrays[column][:, :2], moved, atol=1e-7)
    assert np.abs(atoms.arrays["ddiameter_large"]).max() > 0.01
    table = pandas.read_csv(run.folder / "sensitivities.csv")
    row = table[(table.observable == "energy") & (table.parameter == "epsilon")].iloc[0]
    # The energy is proportional to epsilon.
    assert row.derivative == pytest.approx(results["energy"], rel=1e-9)


def test_the_report_is_made_anew_from_the_files(finished):
    _, run = finished
    made = [*run.folder.glob("*.png"), run.folder / "report.html"]
    assert len(made) >= 5
    page = (run.folder / "report.html").read_text()
    for path in made:
        path.unlink()
    written = write_report(run.folder)
    assert sorted(written) == sorted(made)
    assert (run.folder / "report.html").read_text() == page
    assert "data:image/png;base64," in page
    assert "src='http" not in page
    assert "diameter[large]" in page
    with pytest.raises(InputError, match="no results"):
        write_report(run.folder.parent)
    (run.folder / "relaxed.extxyz").rename(run.folder / "kept")
    with pytest.raises(InputError, match=r"lacks relaxed\.extxyz"):
        write_report(run.folder)
    (run.folder / "relaxed.extxyz").write_text("damaged")
    with pytest.raises(InputError, match=r"'relaxed\.extxyz' was changed"):
        write_report(run.folder)
    (run.folder / "kept").rename(run.folder / "relaxed.extxyz")


def test_a_missing_structure_is_named_before_anything_is_begun(trimer, tmp_path):
    study = load_study(trimer, ["structure.file=trimr.xyz"])
    with pytest.raises(
        InputError, match=r"structure\.file = 'trimr.xyz': there is no such file"
    ) as line:
        run_study(study, tmp_path / "results")
    assert "did you mean 'trimer.xyz'" in str(line.value)
    assert not (tmp_path / "results").exists()


def test_results_can_be_run_again(trimer, tmp_path):
    """By themselves, from where they ended, and into their own folder."""
    first = run_study(load_study(trimer, ["potential.sigma=3.3"]), tmp_path / "first")
    again = load_study(tmp_path / "first")
    assert again.name == "trimer"
    assert again.potential.parameters["sigma"] == 3.3
    assert again.only.structure_file == tmp_path / "first" / "input" / "trimer.xyz"
    assert again.only.structure_file.read_text() == (trimer / "trimer.xyz").read_text()
    on = load_study(tmp_path / "first", ["structure.file=relaxed.extxyz", "potential.sigma=3.4"])
    start = ase.io.read(tmp_path / "first" / "relaxed.extxyz")
    second = run_study(on, tmp_path / "first")
    kept = ase.io.read(tmp_path / "first" / "input" / "relaxed.extxyz")
    np.testing.assert_array_equal(kept.positions, start.positions)
    assert not (tmp_path / "first" / "input" / "trimer.xyz").exists()
    # Three pairs, each at the bottom of its well, whatever sigma is; the lengths go with it.
    assert second.results["energy"] == pytest.approx(first.results["energy"], rel=1e-9)
    lengths = [run.results["observables"]["distance(0,1)"]["value"] for run in (first, second)]
    assert lengths[1] / lengths[0] == pytest.approx(3.4 / 3.3, rel=1e-8)


def test_a_run_keeps_what_else_the_structure_has(trimer, tmp_path):
    """Also where a reader of ASE, or an earlier run, has left what no file can hold or should."""
    study = load_study(trimer)
    atoms = study.only.atoms
    atoms.set_tags([4, 5, 6])
    atoms.set_initial_charges([0.5, 0.0, -0.5])
    atoms.info = {"origin": "a drawer", "reader": object(), "Lattice": "none", "energy": -1.0}
    atoms.set_array("dsigma", np.ones((3, 3)))
    atoms.set_array("a name", np.array(["a b", "", "c"]))
    run = run_study(study, tmp_path / "out")
    written = ase.io.read(run.folder / "relaxed.extxyz")
    assert written.info == {"origin": "a drawer"}
    assert written.get_tags().tolist() == [4, 5, 6]
    assert written.get_initial_charges().tolist() == [0.5, 0.0, -0.5]
    assert written.get_potential_energy() == pytest.approx(run.results["energy"])
    assert "a name" not in written.arrays
    moved = run.sensitivity.positions["sigma"]
    np.testing.assert_allclose(written.arrays["dsigma"], moved, atol=1e-7)


@pytest.mark.slow
def test_where_the_cell_relaxes_its_derivatives_are_written(tmp_path):
    study = load_study("argon-vacancy", ["relaxation.cell=isotropic", "sensitivity.wrt=['sigma']"])
    run = run_study(study, tmp_path / "out")
    results = strict(run.folder / "results.json")
    expected = np.asarray(run.sensitivity.cell["sigma"]).tolist()
    assert results["cell_derivatives"] == {"sigma": expected}
    assert results["units"]["cell_derivatives"] == {"sigma": "1"}
    assert not unknown_keys(Results.model_validate(results))


def test_an_unconverged_structure_is_refused_unless_allowed(trimer, tmp_path):
    study = load_study(trimer, ["relaxation.max_steps=1"])
    with pytest.raises(UnreliableDerivativeError, match="unconverged"):
        run_study(study, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trimer"]
    run_study(study, tmp_path / "out", allow_unconverged=True)
    assert strict(tmp_path / "out" / "results.json")["converged"] is False
    assert "unconverged" in (tmp_path / "out" / "report.html").read_text()


def _disk_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_study_may_allow_what_is_unconverged_and_do_without_errors(trimer, tmp_path):
    settings = ["relaxation.max_steps=1", "sensitivity.allow_unconverged=true",
                "sensitivity.error_estimate=false"]  # fmt: skip
    finished = run_study(load_study(trimer, settings), tmp_path / "out")
    assert not finished.results["converged"]
    assert np.isnan(finished.sensitivity.errors["energy"]["epsilon"])
    assert (
        strict(tmp_path / "out" / "results.json")["sensitivity_errors"]["energy"]["epsilon"] is None
    )


def test_an_earlier_run_is_there_until_the_end(trimer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run_study(load_study(trimer), out)
    before = (out / "results.json").read_text()
    with pytest.raises(UnreliableDerivativeError):
        run_study(load_study(trimer, ["relaxation.max_steps=1"]), out)
    assert (out / "results.json").read_text() == before
    (out / "notes.txt").write_text("of the user")
    with monkeypatch.context() as patch:
        patch.setattr("mdsens.study.report.make_report", _disk_full)
        with pytest.raises(InputError, match="No space left on device"):
            run_study(load_study(trimer), out)
    assert (out / "results.json").read_text() == before
    run_study(load_study(trimer, ["potential.epsilon=0.02"]), out)
    assert (out / "notes.txt").read_text() == "of the user"
    assert strict(out / "results.json")["parameters"]["epsilon"] == 0.02
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "trimer"]


def test_a_folder_of_others_is_not_replaced(trimer, tmp_path, monkeypatch):
    study = load_study(trimer)
    monkeypatch.setattr(
        type(study.only), "relax", lambda *_: pytest.fail("computed before checking")
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    (tmp_path / "file").write_text("important")
    for out in ("mine", "file", "file/out"):
        with pytest.raises(InputError, match="--out"):
            run_study(study, tmp_path / out)
    with pytest.raises(InputError, match="cannot be written"):
        run_study(study, "/proc/mdsens/out")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "important"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "trimer"]


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupted():
        with output_folder(tmp_path / "results" / "study") as folder:
            (folder / "results.json").write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "terminate"]
)
def test_a_signal_leaves_nothing_behind(trimer, tmp_path, program, number, status):
    # Long enough to be interrupted on any machine: fmax is out of reach.
    process = program(
        "run", trimer, "--set", "relaxation.fmax=1e-300",
        "--set", "relaxation.max_steps=1000000000", "--set", "relaxation.method=gradient-descent",
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("results/.trimer.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == status
    assert ("interrupted" in errors.splitlines()[-1]) == (number == signal.SIGINT)
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trimer"]


def test_a_process_is_ended_with_its_pipes():
    """As the processes of a test are that has failed before it read what they said."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.PIPE
    )
    study_fixtures.ended(process)
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.closed


#: A command that goes on for a while after a signal has come inside a callback of the collector.
SWALLOWING = """
import gc, signal, sys, time
from mdsens import cli

def swallow(phase, _, left=[1]):
    while left:
        left.pop()
        signal.raise_signal(int(sys.argv[1]))

def command(*_, **__):
    gc.callbacks.append(swallow)
    gc.collect()
    for _ in range(3000):
        time.sleep(0.01)

signal.signal(signal.SIGINT, signal.default_int_handler)
cli.app = command
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "terminate"]
)
def test_a_signal_is_heard_where_python_drops_what_it_raises(number, status):
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING, str(int(number))],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_numbers_that_are_not_finite_become_null():
    assert finite({"a": [1.0, float("nan")], "b": (float("inf"), "x")}) == {
        "a": [1.0, None], "b": [None, "x"]
    }  # fmt: skip
