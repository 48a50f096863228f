"""From a system and a potential to an Equilibrium."""

from mdsens.relaxation.arguments import METHODS, check_relaxation
from mdsens.relaxation.batch import relax_batch
from mdsens.relaxation.batch_equilibrium import BatchEquilibrium
from mdsens.relaxation.certificate import Certificate
from mdsens.relaxation.conjugate_gradient import ConjugateGradient
from mdsens.relaxation.descent import History
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.relaxation.fire import FIRE
from mdsens.relaxation.gradient_descent import GradientDescent
from mdsens.relaxation.landscape import Landscape
from mdsens.relaxation.lbfgs import LBFGS
from mdsens.relaxation.minimiser import Minimiser, State, first_state
from mdsens.relaxation.newton import Newton
from mdsens.relaxation.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.relaxation.relax import relax, unrelaxed

__all__ = [
    "FIRE",
    "LBFGS",
    "METHODS",
    "BatchEquilibrium",
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
    "relax_batch",
    "unrelaxed",
]
