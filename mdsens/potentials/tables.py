"""Tables of parameters over species and pairs of species, and the names of their entries."""

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


def table_from_names(values: Mapping[str, float], names: tuple[str, ...] | None, label: str) -> Any:
    """A table over pairs of species (or a value per species) from names such as ``"Ar-Kr"``."""
    if names is None:
        raise InputError(f"{label} is a table: name its rows, as in species=('Ar', 'Kr')")
    single = all(key in names for key in values)
    places: dict[str, tuple[int, ...]] = (
        {name: (index,) for index, name in enumerate(names)}
        if single
        else dict(names_of_pairs(names, label))
    )
    given: dict[tuple[int, ...], str] = {}
    for key in values:
        if key not in places:
            raise InputError(f"{label}: {shown(key)} is no pair of the species {', '.join(names)}")
        if places[key] in given:
            raise InputError(given_twice(label, given[places[key]], key))
        given[places[key]] = key
    for name, place in places.items():
        if place not in given:
            raise InputError(f"{label} has no value for {name}: give one")
    numbers = {
        place: real_array(values[key], f"{label}[{key}]", ()) for place, key in given.items()
    }
    if single:
        rows: list[Any] = [numbers[index,] for index in range(len(names))]
    else:
        size = range(len(names))
        rows = [[numbers[min(i, j), max(i, j)] for j in size] for i in size]
    return (jnp if is_traced(rows) else np).asarray(rows)


def given_twice(label: str, first: str, second: str) -> str:
    """The line that says that two names are one."""
    return f"{label}: {first!r} and {second!r} are the same: give its value once"
