"""What the machine has to offer: free memory, and cores that work side by side."""

import collections
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: Unknowns up to which a dense matrix is factorised, and up to which it is diagonalised: each takes
#: about 0.15 s there on one core.
DENSE_LIMIT, EIGENVECTOR_LIMIT = 2000, 1000

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_memory() -> int:
    """Memory that can be taken without swapping, bytes."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/meminfo") as lines:
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
