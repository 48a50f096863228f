"""Compiled code, over which the compiler takes no longer than is worth it.

What is compiled here is a program of arrays alone: all else that a function is given, such as the
kind of a potential or the number of atoms, is part of the program. A program serves the process,
and where compiled code is kept on disk, the next one, which then has nothing to trace or compile.
"""

import contextlib
import functools
import gc
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, TypeVar, overload

import equinox as eqx
import jax
import numpy as np

from mdsens import kept_programs
from mdsens.host_errors import raised_plainly
from mdsens.nameless import named
from mdsens.program_arguments import Call, settings
from mdsens.resources import available_cores
from mdsens.traced_programs import calls_host, numbers_computed
from mdsens.values import is_traced

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # before JAX 0.8
    from jax.core import get_opaque_trace_state

P = ParamSpec("P")
T = TypeVar("T")
Donated = Literal["all-except-first", "none"]

#: Numbers in all arguments below which what is called at each step is compiled in a hurry.
SMALL = 100_000
#: Numbers that a program computes on its way, from which on its code is worth being fast at once.
MUCH = 200_000_000
#: Calls of a program, and of one that computes much, after which its code may be worth being fast.
OFTEN, OFTEN_IF_HEAVY = 500, 50
#: Numbers that all its calls have computed then at least, in about the half of a second that it
#: takes to compile it again: no program of a few atoms is for the sake of a hundred relaxations.
ENOUGH = 1_600_000_000
#: Numbers that a program computes, of which a derivative takes two calls, from which on its code is
#: worth being fast at once: two calls that compute fewer are over sooner than the compiler.
MUCH_IN_TWO_CALLS = ENOUGH // 2
#: What XLA does in a hurry: nothing beyond what makes code, by the emitters that take less time, in
#: one part, since those for several cores take longer together, and without two passes that go
#: round and round over long programs.
HURRIED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_disable_hlo_passes": "reshape-mover,while-loop-invariant-code-motion",
}
#: What XLA does otherwise: computes with vectors as wide as the processor has, where it would halve
#: them by itself (forces with AVX-512: three quarters of the time for Lennard-Jones, nine tenths
#: for Stillinger-Weber).
UNHURRIED = {"xla_cpu_prefer_vector_width": 512}
#: Passes of XLA that programs are made without, one after another with commas between.
DISABLED = "xla_disable_hlo_passes"
#: For programs whose steps XLA's threads do not share, of which it has two on one core: forces of
#: Lennard-Jones then take two thirds of the time on one core, and half of the processor's on two.
UNSHARED_STEPS = {DISABLED: "cpu-parallel-task-assigner"}
#: Any number of a kind that has derivatives.
_NUMBER = np.zeros(())
#: Settings under which JAX looks into programs.
DEBUGGING = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")

# In a thread of its own, since this may be imported while JAX traces.
with ThreadPoolExecutor(1) as _thread:
    _OUTSIDE = _thread.submit(get_opaque_trace_state).result()

_rehearsal: ContextVar[Callable[[], bool] | None] = ContextVar("_rehearsal", default=None)
_decides: ContextVar[Callable[[], bool] | None] = ContextVar("_decides", default=None)
_functions: "weakref.WeakSet[CompiledFunction]" = weakref.WeakSet()


@overload
def compiled(function: Callable[P, T]) -> Callable[P, T]: ...
@overload
def compiled(
    *, heavy: bool = ..., donate: Donated = ..., much: int | None = ..., seldom: bool = ...
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def compiled(
    function: Any = None,
    *,
    heavy: bool = False,
    donate: Donated = "none",
    much: int | None = None,
    seldom: bool = False,
) -> Any:
    """`equinox.filter_jit`, in a hurry where the arguments are small, or it is called seldom.

    Most of what a user of small systems waits for is the compiler, which spends most of its time on
    making fast what takes no time. What is called often, as in a long sweep, is compiled again
    without hurry. Who sets any of the options in the environment variable XLA_FLAGS decides for all
    programs.

    Arguments:
        function: a function of pytrees, of which all but the arrays is constant.
        heavy: whether it computes much from few numbers, as a loop does.
        donate: as in `equinox.filter_jit`.
        much: numbers that it computes on its way, the body of a loop once, from which on its code
            is worth being fast at once; None: `MUCH`.
        seldom: whether a relaxation or a derivative calls it a few times, and not at each step:
            it is compiled in a hurry for large arguments too, and anew once its calls have computed
            as much as that was worth.

    Returns:
        The function, compiled once for each kind of arguments.
    """
    given: Any = {"heavy": heavy, "donate": donate, "much": much, "seldom": seldom}
    if function is None:
        return functools.partial(CompiledFunction, **given)
    return CompiledFunction(function, **given)


class CompiledFunction:
    """A function, and the programs that it was compiled to: one for each kind of arguments.

    Arguments:
        function: a function of pytrees.
        heavy: whether it computes much from few numbers.
        donate: which arguments its results may be written over.
        much: numbers computed from which on it is compiled without hurry at once; None: `MUCH`.
        seldom: whether it is compiled in a hurry for large arguments too.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        heavy: bool = False,
        donate: Donated = "none",
        much: int | None = None,
        seldom: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.heavy, self.donates, self.much = heavy, donate != "none", much
        self.seldom = seldom
        # What is inside of other programs is JAX's to keep.
        self._inside = eqx.filter_jit(function, donate=donate)
        # What calls the host is too, but no worth making fast.
        options: dict[str, Any] = {"compiler_options": HURRIED}
        self._calling = eqx.filter_jit(function, donate=donate, **options)
        self._programs: dict[Any, _Program] = {}
        # Of each kind of calls that of the program, and what names say that it does not know.
        self._known: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
        self._kinds: dict[Any, Any] = {}
        self._pending: dict[Any, Future[_Program]] = {}
        self._changing = threading.Lock()
        _functions.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns: from a program, or within what JAX traces as JAX sees fit."""
        __tracebackhide__ = True
        if any(settings(DEBUGGING)) or _part_of_another(args, kwargs):
            with raised_plainly():
                return self._inside(*args, **kwargs)
        return self._answer(self._prepared(args, kwargs))

    def bound(self, array: Any, args: tuple[Any, ...]) -> Callable[[Any], Any]:
        """`of_array` on the host, outside of what JAX traces."""
        call = self._prepared(args, {})
        if call.kind not in self._programs:
            # Threads may call it that know nothing of what is set in this one.
            self._made(call)
        return lambda other: self._answer(call.with_array(array, other))

    def _prepared(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The call, with what stands for its kind."""
        call = Call(args, kwargs, self.donates)
        call.kind, call.said = self._known.get(call.kind) or self._learnt(call)
        return call

    def _answer(self, call: Call) -> Any:
        """What the function returns."""
        __tracebackhide__ = True
        program = self._programs.get(call.kind) or self._made(call)
        decides, ended = _decides.get(), _rehearsal.get()
        if ended is not None and ended():
            raise RehearsalEndedError
        if decides is not None:
            program = self._decided(call, program, decides())
        elif program.calls_left <= 0 and ended is None:
            program = self._made(call, often=True)
        # Threads that count at the same time may count once; none is ever counted out.
        program.calls_left -= ended is None
        if program.code is None:
            hurried = call.size < SMALL and nobody_decided() and accepted()
            args, kwargs = call.given
            with raised_plainly():
                return (self._calling if hurried else self._inside)(*args, **kwargs)
        return program.results_of(program.code(*call.arrays), call.said)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else jax.tree_util.Partial(self, instance)

    def __reduce__(self) -> str:
        return self.__qualname__

    def forget(self) -> None:
        """Let go of all programs."""
        with self._changing:
            for known in (self._programs, self._known, self._kinds):
                known.clear()

    def count_anew(self) -> None:
        """Call again first what was compiled in a hurry, as often as a new process would."""
        with self._changing:
            for kind, program in self._programs.items():
                self._programs[kind] = program.at_first()

    def _decided(self, call: Call, program: "_Program", hurried: bool) -> "_Program":
        """The program in a hurry or without, whatever the calls so far."""
        first = program.hurried or program
        if hurried or first.calls == math.inf or first.code is None:
            return first
        if program is first:
            first.calls_left = 0
            return self._made(call, often=True)
        return program

    def _learnt(self, call: Call) -> tuple[Any, tuple[Any, ...]]:
        """The kind of the program for a call, and what names say that the program does not know."""
        of_call, known = call.kind, (self._kind_of(call), ())
        if kept_programs.is_told_by_releases(call.described()):
            nameless = call.nameless()
            if nameless.said:
                # Without names it may fail for want of them, or as it does with them, which tells.
                with contextlib.suppress(Exception):
                    call.kind, call.said = self._kind_of(nameless), nameless.said
                    self._made(call)
                    known = call.kind, call.said
        self._known[of_call] = known
        return known

    def _kind_of(self, call: Call) -> Any:
        """What stands for a kind of calls, and is compared with others in no time."""
        return self._kinds.setdefault(call.kind, object())

    def _made(self, call: Call, often: bool = False) -> "_Program":
        """The program for a call, unless another thread has it or is about to."""
        with self._changing:
            known = self._programs.get(call.kind)
            if known is not None and (not often or known.calls_left > 0):
                return known
            if known is not None and known.better is not None:
                self._programs[call.kind] = known.better
                return known.better
            others = self._pending.get(call.kind)
            if others is None:
                mine = self._pending[call.kind] = Future()
        if others is not None:
            return others.result()
        try:
            program = self._made_or_kept(call, often)
        except BaseException as error:
            with self._changing:
                del self._pending[call.kind]
            mine.set_exception(error)
            raise
        with self._changing:
            if known is not None:
                known.better, program.hurried = program, known
            self._programs[call.kind] = program
            del self._pending[call.kind]
        mine.set_result(program)
        return program

    def _made_or_kept(self, call: Call, often: bool) -> "_Program":
        if call.said:
            call = call.nameless()
        hurried = not often and (self.seldom or call.size < SMALL) and nobody_decided()
        name = kept_programs.name(self, call.described(), options_of(call, hurried))
        kept = kept_programs.read(name)
        if kept is None:
            code, results, hurried_calls = self._compiled(call, hurried)
            if code is not None:
                kept_programs.write(name, code, (results, hurried_calls))
        else:
            code, (results, hurried_calls) = kept
        return _Program(code, results, hurried_calls)

    def _compiled(self, call: Call, hurried: bool) -> tuple[Any, Any, float]:
        """Code for a call, what it returns with a `Place` for each array, and calls in a hurry.

        There is no code where the host is called, and no hurry where much is computed.
        """
        results: Any = None

        def function(*arrays: list[Any]) -> list[Any]:
            nonlocal results
            args, kwargs = call.with_arrays(*arrays)
            leaves, structure = jax.tree.flatten(self._function(*args, **kwargs))
            found = [leaf for leaf in leaves if eqx.is_array(leaf)]
            places = map(Place, range(len(found)))
            results = jax.tree.unflatten(
                structure, [next(places) if eqx.is_array(leaf) else leaf for leaf in leaves]
            )
            return found

        function.__name__ = function.__qualname__ = self.__name__
        passed: dict[str, Any] = {"donate_argnums": 1} if self.donates else {}
        with garbage_kept:
            traced = jax.jit(function, **passed).trace(*call.arrays)
            if calls_host(traced.jaxpr.jaxpr):
                return None, None, math.inf
            computed = numbers_computed(traced.jaxpr.jaxpr)
            hurried = hurried and computed < (MUCH if self.much is None else self.much)
            lowered = traced.lower()
        options = options_of(call, hurried) if accepted() else {}
        often = OFTEN_IF_HEAVY if self.heavy else OFTEN
        least = often if call.size < SMALL else 1
        calls = max(least, ENOUGH // max(computed, 1)) if hurried else math.inf
        return lowered.compile(compiler_options=options or None), results, calls


def of_array(function: Callable[..., T], array: Any, *args: Any) -> Callable[[Any], T]:
    """A compiled function of one of the arrays in its arguments, for many calls on the host.

    To look for the program of a call takes as long as to run one of some thousand numbers.

    Arguments:
        function: compiled by `compiled`.
        array: which one, the array itself.
        args: all arguments.

    Returns:
        The function of an array of that shape and type.
    """
    if not isinstance(function, CompiledFunction) or any(settings(DEBUGGING)):
        return lambda other: function(*_with(array, other, args))
    return function.bound(array, args)


class _GarbageKept:
    """Puts off the collection of garbage, which takes a sixth of the time that JAX traces."""

    def __init__(self) -> None:
        self._changing, self._inside, self._enabled = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._changing:
            if self._inside == 0:
                self._enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changing:
            self._inside -= 1
            if self._inside == 0 and self._enabled:
                gc.enable()


#: As a context: no garbage is collected while code is traced.
garbage_kept = _GarbageKept()


class Place(int):
    """Stands for one of the arrays that a program returns, by its number."""


class _Program:
    """Code that takes and returns arrays, and what becomes of these.

    Arguments:
        code: the code; None where the host is called, which JAX sees to.
        results: what is returned, with a `Place` for each array.
        calls_left: calls until it is made again without hurry; infinite: it is never.
    """

    def __init__(self, code: Any, results: Any, calls_left: float) -> None:
        self.code, self.calls, self.calls_left = code, calls_left, calls_left
        # What it is replaced by when it has been called often, and what it has replaced.
        self.better: _Program | None = None
        self.hurried: _Program | None = None
        self._results = results
        self._leaves, structure = jax.tree.flatten(results)
        self._structures = {(): structure}

    def at_first(self) -> "_Program":
        """The program that a new process would begin with, none of its calls counted."""
        first = self.hurried or self
        first.calls_left = first.calls
        return first

    def results_of(self, arrays: list[jax.Array], said: tuple[Any, ...]) -> Any:
        """What is returned, with these arrays, and names that say this."""
        if said not in self._structures:
            self._structures[said] = jax.tree.structure(named(self._results, said))
        return jax.tree.unflatten(
            self._structures[said],
            [arrays[leaf] if type(leaf) is Place else leaf for leaf in self._leaves],
        )


def _with(array: Any, other: Any, tree: Any) -> Any:
    """A pytree with another array in the place of one."""
    return jax.tree.map(lambda leaf: other if leaf is array else leaf, tree)


def _part_of_another(args: Any, kwargs: Any) -> bool:
    """Whether a call belongs to what JAX traces, and has no numbers to be made with at once.

    While a derivative or a batch is computed outside `jit`, what does not depend on its variables
    has its numbers: a relaxation is made by the programs that are there.
    """
    if get_opaque_trace_state() == _OUTSIDE:
        return False
    return is_traced((args, kwargs)) or inside_a_trace()


def inside_a_trace() -> bool:
    """Whether JAX traces what is computed now, numbers that it depends on or not."""
    return get_opaque_trace_state() != _OUTSIDE and is_traced(jax.lax.stop_gradient(_NUMBER))


def options_of(call: Call, hurried: bool) -> dict[str, Any]:
    """Options of XLA for the program of a call."""
    if not nobody_decided():
        return {}
    usual, asked = HURRIED if hurried else UNHURRIED, asked_for(call)
    alone = UNSHARED_STEPS if available_cores() == 1 else {}
    passes = [str(of[DISABLED]) for of in (usual, asked, alone) if DISABLED in of]
    together = {DISABLED: ",".join(dict.fromkeys(passes))} if passes else {}
    return usual | asked | together


def asked_for(call: Call) -> dict[str, Any]:
    """Options of XLA that kinds of arguments ask for, as their class's `compiler_options`."""

    def asks(node: Any) -> bool:
        return bool(getattr(type(node), "compiler_options", None))

    nodes = filter(asks, jax.tree.leaves(call.given, is_leaf=asks))
    return {name: value for node in nodes for name, value in type(node).compiler_options.items()}


def forget_programs() -> None:
    """Let go of all programs: each takes about ten of a process's 65,530 memory maps on Linux."""
    for function in tuple(_functions):
        function.forget()


def count_calls_anew() -> None:
    """Have all programs count their calls from here on, as in a new process.

    Code that was compiled without hurry rounds otherwise: what is computed after this is the same
    in every bit, whatever the process has computed before. Nothing is compiled again.
    """
    for function in tuple(_functions):
        function.count_anew()


class RehearsalEndedError(Exception):
    """Nobody waits any more for what a rehearsal computes."""


@contextlib.contextmanager
def rehearsing(ended: Callable[[], bool]) -> Iterator[None]:
    """Have calls in this thread make programs, and not be counted among those of the process.

    Which code the others get, and so how their results round, is then the same as without.

    Arguments:
        ended: says whether it is over: the next call then raises RehearsalEndedError.
    """
    token = _rehearsal.set(ended)
    try:
        yield
    finally:
        _rehearsal.reset(token)


@contextlib.contextmanager
def hurried_while(decides: Callable[[], bool]) -> Iterator[None]:
    """Have something else than the calls in this process decide which code is compiled in a hurry.

    What was interrupted and goes on in another process is then the same in every bit.

    Arguments:
        decides: says whether programs that are called now are to be those made in a hurry.
    """
    token = _decides.set(decides)
    try:
        yield
    finally:
        _decides.reset(token)


def nobody_decided() -> bool:
    """Whether the code is for a CPU, and the variable XLA_FLAGS names none of the options."""
    flags = os.environ.get("XLA_FLAGS", "")
    decided = any(option in flags for option in (*HURRIED, *UNHURRIED))
    return not decided and jax.default_backend() == "cpu"


@functools.cache
def accepted() -> bool:
    """Whether this release of XLA knows the options: none of them is promised to stay."""
    try:
        jax.jit(lambda: 0.0, compiler_options=HURRIED | UNHURRIED)()
    except jax.errors.JaxRuntimeError:
        return False
    return True
