"""The errors and warnings that a user can meet, each with one line that says what to do."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

#: Longest line that an error says; what a message quotes may have any length.
LONGEST_LINE = 400


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Text as one line that a terminal can show: its beginning and its end, if it is too long.

    Arguments:
        text: anything.
        limit: number of characters from which on something is left out in the middle.

    Returns:
        The line; characters that cannot be printed are escaped.
    """
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    half = (limit - 5) // 2
    return line if len(line) <= limit else f"{line[:half]} ... {line[-half:]}"


class MdsensError(Exception):
    """Base class of every error that mdsens raises on purpose; it is said in one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(MdsensError, ValueError):
    """Something the user gave is not allowed; the message names it and what is."""


class NoSecondDerivativesError(InputError):
    """Second derivatives of forces were asked for, which only differences of others would give."""


class RelaxationError(MdsensError, RuntimeError):
    """A relaxation met numbers that are not finite, or a structure that flies apart."""


class CalculatorError(MdsensError, RuntimeError):
    """A calculator of ASE failed where a potential asked it for energy and forces."""


class UnreliableDerivativeError(MdsensError, RuntimeError):
    """A derivative was asked for at what is no solution, or no converged, stable minimum."""


class ConvergenceError(MdsensError, RuntimeError):
    """An iterative solver ended without a solution; the message says how far it came."""


class LinearSolveError(MdsensError, RuntimeError):
    """A linear system could not be solved; the message says why and what to do.

    Inside compiled code (`jax.jit`, and some derivatives of `custom_root`) the same message arrives
    in the error that equinox or the runtime of JAX raises, a `RuntimeError` or a `ValueError`.
    """


class MdsensWarning(UserWarning):
    """What was asked for is done, but may not be what was meant; the message says what to do."""


_silent: ContextVar[bool] = ContextVar("_silent", default=False)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Warn of nothing in this thread, in which nothing is computed that anybody sees."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def warn(message: str) -> None:
    """Warn, and name the line that called mdsens as the place."""
    if _silent.get():
        return
    frame, level, outermost = sys._getframe(1), 2, 2
    while frame.f_back is not None:
        if str(frame.f_globals.get("__name__")).split(".")[0] == "mdsens":
            outermost = level + 1
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MdsensWarning, stacklevel=outermost)
