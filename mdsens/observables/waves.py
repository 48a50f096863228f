"""Waves in a structure: one wave vector or a mesh of them, with masses, and their modes."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.gruneisen import (
    ModesInVolume,
    joined_in_volume,
    modes_in_volume,
    squares_and_slopes,
)
from mdsens.mechanics.hessian_surroundings import null_vectors_of
from mdsens.mechanics.vibrations import (
    Modes,
    joined,
    lowest_vibrational_modes,
    squares_of_modes,
    vibrational_modes,
)
from mdsens.particles import EdgeList, System
from mdsens.particles.constraints import require_unconstrained
from mdsens.particles.masses import Masses
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Equilibrium
from mdsens.resources import DENSE_LIMIT
from mdsens.units import size_of_unit
from mdsens.values import is_traced

#: Vibrations of a cell up to which its dynamical matrix is diagonalised: minutes on one core.
MOST_VIBRATIONS = 3000
#: How many of the lowest vibrations of a larger cell are looked for at most.
MOST_LOWEST = 300
#: Complex numbers in the eigenvectors of all wave vectors, at most: 1 GiB.
MOST_NUMBERS = 2**26


@dataclasses.dataclass(frozen=True)
class Waves:
    """Wave vectors and masses: what decides which modes a structure has.

    Attributes:
        masses: of the atoms.
    """

    masses: Masses

    def vectors(self, system: System) -> Float[np.ndarray, "Q D"]:
        """The wave vectors, in the basis of the reciprocal lattice."""
        raise NotImplementedError

    def modes(self, equilibrium: Equilibrium) -> Modes:
        """The modes of an equilibrium."""
        held = equilibrium.at_fixed_cell
        return vibrational_modes(*self._given(held), null_vectors_of(held.backbone, held.q))

    def squares(self, equilibrium: Equilibrium, modes: Modes) -> Float[Any, "Q F"]:
        """Squares of angular frequencies, energy/length^2/mass.

        Arguments:
            equilibrium: where they may be traced.
            modes: its modes.

        Returns:
            Shape (Q, F).
        """
        if not is_traced((equilibrium.q, equilibrium.landscape, modes)):
            return modes.squares

        def compute(several: list[Modes]) -> list[Array]:
            held = equilibrium.at_fixed_cell
            given = held.system, held.backbone.potential, held.backbone.edge_list
            squares = squares_of_modes(*given, joined(several))
            return _apart(squares, several)

        return equilibrium.together(*asked_of_modes(modes), compute)

    def modes_in_volume(self, equilibrium: Equilibrium) -> ModesInVolume:
        """The modes of an equilibrium, and how they change with the volume."""
        held = equilibrium.at_fixed_cell
        *_, vectors, inverse_roots = self._given(held)
        expansion = in_numpy(equilibrium.displacements_in_strain)[: held.system.dimension]
        displacements = expansion.sum(axis=0) / held.system.dimension
        return modes_in_volume(held.backbone, held.q, vectors, inverse_roots, displacements)

    def squares_and_slopes(
        self, equilibrium: Equilibrium, held: ModesInVolume
    ) -> tuple[Float[Any, "Q F"], Float[Any, "Q F"]]:
        """Squares of angular frequencies, and their slopes in the logarithm of the volume.

        Arguments:
            equilibrium: where they may be traced.
            held: its modes and their changes.

        Returns:
            Two of shape (Q, F), energy/length^2/mass.
        """
        if not is_traced((equilibrium.q, equilibrium.landscape, held)):
            return held.modes.squares, held.slopes

        def compute(several: list[ModesInVolume]) -> list[tuple[Array, Array]]:
            at_rest, modes = equilibrium.at_fixed_cell, [one.modes for one in several]
            found = squares_and_slopes(at_rest.backbone, at_rest.q, joined_in_volume(several))
            return list(zip(*(_apart(of, modes) for of in found), strict=True))

        return equilibrium.together(*asked_of_modes_in_volume(held), compute)

    def inverse_roots(self, system: System) -> Float[Array, " N"]:
        """One over the root of each atom's mass; 0 for one that is fixed."""
        inverse_roots: Any = 1.0 / np.sqrt(self.masses.of(system))
        fixed, species = known = in_numpy((system.fixed, system.species))
        xp = array_module(known)
        if self.masses.by_atom is None:
            inverse_roots = xp.asarray(inverse_roots)[species]
        # What is fixed is as good as infinitely heavy.
        return on_device(xp.where(fixed, 0.0, inverse_roots))

    def _given(
        self, held: Equilibrium
    ) -> tuple[System, Potential, EdgeList, Float[np.ndarray, "Q D"], Float[Any, " N"]]:
        """System, potential, edges, wave vectors, and inverse roots of masses."""
        system, backbone = held.system, held.backbone
        of_system = system, backbone.potential, backbone.edge_list
        return *of_system, self.vectors(system), self.inverse_roots(system)

    def require(self, system: System, name: str) -> None:
        """Raise InputError where a system has no such waves, or too many of them.

        Arguments:
            system: the system.
            name: of the observable, for the message.
        """
        require_unconstrained(system.constraints, name)
        self.masses.require(system, name)
        vibrations = system.atom_count * system.dimension
        if vibrations > MOST_VIBRATIONS:
            raise InputError(
                f"{name}: the cell has {vibrations} vibrations of each wave vector, and up to "
                f"{MOST_VIBRATIONS} are computed: take a smaller cell, or ask for the lowest of "
                "q = 0, as in phonon_frequencies(count=10)"
            )


@dataclasses.dataclass(frozen=True)
class OneWave(Waves):
    """One wave vector.

    Attributes:
        vector: in the basis of the reciprocal lattice; None: 0.
    """

    vector: tuple[float, ...] | None

    def vectors(self, system: System) -> Float[np.ndarray, "Q D"]:
        """It alone."""
        return np.array([self.vector or (0.0,) * system.dimension])

    def require(self, system: System, name: str) -> None:
        """Also where it runs along a direction that is not periodic."""
        if self.vector is not None:
            _require_directions(self.vector, 0, system, name, "q")
        super().require(system, name)


@dataclasses.dataclass(frozen=True)
class ListOfWaves(Waves):
    """Several wave vectors, one after the other.

    Attributes:
        several: each in the basis of the reciprocal lattice.
    """

    several: tuple[tuple[float, ...], ...]

    def vectors(self, system: System) -> Float[np.ndarray, "Q D"]:
        """All of them."""
        return np.array(self.several)

    def require(self, system: System, name: str) -> None:
        """Also where one runs along a direction that is not periodic."""
        for vector in self.several:
            _require_directions(vector, 0, system, name, "a wave vector")
        super().require(system, name)
        vibrations = system.atom_count * system.dimension
        if len(self.several) * vibrations**2 > MOST_NUMBERS:
            raise InputError(
                f"{name}: {len(self.several)} wave vectors with {vibrations} vibrations each take "
                f"more than {MOST_NUMBERS >> 26} GiB: take fewer"
            )


@dataclasses.dataclass(frozen=True)
class LowestWaves(OneWave):
    """One wave vector, and the lowest vibrations that it has beside those that are still.

    Attributes:
        count: how many.
    """

    count: int

    def modes(self, equilibrium: Equilibrium) -> Modes:
        """All modes of a small cell; of a large one the lowest, found without a dense matrix."""
        held = equilibrium.at_fixed_cell
        size = held.system.atom_count * held.system.dimension
        if size <= DENSE_LIMIT or any(self.vector or ()):
            return super().modes(equilibrium)
        if is_traced((held.q, held.landscape)):
            raise InputError(
                f"phonon_frequencies: the lowest of {size} vibrations are looked for on the host: "
                "ask for them outside jit and vmap"
            )
        if held.potential.made_by_calls:
            raise InputError(
                f"phonon_frequencies: of {size} degrees of freedom the whole Hessian would take "
                f"{2 * size:,} calls of the calculator: take a smaller cell"
            )
        hessian = held.hessian_solver
        if hessian is None:
            raise InputError(
                "phonon_frequencies: the sparse Hessian does not fit into the memory, and there "
                "are no vibrations without it: take a smaller cell"
            )
        null_vectors = np.concatenate(
            [np.asarray(null_vectors_of(held.backbone, held.q)), held.certificate.floppy_vectors]
        )
        roots = np.asarray(self._given(held)[-1])
        return lowest_vibrational_modes(hessian, roots, null_vectors, self.count)

    def require(self, system: System, name: str) -> None:
        """Also where it has not so many vibrations."""
        size = system.atom_count * system.dimension
        if size <= MOST_VIBRATIONS or any(self.vector or ()):
            super().require(system, name)
        require_unconstrained(system.constraints, name)
        self.masses.require(system, name)
        most = size if size <= DENSE_LIMIT else min(MOST_LOWEST, size)
        if self.count > most:
            raise InputError(
                f"{name}: count = {self.count}: of {size} vibrations up to {most} of the lowest "
                f"are computed: give a count of at most {most}"
            )


@dataclasses.dataclass(frozen=True)
class MeshOfWaves(Waves):
    """A mesh of wave vectors that begins at 0.

    Attributes:
        counts: how many along each reciprocal lattice vector, or along all where there may be
            waves; None: only 0, where nothing is periodic.
    """

    counts: int | tuple[int, ...] | None

    def vectors(self, system: System) -> Float[np.ndarray, "Q D"]:
        """Of each two that are opposite one, which stands for both."""
        return mesh_of_wave_vectors(self._counts_in(system))[0]

    def weights(self, system: System) -> Float[np.ndarray, " Q"]:
        """The part of the whole mesh that each wave vector stands for."""
        return mesh_of_wave_vectors(self._counts_in(system))[1]

    def stable_modes(self, equilibrium: Equilibrium) -> Modes:
        """The modes; an error where one of them is imaginary."""
        modes = self.modes(equilibrium)
        self.require_stable(equilibrium.system, modes)
        return modes

    def stable_modes_in_volume(self, equilibrium: Equilibrium) -> ModesInVolume:
        """The modes, and how they change with the volume; an error where one is imaginary."""
        found = self.modes_in_volume(equilibrium)
        self.require_stable(equilibrium.system, found.modes)
        return found

    def require_stable(self, system: System, modes: Modes) -> None:
        """Raise InputError where one of the modes of a system is imaginary."""
        if is_traced(modes):
            return
        squares = np.asarray(modes.squares)
        if (squares < 0.0).any():
            unit = "THz" if system.units == "ase" else "in reduced units"
            lowest = np.sqrt(-squares.min()) / (
                2.0 * np.pi * size_of_unit("frequency", system.units)
            )
            at = self.vectors(system)[squares.min(axis=1).argmin()]
            raise InputError(
                f"of {squares.size} vibrations {(squares < 0.0).sum()} are imaginary, the worst at "
                f"q = ({', '.join(f'{one:.4g}' for one in at)}) with {lowest:.3g}i {unit}: this "
                "is a saddle, not a place of rest; displace the atoms of a larger cell, and relax "
                "again"
            )

    def require(self, system: System, name: str) -> None:
        """Also where it has waves along a direction that is not periodic."""
        if self.counts is None and any(system.pbc):
            raise InputError(
                f"{name} of what is periodic: say how many wave vectors to take along each "
                "reciprocal lattice vector, as in mesh=8"
            )
        counts = self._counts_in(system)
        _require_directions(counts, 1, system, name, "mesh")
        super().require(system, name)
        vibrations = system.atom_count * system.dimension
        if math.prod(counts) // 2 * vibrations**2 > MOST_NUMBERS:
            raise InputError(
                f"{name}: {math.prod(counts)} wave vectors with {vibrations} vibrations each take "
                f"more than {MOST_NUMBERS >> 26} GiB: take a coarser mesh"
            )

    def _counts_in(self, system: System) -> tuple[int, ...]:
        if isinstance(self.counts, tuple):
            return self.counts
        return tuple((self.counts or 1) if periodic else 1 for periodic in system.pbc)


@functools.lru_cache(maxsize=8)
def mesh_of_wave_vectors(
    counts: tuple[int, ...],
) -> tuple[Float[np.ndarray, "Q D"], Float[np.ndarray, " Q"]]:
    """Wave vectors and weights of a mesh, of two that are opposite the first with both weights.

    Arguments:
        counts: how many along each reciprocal lattice vector.

    Returns:
        Shape (Q, D), in the basis of the reciprocal lattice; shape (Q,), their sum is one.
    """
    whole = np.array(list(itertools.product(*map(range, counts))))
    # What runs backwards in time has the opposite wave vector and the same frequency.
    places, opposite = (
        np.ravel_multi_index(tuple(rows.T), counts) for rows in (whole, -whole % counts)
    )
    kept = places <= opposite
    weights = np.where(places == opposite, 1.0, 2.0)[kept] / len(whole)
    return whole[kept] / np.array(counts), weights


def asked_of_modes(modes: Modes) -> tuple[str, Any]:
    """What an observable of frequencies asks an Equilibrium for."""
    # Those of as many vibrations are computed together.
    return f"squares_of_{modes.squares.shape[1]}_modes", modes


def asked_of_modes_in_volume(held: ModesInVolume) -> tuple[str, Any]:
    """What an observable of frequencies asks for that follows the volume."""
    return "squares_and_slopes", held


def _apart(rows: Float[Array, "Q F"], several: list[Modes]) -> list[Array]:
    """Rows of all wave vectors, for each of several modes its own."""
    ends = np.cumsum([len(modes.squares) for modes in several])
    return [rows[end - len(modes.squares) : end] for end, modes in zip(ends, several, strict=True)]


def _require_directions(
    given: tuple[float, ...], still: int, system: System, name: str, key: str
) -> None:
    """Raise InputError unless there is a number for each direction, `still` where it may be."""
    if len(given) != system.dimension:
        raise InputError(
            f"{name}: {key} has {len(given)} numbers: give {system.dimension}, one for each "
            "direction"
        )
    for axis, (one, periodic) in enumerate(zip(given, system.pbc, strict=True)):
        if one != still and not periodic:
            raise InputError(
                f"{name}: {key} is {one:g} in direction {axis}, which is not periodic and has no "
                f"waves: give {still} there"
            )
