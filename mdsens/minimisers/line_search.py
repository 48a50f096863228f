"""A line search that still works where energies differ by less than their rounding.

It accepts what that of `mdsens.layers` accepts, but limits trial moves atom by atom, for the edges
that were found to reach; that one has a step along its direction and nothing else.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import (
    array_module,
    column_sums,
    in_numpy,
    on_device,
    scalar_product,
    squared_lengths,
)
from mdsens.mechanics.enthalpy import Evaluation, Landscape, largest_force
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.values import is_traced

T = TypeVar("T")

#: Fraction of the predicted decrease that is asked for (Armijo's condition).
DECREASE = 1e-4
#: Trial steps before a line search gives up.
MAX_TRIALS = 25
#: Relative accuracy to which an enthalpy is believed.
ROUNDING = 1e-13


class LineSearchMinimiser(Minimiser):
    """A minimiser whose steps are found by a line search.

    Arguments:
        max_step: largest move of an atom in one trial, length.
    """

    max_step: float | Float[Array, ""] = eqx.field(kw_only=True, default=0.2)

    @property
    def trial_distance(self) -> float | Float[Array, ""]:
        """The largest move of an atom in one trial."""
        return self.max_step

    def limited(self, distance: float | Float[Array, ""]) -> Self:
        """The same with a smaller largest step."""
        if not is_traced(distance):
            return dataclasses.replace(self, max_step=min(self.max_step, float(distance)))
        return dataclasses.replace(self, max_step=jnp.minimum(self.max_step, distance))


class _Search(NamedTuple):
    t: Float[Any, ""]
    low: Float[Any, ""]
    low_slope: Float[Any, ""]
    high: Float[Any, ""]
    trials: Int[Any, ""]
    accepted: Bool[Any, ""]
    q: Float[Any, "R D"]
    enthalpy: Float[Any, ""]
    gradient: Float[Any, "R D"]


def search(
    landscape: Landscape,
    state: State,
    direction: Float[Any, "R D"],
    first_length: float | Float[Any, ""],
    max_step: float | Float[Any, ""],
    curvature: float,
    evaluate: Evaluation | None = None,
    waits: Any = False,
    measures: Any = False,
) -> tuple[_Search, Bool[Any, ""]]:
    """Find a step along a descent direction that lowers the enthalpy and flattens its slope.

    Accepted is a step t with |slope(t)| <= curvature |slope(0)| that meets Armijo's condition, or,
    where the enthalpies agree to rounding, one whose slope alone shows that it goes down: the
    approximate Wolfe conditions of W. W. Hager and H. Zhang, SIAM J. Optim. 16, 170 (2005), eq.
    4.1.

    Atoms that would go further than ``max_step`` at first are limited to it one by one: the few
    that do, in a large system far from its minimum, do not hold up all the others.

    Arguments:
        landscape: the function.
        state: where to begin.
        direction: shape (R, D); where it does not go down, the force is followed in its place.
        first_length: multiple of the direction to try first.
        max_step: largest move of an atom in one trial, length.
        curvature: fraction of the first slope that is accepted.
        evaluate: what gives enthalpy and gradient in its place, and makes all this host code, of
            NumPy's arrays; None: compiled code is.
        waits: whether to stay, without a trial, and accept that: for one of several side by side.
        measures: whether to accept the first trial, wherever it leads.

    Returns:
        The result, and whether a step was accepted; if not, the result is where it began.
    """
    count = landscape.system.atom_count
    xp: Any = jnp if evaluate is None else np
    enthalpy_at = evaluate or landscape.enthalpy_and_gradient
    either, repeat = (jax.lax.cond, jax.lax.while_loop) if evaluate is None else (_either, _repeat)
    direction = _limited_to(first_length * direction, max_step, count)
    # What is limited to the largest step may no longer go down.
    direction = either(
        scalar_product(state.gradient, direction) < 0,
        lambda: direction,
        lambda: _limited_to(-state.gradient, max_step, count),
    )
    longest = max_step / xp.maximum(largest_force(direction), xp.finfo(float).tiny)
    slope_0 = scalar_product(state.gradient, direction)
    rounding = ROUNDING * (xp.abs(state.enthalpy) + xp.finfo(float).tiny)

    def trial(s: _Search) -> _Search:
        q = state.q + s.t * direction
        enthalpy, gradient = enthalpy_at(q)
        slope = scalar_product(gradient, direction)
        armijo = enthalpy <= state.enthalpy + DECREASE * s.t * slope_0
        level = (enthalpy <= state.enthalpy + rounding) & (slope <= (2 * DECREASE - 1) * slope_0)
        low_enough = (armijo | level) & xp.isfinite(enthalpy)
        # At the longest step allowed, going down is enough.
        flat = (xp.abs(slope) <= curvature * xp.abs(slope_0)) | ((s.t >= longest) & (slope < 0))
        too_far = ~low_enough | (slope > 0)
        low = xp.where(too_far, s.low, s.t)
        low_slope = xp.where(too_far, s.low_slope, slope)
        high = xp.where(too_far, s.t, s.high)
        # The zero of the slope by the secant, kept inside the bracket.
        secant = xp.where(
            slope > s.low_slope,
            s.low + (s.t - s.low) * s.low_slope / (s.low_slope - slope),
            xp.inf,
        )
        width = high - low
        inside = xp.clip(
            xp.where(xp.isfinite(secant), secant, 0.5 * (low + high)),
            low + 0.1 * width,
            high - 0.1 * width,
        )
        longer = xp.clip(secant, 1.5 * s.t, 5.0 * s.t)
        t = xp.minimum(xp.where(xp.isfinite(high), inside, longer), longest)
        return _Search(
            t, low, low_slope, high, s.trials + 1, (low_enough & flat) | measures,
            q, enthalpy, gradient,
        )  # fmt: skip

    start = _Search(
        xp.minimum(1.0, longest),
        xp.zeros(()),
        slope_0,
        xp.asarray(xp.inf),
        xp.asarray(0),
        xp.asarray(waits),
        state.q,
        state.enthalpy,
        state.gradient,
    )
    end = repeat(lambda s: ~s.accepted & (s.trials < MAX_TRIALS), trial, start)
    # A last trial that is no worse and has a smaller gradient is progress all the same.
    accepted = either(
        end.accepted,
        lambda: end.accepted,
        lambda: (
            (end.enthalpy <= state.enthalpy + rounding)
            & (largest_force(end.gradient) < largest_force(state.gradient))
        ),
    )
    if evaluate is not None and accepted:
        return end, accepted
    back = end._replace(q=state.q, enthalpy=state.enthalpy, gradient=state.gradient)
    if evaluate is not None:
        return back, accepted
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, back), accepted


def reached(state: State, found: _Search, stalled: Any, memory: Any) -> State:
    """The state after a search.

    Arguments:
        state: where it began.
        found: what `search` has found.
        stalled: whether no step lowers the enthalpy any more.
        memory: what the minimiser remembers.

    Returns:
        The State.
    """
    evaluations, trials, stalled = in_numpy((state.evaluations, found.trials, stalled))
    return State(
        found.q, found.enthalpy, found.gradient, on_device(evaluations + trials),
        on_device(stalled), memory,
    )  # fmt: skip


def _limited_to(
    direction: Float[Any, "R D"], max_step: float | Float[Any, ""], count: int
) -> Float[Any, "R D"]:
    """The direction with each row that is longer than ``max_step`` shortened to it.

    If the N atoms of the first rows do not move on average, they still do not afterwards.
    """
    xp = array_module(direction)
    squares = squared_lengths(direction)[:, None]
    if xp is np:
        lengths = xp.sqrt(squares)
        if lengths.max(initial=0.0) <= max_step:
            return direction
        factors = xp.minimum(1.0, max_step / xp.maximum(lengths, np.finfo(float).tiny))
    else:
        # What touches nothing has no force, and neither the root of zero nor its reciprocal has a
        # derivative.
        roots = xp.sqrt(xp.where(squares > 0.0, squares, 1.0))
        lengths = xp.where(squares > 0.0, roots, 0.0)
        factors = xp.where(squares > 0.0, xp.minimum(1.0, max_step / roots), 1.0)
    limited = direction * factors
    balanced = xp.linalg.norm(column_sums(direction[:count])) <= 1e-8 * xp.sum(lengths)
    # Atoms that are constrained, or only fill up a batch, have no direction.
    moves = lengths[:count] > 0.0
    drift = column_sums(limited[:count]) / xp.maximum(xp.sum(moves, dtype=float), 1.0)
    return xp.concatenate(
        [limited[:count] + xp.where(moves & balanced, -drift, 0.0), limited[count:]]
    )


def _either(condition: Any, yes: Callable[[], T], no: Callable[[], T]) -> T:
    """`jax.lax.cond` of a condition that is known."""
    return yes() if condition else no()


def _repeat(goes_on: Callable[[T], Any], step: Callable[[T], T], start: T) -> T:
    """`jax.lax.while_loop` on the host, where infinities warn of nothing either."""
    with np.errstate(all="ignore"):
        while goes_on(start):
            start = step(start)
    return start


def search_down(
    landscape: Landscape,
    state: State,
    direction: Float[Any, "R D"],
    max_step: float | Float[Any, ""],
) -> tuple[_Search, Bool[Any, ""]]:
    """`search` along the step of a method that knows how long it should be.

    It takes few evaluations, for which the program serves that has evaluated the first state: one
    of its own would take longer to compile than most relaxations.

    Arguments:
        landscape: the function.
        state: where to begin.
        direction: shape (R, D), as of a step of Newton's method; if it goes up, the force is
            followed in its place.
        max_step: largest move of an atom in one trial, length.

    Returns:
        The result, and whether a step was accepted; in NumPy where nothing is traced.
    """
    if is_traced((landscape, state, direction, max_step)):
        return search(landscape, state, direction, jnp.ones(()), max_step, curvature=0.9)

    def evaluate(
        q: Float[np.ndarray, "R D"],
    ) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, "R D"]]:
        enthalpy, gradient = in_numpy(landscape.evaluate(on_device(q)))
        return enthalpy, gradient

    here, direction = in_numpy((state, direction))
    return search(landscape, here, direction, 1.0, float(max_step), 0.9, evaluate)
