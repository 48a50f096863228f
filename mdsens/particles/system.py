"""System: positions, cell, species, boundaries and fixed atoms; from ASE and back."""

from pathlib import Path
from typing import Any

import ase
import ase.constraints
import ase.data
import ase.io
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.errors import InputError
from mdsens.units import check_unit_system

#: Name of the ASE array that keeps species which are no chemical elements.
SPECIES_ARRAY = "species_name"


def is_concrete(*trees: Any) -> bool:
    """Whether no leaf of the given pytrees is being traced, so that host code may read them."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def _float_array(values: Any) -> Array:
    # A copy: JAX may otherwise share the memory of a NumPy array that its owner goes on to change.
    return jnp.array(values, dtype=jnp.float64)


class System(eqx.Module):
    """Particles in two or three dimensions, in a cell with any mix of periodic boundaries.

    Arguments:
        positions: shape (N, D), in Angstrom or reduced units; atoms may lie outside the cell.
        cell: shape (D, D), lattice vectors as rows; zero rows where not periodic. None: no cell.
        symbols: the species' names, e.g. ``("Ar", "Kr")``.
        species: shape (N,), index of each atom's species in ``symbols``. None: all the first.
        pbc: whether each direction is periodic; one value for all directions, or D of them.
        fixed: shape (N,), whether an atom is held where it is. None: none is.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.

    Raises:
        InputError: empty, wrong shapes, not finite, or a periodic cell without volume.
    """

    positions: Float[Array, "N D"]
    cell: Float[Array, "D D"]
    species: Int[Array, " N"]
    fixed: Bool[Array, " N"]
    symbols: tuple[str, ...] = eqx.field(static=True)
    pbc: tuple[bool, ...] = eqx.field(static=True)
    units: str = eqx.field(static=True)

    def __init__(
        self,
        positions: Any,
        cell: Any = None,
        symbols: tuple[str, ...] | str = ("X",),
        species: Any = None,
        pbc: bool | tuple[bool, ...] | list[bool] = True,
        fixed: Any = None,
        units: str = "ase",
    ):
        check_unit_system(units)
        self.positions = _float_array(positions)
        if self.positions.ndim != 2 or self.positions.shape[1] not in (2, 3):
            raise InputError(f"positions have shape {self.positions.shape}: give (N, 2) or (N, 3)")
        count, dimension = self.positions.shape
        if count == 0:
            raise InputError("the structure is empty: give at least one atom")
        self.symbols = (symbols,) if isinstance(symbols, str) else tuple(symbols)
        self.units = units
        self.species = jnp.array(np.zeros(count) if species is None else species, jnp.int32)
        self.fixed = jnp.array(np.zeros(count, bool) if fixed is None else fixed, bool)
        for name, array in (("species", self.species), ("fixed", self.fixed)):
            if array.shape != (count,):
                raise InputError(f"{name} has shape {array.shape}: give one per atom ({count},)")
        self.cell = _float_array(np.zeros((dimension, dimension)) if cell is None else cell)
        if self.cell.shape != (dimension, dimension):
            raise InputError(
                f"cell has shape {self.cell.shape}: give ({dimension}, {dimension}), "
                "lattice vectors as rows"
            )
        boundaries = (pbc,) * dimension if isinstance(pbc, (bool, np.bool_)) else tuple(pbc)
        if len(boundaries) != dimension:
            raise InputError(f"pbc = {pbc!r}: give one value, or one per direction ({dimension})")
        self.pbc = tuple(bool(periodic) for periodic in boundaries)
        if cell is None and pbc is True:
            self.pbc = (False,) * dimension

    def __check_init__(self) -> None:
        if is_concrete(self.positions):
            rows = np.flatnonzero(~np.isfinite(np.asarray(self.positions)).all(axis=1))
            if len(rows):
                raise InputError(f"positions of atoms {_listing(rows)} are not finite: mend them")
        if is_concrete(self.species):
            species = np.asarray(self.species)
            if species.min() < 0 or species.max() >= len(self.symbols):
                raise InputError(
                    f"species indices run from {species.min()} to {species.max()}: "
                    f"allowed are 0 to {len(self.symbols) - 1} for symbols {self.symbols}"
                )
        if is_concrete(self.cell):
            cell = np.asarray(self.cell)
            if not np.isfinite(cell).all():
                raise InputError("the cell is not finite: mend its lattice vectors")
            lattice = cell[list(self.pbc)]
            lengths = np.linalg.norm(lattice, axis=1)
            gram = np.linalg.det(lattice @ lattice.T) if len(lattice) else 1.0
            if np.any(lengths == 0) or gram <= 1e-20 * np.prod(lengths) ** 2:
                raise InputError(
                    f"the cell {cell.tolist()} has no volume in its periodic directions "
                    f"{self.pbc}: give independent lattice vectors, or set pbc to False there"
                )

    @property
    def atom_count(self) -> int:
        """Number of atoms, N."""
        return self.positions.shape[0]

    @property
    def dimension(self) -> int:
        """Number of spatial dimensions, D: 2 or 3."""
        return self.positions.shape[1]

    @property
    def volume(self) -> Float[Array, ""]:
        """Volume of the cell (area in two dimensions), Angstrom^D; 0 where there is no cell."""
        return jnp.abs(jnp.linalg.det(self.cell))

    def with_positions(self, positions: Float[Array, "N D"]) -> "System":
        """This system with its atoms elsewhere."""
        return eqx.tree_at(lambda system: system.positions, self, positions)

    def with_cell(self, cell: Float[Array, "D D"], scale_positions: bool = False) -> "System":
        """This system in another cell; ``scale_positions`` moves the atoms along with it."""
        positions = self.positions
        if scale_positions:
            positions = positions @ jnp.linalg.solve(self.cell, jnp.asarray(cell))
        return eqx.tree_at(lambda system: (system.positions, system.cell), self, (positions, cell))

    def with_fixed(self, fixed: Any) -> "System":
        """This system with other atoms held: a mask of shape (N,), or indices of atoms."""
        given = np.asarray(fixed)
        if given.dtype == bool:
            if given.shape != (self.atom_count,):
                raise InputError(
                    f"fixed has shape {given.shape}: give a mask ({self.atom_count},) or indices"
                )
            mask = given
        else:
            indices = given.astype(int).ravel()
            if np.any((indices < -self.atom_count) | (indices >= self.atom_count)):
                raise InputError(
                    f"fixed = {given.tolist()}: allowed are atoms 0 to {self.atom_count - 1}"
                )
            mask = np.zeros(self.atom_count, bool)
            mask[indices] = True
        return eqx.tree_at(lambda system: system.fixed, self, jnp.array(mask))

    @staticmethod
    def from_ase(atoms: ase.Atoms, dimension: int = 3, units: str = "ase") -> "System":
        """Take a structure from ASE.

        Arguments:
            atoms: the structure; its FixAtoms constraints are honoured.
            dimension: 3, or 2 for the xy plane (all atoms must share one z).
            units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.

        Returns:
            The System.

        Raises:
            InputError: a constraint other than FixAtoms, or a structure that is not flat.
        """
        if len(atoms) == 0:
            raise InputError("the structure is empty: give at least one atom")
        if dimension not in (2, 3):
            raise InputError(f"dimension = {dimension}: allowed are 2 and 3")
        names = atoms.arrays.get(SPECIES_ARRAY, np.array(atoms.get_chemical_symbols()))
        symbols = tuple(dict.fromkeys(str(name) for name in names))
        order = {name: index for index, name in enumerate(symbols)}
        cell, positions = atoms.cell[:], atoms.positions
        flat = np.ptp(positions[:, 2]) < 1e-9 and np.all(np.abs(cell[:2, 2]) < 1e-9)
        if dimension == 2 and not flat:
            raise InputError(
                "dimension = 2: the atoms or the first two cell vectors leave the xy plane; "
                "give a flat structure, or dimension = 3"
            )
        return System(
            positions[:, :dimension],
            cell[:dimension, :dimension],
            symbols,
            np.array([order[str(name)] for name in names]),
            tuple(bool(periodic) for periodic in atoms.pbc[:dimension]),
            _fixed_atoms(atoms),
            units,
        )

    def to_ase(self) -> ase.Atoms:
        """Give the structure to ASE: two-dimensional ones at z = 0, fixed atoms as FixAtoms.

        Species that are no chemical elements become ``X``; their names are kept in the array
        ``species_name``, from which ``from_ase`` takes them back.
        """
        positions = np.zeros((self.atom_count, 3))
        positions[:, : self.dimension] = np.asarray(self.positions)
        cell = np.zeros((3, 3))
        cell[: self.dimension, : self.dimension] = np.asarray(self.cell)
        names = [self.symbols[index] for index in np.asarray(self.species)]
        elements = all(name in ase.data.atomic_numbers for name in self.symbols)
        atoms = ase.Atoms(
            names if elements else ["X"] * self.atom_count,
            positions=positions,
            cell=cell,
            pbc=list(self.pbc) + [False] * (3 - self.dimension),
        )
        if not elements:
            atoms.set_array(SPECIES_ARRAY, np.array(names))
        fixed = np.flatnonzero(np.asarray(self.fixed))
        if len(fixed):
            atoms.set_constraint(ase.constraints.FixAtoms(indices=fixed))
        return atoms

    def __str__(self) -> str:
        counts = np.bincount(np.asarray(self.species), minlength=len(self.symbols))
        formula = " ".join(f"{name}{n}" for name, n in zip(self.symbols, counts, strict=True))
        periodic = "".join("xyz"[axis] for axis, yes in enumerate(self.pbc) if yes) or "none"
        held = int(np.asarray(self.fixed).sum())
        return (
            f"System({formula}, {self.dimension}D, periodic: {periodic}"
            + (f", {held} fixed" if held else "")
            + ")"
        )


def read(path: str | Path, dimension: int = 3, units: str = "ase", index: int = -1) -> System:
    """Read a structure file.

    Arguments:
        path: any file that ``ase.io.read`` reads.
        dimension: 3, or 2 for the xy plane.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.
        index: which structure of the file; the last by default.

    Returns:
        The System.

    Raises:
        InputError: the file is missing or cannot be read as a structure.
    """
    if not Path(path).is_file():
        raise InputError(f"structure file {str(path)!r} does not exist: give the path of a file")
    try:
        atoms = ase.io.read(path, index=index)
    except Exception as error:
        raise InputError(f"structure file {str(path)!r} cannot be read: {error}") from error
    assert isinstance(atoms, ase.Atoms)
    return System.from_ase(atoms, dimension, units)


def _fixed_atoms(atoms: ase.Atoms) -> np.ndarray:
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, ase.constraints.FixAtoms):
            raise InputError(
                f"constraint {type(constraint).__name__} is not supported: FixAtoms is; remove it"
            )
        fixed[constraint.index] = True
    return fixed


def _listing(indices: np.ndarray, limit: int = 8) -> str:
    shown = ", ".join(str(index) for index in indices[:limit])
    return shown + (f" and {len(indices) - limit} more" if len(indices) > limit else "")
