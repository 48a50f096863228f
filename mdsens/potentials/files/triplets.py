"""Files of LAMMPS's three-body potentials: an entry for each triplet of elements."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes, replacing
from mdsens.potentials.files.elements import chosen_elements
from mdsens.potentials.files.find import find_file
from mdsens.potentials.files.header import (
    Header,
    header_line,
    in_metal_units,
    read_header,
)
from mdsens.potentials.parameters import parameter_fields
from mdsens.units import size_of_lammps_unit
from mdsens.values import is_traced, listing, shown

#: Longest file that is read, bytes.
LONGEST_FILE = 10_000_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class TripletFile:
    """What a file holds.

    Attributes:
        name: of the file, for messages.
        header: what it says of itself, pairs such as ``("DATE", "2007-06-11")``.
        entries: numbers of each triplet of elements, and the line that its entry begins in.
    """

    name: str
    header: Header
    entries: dict[tuple[str, ...], tuple[list[float], int]]

    @property
    def elements(self) -> tuple[str, ...]:
        """All elements that are the first of a triplet, in the order of the file."""
        return tuple(dict.fromkeys(triplet[0] for triplet in self.entries))

    @property
    def units(self) -> str:
        """The style of LAMMPS's units that the numbers are in."""
        return dict(self.header).get("UNITS", "metal")


def read_triplets(path: str | Path, count: int) -> TripletFile:
    """Read a file of entries for triplets of elements.

    An entry consists of three elements and of numbers, on one line or several; what follows a # is
    a comment.

    Arguments:
        path: of the file; one that is not there is looked for among those of an installed LAMMPS.
        count: how many numbers an entry has.

    Returns:
        What the file holds.

    Raises:
        InputError: no such file, units without a size, or an entry with another count of numbers,
            with what is no number, or given twice; the line is named.
    """
    found = find_file(path)
    name = shown(str(path))
    lines = read_bytes(found, LONGEST_FILE).decode("utf-8", "replace").splitlines()
    header = read_header(lines[0] if lines else "", name)
    entries: dict[tuple[str, ...], tuple[list[float], int]] = {}
    for words in _entries(lines, 3 + count, name):
        triplet = tuple(word for word, _ in words[:3])
        begin = words[0][1]
        if triplet in entries:
            raise InputError(
                f"{name}, line {begin}: {' '.join(triplet)} has an entry in line "
                f"{entries[triplet][1]} already: give one"
            )
        for word, line in words[:3]:
            if _NUMBER.fullmatch(word):
                raise InputError(
                    f"{name}, line {line}: {shown(word)} is no element: an entry begins with three "
                    f"elements, and {count} numbers follow"
                )
        entries[triplet] = ([_number(word, line, name) for word, line in words[3:]], begin)
    if not entries:
        raise InputError(
            f"{name}, line {len(lines) or 1}: the file ends before its first entry: give three "
            f"elements and {count} numbers for each triplet"
        )
    return TripletFile(name, header, entries)


def _entries(lines: list[str], count: int, name: str) -> Iterator[list[tuple[str, int]]]:
    """The words of each entry, with their lines."""
    words: list[tuple[str, int]] = []
    wanted = f"an entry has 3 elements and {count - 3} numbers"
    for number, line in enumerate(lines, 1):
        words += [(word, number) for word in line.partition("#")[0].split()]
        if len(words) > count:
            raise InputError(
                f"{name}, line {number}: the entry that begins in line {words[0][1]} has "
                f"{len(words)} words: {wanted}"
            )
        if len(words) == count:
            yield words
            words = []
    if words:
        raise InputError(
            f"{name}, line {words[0][1]}: the last entry has {len(words)} words: {wanted}"
        )


def _number(word: str, line: int, name: str) -> float:
    if _NUMBER.fullmatch(word) and math.isfinite(number := float(word)):
        return number
    raise InputError(f"{name}, line {line}: {shown(word)} is no number: give one")


class FromTripletFile:
    """A potential that is read from a file of triplets of elements, and written to one."""

    #: Names of the columns after the three elements, for each ending that files have.
    layouts: ClassVar[dict[str, tuple[str, ...]]]

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None,
    ) -> Self:
        """Read a file of LAMMPS's.

        Arguments:
            path: of the file, e.g. ``"SiC.tersoff"``; one that is not there is looked for among
                those of an installed LAMMPS.
            elements: which of the file's elements to take, or a dict that says for each species
                which, as in ``{"Si": "Si(D)"}``; all by default.

        Returns:
            The potential, in eV and Angstrom whatever the file's units are; of one element, its
            parameters are single numbers.

        Raises:
            InputError: no such file, units without a size, a broken entry, an element that is
                not there, or a triplet without an entry.
        """
        layout = cls._layout(path)
        file = read_triplets(path, len(layout))
        chosen = chosen_elements(elements, file.elements, file.name)
        tables = _tables(file, tuple(chosen.values()), layout)
        arguments = cls._tables_to_arguments(cls._in_metal_units(tables, file), file.name)
        arguments |= {"species": tuple(chosen), "header": in_metal_units(file.header) or None}
        try:
            return cls(**arguments)
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from None

    def to_file(self, path: str | Path) -> None:
        """Write a file that LAMMPS reads, and `from_file`.

        Arguments:
            path: of the file, with an ending of such files; one that is there is replaced.

        Raises:
            InputError: another ending, no names of species, or the file cannot be written.
        """
        path = path_of(path, "path")
        endings = [ending for ending in self.layouts if path.name.endswith(ending)]
        if not endings:
            raise InputError(
                f"cannot write {shown(path.name)}: allowed endings are {', '.join(self.layouts)}"
            )
        species = getattr(self, "species", None)
        if species is None:
            raise InputError(
                f"{type(self).__name__} does not name its species: give species=('Si',)"
            )
        if is_traced(self):
            raise InputError(
                f"{type(self).__name__} is being traced: write it outside jit and grad"
            )
        layout = self.layouts[endings[0]]
        columns = [self._column(column, len(species)) for column in layout]
        lines = [
            header_line(getattr(self, "header", None)),
            "# Written by mdsens: three elements, " + ", ".join(layout),
        ]
        for place in itertools.product(range(len(species)), repeat=3):
            numbers = (repr(float(column[place])) for column in columns)
            lines.append(" ".join([*(species[index] for index in place), *numbers]))
        with replacing(path) as file:
            file.write(("\n".join(lines) + "\n").encode())

    @classmethod
    def _layout(cls, path: str | Path) -> tuple[str, ...]:
        name = path_of(path, "path").name
        for ending, layout in cls.layouts.items():
            if name.endswith(ending) or len(cls.layouts) == 1:
                return layout
        raise InputError(f"path = {shown(name)}: allowed endings are {', '.join(cls.layouts)}")

    @classmethod
    def _in_metal_units(
        cls, tables: dict[str, np.ndarray], file: TripletFile
    ) -> dict[str, np.ndarray]:
        """Columns as tables over triplets, in eV and Angstrom."""
        dimensions = {field.name: field.metadata["dimension"] for field in parameter_fields(cls)}
        return {
            column: table * size_of_lammps_unit(dimensions.get(column, "1"), file.units)
            for column, table in tables.items()
        }

    @classmethod
    def _tables_to_arguments(cls, tables: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        """What the class is given for columns: tables over triplets or bonds, or numbers."""
        kinds = {field.name: field.metadata["per"] for field in parameter_fields(cls)}
        arguments: dict[str, Any] = {}
        for column, table in tables.items():
            bonds = np.arange(len(table))
            entries = table if kinds.get(column) == "triplet" else table[:, bonds, bonds]
            arguments[column] = float(table.flat[0]) if len(table) == 1 else entries
        return arguments

    def _column(self, column: str, size: int) -> np.ndarray:
        """A parameter of each triplet; zero where it is one of bonds and there are two of them."""
        table = np.asarray(getattr(self, column), float)
        if table.ndim == 2:
            table = np.where(np.eye(size, dtype=bool), table[:, :, None], 0.0)
        return np.broadcast_to(table, (size,) * 3)


def _tables(
    file: TripletFile, elements: tuple[str, ...], layout: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Each column as a table over triplets of elements."""
    missing = [
        " ".join(triplet)
        for triplet in itertools.product(elements, repeat=3)
        if triplet not in file.entries
    ]
    if missing:
        last = max(line for _, line in file.entries.values())
        raise InputError(
            f"{file.name} has no entry for {listing(missing)} up to its last in line {last}: give "
            "one, or name fewer elements"
        )
    size = (len(elements),) * 3
    rows = [file.entries[triplet][0] for triplet in itertools.product(elements, repeat=3)]
    return {
        column: np.array(values).reshape(size)
        for column, values in zip(layout, zip(*rows, strict=True), strict=True)
    }
