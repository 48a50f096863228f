"""Tables of embedded-atom potentials in the formats of DYNAMO that LAMMPS reads.

funcfl holds the functions of one element, setfl those of several, and the Finnis-Sinclair variant
of setfl a density for each ordered pair of elements: https://docs.lammps.org/pair_eam.html. Files
of angular-dependent potentials are setfl with two more functions of each pair at their end:
https://docs.lammps.org/pair_adp.html.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.data
import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.files import read_bytes, replacing
from mdsens.potentials.files.header import checked_units
from mdsens.units import size_of_lammps_unit
from mdsens.values import shown

#: Styles of LAMMPS by the ending of a file's name.
STYLES = {".eam": "eam", ".alloy": "eam/alloy", ".fs": "eam/fs"}
#: The one that adds functions of angles.
ANGULAR_STYLE = "adp"
#: The longest file that is read, bytes, and the most knots that a table may have.
LONGEST_FILE, MOST_KNOTS = 1 << 28, 10_000_000
#: From the squared effective charge of funcfl to r phi, eV Angstrom: Hartree times Bohr radius as
#: LAMMPS has them.
HARTREE_BOHR = 27.2 * 0.529
_UNITS = re.compile(r"UNITS:\s*([^\s,]+)")


@dataclasses.dataclass(frozen=True)
class EmbeddedAtomTables:
    """What a file holds: functions of S elements on grids that begin at zero.

    Attributes:
        elements: their names.
        comments: the lines of the header.
        atoms: a line for each element: atomic number, mass, lattice constant, kind of lattice.
        spacing: between distances, length.
        density_spacing: between densities.
        cutoff: distance from which on nothing interacts, length.
        r_phi: distance times pair energy, energy times length.
        rho: density that an element adds at another: (S, n) where the other does not matter, else
            (S, S, n), the source first.
        F: energy of embedding over density, energy.
        u: what a pair adds to the dipole of either, root of energy over length; None: there is
            no such function.
        w: what it adds to the quadrupoles, root of energy over length squared; None as of u.
    """

    elements: tuple[str, ...]
    comments: tuple[str, ...]
    atoms: tuple[str, ...]
    spacing: float
    density_spacing: float
    cutoff: float
    r_phi: Float[np.ndarray, "S S n"]
    rho: Float[np.ndarray, "S n"] | Float[np.ndarray, "S S n"]
    F: Float[np.ndarray, "S m"]
    u: Float[np.ndarray, "S S n"] | None = None
    w: Float[np.ndarray, "S S n"] | None = None

    def of(self, elements: tuple[str, ...], label: str) -> "EmbeddedAtomTables":
        """The tables of some elements, in their order.

        Arguments:
            elements: names.
            label: what they are called, for the message.

        Raises:
            InputError: the file has no such element.
        """
        for name in elements:
            if name not in self.elements:
                raise InputError(
                    f"{label}: the file has no element {shown(name)}: it has "
                    f"{', '.join(self.elements)}"
                )
        rows = [self.elements.index(name) for name in elements]
        pairs = np.ix_(rows, rows)
        return dataclasses.replace(
            self,
            elements=elements,
            atoms=tuple(self.atoms[row] for row in rows),
            r_phi=self.r_phi[pairs],
            rho=self.rho[pairs] if self.rho.ndim == 3 else self.rho[rows],
            F=self.F[rows],
            u=None if self.u is None else self.u[pairs],
            w=None if self.w is None else self.w[pairs],
        )


def read_embedded_atom_file(path: Path, style: str | None = None) -> EmbeddedAtomTables:
    """Read a file of one of the `STYLES`, or of the `ANGULAR_STYLE`.

    Arguments:
        path: the file.
        style: ``"eam"`` (funcfl), ``"eam/alloy"`` (setfl), ``"eam/fs"`` or ``"adp"``; by the
            ending of the file's name by default, which never is the last.

    Returns:
        The tables, in eV and Angstrom whatever the file's units are.

    Raises:
        InputError: another ending, units without a size, or a file that is damaged: one line that
            names the place.
    """
    if style is None:
        if path.suffix not in STYLES:
            raise InputError(
                f"{shown(path.name)} may be of any format: give style, one of "
                f"{', '.join(STYLES.values())}, or a file that ends in {', '.join(STYLES)}"
            )
        style = STYLES[path.suffix]
    lines = _Lines(path)
    tables = _funcfl(lines) if style == "eam" else _setfl(lines, style)
    lines.require_end()
    energy, length = (size_of_lammps_unit(name, lines.units) for name in ("energy", "length"))
    return dataclasses.replace(
        tables,
        spacing=length * tables.spacing,
        cutoff=length * tables.cutoff,
        r_phi=energy * length * tables.r_phi,
        F=energy * tables.F,
        u=None if tables.u is None else energy**0.5 / length * tables.u,
        w=None if tables.w is None else energy**0.5 / length**2 * tables.w,
    )


class _Lines:
    """The lines of a file, one after the other; what is wrong with one is said with its number."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.lines = read_bytes(path, LONGEST_FILE).decode("utf-8", "replace").splitlines()
        self.number = 0
        self.units = "metal"

    def error(self, what: str) -> InputError:
        return InputError(f"{shown(self.name)}, line {self.number}: {what}")

    def next(self, what: str) -> str:
        """The next line, as it is."""
        self.number += 1
        if self.number > len(self.lines):
            raise self.error(f"the file ends before {what}; give a whole one")
        return self.lines[self.number - 1]

    def comment(self) -> str:
        """A line of the header as it is in metal units; what it says of units is kept."""
        line = self.next("its header does").strip()
        if units := _UNITS.search(line):
            self.units = checked_units(units[1], f"{shown(self.name)}, line {self.number}: ")
            line = _UNITS.sub("UNITS: metal", line)
        return line

    def words(self, what: str) -> list[str]:
        """What stands in the next line that is not empty, without a remark at its end."""
        while True:
            found = self.next(what).partition("#")[0].split()
            if found:
                return found

    def number_of(self, word: str, what: str, positive: bool = True) -> float:
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or "_" in word or (positive and value <= 0.0):
            kind = "a positive number" if positive else "a number"
            raise self.error(f"{what} = {shown(word)}: give {kind}")
        return value

    def count(self, word: str, what: str, least: int) -> int:
        if not (word.isascii() and word.isdigit()) or not least <= int(word) <= MOST_KNOTS:
            raise self.error(
                f"{what} = {shown(word)}: give a whole number from {least} to {MOST_KNOTS}"
            )
        return int(word)

    def table(self, count: int, what: str) -> Float[np.ndarray, " n"]:
        """So many numbers, in lines of any length that end with them."""
        found: list[Float[np.ndarray, " k"]] = []
        held = 0
        while held < count:
            words = self.words(f"the {count} numbers of {what} do: {held} are there")
            try:
                values = np.array(words, float)
            except ValueError:
                values = np.array([self.number_of(word, what, False) for word in words])
            if not np.isfinite(values).all():
                raise self.error(f"{what} holds what is not finite; give numbers")
            found.append(values)
            held += len(values)
        if held > count:
            raise self.error(
                f"{held - count} numbers too many where the {count} of {what} end; correct the "
                "count or the table"
            )
        return np.concatenate(found)

    def require_end(self) -> None:
        while self.number < len(self.lines):
            line = self.next("").partition("#")[0]
            if line.strip(" \t\x1a\0"):
                raise self.error(
                    f"{shown(line.strip(), 30)} follows where the last table ends; correct the "
                    "counts or remove it"
                )


def _grid(lines: _Lines) -> tuple[int, float, int, float, float]:
    """The line of counts, spacings and the cutoff."""
    words = lines.words("its grids do")
    if len(words) != 5:
        raise lines.error(f"{len(words)} words where nrho, drho, nr, dr and cutoff should be")
    return (
        lines.count(words[0], "nrho", 5), lines.number_of(words[1], "drho"),
        lines.count(words[2], "nr", 5), lines.number_of(words[3], "dr"),
        lines.number_of(words[4], "cutoff"),
    )  # fmt: skip


def _atom(lines: _Lines) -> str:
    """The line of an element: atomic number, mass, lattice constant and kind of lattice."""
    words = lines.words("its elements do")
    if len(words) < 2:
        raise lines.error("a single word where an atomic number and a mass should be")
    lines.count(words[0], "atomic number", 0)
    lines.number_of(words[1], "mass")
    return " ".join(words)


def _funcfl(lines: _Lines) -> EmbeddedAtomTables:
    comment, atom = lines.comment(), _atom(lines)
    if lines.units not in ("metal", "real"):
        raise InputError(
            f"{shown(lines.name)}, line 1: UNITS: {shown(lines.units)}: the charges Z(r) of a "
            "funcfl file have a meaning in metal and real alone; convert the file"
        )
    number = int(atom.split()[0])
    if not 0 < number < len(ase.data.chemical_symbols):
        raise lines.error(f"atomic number = {number}: there is no such element")
    element = ase.data.chemical_symbols[number]
    nrho, drho, nr, dr, cutoff = _grid(lines)
    embedding = lines.table(nrho, "F(rho)")
    charge = lines.table(nr, "Z(r)")
    density = lines.table(nr, "rho(r)")
    # LAMMPS leaves out the last knot of each: its grid has rmax / dr of them.
    r_phi = HARTREE_BOHR * charge[:-1] ** 2
    return EmbeddedAtomTables(
        (element,), (comment,), (atom,), dr, drho, cutoff,
        r_phi[None, None], density[None, :-1], embedding[None, :-1],
    )  # fmt: skip


def _setfl(lines: _Lines, style: str) -> EmbeddedAtomTables:
    comments = tuple(lines.comment() for _ in range(3))
    words = lines.words("its elements do")
    elements = tuple(words[1:])
    count = lines.count(words[0], "number of elements", 1)
    if len(elements) != count or len(set(elements)) != count:
        raise lines.error(f"{len(set(elements))} different names where {count} elements should be")
    nrho, drho, nr, dr, cutoff = _grid(lines)
    atoms, embedding, densities = [], [], []
    for name in elements:
        atoms.append(_atom(lines))
        embedding.append(lines.table(nrho, f"F(rho) of {name}"))
        if style == "eam/fs":
            densities.append(
                np.array([lines.table(nr, f"rho(r) of {name} at {other}") for other in elements])
            )
        else:
            densities.append(lines.table(nr, f"rho(r) of {name}"))

    def of_pairs(what: str) -> Float[np.ndarray, "S S n"]:
        found = np.zeros((count, count, nr))
        for i, first in enumerate(elements):
            for j in range(i + 1):
                found[i, j] = found[j, i] = lines.table(nr, f"{what} of {first}-{elements[j]}")
        return found

    r_phi = of_pairs("r phi(r)")
    angular = [of_pairs(what) for what in ("u(r)", "w(r)") if style == ANGULAR_STYLE]
    return EmbeddedAtomTables(
        elements, comments, tuple(atoms), dr, drho, cutoff,
        r_phi, np.array(densities), np.array(embedding), *angular,
    )  # fmt: skip


def write_embedded_atom_file(path: Path, tables: EmbeddedAtomTables) -> None:
    """Write setfl: with densities of pairs its Finnis-Sinclair variant, with u and w that of ADP.

    Arguments:
        path: the file; one that is there is replaced.
        tables: what to write, every number with all its digits.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as file:
        for line in _lines_of(tables):
            file.write(f"{line}\n".encode())


def _lines_of(tables: EmbeddedAtomTables) -> Iterator[str]:
    yield from (*tables.comments, "", "", "")[:3]
    yield f"{len(tables.elements)} {' '.join(tables.elements)}"
    grid: tuple[Any, ...] = (
        tables.F.shape[-1], tables.density_spacing, tables.r_phi.shape[-1], tables.spacing,
        tables.cutoff,
    )  # fmt: skip
    yield " ".join(map(repr, grid))
    for row, atom in enumerate(tables.atoms):
        yield atom
        yield from map(repr, tables.F[row].tolist())
        yield from map(repr, tables.rho[row].ravel().tolist())
    for table in (tables.r_phi, tables.u, tables.w):
        if table is None:
            continue
        for row in range(len(tables.elements)):
            for column in range(row + 1):
                yield from map(repr, table[row, column].tolist())
