"""What the command says of errors and warnings: a line each."""

import contextlib
import sys
import tempfile
import traceback

from mdsens.compilation_cache import announce
from mdsens.errors import MdsensWarning
from mdsens.markup import visible


def warn_in_a_line(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    """Say a warning as the command says all else: without the line of code that it came from."""
    kind = "" if issubclass(category, MdsensWarning) else f"{category.__name__}: "
    announce(f"mdsens: warning: {visible(' '.join(f'{kind}{message}'.split()))}")


def unexpected(error: Exception) -> str:
    """A line about an error that nobody foresaw, whose traceback goes to a file."""
    text = " ".join(str(error).split())
    what = type(error).__name__ + (f" ({text[:200]})" if text else "")
    advice = "please report it with that file and your study"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mdsens-traceback-", suffix=".txt", encoding="utf-8",
            errors="backslashreplace", delete=False,
        ) as file:  # fmt: skip
            traceback.print_exception(error, file=file)
    except OSError as trouble:
        traceback.print_exception(error)
        return f"unexpected {what}: no file can be written for the traceback above: {trouble}"
    return f"unexpected {what}: the traceback is in {file.name}; {advice}"


def complain(error: object, status: int) -> int:
    """Say what is wrong in a line; the exit status that was given."""
    text = " ".join(str(error).split())
    text = text.replace("pass allow_unconverged=True", "give --allow-unconverged")
    # The stream may be closed, and there is nobody left to tell.
    with contextlib.suppress(OSError):
        print(f"mdsens: {visible(text)}", file=sys.stderr, flush=True)
    return status
