"""Standard output and error of the command, whatever they lead to."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator

from mdsens.errors import MdsensError
from mdsens.markup import plain_letters

#: The handler of characters that a terminal's encoding cannot carry.
PLAIN = "mdsens-plain"


class OutputError(MdsensError):
    """Standard output cannot be written, as on a full disk."""


class Output(io.TextIOWrapper):
    """Standard output that says that it is the output which cannot be written."""

    def write(self, text: str) -> int:
        """Write text."""
        with _naming_output():
            return super().write(text)

    def flush(self) -> None:
        """Write what waits to be written."""
        with _naming_output():
            super().flush()


@contextlib.contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Whoever was reading it has gone, which is no error.
        raise
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from None


def prepare_streams() -> None:
    """Make printing safe where a stream is closed or full, or knows few characters.

    Where a stream is closed, the next file that is opened would take its number, and what is
    printed would go into that file.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number < 3:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    codecs.register_error(PLAIN, plain_letters)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    buffer = open(1, "wb", closefd=False) if sys.stdout is None else sys.stdout.buffer  # noqa: SIM115
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    sys.stdout = Output(buffer, encoding, PLAIN, line_buffering=buffer.isatty())


def flush_output() -> None:
    """Write what waits to be written; if nobody reads it any more, drop it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except (BrokenPipeError, OutputError) as error:
        # Python would try again at its end, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        if isinstance(error, OutputError):
            raise
