"""Options of solvers by position, in JAXopt's order, and words for those that are not there."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from mdsens.errors import InputError
from mdsens.values import choice

__all__ = ["positional"]

Class = TypeVar("Class", bound=type)


def positional(
    *order: str, gone: dict[str, tuple[Any, str]] | None = None
) -> Callable[[Class], Class]:
    """A decorator of solvers whose options may be given by position too.

    Arguments:
        order: names of fields, in the order of positions; the others are given by name.
        gone: options that there were in JAXopt and are not here, each with the value that says
            what is done anyway (...: none), and what to write instead of others.

    Returns:
        The decorator. Called with a name that is none of a field, the solver raises an InputError.
    """

    def decorate(cls: Class) -> Class:
        assign: Callable[..., None] = cls.__init__  # type: ignore[misc]  # that of this class
        fields = {field.name: field for field in dataclasses.fields(cls)}

        @functools.wraps(assign)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            if len(args) > len(order):
                raise InputError(
                    f"{cls.__name__} got {len(args)} arguments by position; allowed are "
                    f"{len(order)}: give the others by name"
                )
            for name, (only, advice) in (gone or {}).items():
                if name in kwargs:
                    value = kwargs.pop(name)
                    same = isinstance(value, bool | int | float | str) and value == only
                    if value is not only and not same:
                        raise InputError(f"{cls.__name__} has no {name}: {advice}")
            for name in kwargs:
                choice(name, f"an option of {cls.__name__}", [*fields])
            for name in order[: len(args)]:
                if name in kwargs:
                    raise InputError(f"{cls.__name__} got {name} by position and by name")
            given = dict(zip(order, args, strict=False)) | kwargs
            missing = [
                name
                for name, field in fields.items()
                if name not in given
                and field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ]
            if missing:
                raise InputError(f"{cls.__name__} needs {' and '.join(missing)}: give it")
            assign(self, **given)

        names = [*order, *(name for name in fields if name not in order)]
        inits = inspect.signature(assign).parameters
        of_self, *_ = inits.values()
        shown = [
            inits[name].replace(
                kind=inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name in order
                else inspect.Parameter.KEYWORD_ONLY
            )
            for name in names
            if name in inits
        ]
        init.gone = gone or {}  # type: ignore[attr-defined]
        init.__signature__ = inspect.Signature([of_self, *shown])  # type: ignore[attr-defined]
        cls.__init__ = init  # type: ignore[misc]
        return cls

    return decorate
