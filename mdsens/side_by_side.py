"""Work in Python that several processes share: what one computes, the others need not know."""

import functools
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

#: How many bytes claim a task, and how many tasks there are claims for: a pipe holds as many.
_CLAIM, _MOST_TASKS = 2, 2_000


def side_by_side(tasks: Sequence[Callable[[], Result]], processes: int) -> list[Result]:
    """What each of some functions returns, shared out among processes that are forked for them.

    For a process that has no threads: these would not be there in the others. Where the system
    cannot fork safely, one does all.

    Arguments:
        tasks: functions without arguments; none must need what another has done in Python.
        processes: how many share them, this one included.

    Returns:
        Their results, which are pickled, in order.

    Raises:
        Exception: what a function raised, whichever process called it; the warnings of all are
            given here.
    """
    processes = min(processes, len(tasks))
    if processes < 2 or sys.platform != "linux" or len(tasks) > _MOST_TASKS:
        return [task() for task in tasks]
    # Whoever reads a number does that task.
    claims, entry = os.pipe()
    os.write(entry, b"".join(index.to_bytes(_CLAIM, "little") for index in range(len(tasks))))
    os.close(entry)
    work = functools.partial(_share, tasks, claims)
    others = [_forked(work) for _ in range(processes - 1)]
    shares = [work()]
    os.close(claims)
    for other in others:
        shares.append(_told(*other))
    done: dict[int, Result] = {}
    for results, heard, error in shares:
        done |= results
        for category, text in heard:
            warnings.warn(text, category, stacklevel=2)
        if error is not None:
            raise error
    return [done[index] for index in range(len(tasks))]


_Share = tuple[dict[int, Result], list[tuple[type[Warning], str]], Exception | None]


def _share(tasks: Sequence[Callable[[], Result]], claims: int) -> "_Share[Result]":
    """Do tasks until all are claimed: their results, what they warned of, and what one raised."""
    done: dict[int, Result] = {}
    error = None
    with warnings.catch_warnings(record=True) as heard:
        try:
            while claim := os.read(claims, _CLAIM):
                index = int.from_bytes(claim, "little")
                done[index] = tasks[index]()
        except Exception as raised:
            error = raised
    return done, [(one.category, str(one.message)) for one in heard], error


def _forked(work: Callable[[], object]) -> tuple[int, int]:
    """The number of a process that works, and where what it returns can be read."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        # JAX has threads once it computes; here it is imported at most.
        warnings.simplefilter("ignore")
        number = os.fork()
    if number:
        os.close(writes)
        return number, reads
    status = 1
    try:
        os.close(reads)
        with open(writes, "wb") as file:
            file.write(pickle.dumps(work()))
        status = 0
    finally:
        # Nothing that the other process has opened is closed twice.
        os._exit(status)


def _told(number: int, reads: int) -> "_Share[Result]":
    with open(reads, "rb") as file:
        said = file.read()
    os.waitpid(number, 0)
    if not said:
        raise OSError("a process that shares the work has ended")
    told: _Share[Result] = pickle.loads(said)
    return told
