"""Sweeps in processes of their own: the same bits, whichever of them dies."""

import contextlib
import os
import signal
import socket
import sys

import pytest

from mdsens.errors import InputError
from mdsens.study import read_sweep, run_sweep, sweep_workers
from mdsens.study.run_lock import run_folder
from mdsens.study.sweep_workers import chosen_workers, part_of_cores

SWEEP = """
[sweep]
mode = "zip"
"potential.sigma" = [3.3, 3.4, 3.5, 3.6, 3.7]
"relaxation.max_steps" = [1000, 1000, 0, 1000, 1000]
"""


def deadly(folder):
    """A worker's part that is killed within run 1 the first time, and within run 3 each time."""

    def dying(task):
        mark = folder / "died"
        run = task.runs[0].run
        if run == 3 or (run == 1 and not mark.exists()):
            mark.touch()
            import mdsens.study.run

            # Where the structure is relaxed and differentiated, and its folder locked.
            mdsens.study.run.collect = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        # That of the worker, in which nothing is patched.
        from mdsens.study.sweep_workers import perform

        return perform(task)

    return dying


@pytest.mark.slow
def test_workers_that_die_and_runs_that_fail_end_no_sweep(trimer, tmp_path, monkeypatch):
    with (trimer / "study.toml").open("a") as file:
        file.write(SWEEP)
    sweep = read_sweep(trimer)
    alone = run_sweep(sweep, tmp_path / "alone")
    assert alone.counts == {"finished": 4, "failed": 1, "pending": 0}
    monkeypatch.setattr(sweep_workers, "perform", deadly(tmp_path))
    out = tmp_path / "out"
    found = run_sweep(sweep, out, workers=2)
    assert found.counts == {"finished": 3, "failed": 2, "pending": 0}
    assert found.failed[2] == alone.failed[2]
    assert found.failed[3] == sweep_workers.DIED
    assert (tmp_path / "died").exists()
    # What died in the middle is done here, over what it has left.
    monkeypatch.undo()
    assert run_sweep(sweep, out, resume=True, retry_failed=True).counts == alone.counts
    for run in (0, 1, 3, 4):
        folders = [where / "runs" / f"{run:04d}" for where in (alone.folder, out)]
        for name in ("relaxed.extxyz", "sensitivities.csv", "history.csv", "study.toml"):
            first, second = ((folder / name).read_bytes() for folder in folders)
            assert first == second, f"{name} of run {run}"
    assert not run_folder(out).exists()
    assert sorted(path.name for path in (out / "runs").iterdir()) == [
        "0000",
        "0001",
        "0003",
        "0004",
    ]


@pytest.mark.slow
def test_workers_start_where_another_sweep_has_the_usual_port():
    pytest.importorskip("distributed")
    with socket.socket() as usual:
        # Where it is taken already, it is as it should be.
        with contextlib.suppress(OSError):
            usual.bind(("127.0.0.1", 8787))
            usual.listen()
        # A warning is an error.
        with sweep_workers._client(sweep_workers.Workers(1, None)) as client:
            assert len(client.nthreads()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((0, None), "workers = 0"),
        ((2, "tcp://node7:8786"), "give one of the two"),
    ],
)
def test_workers_are_a_number_or_those_of_a_scheduler(given, words):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match=words):
        chosen_workers(*given)


@pytest.mark.parametrize("cores", [[0], [0, 1], [2, 5, 7], list(range(16))])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_workers_share_the_cores_out(cores, count):
    parts = [part_of_cores(cores, worker, count) for worker in range(count)]
    assert set.union(*parts) <= set(cores)
    if count <= len(cores):
        assert sorted(core for part in parts for core in part) == cores
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    else:
        taken = [parts.count({core}) for core in cores]
        assert max(taken) - min(taken) <= 1


def test_without_the_package_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'mdsens\[workers\]'"):
        chosen_workers(2, None)


def test_a_study_without_a_sweep_has_no_runs_to_share_out(trimer, command):
    status, _, errors = command("run", trimer, "--workers", 2)
    assert status == 2
    assert "leave them out" in errors.splitlines()[-1]


def test_a_scheduler_that_is_not_there_is_a_line(trimer, tmp_path, monkeypatch, command):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweep_workers, "PATIENCE", "1s")
    with (trimer / "study.toml").open("a") as file:
        file.write(SWEEP)
    arguments = ("run", trimer, "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    status, _, errors = command(*arguments)
    assert status == 2
    assert "does not answer" in errors.splitlines()[-1]
