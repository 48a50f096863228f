"""Studies as they are read: whatever is wrong with one is a line that names it."""

import datetime
import re
import tomllib
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.files import read_bytes
from mdsens.values import shown

#: A study is written by hand: a longer file is something else, bytes.
LARGEST_STUDY = 1_000_000
#: How deep the tables and lists of a study may lie in one another.
DEEPEST = 16
#: A key that leads deeper than that; Python's reader of TOML takes hours for one of a megabyte.
_DEEP_KEY = re.compile(rf"""(?:\.[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*){{{DEEPEST + 1}}}""")


def read_text(path: Path, limit: int) -> str:
    """The text of a file.

    Arguments:
        path: a file in UTF-8; a byte-order mark at its head is left out.
        limit: the most bytes that it may have.

    Returns:
        The text.

    Raises:
        InputError: it cannot be read, is too long, or no text.
    """
    content = read_bytes(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{shown(str(path))}: line {line} is no text in UTF-8; write it in that encoding"
        ) from None


def read_study_table(path: Path) -> dict[str, Any]:
    """The tables of a study's file.

    Arguments:
        path: a study.toml.

    Returns:
        The parsed file: texts, booleans, numbers, lists and tables.

    Raises:
        InputError: the file cannot be read, is no TOML, or holds what no study can.
    """
    text = read_text(path, LARGEST_STUDY)
    try:
        return parse(text)
    except ValueError as error:
        what = "" if isinstance(error, InputError) else "not a TOML file: "
        raise InputError(f"{shown(str(path))}: {what}{' '.join(str(error).split())}") from None


def parse(text: str) -> dict[str, Any]:
    """Tables from text in TOML.

    Arguments:
        text: TOML.

    Returns:
        The tables.

    Raises:
        InputError: they hold what no study can, see `require_plain`.
        ValueError: the text is no TOML.
    """
    if _DEEP_KEY.search(text):
        raise _too_deep()
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        # Python reads no number of thousands of digits.
        raise _too_large("a number") from None
    require_plain(table)
    return table


def require_plain(table: dict[str, Any]) -> None:
    """Refuse what no table of a study can hold, whichever key it has.

    What follows may then go into the table by recursion, and write any of it again.

    Arguments:
        table: as tomllib gives it.

    Raises:
        InputError: tables too deep in one another, dates, whole numbers of more than 64 bits, or
            text that is no Unicode.
    """
    left: list[tuple[str, Any, int]] = [("", table, 0)]
    while left:
        key, value, depth = left.pop()
        if depth > DEEPEST:
            raise _too_deep()
        if isinstance(value, dict):
            for name, inner in value.items():
                _require_unicode(key, name)
                left.append((f"{key}.{name}" if key else name, inner, depth + 1))
        elif isinstance(value, list):
            left += [(f"{key}[{i}]", inner, depth + 1) for i, inner in enumerate(value)]
        elif isinstance(value, str):
            _require_unicode(key, value)
        elif isinstance(value, (datetime.date, datetime.time)):
            raise InputError(f"{key} = {value}: a study has no dates; give a number, or quote text")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _too_large(key)


def _require_unicode(key: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        where = f"{key} = {shown(text)}" if key else shown(text)
        raise InputError(f"{where}: no Unicode text; write it in UTF-8") from None


def _too_large(key: str) -> InputError:
    return InputError(f"{key} is a whole number of more than 64 bits; give a smaller one")


def _too_deep() -> InputError:
    return InputError(
        f"tables or lists lie more than {DEEPEST} deep in one another: no study needs that; write "
        "them flatter"
    )
