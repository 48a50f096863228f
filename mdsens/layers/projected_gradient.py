"""Projected gradient descent, accelerated with adaptive restarts."""

from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from mdsens.layers.checks import callables
from mdsens.layers.proximal_gradient import ProximalDescent, ProximalGradientState
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep

__all__ = ["ProjectedGradient"]


@positional(
    "fun", "projection", "value_and_grad", "has_aux", "stepsize", "maxiter", "maxls", "tol",
    "acceleration", "decrease_factor", "verbose", "implicit_diff", "implicit_diff_solve", "jit",
    "unroll",
)  # fmt: skip
class ProjectedGradient(ProximalDescent):
    """Minimise a smooth function over a convex set whose projection is known.

    Arguments:
        fun: the objective.
        projection: `projection(v, hyperparams_proj)`, the nearest point of the set.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, maxls, acceleration, decrease_factor: as in `ProximalDescent`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, hyperparams_proj, *args, **kwargs)`.

    x <- projection(y - eta grad f(y)), the accelerated proximal gradient step for the indicator
    function of the set. The condition is Blondel et al. 2021, equation 9.
    """

    projection: Callable[..., Any]

    def __check_init__(self) -> None:
        callables(self, "projection")

    def run(
        self, init_params: PyTree, hyperparams_proj: Any = None, *args: Any, **kwargs: Any
    ) -> OptStep:
        """As `IterativeSolver.run`, with the parameters of the projection after `init_params`."""
        return super().run(init_params, hyperparams_proj, *args, **kwargs)

    # The second argument has the name that it has in JAXopt.
    def init_state(  # type: ignore[override]
        self, init_params: PyTree, hyperparams_proj: Any = None, *args: Any, **kwargs: Any
    ) -> ProximalGradientState:
        """The state before the first iteration."""
        return super().init_state(init_params, hyperparams_proj, *args, **kwargs)

    def update(  # type: ignore[override]
        self,
        params: PyTree,
        state: ProximalGradientState,
        hyperparams_proj: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        return super().update(params, state, hyperparams_proj, *args, **kwargs)

    def optimality_fun(  # type: ignore[override]
        self, params: PyTree, hyperparams_proj: Any = None, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One projected gradient step of size 1 minus the parameters."""
        return super().optimality_fun(params, hyperparams_proj, *args, **kwargs)

    def proximal(self, point: PyTree, hyperparams: Any, stepsize: Any) -> PyTree:
        """The projection, for every step size."""
        del stepsize
        return self.projection(point, hyperparams)
