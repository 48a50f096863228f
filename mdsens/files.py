"""Files and their paths: whatever is wrong with one is a line that names it."""

import contextlib
import csv
import io
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mdsens.errors import InputError
from mdsens.values import shown


def path_of(value: Any, name: str) -> Path:
    """A path that a file system can have.

    Arguments:
        value: text, or a Path.
        name: what it is called, for the message.

    Returns:
        The Path.

    Raises:
        InputError: no text, none in it, or characters that no path can have.
    """
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise InputError(f"{name} = {shown(value)}: give the path of a file or folder")
    try:
        bad = b"\0" in str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        bad = True
    if bad:
        raise InputError(f"{name} = {shown(value)}: no path has such characters; give another")
    return Path(value)


def is_file(path: Path, name: str) -> bool:
    """Whether there is a file.

    Arguments:
        path: where to look.
        name: what it is called, for the message.

    Raises:
        InputError: the path cannot be looked at, e.g. because it is too long.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise InputError(f"{name} = {shown(str(path))}: {error.strerror}; give another") from None


def read_bytes(path: Path, limit: int) -> bytes:
    """What a file holds.

    Arguments:
        path: a file.
        limit: the most bytes that it may have.

    Returns:
        Its bytes.

    Raises:
        InputError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{shown(str(path))} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise InputError(f"{shown(str(path))} has more than {limit:,} bytes: give a shorter file")
    return content


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that is there as a whole or not at all: written aside, and put in place at the end.

    Arguments:
        path: where it shall be; what stands there is replaced when all is written.

    Yields:
        The file to write to.

    Raises:
        InputError: it cannot be written there.
    """
    # Where a link leads to; the link itself stays.
    goal = Path(os.path.realpath(path))
    aside = goal.with_name(f".{goal.name[:100]}.{uuid.uuid4().hex}")
    try:
        try:
            with aside.open("xb") as file:
                yield file
            os.replace(aside, goal)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{shown(str(path))} cannot be written: {error.strerror or error}; give another path"
        ) from None


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as text with commas, as `pandas.DataFrame.to_csv` writes it.

    Arguments:
        rows: cells by column, the columns the same in all; what is no number is left empty.

    Returns:
        The names of the columns and the rows, one in a line; nothing if there is none.
    """
    listed = [
        {
            name: "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    text = io.StringIO()
    if listed:
        writer = csv.DictWriter(text, listed[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `csv_text` has made, their cells by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
