"""Optimisation layers: a solver with its condition, differentiable in every float input."""

from mdsens.layers.block_coordinate_descent import BlockCoordinateDescent
from mdsens.layers.fixed_point import AndersonAcceleration, FixedPointIteration
from mdsens.layers.gradient_descent import GradientDescent
from mdsens.layers.lbfgs import LBFGS
from mdsens.layers.lbfgsb import LBFGSB
from mdsens.layers.least_squares import GaussNewton, LevenbergMarquardt
from mdsens.layers.losses import CompositeLinearFunction
from mdsens.layers.mirror_descent import MirrorDescent
from mdsens.layers.newton import Newton
from mdsens.layers.nonlinear_cg import NonlinearCG
from mdsens.layers.projected_gradient import ProjectedGradient
from mdsens.layers.proximal_gradient import ProximalGradient
from mdsens.layers.root_finding import Bisection
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver

__all__ = [
    "LBFGS",
    "LBFGSB",
    "AndersonAcceleration",
    "Bisection",
    "BlockCoordinateDescent",
    "CompositeLinearFunction",
    "FixedPointIteration",
    "GaussNewton",
    "GradientDescent",
    "IterativeSolver",
    "LevenbergMarquardt",
    "MirrorDescent",
    "Newton",
    "NonlinearCG",
    "OptStep",
    "ProjectedGradient",
    "ProximalGradient",
]
