"""Runs of a sweep side by side: the numbers of runs alone, and the same bits whatever ends them."""

import json

import numpy as np
import pytest

import mdsens
from mdsens.study import load_study, read_sweep, run_study, run_sweep, sweep_attempt
from mdsens.study.sweep_batch import groups_of

SWEEP = """
[sweep]
batch_size = 4
"potential.sigma" = { from = 3.3, to = 3.6, count = 7 }
"""

# They share compiled code in one process.
pytestmark = pytest.mark.xdist_group("sweeps in batches")


def with_sweep(folder, text):
    """The sweep of a study to which a table is added."""
    path = folder / "study.toml"
    path.write_text(path.read_text().split("\n[sweep]")[0] + text)
    return read_sweep(folder)


def files(folder):
    """What is in the folder of each run, but for times and markers."""
    found = {}
    for path in sorted(folder.glob("runs/*/*")):
        if path.name == "results.json":
            results = json.loads(path.read_text())
            del results["timing"]
            found[path.parent.name] = results
        elif path.is_file() and not path.name.startswith("."):
            found[path.parent.name, path.name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, trimer_files):
    """A study, and its sweep that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    for name, text in trimer_files.items():
        (folder / name).write_text(text)
    finished = run_sweep(with_sweep(folder, SWEEP), folder / "out")
    assert finished.counts == {"finished": 7, "failed": 0, "pending": 0}
    return folder


def test_groups_follow_from_the_swept_keys(trimer):
    assert groups_of(with_sweep(trimer, SWEEP)) == [(0, 1, 2, 3), (4, 5, 6)]
    # What is the same for all structures of a batch keeps runs apart.
    two = SWEEP + '"relaxation.pressure" = ["0 GPa", "1 GPa"]\n'
    assert groups_of(with_sweep(trimer, two)) == [
        (0, 2, 4, 6), (1, 3, 5, 7), (8, 10, 12), (9, 11, 13)
    ]  # fmt: skip
    few = [(run,) for run in range(7)]
    for line in ("batch_size = 1", "batch_size = 8", "reports = true"):
        assert groups_of(with_sweep(trimer, SWEEP.replace("batch_size = 4", line))) == few
    sixteen = SWEEP.replace("batch_size = 4", "").replace("7", "35")
    assert [len(group) for group in groups_of(with_sweep(trimer, sixteen))] == [12, 12, 11]


def test_three_atoms_are_at_the_distances_of_each_setting(whole):
    with mdsens.load(whole / "out") as found:
        sigma = found["potential.sigma"]
        # Forces of up to 1e-9 eV/Ang move the ends of a pair by 2e-8 Ang.
        np.testing.assert_allclose(found["distance(0,1)"], 2 ** (1 / 6) * sigma, atol=2e-8, rtol=0)
        slopes = found["d_distance(0,1)"].sel(parameter="sigma")
        np.testing.assert_allclose(slopes, 2 ** (1 / 6), rtol=1e-8)
        np.testing.assert_allclose(found["energy"], -3 * 0.0104, rtol=1e-9)
        assert (found["steps"] > 0).all()


def test_a_run_says_what_it_says_alone(whole, tmp_path):
    text = (whole / "study.toml").read_text().split("\n[sweep]")[0]
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "trimer.xyz").write_bytes((whole / "trimer.xyz").read_bytes())
    study = load_study(tmp_path, ["potential.sigma=3.45"])
    alone = run_study(study, tmp_path / "alone", report=False).folder / "results.json"
    alone, one = (
        json.loads(path.read_text()) for path in (alone, whole / "out/runs/0003/results.json")
    )
    assert set(one) == {*alone, "sweep"}
    assert one["fingerprint"] == alone["fingerprint"]
    assert one["certificate"]["null_modes_by_kind"] == alone["certificate"]["null_modes_by_kind"]
    for results in (one, alone):
        # Both are within their own errors of one another.
        assert results["certificate"]["derivative_error"] < 1e-6
    for name, slopes in alone["sensitivities"].items():
        for parameter, slope in slopes.items():
            assert one["sensitivities"][name][parameter] == pytest.approx(slope, rel=1e-7, abs=1e-9)


def test_a_group_that_was_interrupted_has_the_same_bits(whole, tmp_path, monkeypatch):
    one_run, count = sweep_attempt.run_study, []

    def interrupted(*args, **kwargs):
        count.append(None)
        if len(count) in (3, 6):
            raise KeyboardInterrupt
        return one_run(*args, **kwargs)

    monkeypatch.setattr(sweep_attempt, "run_study", interrupted)
    sweep, out = read_sweep(whole), tmp_path / "out"
    for finished in (2, 4):
        with pytest.raises(KeyboardInterrupt, match=f"{finished} of 7 runs are finished"):
            run_sweep(sweep, out, resume=True)
    monkeypatch.undo()
    run_sweep(sweep, out, resume=True)
    assert files(out) == files(whole / "out")


def test_what_a_batch_cannot_do_is_done_alone(trimer, tmp_path):
    # One of these has no second atom that the distance could be to.
    (trimer / "one.xyz").write_text("1\n\nAr 0 0 0\n")
    sweep = with_sweep(
        trimer,
        '\n[sweep]\nbatch_size = 3\n"structure.file" = ["trimer.xyz", "one.xyz"]\n'
        '"potential.sigma" = [3.3, 3.4]\n',
    )
    assert groups_of(sweep) == [(0, 1), (2, 3)]
    finished = run_sweep(sweep, tmp_path / "out")
    assert sorted(finished.failed) == [2, 3]
    assert all("distance(0,1)" in reason for reason in finished.failed.values())
