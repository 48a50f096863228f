"""Jacobians of relaxed structures and their observables."""

from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity

__all__ = ["Sensitivity", "sensitivity"]
