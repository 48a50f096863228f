"""Roots of functions of one variable by bisection."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mdsens.errors import InputError
from mdsens.layers.checks import booleans, callables, float_array, known_real, require
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver

__all__ = ["Bisection", "BisectionState"]


class BisectionState(NamedTuple):
    """The state of bisection.

    Attributes:
        iter_num: iterations done.
        error: magnitude of the function at the last point; 0 once no floating-point number lies
            between the ends, where nothing nearer to the root can be found.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        value: the function at the last point.
        low: lower end of the interval.
        high: its upper end.
        sign: 1 if the function rises from below zero, -1 if it falls from above, 0 if neither.
        aux: auxiliary output of the function at the last point.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    sign: Float[Array, ""]
    aux: Any


@positional(
    "optimality_fun", "lower", "upper", "maxiter", "tol", "check_bracket", "verbose",
    "implicit_diff_solve", "has_aux", "jit", "unroll",
)  # fmt: skip
class Bisection(IterativeSolver):
    """Find the root of a function of one variable between two points where its signs differ.

    Arguments:
        optimality_fun: F(x, *args), whose root is sought, of a scalar x.
        lower: lower end of the interval.
        upper: its upper end.
        check_bracket: whether it is an error if the signs do not differ.
        has_aux: F returns `(value, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is
            |F(x)|, and the derivative "implicit".

    Use `run(None, *args, **kwargs)`; the first argument is ignored, as in JAXopt.

    Half of the interval is left after every iteration: Burden & Faires, algorithm 2.1. The
    condition is F itself: Blondel et al. 2021, equation 2.
    """

    optimality_fun: Callable[..., Any]
    lower: Float[ArrayLike, ""]
    upper: Float[ArrayLike, ""]
    check_bracket: bool = eqx.field(kw_only=True, default=True)
    has_aux: bool = eqx.field(kw_only=True, default=False)

    derivatives: ClassVar[tuple[str, ...]] = ("implicit",)

    def __check_init__(self) -> None:
        callables(self, "optimality_fun")
        booleans(self, "check_bracket", "has_aux")
        known_real(self.lower, "lower")
        known_real(self.upper, "upper")

    def run(self, init_params: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """As `IterativeSolver.run`, beginning in the middle of the interval.

        Raises:
            InputError: also if lower is not below upper or the function's signs do not differ.
        """
        del init_params
        lower, upper = self._ends()
        message = f"lower={self.lower}, upper={self.upper}; allowed is lower < upper: swap them."
        lower = require(lower, lower < upper, message)
        if self.check_bracket:
            sign = jax.lax.stop_gradient(self.init_state(None, *args, **kwargs).sign)
            lower = require(
                lower,
                sign != 0,
                "the function has the same sign at lower and upper; allowed are ends between which "
                "it changes sign: widen the interval.",
            )
        return super().run(lower + 0.5 * (upper - lower), *args, **kwargs)

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> BisectionState:
        """The state before the first iteration."""
        del init_params
        lower, upper = self._ends()
        at_lower, aux = self.evaluate(lower, *args, **kwargs)
        at_upper, _ = self.evaluate(upper, *args, **kwargs)
        rises, falls = (at_lower <= 0) & (at_upper >= 0), (at_lower >= 0) & (at_upper <= 0)
        return BisectionState(
            iter_num=jnp.asarray(0),
            error=jnp.full_like(at_lower, jnp.inf),
            converged=jnp.asarray(False),
            value=at_lower,
            low=lower,
            high=upper,
            sign=jnp.where(rises, 1.0, jnp.where(falls, -1.0, 0.0)).astype(lower.dtype),
            aux=aux,
        )

    def update(self, params: Any, state: BisectionState, *args: Any, **kwargs: Any) -> OptStep:
        """The middle of the interval and the state with the half that holds the root."""
        del params
        middle = state.low + 0.5 * (state.high - state.low)
        value, aux = self.evaluate(middle, *args, **kwargs)
        beyond = state.sign * value > 0
        state = BisectionState(
            iter_num=state.iter_num + 1,
            error=jnp.where((middle == state.low) | (middle == state.high), 0, jnp.abs(value)),
            converged=state.converged,
            value=value,
            low=jnp.where(beyond, state.low, middle),
            high=jnp.where(beyond, middle, state.high),
            sign=state.sign,
            aux=aux,
        )
        return OptStep(middle, state)

    def evaluate(self, x: Float[Array, ""], *args: Any, **kwargs: Any) -> tuple[Array, Any]:
        """F(x) and the auxiliary output."""
        output = self.optimality_fun(x, *args, **kwargs)
        value, aux = output if self.has_aux else (output, None)
        if jnp.shape(value) != ():
            raise InputError(
                f"the function returned the shape {jnp.shape(value)}; allowed is a scalar: use "
                "jax.vmap for several roots."
            )
        return jnp.asarray(value), aux

    def residual(self, params: Float[Array, ""], *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """F(params)."""
        return self.evaluate(params, *args, **kwargs)[0]

    def _ends(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return float_array("lower", self.lower), float_array("upper", self.upper)
