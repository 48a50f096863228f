"""Fixed points of a map: plain iteration, and Anderson acceleration."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.anderson_history import AndersonHistory
from mdsens.layers.checks import booleans, callables, counts, known_real
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.trees import difference, dtype_of, in_precision, norm

__all__ = [
    "AndersonAcceleration",
    "AndersonState",
    "FixedPointIteration",
    "FixedPointState",
]


class FixedPointState(NamedTuple):
    """The state of fixed-point iteration.

    Attributes:
        iter_num: iterations done.
        error: norm of T(x) - x where the map was evaluated last.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        aux: auxiliary output of the map there.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    aux: Any


class _FixedPointSolver(IterativeSolver):
    """What both share: the map, and the condition T(x) - x = 0."""

    fixed_point_fun: Callable[..., Any]
    has_aux: bool = eqx.field(kw_only=True, default=False)

    def __check_init__(self) -> None:
        callables(self, "fixed_point_fun")
        booleans(self, "has_aux")

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """T(params) and the auxiliary output."""
        output = self.fixed_point_fun(params, *args, **kwargs)
        value, aux = output if self.has_aux else (output, None)
        return in_precision(value, params), aux

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """T(params) - params."""
        return difference(self.evaluate(params, *args, **kwargs)[0], params)

    @abc.abstractmethod
    def update(self, params: PyTree, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""

    def one_step(self, params: PyTree, state: Any, *args: Any, **kwargs: Any) -> PyTree:
        """T(params)."""
        return self.evaluate(params, *args, **kwargs)[0]


@positional(
    "fixed_point_fun", "maxiter", "tol", "has_aux", "verbose", "implicit_diff",
    "implicit_diff_solve", "jit", "unroll",
)  # fmt: skip
class FixedPointIteration(_FixedPointSolver):
    """Find x = T(x, *args) by applying T again and again.

    Arguments:
        fixed_point_fun: the map T, a contraction.
        has_aux: T returns `(value, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error
            is |T(x) - x|.

    Use `run(init_params, *args, **kwargs)`.

    x <- T(x): Banach 1922. The condition is Blondel et al. 2021, equation 3.
    """

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> FixedPointState:
        """The state before the first iteration."""
        return FixedPointState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, dtype_of(init_params)),
            converged=jnp.asarray(False),
            aux=self.evaluate(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def update(self, params: PyTree, state: FixedPointState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        next_params, aux = self.evaluate(params, *args, **kwargs)
        error = norm(difference(next_params, params))
        state = FixedPointState(state.iter_num + 1, error, state.converged, aux)
        return OptStep(next_params, state)


class AndersonState(NamedTuple):
    """The state of Anderson acceleration.

    Attributes:
        iter_num: iterations done.
        error: norm of T(x) - x where the map was evaluated last.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        history: differences of the last points, and of T(x) - x there.
        last_params: the last point, flattened.
        next_params: the point where the map is evaluated next, flattened, whatever `update` gets.
        last_residual: T(x) - x there.
        aux: auxiliary output of the map there.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    history: AndersonHistory
    last_params: Float[Array, " n"]
    next_params: Float[Array, " n"]
    last_residual: Float[Array, " n"]
    aux: Any


@positional(
    "fixed_point_fun", "history_size", "mixing_frequency", "beta", "maxiter", "tol", "ridge",
    "has_aux", "verbose", "implicit_diff", "implicit_diff_solve", "jit", "unroll",
)  # fmt: skip
class AndersonAcceleration(_FixedPointSolver):
    """Find x = T(x, *args) from combinations of the last values of T.

    Arguments:
        fixed_point_fun: the map T.
        has_aux: T returns `(value, aux)`.
        history_size: number of past differences combined.
        mixing_frequency: every how many iterations they are; T is applied in the others.
        beta: part of the residual that is added, 1 without damping.
        ridge: regularisation of the least-squares problem, relative to the residuals' lengths.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error
            is |T(x) - x|.

    Use `run(init_params, *args, **kwargs)`.

    x <- x + beta f - (dX + beta dF) argmin_gamma |f - dF gamma| with f = T(x) - x: Walker & Ni
    2011, SIAM J. Numer. Anal. 49, 1715, equation 2.1 and section 4. The condition is Blondel et al.
    2021, equation 3.
    """

    history_size: int = eqx.field(kw_only=True, default=5)
    mixing_frequency: int = eqx.field(kw_only=True, default=1)
    beta: float = eqx.field(kw_only=True, default=1.0)
    ridge: float = eqx.field(kw_only=True, default=1e-10)

    def __check_init__(self) -> None:
        counts(self, "history_size", "mixing_frequency")
        known_real(self.beta, "beta", above=0.0)
        known_real(self.ridge, "ridge", at_least=0.0)

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> AndersonState:
        """The state before the first iteration."""
        x = ravel_pytree(init_params)[0]
        return AndersonState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, x.dtype),
            converged=jnp.asarray(False),
            history=AndersonHistory.empty(self.history_size, x),
            last_params=x,
            next_params=x,
            last_residual=jnp.zeros_like(x),
            aux=self.evaluate(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def update(self, params: PyTree, state: AndersonState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        # As in JAXopt, the state alone tells where the iterations are.
        x, unravel = state.next_params, ravel_pytree(params)[1]
        value, aux = self.evaluate(unravel(x), *args, **kwargs)
        residual = ravel_pytree(value)[0] - x

        history = state.history.remembered(
            state.iter_num, x - state.last_params, residual - state.last_residual
        )
        correction = history.correction(residual, self.beta, self.ridge)
        mixed = state.iter_num % self.mixing_frequency == 0
        next_x = x + self.beta * residual - jnp.where(mixed, correction, 0)
        error = norm(residual)
        # What is returned is what was measured: T need not be a contraction.
        next_x = jnp.where(error <= self.tolerance(params), x, next_x)
        state = AndersonState(
            iter_num=state.iter_num + 1,
            error=error,
            converged=state.converged,
            history=history,
            last_params=x,
            next_params=next_x,
            last_residual=residual,
            aux=aux,
        )
        return OptStep(unravel(next_x), state)
