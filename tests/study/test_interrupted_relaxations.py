"""Runs whose relaxation is interrupted go on from its checkpoint with --resume."""

import json

import pytest

import mdsens
from mdsens.relaxation import checkpoint as checkpoints
from mdsens.study import load_study, run_study
from mdsens.study import study as studies
from mdsens.study.run_lock import CHECKPOINTS_NAME, run_folder

pytestmark = pytest.mark.xdist_group("checkpoints")


@pytest.fixture
def steps_seen(monkeypatch):
    """Steps after which the clock is looked at; a number set as the limit interrupts there."""
    monkeypatch.setattr(checkpoints.Checkpoint, "due", True)
    monkeypatch.setattr("mdsens.relaxation.driver.SEGMENT_STEPS", 2)
    seen = {"steps": [], "limit": 10**9}

    def callback(step, *_):
        seen["steps"].append(step)
        if step >= seen["limit"]:
            raise KeyboardInterrupt

    def relax(*args, **options):
        return mdsens.relax(*args, callback=callback, **options)

    monkeypatch.setattr(studies, "relax", relax)
    return seen


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    del found["timing"]
    return found, (folder / "relaxed.extxyz").read_bytes(), (folder / "history.csv").read_bytes()


def interrupt(seen, do):
    seen["limit"] = 6
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        do()
    seen["limit"], seen["steps"] = 10**9, []


def test_a_run_goes_on_with_the_same_results(trimer, tmp_path, steps_seen):
    out, whole = tmp_path / "out", tmp_path / "whole"
    study, kept = load_study(trimer), run_folder(out) / CHECKPOINTS_NAME
    run_study(study, whole, report=False)
    interrupt(steps_seen, lambda: run_study(study, out, report=False))
    assert len(list(kept.iterdir())) == 1
    assert not out.exists()
    run_study(study, out, report=False, resume=True)
    assert steps_seen["steps"][0] > 4
    assert results(out) == results(whole)
    assert not run_folder(out).exists()

    # Without resume, and for a study that was changed, the relaxation begins anew.
    changed = load_study(trimer, ["relaxation.fmax=1e-8"])
    for other, resume in ((study, False), (changed, True)):
        interrupt(steps_seen, lambda: run_study(study, out, report=False))
        run_study(other, out, report=False, resume=resume)
        assert steps_seen["steps"][0] == 2
        assert not run_folder(out).exists()


@pytest.mark.slow
def test_the_command_says_how_to_go_on(trimer, command, steps_seen, capfd):
    interrupt(steps_seen, lambda: command("run", trimer, "--out", "out"))
    assert "give --resume to go on from it" in capfd.readouterr().err
    assert command("run", trimer, "--out", "out", "--resume")[0] == 0
    assert steps_seen["steps"][0] > 4


@pytest.mark.slow
def test_a_sweep_goes_on_within_a_run(trimer, tmp_path, command, steps_seen):
    with (trimer / "study.toml").open("a") as file:
        file.write('\n[sweep]\n"potential.sigma" = [3.4, 3.5]\n')
    assert command("run", trimer, "--out", "whole")[0] == 0
    interrupt(steps_seen, lambda: command("run", trimer, "--out", "out"))
    assert command("run", trimer, "--out", "out", "--resume")[0] == 0
    assert steps_seen["steps"][0] > 4
    for run in ("0000", "0001"):
        folders = (tmp_path / name / "runs" / run for name in ("out", "whole"))
        one, other = map(results, folders)
        assert one == other
    assert not run_folder(tmp_path / "out" / "runs" / "0000").exists()
