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
from mdsens.layers.closed_form_projections import (
    kl_projection_simplex,
    projection_affine_set,
    projection_box,
    projection_box_section,
    projection_halfspace,
    projection_hypercube,
    projection_hyperplane,
    projection_l1_ball,
    projection_l1_sphere,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_non_negative,
    projection_simplex,
    projection_sparse_simplex,
)
from mdsens.layers.cones import (
    Cones,
    projection_cone,
    projection_dual_cone,
    projection_exponential_cone,
    projection_second_order_cone,
)
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
from mdsens.layers.polyhedron import projection_polyhedron
from mdsens.layers.program import InfeasibleError, UnboundedError, UnsolvedError
from mdsens.layers.projected_gradient import ProjectedGradient
from mdsens.layers.prox import (
    make_prox_from_projection,
    prox_elastic_net,
    prox_group_lasso,
    prox_lasso,
    prox_log_barrier,
    prox_non_negative_lasso,
    prox_non_negative_ridge,
    prox_none,
    prox_nuclear_norm,
    prox_ridge,
    prox_total_variation_1d,
)
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
from mdsens.layers.transport import (
    kl_projection_birkhoff,
    kl_projection_transport,
    projection_birkhoff,
    projection_transport,
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
    "kl_projection_birkhoff",
    "kl_projection_simplex",
    "kl_projection_transport",
    "linear_solve",
    "loss",
    "make_prox_from_projection",
    "minimise",
    "objective",
    "perturbations",
    "projection",
    "projection_affine_set",
    "projection_birkhoff",
    "projection_box",
    "projection_box_section",
    "projection_cone",
    "projection_dual_cone",
    "projection_exponential_cone",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_polyhedron",
    "projection_second_order_cone",
    "projection_simplex",
    "projection_sparse_simplex",
    "projection_transport",
    "prox",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_lasso",
    "prox_log_barrier",
    "prox_non_negative_lasso",
    "prox_non_negative_ridge",
    "prox_none",
    "prox_nuclear_norm",
    "prox_ridge",
    "prox_total_variation_1d",
    "tree_util",
]
