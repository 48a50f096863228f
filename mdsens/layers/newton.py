"""Newton's method for roots."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from mdsens.layers.checks import callables
from mdsens.layers.residuals import ResidualSolver, ResidualState, shortest_solution
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import in_precision

__all__ = ["Newton"]


class Newton(ResidualSolver):
    """Find a root of a function with as many values as unknowns, from nearby.

    Arguments:
        optimality_fun: F(params, *args, **kwargs), whose root is sought, with the structure of
            params; `jax.grad(fun)` for a stationary point.
        has_aux: F returns `(value, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is |F(x)|.

    Use `run(init_params, *args, **kwargs)`.

    x <- x - (dF/dx)^-1 F(x): Nocedal & Wright 2006, algorithm 11.1. The condition is F itself:
    Blondel et al. 2021, equation 2.
    """

    optimality_fun: Callable[..., Any]

    def __check_init__(self) -> None:
        callables(self, "optimality_fun")

    def update(self, params: PyTree, state: ResidualState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)
        residual = self.flat_residual(params, args, kwargs)
        params = unravel(x - shortest_solution(jax.jacfwd(residual)(x), residual(x)))
        state = state._replace(
            iter_num=state.iter_num + 1,
            error=self.l2_optimality_error(params, *args, **kwargs),
            aux=self.evaluate(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """F(params) and the auxiliary output."""
        output = self.optimality_fun(params, *args, **kwargs)
        value, aux = output if self.has_aux else (output, None)
        return in_precision(value, params), aux

    def residual(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """F(params)."""
        return self.evaluate(params, *args, **kwargs)[0]
