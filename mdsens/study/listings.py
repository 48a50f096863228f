"""What there is: potentials and observables with what they take, for the terminal and scripts."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mdsens.errors import InputError
from mdsens.markup import console, for_terminal
from mdsens.study.observable_table import ARGUMENTS, OBSERVABLES, ObservableEntry
from mdsens.study.potential_table import POTENTIALS, PotentialEntry
from mdsens.units import in_dimensions, unit_name
from mdsens.values import nearest, shown

#: Letters of an observable with its arguments, beside which there is room for what it is.
WIDEST_CALL = 32
_Entry = TypeVar("_Entry", PotentialEntry, ObservableEntry)


def print_json(value: Any) -> None:
    """Print what a script asked for.

    Arguments:
        value: texts, numbers, lists and dicts by text.
    """
    print(json.dumps(value, indent=1, allow_nan=False))


def _arguments(words: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is after a colon, and the rest of each argument of ``"cutoff:length onset=None"``."""
    for word in words.split():
        name, equals, default = word.partition("=")
        name, _, dimension = name.partition(":")
        yield (
            dimension,
            {
                "name": name,
                "required": not equals,
                "default": ast.literal_eval(default) if equals else None,
            },
        )


def potential_arguments(entry: PotentialEntry) -> list[dict[str, Any]]:
    """The arguments of a potential.

    Arguments:
        entry: from the table.

    Returns:
        Of each its name, the physical dimension of its numbers (None where it has none), their
        unit, whether it has to be given, and its default.
    """
    return [
        {**of, "dimension": dimension or None, "unit": unit_name(dimension) if dimension else None}
        for dimension, of in _arguments(entry.made_from)
    ]


def described_potential(name: str, entry: PotentialEntry) -> dict[str, Any]:
    """What there is to say of a potential, for scripts.

    Arguments:
        name: what a study calls it.
        entry: from the table.

    Returns:
        Texts, lists and dicts.
    """
    files = {"endings": entry.endings.split(), "arguments": entry.of_files.split()}
    return {
        "type": name,
        "description": entry.description,
        "arguments": potential_arguments(entry),
        "files": files if entry.endings else None,
    }


def described_observable(name: str, entry: ObservableEntry) -> dict[str, Any]:
    """What there is to say of an observable, for scripts.

    Arguments:
        name: what a study calls it.
        entry: from the table.

    Returns:
        Texts, lists and dicts.
    """
    arguments = []
    for _, of in _arguments(entry.takes):
        meaning, unit = ARGUMENTS[of["name"]]
        arguments.append({**of, "meaning": meaning, "unit": unit or None})
    return {
        "name": name,
        "description": entry.description,
        "arguments": arguments,
        "unit": unit_name(in_dimensions(entry.dimension, 3)),
        "several": entry.several,
    }


def _chosen(kind: str, name: str | None, table: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """One entry of a table, or all; InputError where there is none of that name."""
    if name is None:
        return dict(sorted(table.items())) if kind == "potential" else dict(table)
    if name not in table:
        raise InputError(
            f"{kind} {shown(name)}: there is none{nearest(name, table)}; mdsens {kind}s lists all"
        )
    return {name: table[name]}


def show_potentials(name: str | None = None, as_json: bool = False) -> None:
    """Print the potentials that a study can name, or what one of them takes.

    Arguments:
        name: one of them; all by default.
        as_json: for a script.

    Raises:
        InputError: there is no such potential.
    """
    found = _chosen("potential", name, POTENTIALS)
    if as_json:
        print_json([described_potential(*item) for item in found.items()])
        return
    if name is not None:
        _show_potential(name, found[name])
        return
    rows = []
    for one, entry in found.items():
        given = [
            f"{argument['name']}{_in_parentheses(argument['unit'])}"
            for argument in potential_arguments(entry) if argument["required"]
        ]  # fmt: skip
        takes = ", ".join(given) if given else f"file ({', '.join(entry.endings.split())})"
        rows.append((one, f"{entry.description}: {takes}"))
    _print_table(("type", "what it is, and what has to be given"), rows)
    print("mdsens potentials TYPE shows all that one takes")


def _show_potential(name: str, entry: PotentialEntry) -> None:
    to = console()
    to.print(for_terminal(name, "bold"), for_terminal(entry.description), soft_wrap=True)
    rows = [
        (argument["name"], argument["unit"] or "",
         "" if argument["required"] else "none" if argument["default"] is None
         else str(argument["default"]))
        for argument in potential_arguments(entry)
    ]  # fmt: skip
    if rows:
        _print_table(("argument", "unit", "default"), rows)
        if any(unit not in ("", "1") for _, unit, _ in rows):
            print('numbers are in these units, or with units = "real" in those of that style of')
            print('LAMMPS, or of another; a text has its own, as in "0.34 nm"')
    if entry.endings:
        print(f"or from a file ({', '.join(entry.endings.split())}): file, "
              f"{', '.join(entry.of_files.split())}")  # fmt: skip


def show_observables(name: str | None = None, as_json: bool = False) -> None:
    """Print the observables that a study can ask for, or what one of them takes.

    Arguments:
        name: one of them; all by default.
        as_json: for a script.

    Raises:
        InputError: there is no such observable.
    """
    found = _chosen("observable", name, OBSERVABLES)
    described = [described_observable(*item) for item in found.items()]
    if as_json:
        print_json(described)
        return
    rows = []
    for one in described:
        # All that an observable may be given stands beside it where it is asked for by name.
        arguments = [
            a["name"] if a["required"] else f"{a['name']}={a['default']!r}"
            for a in one["arguments"] if a["required"] or name
        ]  # fmt: skip
        more = ["..."] * (len(one["arguments"]) > len(arguments))
        call = f"{one['name']}({', '.join([*arguments, *more])})" if arguments else one["name"]
        if name is None and len(call) > WIDEST_CALL:
            call = f"{one['name']}(...)"
        rows.append((call, one["unit"], one["description"]))
    _print_table(("observable", "unit", "what it is"), rows)
    if name is None:
        print("mdsens observables NAME shows what the arguments of one are")
    elif described[0]["arguments"]:
        print()
        _print_table(
            ("argument", "unit", "what it is"),
            [(a["name"], a["unit"] or "", a["meaning"]) for a in described[0]["arguments"]],
        )


def _print_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(titles):
        # The last one gives way. Names and units stay in a line, but for one with all it takes.
        last = place == len(titles) - 1
        table.add_column(title, overflow="fold", no_wrap=not last and len(rows) > 1)
    for row in rows:
        table.add_row(*map(for_terminal, row))
    console().print(table)


def _in_parentheses(unit: str | None) -> str:
    return f" ({unit})" if unit not in (None, "1") else ""
