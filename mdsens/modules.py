"""The base of all classes here whose fields are pytrees."""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx

T = TypeVar("T", bound="Module")
S = TypeVar("S")


class Module(eqx.Module):
    """`equinox.Module`, with methods that are Python's own.

    Equinox makes a pytree of every method that is asked for, be it to be called at once, which is
    a tenth of a millisecond for a few calls and all that a step of a small system may take.
    """

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__


def with_fields(module: T, **fields: Any) -> T:
    """A module with some fields changed, none of them checked: a tenth of `eqx.tree_at`'s time.

    Arguments:
        module: the module.
        fields: new values by name.

    Returns:
        The module.
    """
    changed = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = fields[field.name] if field.name in fields else getattr(module, field.name)
        object.__setattr__(changed, field.name, value)
    return changed


def known_once(function: Callable[[T], S]) -> Callable[[T], S]:
    """A function of a module that is computed once for each, and known as long as that lives.

    Equinox tells a module that has more than its fields from one that has not, as one with a
    `functools.cached_property` that was asked for: compiled code would be made for both.

    Arguments:
        function: of one module, which what it returns must not hold.

    Returns:
        The function.
    """
    known: dict[int, tuple[weakref.ref[T], S]] = {}

    @functools.wraps(function)
    def once(module: T) -> S:
        key = id(module)
        found = known.get(key)
        if found is None or found[0]() is not module:
            forgotten = weakref.ref(module, lambda _: known.pop(key, None))
            found = known[key] = forgotten, function(module)
        return found[1]

    return once
