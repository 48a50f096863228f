"""Energy, pressure, stress and volume."""

import functools

from mdsens.observables.observable import Observable


@functools.cache
def energy() -> Observable:
    """Potential energy."""
    return Observable("energy", "energy", lambda equilibrium: equilibrium.energy)


@functools.cache
def energy_per_atom() -> Observable:
    """Potential energy divided by the number of atoms."""
    return Observable(
        "energy_per_atom",
        "energy",
        lambda equilibrium: equilibrium.energy / equilibrium.system.atom_count,
    )


@functools.cache
def pressure() -> Observable:
    """Pressure, minus the mean of the normal stresses."""
    return Observable("pressure", "energy/volume", lambda equilibrium: equilibrium.pressure)


@functools.cache
def stress() -> Observable:
    """Stress in Voigt order (xx yy zz yz xz xy; xx yy xy in 2D), positive under tension."""
    return Observable(
        "stress",
        "energy/volume",
        lambda equilibrium: equilibrium.stress,
        labels=("xx", "yy", "zz", "yz", "xz", "xy"),
    )


@functools.cache
def volume() -> Observable:
    """Volume of the cell; its area in two dimensions."""
    return Observable("volume", "volume", lambda equilibrium: equilibrium.volume)
