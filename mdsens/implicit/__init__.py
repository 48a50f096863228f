"""Derivatives of solutions of optimality conditions F(x, theta) = 0; knows nothing about atoms."""

from mdsens.implicit import linear_solve
from mdsens.implicit.block_solver import BlockSolver, MatrixFreeSolver
from mdsens.implicit.derivatives import (
    SolveOptions,
    SolverAt,
    jvp_solution,
    root_jvp,
    root_vjp,
    vjp_solution,
)
from mdsens.implicit.linear import LinearSolution, LinearSolveError, orthonormal_basis
from mdsens.implicit.precision import (
    JacobianBound,
    JacobianError,
    jacobian_error_bound,
    jacobian_error_estimate,
    newton_step,
)
from mdsens.implicit.root import custom_fixed_point, custom_root
from mdsens.implicit.truncated_neumann import TruncatedNeumann
from mdsens.implicit.unrolled import one_step, unrolled

__all__ = [
    "BlockSolver",
    "JacobianBound",
    "JacobianError",
    "LinearSolution",
    "LinearSolveError",
    "MatrixFreeSolver",
    "SolveOptions",
    "SolverAt",
    "TruncatedNeumann",
    "custom_fixed_point",
    "custom_root",
    "jacobian_error_bound",
    "jacobian_error_estimate",
    "jvp_solution",
    "linear_solve",
    "newton_step",
    "one_step",
    "orthonormal_basis",
    "root_jvp",
    "root_vjp",
    "unrolled",
    "vjp_solution",
]
