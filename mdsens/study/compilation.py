"""How much of the time JAX spent compiling."""

import time
from typing import Any

import jax


class CompilationClock:
    """Adds up the time that JAX spends tracing and compiling while the clock is open.

    JAX reports each stage when it ends, and stages lie within one another: what counts is the
    union of their intervals, so that no second is counted twice.
    """

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []

    def __enter__(self) -> "CompilationClock":
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(self, *_: Any) -> None:
        # Without this name in a future JAX, the listener stays, which costs nothing.
        unregister = getattr(jax.monitoring, "unregister_event_duration_listener", None)
        if unregister is not None:
            unregister(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._intervals.append((now - duration_secs, now))

    @property
    def seconds(self) -> float:
        """Time spent compiling so far, seconds."""
        total, reached = 0.0, float("-inf")
        for begin, end in sorted(self._intervals):
            total += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return total
