"""How long something takes, and how much memory this process has used."""

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that one call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def compile_and_repeat(call: Callable[[], Any], budget: float) -> tuple[float, float, int]:
    """Call repeatedly for about ``budget`` seconds.

    Returns:
        Seconds by which the first call was slower than the median (compilation), the median of
        the calls after two to warm up in seconds, and their number.
    """
    first, _ = seconds_of(call)
    call()
    durations: list[float] = []
    while len(durations) < 5 or (sum(durations) < budget and len(durations) < 1000):
        durations.append(seconds_of(call)[0])
    median = statistics.median(durations)
    return max(0.0, first - median), median, len(durations)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """Seconds that XLA takes for each program that is compiled inside; none is kept on disk."""
    import jax

    seconds: list[float] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield seconds
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
        jax.monitoring.unregister_event_duration_listener(listen)


def compiled_row(seconds: list[float]) -> dict:
    """How many programs were compiled, and how long the longest took."""
    return {"programs": len(seconds), "longest_compile_s": max(seconds, default=0.0)}


def peak_memory() -> float:
    """The most memory that this process has held so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)
