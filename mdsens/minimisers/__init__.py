"""Minimisers of an enthalpy: one algorithm in each file, and what all of them share."""

from mdsens.minimisers.conjugate_gradient import ConjugateGradient
from mdsens.minimisers.fire import FIRE
from mdsens.minimisers.gradient_descent import GradientDescent
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import Minimiser, State, first_state
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS

__all__ = [
    "FIRE",
    "LBFGS",
    "ConjugateGradient",
    "GradientDescent",
    "Minimiser",
    "Newton",
    "PreconditionedLBFGS",
    "State",
    "first_state",
]
