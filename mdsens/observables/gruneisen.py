"""Gruneisen parameters: how much the frequencies of vibrations follow the volume."""

import functools
from typing import Any

import ase.units
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.gruneisen import ModesInVolume
from mdsens.observables.observable import Observable, name_of
from mdsens.observables.vibrations import (
    KINDS,
    REDUCED_PLANCK,
    checked_mesh,
    mesh_of_waves,
    require_kelvin,
)
from mdsens.observables.waves import OneWave, asked_of_modes_in_volume
from mdsens.particles import System
from mdsens.particles.masses import Masses
from mdsens.relaxation import Equilibrium
from mdsens.values import is_traced, real, real_array


def mode_gruneisen_parameters(q: Any = None, masses: Any = None) -> Observable:
    """Gruneisen parameters of the vibrations of a crystal with one wave vector, -d ln f / d ln V.

    E. Gruneisen, Ann. Phys. 344, 257 (1912). The volume changes by the same strain in all
    directions, and the ions are at rest at each volume; the slopes of the frequencies are those of
    the dynamical matrix, not of differences between volumes. Several equal frequencies have the
    parameter of their mean square; that of an imaginary one is that of its modulus, and what does
    not vibrate, as translations do not, has 0.

    Arguments:
        q: as in `phonon_frequencies`, in whose order the parameters are.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable: (D N,), pure numbers.

    Raises:
        InputError: as of `phonon_frequencies`; and when it is evaluated: the system is not
            periodic in every direction, or ions would not stay where they are.
    """
    kind, wave = "mode_gruneisen_parameters", None
    if q is not None:
        wave = tuple((real_array(q, f"{kind}: q", ("D",)) + 0.0).tolist())
    return _mode_parameters(wave, Masses.given(masses, f"{kind}: masses"))


def gruneisen_parameter(temperature: Any, mesh: Any = None, masses: Any = None) -> Observable:
    """Gruneisen parameter of a crystal, the mean over its vibrations by their heat capacities.

    sum of gamma C / sum of C, which is V alpha K / C_V in the quasi-harmonic approximation: D. C.
    Wallace, Thermodynamics of Crystals (1972), chapter 2. The structure and the frequencies are
    those of zero temperature.

    Arguments:
        temperature: in K.
        mesh: as in `zero_point_energy`.
        masses: as in `phonon_frequencies`.

    Returns:
        The Observable, a pure number.

    Raises:
        InputError: as of `vibrational_free_energy` and `mode_gruneisen_parameters`, or a
            temperature at which nothing vibrates.
    """
    kind = "gruneisen_parameter"
    temperature = real(temperature, f"{kind}: temperature", above=0.0)
    given = Masses.given(masses, f"{kind}: masses")
    return _parameter(temperature, checked_mesh(kind, mesh), given)


@functools.cache
def _mode_parameters(wave: tuple[float, ...] | None, masses: Masses) -> Observable:
    name = name_of("mode_gruneisen_parameters", wave, masses.argument)
    waves = OneWave(masses, wave)

    def stationary(equilibrium: Equilibrium) -> ModesInVolume:
        _require_minimum(equilibrium, name)
        return waves.modes_in_volume(equilibrium)

    def value(equilibrium: Equilibrium, held: ModesInVolume) -> Float[Array, " F"]:
        squares, slopes = in_numpy(waves.squares_and_slopes(equilibrium, held))
        return on_device(_parameters(squares, slopes)[0])

    def require(equilibrium: Equilibrium) -> None:
        require_a_volume(equilibrium.system, name)
        waves.require(equilibrium.system, name)

    return Observable(
        name, "1", value, stationary=stationary, require=require, asks=asked_of_modes_in_volume,
        held_tells=True,
    )  # fmt: skip


@functools.cache
def _parameter(
    temperature: float, mesh: int | tuple[int, ...] | None, masses: Masses
) -> Observable:
    name = name_of("gruneisen_parameter", temperature, mesh, masses.argument)
    waves = mesh_of_waves(masses, mesh)
    thermal_energy = ase.units.kB * temperature
    heat_capacity = KINDS["heat_capacity"][1]

    def value(equilibrium: Equilibrium, held: ModesInVolume) -> Float[Array, ""]:
        squares, slopes = in_numpy(waves.squares_and_slopes(equilibrium, held))
        xp = array_module((squares, slopes))
        counted = squares > 0.0
        y = REDUCED_PLANCK / thermal_energy * xp.sqrt(xp.where(counted, squares, 1.0))
        heat = waves.weights(equilibrium.system)[:, None] * xp.where(
            counted, heat_capacity(xp, y), 0.0
        )
        total = xp.sum(heat)
        if not is_traced(total) and not total > 0.0:
            raise InputError(
                f"{name}: nothing vibrates at so low a temperature, and the mean has no weights: "
                "give a higher one, or a finer mesh"
            )
        return on_device(xp.sum(heat * _parameters(squares, slopes)) / total)

    def require(equilibrium: Equilibrium) -> None:
        require_kelvin(equilibrium.system, name)
        require_a_volume(equilibrium.system, name)
        waves.require(equilibrium.system, name)

    return Observable(
        name, "1", value, stationary=waves.stable_modes_in_volume, require=require,
        asks=asked_of_modes_in_volume, held_tells=True,
    )  # fmt: skip


def _parameters(squares: Float[Any, "Q F"], slopes: Float[Any, "Q F"]) -> Float[Any, "Q F"]:
    """-d ln f / d ln V from f^2 and its slope in ln V; 0 for what is still."""
    xp = array_module((squares, slopes))
    moving = squares != 0.0
    return xp.where(moving, -0.5 * slopes / xp.where(moving, squares, 1.0), 0.0)


def require_a_volume(system: System, name: str) -> None:
    """Raise InputError unless a system is periodic in every direction."""
    if not all(system.pbc):
        raise InputError(
            f"{name} with pbc = {system.pbc}: only what is periodic in every direction has a "
            "volume to follow; leave it out"
        )


def _require_minimum(equilibrium: Equilibrium, name: str) -> None:
    """Raise InputError where ions have no place to relax to."""
    if is_traced((equilibrium.q, equilibrium.landscape)):
        return
    certificate = equilibrium.at_fixed_cell.certificate
    if not certificate.stable:
        raise InputError(
            f"{name} of {certificate.title} (lowest eigenvalue "
            f"{certificate.lowest_eigenvalue_text}): ions that follow the volume would leave it; "
            "displace the atoms a little and relax again"
        )
