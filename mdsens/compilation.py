"""Compiled code, over which the compiler takes no longer than is worth it."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, ParamSpec, TypeVar, overload

import equinox as eqx
import jax

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # before JAX 0.8
    from jax.core import get_opaque_trace_state

P = ParamSpec("P")
T = TypeVar("T")
Donated = Literal["all-except-first", "none"]

#: Numbers in all arguments below which a program is compiled in a hurry.
SMALL = 100_000
#: Calls of a program after which its code is worth being fast after all.
OFTEN = 500
#: What XLA does in a hurry: nothing beyond what makes code, by the emitters that take less time.
HURRIED = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
#: The same for heavy work, the code of which is as fast as ever.
HURRIED_HEAVY = {"xla_cpu_use_fusion_emitters": False, "xla_llvm_disable_expensive_passes": True}

# In a thread of its own, since this may be imported while JAX traces.
with ThreadPoolExecutor(1) as _thread:
    _OUTSIDE = _thread.submit(get_opaque_trace_state).result()


@overload
def compiled(function: Callable[P, T]) -> Callable[P, T]: ...
@overload
def compiled(
    *, heavy: bool, donate: Donated = ...
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def compiled(function: Any = None, *, heavy: bool = False, donate: Donated = "none") -> Any:
    """`equinox.filter_jit`, in a hurry where the arguments are small.

    Most of what a user of small systems waits for is the compiler, which spends most of its time on
    making fast what takes no time. What is called often, as in a long sweep, is compiled again
    without hurry. Who sets any of the options in the environment variable XLA_FLAGS decides for all
    programs.

    Arguments:
        function: a function of pytrees, of which all but the arrays is constant.
        heavy: whether it computes much from few numbers, as a loop does.
        donate: as in `equinox.filter_jit`.

    Returns:
        The function, compiled once for each kind of arguments.
    """
    options = HURRIED_HEAVY if heavy else HURRIED
    if function is None:
        return functools.partial(_Compiled, options=options, donate=donate)
    return _Compiled(function, options, donate)


class _Compiled:
    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], donate: Donated
    ) -> None:
        functools.update_wrapper(self, function)
        self._thorough = eqx.filter_jit(function, donate=donate)
        # Passed on to jax.jit, which the signature does not say.
        passed: dict[str, Any] = {"compiler_options": options}
        self._hurried = eqx.filter_jit(function, donate=donate, **passed)
        # Heavy work is done as fast in either case.
        self._calls_left = float("inf") if options is HURRIED_HEAVY else OFTEN

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if self._calls_left > 0 and is_small((args, kwargs)) and nobody_decided() and accepted():
            self._calls_left -= 1
            return self._hurried(*args, **kwargs)
        return self._thorough(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else jax.tree_util.Partial(self, instance)


def is_small(arguments: Any) -> bool:
    """Whether they are few numbers, outside of all that JAX traces: a program of their own."""
    if get_opaque_trace_state() != _OUTSIDE:
        return False
    return sum(getattr(leaf, "size", 0) for leaf in jax.tree.leaves(arguments)) < SMALL


def nobody_decided() -> bool:
    """Whether the code is for a CPU, and the variable XLA_FLAGS names none of the options."""
    flags = os.environ.get("XLA_FLAGS", "")
    return (
        not any(option in flags for option in HURRIED | HURRIED_HEAVY)
        and jax.default_backend() == "cpu"
    )


@functools.cache
def accepted() -> bool:
    """Whether this release of XLA knows the options: none of them is promised to stay."""
    try:
        jax.jit(lambda: 0.0, compiler_options=HURRIED | HURRIED_HEAVY)()
    except jax.errors.JaxRuntimeError:
        return False
    return True
