"""What minimisers that search along lines share: the options of the search, and how it begins."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from mdsens.errors import InputError
from mdsens.implicit import conditions
from mdsens.layers.checks import booleans, counts, known_real
from mdsens.layers.line_search import (
    CONDITIONS,
    SEARCHES,
    Condition,
    LineSearchResult,
    Search,
    SearchRule,
    Trial,
    line_search,
    straight,
)
from mdsens.layers.minimiser import Minimiser
from mdsens.layers.solver import without_derivatives
from mdsens.layers.trees import norm
from mdsens.values import choice

__all__ = ["SearchingMinimiser", "descending", "flat_value_and_gradient"]


class SearchingMinimiser(Minimiser):
    """A minimiser that takes steps along directions, each of a length that is searched for.

    Arguments:
        stepsize: multiple of the direction, or a function of the iteration's number; not positive:
            a line search finds it.
        linesearch: "zoom": the strong Wolfe conditions, in a bracket that secants narrow;
            "hager-zhang": likewise the Wolfe conditions; "backtracking": ever shorter steps.
        linesearch_init: multiple of the direction that is tried first: "auto": 1 for a
            quasi-Newton step, what the last step tells for others; "max": `max_stepsize`;
            "current": that of the last step; "increase": the latter times `increase_factor`.
        stop_if_linesearch_fails: whether to end when no step is found; otherwise the method begins
            again with the gradient.
        condition: of "backtracking", beside Armijo's: "armijo" (nothing), "goldstein", "wolfe" or
            "strong-wolfe"; None: "strong-wolfe".
        maxls: most steps tried in one search.
        decrease_factor: between steps of "backtracking"; None: 0.5.
        increase_factor: as in `linesearch_init`.
        max_stepsize: longest multiple of the direction; None: there is none, and "max" is 1.
        min_stepsize: multiple up to which "increase" begins again with the longest.
    """

    stepsize: float | Float[Array, ""] | Callable[..., Any] = eqx.field(kw_only=True, default=0.0)
    linesearch: Search = eqx.field(kw_only=True, default="zoom")
    linesearch_init: Literal["auto", "increase", "max", "current"] = eqx.field(
        kw_only=True, default="auto"
    )
    stop_if_linesearch_fails: bool = eqx.field(kw_only=True, default=False)
    condition: Condition | None = eqx.field(kw_only=True, default=None)
    maxls: int = eqx.field(kw_only=True, default=30)
    decrease_factor: float | None = eqx.field(kw_only=True, default=None)
    increase_factor: float = eqx.field(kw_only=True, default=1.5)
    max_stepsize: float | None = eqx.field(kw_only=True, default=None)
    min_stepsize: float = eqx.field(kw_only=True, default=1e-6)

    curvature: ClassVar[float] = 0.9
    backtracking_condition: ClassVar[Condition] = "strong-wolfe"

    def __check_init__(self) -> None:
        if not callable(self.stepsize):
            known_real(self.stepsize, "stepsize")
        if not isinstance(self.linesearch, str):
            raise InputError(
                f"linesearch is a {type(self.linesearch).__name__}: give its name, one of "
                f"{', '.join(SEARCHES)}, and maxls, condition or decrease_factor beside it"
            )
        choice(self.linesearch, "linesearch", SEARCHES)
        choice(self.linesearch_init, "linesearch_init", ("auto", "increase", "max", "current"))
        choice(self.condition, "condition", (*CONDITIONS, None))
        booleans(self, "stop_if_linesearch_fails")
        counts(self, "maxls")
        if self.decrease_factor is not None:
            known_real(self.decrease_factor, "decrease_factor", above=0.0, below=1.0)
        known_real(self.increase_factor, "increase_factor", at_least=1.0)
        if self.max_stepsize is not None:
            known_real(self.max_stepsize, "max_stepsize", above=0.0)
        known_real(self.min_stepsize, "min_stepsize", at_least=0.0)
        given = [name for name in ("condition", "decrease_factor") if getattr(self, name)]
        if given and self.linesearch != "backtracking":
            raise InputError(
                f"{' and '.join(given)} with linesearch = {self.linesearch!r}: only backtracking "
                "has it, give linesearch='backtracking' or leave it out"
            )

    @property
    def longest(self) -> float:
        """The multiple of the direction that `linesearch_init="max"` tries."""
        return 1.0 if self.max_stepsize is None else self.max_stepsize

    def start(
        self, init_params: PyTree, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The fields that the first states of these methods have in common."""
        value, aux, gradient = self.evaluate(init_params, *args, **kwargs)
        flat = ravel_pytree(gradient)[0]
        return {
            "iter_num": jnp.asarray(0),
            "error": self.error_or_nan(norm(flat), value),
            "converged": jnp.asarray(False),
            "value": value,
            "grad": flat,
            "stepsize": jnp.full((), self.longest, flat.dtype),
            "aux": aux,
        }

    def step_along(
        self,
        direction: Float[Array, " n"],
        natural: Float[Array, ""],
        params: PyTree,
        state: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[PyTree, LineSearchResult, dict[str, Any]]:
        """A step along a straight line.

        Arguments:
            direction: of the line, from the parameters, flattened.
            natural: the multiple of the direction that "auto" tries first.
            params: the parameters.
            state: theirs.
            args: what the objective takes after them.
            kwargs: likewise by name.

        Returns:
            The parameters after the step, what the search found, and the fields of the next state
            that these methods have in common.
        """
        x, unravel = ravel_pytree(params)
        slope = jnp.vdot(state.grad, direction)
        evaluate = flat_value_and_gradient(self, unravel, args, kwargs)
        found = self.search(straight(evaluate, x, direction, slope), state, slope, natural)
        params = unravel(x + found.stepsize * direction)
        fields = {
            "iter_num": state.iter_num + 1,
            "error": norm(found.gradient),
            "value": found.value,
            "grad": found.gradient,
            "stepsize": found.stepsize,
            "aux": self.objective(params, *args, **kwargs)[1] if self.has_aux else None,
        }
        return params, found, fields

    def quasi_newton_step(
        self,
        product: Callable[[Float[Array, " n"]], Float[Array, " n"]],
        params: PyTree,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> PyTree:
        """The parameters after a step of natural length, without a search.

        Arguments:
            product: with the model of the inverse Hessian.
            params: the parameters.
            args: what the objective takes after them.
            kwargs: likewise by name.

        Returns:
            x - H grad f(x), with the structure of the parameters. At a solution there is nothing
            to search for, but the step has a derivative.
        """
        x, unravel = ravel_pytree(params)
        gradient = ravel_pytree(self.evaluate(params, *args, **kwargs)[2])[0]
        return unravel(x - product(gradient))

    def search(
        self,
        path: Callable[[Float[Array, ""]], Trial],
        state: Any,
        slope_0: Float[Array, ""],
        natural: Float[Array, ""],
    ) -> LineSearchResult:
        """A step along a path.

        Arguments:
            path: multiple of the direction -> the function there.
            state: with the value, the gradient and the last step size where the path begins.
            slope_0: the function's slope there.
            natural: the multiple of the direction that "auto" tries first.

        Returns:
            The step. In unrolled iterations its length has no derivative, but the function there.
        """
        fixed = callable(self.stepsize) or not self._is_zero()
        if fixed:
            size = self.stepsize(state.iter_num) if callable(self.stepsize) else self.stepsize
            t = jnp.asarray(size, natural.dtype)
            new = path(t)
            return LineSearchResult(t, jnp.isfinite(new.value), new.value, new.gradient)
        rule = SearchRule(
            self.linesearch == "backtracking",
            {"zoom": "strong-wolfe", "hager-zhang": "wolfe"}.get(
                self.linesearch, self.condition or self.backtracking_condition
            ),  # type: ignore[arg-type]  # one of the conditions
            self.curvature,
            self.maxls,
            self.decrease_factor or 0.5,
            jnp.inf if self.max_stepsize is None else self.max_stepsize,
        )
        first = self._first(state.stepsize, natural)

        def find(first: Array) -> LineSearchResult:
            return line_search(path, state.value, state.grad, slope_0, first, rule)

        if self.differentiation != "unrolled":
            return find(first)
        found = without_derivatives(find, first)
        new = path(found.stepsize)
        return LineSearchResult(found.stepsize, found.accepted, new.value, new.gradient)

    def _is_zero(self) -> bool:
        return not isinstance(self.stepsize, Array) and self.stepsize <= 0  # type: ignore[operator]

    def _first(self, last: Float[Array, ""], natural: Float[Array, ""]) -> Float[Array, ""]:
        longest = jnp.asarray(self.longest, natural.dtype)
        if self.linesearch_init == "auto":
            return natural
        if self.linesearch_init == "max":
            return longest
        if self.linesearch_init == "current":
            return jnp.where(last > 0, last, longest)
        longer = jnp.asarray(self.increase_factor, natural.dtype) * last
        return jnp.where(last <= self.min_stepsize, longest, longer)

    def unfinished(self, params: PyTree, state: Any, tol: float) -> Bool[Array, ""]:
        """Whether to iterate once more, as far as `maxiter` allows."""
        more = super().unfinished(params, state, tol)
        return more & (state.stepsize > 0) if self.stop_if_linesearch_fails else more

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The gradient."""
        return conditions.stationary(self.value)(params, *args, **kwargs)


def descending(
    direction: Float[Array, " n"], gradient: Float[Array, " n"], fresh: Bool[Array, ""]
) -> tuple[Float[Array, " n"], Bool[Array, ""], Float[Array, ""]]:
    """A quasi-Newton direction, or the steepest one where it does not lead down.

    Arguments:
        direction: what the model of the curvature proposes.
        gradient: where it begins.
        fresh: whether the model knows nothing yet.

    Returns:
        The direction, whether the model is to begin anew, and the multiple of the direction to try
        first: 1, or a step no longer than 1 as long as nothing is known.
    """
    descends = jnp.vdot(direction, gradient) < 0
    direction = jnp.where(descends, direction, -gradient)
    fresh = fresh | ~descends
    length = jnp.maximum(norm(direction), jnp.finfo(gradient.dtype).tiny)
    natural = jnp.where(fresh, jnp.minimum(1, 1 / length), 1).astype(gradient.dtype)
    return direction, fresh, natural


def flat_value_and_gradient(
    solver: Minimiser, unravel: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Float[Array, " n"]], tuple[Float[Array, ""], Float[Array, " n"]]]:
    """The solver's objective and its gradient as functions of a flat vector."""

    def evaluate(x: Array) -> tuple[Array, Array]:
        value, _, gradient = solver.evaluate(unravel(x), *args, **kwargs)
        return value, ravel_pytree(gradient)[0]

    return evaluate
