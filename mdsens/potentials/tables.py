"""Tables of parameters over species and pairs of species, and the names of their entries."""

import itertools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mdsens.errors import InputError
from mdsens.values import is_traced, real_array, shown


def names_of_pairs(names: tuple[str, ...], label: str) -> dict[str, tuple[int, int]]:
    """Both ways to name each pair of species, and its indices.

    Raises:
        InputError: two pairs, or a pair and a species, have the same name.
    """
    pairs: dict[str, tuple[int, int]] = {}
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            name = f"{first}-{second}"
            if name in names or pairs.get(name, (i, j)) not in ((i, j), (j, i)):
                raise InputError(
                    f"{label}: species = {shown(names)}: {name!r} may be read in two ways; give "
                    "the species other names"
                )
            pairs[name] = (min(i, j), max(i, j))
    return pairs


def names_of_entries(
    names: tuple[str, ...], dimensions: int, label: str = "species"
) -> dict[str, tuple[int, ...]]:
    """Names of a table's entries whose order counts, such as ``"Si-C-C"``, and their indices.

    Raises:
        InputError: two entries have the same name.
    """
    entries: dict[str, tuple[int, ...]] = {}
    for place in itertools.product(range(len(names)), repeat=dimensions):
        name = "-".join(names[index] for index in place)
        if name in entries:
            raise InputError(
                f"{label}: species = {shown(names)}: {name!r} may be read in two ways; give the "
                "species other names"
            )
        entries[name] = place
    return entries


def table_from_names(
    values: Mapping[str, float], names: tuple[str, ...] | None, label: str, per: str = "pair"
) -> Any:
    """A parameter's table from names such as ``"Ar"``, ``"Ar-Kr"`` or ``"Si-C-C"``.

    Arguments:
        values: numbers by the names of entries.
        names: the species.
        label: what the table is called, for the message.
        per: what the entries belong to, as for `parameter`.

    Raises:
        InputError: a name that is none, one twice, or an entry without a value.
    """
    if names is None:
        raise InputError(f"{label} is a table: name its rows, as in species=('Ar', 'Kr')")
    single = per == "atom" or (per in ("pair", "species") and all(key in names for key in values))
    places: dict[str, tuple[int, ...]]
    if single:
        places = {name: (index,) for index, name in enumerate(names)}
    elif per in ("bond", "triplet"):
        places = names_of_entries(names, 2 if per == "bond" else 3, label)
    else:
        places = dict(names_of_pairs(names, label))
    given: dict[tuple[int, ...], str] = {}
    for key in values:
        if key not in places:
            kind = {"triplet": "triplet", "atom": "one"}.get(per, "pair")
            raise InputError(
                f"{label}: {shown(key)} is no {kind} of the species {', '.join(names)}"
            )
        if places[key] in given:
            raise InputError(given_twice(label, given[places[key]], key))
        given[places[key]] = key
    for name, place in places.items():
        if place not in given:
            raise InputError(f"{label} has no value for {name}: give one")
    numbers = {
        place: real_array(values[key], f"{label}[{key}]", ()) for place, key in given.items()
    }
    if per in ("bond", "triplet"):
        arrays: Any = jnp if is_traced(list(numbers.values())) else np
        shape = (len(names),) * (2 if per == "bond" else 3)
        return arrays.stack([numbers[place] for place in np.ndindex(shape)]).reshape(shape)
    if single:
        rows: list[Any] = [numbers[index,] for index in range(len(names))]
    else:
        size = range(len(names))
        rows = [[numbers[min(i, j), max(i, j)] for j in size] for i in size]
    return (jnp if is_traced(rows) else np).asarray(rows)


def given_twice(label: str, first: str, second: str) -> str:
    """The line that says that two names are one."""
    return f"{label}: {first!r} and {second!r} are the same: give its value once"
