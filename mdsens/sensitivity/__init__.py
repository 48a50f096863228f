"""Jacobians of relaxed structures and their observables."""

from mdsens.sensitivity.results import Sensitivity
from mdsens.sensitivity.sensitivity import sensitivity

__all__ = ["Sensitivity", "sensitivity"]
