"""Ctrl-C and requests to end, which the command hears wherever they arrive."""

import _thread
import signal
import sys
import threading
import types

#: Exit statuses after Ctrl-C and after a request to end, as shells have them.
INTERRUPTED = 130
TERMINATED = 143


#: Packages whose compiled parts crash where a signal raises an error while they are imported.
FRAGILE = ("jax", "jaxlib")


def hear_requests_to_end() -> None:
    """Turn a request to end into SystemExit, so that what was begun is cleaned up first.

    Ctrl-C raises KeyboardInterrupt, as ever. Either waits until what cannot bear it is imported.
    """
    signal.signal(signal.SIGTERM, _hear)
    # A process may have been started without ears for it, as by nohup.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _hear)
    sys.unraisablehook = hear_again


def _hear(number: int, frame: types.FrameType | None) -> None:
    specs = (getattr(sys.modules.get(name), "__spec__", None) for name in FRAGILE)
    if any(getattr(spec, "_initializing", False) for spec in specs):
        _send_again(number)
    elif number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    else:
        sys.exit(TERMINATED)


def _send_again(number: int) -> None:
    """Send a signal again, a tenth of a second later."""
    again = threading.Timer(0.1, _thread.interrupt_main, [number])
    again.daemon = True
    again.start()


def signal_behind(error: BaseException) -> int | None:
    """The exit status of the signal that is behind an error.

    Compiled code, and Python while it makes a class, wrap what a signal raises in errors of their
    own.

    Arguments:
        error: anything that was raised.

    Returns:
        INTERRUPTED after Ctrl-C, TERMINATED after a request to end, None for all other errors.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, KeyboardInterrupt) or "KeyboardInterrupt" in str(cause):
            return INTERRUPTED
        if isinstance(cause, SystemExit):
            return TERMINATED if cause.code == TERMINATED else None
        if f"SystemExit: {TERMINATED}" in str(cause):
            return TERMINATED
        cause = cause.__cause__ or cause.__context__
    return None


def hear_again(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal again whose exception Python has dropped.

    What a signal raises inside a callback of the garbage collector (JAX has one) or a finalizer is
    printed and then ignored, and the run would go on.
    """
    if isinstance(lost.exc_value, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(lost.exc_value, SystemExit) and lost.exc_value.code == TERMINATED:
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(lost)
        return
    # Later, for here it would be dropped as well.
    _send_again(number)
