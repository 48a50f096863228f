"""Sweeps: many packings beside a loop of `mdsens run`, workers that die, kills, and machinery."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cold import COMMAND, ROOT, clean_environment
from mdsens.study.marker import MARKER_NAME
from mdsens.study.results_file import RESULTS_NAME
from mdsens.study.sweep_file import (
    SWEEP_NAME,
    SWEEP_SCHEMA,
    Journal,
    RunState,
    described,
    known_states,
    manifest_text,
    read_manifest,
    run_name,
)

#: The study whose packings are relaxed, but for its method, which is that of others.
STUDY = "soft-spheres-2d"
SETTINGS = ("relaxation.method=auto", "structure.count=128")
#: Runs of a loop of single runs that are timed; the time is scaled to all.
SINGLE_RUNS = 4
#: A sweep in a process of its own: seconds and peak memory in MiB. Of the runs alone, the same
#: batches without a study's files are relaxed and differentiated.
SCRIPT = """
import json, sys, time
from benchmarks.timing import peak_memory
from mdsens.compilation_cache import keep_compiled_code
keep_compiled_code()
from mdsens.batches import relax_batch, sensitivity_batch
from mdsens.study import read_sweep, run_sweep
from mdsens.study.study import study_of
from mdsens.study.sweep_batch import groups_of, size_of_batches
what, study, out, count, *settings = sys.argv[1:]
seeds = f"{{from = 0, to = {int(count) - 1}, count = {count}}}"
sweep = read_sweep(study, [*settings, f"sweep.'structure.seed'={seeds}"])
begun = time.perf_counter()
if what == "sweep":
    run_sweep(sweep, out)
else:
    groups = groups_of(sweep)
    for group in groups:
        of = [study_of(sweep.text_of(run)).only for run in group]
        of += [of[-1]] * (size_of_batches(groups) - len(of))
        systems = [one.system for one in of]
        batch = relax_batch(systems, of[0].potential, **of[0].relaxation)
        found = sensitivity_batch(batch, of[0].observables, allow_unconverged=True)
        _ = [str(found.at(place)) for place in range(len(group))]
print(json.dumps([time.perf_counter() - begun, peak_memory()]))
"""
#: Runs of one batch, and batches after which all code is loaded and all buffers are there.
BATCH, SETTLED = 16, 4
#: Seconds between looks at what is done.
INTERVAL = 0.01


class Bench:
    """A folder with what all measurements share, one of them a cache of compiled code.

    Arguments:
        folder: an empty folder.
        limit: seconds after which a process is given up.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.environment = clean_environment(str(folder / "programs"))

    def start(
        self, *arguments: str, cores: int = 1, python: Sequence[str] = COMMAND
    ) -> "subprocess.Popen[str]":
        """The command, or another of Python, as a process on so many cores."""

        def bound() -> None:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

        return subprocess.Popen(
            [sys.executable, *python, *arguments], cwd=self.folder, text=True,
            env=self.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            preexec_fn=bound, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self, process: "subprocess.Popen[str]") -> str:
        """Wait for it, and what it prints; RuntimeError where it fails."""
        said, errors = process.communicate(timeout=self.limit)
        if process.returncode:
            raise RuntimeError((errors.strip().splitlines() or ["no word"])[-1])
        return said

    def seconds(self, *arguments: str, cores: int = 1) -> float:
        """Seconds that the command takes."""
        begun = time.perf_counter()
        self.finish(self.start(*arguments, cores=cores))
        return time.perf_counter() - begun

    def sweep(self, count: int, out: str, *more: str) -> list[str]:
        """Arguments of the command for a sweep of so many packings into a new folder."""
        shutil.rmtree(self.folder / out, ignore_errors=True)
        seeds = f"{{from = 0, to = {count - 1}, count = {count}}}"
        return ["run", STUDY, "--out", out, *_set(f"sweep.'structure.seed'={seeds}"), *more]


def _set(*settings: str) -> list[str]:
    return [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]


def loop(bench: Bench, count: int) -> dict:
    """`mdsens run` once for each packing, on one core; some are timed."""
    times = []
    for seed in range(min(SINGLE_RUNS, count) + 1):
        arguments = ("run", STUDY, "--out", f"one-{seed}", *_set(f"structure.seed={seed}"))
        times.append(bench.seconds(*arguments))
    # The first has filled the cache of compiled code.
    wall = count * sum(times[1:]) / len(times[1:])
    return {"wall_s": wall, "note": f"{len(times) - 1} runs, time scaled to {count}"}


def together(bench: Bench, count: int) -> dict:
    """A sweep in one process on one core, all of it; compiled code is on the disk."""
    bench.finish(bench.start(*bench.sweep(BATCH, "whole")))
    return {"wall_s": bench.seconds(*bench.sweep(count, "whole"))}


def machinery(bench: Bench, count: int) -> dict:
    """What a sweep takes that its runs do not: time beside them, and memory beyond theirs."""
    found: dict[tuple[str, int], list[float]] = {}
    for runs in (min(SETTLED * BATCH, count // 2), count):
        for what in ("runs", "sweep"):
            shutil.rmtree(bench.folder / "inside", ignore_errors=True)
            given = (what, STUDY, "inside", str(runs), *SETTINGS)
            said = bench.finish(bench.start(*given, python=("-c", SCRIPT)))
            found[what, runs] = json.loads(said.splitlines()[-1])
    few, _ = sorted({runs for _, runs in found})
    wall, memory = found["sweep", count]
    inside = sum(run["seconds"] for run in read_manifest(bench.folder / "inside")["runs"])
    grown = memory - found["sweep", few][1]
    grown_alone = found["runs", count][1] - found["runs", few][1]
    return {
        "wall_s": wall, "memory_mib": memory, "outside": 1.0 - inside / wall,
        "growth": (grown - grown_alone) / memory,
        "note": f"{inside:.2f} s in runs; from {few} to {count} runs {grown:.0f} MiB more, "
        f"{grown_alone:.0f} in the same batches without a study, which take "
        f"{found['runs', count][1]:.0f} MiB",
    }  # fmt: skip


def in_workers(bench: Bench, count: int, workers: int, kill: bool = False) -> dict:
    """A sweep in workers, one of which is killed when a tenth of the runs is done."""
    out = bench.folder / f"workers-{workers}{'-killed' * kill}"
    arguments = bench.sweep(count, out.name, "--workers", str(workers))
    begun = time.perf_counter()
    process = bench.start(*arguments, cores=workers)
    killed = 0
    while kill and not killed and process.poll() is None:
        if len(known_states(out)) >= count // 10:
            own = list(_workers(process.pid))
            if own:
                os.kill(own[0], signal.SIGKILL)
                killed = 1
        time.sleep(INTERVAL)
    bench.finish(process)
    wall = time.perf_counter() - begun
    same = bits(out) == bits(bench.folder / "whole")
    said = "same bits as one process" if same else "OTHER BITS than one process"
    return {"wall_s": wall, "same": same, "note": f"{said}{', one killed' * killed}"}


def killed_again_and_again(bench: Bench, count: int, kills: int) -> dict:
    """A sweep that is killed at random moments and resumed each time."""
    whole = bench.seconds(*bench.sweep(count, "undisturbed"))
    wanted, out = bits(bench.folder / "undisturbed"), bench.folder / "killed"
    chosen, done, ended, same = random.Random(1), 0, 0, True
    arguments = bench.sweep(count, out.name, "--resume")
    begun = time.perf_counter()
    while done < kills:
        process = bench.start(*arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chosen.uniform(0.0, whole))
        if process.poll() is None:
            process.kill()
            process.communicate()
            done += 1
        else:
            # It has come to its end meanwhile: the next one begins anew.
            bench.finish(process)
            same, ended = same and bits(out) == wanted, ended + 1
            shutil.rmtree(out)
    bench.finish(bench.start(*arguments))
    same = same and bits(out) == wanted
    said = "same bits" if same else "OTHER BITS"
    note = f"killed {done} times on the way to {ended + 1} ends; {said}"
    return {"wall_s": time.perf_counter() - begun, "same": same, "note": note}


def manifest(folder: Path, count: int) -> dict:
    """How long the manifest of a sweep takes to open; its runs are made up."""
    head = {"program": "mdsens", "schema": SWEEP_SCHEMA, "study": "made up", "mode": "grid"}
    journal = []
    for run in range(count):
        state = RunState(run=run, state="finished", fingerprint="0" * 64, seconds=0.1)
        journal.append(state.model_dump_json())
        path = folder / run_name(run)
        path.mkdir(parents=True)
        for name in (MARKER_NAME, RESULTS_NAME):
            (path / name).write_text("{}")
    (folder / "journal.jsonl").write_text("\n".join(journal) + "\n")
    states = Journal(folder).read()
    runs = [described(run, {"potential.sigma": run * 1e-3}, states[run]) for run in range(count)]
    (folder / SWEEP_NAME).write_text(manifest_text(head, runs))
    begun = time.perf_counter()
    found = read_manifest(folder)
    return {"wall_s": time.perf_counter() - begun, "note": f"{found['counts']['finished']} runs"}


def bits(folder: Path) -> dict[str, bytes]:
    """What is in the files of all runs of a sweep, but for times."""
    found = {}
    for path in sorted(folder.glob("runs/*/*")):
        name = path.relative_to(folder).as_posix()
        if path.name == RESULTS_NAME:
            results = json.loads(path.read_text())
            del results["timing"]
            found[name] = json.dumps(results).encode()
        elif path.is_file() and path.name != MARKER_NAME:
            found[name] = path.read_bytes()
    return found


def _workers(process: int) -> Iterator[int]:
    """Processes that a process has started to work for it; on Linux."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes()
            if parent == process and b"spawn_main" in words and b"resource_tracker" not in words:
                yield int(path.parent.name)
