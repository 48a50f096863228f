"""Jacobians of relaxed structures and their observables."""

from mdsens.curves import EnergyVolume, PhononBands
from mdsens.sensitivities.energy_volume import energy_volume
from mdsens.sensitivities.phonon_bands import phonon_bands
from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity
from mdsens.sensitivities.unrolled import UnrolledTangents, unrolled_tangents

__all__ = [
    "EnergyVolume",
    "PhononBands",
    "Sensitivity",
    "UnrolledTangents",
    "energy_volume",
    "phonon_bands",
    "sensitivity",
    "unrolled_tangents",
]
