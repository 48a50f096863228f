"""Sweeps: what they run, where it goes, and that nothing is lost, whatever ends them."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray
from compiled_programs import compiled

import mdsens
from mdsens.errors import InputError
from mdsens.study import load_study, read_sweep, run_study, run_sweep, sweep_attempt
from mdsens.study.output import kept_folder
from mdsens.study.run_lock import LOCK_NAME, run_folder
from mdsens.study.sweep_file import JOURNAL_NAME, known_states, read_manifest
from mdsens.study.sweep_report import is_of_summary, write_summary

GRID = """
[sweep]
"potential.sigma" = ["0.33 nm", 3.4, 3.5]
"potential.epsilon" = [0.01, 0.02]
"""

# Runs share compiled code in one process.
pytestmark = pytest.mark.xdist_group("sweeps")


def with_sweep(folder, text):
    """The study with a sweep."""
    path = folder / "study.toml"
    kept = path.read_text().split("\n[sweep]")[0].rstrip()
    path.write_text(f"{kept}\n{text}")
    return folder


def settings_of(folder, text):
    """The settings of each run."""
    sweep = read_sweep(with_sweep(folder, text))
    return [sweep.settings(run) for run in range(sweep.count)]


def numbers(folder):
    """What is in the results of each run, but for times."""
    found = {}
    for path in sorted(folder.glob("runs/*/results.json")):
        results = json.loads(path.read_text())
        del results["timing"]
        found[path.parent.name] = results
        # A run of a batch has no history of its own.
        for name in ("relaxed.extxyz", "sensitivities.csv", "study.toml", "history.csv"):
            file = path.parent / name
            assert file.exists() or name == "history.csv"
            found[path.parent.name, name] = file.read_bytes() if file.exists() else None
    return found


def test_in_a_grid_the_last_key_changes_first(trimer):
    runs = settings_of(trimer, GRID)
    sigma, epsilon = "potential.sigma", "potential.epsilon"
    assert runs[:3] == [
        {sigma: "0.33 nm", epsilon: 0.01}, {sigma: "0.33 nm", epsilon: 0.02},
        {sigma: 3.4, epsilon: 0.01},
    ]  # fmt: skip
    assert len(runs) == 6
    assert read_sweep(trimer).table_of(2)["potential"]["sigma"] == 3.4


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('"relaxation.fmax" = { from = 1e-9, to = 3e-9, count = 3 }', [1e-9, 2e-9, 3e-9]),
        ('"potential.sigma" = { from = "0.34 nm", to = "0.35 nm", count = 3 }',
         ["0.34 nm", "0.345 nm", "0.35 nm"]),
        ('"relaxation.max_steps" = { from = 10, to = 30, count = 3 }', [10, 20, 30]),
        ('"relaxation.fmax" = { from = 1e-9, to = 1e-7, count = 3, spacing = "log" }',
         [1e-9, 1e-8, 1e-7]),
        ('"relaxation.max_steps" = { from = 10, to = 80, count = 4, spacing = "log" }',
         [10, 20, 40, 80]),
        ('"potential.sigma" = { from = "0.32 nm", to = "0.5 nm", count = 3, spacing = "log" }',
         ["0.32 nm", "0.4 nm", "0.5 nm"]),
        ('"relaxation.method" = ["lbfgs", "newton"]', ["lbfgs", "newton"]),
        ('"structure.file" = "*.xyz"', ["other.xyz", "trimer.xyz"]),
    ],
)  # fmt: skip
def test_values_are_lists_ranges_and_patterns_of_files(trimer, text, values):
    (trimer / "other.xyz").write_bytes((trimer / "trimer.xyz").read_bytes())
    (key,) = read_sweep(with_sweep(trimer, f"[sweep]\n{text}")).keys
    assert list(key.values) == values
    assert [type(value) for value in key.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"relaxation.fmax" = { from = 0.0, to = 1.0, count = 3, spacing = "log" }', "positive"),
        ('"relaxation.fmax" = { from = 1.0, to = 2.0, count = 3, spacing = "lin" }', "linear, log"),
        ('"relaxation.max_steps" = { from = 1, to = 4, count = 9, spacing = "log" }', "smaller"),
        ('mode = "random"\nsamples = 3\n"relaxation.fmax" = { from = 1.0, to = 2.0, '
         'spacing = "log" }', "leave spacing out"),
    ],
)  # fmt: skip
def test_ranges_of_logarithms_that_are_none(trimer, text, words):
    with pytest.raises(InputError, match=words):
        read_sweep(with_sweep(trimer, f"[sweep]\n{text}"))


def test_zipped_keys_change_together(trimer):
    runs = settings_of(trimer, GRID.replace(", 3.5]", "]") + 'mode = "zip"')
    assert [list(run.values()) for run in runs] == [["0.33 nm", 0.01], [3.4, 0.02]]


def test_latin_hypercubes_have_one_sample_in_each_stratum(trimer):
    text = """[sweep]
mode = "latin-hypercube"
samples = 50
seed = 3
"potential.sigma" = { from = 3.0, to = 4.0 }
"potential.epsilon" = { from = "10 meV", to = "20 meV" }
"""
    runs = settings_of(trimer, text)
    sigmas = np.array([run["potential.sigma"] for run in runs])
    epsilons = np.array([float(run["potential.epsilon"].removesuffix(" meV")) for run in runs])
    assert sorted(np.floor((sigmas - 3.0) * 50)) == list(range(50))
    assert sorted(np.floor((epsilons - 10.0) * 5)) == list(range(50))
    assert abs(np.corrcoef(sigmas, epsilons)[0, 1]) < 0.5
    assert settings_of(trimer, text) == runs
    assert settings_of(trimer, text.replace("seed = 3", "seed = 4")) != runs
    # More random samples begin with those that were there.
    plain = text.replace("latin-hypercube", "random")
    assert settings_of(trimer, plain.replace("50", "60"))[:50] == settings_of(trimer, plain)


@pytest.mark.parametrize("pattern", ["../*.xyz", "/etc/host*", "*/../../*.xyz", "links/*.xyz", ""])
def test_patterns_do_not_lead_out_of_the_folder_of_the_study(trimer, pattern):
    (trimer.parent / "secret.xyz").write_text("1\n\nAr 0 0 0\n")
    (trimer / "links").mkdir()
    (trimer / "links" / "out.xyz").symlink_to(trimer.parent / "secret.xyz")
    with pytest.raises(InputError, match="folder"):
        read_sweep(with_sweep(trimer, f'[sweep]\n"structure.file" = "{pattern}"'))


def test_a_sweep_is_checked_before_jax_is_imported(trimer):
    with_sweep(trimer, '[sweep]\n"potential.sgima" = [3.4]')
    code = (
        "import sys\nfrom mdsens.study import read_sweep\nimport mdsens\n"
        f"try: read_sweep({str(trimer)!r})\nexcept mdsens.InputError as error: print(error)\n"
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did you mean 'sigma'?" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.fixture(scope="module")
def swept(tmp_path_factory, trimer_files):
    """A study, its finished sweep, and the programs that each run compiled."""
    folder = tmp_path_factory.mktemp("swept")
    for name, text in trimer_files.items():
        (folder / name).write_text(text)
    with_sweep(folder, GRID)
    counts, one_run = [], sweep_attempt.run_study

    def counted(*args, **kwargs):
        before = len(compiled)
        one_run(*args, **kwargs)
        counts.append(len(compiled) - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_attempt, "run_study", counted)
        finished = run_sweep(read_sweep(folder), folder / "out")
    assert finished.counts == {"finished": 6, "failed": 0, "pending": 0}
    return folder, folder / "out", counts


def test_what_a_run_left_that_was_killed_once_it_was_written_down_is_swept_away(swept):
    folder, out, _ = swept
    before = numbers(out)
    left = run_folder(out / "runs/0003")
    left.mkdir()
    (left / LOCK_NAME).touch()
    assert run_sweep(read_sweep(folder), out, resume=True).counts["finished"] == 6
    assert sorted(os.listdir(out / "runs")) == [f"{run:04d}" for run in range(6)]
    assert numbers(out) == before


def test_only_the_first_run_of_a_sweep_over_parameters_compiles(swept):
    _, _, counts = swept
    assert counts[1:] == [0] * 5


def test_three_atoms_are_at_the_distances_of_each_setting(swept):
    _, out, _ = swept
    with mdsens.load(out) as found:
        assert dict(found.sizes) == {"potential.sigma": 3, "potential.epsilon": 2, "parameter": 2}
        np.testing.assert_allclose(found["potential.sigma"], [3.3, 3.4, 3.5], rtol=1e-15)
        assert found["potential.sigma"].attrs["units"] == "Ang"
        assert found["energy"].attrs["units"] == "eV"
        assert found["d_distance(0,1)"].attrs["units_epsilon"] == "Ang/eV"
        sigma, epsilon = found["potential.sigma"], found["potential.epsilon"]
        # At the distance 2^(1/6) sigma each pair has the energy -epsilon. Forces of up to 1e-9
        # eV/Ang move its ends by 2e-8 Ang, of the stiffness 57 epsilon / sigma^2.
        wanted = (2 ** (1 / 6) * sigma).broadcast_like(found["distance(0,1)"])
        np.testing.assert_allclose(found["distance(0,1)"], wanted, atol=2e-8, rtol=0.0)
        np.testing.assert_allclose(found["energy"], (0.0 * sigma - 3.0 * epsilon), rtol=1e-9)
        slopes = found["d_distance(0,1)"].sel(parameter="sigma")
        np.testing.assert_allclose(slopes, 2 ** (1 / 6), rtol=1e-8)
        np.testing.assert_allclose(found["d_energy"].sel(parameter="epsilon"), -3.0, rtol=1e-9)
        assert (found["state"] == "finished").all()
        assert found.attrs["unit_system"] == "ase"


def test_each_run_is_that_of_its_settings_alone(swept):
    folder, out, _ = swept
    settings = ["potential.sigma=3.4", "potential.epsilon=0.02"]
    run = run_study(load_study(_plain(folder), settings), folder / "alone", report=False)
    one = json.loads((out / "runs" / "0003" / "results.json").read_text())
    assert one.pop("sweep") == {
        "run": 3, "settings": {"potential.sigma": 3.4, "potential.epsilon": 0.02}
    }  # fmt: skip
    alone = json.loads((run.folder / "results.json").read_text())
    for results in (one, alone):
        del results["timing"], results["study"]
    assert one == alone
    loaded = mdsens.load(run.folder)
    assert float(loaded["energy"]) == one["energy"]


def test_the_summary_has_every_run_with_units(swept):
    _, out, _ = swept
    rows = (out / "sweep.csv").read_text().splitlines()
    assert len(rows) == 7
    assert "potential.sigma (Ang),potential.epsilon (eV),state,energy (eV)" in rows[0]
    assert "d energy / d sigma (eV/Ang)" in rows[0]
    assert rows[1].startswith("0,3.3,0.01,finished,-0.0")
    page = (out / "sweep.html").read_text()
    assert page.count("data:image/png") == 2
    assert "<b>" not in page
    assert "default-src 'none'" in page
    manifest = json.loads((out / "sweep.json").read_text())
    assert manifest["keys"]["potential.epsilon"] == {"units": "eV", "values": [0.01, 0.02]}
    assert manifest["runs"][5]["folder"] == "runs/0005"
    assert not run_folder(out).exists()


def test_arrays_as_zarr_hold_what_those_as_netcdf_do_and_are_read_as_they_are_used(swept, tmp_path):
    zarr = pytest.importorskip("zarr")
    _, out, _ = swept
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    manifest = json.loads((copy / "sweep.json").read_text())
    manifest["sweep"]["arrays"] = "zarr"
    (copy / "sweep.json").write_text(json.dumps(manifest))
    (copy / "sweep.nc").unlink()
    summary = tmp_path / "summary"
    summary.mkdir()
    write_summary(copy, summary)
    shutil.copytree(summary / "sweep.zarr", copy / "sweep.zarr")
    with mdsens.load(out) as wanted, mdsens.load(copy) as found:
        assert not found["d_energy"]._in_memory
        xarray.testing.assert_equal(found, wanted)
        assert found["energy"].attrs == wanted["energy"].attrs
        told = {**found.attrs, "sweep": "", "table": ""}
        assert told == {**wanted.attrs, "sweep": "", "table": ""}
    # As another program reads them.
    stored = zarr.open_group(copy / "sweep.zarr", mode="r")
    np.testing.assert_array_equal(stored["energy"][:], wanted["energy"])
    assert stored["energy"].attrs["units"] == "eV"
    assert all(map(is_of_summary, ("sweep.zarr/energy/0.0", "sweep.nc")))


def test_a_finished_sweep_is_kept_and_not_run_again(swept, monkeypatch):
    folder, out, _ = swept
    before = numbers(out)
    with pytest.raises(InputError, match="--resume"):
        run_sweep(read_sweep(folder), out)
    monkeypatch.setattr(sweep_attempt, "run_study", None)
    run_sweep(read_sweep(folder), out, resume=True)
    assert numbers(out) == before
    with pytest.raises(InputError, match="sweep: give another"):
        run_study(load_study(_plain(folder)), out)


def _plain(folder):
    """The same study without its sweep."""
    plain = folder / "plain"
    plain.mkdir(exist_ok=True)
    text = (folder / "study.toml").read_text().split("[sweep]")[0]
    (plain / "study.toml").write_text(text)
    (plain / "trimer.xyz").write_bytes((folder / "trimer.xyz").read_bytes())
    return plain


def test_what_was_interrupted_goes_on_with_the_same_bits(swept, tmp_path, monkeypatch):
    folder, whole, _ = swept
    out, one_run, done = tmp_path / "out", sweep_attempt.run_study, []

    def interrupted(*args, **kwargs):
        if len(done) % 2:
            done.append(None)
            raise KeyboardInterrupt
        done.append(None)
        return one_run(*args, **kwargs)

    monkeypatch.setattr(sweep_attempt, "run_study", interrupted)
    for finished in (1, 2):
        with pytest.raises(KeyboardInterrupt, match=f"{finished} of 6 runs are finished"):
            run_sweep(read_sweep(folder), out, resume=True)
    monkeypatch.undo()
    # The last line was cut short, as on a full disk, and one is lost.
    journal = (out / JOURNAL_NAME).read_bytes().splitlines()
    (out / JOURNAL_NAME).write_bytes(journal[0][:30])
    assert sorted(known_states(out)) == [0, 1]
    # A power cut has left an empty file.
    (out / "runs" / "0001" / "relaxed.extxyz").write_bytes(b"")
    finished = run_sweep(read_sweep(folder), out, resume=True)
    assert finished.counts["finished"] == 6
    assert {k: v for k, v in numbers(out).items() if "damaged" not in str(k)} == numbers(whole)
    assert len(list((out / "runs").glob("0001.damaged-*"))) == 1


def test_a_run_that_fails_is_written_down_and_the_others_go_on(trimer, tmp_path, command):
    text = '[sweep]\n"relaxation.max_steps" = [1000, 0, 1001]\n'
    with_sweep(trimer, text)
    status, said, errors = command("run", trimer, "--out", tmp_path / "out")
    assert status == 1
    assert "2 finished, 1 failed" in said
    assert "run 1 failed: " in errors
    run = read_manifest(tmp_path / "out")["runs"][1]
    assert run["state"] == "failed"
    assert "max_steps" in run["reason"] or "unconverged" in run["reason"]
    with mdsens.load(tmp_path / "out") as found:
        assert np.isnan(found["energy"].values).tolist() == [False, True, False]
    # It is left until it is asked for.
    status, said, errors = command("run", trimer, "--out", tmp_path / "out", "--resume")
    assert status == 1
    assert "--retry-failed" in errors
    status, *_ = command(
        "run", trimer, "--out", tmp_path / "out", "--resume", "--retry-failed",
        "--allow-unconverged",
    )  # fmt: skip
    assert status == 0
    assert read_manifest(tmp_path / "out")["counts"]["finished"] == 3


def test_runs_of_a_changed_study_are_not_mixed_with_others(trimer, tmp_path):
    with_sweep(trimer, '[sweep]\n"potential.sigma" = [3.3]')
    out = tmp_path / "out"
    run_sweep(read_sweep(trimer), out)
    # What fits stays.
    with_sweep(trimer, '[sweep]\n"potential.sigma" = [3.3, 3.4]')
    assert run_sweep(read_sweep(trimer), out, resume=True).counts["finished"] == 2
    before = numbers(out)
    changes = [
        (['potential.epsilon="0.02 eV"'], "potential.epsilon was 0.0104 and is '0.02 eV'"),
        (["sweep.'potential.sigma'=[3.3, 3.5]"], "the sweep has other values"),
    ]
    for settings, words in changes:
        with pytest.raises(InputError, match=words):
            run_sweep(read_sweep(trimer, settings), out, resume=True)
    structure = trimer / "trimer.xyz"
    structure.write_text(structure.read_text().replace("3.7", "3.6"))
    with pytest.raises(InputError, match="a file that it reads has changed"):
        run_sweep(read_sweep(trimer), out, resume=True)
    assert numbers(out) == before


def test_two_sweeps_do_not_write_to_one_folder(trimer, tmp_path):
    sweep = read_sweep(with_sweep(trimer, GRID))
    with (
        kept_folder(tmp_path / "out"),
        pytest.raises(InputError, match="another run of mdsens is writing to it"),
    ):
        run_sweep(sweep, tmp_path / "out", resume=True)


def test_options_that_do_not_fit_are_found_before_anything_is_run(trimer, tmp_path, command):
    path = trimer / "study.toml"
    path.write_text(path.read_text() + '\n[sweep]\n"relaxation.pressure" = ["0 GPa", "1 GPa"]\n')
    status, _, errors = command("run", str(trimer), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "a pressure acts on a cell that relaxes" in errors
    assert not (tmp_path / "out").exists()


def test_the_overview_of_a_sweep_is_made_anew(swept, tmp_path, command):
    _, folder, _ = swept
    shutil.copytree(folder, tmp_path / "copy")
    page = (folder / "sweep.html").read_text()
    for name in ("sweep.html", "sweep.csv"):
        (tmp_path / "copy" / name).unlink()
    status, out, _ = command("report", str(tmp_path / "copy"))
    assert status == 0
    assert str(tmp_path / "copy" / "sweep.html") in out
    assert (tmp_path / "copy" / "sweep.html").read_text() == page
    assert (tmp_path / "copy" / "sweep.csv").read_bytes() == (folder / "sweep.csv").read_bytes()


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_in_a_line_and_it_goes_on(swept, tmp_path, command):
    folder, whole, _ = swept
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Sets a limit between the sizes of sweep.json and results.json and that of the summary.
    for limit in (3_000, 8_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            status, _, errors = command("run", folder, "--out", tmp_path / "out", "--resume")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert status == 2
        assert "cannot be written: File too large" in errors.splitlines()[-1]
    status, *_ = command("run", folder, "--out", tmp_path / "out", "--resume")
    assert status == 0
    assert numbers(tmp_path / "out") == numbers(whole)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with little room, and what gives it more."""
    folder, program = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    if program is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no mount of Linux that could make a small file system")

    def mount(options, *more):
        return subprocess.run([program, "-t", "tmpfs", "-o", options, *more, folder],
                              capture_output=True, text=True)  # fmt: skip

    made = mount("size=120k", "tmpfs")
    if made.returncode:
        pytest.skip(f"a small file system needs the right to mount one: {made.stderr.strip()}")
    try:
        yield folder, lambda: mount("remount,size=10M").check_returncode()
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_small_file_system_that_is_full_ends_a_sweep_in_a_line(swept, small_disk, command):
    folder, whole, _ = swept
    disk, make_larger = small_disk
    for _ in range(2):
        status, _, errors = command("run", folder, "--out", disk / "out", "--resume")
        assert status == 2
        assert "cannot be written: No space left on device" in errors.splitlines()[-1]
    make_larger()
    finished = known_states(disk / "out")
    assert 0 < len(finished) < 6
    begun = {
        run: (disk / f"out/runs/{run:04d}/results.json").stat().st_mtime_ns for run in finished
    }
    assert command("run", folder, "--out", disk / "out", "--resume")[0] == 0
    assert numbers(disk / "out") == numbers(whole)
    # What was finished is not done twice.
    for run, written in begun.items():
        assert (disk / f"out/runs/{run:04d}/results.json").stat().st_mtime_ns == written


def test_a_plain_study_is_resumed_too(trimer, tmp_path, command):
    out = tmp_path / "out"
    arguments = ("run", trimer, "--out", out, "--resume")
    assert command(*arguments)[0] == 0
    written = (out / "results.json").stat().st_mtime_ns
    status, said, errors = command(*arguments)
    assert (status, said) == (0, "")
    assert "finished already" in errors
    assert (out / "results.json").stat().st_mtime_ns == written
    status, _, errors = command(*arguments, "--set", "potential.sigma=3.3")
    assert status == 2
    assert "before it was changed" in errors


def test_a_plan_counts_runs_without_jax(trimer, command):
    with_sweep(trimer, GRID)
    status, said, _ = command("plan", trimer)
    assert status == 0
    assert said.splitlines()[0] == "6 runs (grid)"
    assert "potential.sigma" in said
    status, said, _ = command("plan", trimer, "--measure")
    assert status == 0
    assert "memory: " in said
    assert "in all" in said


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_bits(trimer, tmp_path, program):
    with_sweep(
        trimer, '[sweep]\n"potential.sigma" = { from = 3.3, to = 3.5, count = 24 }\n'
    )  # fmt: skip
    run_sweep(read_sweep(trimer), tmp_path / "whole")
    out, chosen, kills = tmp_path / "out", random.Random(1), 0
    for _ in range(2):
        process = program("run", trimer, "--out", out, "--resume")
        begun = len(known_states(out))
        while process.poll() is None and len(known_states(out)) <= begun:
            time.sleep(0.01)
        time.sleep(chosen.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=600)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 1
    process = program("run", trimer, "--out", out, "--resume")
    begun = len(known_states(out))
    while process.poll() is None and len(known_states(out)) <= begun:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode in (0, 130)
    if process.returncode:
        assert "of 24 runs are finished; give --resume to go on" in errors.splitlines()[-1]
    process = program("run", trimer, "--out", out, "--resume")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert numbers(out) == numbers(tmp_path / "whole")
    assert not list(os.scandir(out / "runs"))[24:]
    with mdsens.load(out) as found, mdsens.load(tmp_path / "whole") as whole:
        assert found.drop_vars("seconds").equals(whole.drop_vars("seconds"))
