"""Loops of the host that are compiled, by numba: what neither NumPy nor XLA does in one pass."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

#: What LLVM may do to sums, so that it adds up several numbers at a time: always the same ones.
SUMS = {"reassoc", "contract"}


def host_compiled(function: Function) -> Function:
    """A function of numbers and NumPy's arrays, compiled when it is first called.

    It is kept on disk, where there is room, and lets go of Python's interpreter as it runs.

    Arguments:
        function: in the part of Python that numba knows; it may call others that are compiled.

    Returns:
        The same, compiled.
    """
    return _compiled(function, False)


def host_compiled_sums(function: Function) -> Function:
    """The same for sums over arrays, of which several terms are added up at a time.

    Arguments:
        function: as of `host_compiled`.

    Returns:
        The same, compiled.
    """
    return _compiled(function, SUMS)


def host_compiled_for(signature: str) -> Callable[[Function], Function]:
    """Compile a function of these types as it is defined, as `host_compiled` does else.

    Arguments:
        signature: of the types, as numba writes them.

    Returns:
        What compiles it.
    """

    def decorate(function: Function) -> Function:
        return _compiled(function, False, signature)

    return decorate


def _compiled(
    function: Function, fastmath: set[str] | bool, signature: str | None = None
) -> Function:
    # Checks of types that may have been put around it are no code for a compiler.
    plain = inspect.unwrap(function)
    compiler: Any = numba.njit
    options = {"error_model": "numpy", "nogil": True, "fastmath": fastmath}
    try:
        found = compiler(signature, cache=True, **options)(plain)
    except (RuntimeError, OSError):
        # There is no folder to keep it in, or no room.
        return cast(Function, compiler(signature, **options)(plain))
    cache: Any = getattr(found, "_cache", None)
    if hasattr(cache, "save_overload"):
        # What is compiled later may find the disk full: it runs all the same.
        keep = cache.save_overload

        def kept_if_there_is_room(*what: Any) -> None:
            with contextlib.suppress(OSError):
                keep(*what)

        cache.save_overload = kept_if_there_is_room
    return cast(Function, found)
