"""Constraints on atoms beyond those that are fixed: taken from ASE's, and given back as such.

What an atom may do by itself is a projection of its displacement; what several may do together is
told by linear equations of their displacements, or by lengths of bonds.
"""

from collections.abc import Sequence
from typing import Any

import ase
import ase.constraints
import ase.geometry
import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.modules import Module
from mdsens.values import index_array

#: Memory that equations between atoms may take, bytes.
MOST_MEMORY = 2**29
#: Sines of angles below which a direction lies in the span of others.
PARALLEL = 1e-8

#: Those of ASE that are honoured.
SUPPORTED = (
    "FixAtoms", "FixCartesian", "FixScaled", "FixedPlane", "FixedLine", "FixCom", "FixSubsetCom",
    "FixedMode", "FixBondLengths", "FixInternals (bonds and bondcombos)", "FixSymmetry",
)  # fmt: skip


class Bonds(Module):
    """Lengths that are held, or sums of several with coefficients.

    Attributes:
        incidence: shape (B, N), -1 for the atom where a bond begins, 1 for that where it ends.
        images: shape (B, D), the lattice vectors, in units of each, to the image where it ends.
        coefficients: shape (M, B), of the bonds in each sum.
        lengths: shape (M,), the sums, in units of length.
    """

    incidence: Float[Array, "B N"]
    images: Float[Array, "B D"]
    coefficients: Float[Array, "M B"]
    lengths: Float[Array, " M"]

    def sums(self, positions: Float[Any, "N D"], cell: Float[Any, "D D"]) -> Float[Any, " M"]:
        """The sums of lengths as they are, shape (M,)."""
        coefficients, (_, lengths) = in_numpy(self.coefficients), self._vectors(positions, cell)
        return coefficients @ lengths

    def directions(
        self, positions: Float[Any, "N D"], cell: Float[Any, "D D"]
    ) -> Float[Any, "M N D"]:
        """The derivatives of the sums in the positions, shape (M, N, D), without a unit."""
        vectors, lengths = self._vectors(positions, cell)
        coefficients, incidence = known = in_numpy((self.coefficients, self.incidence))
        xp = array_module((known, vectors))
        return xp.einsum("mb,bn,bd->mnd", coefficients, incidence, vectors / lengths[:, None])

    def _vectors(self, positions: Any, cell: Any) -> tuple[Any, Any]:
        given = in_numpy((self.incidence, self.images, positions, cell))
        incidence, images, positions, cell = given
        vectors = incidence @ positions + images @ cell
        return vectors, array_module(given).sqrt((vectors**2).sum(axis=1))


class Constraints(Module):
    """What atoms may do, beside those that are fixed.

    Attributes:
        motions: shape (N, D, D), the projection of each atom's displacement onto what it may do by
            itself; None where all may do anything.
        equations: shape (M, N, D), orthonormal: displacements have no part along these; None where
            there are none.
        bonds: lengths that are held; None where none is.
        strains: shape (D, D, D, D), the projection of strains onto those that a cell may have; None
            where it may have any.
        names: which of ASE's constraints they are.
    """

    motions: Float[Array, "N D D"] | None
    equations: Float[Array, "M N D"] | None
    bonds: Bonds | None
    strains: Float[Array, "D D D D"] | None
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def coupled(self) -> bool:
        """Whether some of them are about several atoms together."""
        return self.equations is not None or self.bonds is not None

    def strained(self, matrix: Float[Any, "D D"]) -> "Constraints":
        """The same after a strain F, with which what atoms may do turns; bonds keep their lengths.

        A displacement u that is allowed becomes u F, and n, along which there is none, n F^-T.

        Arguments:
            matrix: F, of positions that become positions F, shape (D, D).

        Returns:
            The Constraints.
        """
        matrix, motions, equations = known = in_numpy((matrix, self.motions, self.equations))
        xp, turn = array_module(known), array_module(known).linalg.inv(matrix).T
        if motions is not None:
            normals = (np.eye(len(matrix))[None] - motions) @ turn
            across = xp.swapaxes(normals, 1, 2)
            # Overlaps of normals have no part along motions, which make them invertible.
            along = across @ xp.linalg.solve(normals @ across + motions, normals)
            motions = on_device(np.eye(len(matrix))[None] - along)
        if equations is not None:
            rows = (equations @ turn).reshape(len(equations), -1)
            equations = on_device(xp.linalg.qr(rows.T)[0].T.reshape(equations.shape))
        return Constraints(motions, equations, self.bonds, self.strains, self.names)

    def __str__(self) -> str:
        return ", ".join(self.names)


def constraints_of(
    given: Sequence[Any],
    atoms: ase.Atoms,
    dimension: int,
) -> tuple[Bool[np.ndarray, " N"], Constraints | None]:
    """Take over constraints of ASE.

    Arguments:
        given: the constraints.
        atoms: the N atoms that they are of, with their masses.
        dimension: D, 2 or 3; in two dimensions nothing moves along z.

    Returns:
        Which atoms are fixed, shape (N,), and what else there is; None where there is nothing else.

    Raises:
        InputError: one that is not supported, an atom that is not there, or bonds that depend on
            one another.
    """
    collected = _Collected(atoms, dimension)
    for constraint in given:
        collected.add(constraint)
    return collected.fixed, collected.constraints()


def constraints_for_ase(
    constraints: Constraints, atoms: ase.Atoms, fixed: Bool[np.ndarray, " N"]
) -> list[Any]:
    """Constraints as ASE has them, beside that of fixed atoms.

    Arguments:
        constraints: what there is beside fixed atoms.
        atoms: the N atoms.
        fixed: shape (N,), which of them are fixed.

    Returns:
        Constraints of ASE that allow the same.
    """
    found: list[Any] = []
    if constraints.motions is not None:
        found += _of_single_atoms(np.asarray(constraints.motions), fixed)
    if constraints.bonds is not None:
        found.append(_internals(constraints.bonds))
    if "FixSymmetry" in constraints.names:
        found.append(ase.constraints.FixSymmetry(atoms.copy()))
    elif constraints.equations is not None:
        rows = np.zeros((len(constraints.equations), len(atoms), 3))
        rows[:, :, : constraints.equations.shape[2]] = constraints.equations
        found += [ase.constraints.FixedMode(row.reshape(-1)) for row in rows]
    return found


class _Collected:
    """What constraints of ASE say, one after the other."""

    def __init__(self, atoms: ase.Atoms, dimension: int) -> None:
        self.atoms, self.dimension = atoms, dimension
        self.fixed = np.zeros(len(atoms), bool)
        self.normals: dict[int, list[np.ndarray]] = {}
        self.equations: list[np.ndarray] = []
        self.bonds: list[tuple[float | None, list[tuple[int, int, float]], bool]] = []
        self.strains: np.ndarray | None = None
        self.names: list[str] = []

    def add(self, constraint: Any) -> None:
        """Take over one more."""
        kinds = ase.constraints
        name = type(constraint).__name__
        if isinstance(constraint, kinds.FixAtoms):
            # An atom that is named twice is constrained all the same.
            self.fixed[self._atoms(constraint.index, name)] = True
            return
        if isinstance(constraint, kinds.FixCartesian):
            rows = np.eye(3)[np.asarray(constraint.mask, bool)]
            self._hold(constraint.index, rows, name)
        elif isinstance(constraint, kinds.FixScaled):
            cell = self.atoms.cell.complete()[:]
            rows = np.linalg.inv(cell).T[np.asarray(constraint.mask, bool)]
            self._hold(constraint.index, rows, name)
        elif isinstance(constraint, kinds.FixedPlane):
            self._hold(constraint.index, np.asarray(constraint.dir, float)[None], name)
        elif isinstance(constraint, kinds.FixedLine):
            direction = np.asarray(constraint.dir, float)
            across = np.linalg.svd(direction[None])[2][1:]
            self._hold(constraint.index, across, name)
        elif isinstance(constraint, (kinds.FixCom, kinds.FixSubsetCom)):
            self._hold_centre(constraint, name)
        elif isinstance(constraint, kinds.FixedMode):
            mode = np.asarray(constraint.mode, float).reshape(-1)
            if mode.size != 3 * len(self.atoms):
                raise InputError(
                    f"FixedMode has {mode.size} numbers for {len(self.atoms)} atoms: give three "
                    "for each atom"
                )
            self._equate(mode.reshape(1, -1, 3))
        elif isinstance(constraint, kinds.FixBondLengths):
            pairs = np.asarray(constraint.pairs).reshape(-1, 2)
            lengths = constraint.bondlengths
            for number, pair in enumerate(pairs):
                one, two = self._atoms(pair, name)
                length = None if lengths is None else float(lengths[number])
                self.bonds.append((length, [(one, two, 1.0)], True))
        elif isinstance(constraint, kinds.FixInternals):
            self._hold_internals(constraint)
        elif isinstance(constraint, kinds.FixSymmetry):
            self._hold_symmetry(constraint)
        else:
            raise InputError(
                f"constraint {name} is not supported: {', '.join(SUPPORTED)} are; remove it"
            )
        self.names.append(name)

    def constraints(self) -> Constraints | None:
        """All but the fixed atoms."""
        motions = self._motions()
        if not (motions is not None or self.equations or self.bonds or self.strains is not None):
            return None
        equations = None
        if self.equations:
            rows = np.concatenate(self.equations)[:, :, : self.dimension]
            flat = orthonormal_rows(rows.reshape(len(rows), -1))
            equations = flat.reshape(-1, *rows.shape[1:])
        return Constraints(
            None if motions is None else on_device(motions),
            None if equations is None or not len(equations) else on_device(equations),
            self._bonds() if self.bonds else None,
            None if self.strains is None else on_device(self.strains),
            tuple(dict.fromkeys(self.names)),
        )

    def _atoms(self, index: Any, name: str) -> np.ndarray:
        return index_array(np.asarray(index), f"indices of {name}", len(self.atoms))

    def _hold(self, index: Any, rows: np.ndarray, name: str) -> None:
        """Some atoms do not move along these directions, shape (k, 3)."""
        if not np.isfinite(rows).all() or not np.linalg.norm(rows, axis=1).all():
            raise InputError(f"{name} has no direction: give one that is not zero")
        for atom in np.atleast_1d(self._atoms(index, name)):
            self.normals.setdefault(int(atom), []).append(rows[:, : self.dimension])

    def _motions(self) -> np.ndarray | None:
        if not self.normals:
            return None
        identity = np.eye(self.dimension)
        motions = np.tile(identity, (len(self.atoms), 1, 1))
        for atom, rows in self.normals.items():
            normals = np.concatenate(rows)
            lengths = np.linalg.norm(normals, axis=1)
            # What holds z alone says nothing in two dimensions.
            within = orthonormal_rows(normals) if (lengths > PARALLEL).any() else normals[:0]
            motions[atom] -= within.T @ within
            if len(within) == self.dimension:
                self.fixed[atom], motions[atom] = True, 0.0
        free = ~self.fixed
        return (
            None
            if np.array_equal(motions[free], np.tile(identity, (free.sum(), 1, 1)))
            else (motions)
        )

    def _equate(self, rows: np.ndarray) -> None:
        """Displacements have no part along these, shape (M, N, 3)."""
        self._require_memory(sum(map(len, self.equations)) + len(rows))
        self.equations.append(rows)

    def _require_memory(self, count: int) -> None:
        needed = 8 * count * len(self.atoms) * self.dimension
        if needed > MOST_MEMORY:
            raise InputError(
                f"{count} constraints that couple {len(self.atoms)} atoms would take "
                f"{needed / 2**30:.2g} GiB, and {MOST_MEMORY / 2**30:.2g} are allowed: constrain "
                "fewer, or take a smaller structure"
            )

    def _hold_centre(self, constraint: Any, name: str) -> None:
        index = np.arange(len(self.atoms))
        if isinstance(constraint, ase.constraints.FixSubsetCom):
            index = self._atoms(constraint.index, name)
        weights = np.zeros(len(self.atoms))
        weights[index] = self.atoms.get_masses()[index]
        if not weights.any():
            raise InputError(f"{name}: the atoms have no masses; give the structure masses")
        rows = weights[None, :, None] * np.eye(3)[:, None, :]
        self._equate(rows[: self.dimension])

    def _hold_internals(self, constraint: Any) -> None:
        for kind in ("angles", "dihedrals"):
            if len(getattr(constraint, kind)):
                raise InputError(
                    f"FixInternals with {kind} is not supported: with bonds and bondcombos it is; "
                    "remove it"
                )
        for length, pair in constraint.bonds:
            one, two = self._atoms(pair, "FixInternals")
            self.bonds.append((length, [(one, two, 1.0)], constraint.mic))
        for total, parts in constraint.bondcombos:
            members = [
                (*self._atoms(part[:2], "FixInternals"), float(part[2] if len(part) > 2 else 1.0))
                for part in parts
            ]
            self.bonds.append((total, members, constraint.mic))

    def _bonds(self) -> Bonds:
        members = [member for _, parts, _ in self.bonds for member in parts]
        self._require_memory(len(self.bonds))
        first, second = (np.array([member[end] for member in members]) for end in (0, 1))
        if (first == second).any():
            raise InputError("a bond is held between an atom and itself: name two atoms")
        count, dimension = len(self.atoms), self.dimension
        incidence = np.zeros((len(members), count))
        incidence[np.arange(len(members)), first] = -1.0
        incidence[np.arange(len(members)), second] = 1.0
        nearest = [mic for _, parts, mic in self.bonds for _ in parts]
        images = self._images(first, second) * np.array(nearest)[:, None]
        sums = np.repeat(np.arange(len(self.bonds)), [len(parts) for _, parts, _ in self.bonds])
        coefficients = np.zeros((len(self.bonds), len(members)))
        coefficients[sums, np.arange(len(members))] = [member[2] for member in members]
        bonds = Bonds(
            on_device(incidence), on_device(images[:, :dimension]), on_device(coefficients),
            on_device(np.zeros(len(self.bonds))),
        )  # fmt: skip
        given = self.atoms.positions[:, :dimension], self.atoms.cell[:dimension, :dimension]
        now = bonds.sums(*given)
        totals = [total for total, *_ in self.bonds]
        lengths = [now[i] if total is None else total for i, total in enumerate(totals)]
        directions = bonds.directions(*given).reshape(len(self.bonds), -1)
        directions[:, np.repeat(self.fixed, dimension)] = 0.0
        sizes = np.linalg.svd(directions, compute_uv=False)
        if (
            not np.isfinite(directions).all()
            or len(sizes) < len(directions)
            or (sizes.min() <= PARALLEL * sizes.max())
        ):
            raise InputError(
                f"the {len(self.bonds)} bonds that are held depend on one another, or join fixed "
                "atoms: leave out those that follow from others"
            )
        return eqx.tree_at(lambda held: held.lengths, bonds, on_device(np.array(lengths, float)))

    def _images(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The lattice vectors that lead to the nearest image of each bond's end, shape (B, 3)."""
        if not self.atoms.pbc.any():
            return np.zeros((len(first), 3))
        apart = self.atoms.positions[second] - self.atoms.positions[first]
        nearest, _ = ase.geometry.find_mic(apart, self.atoms.cell, self.atoms.pbc)
        cell = self.atoms.cell.complete()[:]
        return np.round(np.linalg.solve(cell.T, (nearest - apart).T).T) * self.atoms.pbc

    def _hold_symmetry(self, constraint: Any) -> None:
        if self.dimension != 3:
            raise InputError(
                "constraint FixSymmetry is not supported in two dimensions: give dimension = 3, or "
                "remove it"
            )
        count, cell = len(self.atoms), self.atoms.cell[:]
        self._require_memory(3 * count)
        # A fractional displacement f, a column, becomes R f, and a Cartesian one, a row, v M.
        operations = [np.linalg.solve(cell, rotation.T @ cell) for rotation in constraint.rotations]
        mean = np.zeros((count, 3, count, 3))
        strains = np.zeros((3, 3, 3, 3))
        for matrix, images in zip(operations, constraint.symm_map, strict=True):
            mean[images, :, np.arange(count), :] += matrix.T / len(operations)
            strains += np.einsum("ka,lb->abkl", matrix, matrix) / len(operations)
        values, vectors = np.linalg.eigh(mean.reshape(3 * count, 3 * count))
        rows = vectors[:, values < 0.5].T.reshape(-1, count, 3)
        if len(rows):
            self._equate(rows)
        if constraint.do_adjust_cell:
            symmetric = (strains + strains.transpose(0, 1, 3, 2)) / 2
            self.strains = (symmetric + symmetric.transpose(1, 0, 2, 3)) / 2


def _of_single_atoms(motions: np.ndarray, fixed: np.ndarray) -> list[Any]:
    """FixedPlane and FixedLine for atoms that may move within these."""
    found: list[Any] = []
    for atom in np.flatnonzero(~fixed):
        values, vectors = np.linalg.eigh(motions[atom])
        free = values > 0.5
        directions = np.zeros((len(values), 3))
        directions[:, : len(values)] = vectors.T
        if free.all():
            continue
        if free.sum() == 1:
            found.append(ase.constraints.FixedLine([atom], directions[free][0]))
        else:
            found.append(ase.constraints.FixedPlane([atom], directions[~free][0]))
    return found


def _internals(bonds: Bonds) -> Any:
    """FixInternals for lengths that are held."""
    incidence, coefficients = np.asarray(bonds.incidence), np.asarray(bonds.coefficients)
    first, second = incidence.argmin(axis=1), incidence.argmax(axis=1)
    combos = []
    for length, row in zip(np.asarray(bonds.lengths), coefficients, strict=True):
        parts = [[int(first[b]), int(second[b]), float(row[b])] for b in np.flatnonzero(row)]
        combos.append([float(length), parts])
    return ase.constraints.FixInternals(bondcombos=combos, mic=bool(np.asarray(bonds.images).any()))


def require_unconstrained(constraints: Constraints | None, what: str) -> None:
    """Raise InputError where there are constraints that something does not honour.

    Arguments:
        constraints: of the structure.
        what: does not honour them, for the message.
    """
    if constraints is not None:
        raise InputError(
            f"{what}: of constraints only those of fixed atoms are honoured there, and the "
            f"structure has {constraints}: remove what is not FixAtoms"
        )
