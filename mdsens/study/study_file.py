"""A study's file, read and checked as far as the file alone tells what is wrong with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mdsens.errors import InputError
from mdsens.study.find import find_study
from mdsens.study.messages import from_pydantic, no_such_key, not_allowed
from mdsens.study.model import FileStructure, PackingStructure, StudyFile
from mdsens.study.reading import read_study_table
from mdsens.study.toml import with_settings


class StudyText(NamedTuple):
    """What a study's file says.

    Attributes:
        path: where it is.
        table: as it was read, with the settings of `--set`.
        file: the same, checked.
        structure: the table of its structure, checked.
    """

    path: Path
    table: dict[str, Any]
    file: StudyFile
    structure: FileStructure | PackingStructure


def read_study(study: str | Path, settings: Iterable[str] = ()) -> StudyText:
    """Read a study's file, for which nothing has to be imported that takes long.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.
        settings: changes such as ``"relaxation.fmax=1e-6"``.

    Returns:
        The StudyText.

    Raises:
        InputError: no such study, or a mistake in its keys or in values of the wrong kind: one line
            that names the key and the value.
    """
    path = find_study(study)
    table = with_settings(read_study_table(path), settings)
    try:
        file = StudyFile.model_validate(table)
    except ValidationError as error:
        raise from_pydantic(error, StudyFile) from None
    return StudyText(path, table, file, _structure(file.structure))


def _structure(table: dict[str, Any]) -> FileStructure | PackingStructure:
    kinds: dict[str, type[FileStructure] | type[PackingStructure]] = {
        "file": FileStructure, "builder": PackingStructure,
    }  # fmt: skip
    given = [key for key in kinds if key in table]
    if len(given) != 1:
        allowed = [*FileStructure.model_fields, *PackingStructure.model_fields]
        for key, value in table.items():
            if key not in allowed:
                raise no_such_key(f"structure.{key}", value, dict.fromkeys(allowed))
        raise InputError(
            f"[structure] has {' and '.join(given) or 'neither file nor builder'}: give one of "
            "file = 'name of a structure file' and builder = 'soft-sphere-packing'"
        )
    if given == ["builder"] and table["builder"] != "soft-sphere-packing":
        raise not_allowed("structure.builder", table["builder"], ["soft-sphere-packing"])
    kind = kinds[given[0]]
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise from_pydantic(error, kind, "structure") from None
