"""Quadratic programs by the names that JAXopt 0.8.5 has for its solvers of them."""

from typing import ClassVar, Literal

from mdsens.layers.box_program import BoxConstrainedQP, BoxQP
from mdsens.layers.quadratic_program import QuadraticProgram
from mdsens.layers.signature import positional

__all__ = ["OSQP", "BoxCDQP", "BoxOSQP", "CvxpyQP"]

_FACTORISED = "derivatives come from a factorisation of the active rows; leave it out"
_LOOP = {
    "verbose": (False, "the solver's iterations are its own; look at state.error"),
    "jit": (True, "solver='clarabel' solves outside compiled code"),
    "unroll": ("auto", "a program has no iterations to differentiate; leave it out"),
    "implicit_diff": (True, "a program has no iterations to differentiate; leave it out"),
    "implicit_diff_solve": (None, _FACTORISED),
}
_SPLITTING = dict.fromkeys(
    (
        "check_primal_dual_infeasability", "sigma", "momentum", "eq_qp_solve", "rho_start",
        "rho_min", "rho_max", "stepsize_updates_frequency", "primal_infeasible_tol",
        "dual_infeasible_tol", "termination_check_frequency",
    ),
    (..., "it steers the splitting of OSQP; leave it out, or give solver='osqp' with a tol"),
)  # fmt: skip


@positional(gone=_LOOP | _SPLITTING)
class OSQP(QuadraticProgram):
    """`QuadraticProgram`: min 1/2 x'Qx + c'x subject to A x = b and G x <= h.

    Arguments:
        solver, tol, maxiter, matvec_Q, matvec_A, matvec_G, fun: as in `QuadraticProgram`.
    """


@positional("matvec_Q", "matvec_A", "fun", gone=_LOOP | _SPLITTING)
class BoxOSQP(BoxConstrainedQP):
    """`BoxConstrainedQP`: min 1/2 x'Qx + c'x subject to lower <= A x <= upper.

    Arguments:
        matvec_Q, matvec_A, fun, solver, tol, maxiter: as in `QuadraticProgram`.
    """


@positional("maxiter", "tol", gone=_LOOP)
class BoxCDQP(BoxQP):
    """`BoxQP`: min 1/2 x'Qx + c'x subject to lower <= x <= upper.

    Arguments:
        maxiter, tol, solver: as in `QuadraticProgram`.
    """


@positional("solver", gone={"implicit_diff_solve": _LOOP["implicit_diff_solve"]})
class CvxpyQP(QuadraticProgram):
    """`QuadraticProgram` with a solver on the host, without CVXPY in between.

    Arguments:
        solver: "OSQP" or "CLARABEL".
        tol, maxiter: as in `QuadraticProgram`.
    """

    solver: Literal["OSQP", "CLARABEL"] = "OSQP"  # type: ignore[assignment]  # CVXPY's names

    solvers: ClassVar[tuple[str, ...]] = ("OSQP", "CLARABEL")
