"""Jacobians of relaxed structures and their observables."""

from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity
from mdsens.sensitivities.unrolled import UnrolledTangents, unrolled_tangents

__all__ = [
    "Sensitivity",
    "UnrolledTangents",
    "sensitivity",
    "unrolled_tangents",
]
