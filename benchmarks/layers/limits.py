"""A function in a process of its own, which is ended when something takes too long.

A compiled program cannot be interrupted from within. What did not end is noted with its limit, and
another process does the rest; what the ended one wished to keep is handed on.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any, Self

#: Program, variant, and what is done: "compile", "solution" or "gradient".
Stage = tuple[str, str, str]
#: Program and variant.
Key = tuple[str, str]
#: Seconds that compiling something may take.
COMPILING = 60.0
#: Seconds for all that is no stage: imports, data and references, repeated calls.
REST = 600.0


class Apart:
    """Calls a function in another process, for as long as a `with` lasts.

    Arguments:
        function: of the module level; called with what is given here, with the stages that are
            known to be too slow, with what was kept, and with two functions: one to tell before
            each stage, None before what has no limit; one to call as `keep(key, value)`.
        limit: seconds that each stage may take, but for "compile".
    """

    def __init__(self, function: Callable[..., Any], limit: float) -> None:
        self._function, self._limit = function, limit
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns.

        Raises:
            RuntimeError: if its process ends without a result, or is silent outside all stages.
        """
        too_slow: dict[Stage, float] = {}
        kept: dict[Key, Any] = {}
        while True:
            if self._process is None:
                self._begin()
            self._connection.send((arguments, too_slow, kept))
            stage: Stage | None = None
            seconds = REST
            while self._connection.poll(seconds):
                try:
                    kind, value = self._connection.recv()
                except (EOFError, ConnectionError):
                    raise RuntimeError(f"the process ended without a result, at {stage}") from None
                if kind == "result":
                    return value
                if kind == "kept":
                    kept |= value
                else:
                    stage, seconds = value, self._seconds(value)
            self._end()
            if stage is None:
                raise RuntimeError(f"nothing was heard for {REST:g} s")
            too_slow[stage] = seconds

    def _seconds(self, stage: Stage | None) -> float:
        if stage is None:
            return REST
        return max(self._limit, COMPILING) if stage[2] == "compile" else self._limit

    def _begin(self) -> None:
        # A copy of this process would hold the locks of JAX's threads.
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, self._function), daemon=True)
        self._process.start()
        there.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _work(there: Any, function: Callable[..., Any]) -> None:
    while True:
        arguments, too_slow, kept = there.recv()
        result = function(
            *arguments,
            too_slow,
            kept,
            lambda stage: there.send(("stage", stage)),
            lambda key, value: there.send(("kept", {key: value})),
        )
        there.send(("result", result))
