"""Runs of a sweep in processes of their own, on this machine or many, by dask.distributed.

A worker imports this module, which imports no JAX, and then what runs a study: it is started anew
and never forked, as JAX has threads. Its one thread does one run at a time.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mdsens.compilation_cache import folder_of_programs, keep_compiled_code
from mdsens.errors import InputError
from mdsens.values import integer, shown

#: Workers that a run may outlive among others on this machine, before it is done alone.
DEATHS = 1
#: Seconds after which a scheduler that does not answer is given up.
PATIENCE = "30s"
#: What to install.
NEEDED = "needs the package distributed: pip install 'mdsens[workers]'"
#: Why a run has failed whose worker has ended each time.
DIED = "the process that ran it ended without a word, each time, as where memory runs out"


@dataclasses.dataclass(frozen=True)
class Workers:
    """Where the runs of a sweep are done.

    Attributes:
        count: processes on this machine; None where there is a scheduler.
        scheduler: address of a scheduler of dask, e.g. ``"tcp://node7:8786"``; None for this
            machine.
    """

    count: int | None = None
    scheduler: str | None = None


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """A run of a group.

    Attributes:
        run: its number.
        table: the tables of its study, with its settings.
        target: folder for its results; None where the run only takes part in the batch, since it
            has ended already.
        about: as in `run_study`.
    """

    run: int
    table: dict[str, Any]
    target: Path | None
    about: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """A group of runs for a worker.

    Attributes:
        path: the study's file.
        runs: the runs.
        allow_unconverged: as in `run_study`.
        report: likewise.
        keep_programs: whether compiled code is kept on the disk.
        resume: as in `run_study`.
        shared_by: workers on this machine that share its cores; None: the worker has all it sees.
        size: from `size_of_batches`.
    """

    path: Path
    runs: tuple[TaskRun, ...]
    allow_unconverged: bool
    report: bool
    keep_programs: bool = False
    resume: bool = False
    shared_by: int | None = None
    size: int = 0

    def one_by_one(self) -> Iterator["Task"]:
        """Each run that is to be done, as a group of its own."""
        for one in self.runs:
            if one.target is not None:
                yield dataclasses.replace(self, runs=(one,))


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of a run.

    Attributes:
        seconds: how long it took.
        reason: why it failed; empty where it did not.
        fatal: why no other run can go well, as on a full disk; empty where they can.
    """

    seconds: float
    reason: str = ""
    fatal: str = ""


def chosen_workers(workers: int | None, scheduler: str | None) -> Workers | None:
    """Where the runs of a sweep are to be done.

    Arguments:
        workers: processes on this machine.
        scheduler: address of a scheduler of dask.

    Returns:
        The Workers; None for this process.

    Raises:
        InputError: both are given, or the package is not installed.
    """
    if workers is None and scheduler is None:
        return None
    if workers is not None and scheduler is not None:
        raise InputError(
            f"workers = {shown(workers)} and scheduler = {shown(scheduler)}: a scheduler has its "
            "own workers; give one of the two"
        )
    if workers is not None:
        workers = integer(workers, "workers", at_least=1)
    try:
        import distributed  # noqa: F401
    except ImportError:
        given = "workers" if scheduler is None else "scheduler"
        raise InputError(f"{given} = {shown(workers or scheduler)} {NEEDED}") from None
    return Workers(workers, scheduler)


def perform(task: Task) -> list[tuple[int, Ended]]:
    """Do the runs of a group, in a worker.

    Arguments:
        task: the group.

    Returns:
        Numbers of runs, and what became of them.
    """
    if task.shared_by is not None:
        keep_to_own_cores(task.shared_by)
    if task.keep_programs:
        keep_compiled_code()
    # Imported here, after it is known whether compiled code is kept.
    from mdsens.study.sweep_attempt import attempt

    return list(attempt(task))


@functools.cache
def keep_to_own_cores(count: int) -> None:
    """Leave the cores of others alone: compiled code takes a thread for each that it sees.

    Two processes with two threads each on two cores take longer than one with both.

    Arguments:
        count: workers on this machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    from distributed import get_worker

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, part_of_cores(cores, int(get_worker().name), count))


def part_of_cores(cores: Sequence[int], worker: int, count: int) -> set[int]:
    """The cores of one worker: an equal part of them, or one that others have too.

    Arguments:
        cores: numbers of all cores.
        worker: number of the worker, from 0.
        count: workers that there are.

    Returns:
        Numbers of cores, at least one.
    """
    place = worker % count
    if count >= len(cores):
        return {cores[place % len(cores)]}
    return set(cores[place * len(cores) // count : (place + 1) * len(cores) // count])


def in_workers(
    tasks: Iterable[Task], workers: Workers, say: Callable[[str], None]
) -> Generator[tuple[int, Ended], None, None]:
    """Do runs in workers. A group whose worker dies is done again by another.

    Arguments:
        tasks: the groups.
        workers: where.
        say: hears how many workers there are.

    Yields:
        Numbers of runs and what became of them, in the order in which they end.

    Raises:
        InputError: the scheduler does not answer, or its workers are no such as runs need.
    """
    from distributed import KilledWorker

    with _client(workers) as client:
        if workers.scheduler is not None:
            _check_workers(client)
            say(f"scheduler {workers.scheduler}: {len(client.nthreads())} workers at first")
        blamed: list[Task] = []
        for task, found in _each(client, tasks, alone=False):
            if isinstance(found, KilledWorker):
                # Dask blames all that a worker has been given: who is guilty shows alone.
                blamed.append(task)
            else:
                yield from found
        guilty: list[Task] = []
        for task, found in _each(client, blamed, alone=True):
            if not isinstance(found, KilledWorker):
                yield from found
            elif len(task.runs) == 1:
                yield task.runs[0].run, Ended(0.0, DIED)
            else:
                guilty += task.one_by_one()
        # One run has taken its whole group along.
        for task, found in _each(client, guilty, alone=True):
            if isinstance(found, KilledWorker):
                yield task.runs[0].run, Ended(0.0, DIED)
            else:
                yield from found


def _each(client: Any, tasks: Iterable[Task], alone: bool) -> Iterator[tuple[Task, Any]]:
    """Do groups, as many at a time as there are workers, or each alone; what became of them.

    What is given to a worker before it can begin is blamed, too, should that worker die.
    """
    from distributed import KilledWorker, as_completed

    waiting = iter(tasks)
    running: dict[Any, Task] = {}
    ended = as_completed(loop=client.loop)
    while True:
        # Workers may have come and gone.
        places = 1 if alone else max(1, sum(client.nthreads().values()))
        while len(running) < places and (task := next(waiting, None)) is not None:
            future = client.submit(perform, task, pure=False)
            running[future.key] = task
            ended.add(future)
        if not running:
            return
        future = next(ended)
        try:
            found = future.result()
        except KilledWorker as error:
            found = error
        yield running.pop(future.key), found


def keeps_programs() -> bool:
    """Whether this process keeps compiled code on the disk, as workers then do."""
    return folder_of_programs() is not None


@contextlib.contextmanager
def _client(workers: Workers) -> Iterator[Any]:
    """A client of the scheduler, or of one on this machine that ends with it."""
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}))
        address: Any = workers.scheduler
        if address is None:
            # Worker processes are started anew, with one thread of OpenMP and of BLAS: dask's rule.
            address = stack.enter_context(
                LocalCluster(
                    n_workers=workers.count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,
                    # Any free port: the usual one is taken where another sweep runs beside this.
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    host="127.0.0.1",
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InputError(
                f"scheduler = {shown(workers.scheduler)} does not answer: "
                f"{' '.join(str(error).split())}; give an address such as tcp://node7:8786"
            ) from None
        yield client


def _check_workers(client: Any) -> None:
    """Raise InputError for workers with several threads, or with other versions."""
    threads = client.nthreads()
    many = {address: count for address, count in threads.items() if count != 1}
    if many:
        address, count = next(iter(many.items()))
        raise InputError(
            f"worker {address} has {count} threads, and a run needs a process of its own: start "
            "workers with --nthreads 1"
        )
    own = _versions()
    groups = collections.defaultdict(list)
    for address, known in client.run(_versions).items():
        groups[tuple(known.items())].append(address)
    for known, addresses in groups.items():
        if dict(known) != own:
            differ = next(name for name, version in known if own.get(name) != version)
            raise InputError(
                f"worker {addresses[0]} has {differ} {dict(known)[differ]}, and this process "
                f"{own[differ]}: install the same, so that all runs are alike"
            )


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("mdsens", "jax", "numpy", "scipy")}
