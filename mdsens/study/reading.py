"""Studies as they are read: whatever is wrong with one is a line that names it."""

import datetime
import os
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
#: Keys of a study that hold paths of files.
FILE_KEYS = ("file", "parameters")
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
    # Whoever sends a study shall not choose which files of the reader it opens and copies.
    text = read_text(path, LARGEST_STUDY)
    try:
        table = parse(text)
    except ValueError as error:
        what = "" if isinstance(error, InputError) else "not a TOML file: "
        raise InputError(f"{shown(str(path))}: {what}{' '.join(str(error).split())}") from None
    require_inside(table, path.absolute().parent)
    return table


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


def require_inside(table: dict[str, Any], folder: Path) -> None:
    """Refuse paths that lead out of the folder of a study, of whatever is a file of it.

    Arguments:
        table: as it was read, before anybody has set other values.
        folder: that of the study, an absolute path.

    Raises:
        InputError: a path with ``..``, or an absolute one, that is not inside the folder.
    """
    left: list[tuple[str, str, Any]] = [("", "", table)]
    while left:
        key, name, value = left.pop()
        if isinstance(value, dict):
            for inner, of in value.items():
                # A key of a sweep is a whole path.
                last = re.split(r"[.\[]", inner)[-1].strip("]\"' \t")
                # A text in a sweep is a pattern, of which the sweep has its own word.
                if key != "sweep" or not isinstance(of, str):
                    left.append((f"{key}.{inner}" if key else inner, last, of))
        elif name in FILE_KEYS and isinstance(value, list):
            left += [(key, name, of) for of in value]
        elif name in FILE_KEYS and isinstance(value, str) and _leads_out(value, folder):
            raise InputError(
                f"{key} = {shown(value)} leads out of the study's folder: put the file there, or "
                "allow it by giving that value yourself with --set"
            )


def _leads_out(path: str, folder: Path) -> bool:
    found = Path(os.path.normpath(folder / path.replace("\0", "")))
    return not found.is_relative_to(os.path.normpath(folder))


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
