"""Proximal block coordinate descent, one pass over all blocks per iteration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdsens.implicit import conditions
from mdsens.layers.checks import callables
from mdsens.layers.minimiser import Minimiser
from mdsens.layers.objective import CompositeLinearFunction
from mdsens.layers.proximal_gradient import search_stepsize
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import without_derivatives

__all__ = ["BlockCoordinateDescent", "BlockCoordinateDescentState"]


class BlockCoordinateDescentState(NamedTuple):
    """The state of block coordinate descent.

    Attributes:
        iter_num: passes over all blocks done.
        error: norm of the blocks' steps, each divided by its step size.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        stepsizes: the blocks' step sizes in the last pass.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    stepsizes: Float[Array, " blocks"]


@positional(
    "fun", "block_prox", "maxiter", "tol", "verbose", "implicit_diff", "implicit_diff_solve",
    "jit", "unroll",
)  # fmt: skip
class BlockCoordinateDescent(Minimiser):
    """Minimise a smooth function plus one that is separable in blocks of the parameters.

    The objective is `fun(params, *args, **kwargs) + sum_j g(params[j], hyperparams_prox)`.

    Arguments:
        fun: the smooth part. With a `CompositeLinearFunction` a block costs a row and a column of
            its matrix; with any other function a gradient, and step sizes are searched for.
        block_prox: `block_prox(params[j], hyperparams_prox, scaling)`, the proximal operator of
            `scaling` times g.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, hyperparams_prox, *args, **kwargs)` with one array as parameters, whose
    leading axis counts the blocks.

    x_j <- prox(x_j - eta_j [grad f(x)]_j, eta_j) for one block after the other: Tseng & Yun 2009,
    Math. Program. 117, 387. The condition is Blondel et al. 2021, equation 15.
    """

    block_prox: Callable[..., Any]

    def __check_init__(self) -> None:
        callables(self, "block_prox")

    def init_state(
        self,
        init_params: Float[Array, "blocks ..."],
        hyperparams_prox: Any,
        *args: Any,
        **kwargs: Any,
    ) -> BlockCoordinateDescentState:
        """The state before the first pass."""
        del hyperparams_prox, args, kwargs
        return BlockCoordinateDescentState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, init_params.dtype),
            converged=jnp.asarray(False),
            stepsizes=jnp.ones(init_params.shape[0], init_params.dtype),
        )

    def update(
        self,
        params: Float[Array, "blocks ..."],
        state: BlockCoordinateDescentState,
        hyperparams_prox: Any,
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more pass."""
        if isinstance(self.fun, CompositeLinearFunction):
            one_pass = self._composite_pass
        else:
            one_pass = self._general_pass
        next_params, stepsizes, squared_error = one_pass(
            self.fun, params, state, hyperparams_prox, args, kwargs
        )
        error = jnp.sqrt(jax.lax.stop_gradient(squared_error))
        state = BlockCoordinateDescentState(state.iter_num + 1, error, state.converged, stepsizes)
        return OptStep(next_params, state)

    def _composite_pass(
        self,
        fun: Any,
        params: Array,
        state: Any,
        hyperparams_prox: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Array, Array, Array]:
        matrix = jnp.asarray(fun.matrix_for(params, *args, **kwargs))
        linear = fun.b(*args, **kwargs)
        bounds = fun.columnwise_lipschitz_const(*args, **kwargs)
        # A column of zeros has no curvature: any step size does.
        stepsizes = 1 / jnp.where(bounds > 0, bounds, 1)
        slope_of = jax.grad(fun.subfun)

        def block(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, predictions, squared_error = carry
            column = matrix[:, j]
            slope = jnp.tensordot(column, slope_of(predictions, *args, **kwargs), 1)
            if linear is not None:
                slope = slope + linear[j]
            step = stepsizes[j]
            new = self.block_prox(x[j] - step * slope, hyperparams_prox, step)
            change = new - x[j]
            predictions = predictions + jnp.multiply.outer(column, change)
            return x.at[j].set(new), predictions, squared_error + jnp.sum((change / step) ** 2)

        # The predictions are computed anew in every pass, lest rounding adds up.
        start = (params, jnp.tensordot(matrix, params, 1), jnp.zeros((), params.dtype))
        params, _, squared_error = jax.lax.fori_loop(0, params.shape[0], block, start)
        return params, state.stepsizes * 0 + stepsizes, squared_error

    def _general_pass(
        self,
        fun: Any,
        params: Array,
        state: Any,
        hyperparams_prox: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Array, Array, Array]:
        del fun

        def block(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, stepsizes, squared_error = carry
            start = x[j]

            def restricted(new: Array) -> Array:
                return self.value(x.at[j].set(new), *args, **kwargs)

            value, slope = jax.value_and_grad(restricted)(start)

            def step(stepsize: Array) -> Array:
                return self.block_prox(start - stepsize * slope, hyperparams_prox, stepsize)

            stepsize = without_derivatives(
                lambda first: search_stepsize(
                    restricted, step, start, value, slope, first, 0.5, 50
                ),
                1.2 * stepsizes[j],
            )
            new = step(stepsize)
            squared_error += self.error_or_nan(jnp.sum(((new - start) / stepsize) ** 2), value)
            return x.at[j].set(new), stepsizes.at[j].set(stepsize), squared_error

        start = (params, state.stepsizes, jnp.zeros((), params.dtype))
        return jax.lax.fori_loop(0, params.shape[0], block, start)

    def optimality_fun(
        self,
        params: Float[Array, "blocks ..."],
        hyperparams_prox: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Float[Array, "blocks ..."]:
        """One step of size 1 in every block minus the parameters."""
        fixed_point_fun = conditions.block_proximal_gradient(self.value, self.block_prox)
        return fixed_point_fun(params, hyperparams_prox, *args, **kwargs) - params
