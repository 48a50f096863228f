"""Jacobians of relaxed structures and their observables."""

from mdsens.sensitivities.batch import BatchSensitivity, sensitivity_batch
from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity
from mdsens.sensitivities.unrolled import UnrolledTangents, unrolled_tangents

__all__ = [
    "BatchSensitivity",
    "Sensitivity",
    "UnrolledTangents",
    "sensitivity",
    "sensitivity_batch",
    "unrolled_tangents",
]
