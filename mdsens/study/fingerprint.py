"""What a run's results depend on, as a short text: the study, and the files that it reads."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.potentials.files import find_file
from mdsens.study.marker import record

#: Tables and keys of a study on which its results do not depend.
NO_MATTER = ("name", "description", "verify", "sweep")


def fingerprint(
    table: Mapping[str, Any], folder: Path, digests: dict[Path, str] | None = None
) -> str:
    """A text that two studies share if they have the same results.

    Arguments:
        table: the study's tables.
        folder: where its files are.
        digests: those of files that are known already; those of others are added.

    Returns:
        The digest of the tables and the contents of the files that they name, hexadecimal.
    """
    digests = {} if digests is None else digests
    decisive = {key: value for key, value in table.items() if key not in NO_MATTER}
    files = [_digest(path, digests) for path in _files(table, folder)]
    text = json.dumps([decisive, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path | None, digests: dict[Path, str]) -> str:
    if path is None:
        return ""
    if path not in digests:
        try:
            digests[path] = record(path).sha256
        except OSError:
            # The run itself will say what is wrong with it.
            return ""
    return digests[path]


def _files(table: Mapping[str, Any], folder: Path) -> Iterator[Path | None]:
    """The files that a study names, in the order of its tables."""
    structures = table.get("structures", {})
    for structure in (table.get("structure", {}), *structures.values()):
        if "file" in structure:
            yield folder / structure["file"]
    potentials = [table.get("potential", {})]
    while potentials:
        potential = potentials.pop()
        if "file" in potential:
            try:
                yield find_file(potential["file"], folder, "potential.file")
            except InputError:
                yield None
        parts = potential.get("parts", {})
        potentials += [parts[name] for name in sorted(parts)] if isinstance(parts, dict) else []
