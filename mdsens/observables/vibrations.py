"""Frequencies of vibrations, and what follows from them in the harmonic approximation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import ase.units
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.vibrations import Modes
from mdsens.observables.observable import Observable, bin_labels, name_of
from mdsens.observables.supercells import checked_counts, require_large_supercell
from mdsens.observables.waves import (
    ListOfWaves,
    LowestWaves,
    MeshOfWaves,
    OneWave,
    asked_of_modes,
)
from mdsens.particles import System
from mdsens.particles.masses import Masses
from mdsens.relaxation import Equilibrium
from mdsens.units import size_of_unit
from mdsens.values import integer, real, real_array

#: Planck's constant over 2 pi in ASE's units: eV times those of time, Ang sqrt(u/eV).
REDUCED_PLANCK = ase.units._hbar * ase.units.J * ase.units.second


def phonon_frequencies(
    q: Any = None, masses: Any = None, count: Any = None, supercell: Any = None
) -> Observable:
    """Frequencies of the vibrations of a crystal with one wave vector, or of a molecule.

    The square roots of the eigenvalues of the dynamical matrix, over 2 pi. It is that of the
    infinite crystal, exactly: not one of a supercell with periodic boundaries, as programs that
    displace atoms by finite steps have it. Those that do not pull back are negative, and stand for
    imaginary ones. Where the structure did not converge, they are those of the structure as it is.

    Frequencies of which several are equal have no derivatives of their own: each member of such a
    set (squares within a relative 1e-6) has the derivative of the set's mean square. What costs no
    energy by symmetry, translations and the rotations there are, has frequency 0 with derivative 0;
    so have fixed atoms, which count as infinitely heavy, and rattlers.

    Arguments:
        q: wave vector in the basis of the reciprocal lattice, D numbers; 0 in directions that are
            not periodic. None: 0 in all, where all cells move alike.
        masses: by species, as in ``{"C": 13.003}``, or N numbers, in u; 1 where no mass has a unit,
            in reduced units. None, and for species that are not named: the standard masses of the
            elements, as ASE has them (masses kept by an ase.Atoms do not count); or 1.
        count: how many of the lowest frequencies, without those that are 0 by the above: for cells
            of any size, where q is None; they are found by products with the sparse Hessian. The
            last one has the mean of its whole set, even where count cuts it. None: all.
        supercell: that of a calculation by displacements to be compared with, a number of cells or
            D of them. The frequencies are those of the infinite crystal all the same; where a
            supercell of this size could not have them it is refused, with the size that could:
            unless the wave fits into it, no atom may feel two images of another. None: no
            comparison; the frequencies need no supercell.

    Returns:
        The Observable: (D N,), or (count,), ascending, in THz; the root of energy/length^2/mass
        over 2 pi in reduced units.

    Raises:
        InputError: q or masses that are no finite numbers or no masses; and when it is evaluated:
            another number of them than there are directions or atoms, a wave along a direction that
            is not periodic, a species without a mass, too many vibrations, or a supercell that is
            too small.
    """
    kind, wave = "phonon_frequencies", None
    if q is not None:
        wave = tuple((real_array(q, "phonon_frequencies: q", ("D",)) + 0.0).tolist())
    if count is not None:
        count = integer(count, "phonon_frequencies: count", at_least=1)
    given = Masses.given(masses, "phonon_frequencies: masses")
    return _phonon_frequencies(wave, given, count, checked_counts(kind, "supercell", supercell))


def zero_point_energy(mesh: Any = None, masses: Any = None) -> Observable:
    """Energy of the vibrations of a cell at zero temperature, sum of h f / 2.

    Arguments:
        mesh: how many wave vectors along each reciprocal lattice vector, a number or D of them; 1
            in directions that are not periodic. They begin at 0 (a Gamma-centred mesh, as of H. J.
            Monkhorst, J. D. Pack, Phys. Rev. B 13, 5188 (1976)), where translations are left out.
            None: where nothing is periodic.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, energy.

    Raises:
        InputError: no mesh, no masses; and when it is evaluated: an imaginary frequency, as of a
            saddle; reduced units, which have no Planck constant; and as of `phonon_frequencies`.
    """
    return _thermal("zero_point_energy", None, mesh, masses)


def vibrational_free_energy(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Free energy of the vibrations of a cell, sum of h f / 2 + k T ln(1 - exp(-h f / k T)).

    Harmonic: D. C. Wallace, Thermodynamics of Crystals (1972), eq. 19.12. The structure and the
    frequencies are those of zero temperature.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, energy.

    Raises:
        InputError: a temperature that is not above zero, and as of `zero_point_energy`.
    """
    return _thermal("vibrational_free_energy", temperature, mesh, masses)


def vibrational_entropy(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Entropy of the vibrations of a cell, minus the slope of their free energy in the temperature.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, in eV/K.

    Raises:
        InputError: as of `vibrational_free_energy`.
    """
    return _thermal("vibrational_entropy", temperature, mesh, masses)


def heat_capacity(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Heat capacity of the vibrations of a cell at constant volume, in the harmonic approximation.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, in eV/K.

    Raises:
        InputError: as of `vibrational_free_energy`.
    """
    return _thermal("heat_capacity", temperature, mesh, masses)


def phonon_density_of_states(
    f_max: float, mesh: Any = None, bins: int = 100, width: float | None = None, masses: Any = None
) -> Observable:
    """Vibrations of a cell per frequency at the centres of bins from 0 on, smoothed by a Gaussian.

    Each vibration counts one: over all frequencies the density has the integral D N.

    Arguments:
        f_max: where the last bin ends, in THz, or in reduced units.
        mesh: as in `zero_point_energy`.
        bins: number of bins, up to a million.
        width: standard deviation of the Gaussian; one bin by default.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, (bins,), in 1/THz.

    Raises:
        InputError: numbers that are not positive; and as of `phonon_frequencies`, or an imaginary
            frequency.
    """
    kind = "phonon_density_of_states"
    f_max = real(f_max, f"{kind}: f_max", above=0.0)
    bins = integer(bins, f"{kind}: bins", at_least=1, at_most=1_000_000)
    if width is not None:
        width = real(width, f"{kind}: width", above=0.0)
    given = Masses.given(masses, f"{kind}: masses")
    return _density_of_states(f_max, checked_mesh(kind, mesh), bins, width, given)


@functools.cache
def _phonon_frequencies(
    wave: tuple[float, ...] | None,
    masses: Masses,
    count: int | None,
    supercell: int | tuple[int, ...] | None,
) -> Observable:
    name = name_of("phonon_frequencies", wave, masses.argument, count, supercell)
    waves = OneWave(masses, wave) if count is None else LowestWaves(masses, wave, count)

    def value(equilibrium: Equilibrium, modes: Modes) -> Float[Array, " F"]:
        squares = in_numpy(waves.squares(equilibrium, modes))[0]
        if count is not None:
            still, known = in_numpy((modes.still, modes.squares))
            xp = array_module((still, known, squares))
            if xp is np and count > (~still).sum():
                raise InputError(
                    f"{name}: {count} vibrations are asked for, and there are {(~still).sum()}: "
                    "give a smaller count"
                )
            # By the squares that are kept: the order does not change with what is traced.
            chosen = xp.argsort(xp.where(still[0], np.inf, known[0]), stable=True)[:count]
            squares = squares[chosen]
        return on_device(_frequencies(squares, equilibrium.system.units))

    def require(equilibrium: Equilibrium) -> None:
        waves.require(equilibrium.system, name)
        if supercell is not None:
            vector = waves.vectors(equilibrium.system)[0]
            require_large_supercell(name, equilibrium, vector, supercell)

    return Observable(
        name, "frequency", value, stationary=waves.modes, require=require, asks=asked_of_modes,
        held_tells=True,
    )  # fmt: skip


def frequencies_of_waves(name: str, waves: ListOfWaves) -> Observable:
    """Frequencies of the vibrations with each of several wave vectors, as `phonon_frequencies`.

    Arguments:
        name: what to call them.
        waves: wave vectors and masses.

    Returns:
        The Observable, (Q, D N), ascending for each wave vector.
    """
    value = _FrequenciesOfWaves(name, waves)
    return Observable(
        name, "frequency", value, stationary=waves.modes, require=value.require,
        asks=asked_of_modes, held_tells=True,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _FrequenciesOfWaves:
    """The function of such an observable: equal ones are equal, and have one compiled program."""

    name: str
    waves: ListOfWaves

    def __call__(self, equilibrium: Equilibrium, modes: Modes) -> Float[Array, "Q F"]:
        squares = in_numpy(self.waves.squares(equilibrium, modes))
        return on_device(_frequencies(squares, equilibrium.system.units))

    def require(self, equilibrium: Equilibrium) -> None:
        self.waves.require(equilibrium.system, self.name)


#: Of each kind its dimension, and what a vibration adds to it, of y = h f / k T.
KINDS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "zero_point_energy": ("energy", lambda xp, y: 0.5 * y),
    "vibrational_free_energy": ("energy", lambda xp, y: 0.5 * y + xp.log(-xp.expm1(-y))),
    "vibrational_entropy": (
        "entropy",
        lambda xp, y: y * xp.exp(-y) / -xp.expm1(-y) - xp.log(-xp.expm1(-y)),
    ),
    "heat_capacity": ("entropy", lambda xp, y: y**2 * xp.exp(-y) / xp.expm1(-y) ** 2),
}


def _thermal(kind: str, temperature: Any, mesh: Any, masses: Any) -> Observable:
    if kind != "zero_point_energy":
        temperature = real(temperature, f"{kind}: temperature", above=0.0)
    given = Masses.given(masses, f"{kind}: masses")
    return _thermal_observable(kind, temperature, checked_mesh(kind, mesh), given)


def checked_mesh(kind: str, mesh: Any) -> int | tuple[int, ...] | None:
    """A number of wave vectors, or several."""
    return checked_counts(kind, "mesh", mesh)


@functools.cache
def _thermal_observable(
    kind: str, temperature: float | None, mesh: int | tuple[int, ...] | None, masses: Masses
) -> Observable:
    given = (mesh, masses.argument)
    name = name_of(kind, *(given if temperature is None else (temperature, *given)))
    waves = mesh_of_waves(masses, mesh)

    def value(equilibrium: Equilibrium, modes: Modes) -> Float[Array, ""]:
        squares, still = waves.squares(equilibrium, modes), modes.still
        weights = waves.weights(equilibrium.system)
        return on_device(sum_over_vibrations(kind, temperature, squares, still, weights))

    def require(equilibrium: Equilibrium) -> None:
        require_kelvin(equilibrium.system, name)
        waves.require(equilibrium.system, name)

    dimension = KINDS[kind][0]
    return Observable(
        name, dimension, value, stationary=waves.stable_modes, require=require,
        asks=asked_of_modes, held_tells=True,
    )  # fmt: skip


def sum_over_vibrations(
    kind: str,
    temperature: float | None,
    squares: Float[Any, "*P Q F"],
    still: Bool[Any, "*P Q F"],
    weights: Float[np.ndarray, " Q"],
) -> Float[Any, "*P"]:
    """What vibrations add up to: an energy, or an entropy in eV/K.

    Arguments:
        kind: one of `KINDS`.
        temperature: in K; None for the energy at zero temperature.
        squares: of angular frequencies, shape (..., Q, F), eV/Ang^2/u.
        still: shape (..., Q, F), what does not vibrate.
        weights: shape (Q,), of the wave vectors.

    Returns:
        The sums, shape (...); not a number where a vibration is imaginary.
    """
    squares, still = in_numpy((squares, still))
    xp, (dimension, of_vibration) = array_module((squares, still)), KINDS[kind]
    # At zero temperature h f itself is what counts.
    thermal_energy = 1.0 if temperature is None else ase.units.kB * temperature
    counted = ~still & (squares > 0.0)
    y = REDUCED_PLANCK / thermal_energy * xp.sqrt(xp.where(counted, squares, 1.0))
    found = xp.einsum("q,...qf->...", weights, xp.where(counted, of_vibration(xp, y), 0.0))
    # What is imaginary has no energy; where that may be said, it is.
    found = xp.where(xp.any(~still & (squares < 0.0), axis=(-2, -1)), np.nan, found)
    return found * (thermal_energy if dimension == "energy" else ase.units.kB)


@functools.cache
def mesh_of_waves(masses: Masses, counts: int | tuple[int, ...] | None) -> MeshOfWaves:
    """One for all observables that ask for the same, so that modes are found once."""
    return MeshOfWaves(masses, counts)


def require_kelvin(system: System, name: str) -> None:
    """Raise InputError where a temperature has no meaning."""
    if system.units != "ase":
        raise InputError(
            f"{name} in reduced units: they have no Planck constant and no kelvin; give the "
            "system units='ase'"
        )


@functools.cache
def _density_of_states(
    f_max: float,
    mesh: int | tuple[int, ...] | None,
    bins: int,
    width: float | None,
    masses: Masses,
) -> Observable:
    centres = (np.arange(bins) + 0.5) * f_max / bins
    spread = f_max / bins if width is None else width
    default = (bins, width, masses) == (100, None, Masses())
    name = name_of(
        "phonon_density_of_states", f_max, mesh, None if default else bins, width, masses.argument
    )
    waves = mesh_of_waves(masses, mesh)

    def value(equilibrium: Equilibrium, modes: Modes) -> Float[Array, " bins"]:
        squares = in_numpy(waves.squares(equilibrium, modes))
        xp, weights = array_module(squares), waves.weights(equilibrium.system)[:, None]
        frequencies = _frequencies(squares, equilibrium.system.units)

        def at(centre: Float[Any, ""]) -> Float[Any, ""]:
            return xp.sum(weights * xp.exp(-0.5 * ((centre - frequencies) / spread) ** 2))

        counts = np.array(list(map(at, centres))) if xp is np else jax.lax.map(at, centres)
        return on_device(counts / (spread * np.sqrt(2.0 * np.pi)))

    def require(equilibrium: Equilibrium) -> None:
        waves.require(equilibrium.system, name)

    return Observable(
        name, "density of states", value, bin_labels("f", centres),
        stationary=waves.stable_modes, require=require, asks=asked_of_modes, held_tells=True,
    )  # fmt: skip


def _frequencies(squares: Float[Any, "..."], units: str) -> Float[Any, "..."]:
    """Roots over 2 pi, negative where squares are; of zero the root is zero, with slope zero."""
    xp = array_module(squares)
    moving = squares != 0.0
    roots = xp.sign(squares) * xp.sqrt(xp.abs(xp.where(moving, squares, 1.0)))
    return xp.where(moving, roots, 0.0) / (2.0 * np.pi * size_of_unit("frequency", units))
