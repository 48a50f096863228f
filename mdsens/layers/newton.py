"""Newton's method for roots."""

from collections.abc import Callable
from typing import Any

import optimistix
from jaxtyping import PyTree

from mdsens.layers.checks import callables
from mdsens.layers.optimistix_solver import OptimistixSolver

__all__ = ["Newton"]


class Newton(OptimistixSolver):
    """Find a root of a function with as many values as unknowns, from nearby.

    Arguments:
        optimality_fun: F(params, *args, **kwargs), whose root is sought, with the structure of
            params; `jax.grad(fun)` for a stationary point.
        has_aux: F returns `(value, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve: as in `IterativeSolver`; the error is
            |F(x)|.

    Use `run(init_params, *args, **kwargs)`.

    x <- x - (dF/dx)^-1 F(x): Nocedal & Wright 2006, algorithm 11.1. The condition is F itself:
    Blondel et al. 2021, equation 2.
    """

    optimality_fun: Callable[..., Any]

    def __check_init__(self) -> None:
        callables(self, "optimality_fun")

    @property
    def solver(self) -> optimistix.Newton[Any, Any, Any]:
        """The solver of Optimistix; its tolerances are not used."""
        return optimistix.Newton(rtol=0.0, atol=1.0)

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """F(params) and the auxiliary output."""
        output = self.optimality_fun(params, *args, **kwargs)
        return output if self.has_aux else (output, None)

    def residual(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """F(params)."""
        return self.evaluate(params, *args, **kwargs)[0]
