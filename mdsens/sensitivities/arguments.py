"""What a sensitivity is asked for: observables and parameters, each once."""

from collections.abc import Iterable
from typing import Any

from mdsens.errors import InputError
from mdsens.observables.observable import Observable, parse
from mdsens.values import distinct_names, items, shown


def asked_observables(
    given: Observable | str | Iterable[Observable | str],
) -> tuple[Observable, ...]:
    """The observables that are meant.

    Arguments:
        given: one or several, as objects or as text such as ``"distance(0,1)"``.

    Returns:
        The observables, whose names differ.

    Raises:
        InputError: anything else, an unknown observable, or two of one name.
    """
    several = _several(given, (Observable, str))
    if several is None:
        raise InputError(
            f"observables = {shown(given)}: give an observable, a name such as 'distance(0,1)', or "
            "a list of these"
        )
    for item in several:
        if not isinstance(item, (Observable, str)):
            raise InputError(
                f"observables: {shown(item)} is none; give an observable, or a name such as "
                "'distance(0,1)'"
            )
    asked = [parse(item) if isinstance(item, str) else item for item in several]
    names = [observable.name for observable in asked]
    if names:
        distinct_names(names, "observables")
    return tuple(asked)


def asked_parameters(given: str | Iterable[str] | None) -> list[str] | None:
    """The names of parameters that are meant.

    Arguments:
        given: a name, several, or None for all.

    Returns:
        The names, which differ, or None for all.

    Raises:
        InputError: anything else, or a name given twice.
    """
    if given is None:
        return None
    several = _several(given, str)
    return list(distinct_names(given if several is None else several, "wrt"))


def _several(given: object, one: type | tuple[type, ...]) -> list[Any] | None:
    """One or several things as a list; None for what is neither."""
    if isinstance(given, one):
        return [given]
    # An array without dimensions passes for an iterable.
    return items(given)
