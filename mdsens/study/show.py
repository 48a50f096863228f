"""What mdsens sees in a structure file."""

import itertools
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.geometry import complete_cell
from ase.neighborlist import neighbor_list

from mdsens.errors import InputError
from mdsens.markup import console, for_terminal
from mdsens.particles import System
from mdsens.particles.structure_files import read_atoms
from mdsens.units import unit_name

#: How far atoms may be from a symmetric place, length: that of `System.with_symmetry`.
SYMMETRY_TOLERANCE = 0.01
#: Distances are looked for up to these, one after the other, until every pair of species has one.
REACHES = (3.0, 5.0, 8.0)
#: Most distances that are looked at, estimated from the density.
MOST_PAIRS = 20_000_000


def structure_summary(path: str | Path, dimension: int = 3, units: str = "ase") -> dict[str, Any]:
    """What mdsens sees in a structure file.

    Arguments:
        path: a file that ``ase.io.read`` reads.
        dimension: 3, or 2 for the xy plane.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        Atoms, species, cell, boundaries, constraints, the shortest distance of each pair of
        species, and the space group; and the units of all this.

    Raises:
        InputError: the file cannot be read, or the structure cannot be taken.
    """
    atoms = read_atoms(path)
    system = System.from_ase(atoms, dimension, units)
    cell = np.asarray(system.cell)
    names = [system.symbols[kind] for kind in np.asarray(system.species)]
    periodic = all(system.pbc)
    lengths = [float(np.linalg.norm(vector)) for vector in cell]
    return {
        "file": str(path),
        "atoms": system.atom_count,
        "dimension": system.dimension,
        "species": dict(Counter(names)),
        "pbc": list(system.pbc),
        "cell": cell.tolist(),
        "cell_lengths": lengths,
        "cell_angles": _angles(cell),
        "volume": float(system.volume) if periodic else None,
        "constraints": _constraints(atoms, system),
        "shortest_distances": _shortest(system, names),
        "space_group": _space_group(atoms) if periodic and dimension == 3 else None,
        "units": {
            "length": unit_name("length", units),
            "volume": unit_name(f"length^{dimension}", units),
            "angle": unit_name("angle", units),
        },
    }


def show_structure(path: str | Path, dimension: int = 3, units: str = "ase") -> None:
    """Print what mdsens sees in a structure file.

    Arguments:
        path: a file that ``ase.io.read`` reads.
        dimension: 3, or 2 for the xy plane.
        units: ``"ase"`` or ``"reduced"``.

    Raises:
        InputError: the file cannot be read, or the structure cannot be taken.
    """
    from rich.table import Table

    found = structure_summary(path, dimension, units)
    unit, angle = found["units"]["length"], found["units"]["angle"]
    axes = "xyz"[:dimension] if dimension == 2 else ("a", "b", "c")
    periodic = [axis for axis, there in zip(axes, found["pbc"], strict=True) if there]
    rows = [
        ("atoms", str(found["atoms"])),
        ("species", ", ".join(f"{n} {name}" for name, n in found["species"].items())),
        ("dimension", str(found["dimension"])),
        ("periodic along", ", ".join(periodic) or "none"),
    ]  # fmt: skip
    if any(found["cell_lengths"]):
        for axis, vector in zip(axes, found["cell"], strict=True):
            rows.append((f"cell vector {axis}", f"{_numbers(vector)} {unit}"))
        rows.append(("cell lengths", f"{_numbers(found['cell_lengths'])} {unit}"))
    else:
        rows.append(("cell", "none"))
    if found["cell_angles"] is not None:
        rows.append(("cell angles", f"{_numbers(found['cell_angles'])} {angle}"))
    if found["volume"] is not None:
        what = "area" if dimension == 2 else "volume"
        rows.append((what, f"{found['volume']:.8g} {found['units']['volume']}"))
    rows.append(("constraints", "; ".join(found["constraints"]) or "none"))
    for pair, distance in found["shortest_distances"].items():
        near = f"beyond {REACHES[-1]:g}" if distance is None else f"{distance:.6g}"
        rows.append((f"shortest {pair}", f"{near} {unit}"))
    group = found["space_group"]
    if group is not None:
        rows.append((
            "space group",
            f"{group['international']} (number {group['number']}, atoms within "
            f"{SYMMETRY_TOLERANCE:g} {unit}), point group {group['point_group']}",
        ))  # fmt: skip
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(for_terminal, row))
    console().print(table)


def _numbers(values: list[float]) -> str:
    return "  ".join(f"{value + 0.0:.8g}" for value in values)


def _angles(cell: np.ndarray) -> list[float] | None:
    """Angles between cell vectors: alpha, beta, gamma, or gamma alone; None without a cell."""
    lengths = np.linalg.norm(cell, axis=1)
    if np.any(lengths == 0.0):
        return None
    pairs = [(1, 2), (0, 2), (0, 1)] if len(cell) == 3 else [(0, 1)]
    cosines = [cell[i] @ cell[j] / lengths[i] / lengths[j] for i, j in pairs]
    return [float(np.degrees(np.arccos(np.clip(c, -1.0, 1.0)))) for c in cosines]


def _constraints(atoms: ase.Atoms, system: System) -> list[str]:
    """The constraints of ASE that are honoured; others have been refused."""
    said = []
    for constraint in atoms.constraints:
        indices = getattr(constraint, "index", None)
        count = "" if indices is None else f" of {len(np.atleast_1d(indices))} atoms"
        said.append(f"{type(constraint).__name__}{count}")
    fixed = int(np.count_nonzero(np.asarray(system.fixed)))
    if fixed:
        said.append(f"{fixed} of {system.atom_count} atoms fixed altogether")
    return said


def _shortest(system: System, names: list[str]) -> dict[str, float | None]:
    """The shortest distance of each pair of species, to any image; None: beyond all reaches."""
    positions, cell = np.zeros((len(names), 3)), np.zeros((3, 3))
    count = system.dimension
    positions[:, :count] = np.asarray(system.positions)
    cell[:count, :count] = np.asarray(system.cell)
    pbc = [*system.pbc, False][:3]
    atoms = ase.Atoms(positions=positions, cell=complete_cell(cell), pbc=pbc)
    species = np.array(names)
    symbols = sorted(set(names))
    found: dict[str, float | None] = {
        f"{a}-{b}": None for a, b in itertools.combinations_with_replacement(symbols, 2)
    }
    volume = float(system.volume) if all(system.pbc) else np.inf
    for reach in REACHES:
        if len(names) ** 2 / volume * 4.2 * reach**count > MOST_PAIRS:
            break
        i, j, distances = neighbor_list("ijd", atoms, reach)
        for pair in [pair for pair, known in found.items() if known is None]:
            a, b = pair.split("-", 1) if pair.count("-") == 1 else _halves(pair, symbols)
            chosen = distances[(species[i] == a) & (species[j] == b)]
            if len(chosen):
                found[pair] = float(chosen.min())
        if None not in found.values():
            break
    return found


def _halves(pair: str, symbols: list[str]) -> tuple[str, str]:
    """The two names in that of a pair, where names have hyphens."""
    return next((a, b) for a in symbols for b in symbols if f"{a}-{b}" == pair)


def _space_group(atoms: ase.Atoms) -> dict[str, Any] | None:
    import spglib

    given = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    try:
        with warnings.catch_warnings():
            # It speaks of how its errors will be raised one day.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = spglib.get_symmetry_dataset(given, symprec=SYMMETRY_TOLERANCE)
    except Exception as error:
        raise InputError(f"spglib finds no space group: {' '.join(str(error).split())}") from None
    if dataset is None:
        return None
    return {
        "international": str(dataset.international), "number": int(dataset.number),
        "point_group": str(dataset.pointgroup), "tolerance": SYMMETRY_TOLERANCE,
    }  # fmt: skip
