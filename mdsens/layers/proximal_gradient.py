"""Proximal gradient descent, accelerated (FISTA) with adaptive restarts."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.implicit import conditions
from mdsens.implicit.proximal_system import ProximalSystem
from mdsens.layers.checks import booleans, callables, counts, known_real
from mdsens.layers.minimiser import Minimiser
from mdsens.layers.prox import prox_none
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import without_derivatives
from mdsens.layers.trees import difference, dtype_of, inner, moved, norm

__all__ = ["ProximalDescent", "ProximalGradient", "ProximalGradientState", "search_stepsize"]

_GROWTH = 1.2  # by which a step size that was accepted at once is raised for the next iteration


class ProximalGradientState(NamedTuple):
    """The state of proximal gradient descent.

    Attributes:
        iter_num: iterations done.
        error: norm of the last step from the extrapolated point, divided by the step size.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        stepsize: step size of the last iteration.
        velocity: the extrapolated point from which the next step starts.
        t: Nesterov's sequence, 1 after a restart.
        aux: auxiliary output of `fun` at the last extrapolated point.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    stepsize: Float[Array, ""]
    velocity: PyTree
    t: Float[Array, ""]
    aux: Any


class ProximalDescent(Minimiser):
    """What `ProximalGradient`, `ProjectedGradient` and `GradientDescent` share.

    Arguments:
        stepsize: step size, or a function of the iteration's number; not positive: a backtracking
            line search finds it.
        maxls: most step sizes tried in one iteration.
        acceleration: whether to extrapolate (Beck & Teboulle 2009).
        decrease_factor: factor between step sizes tried in one iteration.
    """

    stepsize: float | Float[Array, ""] | Callable[..., Any] = eqx.field(kw_only=True, default=0.0)
    maxls: int = eqx.field(kw_only=True, default=50)
    acceleration: bool = eqx.field(kw_only=True, default=True)
    decrease_factor: float = eqx.field(kw_only=True, default=0.5)

    def __check_init__(self) -> None:
        if not callable(self.stepsize):
            known_real(self.stepsize, "stepsize")
        counts(self, "maxls")
        booleans(self, "acceleration")
        known_real(self.decrease_factor, "decrease_factor", above=0.0, below=1.0)

    @abc.abstractmethod
    def proximal(self, point: PyTree, hyperparams: Any, stepsize: Any) -> PyTree:
        """The proximal operator of `stepsize` times the part that is not smooth."""

    def init_state(
        self, init_params: PyTree, hyperparams_prox: Any = None, *args: Any, **kwargs: Any
    ) -> ProximalGradientState:
        """The state before the first iteration."""
        del hyperparams_prox
        one = jnp.ones((), dtype_of(init_params))
        return ProximalGradientState(
            iter_num=jnp.asarray(0),
            error=one * jnp.inf,
            converged=jnp.asarray(False),
            stepsize=one,
            velocity=init_params,
            t=one,
            aux=self.objective(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def update(
        self,
        params: PyTree,
        state: ProximalGradientState,
        hyperparams_prox: Any,
        *args: Any,
        **kwargs: Any,
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        start = state.velocity if self.acceleration else params
        value, aux, gradient = self.evaluate(start, *args, **kwargs)

        def step(stepsize: Any) -> PyTree:
            return self.proximal(moved(start, -stepsize, gradient), hyperparams_prox, stepsize)

        if callable(self.stepsize):
            stepsize = jnp.asarray(self.stepsize(state.iter_num), state.stepsize.dtype)
        elif not isinstance(self.stepsize, jax.Array) and self.stepsize <= 0:
            growth = jnp.where(state.iter_num == 0, 1, _GROWTH).astype(state.stepsize.dtype)
            stepsize = without_derivatives(
                lambda first: search_stepsize(
                    lambda x: self.objective(x, *args, **kwargs)[0],
                    step, start, value, gradient, first, self.decrease_factor, self.maxls,
                ),
                growth * state.stepsize,
            )  # fmt: skip
        else:
            stepsize = jnp.asarray(self.stepsize, state.stepsize.dtype)
        x = step(stepsize)
        state = state._replace(
            iter_num=state.iter_num + 1,
            error=self.error_or_nan(norm(difference(x, start)) / stepsize, value),
            stepsize=stepsize,
            aux=aux,
        )
        return OptStep(x, self._extrapolated(x, params, start, state))

    def _extrapolated(
        self, x: PyTree, last_x: PyTree, start: PyTree, state: ProximalGradientState
    ) -> ProximalGradientState:
        if not self.acceleration:
            return state._replace(velocity=x)
        change = difference(x, last_x)
        # The momentum points uphill: forget it (O'Donoghue & Candes 2015, equation 13).
        restart = inner(difference(start, x), change) > 0
        t = jnp.where(restart, 1, state.t)
        next_t = 0.5 * (1 + jnp.sqrt(1 + 4 * t**2))
        momentum = jnp.where(restart, 0, (t - 1) / next_t)
        return state._replace(velocity=moved(x, momentum, change), t=next_t)

    def one_step(
        self,
        params: PyTree,
        state: ProximalGradientState,
        hyperparams_prox: Any,
        *args: Any,
        **kwargs: Any,
    ) -> PyTree:
        """One step without extrapolation and with the last step size."""
        gradient = self.evaluate(params, *args, **kwargs)[2]
        point = moved(params, -state.stepsize, gradient)
        return self.proximal(point, hyperparams_prox, state.stepsize)

    def optimality_fun(
        self, params: PyTree, hyperparams_prox: Any, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One step of size 1 minus the parameters."""
        fixed_point_fun = conditions.proximal_gradient(self.value, self.proximal)
        return difference(fixed_point_fun(params, hyperparams_prox, *args, **kwargs), params)

    def linear_system(
        self, params: PyTree, hyperparams_prox: Any, *args: Any, **kwargs: Any
    ) -> ProximalSystem | None:
        """The derivatives of the proximal operator and of the gradient, both symmetric."""
        gradient, hessian = jax.linearize(
            lambda x: jax.grad(self.value)(x, *args, **kwargs), params
        )
        _, proximal = jax.linearize(
            lambda point: self.proximal(point, hyperparams_prox, 1.0), moved(params, -1.0, gradient)
        )
        return ProximalSystem(proximal, hessian)


@positional(
    "fun", "prox", "value_and_grad", "has_aux", "stepsize", "maxiter", "maxls", "tol",
    "acceleration", "decrease_factor", "verbose", "implicit_diff", "implicit_diff_solve", "jit",
    "unroll",
)  # fmt: skip
class ProximalGradient(ProximalDescent):
    """Minimise a smooth function plus one whose proximal operator is known.

    The objective is `fun(params, *args, **kwargs) + g(params, hyperparams_prox)`.

    Arguments:
        fun: the smooth part.
        prox: `prox(v, hyperparams_prox, scaling)`, the proximal operator of `scaling` times g;
            without it g is zero.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, maxls, acceleration, decrease_factor: as in `ProximalDescent`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, hyperparams_prox, *args, **kwargs)`.

    x <- prox(y - eta grad f(y), eta), with y extrapolated: Beck & Teboulle 2009, SIAM J. Imaging
    Sci. 2, 183, equations 4.1-4.3; restarts by O'Donoghue & Candes 2015, Found. Comput. Math. 15,
    715. The condition is Blondel et al. 2021, equation 7.
    """

    prox: Callable[..., Any] = eqx.field(default=prox_none)

    def __check_init__(self) -> None:
        callables(self, "prox")

    def run(
        self, init_params: PyTree, hyperparams_prox: Any = None, *args: Any, **kwargs: Any
    ) -> OptStep:
        """As `IterativeSolver.run`, with the parameters of g after `init_params`."""
        return super().run(init_params, hyperparams_prox, *args, **kwargs)

    def proximal(self, point: PyTree, hyperparams: Any, stepsize: Any) -> PyTree:
        """The proximal operator of `stepsize` times the part that is not smooth."""
        return self.prox(point, hyperparams, stepsize)


def search_stepsize(
    fun: Callable[[PyTree], Float[Array, ""]],
    step: Callable[[Float[Array, ""]], PyTree],
    start: PyTree,
    value: Float[Array, ""],
    gradient: PyTree,
    first: Float[Array, ""],
    decrease_factor: float,
    maxls: int,
) -> Float[Array, ""]:
    """The first step size in a geometric sequence whose quadratic model bounds the function.

    Arguments:
        fun: the smooth function.
        step: step size -> the point to which it leads.
        start: where the step begins.
        value: the function there.
        gradient: its gradient there.
        first: step size to try first.
        decrease_factor: factor between two trials.
        maxls: most trials; the last one is taken in any case.

    Returns:
        eta with f(x) <= f(y) + <grad f(y), x - y> + |x - y|^2 / (2 eta): Beck & Teboulle 2009,
        equation 2.5 and section 4. Where the last term drowns in the rounding of f, gradients are
        compared instead: Becker, Candes & Grant 2011, Math. Prog. Comp. 3, 165, section 5.3.
    """
    rounding = 1e4 * jnp.finfo(value.dtype).eps

    def bounded(stepsize: Array) -> Array:
        x = step(stepsize)
        change = difference(x, start)
        model = inner(change, change) / (2 * stepsize)
        reached = fun(x)

        def by_value() -> Array:
            return reached <= value + inner(gradient, change) + model

        def by_gradient() -> Array:
            slope_change = difference(jax.grad(fun)(x), gradient)
            return inner(slope_change, change) <= 2 * model

        # One condition for all elements of a vmap: with one for each, `cond` would copy what the
        # function closes over, such as its data, for every element.
        drowned = model <= rounding * jnp.abs(value)
        return jax.lax.cond(
            eqxi.unvmap_any(drowned),
            lambda: jnp.where(drowned, by_gradient(), by_value()),
            by_value,
        )

    def shrink(trial: tuple[Array, Array]) -> tuple[Array, Array]:
        stepsize, count = trial
        return stepsize * jnp.asarray(decrease_factor, stepsize.dtype), count + 1

    return jax.lax.while_loop(
        lambda trial: (trial[1] < maxls - 1) & ~bounded(trial[0]),
        shrink,
        (first, jnp.asarray(0)),
    )[0]
