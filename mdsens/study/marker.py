"""The marker of an output folder: which of its files mdsens has written, and may replace."""

import hashlib
import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mdsens.errors import InputError

#: The file that makes a folder one of ours.
MARKER_NAME = ".mdsens.json"
#: A marker larger than this is none, bytes.
LARGEST_MARKER = 10_000_000


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name in ("", "."):
        raise ValueError("no path inside the folder")
    if "\0" in name or "\\" in name or name == MARKER_NAME:
        raise ValueError("no name of a file of results")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


class FileRecord(BaseModel):
    """What a file was when it was written.

    Attributes:
        size: bytes.
        sha256: checksum, hexadecimal.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Marker(BaseModel):
    """What a folder's marker says.

    Attributes:
        program: always ``"mdsens"``.
        layout: version of the marker's layout, called ``schema`` in the file.
        complete: False while files are being put in place.
        files: those that mdsens has written, by their path inside the folder.
        earlier: while files are being put in place, those of the run before.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    program: Literal["mdsens"]
    layout: Annotated[Literal[1], Field(alias="schema")]
    complete: bool
    files: dict[FileName, FileRecord]
    earlier: dict[FileName, FileRecord]

    @classmethod
    def of(cls, files: dict[str, FileRecord]) -> Self:
        """The marker of a complete run that has written these files."""
        return cls(
            program="mdsens", layout=1, complete=True, files=dict(sorted(files.items())), earlier={}
        )

    @property
    def names(self) -> set[str]:
        """Every file that mdsens has written, or was writing."""
        return {*self.files, *self.earlier}

    def is_unchanged(self, folder: Path, name: str) -> bool:
        """Whether a file is what mdsens wrote; True where there is none any more.

        Arguments:
            folder: the output folder.
            name: a path inside it, one of ``names``.
        """
        path = folder / name
        if not os.path.lexists(path):
            return True
        if not _is_plain(folder, name):
            return False
        found = record(path)
        return found in (self.files.get(name), self.earlier.get(name))

    def to_json(self) -> str:
        """The text of the marker's file."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder.

    Arguments:
        folder: any folder.

    Returns:
        The Marker; None where there is none, so that nothing in the folder is ours.

    Raises:
        InputError: there is one that mdsens cannot have written.
        OSError: it cannot be read.
    """
    path = folder / MARKER_NAME
    if not os.path.lexists(path):
        return None
    if _is_plain(folder, MARKER_NAME) and path.stat().st_size <= LARGEST_MARKER:
        try:
            return Marker.model_validate_json(path.read_bytes())
        except ValidationError:
            pass
    raise InputError(
        f"{str(folder)!r}: its {MARKER_NAME} is damaged, so that nobody knows which of its files "
        "mdsens has written; move the folder away"
    )


def record(path: Path) -> FileRecord:
    """What a file is now.

    Arguments:
        path: a file.

    Returns:
        Its FileRecord.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(size=file.tell(), sha256=digest)


def records(folder: Path) -> dict[str, FileRecord]:
    """What all files of a folder are, and of the folders in it.

    Arguments:
        folder: a folder that mdsens alone has written to.

    Returns:
        FileRecords by path inside the folder, in alphabetical order.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): record(path) for path in files}


def foreign(folder: Path, names: Iterable[str], ours: Iterable[str]) -> Iterator[str]:
    """Files of others that stand where ours are to go.

    Arguments:
        folder: the output folder.
        names: what is to be written.
        ours: what may be replaced.

    Yields:
        Paths inside the folder.
    """
    may_go = set(ours)
    for name in names:
        for parent in list(PurePosixPath(name).parents)[-2::-1]:
            if os.path.lexists(folder / parent) and not _is_folder(folder / parent):
                yield str(parent)
                break
        else:
            if os.path.lexists(folder / name) and (name not in may_go or _is_folder(folder / name)):
                yield name


def changed(
    folder: Path, marker: Marker, names: Iterable[str], known: Container[Path]
) -> Iterator[str]:
    """Files of ours that somebody has changed since.

    Arguments:
        folder: the output folder.
        marker: its marker.
        names: which of them to look at.
        known: resolved paths of files that may have changed, because they have been read since.

    Yields:
        Paths inside the folder.
    """
    for name in names:
        if not marker.is_unchanged(folder, name) and (folder / name).resolve() not in known:
            yield name


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_plain(folder: Path, name: str) -> bool:
    """Whether a name leads to a file inside the folder, by no link."""
    parents = list(PurePosixPath(name).parents)[:-1]
    return all(_is_folder(folder / parent) for parent in parents) and stat.S_ISREG(
        (folder / name).lstat().st_mode
    )
