"""Gradient descent, accelerated with adaptive restarts."""

from typing import Any, ClassVar

import jax
from jaxtyping import PyTree

from mdsens.implicit import conditions
from mdsens.layers.minimiser import Minimiser
from mdsens.layers.prox import prox_none
from mdsens.layers.proximal_gradient import ProximalDescent, ProximalGradientState
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep

__all__ = ["GradientDescent"]


@positional(
    "fun", "value_and_grad", "has_aux", "stepsize", "maxiter", "maxls", "tol", "acceleration",
    "decrease_factor", "verbose", "implicit_diff", "implicit_diff_solve", "jit", "unroll",
    gone={"prox": (prox_none, "use ProximalGradient, which has one")},
)  # fmt: skip
class GradientDescent(ProximalDescent):
    """Minimise a smooth function by its gradient alone.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, maxls, acceleration, decrease_factor: as in `ProximalDescent`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, *args, **kwargs)`.

    x <- y - eta grad f(y), with y extrapolated: Nesterov 1983; Beck & Teboulle 2009. The condition
    is Blondel et al. 2021, equation 4.
    """

    symmetric: ClassVar[bool] = True

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> ProximalGradientState:
        """The state before the first iteration."""
        return super().init_state(init_params, None, *args, **kwargs)

    def update(
        self, params: PyTree, state: ProximalGradientState, *args: Any, **kwargs: Any
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        return super().update(params, state, None, *args, **kwargs)

    def one_step(
        self, params: PyTree, state: ProximalGradientState, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One step without extrapolation and with the last step size."""
        return super().one_step(params, state, None, *args, **kwargs)

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The gradient."""
        return conditions.stationary(self.value)(params, *args, **kwargs)

    # The condition is a gradient, of which nothing else is known.
    linear_system = Minimiser.linear_system

    def proximal(self, point: PyTree, hyperparams: Any, stepsize: Any) -> PyTree:
        """The identity: nothing is there beside the smooth function."""
        del hyperparams, stepsize
        return jax.tree.map(lambda leaf: leaf, point)
