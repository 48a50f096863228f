"""System: positions, cell, species, boundaries and fixed atoms; from ASE and back."""

from collections.abc import Sequence
from typing import Any, ClassVar

import ase
import ase.constraints
import ase.data
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import array_module, on_device
from mdsens.errors import InputError
from mdsens.modules import Module
from mdsens.particles.constraints import (
    Constraints,
    constraints_for_ase,
    constraints_of,
)
from mdsens.particles.lattice import completed_cell
from mdsens.particles.precision import require_double_precision
from mdsens.particles.species_names import keep_species_names, species_names
from mdsens.particles.standard_masses import warn_of_own_masses
from mdsens.pictured import Pictured
from mdsens.summary import Summarised, Summary
from mdsens.units import check_unit_system, in_dimensions, unit_name
from mdsens.values import (
    Shape,
    boolean,
    distinct_names,
    index_array,
    instance,
    integer,
    is_traced,
    items,
    listing,
    mask,
    real,
    real_array,
    shown,
)


def _real(value: Any, name: str, shape: Shape | None = None) -> Array:
    """Real numbers as an array of JAX's; one of double precision as it is, for it cannot change."""
    checked = real_array(value, name, shape)
    if isinstance(value, jax.Array) and value.dtype == jnp.float64 and not value.weak_type:
        return value
    return on_device(checked)


class System(Summarised, Pictured, Module):
    """Particles in two or three dimensions, in a cell with any mix of periodic boundaries.

    Arguments:
        positions: shape (N, D), in Angstrom or reduced units; atoms may lie outside the cell.
        cell: shape (D, D), lattice vectors as rows; zero rows where not periodic. None: no cell.
        symbols: the species' names, each once, e.g. ``("Ar", "Kr")``; not one for each atom.
        species: shape (N,), index of each atom's species in ``symbols``. None: there is only one.
        pbc: whether each direction is periodic; one value for all directions, or D of them. None:
            all are where there is a cell, and none is where there is no cell.
        fixed: which atoms are constrained to stay where they are: a mask of shape (N,), or indices
            of atoms. None: none is.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.
        constraints: what atoms may do beside that, as ``with_constraints`` takes it.

    Raises:
        InputError: empty, wrong shapes or kinds of values, not finite, a periodic cell without
            volume, or constraints that are not supported.
    """

    species_fields: ClassVar[tuple[str, ...]] = ("symbols",)
    told_fields: ClassVar[tuple[str, ...]] = ()

    positions: Float[Array, "N D"]
    cell: Float[Array, "D D"]
    species: Int[Array, " N"]
    fixed: Bool[Array, " N"]
    constraints: Constraints | None
    symbols: tuple[str, ...] = eqx.field(static=True)
    pbc: tuple[bool, ...] = eqx.field(static=True)
    units: str = eqx.field(static=True)

    def __init__(
        self,
        positions: Any,
        cell: Any = None,
        symbols: tuple[str, ...] | str = ("X",),
        species: Any = None,
        pbc: Any = None,
        fixed: Any = None,
        units: str = "ase",
        constraints: Sequence[Any] | None = None,
    ):
        require_double_precision()
        if isinstance(positions, ase.Atoms):
            raise InputError("positions is an ase.Atoms: use mdsens.System.from_ase for it")
        check_unit_system(units)
        self.units = units
        self.positions = _real(positions, "positions")
        if self.positions.size == 0:
            raise InputError("the structure is empty: give at least one atom")
        if self.positions.ndim != 2 or self.positions.shape[1] not in (2, 3):
            raise InputError(f"positions have shape {self.positions.shape}: give (N, 2) or (N, 3)")
        count, dimension = self.positions.shape
        self.symbols, self.species = _species(symbols, species, count)
        self.fixed = _mask(fixed, count)
        self.pbc = _boundaries(cell is not None if pbc is None else pbc, dimension)
        self.cell = _cell(np.zeros((dimension, dimension)) if cell is None else cell, self.pbc)
        self.constraints = None
        if constraints is not None:
            self.fixed, self.constraints = self._constrained(constraints)

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
        xp = array_module(self.cell)
        return on_device(xp.abs(xp.linalg.det(self.cell)))

    def with_positions(self, positions: Any) -> "System":
        """This system with its atoms elsewhere; checked as when first given.

        Arguments:
            positions: shape (N, D), in units of length.

        Returns:
            The System.

        Raises:
            InputError: another shape, no numbers, or numbers that are not finite.
        """
        positions = _real(positions, "positions", self.positions.shape)
        return eqx.tree_at(lambda system: system.positions, self, positions)

    def with_cell(self, cell: Any, scale_positions: bool = False) -> "System":
        """This system in another cell; checked as when first given.

        Arguments:
            cell: shape (D, D), lattice vectors as rows, in units of length.
            scale_positions: whether the atoms move along with the cell. Where the present cell has
                no lattice vector, they stay where they are in that direction.

        Returns:
            The System.

        Raises:
            InputError: another shape, no numbers, numbers that are not finite, no volume in the
                periodic directions; or, for scaled positions, a vector is lost or added.
        """
        cell = _cell(cell, self.pbc)
        positions = self.positions
        if boolean(scale_positions, "scale_positions"):
            positions = positions @ jnp.linalg.solve(*_both_complete(self.cell, cell))
        return eqx.tree_at(lambda system: (system.positions, system.cell), self, (positions, cell))

    def with_fixed(self, fixed: Any) -> "System":
        """This system with other atoms constrained; checked as when first given.

        Arguments:
            fixed: a mask of shape (N,), or indices of atoms, each once. None: none is constrained.

        Returns:
            The System.

        Raises:
            InputError: a mask of another length, no indices, or an index twice.
        """
        return eqx.tree_at(lambda system: system.fixed, self, _mask(fixed, self.atom_count))

    def with_constraints(self, constraints: Sequence[Any], masses: Any = None) -> "System":
        """This system with what its atoms may do, in place of what it had beside fixed atoms.

        Linear constraints are about displacements from where the atoms are now; in a cell that
        relaxes, as the cell has them. Bonds keep their lengths, and are told with the nearest image
        of their end.

        Arguments:
            constraints: those of ``ase.constraints``: FixAtoms, FixCartesian, FixScaled,
                FixedPlane, FixedLine, FixCom, FixSubsetCom, FixedMode, FixBondLengths, FixInternals
                with bonds and sums of these, and FixSymmetry.
            masses: shape (N,), in any unit, for the centre of mass; None: those of the elements.

        Returns:
            The System; atoms that cannot move at all are among its fixed ones.

        Raises:
            InputError: another constraint, an atom that is not there, bonds that depend on one
                another, or as many constraints between atoms as no memory holds.
        """
        fixed, found = self._constrained(constraints, masses)
        with_both = eqx.tree_at(lambda system: system.fixed, self, fixed)
        return eqx.tree_at(
            lambda system: system.constraints, with_both, found, is_leaf=lambda leaf: leaf is None
        )

    def with_symmetry(self, tolerance: float = 0.01) -> "System":
        """This system, refined to the symmetry that it has and constrained to keep it.

        Atoms, and a cell that relaxes, keep the operations of the space group that spglib finds.

        Arguments:
            tolerance: how far atoms may be from where the symmetry has them, length.

        Returns:
            The System.

        Raises:
            InputError: a system in two dimensions, or without three lattice vectors.
        """
        tolerance = real(tolerance, "tolerance", above=0.0)
        if is_traced((self.positions, self.cell, self.species)):
            raise InputError(
                "a symmetry is looked for among numbers, and JAX traces the system: make it "
                "outside jit, grad and vmap"
            )
        # What JAX does not trace stays numbers where it traces something else.
        with jax.ensure_compile_time_eval():
            return self._with_symmetry(tolerance)

    def _with_symmetry(self, tolerance: float) -> "System":
        if self.dimension != 3 or not float(self.volume) > 0.0:
            raise InputError(
                "a symmetry is that of three dimensions and a full cell: give the system three "
                "lattice vectors"
            )
        atoms = self.to_ase()
        held = [] if self.constraints is None else atoms.constraints
        atoms.set_constraint()
        # What is no chemical element is told from others all the same.
        atoms.set_atomic_numbers(np.asarray(self.species) + 1)
        kept = ase.constraints.FixSymmetry(atoms, symprec=tolerance)
        refined = self.with_cell(atoms.cell[:]).with_positions(atoms.positions)
        return refined.with_constraints([*held, kept])

    def _constrained(
        self, constraints: Sequence[Any], masses: Any = None
    ) -> tuple[Array, Constraints | None]:
        """Which atoms are fixed, and what else they are constrained to."""
        given = items(constraints)
        if given is None:
            raise InputError(
                f"constraints = {shown(constraints)}: give a list of those of ase.constraints"
            )
        if is_traced((self.positions, self.cell, self.fixed)):
            raise InputError(
                "constraints are given while JAX traces: give them to the system before"
            )
        names = [self.symbols[index] for index in np.asarray(self.species)]
        atoms = self._new_atoms(names)
        atoms.positions[:, : self.dimension] = np.asarray(self.positions)
        atoms.cell[: self.dimension, : self.dimension] = np.asarray(self.cell)
        if masses is not None:
            atoms.set_masses(real_array(masses, "masses", (self.atom_count,)))
        fixed = np.flatnonzero(np.asarray(self.fixed))
        held = [ase.constraints.FixAtoms(indices=fixed)] if len(fixed) else []
        mask, found = constraints_of([*held, *given], atoms, self.dimension)
        return on_device(mask), found

    @staticmethod
    def from_ase(atoms: ase.Atoms, dimension: int = 3, units: str = "ase") -> "System":
        """Take a structure from ASE.

        Arguments:
            atoms: the structure; its constraints are honoured as by ``with_constraints``.
            dimension: 3, or 2 for the xy plane (all atoms must share one z).
            units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.

        Returns:
            The System.

        Raises:
            InputError: a constraint that is not supported, sites that several species share, or a
                structure that is not flat.

        Warns:
            MdsensWarning: atoms have masses of their own, which are not kept.
        """
        instance(atoms, "atoms", ase.Atoms, "an ase.Atoms")
        integer(dimension, "dimension", at_least=2, at_most=3)
        if len(atoms) == 0:
            raise InputError("the structure is empty: give at least one atom")
        _require_whole_atoms(atoms)
        names = species_names(atoms)
        warn_of_own_masses(atoms, names, units)
        symbols = tuple(dict.fromkeys(names))
        order = {name: index for index, name in enumerate(symbols)}
        fixed, constraints = constraints_of(atoms.constraints, atoms, dimension)
        free = System(
            *coordinates(atoms, dimension),
            symbols,
            np.array([order[name] for name in names]),
            atoms.pbc[:dimension],
            fixed,
            units,
        )
        return eqx.tree_at(
            lambda system: system.constraints, free, constraints, is_leaf=lambda leaf: leaf is None
        )

    def to_ase(self, like: ase.Atoms | None = None) -> ase.Atoms:
        """Give the structure to ASE: two-dimensional ones at z = 0, with its constraints.

        Species that are no chemical elements become ``X``; their names are kept in the array
        ``species_name``, from which ``from_ase`` takes them back.

        Arguments:
            like: a structure of the same atoms. All that it has is copied, as tags, charges,
                momenta, constraints and ``info``, but for positions, cell, and which atoms are
                fixed; a flat structure stays at its z.

        Returns:
            The ase.Atoms.

        Raises:
            InputError: ``like`` has another number of atoms, or other species.
        """
        names = [self.symbols[index] for index in np.asarray(self.species)]
        atoms = self._new_atoms(names) if like is None else self._copied(like, names)
        positions, cell = atoms.positions.copy(), atoms.cell[:]
        positions[:, : self.dimension] = np.asarray(self.positions)
        cell[: self.dimension, : self.dimension] = np.asarray(self.cell)
        atoms.set_positions(positions, apply_constraint=False)
        atoms.set_cell(cell, apply_constraint=False)
        fixed = np.asarray(self.fixed)
        if not np.array_equal(_fixed_atoms(atoms), fixed) or (
            like is None and self.constraints is not None
        ):
            kept = [one for one in atoms.constraints if not _is_fix_atoms(one)]
            if like is None and self.constraints is not None:
                kept = constraints_for_ase(self.constraints, atoms, fixed)
            indices = np.flatnonzero(fixed)
            held = [ase.constraints.FixAtoms(indices=indices)] if len(indices) else []
            atoms.set_constraint([*kept, *held])
        return atoms

    def _new_atoms(self, names: list[str]) -> ase.Atoms:
        elements = all(name in ase.data.atomic_numbers for name in self.symbols)
        atoms = ase.Atoms(
            names if elements else ["X"] * self.atom_count,
            positions=np.zeros((self.atom_count, 3)),
            pbc=list(self.pbc) + [False] * (3 - self.dimension),
        )
        if not elements:
            keep_species_names(atoms, names)
        return atoms

    def _copied(self, like: ase.Atoms, names: list[str]) -> ase.Atoms:
        instance(like, "like", ase.Atoms, "an ase.Atoms")
        if len(like) != self.atom_count:
            raise InputError(
                f"like has {len(like)} atoms, and the system {self.atom_count}: give a structure "
                "of the same atoms"
            )
        others = species_names(like)
        different = [i for i, name in enumerate(names) if others[i] != name]
        if different:
            first = different[0]
            raise InputError(
                f"like has other species at atoms {listing(different)}: {others[first]!r} where "
                f"the system has {names[first]!r}; give a structure of the same atoms"
            )
        return like.copy()

    def _summary(self) -> Summary | None:
        leaves = jax.tree.leaves(self)
        known = all(eqx.is_array(leaf) for leaf in leaves)
        if not known or is_traced(leaves) or self.positions.ndim != 2:
            return None  # Being traced, or several side by side, as vmap makes them.
        facts = [("species", self._formula), ("periodic", self._periodic)]
        cell = np.asarray(self.cell)
        if cell.any():
            lengths = ", ".join(f"{length:.6g}" for length in np.linalg.norm(cell, axis=1))
            facts.append(
                ("lattice vectors", f"lengths {lengths} {unit_name('length', self.units)}")
            )
        if any(self.pbc) and float(self.volume) > 0.0:
            unit = unit_name(in_dimensions("volume", self.dimension), self.units)
            facts.append(("volume", f"{float(self.volume):.8g} {unit}"))
        fixed = int(np.asarray(self.fixed).sum())
        facts += [("fixed", f"{fixed} atoms")] if fixed else []
        facts += [("constraints", str(self.constraints))] if self.constraints is not None else []
        atoms = "1 atom" if self.atom_count == 1 else f"{self.atom_count} atoms"
        return Summary(f"System of {atoms} in {self.dimension} dimensions", facts)

    @property
    def _formula(self) -> str:
        counts = np.bincount(np.asarray(self.species), minlength=len(self.symbols))
        return " ".join(f"{name}{n}" for name, n in zip(self.symbols, counts, strict=True))

    @property
    def _periodic(self) -> str:
        return "".join("xyz"[axis] for axis, yes in enumerate(self.pbc) if yes) or "none"

    def __str__(self) -> str:
        fixed_count = int(np.asarray(self.fixed).sum())
        return (
            f"System({self._formula}, {self.dimension}D, periodic: {self._periodic}"
            + (f", {fixed_count} fixed" if fixed_count else "")
            + (f", {self.constraints}" if self.constraints is not None else "")
            + ")"
        )


def coordinates(
    atoms: ase.Atoms, dimension: int
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "D D"]]:
    """Positions and cell of a structure of ASE, in three dimensions or in the xy plane.

    Arguments:
        atoms: N atoms.
        dimension: D, 2 or 3.

    Returns:
        Shape (N, D), in units of length; shape (D, D), lattice vectors as rows.

    Raises:
        InputError: positions that are not finite, or a structure that is not flat.
    """
    cell, positions = atoms.cell[:], real_array(atoms.positions, "positions")
    flat = np.ptp(positions[:, 2]) < 1e-9 and np.all(np.abs(cell[:2, 2]) < 1e-9)
    if dimension == 2 and not flat:
        raise InputError(
            "dimension = 2: the atoms or the first two cell vectors leave the xy plane; "
            "give a flat structure, or dimension = 3"
        )
    return positions[:, :dimension], cell[:dimension, :dimension]


def _species(symbols: Any, species: Any, count: int) -> tuple[tuple[str, ...], Array]:
    """The names of the species, and the index of each atom's."""
    if species is None and isinstance(symbols, (list, tuple)) and len(symbols) > 1:
        # One name for each atom, as ASE has it, or a list of what there may be: never guess.
        names = tuple(dict.fromkeys(filter(lambda one: isinstance(one, str), symbols)))
        if len(symbols) == count:
            listed = shown([names.index(one) if one in names else one for one in symbols])
            raise InputError(
                f"symbols = {shown(symbols)}, and no species: name each species once and say "
                f"which atom is which, as in symbols={shown(names)}, species={listed}"
            )
        distinct_names(symbols, "symbols")
        raise InputError(
            f"symbols = {shown(symbols)}, and no species: give the index of each atom's among them"
        )
    symbols = distinct_names(symbols, "symbols")
    if species is None:
        return symbols, on_device(np.zeros(count, np.int32))
    indices = index_array(species, "species", len(symbols), (count,), from_end=False, traced=True)
    return symbols, on_device(indices, np.int32)


def _mask(fixed: Any, count: int) -> Array:
    """Which atoms are constrained."""
    return on_device(
        np.zeros(count, bool) if fixed is None else mask(fixed, "fixed", count, traced=True)
    )


def _boundaries(pbc: Any, dimension: int) -> tuple[bool, ...]:
    """Whether each direction is periodic."""
    several = isinstance(pbc, (list, tuple)) or np.ndim(pbc) == 1
    given = list(pbc) if several else [pbc] * dimension
    try:
        found = tuple(boolean(one, "pbc") for one in given)
    except InputError:
        found = ()
    if len(found) != dimension:
        raise InputError(
            f"pbc = {shown(pbc)}: give True or False, or one of them per direction ({dimension})"
        )
    return found


def _cell(cell: Any, pbc: tuple[bool, ...]) -> Array:
    """A cell that spans its periodic directions."""
    checked = _real(cell, "cell", (len(pbc), len(pbc)))
    if not is_traced(checked):
        lattice = np.asarray(checked)[list(pbc)]
        lengths = np.linalg.norm(lattice, axis=1)
        directions = lattice / np.where(lengths > 0.0, lengths, 1.0)[:, None]
        if len(lattice) and np.linalg.det(directions @ directions.T) <= 1e-20:
            raise InputError(
                f"the cell {np.asarray(checked).tolist()} has no volume in its periodic directions "
                f"{pbc}: give independent lattice vectors, or set pbc to False there"
            )
    return checked


def _both_complete(reference: Array, cell: Array) -> tuple[Array, Array]:
    """A cell and another, each with the same unit vectors where the first has no lattice vector."""
    if is_traced(reference):
        return reference, cell
    present = np.any(np.asarray(reference) != 0.0, axis=1)
    if not is_traced(cell) and (present != np.any(np.asarray(cell) != 0.0, axis=1)).any():
        raise InputError(
            f"cell = {np.asarray(cell).tolist()} and the present cell have different vectors of "
            "zeros: to scale positions give a vector where there is one, and zeros elsewhere"
        )
    complete = completed_cell(np.asarray(reference), tuple(present))
    return on_device(complete), jnp.where(present[:, None], cell, complete)


def _require_whole_atoms(atoms: ase.Atoms) -> None:
    """Raise InputError where a site holds several species, or one in part (a disordered CIF)."""
    shares = atoms.info.get("occupancy")
    if not isinstance(shares, dict):
        return
    for share in shares.values():
        if isinstance(share, dict) and any(part != 1.0 for part in share.values()):
            raise InputError(
                f"a site is shared by {shown(share)}: give a structure whose sites each hold one "
                "whole atom, without info['occupancy']"
            )


def _is_fix_atoms(constraint: Any) -> bool:
    return isinstance(constraint, ase.constraints.FixAtoms)


def _fixed_atoms(atoms: ase.Atoms) -> np.ndarray:
    """Which atoms FixAtoms holds; other constraints are passed over."""
    fixed = np.zeros(len(atoms), bool)
    for constraint in filter(_is_fix_atoms, atoms.constraints):
        # An atom that is named twice is constrained all the same.
        fixed[index_array(constraint.index, "indices of FixAtoms", len(atoms))] = True
    return fixed
