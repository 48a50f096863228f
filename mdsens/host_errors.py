"""Errors that host code raises while compiled code waits for it, as what they are.

The runtime of JAX wraps what a callback raises in an error of its own, of many lines, and logs it.
What mdsens raises there on purpose is remembered, and raised anew by whoever called the code.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from mdsens.errors import MdsensError

P = ParamSpec("P")
T = TypeVar("T")

_met: list[MdsensError] = []


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose errors of mdsens `raised_plainly` raises as they are.

    Arguments:
        function: host code that compiled code calls back.

    Returns:
        The same function otherwise.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except MdsensError as error:
            _met.append(error)
            raise

    return call


@contextlib.contextmanager
def raised_plainly() -> Iterator[None]:
    """Raise what `remembered` host code has raised, in place of the error that is about it.

    Raises:
        MdsensError: the first that was met.
    """
    _met.clear()
    try:
        yield
    except RuntimeError:
        if not _met:
            raise
        error = _met[0]
        _met.clear()
        raise error from None


class _OnPurpose(logging.Filter):
    """Lets no record pass of an error that is about to be raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is of anything else."""
        return record.exc_info is None or not isinstance(record.exc_info[1], MdsensError)


logging.getLogger("jax._src.callback").addFilter(_OnPurpose())
