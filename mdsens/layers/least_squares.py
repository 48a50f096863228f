"""Nonlinear least squares: the methods of Gauss and Newton, and of Levenberg and Marquardt."""

from collections.abc import Callable
from typing import Any, ClassVar

import optimistix
from jaxtyping import Array, Float, PyTree

from mdsens.implicit import conditions
from mdsens.layers.checks import callables
from mdsens.layers.optimistix_solver import OptimistixSolver
from mdsens.layers.trees import inner

__all__ = ["GaussNewton", "LevenbergMarquardt"]


class _LeastSquaresSolver(OptimistixSolver):
    """What both share: the condition J' r = 0."""

    residual_fun: Callable[..., Any]

    derivatives: ClassVar[tuple[str, ...]] = ("implicit",)
    symmetric: ClassVar[bool] = True

    def __check_init__(self) -> None:
        callables(self, "residual_fun")

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """The residuals and the auxiliary output."""
        output = self.residual_fun(params, *args, **kwargs)
        return output if self.has_aux else (output, None)

    def objective(self, params: PyTree, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """Half the sum of squares."""
        residuals = self.evaluate(params, *args, **kwargs)[0]
        return 0.5 * inner(residuals, residuals)

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The gradient of half the sum of squares, J' r."""
        return conditions.stationary(self.objective)(params, *args, **kwargs)


class GaussNewton(_LeastSquaresSolver):
    """Minimise half the sum of squares of residuals, from nearby or where they are almost linear.

    Arguments:
        residual_fun: `residual_fun(params, *args, **kwargs)`, a pytree of residuals r.
        has_aux: it returns `(residuals, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve: as in `IterativeSolver`; the error is
            |J' r|, and the derivative "implicit".

    Use `run(init_params, *args, **kwargs)`.

    x <- x - argmin_d |J d - r|: Nocedal & Wright 2006, section 10.3. The condition is Blondel et
    al. 2021, equation 4, with the full Hessian.
    """

    @property
    def solver(self) -> optimistix.GaussNewton[Any, Any, Any]:
        """The solver of Optimistix; its tolerances are not used."""
        return optimistix.GaussNewton(rtol=0.0, atol=0.0)


class LevenbergMarquardt(_LeastSquaresSolver):
    """Minimise half the sum of squares of residuals with steps that are damped where needed.

    Arguments:
        residual_fun: `residual_fun(params, *args, **kwargs)`, a pytree of residuals r.
        has_aux: it returns `(residuals, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve: as in `IterativeSolver`; the error is
            |J' r|, and the derivative "implicit".

    Use `run(init_params, *args, **kwargs)`.

    x <- x - argmin_d |J d - r|^2 + lambda |d|^2: Nocedal & Wright 2006, section 10.3. The condition
    is Blondel et al. 2021, equation 4, with the full Hessian.
    """

    @property
    def solver(self) -> optimistix.LevenbergMarquardt[Any, Any, Any]:
        """The solver of Optimistix; its tolerances are not used."""
        return optimistix.LevenbergMarquardt(rtol=0.0, atol=0.0)
