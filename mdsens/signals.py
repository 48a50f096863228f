"""Ctrl-C and requests to end, which the command hears wherever they arrive."""

import _thread
import signal
import sys
import threading

#: Exit statuses after Ctrl-C and after a request to end, as shells have them.
INTERRUPTED = 130
TERMINATED = 143


def hear_requests_to_end() -> None:
    """Turn a request to end into SystemExit, so that what was begun is cleaned up first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.unraisablehook = hear_again


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
    again = threading.Timer(0.1, _thread.interrupt_main, [number])
    again.daemon = True
    again.start()
