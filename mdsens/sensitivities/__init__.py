"""Jacobians of relaxed structures and their observables."""

from mdsens.sensitivities.energy_volume import EnergyVolume, energy_volume
from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity
from mdsens.sensitivities.unrolled import UnrolledTangents, unrolled_tangents

__all__ = [
    "EnergyVolume",
    "Sensitivity",
    "UnrolledTangents",
    "energy_volume",
    "sensitivity",
    "unrolled_tangents",
]
