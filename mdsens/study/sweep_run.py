"""Run a sweep: each run is in a folder of its own as soon as it is finished."""

import contextlib
import dataclasses
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Container, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.signals import INTERRUPTED, signal_behind
from mdsens.study.fingerprint import fingerprint
from mdsens.study.output import Output, WriteError, keep_on_disk, kept_folder, writing
from mdsens.study.results import versions
from mdsens.study.results_file import RESULTS_NAME
from mdsens.study.run import default_folder
from mdsens.study.run_lock import run_folder
from mdsens.study.study import Study, study_of
from mdsens.study.sweep import Sweep
from mdsens.study.sweep_attempt import attempt
from mdsens.study.sweep_batch import groups_of, size_of_batches
from mdsens.study.sweep_file import (
    SWEEP_NAME,
    SWEEP_SCHEMA,
    Journal,
    RunState,
    counts,
    described,
    is_whole,
    known_states,
    manifest_text,
    read_manifest,
    run_name,
)
from mdsens.study.sweep_report import is_of_summary, write_summary
from mdsens.study.sweep_results import NEEDS_ZARR, has_zarr
from mdsens.study.sweep_units import swept_axis
from mdsens.study.sweep_workers import (
    Ended,
    Task,
    TaskRun,
    Workers,
    chosen_workers,
    in_workers,
    keeps_programs,
)
from mdsens.values import shown

#: Seconds after which sweep.json is made anew, if that has not taken long.
EVERY = 10.0
#: Share of the time that may go into making sweep.json anew.
SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class FinishedSweep:
    """What a sweep leaves behind.

    Attributes:
        folder: where its files are.
        counts: numbers of runs that are finished, failed and pending.
        failed: why each of those that failed did, by its number.
    """

    folder: Path
    counts: dict[str, int]
    failed: dict[int, str]


def run_sweep(
    sweep: Sweep,
    out: str | Path | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    allow_unconverged: bool = False,
    report: Callable[[str], None] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> FinishedSweep:
    """Run a study with each setting of its sweep.

    Each run is in a folder of its own, ``runs/0000`` and so on, as soon as it is finished, with the
    files of `run_study`. Runs of one shape are relaxed side by side, see `groups_of`. A run that
    fails is written down with its reason, and the next one begins.
    What ends the process, even without a word, ends the sweep between two runs; the next call with
    ``resume`` goes on with the same results, in every bit, as one that was never interrupted.

    Arguments:
        sweep: from `read_sweep`.
        out: folder for the results; ``results/<name of the study>`` by default.
        resume: go on where an earlier call has ended, if there was one.
        retry_failed: with ``resume``, run again what has failed.
        allow_unconverged: as in `run_study`.
        report: hears how far the sweep is, a line at a time.
        workers: do the runs in so many processes on this machine, each with one thread; None: in
            this process. A script that says so needs ``if __name__ == "__main__":``.
        scheduler: do them in the workers of a scheduler of dask, e.g. ``"tcp://node7:8786"``, which
            see the same folders.

    Returns:
        The FinishedSweep.

    Raises:
        InputError: a mistake in the study, or a folder that cannot be written, that holds something
            else, or runs of another study.
    """
    say = report or (lambda _: None)
    where = chosen_workers(workers, scheduler)
    if sweep.options.arrays == "zarr" and not has_zarr():
        raise InputError(NEEDS_ZARR)
    first = study_of(sweep.text_of(0))
    for study in map(study_of, sweep.each_value()):
        for structure in study.structures.values():
            structure.check_without_structure()
    target = default_folder(first.name) if out is None else path_of(out, "output folder")
    if (target / RESULTS_NAME).is_file() and not (target / SWEEP_NAME).is_file():
        raise InputError(
            f"output folder {str(target)!r} holds the results of one run: give another for a sweep"
        )
    with kept_folder(target, replaces=is_of_summary) as output:
        work = _Work(sweep, first, output, say, where)
        work.begin(resume, retry_failed)
        try:
            work.run_all(allow_unconverged)
        except BaseException as error:
            with contextlib.suppress(OSError, InputError):
                work.write_manifest()
            if signal_behind(error) == INTERRUPTED:
                raise KeyboardInterrupt(work.interrupted()) from None
            raise
        work.finish()
    return FinishedSweep(target, work.counts, work.failed)


class _Work:
    """A sweep at work on a folder that it has locked.

    Arguments:
        sweep: the sweep.
        first: the study of its first run.
        output: the folder.
        say: hears how far it is.
        workers: where the runs are done; None: in this process.
    """

    def __init__(
        self,
        sweep: Sweep,
        first: Study,
        output: Output,
        say: Callable[[str], None],
        workers: Workers | None = None,
    ) -> None:
        self.workers = workers
        self.sweep, self.first, self.output, self.say = sweep, first, output, say
        self.folder, self.journal = output.target, Journal(output.target)
        self.states: dict[int, RunState] = {}
        self.pending: list[int] = []
        self.resume = False
        self._digests: dict[Path, str] = {}
        self._writing: deque[Future[None]] = deque()

    def begin(self, resume: bool, retry_failed: bool) -> None:
        """Find out what there is, and refuse what does not fit."""
        self.resume = resume
        states = known_states(self.folder)
        if states and not resume:
            done = sum(state.state == "finished" for state in states.values())
            raise InputError(
                f"output folder {str(self.folder)!r} holds a sweep of which {done} runs are "
                "finished: give --resume to go on with it, or another folder with --out"
            )
        self.states = {run: state for run, state in states.items() if self._fits(state)}
        misfits = [
            run for run, of in states.items() if run not in self.states and of.state == "finished"
        ]
        if misfits:
            raise InputError(
                f"output folder {str(self.folder)!r}: {len(misfits)} finished runs are of another "
                f"study, the first {run_name(misfits[0])}{self._what_changed()}; give another "
                "folder with --out, or undo the change"
            )
        if retry_failed:
            self.states = {n: of for n, of in self.states.items() if of.state == "finished"}
        self.pending = [run for run in range(self.sweep.count) if run not in self.states]
        self._sweep_away_what_is_left()
        known = self.counts
        if known["finished"] or known["failed"]:
            again = "" if not known["failed"] else "; --retry-failed runs those again"
            self.say(
                f"{known['finished']} of {self.sweep.count} runs are finished and "
                f"{known['failed']} failed{again}"
            )
        self.write_manifest()

    def _sweep_away_what_is_left(self) -> None:
        """Clean up beside runs that were written down, and killed before they had done so."""
        left = set()
        for folder in {(self.folder / run_name(run)).parent for run in self.states}:
            with contextlib.suppress(OSError):
                left |= {name for name in os.listdir(folder) if name.startswith(".")}
        for run in self.states if left else ():
            target = self.folder / run_name(run)
            # Of one that is there no more, or that another still writes to, nothing is touched.
            if run_folder(target).name in left and target.is_dir():
                with contextlib.suppress(InputError), kept_folder(target):
                    pass

    def _fits(self, state: RunState) -> bool:
        return state.run < self.sweep.count and state.fingerprint == self._fingerprint(state.run)

    def _fingerprint(self, run: int) -> str:
        return fingerprint(self.sweep.table_of(run), self.first.folder, self._digests)

    def _what_changed(self) -> str:
        """What differs between this study and the one that the folder is of, if that is known."""
        try:
            before = read_manifest(self.folder)
        except InputError:
            return ""
        old, new = dict(_flat(before["table"])), dict(_flat(self.sweep.table))
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                return f": {key} was {shown(old.get(key))} and is {shown(new.get(key))}"
        if before["sweep"] != self._said_of_sweep():
            return ": the sweep has other values"
        return ": a file that it reads has changed"

    def run_all(self, allow_unconverged: bool) -> None:
        """Run what is still to be run."""
        with ThreadPoolExecutor(1, thread_name_prefix="mdsens-journal") as writer:
            self._run_all(allow_unconverged, writer)
            self._hear_of_writing(wait=True)

    def _run_all(self, allow_unconverged: bool, writer: ThreadPoolExecutor) -> None:
        written = spoken = time.monotonic()
        took = 0.0
        for done, state in enumerate(self._ended(allow_unconverged)):
            run = state.run
            self._hear_of_writing()
            # A disk takes longer to be sure than a short run takes: the next one does not wait.
            self._writing.append(writer.submit(self._write_down, state))
            self.states[run] = state
            now = time.monotonic()
            if state.reason:
                self.say(f"run {run} failed: {state.reason}")
            elif now - spoken > EVERY / 2 or done == 0:
                self.say(f"run {run} of {self.sweep.count} finished in {state.seconds:.1f} s")
                spoken = now
            if now - written > max(EVERY, took / SHARE):
                self.write_manifest()
                written = time.monotonic()
                took = written - now

    def _write_down(self, state: RunState) -> None:
        """Add a run to the journal, once the disk has its files."""
        with writing(self.folder):
            if state.state == "finished":
                keep_on_disk(self.folder / run_name(state.run))
            self.journal.add(state)

    def _hear_of_writing(self, wait: bool = False) -> None:
        """Raise what went wrong with the journal."""
        while self._writing and (wait or self._writing[0].done()):
            self._writing.popleft().result()

    def _set_aside(self, run: int) -> None:
        """Move away what a power cut has left of a run."""
        folder = self.folder / run_name(run)
        if not os.path.lexists(folder) or is_whole(folder):
            return
        with writing(self.folder):
            aside = folder.with_name(f"{folder.name}.damaged-{uuid.uuid4().hex[:8]}")
            folder.rename(aside)
        self.say(f"{run_name(run)} is not as it was written: it is {aside.name} now, and run again")

    def _ended(self, allow_unconverged: bool) -> Iterator[RunState]:
        """Do the runs that are still to be done, here or in workers; what became of each."""
        tasks = self._tasks(allow_unconverged)
        if self.workers is None:
            ended: Generator[tuple[int, Ended], None, None]
            ended = (one for task in tasks for one in attempt(task))
        else:
            ended = in_workers(tasks, self.workers, self.say)
        with contextlib.closing(ended):
            for run, found in ended:
                if found.fatal:
                    raise WriteError(found.fatal)
                yield RunState(
                    run=run, state="failed" if found.reason else "finished",
                    fingerprint=self._fingerprint(run), seconds=found.seconds, reason=found.reason,
                )  # fmt: skip

    def _tasks(self, allow_unconverged: bool) -> Iterator[Task]:
        """The groups of which a run is still to be done."""
        pending, groups = set(self.pending), groups_of(self.sweep)
        size = size_of_batches(groups)
        for group in groups:
            if not pending.isdisjoint(group):
                yield Task(
                    self.sweep.path.absolute(), tuple(self._one(run, pending) for run in group),
                    allow_unconverged, self.sweep.options.reports, keeps_programs(), self.resume,
                    None if self.workers is None else self.workers.count, size,
                )  # fmt: skip

    def _one(self, run: int, pending: Container[int]) -> TaskRun:
        target = None
        if run in pending:
            self._set_aside(run)
            target = self.folder.absolute() / run_name(run)
        about = {"sweep": {"run": run, "settings": self.sweep.settings(run)}}
        return TaskRun(run, self.sweep.table_of(run), target, about)

    @property
    def runs(self) -> Iterator[dict[str, Any]]:
        """What sweep.json says of each run."""
        for run in range(self.sweep.count):
            yield described(run, self.sweep.settings(run), self.states.get(run))

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of runs that are finished, failed and pending."""
        return counts(list(self.runs))

    @property
    def failed(self) -> dict[int, str]:
        """Why each of those that failed did."""
        return {run: of.reason for run, of in sorted(self.states.items()) if of.state == "failed"}

    def interrupted(self) -> str:
        """What to say when somebody ends the sweep."""
        return (
            f"interrupted: {self.counts['finished']} of {self.sweep.count} runs are finished; give "
            "--resume to go on"
        )

    def _said_of_sweep(self) -> dict[str, Any]:
        return {
            **self.sweep.options.model_dump(exclude=set(self.sweep.options.model_extra or {})),
            "keys": {key.key: list(key.values) for key in self.sweep.keys},
        }

    def write_manifest(self) -> None:
        """Make sweep.json anew."""
        runs = list(self.runs)
        head = {
            "program": "mdsens",
            "schema": SWEEP_SCHEMA,
            "study": self.first.name,
            "description": self.first.file.description,
            "units": self.first.file.units,
            "mode": self.sweep.options.mode,
            "shape": self.sweep.shape,
            "keys": {key.key: swept_axis(key, self.first) for key in self.sweep.keys},
            "counts": counts(runs),
            "versions": versions(),
            "sweep": self._said_of_sweep(),
            "table": self.sweep.table,
        }
        with self.output.files(lambda name: name == SWEEP_NAME) as folder, writing(self.folder):
            (folder / SWEEP_NAME).write_text(manifest_text(head, runs), "utf-8")

    def finish(self) -> None:
        """Write sweep.json, the table of all runs, their labelled arrays, figures and the page."""
        self.write_manifest()
        with self.output.files(is_of_summary) as folder, writing(self.folder):
            write_summary(self.folder, folder)


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a study's tables by the path of its key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
