"""Mirror descent: gradient steps in a geometry that suits the constraints."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.checks import callables, known_real
from mdsens.layers.minimiser import Minimiser
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import difference, dtype_of, norm

__all__ = ["MirrorDescent", "MirrorDescentState"]


class MirrorDescentState(NamedTuple):
    """The state of mirror descent.

    Attributes:
        iter_num: iterations done.
        error: norm of the last step, divided by the step size.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        aux: auxiliary output of `fun` where the last step began.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    aux: Any


@positional(
    "fun", "projection_grad", "stepsize", "maxiter", "tol", "verbose", "implicit_diff",
    "implicit_diff_solve", "has_aux", "jit", "unroll",
)  # fmt: skip
class MirrorDescent(Minimiser):
    """Minimise a smooth function over a convex set by steps in a Bregman geometry.

    Arguments:
        fun: the objective.
        projection_grad: `projection_grad(x, g, stepsize, hyperparams_proj)`, one step from x with
            the gradient g; `MirrorDescent.make_projection_grad` makes it from a projection.
        stepsize: step size, or a function of the iteration's number.
        value_and_grad, has_aux: as in `Minimiser`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, hyperparams_proj, *args, **kwargs)`.

    x <- argmin over z of <grad f(x), z> + D(z, x) / eta: Beck & Teboulle 2003, Oper. Res. Lett. 31,
    167, equation 3.11. The condition is Blondel et al. 2021, equation 13.
    """

    projection_grad: Callable[..., Any]
    stepsize: float | Float[Array, ""] | Callable[..., Any]

    def __check_init__(self) -> None:
        callables(self, "projection_grad")
        if not callable(self.stepsize):
            known_real(self.stepsize, "stepsize", above=0.0)

    @staticmethod
    def make_projection_grad(
        projection: Callable[[PyTree, Any], PyTree], mapping_fun: Callable[[PyTree], PyTree]
    ) -> Callable[..., PyTree]:
        """One step of mirror descent from a projection and a mirror map.

        Arguments:
            projection: `projection(y, hyperparams_proj)`, the point of the set that is nearest, in
                the divergence, to the one whose mirror image is y.
            mapping_fun: the mirror map, the gradient of the function that generates the
                divergence. For that of Kullback and Leibler it is
                `mdsens.implicit.conditions.kl_mapping`, with the softmax as projection onto the
                simplex.

        Returns:
            `projection_grad(x, g, stepsize, hyperparams_proj)`.
        """

        def projection_grad(x: PyTree, g: PyTree, stepsize: Any, hyperparams_proj: Any) -> PyTree:
            mirrored = jax.tree.map(lambda y, slope: y - stepsize * slope, mapping_fun(x), g)
            return projection(mirrored, hyperparams_proj)

        return projection_grad

    def run(
        self, init_params: PyTree, hyperparams_proj: Any = None, *args: Any, **kwargs: Any
    ) -> OptStep:
        """As `IterativeSolver.run`, with the parameters of the projection after `init_params`."""
        return super().run(init_params, hyperparams_proj, *args, **kwargs)

    def init_state(
        self, init_params: PyTree, hyperparams_proj: Any, *args: Any, **kwargs: Any
    ) -> MirrorDescentState:
        """The state before the first iteration."""
        del hyperparams_proj
        return MirrorDescentState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, dtype_of(init_params)),
            converged=jnp.asarray(False),
            aux=self.objective(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def update(
        self,
        params: PyTree,
        state: MirrorDescentState,
        hyperparams_proj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        value, aux, gradient = self.evaluate(params, *args, **kwargs)
        size = self.stepsize(state.iter_num) if callable(self.stepsize) else self.stepsize
        stepsize = jnp.asarray(size, dtype_of(params))
        next_params = self.projection_grad(params, gradient, stepsize, hyperparams_proj)
        error = self.error_or_nan(norm(difference(next_params, params)) / stepsize, value)
        state = MirrorDescentState(state.iter_num + 1, error, state.converged, aux)
        return OptStep(next_params, state)

    def optimality_fun(
        self, params: PyTree, hyperparams_proj: Any, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One step of size 1 minus the parameters."""
        gradient = self.evaluate(params, *args, **kwargs)[2]
        return difference(self.projection_grad(params, gradient, 1.0, hyperparams_proj), params)
