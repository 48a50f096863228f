"""One line for each mistake in a study: key, value, what is allowed, and the nearest match."""

import types
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from mdsens.errors import InputError
from mdsens.markup import visible
from mdsens.values import nearest, shown


def not_allowed(key: str, value: Any, allowed: Iterable[str]) -> InputError:
    """An error for a value that is none of a list.

    Arguments:
        key: path of the key in the study, e.g. ``"relaxation.method"``.
        value: what was given.
        allowed: the values there are.

    Returns:
        The InputError, to be raised.
    """
    names = list(allowed)
    return InputError(
        f"{_in_line(key)} = {shown(value)}: allowed are {', '.join(names)}{nearest(value, names)}"
    )


def no_such_key(key: str, value: Any, allowed: Iterable[str]) -> InputError:
    """An error for a key that does not exist in its table.

    Arguments:
        key: path of the key in the study, e.g. ``"relaxation.methd"``.
        value: what was given.
        allowed: the keys of that table.

    Returns:
        The InputError, to be raised.
    """
    table, _, name = key.rpartition(".")
    names = list(allowed)
    where = f"[{table}]" if table else "a study"
    return InputError(
        f"{_in_line(key)} = {shown(value)}: {where} has no key {shown(name)}; allowed are "
        f"{', '.join(names)}{nearest(name, names)}"
    )


def from_pydantic(error: ValidationError, model: type[BaseModel], prefix: str = "") -> InputError:
    """The first mistake that pydantic found, as one line.

    Arguments:
        error: what pydantic raised.
        model: the model that was being read, to name the keys that are allowed.
        prefix: path of the model's table in the study.

    Returns:
        The InputError, to be raised.
    """
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not _is_type_tag(part)]
    key = ".".join([*([prefix] if prefix else []), *path])
    kind, value, context = first["type"], first.get("input"), first.get("ctx", {})
    if kind == "extra_forbidden":
        return no_such_key(key, value, _keys_at(model, path[:-1]))
    if kind == "missing":
        return InputError(f"{key} is missing: give one")
    if not key:
        return InputError(_in_words(first["msg"]))
    key = _in_line(key)
    if kind == "literal_error":
        names = [part.strip(" '") for part in context["expected"].replace(" or ", ", ").split(",")]
        return not_allowed(key, value, names)
    return InputError(f"{key} = {shown(value)}: {_in_words(first['msg'])}")


def _in_line(key: str, limit: int = 80) -> str:
    key = visible(key)
    return key if len(key) <= limit else key[: limit - 3] + "..."


def _is_type_tag(part: Any) -> bool:
    """Whether an entry of pydantic's path names a branch of a union and no key of the file."""
    return part in ("float", "int", "str", "bool", "constrained-int") or "[" in str(part)


def _in_words(message: str) -> str:
    for before, after in (
        ("Input should be a finite number", "give a finite number"),
        (" or instance of Rattle", ""),
        (" or instance of SweepTable", ""),
        ("String should", "it should"),
        ("Input should be a valid ", "give a "),
        ("Input should be ", "give a value "),
        ("Value error, ", ""),
    ):
        message = message.replace(before, after)
    return message.replace("give a dictionary", "give a table").replace(
        "give a integer", "give an integer"
    )


def _keys_at(model: Any, path: list[str]) -> list[str]:
    """Keys that a model allows in the table at a path."""
    for part in path:
        annotation = model.model_fields[part].annotation if _is_model(model) else None
        model = next((kind for kind in _members(annotation) if _is_model(kind)), None)
    if not _is_model(model):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _members(annotation: Any) -> list[Any]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return list(typing.get_args(annotation))
    return [annotation]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
