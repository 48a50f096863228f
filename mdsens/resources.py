"""What the machine has to offer: free memory, and cores that work side by side."""

import collections
import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from mdsens.errors import InputError

#: Unknowns up to which a dense matrix is factorised, and up to which it is diagonalised: each takes
#: about 0.15 s there on one core.
DENSE_LIMIT, EIGENVECTOR_LIMIT = 2000, 1000

#: Environment variable with the number of cores that a process takes at most.
CORES_VARIABLE = "MDSENS_CORES"

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_memory() -> int:
    """Memory that can be taken without swapping, bytes."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/meminfo") as lines:
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def available_cores() -> int:
    """Number of cores that this process may use, and is to use where MDSENS_CORES says fewer.

    Raises:
        InputError: that variable is no whole number above zero.
    """
    wanted = os.environ.get(CORES_VARIABLE)
    if not wanted:
        return _allowed_cores()
    if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
        raise InputError(
            f"{CORES_VARIABLE} = {wanted!r}: give a whole number of cores, at least 1, or unset it"
        )
    return min(_allowed_cores(), int(wanted))


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def products_on_one_core() -> Iterator[None]:
    """Keep NumPy's and SciPy's products and norms from starting threads, for work that has its own.

    The threads of these libraries share even what takes 10 us, and then wait for more in a loop:
    for milliseconds they hold a core that others could compute with (argon with 16 thousand atoms
    relaxed as slowly on two cores as on one, for 1.4 times the processor time).
    """
    if _allowed_cores() < 2:
        yield
        return
    _one_core.enter()
    try:
        yield
    finally:
        _one_core.leave()


class _OneCore:
    """Threads of the libraries, kept to one while anybody wants that: threads may relax at once."""

    def __init__(self) -> None:
        self._lock, self._users, self._limit = threading.Lock(), 0, contextlib.ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit.enter_context(_libraries().limit(limits=1, user_api="blas"))
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.close()


_one_core = _OneCore()


@functools.cache
def _libraries() -> Any:
    """What sets the threads of the libraries that are loaded, which takes 3 ms to find out."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The function's results for each item, in order, computed by all cores.

    Worth it for functions that let go of Python's interpreter: sparse products, array operations
    on megabytes, compiled code. They must not call this function themselves.

    Arguments:
        function: of one item; for several of them at a time.
        items: what to call it with.

    Returns:
        The results, in the order of the items.
    """
    workers = min(available_cores(), len(items))
    if workers < 2:
        return [function(item) for item in items]
    left = collections.deque(enumerate(items))
    results: dict[int, Result] = {}

    def work() -> None:
        while True:
            try:
                index, item = left.popleft()
            except IndexError:
                return
            results[index] = function(item)

    # This thread works too: it takes a while to wake another.
    others = [_pool().submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        left.clear()
        concurrent.futures.wait(others)
    for other in others:
        other.result()
    return [results[index] for index in range(len(items))]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, available_cores() - 1), thread_name_prefix="mdsens")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_pool.cache_clear)
