"""Files of SNAP: coefficients, parameters, and commands of LAMMPS that say what to add up."""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.files import read_bytes, replacing
from mdsens.potentials.files.header import Header, header_line, read_header
from mdsens.values import listing, nearest, shown

#: Longest file that is read, bytes.
LONGEST_FILE = 100_000_000
#: What a file of parameters may say, and what each is.
NUMBERS = ("rcutfac", "rfac0", "rmin0")
FLAGS = (
    "switchflag", "bzeroflag", "quadraticflag", "chemflag", "bnormflag", "wselfallflag",
    "switchinnerflag",
)  # fmt: skip
OF_ELEMENTS = ("sinner", "dinner")
#: How LAMMPS shares out its work, which no energy knows of.
WITHOUT_EFFECT = ("chunksize", "parallelthresh")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

#: Words of a line, and its number.
Line = tuple[list[str], int]


@dataclasses.dataclass(frozen=True)
class SnapCoefficients:
    """What a file of coefficients holds.

    Attributes:
        header: what it says of itself, pairs such as ``("DATE", "2017-02-20")``.
        elements: their names.
        radii: one for each element.
        weights: one for each element.
        beta: a row for each element.
    """

    header: Header
    elements: tuple[str, ...]
    radii: tuple[float, ...]
    weights: tuple[float, ...]
    beta: Float[np.ndarray, "S M"]


@dataclasses.dataclass(frozen=True)
class OverlaidZBL:
    """What commands say of the repulsion of nuclei that is added.

    Attributes:
        onset: where it begins to be brought to zero, Angstrom.
        cutoff: where it is zero, Angstrom.
        Z: atomic number of each element.
    """

    onset: float
    cutoff: float
    Z: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SnapCommands:
    """What commands of LAMMPS say of a potential.

    Attributes:
        coefficients: name of the file of coefficients.
        parameters: name of the file of parameters.
        elements: of each type of atoms.
        zbl: the repulsion that is added; None where there is none.
    """

    coefficients: str
    parameters: str
    elements: tuple[str, ...]
    zbl: OverlaidZBL | None


def read_snap_coefficients(path: Path) -> SnapCoefficients:
    """Read a file of coefficients: counts, and for each element a line and its numbers.

    Arguments:
        path: the file, which ends in ``.snapcoeff``.

    Returns:
        What it holds.

    Raises:
        InputError: other units than metal, another count than the file says, or what is no number;
            the line is named.
    """
    name, lines = shown(path.name), _lines(path)
    header = _metal_header(lines, name)
    words = iter([(found, number) for found, number in _words(lines) if found])
    counts, number = next(words, ([], max(1, len(lines))))
    if len(counts) != 2:
        raise InputError(
            f"{name}, line {number}: {_many(counts)} where the counts of elements and of "
            "coefficients should be: give two whole numbers"
        )
    elements, coefficients = (_count(word, name, number) for word in counts)
    found: dict[str, tuple[float, float, list[float]]] = {}
    for _ in range(elements):
        entry, number = next(words, ([], len(lines)))
        if len(entry) != 3 or _NUMBER.fullmatch(entry[0]):
            raise InputError(
                f"{name}, line {number}: {_many(entry)} where an element, its radius and its "
                f"weight should be: {len(found)} of {elements} elements are complete"
            )
        element = entry[0].strip("\"'")
        if element in found:
            raise InputError(f"{name}, line {number}: {shown(element)} is there already: give one")
        radius, weight = (_number(word, name, number) for word in entry[1:])
        rows: list[float] = []
        for _ in range(coefficients):
            row, number = next(words, ([], len(lines)))
            if len(row) != 1:
                raise InputError(
                    f"{name}, line {number}: {_many(row)} where a coefficient should be: "
                    f"{len(rows)} of {coefficients} of {element} are there; correct the counts in "
                    "the first line, or give one number a line"
                )
            rows.append(_number(row[0], name, number))
        found[element] = radius, weight, rows
    rest, number = next(words, ([], 0))
    if rest:
        raise InputError(
            f"{name}, line {number}: {_many(rest)} after the last of {coefficients} coefficients "
            f"of {elements} elements: correct the counts in the first line"
        )
    radii, weights, beta = zip(*found.values(), strict=True)
    return SnapCoefficients(header, tuple(found), radii, weights, np.array(beta))


def read_snap_parameters(path: Path) -> dict[str, Any]:
    """Read a file of parameters: a name and its value in each line.

    Arguments:
        path: the file, which ends in ``.snapparam``.

    Returns:
        Numbers, flags as booleans, and tuples of numbers of elements, by the names of LAMMPS.

    Raises:
        InputError: an unknown name, one that is missing or there twice, or another value than it
            may have; the line is named.
    """
    name, lines = shown(path.name), _lines(path)
    _metal_header(lines, name)
    found: dict[str, Any] = {}
    known = (*NUMBERS, "twojmax", *FLAGS, *OF_ELEMENTS, *WITHOUT_EFFECT)
    for words, number in _words(lines):
        if not words:
            continue
        key, values = words[0], words[1:]
        if key not in known:
            raise InputError(
                f"{name}, line {number}: {shown(key)} is unknown: allowed are {', '.join(known)}"
                f"{nearest(key, known)}"
            )
        if key in found:
            raise InputError(f"{name}, line {number}: {key} is there already: give one")
        if not values or (len(values) > 1 and key not in OF_ELEMENTS):
            raise InputError(f"{name}, line {number}: {key} has {len(values)} values: give one")
        if key in OF_ELEMENTS:
            found[key] = tuple(_number(word, name, number) for word in values)
        elif key in NUMBERS:
            found[key] = _number(values[0], name, number)
        elif key in FLAGS:
            if values[0] not in ("0", "1"):
                raise InputError(
                    f"{name}, line {number}: {key} = {shown(values[0])}: allowed are 0 and 1"
                )
            found[key] = values[0] == "1"
        else:
            found[key] = _count(values[0], name, number)
    for key in ("rcutfac", "twojmax"):
        if key not in found:
            raise InputError(f"{name} has no {key} up to line {len(lines) or 1}: give it")
    return {key: value for key, value in found.items() if key not in WITHOUT_EFFECT}


def read_snap_commands(path: Path) -> SnapCommands:
    """Read pair_style and pair_coeff of a file of commands, for snap and what is added to it.

    Arguments:
        path: the file, which ends in ``.snap``.

    Returns:
        What it says.

    Raises:
        InputError: another command than variable, pair_style and pair_coeff, another style than
            snap and zbl, or what is missing; the line is named.
    """
    name = shown(path.name)
    variables: dict[str, str] = {}
    style: list[str] = []
    of_snap: tuple[list[str], int] | None = None
    of_zbl: dict[tuple[int, int], tuple[float, float]] = {}
    last = 0
    for words, number in _commands(_lines(path), variables, name):
        last = number
        if words[0] == "variable":
            if len(words) != 4 or words[2] not in ("equal", "index"):
                raise InputError(
                    f"{name}, line {number}: {shown(' '.join(words))}: allowed are variables with "
                    "one value, as in variable zblz equal 74"
                )
            variables.setdefault(words[1], words[3])
        elif words[0] == "pair_style":
            style = words[1:]
            onset, cutoff = _styles(style, name, number)
        elif words[0] == "pair_coeff" and words[1:3] == ["*", "*"] and "zbl" not in words:
            files = words[3:]
            of_snap = (files[1:] if files[:1] == ["snap"] else files), number
        elif words[0] == "pair_coeff" and len(words) == 6 and words[3] == "zbl":
            types = tuple(sorted(_count(word, name, number) for word in words[1:3]))
            charges = tuple(_number(word, name, number) for word in words[4:])
            if words[1:3] != [str(one) for one in types]:
                charges = charges[::-1]
            of_zbl[types[0], types[1]] = charges[0], charges[1]
        else:
            raise InputError(
                f"{name}, line {number}: {shown(' '.join(words), 60)}: allowed are variable, "
                "pair_style and pair_coeff of snap and zbl"
            )
    if not style or of_snap is None:
        missing = "pair_coeff of snap" if style else "pair_style"
        raise InputError(f"{name} has no {missing} up to line {last or 1}: give it")
    files, number = of_snap
    if len(files) < 3:
        raise InputError(
            f"{name}, line {number}: pair_coeff * * has {len(files)} words: give the files of "
            "coefficients and of parameters, and the elements"
        )
    elements = tuple(files[2:])
    if "NULL" in elements or len(set(elements)) != len(elements):
        raise InputError(
            f"{name}, line {number}: elements {listing(elements)}: allowed are different elements, "
            "and no NULL"
        )
    zbl = None
    if "zbl" in style:
        zbl = OverlaidZBL(onset, cutoff, _charges(of_zbl, elements, name, last))
    elif of_zbl:
        raise InputError(f"{name}: pair_coeff of zbl, but pair_style has none: add it")
    return SnapCommands(files[0], files[1], elements, zbl)


def write_snap_coefficients(path: Path, coefficients: SnapCoefficients) -> None:
    """Write a file of coefficients, every number with all its digits.

    Arguments:
        path: the file; one that is there is replaced.
        coefficients: what to write.

    Raises:
        InputError: it cannot be written.
    """
    lines = [
        header_line(coefficients.header),
        "# Written by mdsens: elements, each with its radius, weight and coefficients",
        f"{len(coefficients.elements)} {coefficients.beta.shape[1]}",
    ]
    for row, element in enumerate(coefficients.elements):
        lines.append(f"{element} {coefficients.radii[row]!r} {coefficients.weights[row]!r}")
        lines += map(repr, coefficients.beta[row].tolist())
    _write(path, lines)


def write_snap_parameters(path: Path, header: Header | None, values: dict[str, Any]) -> None:
    """Write a file of parameters.

    Arguments:
        path: the file; one that is there is replaced.
        header: what it says of itself.
        values: numbers, flags and tuples of numbers by the names of LAMMPS.

    Raises:
        InputError: it cannot be written.
    """
    lines = [header_line(header), "# Written by mdsens"]
    for key, value in values.items():
        if isinstance(value, tuple):
            lines.append(" ".join([key, *map(repr, value)]))
        else:
            lines.append(f"{key} {int(value) if isinstance(value, bool) else repr(value)}")
    _write(path, lines)


def write_snap_commands(path: Path, header: Header | None, commands: SnapCommands) -> None:
    """Write a file of commands, which names the two others.

    Arguments:
        path: the file; one that is there is replaced.
        header: what it says of itself.
        commands: what to write.

    Raises:
        InputError: it cannot be written.
    """
    elements, zbl = " ".join(commands.elements), commands.zbl
    files = f"{commands.coefficients} {commands.parameters} {elements}"
    lines = [header_line(header), "# Written by mdsens"]
    if zbl is None:
        lines += ["pair_style snap", f"pair_coeff * * {files}"]
    else:
        lines.append(f"pair_style hybrid/overlay zbl {zbl.onset!r} {zbl.cutoff!r} snap")
        lines += [
            f"pair_coeff {i + 1} {j + 1} zbl {zbl.Z[i]!r} {zbl.Z[j]!r}"
            for i in range(len(zbl.Z))
            for j in range(i, len(zbl.Z))
        ]
        lines.append(f"pair_coeff * * snap {files}")
    _write(path, lines)


def _write(path: Path, lines: list[str]) -> None:
    with replacing(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _lines(path: Path) -> list[str]:
    return read_bytes(path, LONGEST_FILE).decode("utf-8", "replace").splitlines()


def _metal_header(lines: list[str], name: str) -> Header:
    """What the first line says of a file, which has to be in metal units."""
    header = read_header(lines[0] if lines else "", name)
    units = dict(header).get("UNITS", "metal")
    if units != "metal":
        raise InputError(
            f"{name}, line 1: UNITS: {shown(units)}: allowed is metal (eV and Ang); convert the "
            "file"
        )
    return header


def _words(lines: list[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, 1):
        yield line.partition("#")[0].split(), number


def _commands(lines: list[str], variables: dict[str, str], name: str) -> Iterator[Line]:
    """Commands with the number of the line that each begins in, variables replaced."""
    words: list[str] = []
    begin = 0
    for found, number in _words(lines):
        begin = begin if words else number
        words += found
        if words and words[-1] == "&":
            words.pop()
            continue
        if words:
            yield [_replaced(word, variables, name, begin) for word in words], begin
        words = []
    if words:
        raise InputError(f"{name}, line {begin}: the command goes on after the last line: end it")


def _replaced(word: str, variables: dict[str, str], name: str, line: int) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise InputError(
                f"{name}, line {line}: there is no variable {shown(match[1])}: give it"
            )
        return variables[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, word)


def _styles(words: list[str], name: str, line: int) -> tuple[float, float]:
    """Onset and cutoff of the style zbl, zero where there is none."""
    if words == ["snap"]:
        return 0.0, 0.0
    rest = words[1:]
    if words[:1] == ["hybrid/overlay"] and sorted(rest)[-2:] == ["snap", "zbl"] and len(rest) == 4:
        place = rest.index("zbl")
        numbers = rest[place + 1 : place + 3]
        if len(numbers) == 2 and "snap" not in numbers:
            onset, cutoff = (_number(word, name, line) for word in numbers)
            return onset, cutoff
    raise InputError(
        f"{name}, line {line}: pair_style {shown(' '.join(words), 60)}: allowed are snap, and "
        "hybrid/overlay of snap and zbl with two lengths"
    )


def _charges(
    of_pairs: dict[tuple[int, int], tuple[float, float]],
    elements: tuple[str, ...],
    name: str,
    line: int,
) -> tuple[float, ...]:
    """Atomic numbers of elements, which those of all pairs have to agree with."""
    count = len(elements)
    charges = [of_pairs.get((kind, kind), (math.nan,))[0] for kind in range(1, count + 1)]
    for first in range(1, count + 1):
        for second in range(first, count + 1):
            if of_pairs.get((first, second)) != (charges[first - 1], charges[second - 1]):
                raise InputError(
                    f"{name}: pair_coeff {first} {second} zbl is not there up to line {line}, or "
                    "has other atomic numbers than those of each element with itself: correct it"
                )
    return tuple(charges)


def _count(word: str, name: str, line: int) -> int:
    if word.isascii() and word.isdigit() and 0 < int(word) < 1 << 31:
        return int(word)
    raise InputError(f"{name}, line {line}: {shown(word)}: give a whole number, at least 1")


def _number(word: str, name: str, line: int) -> float:
    if _NUMBER.fullmatch(word) and math.isfinite(number := float(word)):
        return number
    raise InputError(f"{name}, line {line}: {shown(word)} is no number: give one")


def _many(words: list[str]) -> str:
    if not words:
        return "the file ends"
    return shown(" ".join(words), 40)
