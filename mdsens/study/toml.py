"""Changes to a study's table from `--set`, and the table written as TOML again."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mdsens.errors import InputError
from mdsens.study.reading import DEEPEST, parse, require_plain
from mdsens.values import shown

_QUOTED = r"""[ \t]*(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
_NEXT = rf"""\.(?:{_QUOTED}|[^.\[\]="']+)|\[(?:{_QUOTED}|[^\[\]="']+)\]"""
_PART = re.compile(rf"""(?:^(?:{_QUOTED}|[^.\[\]="']+))|{_NEXT}""")
#: A path and a value; parts of the path stand after a dot or in brackets, and may be quoted.
_SETTING = re.compile(
    rf"""(?P<path>(?:{_QUOTED}|[^.\[\]="']+)(?:{_NEXT})*)[ \t]*=(?P<value>.*)""", re.DOTALL
)


def with_settings(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A study's table with some of its values changed.

    Arguments:
        table: the study as parsed from TOML.
        settings: texts such as ``"structure.seed=3"`` or ``"potential.sigma=3.4"``; an entry of a
            table of parameters may be written ``potential.sigma.Ar-Kr`` or
            ``potential.sigma[Ar-Kr]``, a part with other signs in quotes. Values are read as TOML,
            or else as text.

    Returns:
        The changed copy.

    Raises:
        InputError: a text without ``=``, a path that leads through something not a table, or more
            than one value.
    """
    if isinstance(settings, str):
        raise InputError(f"settings = {shown(settings)}: give a list of such texts")
    changed = dict(table)
    for setting in settings:
        parts, given = split_setting(setting)
        value = _value(given.strip(), setting)
        changed = with_value(changed, parts, value, f"--set {shown(setting)}")
    require_plain(changed)
    return changed


def with_value(
    table: Mapping[str, Any], parts: Sequence[str], value: Any, given: str
) -> dict[str, Any]:
    """A table with one of its values changed.

    Arguments:
        table: the study as parsed from TOML.
        parts: the path of the key; tables that are not there are made.
        value: what it shall hold.
        given: who asks for it, for the message.

    Returns:
        The changed table; what is unchanged is shared with the first.

    Raises:
        InputError: the path leads through something not a table.
    """
    changed = inner = dict(table)
    for depth, part in enumerate(parts[:-1]):
        deeper = inner.get(part, {})
        if not isinstance(deeper, dict):
            raise InputError(
                f"{given}: {'.'.join(parts[: depth + 1])} = {shown(deeper)} is a "
                "value, not a table; set it as a whole"
            )
        inner[part] = deeper = dict(deeper)
        inner = deeper
    inner[parts[-1]] = value
    return changed


def key_parts(key: str) -> list[str]:
    """The parts of a key's path.

    Arguments:
        key: as it stands in a setting before the sign of equality, e.g. ``"potential.sigma[Ar]"``.

    Returns:
        E.g. ``["potential", "sigma", "Ar"]``; nothing where it is no path.
    """
    found = _SETTING.fullmatch(f"{key}=")
    parts = [_unquoted(part) for part in _PART.findall(found["path"])] if found else []
    whole = found is not None and found["value"] == "" and all(parts)
    return parts if whole and len(parts) <= DEEPEST else []


def split_setting(setting: Any) -> tuple[list[str], str]:
    """The parts of a setting's path, and the text of its value.

    Arguments:
        setting: as for `with_settings`.

    Returns:
        Both.

    Raises:
        InputError: there is no path, or no value.
    """
    found = _SETTING.fullmatch(setting) if isinstance(setting, str) else None
    parts = [_unquoted(part) for part in _PART.findall(found["path"])] if found else []
    if found is None or not all(parts):
        raise InputError(
            f"--set {shown(setting)}: write key=value, as in --set relaxation.fmax=1e-8"
        )
    if len(parts) > DEEPEST:
        raise InputError(f"--set {shown(setting)}: no key of a study has so many parts")
    return parts, found["value"]


def _unquoted(part: str) -> str:
    part = part.strip(" \t.[]")
    if part[:1] in ("'", '"'):
        try:
            return tomllib.loads(f"text = {part}")["text"]
        except tomllib.TOMLDecodeError:
            return ""
    return part


def _value(text: str, setting: str) -> Any:
    try:
        alone = parse(f"value = {text}")
    except InputError as error:
        raise InputError(f"--set {shown(setting)}: {error}") from None
    except ValueError:
        return text
    # What follows a line break is another key, and what follows a # would be left out.
    try:
        inside = parse(f"value = [{text}]")["value"]
    except ValueError:
        inside = []
    if set(alone) != {"value"} or len(inside) != 1:
        raise InputError(
            f"--set {shown(setting)}: more than one value; give --set again for each key, and "
            "put text in quotes"
        )
    return alone["value"]


def to_toml(table: Mapping[str, Any]) -> str:
    """Write a table as TOML.

    Arguments:
        table: texts, numbers, lists and tables, as tomllib gives them.

    Returns:
        Text from which tomllib reads the same table.
    """
    return "\n".join(_section(table, ())).strip() + "\n"


def _section(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(toml_key(part) for part in path)}]"] if path else []
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines += [
        f"{toml_key(key)} = {toml_value(value)}"
        for key, value in table.items() if key not in inner
    ]  # fmt: skip
    lines.append("")
    for key, value in inner.items():
        lines += _section(value, (*path, key))
    return lines


def toml_key(key: str) -> str:
    """A key as TOML writes it.

    Arguments:
        key: any text.

    Returns:
        The key, in quotes where it needs some.
    """
    bare = key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if bare else toml_value(key)


def toml_value(value: Any) -> str:
    """A value as TOML writes it, in one line.

    Arguments:
        value: a text, number, list or table, as tomllib gives them.

    Returns:
        Text from which tomllib reads the same value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the character 127, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value) if isinstance(value, (int, float)) else str(value)
