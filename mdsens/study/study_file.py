"""A study's file, read and checked as far as the file alone tells what is wrong with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mdsens.errors import InputError
from mdsens.study.find import find_study
from mdsens.study.messages import from_pydantic, no_such_key, not_allowed
from mdsens.study.model import FileStructure, PackingStructure, Relaxation, StudyFile
from mdsens.study.reading import read_study_table
from mdsens.study.toml import with_settings
from mdsens.values import shown


class StructureText(NamedTuple):
    """What a study's file says of one structure.

    Attributes:
        key: path of its table in the file: ``"structure"``, or ``"structures.<name>"``.
        structure: its table, checked.
        relaxation: how to relax it.
        own: the keys of the relaxation that it has for itself.
    """

    key: str
    structure: FileStructure | PackingStructure
    relaxation: Relaxation
    own: frozenset[str] = frozenset()

    def relaxation_key(self, name: str) -> str:
        """Path in the file of a key of the relaxation."""
        return f"{self.key}.relaxation.{name}" if name in self.own else f"relaxation.{name}"


class StudyText(NamedTuple):
    """What a study's file says.

    Attributes:
        path: where it is.
        table: as it was read, with the settings of `--set`.
        file: the same, checked.
        structures: its structures by name; the only one of ``[structure]`` has an empty name.
    """

    path: Path
    table: dict[str, Any]
    file: StudyFile
    structures: dict[str, StructureText]


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
    return study_text(path, with_settings(read_study_table(path), settings))


def study_text(path: Path, table: dict[str, Any]) -> StudyText:
    """What a study's file says, from its tables.

    Arguments:
        path: where it is.
        table: its tables.

    Returns:
        The StudyText.

    Raises:
        InputError: a mistake in its keys or in values of the wrong kind.
    """
    try:
        file = StudyFile.model_validate(table)
    except ValidationError as error:
        raise from_pydantic(error, StudyFile) from None
    return StudyText(path, table, file, _structures(file))


def _structures(file: StudyFile) -> dict[str, StructureText]:
    if file.structure is not None and file.structures is not None:
        raise InputError(
            "a study has either structure, a table, or structures, one table for each: leave out "
            "one of the two"
        )
    if file.structures is None:
        if file.structure is None:
            raise InputError("structure is missing: give one, or structures, a table of several")
        structure = _structure(file.structure, "structure")
        return {"": StructureText("structure", structure, file.relaxation)}
    seen: dict[str, str] = {}
    for name in file.structures:
        # Files are named after structures, and some file systems know no capitals.
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"structures.{name}: there is structures.{other}, too; give names that differ by "
                "more than capitals"
            )
    return {name: _of_several(file, name, table) for name, table in file.structures.items()}


def _of_several(file: StudyFile, name: str, table: dict[str, Any]) -> StructureText:
    key = f"structures.{name}"
    own = table.get("relaxation", {})
    structure = _structure({k: v for k, v in table.items() if k != "relaxation"}, key, True)
    if not isinstance(own, dict):
        raise InputError(f"{key}.relaxation = {shown(own)}: give a table")
    common = file.relaxation.model_dump(exclude_unset=True)
    try:
        relaxation = Relaxation.model_validate(common | own)
    except ValidationError as error:
        raise from_pydantic(error, Relaxation, f"{key}.relaxation") from None
    return StructureText(key, structure, relaxation, frozenset(own))


def _structure(
    table: dict[str, Any], key: str, several: bool = False
) -> FileStructure | PackingStructure:
    kinds: dict[str, type[FileStructure] | type[PackingStructure]] = {
        "file": FileStructure, "builder": PackingStructure,
    }  # fmt: skip
    given = [kind for kind in kinds if kind in table]
    if len(given) != 1:
        allowed = [*FileStructure.model_fields, *PackingStructure.model_fields]
        allowed += ["relaxation"] * several
        for name, value in table.items():
            if name not in allowed:
                raise no_such_key(f"{key}.{name}", value, dict.fromkeys(allowed))
        raise InputError(
            f"[{key}] has {' and '.join(given) or 'neither file nor builder'}: give one of "
            "file = 'name of a structure file' and builder = 'soft-sphere-packing'"
        )
    if given == ["builder"] and table["builder"] != "soft-sphere-packing":
        raise not_allowed(f"{key}.builder", table["builder"], ["soft-sphere-packing"])
    kind = kinds[given[0]]
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise from_pydantic(error, kind, key) from None
