"""Annotations that hold at every call of a fast test, shapes included.

Users give anything, and what cannot be meant is refused in a line. So a function may be given what
its annotations do not allow, if it refuses it itself; what it takes all the same, they must name.
"""

import dataclasses
import functools
import inspect
import os
import types
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self, get_type_hints

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype
from beartype.roar import BeartypeCallHintViolation

from mdsens.errors import MdsensError

#: What is not checked, and why.
UNCHECKED = (
    # The filter of warnings imports the errors before anything can be put in between.
    "mdsens.errors.one_line",
    "mdsens.errors.warn",
    "mdsens.errors.without_warnings",
    # The package itself imports it before the checks are put in.
    "mdsens.lazy_names.names_on_first_use",
    # A warning names the line that called: a check would be what called.
    "mdsens.relaxation.relax.relax",
)

# An int is a float, as for every type checker. Beartype knows Self only where it decorates a whole
# class; jaxtyping decorates methods.
holds = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any})))

#: False in slow tests, and in those that give any value at all: what they take need not be named.
active = True

#: How many calls of a function are checked in each test, and then one in how many: the thousands
#: that follow are given what the first ones were.
FIRST, ONE_IN = 20, 20
#: Whether all are.
EVERY = "MDSENS_EVERY_CALL" in os.environ
#: Of each function how often this test has called it.
called: Counter[int] = Counter()

#: Within it what one call says of dimensions holds for that call.
_dimensions_of_a_call = jaxtyping.jaxtyped("context")


def install():
    """Check what is imported from now on: the hook puts `jaxtyping.jaxtyped` on all it finds."""
    jaxtyping.jaxtyped = lambda *, typechecker: functools.partial(_checked, typechecker)
    jaxtyping.install_import_hook("mdsens", "type_checks.holds")


def _checked(typechecker, given):
    """A function or a dataclass that refuses in its own words what its annotations do not allow."""
    if inspect.isclass(given):
        if issubclass(given, Sequence):
            # Beartype would take out an item at random, and to take one out may be an error.
            given.__orig_bases__ = given.__bases__
        if dataclasses.is_dataclass(given) and not hasattr(given.__init__, "unchecked"):
            given.__init__ = _checked(typechecker, given.__init__)
        return given
    if f"{given.__module__}.{given.__qualname__}" in UNCHECKED:
        return given

    @functools.cache
    def held():
        # Of thousands of functions a process calls hundreds: only what is called pays for a check.
        # By jaxtyping each would be two checks, which take twice as long to make and in calls.
        return typechecker(_of_known_annotations(given))

    @functools.wraps(given)
    def call(*arguments, **options):
        __tracebackhide__ = True
        if not active or is_spared(call):
            return given(*arguments, **options)
        try:
            with _dimensions_of_a_call:
                return held()(*arguments, **options)
        except BeartypeCallHintViolation as violation:
            # The innermost function has tried; those that called it have nothing to add.
            if not hasattr(violation, "final"):
                violation.final = True
                try:
                    given(*arguments, **options)
                    _check_init(given, *arguments)
                except MdsensError as refusal:
                    raise refusal from None
                except Exception:
                    raise violation from None
            raise

    call.unchecked = given
    return call


def _of_known_annotations(given):
    """A function without those annotations that type checkers alone import."""

    def is_known(annotation):
        def holder():
            pass

        holder.__annotations__ = {"value": annotation}
        try:
            get_type_hints(holder, given.__globals__)
        except (NameError, AttributeError):
            return False
        return True

    annotations = given.__annotations__
    known = {name: value for name, value in annotations.items() if is_known(value)}
    if len(known) == len(annotations):
        return given
    alike = types.FunctionType(
        given.__code__, given.__globals__, given.__name__, given.__defaults__, given.__closure__
    )
    alike.__kwdefaults__, alike.__annotations__ = given.__kwdefaults__, known
    alike.__module__, alike.__qualname__ = given.__module__, given.__qualname__
    return alike


def is_spared(function):
    """Whether a call is one of many of its kind in this test."""
    count = called[id(function)] = called[id(function)] + 1
    return count > FIRST and count % ONE_IN != 0 and not EVERY


def _check_init(given, made=None, *_):
    """What a module of equinox refuses once its constructor has run."""
    if given.__name__ == "__init__":
        for kind in type(made).__mro__:
            vars(kind).get("__check_init__", lambda made: None)(made)
