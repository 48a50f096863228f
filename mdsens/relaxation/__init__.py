"""From a system and a potential to an Equilibrium."""

from mdsens.mechanics.enthalpy import Landscape
from mdsens.minimisers.conjugate_gradient import ConjugateGradient
from mdsens.minimisers.fire import FIRE
from mdsens.minimisers.gradient_descent import GradientDescent
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import Minimiser, State, first_state
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.relaxation.arguments import METHODS, check_relaxation
from mdsens.relaxation.certificate import Certificate
from mdsens.relaxation.driver import History
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.relaxation.relax import relax, unrelaxed

__all__ = [
    "FIRE",
    "LBFGS",
    "METHODS",
    "Certificate",
    "ConjugateGradient",
    "Equilibrium",
    "GradientDescent",
    "History",
    "Landscape",
    "Minimiser",
    "Newton",
    "PreconditionedLBFGS",
    "State",
    "check_relaxation",
    "first_state",
    "relax",
    "unrelaxed",
]
