"""A crystal with its force constants as a file phonopy.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ase.data
import numpy as np
import yaml
from jaxtyping import Float, Int

from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes, replacing
from mdsens.observables.supercells import warn_of_small_supercell
from mdsens.particles import System
from mdsens.particles.masses import Masses
from mdsens.phonopy.force_constants import LARGEST_FILE, force_constants_of_supercell
from mdsens.relaxation import Equilibrium
from mdsens.values import shown

#: Reads YAML without executing anything; the one in C, where it is there, is ten times faster.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: The units that numbers are in; phonopy has others with calculators that have others.
LENGTH, STIFFNESS = "angstrom", "eV/angstrom^2"


class CrystalFile(NamedTuple):
    """What a file phonopy.yaml says.

    Attributes:
        unit_cell: the crystal, N atoms.
        masses: of its atoms, u, shape (N,).
        supercell_matrix: shape (3, 3), in phonopy's convention; the unit matrix where none is
            given.
        force_constants: shape (P, M, 3, 3), eV/Angstrom^2, of the M atoms of the supercell, and as
            many or those of the primitive cell; None where the file has none.
    """

    unit_cell: System
    masses: Float[np.ndarray, " N"]
    supercell_matrix: Int[np.ndarray, "3 3"]
    force_constants: Float[np.ndarray, "P M 3 3"] | None


def write_phonopy_yaml(
    path: str | Path, equilibrium: Equilibrium, supercell: Any, masses: Any = None
) -> None:
    """Write a crystal and the force constants of a supercell as a file phonopy.yaml.

    `phonopy.load(path)` and the command `phonopy-load` go on from there: bands, densities of
    states, thermal properties. Frequencies are those of the infinite crystal at wave vectors that
    fit into the supercell, and at all others where it is so large that no atom feels two images of
    another: a smaller one is warned of, with the size that is needed.

    Arguments:
        path: the file; one that is there is replaced.
        equilibrium: the relaxed crystal in ASE's units, of elements, in three dimensions.
        supercell: how many cells along each lattice vector: a number, or three.
        masses: as in `mdsens.observables.phonon_frequencies`.

    Raises:
        InputError: as of `force_constants_of_supercell`; a species that is no element; or a path
            that cannot be written.
    """
    constants = force_constants_of_supercell(equilibrium, supercell)
    system, given = equilibrium.system, Masses.given(masses, "write_phonopy_yaml: masses")
    unknown = [name for name in system.symbols if name not in ase.data.atomic_numbers]
    if system.units != "ase" or unknown:
        raise InputError(
            f"write_phonopy_yaml: {shown(unknown[0]) if unknown else system.units} is no element "
            "in eV and Angstrom, and phonopy knows no others: name the species by elements"
        )
    given.require(system, "write_phonopy_yaml")
    lines = _lines(system, given, constants)
    with replacing(path_of(path, "path")) as file:
        for line in lines:
            file.write(f"{line}\n".encode())
    warn_of_small_supercell("write_phonopy_yaml", equilibrium, constants.shape[:3])


def _lines(system: System, masses: Masses, constants: np.ndarray) -> Iterator[str]:
    counts = np.array(constants.shape[:3])
    species = np.asarray(system.species)
    mass = masses.of(system)
    mass = mass if masses.by_atom is not None else mass[species]
    cell = np.asarray(system.cell)
    fractional = np.asarray(system.positions) @ np.linalg.inv(cell)
    # phonopy's order: all images of the first atom, along the first lattice vector first.
    images = np.array(
        [(a, b, c) for c in range(counts[2]) for b in range(counts[1]) for a in range(counts[0])]
    )
    yield "phonopy:"
    yield "  configuration:"
    yield "physical_unit:"
    yield '  atomic_mass: "AMU"'
    yield f'  length: "{LENGTH}"'
    yield f'  force_constants: "{STIFFNESS}"'
    yield "supercell_matrix:"
    yield from (f"- {row}" for row in np.diag(counts).tolist())
    yield "primitive_matrix:"
    yield from (f"- {row}" for row in np.eye(3).tolist())
    names = [system.symbols[one] for one in species]
    yield "unit_cell:"
    yield from _cell_lines(cell, names, fractional, mass)
    everywhere = (fractional[:, None] + images[None]).reshape(-1, 3) / counts
    each = len(images)
    yield "supercell:"
    yield from _cell_lines(
        cell * counts[:, None], np.repeat(names, each), everywhere, np.repeat(mass, each)
    )
    count = len(names)
    # Of atom i of the first cell and every atom of the supercell.
    rows = constants[tuple(images.T)].transpose(1, 2, 0, 3, 4).reshape(count, -1, 3, 3)
    yield "force_constants:"
    yield '  format: "compact"'
    yield f"  shape: [ {count}, {count * each} ]"
    yield "  elements:"
    for first, row in enumerate(rows):
        for second, block in enumerate(row):
            yield f"  - # ({first * each + 1}, {second + 1})"
            yield from (f"    - [ {', '.join(f'{one:.16e}' for one in line)} ]" for line in block)


def _cell_lines(
    cell: np.ndarray, names: Any, fractional: np.ndarray, masses: np.ndarray
) -> Iterator[str]:
    yield "  lattice:"
    yield from (f"  - [ {', '.join(f'{one:.15f}' for one in row)} ]" for row in cell)
    yield "  points:"
    for name, place, mass in zip(names, fractional, masses, strict=True):
        yield f"  - symbol: {name}"
        yield f"    coordinates: [ {', '.join(f'{one:.15f}' for one in place)} ]"
        yield f"    mass: {mass:.6f}"


def read_phonopy_yaml(path: str | Path) -> CrystalFile:
    """Read a crystal, and force constants where there are some, from a file phonopy.yaml.

    Arguments:
        path: the file, also phonopy_params.yaml or phonopy_disp.yaml.

    Returns:
        The CrystalFile.

    Raises:
        InputError: the file cannot be read, is none of phonopy, or has other units.
    """
    file = path_of(path, "path")
    content = read_bytes(file, LARGEST_FILE)
    name = shown(str(file))
    try:
        given = yaml.load(content, LOADER)
        units = given.get("physical_unit", {})
        length = str(units.get("length", LENGTH)).lower()
        stiffness = str(units.get("force_constants", STIFFNESS)).lower()
        cell, points = given["unit_cell"]["lattice"], given["unit_cell"]["points"]
        symbols = [str(point["symbol"]) for point in points]
        fractional = np.array([point["coordinates"] for point in points], float).reshape(-1, 3)
        masses = np.array(
            [
                point.get("mass", ase.data.atomic_masses[ase.data.atomic_numbers[symbol]])
                for symbol, point in zip(symbols, points, strict=True)
            ],
            float,
        )
        lattice = np.array(cell, float).reshape(3, 3)
        matrix = np.array(given.get("supercell_matrix", np.eye(3)))
        whole = np.round(matrix.astype(float)).astype(int).reshape(3, 3)
        constants = _constants(given.get("force_constants"))
        good = bool(np.isfinite(fractional).all() and np.isfinite(masses).all() and symbols)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        good = False
    if not good:
        raise InputError(
            f"{name} is no phonopy.yaml: give one that phonopy wrote, with unit_cell, its lattice "
            "and its points"
        )
    if length != LENGTH or stiffness != STIFFNESS.lower():
        raise InputError(
            f"{name} has lengths in {shown(length)} and force constants in {shown(stiffness)}: "
            f"write it in {LENGTH} and {STIFFNESS}, as with phonopy's calculator vasp"
        )
    known = tuple(dict.fromkeys(symbols))
    system = System(
        fractional @ lattice, lattice, known, [known.index(symbol) for symbol in symbols]
    )
    return CrystalFile(system, masses, whole, constants)


def _constants(given: Any) -> np.ndarray | None:
    """Force constants; ValueError where they are none."""
    if given is None:
        return None
    rows, columns = map(int, given["shape"])
    found = np.array(given["elements"], float).reshape(rows, columns, 3, 3)
    if not np.isfinite(found).all():
        raise ValueError
    return found
