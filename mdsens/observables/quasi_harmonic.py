"""Thermal expansion in the quasi-harmonic approximation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.hessian_surroundings import null_vectors_of
from mdsens.mechanics.quasi_harmonic import (
    POINTS,
    POWERS,
    Crystal,
    FreeEnergyAroundMinimum,
    Polynomials,
    Vibrations,
    least_free_energy,
    slopes_and_squares,
)
from mdsens.mechanics.vibrations import Modes
from mdsens.observables.gruneisen import require_a_volume
from mdsens.observables.observable import Observable, name_of
from mdsens.observables.vibrations import (
    checked_mesh,
    mesh_of_waves,
    require_kelvin,
    sum_over_vibrations,
)
from mdsens.observables.waves import MOST_NUMBERS, MeshOfWaves
from mdsens.particles import System
from mdsens.particles.masses import Masses
from mdsens.relaxation import Equilibrium
from mdsens.units import size_of_unit
from mdsens.values import is_traced, real


def quasi_harmonic_volume(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Volume of a cell at a temperature, at which E + p V + F_vib is least.

    In the quasi-harmonic approximation: M. Born, K. Huang, Dynamical Theory of Crystal Lattices
    (1954), section 4; F_vib is that of `vibrational_free_energy` with the frequencies of each
    volume. The cell is strained by the same amount in all directions, from that of the structure,
    so that it is the whole answer for crystals of cubic symmetry; the ions are at rest in the
    energy alone at each volume. p is the pressure, or the stress, that the cell relaxed under, and
    0 where it did not relax.

    Derivatives are exact, through the condition that the free energy has no slope in the volume.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, in Ang^3; in Ang^2 in two dimensions.

    Raises:
        InputError: as of `vibrational_free_energy`; and when it is evaluated: the system is not
            periodic in every direction, a vibration is imaginary, there is no minimum from 0.67 to
            1.5 times the volume of the structure, the minimum is where a shell of neighbours
            crosses the end of the potential or of its switch (frequencies have kinks there, and
            volumes no derivatives), or JAX compiles what evaluates it.
    """
    return _observable("quasi_harmonic_volume", "volume", _volume, temperature, mesh, masses)


def quasi_harmonic_lattice_constants(
    temperature: Any, mesh: Any = None, masses: Any = None
) -> Observable:
    """Lengths of the lattice vectors of a cell that has its quasi-harmonic volume.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable: one length for each vector, in their order.

    Raises:
        InputError: as of `quasi_harmonic_volume`.
    """
    kind = "quasi_harmonic_lattice_constants"
    return _observable(kind, "length", _lattice_constants, temperature, mesh, masses)


def quasi_harmonic_bulk_modulus(
    temperature: Any, mesh: Any = None, masses: Any = None
) -> Observable:
    """Isothermal bulk modulus at the quasi-harmonic volume, V d^2 F / dV^2.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `quasi_harmonic_volume`.
    """
    kind = "quasi_harmonic_bulk_modulus"
    return _observable(kind, "modulus", _bulk_modulus, temperature, mesh, masses)


def thermal_expansion(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Coefficient of thermal expansion of the volume, d ln V / dT; of a length it is one third.

    In the quasi-harmonic approximation, at the volume of `quasi_harmonic_volume`: the slope of the
    entropy in the volume over the second slope of the free energy, which is gamma C_V / (K V).

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, in 1/K.

    Raises:
        InputError: as of `quasi_harmonic_volume`.
    """
    return _observable(
        "thermal_expansion", "inverse temperature", _expansion, temperature, mesh, masses
    )


class State(NamedTuple):
    """What a crystal is like at the minimum of its free energy.

    Attributes:
        logarithm: s = ln (V / V_0), V_0 the volume of the structure that was given.
        volume: V, length^D.
        curvature: second slope of the free energy in s, energy.
        entropy_slope: slope of the entropy of the vibrations in s, eV/K.
        system: the structure that was given.
    """

    logarithm: Any
    volume: Any
    curvature: Any
    entropy_slope: Any
    system: System


def _volume(state: State) -> Float[Any, ""]:
    return state.volume


def _lattice_constants(state: State) -> Float[Any, " D"]:
    cell, s = given = in_numpy((state.system.cell, state.logarithm))
    xp = array_module(given)
    return xp.sqrt(xp.sum(cell**2, axis=1)) * xp.exp(s / len(cell))


def _bulk_modulus(state: State) -> Float[Any, ""]:
    system = state.system
    unit = size_of_unit("modulus" if system.dimension == 3 else "planar modulus", system.units)
    return state.curvature / state.volume / unit


def _expansion(state: State) -> Float[Any, ""]:
    return state.entropy_slope / state.curvature


@dataclasses.dataclass(frozen=True)
class QuasiHarmonic:
    """A temperature, and the vibrations that count.

    Attributes:
        temperature: in K.
        waves: the wave vectors, and masses.
    """

    temperature: float
    waves: MeshOfWaves

    def minimum(self, equilibrium: Equilibrium) -> FreeEnergyAroundMinimum:
        """The volumes around that of the least free energy."""
        if is_traced((equilibrium.q, equilibrium.landscape)):
            raise InputError(
                "the quasi-harmonic approximation looks for a volume, and needs numbers: ask for "
                "it outside jit and vmap"
            )
        near = vars(equilibrium).get("nearby")
        start = 0.0 if near is None else float(self._once(near).minimum)
        return self._once(equilibrium, start)

    def _once(self, equilibrium: Equilibrium, start: float = 0.0) -> FreeEnergyAroundMinimum:
        def compute() -> FreeEnergyAroundMinimum:
            held = equilibrium.at_fixed_cell
            system, landscape = held.system, held.backbone
            weights = self.waves.weights(system)

            def free_energies(modes: Modes) -> Float[np.ndarray, " P"]:
                given = self.temperature, modes.squares, modes.still, weights
                return sum_over_vibrations("vibrational_free_energy", *given)

            return least_free_energy(
                self._crystal(equilibrium),
                self._vibrations(system),
                free_energies,
                null_vectors_of(landscape, held.q),
                in_numpy(landscape.constrained_rows(held.q))[:, 0],
                start,
                f"quasi-harmonic approximation at {self.temperature:g} K",
            )

        return equilibrium.once("quasi_harmonic", self, compute)

    def state(self, equilibrium: Equilibrium, held: FreeEnergyAroundMinimum) -> State:
        """What the crystal is like at the minimum.

        Arguments:
            equilibrium: where it may be traced.
            held: the volumes around the minimum.

        Returns:
            The State.
        """

        def compute() -> State:
            system = equilibrium.system
            given = self._crystal(equilibrium), held
            found = in_numpy((slopes_and_squares(*given), system.volume, held))
            (slopes, squares), volume, kept = found
            vibrating = self.temperature, squares, kept.modes.still, self.waves.weights(system)
            free_energies, entropies = (
                POWERS @ sum_over_vibrations(kind, *vibrating)
                for kind in ("vibrational_free_energy", "vibrational_entropy")
            )
            powers = Polynomials(kept.width, POWERS @ slopes, free_energies, entropies)
            t = (kept.minimum - kept.centre) / kept.width
            # Its value is what is kept, and its first derivatives those of where there is no slope.
            s = kept.minimum - powers.slope(t) / kept.curvature
            t = (s - kept.centre) / kept.width
            volume = volume * array_module(found).exp(s)
            return State(s, volume, powers.curvature(t), powers.entropy_slope(t), system)

        return equilibrium.once(f"quasi_harmonic_state_{self.temperature}", held, compute)

    def _crystal(self, equilibrium: Equilibrium) -> Crystal:
        return Crystal.of(equilibrium.landscape, equilibrium.q)

    def _vibrations(self, system: System) -> Vibrations:
        return Vibrations(on_device(self.waves.vectors(system)), self.waves.inverse_roots(system))

    def require(self, equilibrium: Equilibrium, name: str) -> None:
        """Raise InputError where there is no such volume."""
        system = equilibrium.system
        require_kelvin(system, name)
        require_a_volume(system, name)
        self.waves.require(system, name)
        rattlers = equilibrium.landscape.rattlers
        if not is_traced(rattlers) and np.asarray(rattlers).any():
            raise InputError(
                f"{name}: the structure has rattlers, which are nowhere at rest; remove them"
            )
        numbers = len(self.waves.vectors(system)) * (system.atom_count * system.dimension) ** 2
        if POINTS * numbers > MOST_NUMBERS:
            raise InputError(
                f"{name}: {POINTS} volumes with {numbers} numbers each take more than "
                f"{MOST_NUMBERS >> 26} GiB: take a coarser mesh, or a smaller cell"
            )


@functools.cache
def _approximation(
    temperature: float, mesh: int | tuple[int, ...] | None, masses: Masses
) -> QuasiHarmonic:
    """One for all observables that ask for the same, so that a minimum is found once."""
    return QuasiHarmonic(temperature, mesh_of_waves(masses, mesh))


def _observable(
    kind: str,
    dimension: str,
    of_state: Callable[[State], Any],
    temperature: Any,
    mesh: Any,
    masses: Any,
) -> Observable:
    temperature = real(temperature, f"{kind}: temperature", above=0.0)
    given = Masses.given(masses, f"{kind}: masses")
    return _cached(kind, dimension, of_state, temperature, checked_mesh(kind, mesh), given)


@functools.cache
def _cached(
    kind: str,
    dimension: str,
    of_state: Callable[[State], Any],
    temperature: float,
    mesh: int | tuple[int, ...] | None,
    masses: Masses,
) -> Observable:
    name = name_of(kind, temperature, mesh, masses.argument)
    approximation = _approximation(temperature, mesh, masses)

    def value(equilibrium: Equilibrium, held: FreeEnergyAroundMinimum) -> Float[Array, "..."]:
        return on_device(of_state(approximation.state(equilibrium, held)))

    def require(equilibrium: Equilibrium) -> None:
        approximation.require(equilibrium, name)

    return Observable(name, dimension, value, stationary=approximation.minimum, require=require)
