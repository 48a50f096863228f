"""Broyden's quasi-Newton method for roots, with a limited memory."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.layers.checks import booleans, callables, counts, known_real
from mdsens.layers.line_search import (
    CONDITIONS,
    Condition,
    SearchRule,
    line_search,
    straight,
)
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver, without_derivatives
from mdsens.layers.trees import in_precision, norm
from mdsens.values import choice

__all__ = ["Broyden", "BroydenState"]

_DECREASE = 1e-4
_CURVATURE = 0.9


class BroydenState(NamedTuple):
    """The state of Broyden's method.

    Attributes:
        iter_num: iterations done.
        error: norm of the function.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        value: the function, flattened.
        stepsize: multiple of the quasi-Newton step that was taken last.
        d_history: rows of the model of the inverse Jacobian, gamma 1 + sum_k c_k d_k'.
        c_history: its columns.
        remembered: how many of them there are.
        gamma: the multiple of the identity in the model.
        failed_linesearch: whether the last search found no step.
        failures: how many searches in a row found none, since the model began.
        aux: auxiliary output of the function.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, " n"]
    stepsize: Float[Array, ""]
    d_history: Float[Array, "history n"]
    c_history: Float[Array, "history n"]
    remembered: Int[Array, ""]
    gamma: Float[Array, ""]
    failed_linesearch: Bool[Array, ""]
    failures: Int[Array, ""]
    aux: Any


@positional(
    "fun", "has_aux", "maxiter", "tol", "stepsize", "linesearch", "stop_if_linesearch_fails",
    "condition", "maxls", "decrease_factor", "increase_factor", "max_stepsize", "min_stepsize",
    "history_size", "gamma", "implicit_diff", "implicit_diff_solve", "jit", "unroll", "verbose",
)  # fmt: skip
class Broyden(IterativeSolver):
    """Find a root of a function with as many values as unknowns, without its Jacobian.

    Arguments:
        fun: F(params, *args, **kwargs), whose root is sought, with the structure of params.
        has_aux: F returns `(value, aux)`.
        stepsize: multiple of the quasi-Newton step; 0: a search shortens it until |F| falls.
        linesearch: "backtracking", ever shorter steps.
        stop_if_linesearch_fails: whether to end when no step lowers |F|; otherwise the method
            takes the shortest, which corrects the model.
        condition: what a step must fulfil: None: |F| falls, or rises a little in early iterations,
            for which no derivative is needed; "armijo", "goldstein", "wolfe" or "strong-wolfe": of
            |F|^2 / 2, with a product of the Jacobian for each step that is tried.
        maxls: most steps tried in one search.
        decrease_factor: between the steps of a search.
        increase_factor: the first step that a search tries is that of the last iteration times
            this.
        max_stepsize: longest multiple of the quasi-Newton step.
        min_stepsize: multiple up to which a search begins again with the longest.
        history_size: number of updates that the model holds before it begins again; None: twice
            the number of unknowns, at least 20 and at most 100.
        gamma: multiple of the identity with which the model of the inverse Jacobian begins; where
            it begins again, the multiple is that of the last secant.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is |F(x)|.

    Use `run(init_params, *args, **kwargs)`.

    Broyden 1965, Math. Comput. 19, 577, equation 4.5; the search lets |F| rise a little in early
    iterations: Li & Fukushima 2000, Optim. Methods Softw. 13, 181, equation 2.4. The condition is F
    itself: Blondel et al. 2021, equation 2.
    """

    fun: Callable[..., Any]
    has_aux: bool = eqx.field(kw_only=True, default=False)
    stepsize: float | Callable[..., Any] = eqx.field(kw_only=True, default=0.0)
    stop_if_linesearch_fails: bool = eqx.field(kw_only=True, default=False)
    linesearch: Literal["backtracking"] = eqx.field(kw_only=True, default="backtracking")
    condition: Condition | None = eqx.field(kw_only=True, default=None)
    maxls: int = eqx.field(kw_only=True, default=15)
    decrease_factor: float = eqx.field(kw_only=True, default=0.8)
    increase_factor: float = eqx.field(kw_only=True, default=1.5)
    max_stepsize: float = eqx.field(kw_only=True, default=1.0)
    min_stepsize: float = eqx.field(kw_only=True, default=1e-6)
    history_size: int | None = eqx.field(kw_only=True, default=None)
    gamma: float = eqx.field(kw_only=True, default=1.0)

    def __check_init__(self) -> None:
        callables(self, "fun")
        booleans(self, "has_aux", "stop_if_linesearch_fails")
        counts(self, "maxls", *(() if self.history_size is None else ("history_size",)))
        if not callable(self.stepsize):
            known_real(self.stepsize, "stepsize", at_least=0.0)
        choice(self.linesearch, "linesearch", ("backtracking",))
        choice(self.condition, "condition", (*CONDITIONS, None))
        known_real(self.decrease_factor, "decrease_factor", above=0.0, below=1.0)
        known_real(self.increase_factor, "increase_factor", at_least=1.0)
        known_real(self.max_stepsize, "max_stepsize", above=0.0)
        known_real(self.min_stepsize, "min_stepsize", at_least=0.0)
        known_real(self.gamma, "gamma")
        if isinstance(self.gamma, int | float) and self.gamma == 0:
            raise InputError("gamma = 0: give another number, of the sign of dF/dx")

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """F(params) and the auxiliary output."""
        output = self.fun(params, *args, **kwargs)
        value, aux = output if self.has_aux else (output, None)
        return in_precision(value, params), aux

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """F(params)."""
        return self.evaluate(params, *args, **kwargs)[0]

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> BroydenState:
        """The state before the first iteration."""
        value, aux = self.evaluate(init_params, *args, **kwargs)
        flat, size = ravel_pytree(value)[0], ravel_pytree(init_params)[0].size
        if flat.size != size:
            raise InputError(f"fun returned {flat.size} numbers for {size}: return as many")
        rows = min(max(2 * size, 20), 100) if self.history_size is None else self.history_size
        empty = jnp.zeros((rows, size), flat.dtype)
        return BroydenState(
            iter_num=jnp.asarray(0),
            error=norm(flat),
            converged=jnp.asarray(False),
            value=flat,
            stepsize=jnp.asarray(self.max_stepsize, flat.dtype),
            d_history=empty,
            c_history=empty,
            remembered=jnp.asarray(0),
            gamma=jnp.asarray(self.gamma, flat.dtype),
            failed_linesearch=jnp.asarray(False),
            failures=jnp.asarray(0),
            aux=aux,
        )

    def update(self, params: PyTree, state: BroydenState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)

        def function(x: Array) -> Array:
            return ravel_pytree(self.evaluate(unravel(x), *args, **kwargs)[0])[0]

        c, d = state.c_history, state.d_history
        direction = -_product(state.gamma, d, c, state.value)
        if callable(self.stepsize) or self.stepsize > 0:
            size = self.stepsize(state.iter_num) if callable(self.stepsize) else self.stepsize
            t, failed = jnp.asarray(size, x.dtype), jnp.asarray(False)
        else:
            t, failed = without_derivatives(
                lambda x, direction: self._search(function, x, direction, state), x, direction
            )
        step = t * direction
        params = unravel(x + step)
        value, aux = self.evaluate(params, *args, **kwargs)
        flat = ravel_pytree(value)[0]
        change = flat - state.value
        row = _product(state.gamma, c, d, step)
        along = jnp.vdot(row, change)
        # What a failed search has found out corrects the model, which begins again when it is full,
        # or when as many corrections as there are unknowns have led nowhere.
        failures = jnp.where(failed, state.failures + 1, 0)
        lost = failed & ((state.remembered == 0) | (failures > x.size))
        again = lost | (state.remembered == len(d))
        # With the multiple of the identity that was right for the last step: gamma may have the
        # wrong sign, or a wrong size.
        secant = jnp.vdot(step, change) / jnp.vdot(change, change)
        gamma = jnp.where(again & jnp.isfinite(secant) & (secant != 0), secant, state.gamma)
        least = jnp.finfo(x.dtype).eps * norm(row) * norm(change)
        useful = ~again & (jnp.abs(along) > least)
        new_d = row / jnp.where(useful, along, 1)
        new_c = step - _product(state.gamma, d, c, change)

        def remember(history: Array, new: Array) -> Array:
            return jnp.where(again, 0, history.at[state.remembered].add(jnp.where(useful, new, 0)))

        state = BroydenState(
            iter_num=state.iter_num + 1,
            error=norm(flat),
            converged=state.converged,
            value=flat,
            stepsize=t,
            d_history=remember(d, new_d),
            c_history=remember(c, new_c),
            remembered=jnp.where(again, 0, state.remembered + useful.astype(int)),
            gamma=jax.lax.stop_gradient(gamma),
            failed_linesearch=failed,
            failures=jnp.where(again, 0, failures),
            aux=aux,
        )
        return OptStep(params, state)

    def one_step(self, params: PyTree, state: BroydenState, *args: Any, **kwargs: Any) -> PyTree:
        """One quasi-Newton step with the last model of the inverse Jacobian."""
        x, unravel = ravel_pytree(params)
        value = ravel_pytree(self.evaluate(params, *args, **kwargs)[0])[0]
        return unravel(x - _product(state.gamma, state.d_history, state.c_history, value))

    def unfinished(self, params: PyTree, state: Any, tol: float) -> Bool[Array, ""]:
        """Whether to iterate once more, as far as `maxiter` allows."""
        more = super().unfinished(params, state, tol)
        return more & ~state.failed_linesearch if self.stop_if_linesearch_fails else more

    def _search(
        self,
        function: Callable[[Array], Array],
        x: Array,
        direction: Array,
        state: BroydenState,
    ) -> tuple[Array, Array]:
        """A multiple of the direction that lowers |F|, and whether there is none."""
        longest = jnp.asarray(self.max_stepsize, x.dtype)
        longer = jnp.minimum(self.increase_factor * state.stepsize, longest)
        restart = (state.stepsize <= self.min_stepsize) | state.failed_linesearch
        first = jnp.where(restart, longest, longer)
        if self.condition is not None:
            return self._search_by_slope(function, x, direction, first)
        before, length = norm(state.value), norm(direction)
        # The sum of what it may rise by in all iterations is finite.
        most = before * (1 + 1 / (1 + state.iter_num.astype(x.dtype)) ** 2)

        def missed(trial: tuple[Array, Array, Array]) -> Array:
            t, error, _ = trial
            return ~(error <= most - _DECREASE * (t * length) ** 2)

        def shorten(trial: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            t, _, count = trial
            t = self.decrease_factor * t
            return t, norm(function(x + t * direction)), count + 1

        last = jax.lax.while_loop(
            lambda trial: missed(trial) & (trial[2] < self.maxls),
            shorten,
            (first, norm(function(x + first * direction)), jnp.asarray(1)),
        )
        return last[0], missed(last)

    def _search_by_slope(
        self, function: Callable[[Array], Array], x: Array, direction: Array, first: Array
    ) -> tuple[Array, Array]:
        def half_square(x: Array) -> Array:
            value = function(x)
            return jnp.vdot(value, value) / 2

        evaluate = jax.value_and_grad(half_square)
        value, gradient = evaluate(x)
        slope = jnp.vdot(gradient, direction)
        rule = SearchRule(
            True, self.condition or "armijo", _CURVATURE, self.maxls, self.decrease_factor, jnp.inf
        )
        path = straight(evaluate, x, direction, slope)
        found = line_search(path, value, gradient, slope, first, rule)
        shortest = first * self.decrease_factor ** (self.maxls - 1)
        return jnp.where(found.accepted, found.stepsize, shortest), ~found.accepted


def _product(gamma: Array, rows: Array, columns: Array, vector: Array) -> Array:
    """The product with the model of the inverse Jacobian; rows and columns change places in it."""
    return gamma * vector + (rows @ vector) @ columns
