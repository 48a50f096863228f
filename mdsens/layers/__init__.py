"""Optimisation layers: a solver with its condition, differentiable in every float input."""

from mdsens.implicit.conditions import KKTSolution
from mdsens.layers import (
    base,
    implicit_diff,
    isotonic,
    linear_solve,
    loss,
    objective,
    perturbations,
    projection,
    prox,
    tree_util,
)
from mdsens.layers.anderson_wrapper import AndersonWrapper
from mdsens.layers.bfgs import BFGS
from mdsens.layers.bilevel import BilevelResult, minimise
from mdsens.layers.block_coordinate_descent import BlockCoordinateDescent
from mdsens.layers.box_program import BoxConstrainedQP, BoxQP
from mdsens.layers.broyden import Broyden
from mdsens.layers.cones import Cones
from mdsens.layers.conic_program import ConicProgram, ConicSolution
from mdsens.layers.equality_program import EqualityConstrainedQP
from mdsens.layers.fixed_point import AndersonAcceleration, FixedPointIteration
from mdsens.layers.gradient_descent import GradientDescent
from mdsens.layers.lbfgs import LBFGS
from mdsens.layers.lbfgsb import LBFGSB
from mdsens.layers.least_squares import GaussNewton, LevenbergMarquardt
from mdsens.layers.linear_program import LinearProgram
from mdsens.layers.mirror_descent import MirrorDescent
from mdsens.layers.named_programs import OSQP, BoxCDQP, BoxOSQP, CvxpyQP
from mdsens.layers.newton import Newton
from mdsens.layers.nonlinear_cg import NonlinearCG
from mdsens.layers.nonlinear_program import (
    NonlinearProgram,
    NonlinearProgramState,
    NonlinearSolution,
)
from mdsens.layers.objective import CompositeLinearFunction
from mdsens.layers.program import InfeasibleError, UnboundedError, UnsolvedError
from mdsens.layers.projected_gradient import ProjectedGradient
from mdsens.layers.projection import *  # noqa: F403
from mdsens.layers.prox import *  # noqa: F403
from mdsens.layers.proximal_gradient import ProximalGradient
from mdsens.layers.quadratic_program import QuadraticProgram
from mdsens.layers.root_finding import Bisection
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.stochastic_bilevel import (
    BilevelPoint,
    StochasticBilevel,
    StochasticBilevelState,
)

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "OSQP",
    "AndersonAcceleration",
    "AndersonWrapper",
    "BilevelPoint",
    "BilevelResult",
    "Bisection",
    "BlockCoordinateDescent",
    "BoxCDQP",
    "BoxConstrainedQP",
    "BoxOSQP",
    "BoxQP",
    "Broyden",
    "CompositeLinearFunction",
    "Cones",
    "ConicProgram",
    "ConicSolution",
    "CvxpyQP",
    "EqualityConstrainedQP",
    "FixedPointIteration",
    "GaussNewton",
    "GradientDescent",
    "InfeasibleError",
    "IterativeSolver",
    "KKTSolution",
    "LevenbergMarquardt",
    "LinearProgram",
    "MirrorDescent",
    "Newton",
    "NonlinearCG",
    "NonlinearProgram",
    "NonlinearProgramState",
    "NonlinearSolution",
    "OptStep",
    "ProjectedGradient",
    "ProximalGradient",
    "QuadraticProgram",
    "StochasticBilevel",
    "StochasticBilevelState",
    "UnboundedError",
    "UnsolvedError",
    "base",
    "implicit_diff",
    "isotonic",
    "linear_solve",
    "loss",
    "minimise",
    "objective",
    "perturbations",
    "projection",
    "prox",
    "tree_util",
]
# What these modules hand out is here by its names too.
__all__ += projection.__all__
__all__ += prox.__all__
