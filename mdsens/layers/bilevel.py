"""Bilevel problems: minimise a loss of an inner solution over the inner problem's parameters."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree, Scalar
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from mdsens.errors import InputError
from mdsens.layers.checks import float_array, members
from mdsens.layers.solution import OptStep
from mdsens.progress import new_bar
from mdsens.values import boolean, integer, real

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BilevelResult", "minimise"]

Callback = Callable[[int, float, PyTree], Any]


class BilevelResult(eqx.Module):
    """Where an outer optimisation ended, and how it came there.

    Attributes:
        hyperparams: the best hyperparameters found, in the structure of the start.
        params: the inner solution there.
        value: the outer loss there.
        converged: whether the gradient, projected onto the bounds, came down to `tol`.
        message: why it ended.
        values: outer loss after every step, the start first, shape (steps + 1,).
        gradient_norms: largest component of the projected gradient, shape (steps + 1,).
        seconds: time since the beginning, s, shape (steps + 1,).
        path: hyperparameters after every step, flat, shape (steps + 1, P).
        optimiser_state: state of an optax optimiser, to go on from; None for L-BFGS.
    """

    hyperparams: PyTree
    params: PyTree
    value: float
    converged: bool
    message: str
    values: Float[np.ndarray, " steps"]
    gradient_norms: Float[np.ndarray, " steps"]
    seconds: Float[np.ndarray, " steps"]
    path: Float[np.ndarray, "steps P"]
    optimiser_state: Any = None

    def to_dataframe(self) -> "pd.DataFrame":
        """The history as a table with one row per step."""
        import pandas as pd  # half of the time to import all layers

        return pd.DataFrame(
            {"value": self.values, "gradient": self.gradient_norms, "seconds": self.seconds}
        ).rename_axis("step")


def minimise(
    outer_loss: Callable[[PyTree, PyTree], Scalar],
    inner_layer: Callable[[PyTree, PyTree], PyTree],
    init_hyperparams: PyTree,
    init_params: PyTree = None,
    optimiser: str | optax.GradientTransformation = "lbfgs",
    bounds: tuple[PyTree, PyTree] | None = None,
    maxiter: int = 100,
    tol: float = 1e-6,
    warm_start: bool = True,
    progress: bool = False,
    callback: Callback | None = None,
    optimiser_state: Any = None,
    jit: bool = True,
) -> BilevelResult:
    """Minimise outer_loss(params, hyperparams), where params solves the inner problem.

    The gradient in the hyperparameters goes through the inner layer, implicitly for the layers of
    this package. Ctrl-C ends the loop after the current step and returns what there is; give its
    `hyperparams`, `params` and `optimiser_state` as the start to go on.

    Arguments:
        outer_loss: (params, hyperparams) -> scalar, for instance a validation loss.
        inner_layer: (init_params, hyperparams) -> params, differentiable in the hyperparameters; it
            may also return an `OptStep`, of which the params are taken. For instance
            ``lambda init, h: ProximalGradient(fun, prox_lasso).run(init, h, data)``.
        init_hyperparams: start, a pytree of P floating-point numbers in all.
        init_params: start of the inner problem.
        optimiser: ``"lbfgs"`` (SciPy's L-BFGS-B), or an optax optimiser.
        bounds: (lower, upper), each a number or in the structure of the hyperparameters; None: no
            bounds.
        maxiter: most steps.
        tol: largest component of the gradient, projected onto the bounds, at which to stop.
        warm_start: start each inner problem from the last one's solution.
        progress: whether to show a bar with step, loss and gradient.
        callback: called with (step, loss, hyperparams) after every step; may return True to stop.
        optimiser_state: state of an optax optimiser to go on from.
        jit: whether to compile; not for an inner layer that only works with concrete numbers.

    Returns:
        A `BilevelResult`.

    Raises:
        InputError: hyperparameters that are not floating-point numbers, an unknown optimiser,
            lower bounds above upper ones, or a loss that is not finite at the start.

    Gradient: Blondel et al. 2021, arXiv 2105.15183, section 2.1.
    """
    integer(maxiter, "maxiter", at_least=0)
    real(tol, "tol", at_least=0.0)
    for name, value in (("warm_start", warm_start), ("progress", progress), ("jit", jit)):
        boolean(value, name)
    hyperparams = jax.tree.map(lambda leaf: float_array("init_hyperparams", leaf), init_hyperparams)
    flat, unravel = ravel_pytree(hyperparams)
    lower, upper = _flat_bounds(bounds, hyperparams, flat)
    if not (optimiser == "lbfgs" or isinstance(optimiser, optax.GradientTransformation)):
        raise InputError(f"optimiser={optimiser!r}; allowed are 'lbfgs' or an optax optimiser.")

    def loss(flat_hyperparams: Any, start: Any) -> tuple[Scalar, Any]:
        given = unravel(flat_hyperparams)
        params = inner_layer(start, given)
        params = params.params if isinstance(params, OptStep) else params
        return outer_loss(params, given), params

    evaluate: Any = jax.value_and_grad(loss, has_aux=True)
    if jit:
        evaluate = eqx.filter_jit(evaluate)
    run = _Run(evaluate, unravel, init_params, warm_start, lower, upper, tol, maxiter, callback)
    bar = new_bar(
        TextColumn("outer loop"),
        BarColumn(),
        TextColumn("step {task.completed}, loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        disable=not progress,
    )
    state = None
    with bar:
        run.bar, run.task = bar, bar.add_task("", total=maxiter, loss="-")
        try:
            start = np.clip(np.asarray(flat, float), lower, upper)
            if optimiser == "lbfgs":
                run.by_lbfgs(start)
            else:
                state = run.by_optax(start, optimiser, optimiser_state)
        except _StopError:
            pass
        except KeyboardInterrupt:
            if not run.values:
                raise
            run.message = "interrupted"
    best = int(np.argmin(run.values))
    return BilevelResult(
        hyperparams=unravel(jnp.asarray(run.path[best], flat.dtype)),
        params=run.best_params,
        value=run.values[best],
        converged=run.message == CONVERGED,
        message=run.message,
        values=np.asarray(run.values),
        gradient_norms=np.asarray(run.norms),
        seconds=np.asarray(run.seconds),
        path=np.asarray(run.path),
        optimiser_state=run.optimiser_state if state is None else state,
    )


CONVERGED = "converged"


class _StopError(Exception):
    """Ends SciPy's loop from inside."""


class _Run:
    """One outer optimisation: evaluations, history and the reasons to stop."""

    def __init__(
        self,
        evaluate: Callable[..., Any],
        unravel: Callable[..., Any],
        init_params: Any,
        warm_start: bool,
        lower: np.ndarray,
        upper: np.ndarray,
        tol: float,
        maxiter: int,
        callback: Callback | None,
    ):
        self.evaluate, self.unravel = evaluate, unravel
        self.start, self.warm_start = init_params, warm_start
        self.lower, self.upper = lower, upper
        self.tol, self.maxiter, self.callback = tol, maxiter, callback
        self.values: list[float] = []
        self.norms: list[float] = []
        self.seconds: list[float] = []
        self.path: list[np.ndarray] = []
        self.message = f"stopped after {maxiter} steps"
        self.best_params: Any = None
        self.optimiser_state: Any = None
        self.latest: dict[bytes, tuple[float, np.ndarray, Any]] = {}
        self.bar: Any = None
        self.task: Any = None
        self.began = time.perf_counter()

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient; the inner solution is kept for the next start."""
        (value, params), gradient = self.evaluate(jnp.asarray(x), self.start)
        value, gradient = float(value), np.asarray(gradient, float)
        finite = np.isfinite(value) and np.all(np.isfinite(gradient))
        if not finite and not self.values:
            raise InputError(
                f"the outer loss is {value} at the start, with gradient {gradient}; give a start "
                "where both are finite."
            )
        if finite and self.warm_start:
            self.start = params
        self.latest = {x.tobytes(): (value, gradient, params)}
        return value, gradient

    def record(self, x: np.ndarray) -> bool:
        """Add a step to the history; returns whether to stop."""
        if x.tobytes() not in self.latest:
            self.value_and_gradient(x)
        value, gradient, params = self.latest[x.tobytes()]
        if not self.values or value < min(self.values):
            self.best_params = params
        norm = float(np.max(np.abs(x - np.clip(x - gradient, self.lower, self.upper)), initial=0))
        self.values.append(value)
        self.norms.append(norm)
        self.seconds.append(time.perf_counter() - self.began)
        self.path.append(x.copy())
        step = len(self.values) - 1
        self.bar.update(self.task, completed=step, loss=f"{value:.6g}")
        asked = self.callback is not None and self.callback(step, value, self.unravel(x)) is True
        if norm <= self.tol:
            self.message = CONVERGED
        elif not np.isfinite(value):
            self.message = f"the loss became {value} at step {step}"
        elif asked:
            self.message = "stopped by the callback"
        return norm <= self.tol or asked or not np.isfinite(value)

    def by_lbfgs(self, x: np.ndarray) -> None:
        """SciPy's L-BFGS-B."""
        import scipy.optimize  # a quarter of the time to import all layers

        self.value_and_gradient(x)
        if self.record(x) or self.maxiter == 0:
            return

        def after_step(intermediate_result: Any) -> None:
            if self.record(intermediate_result.x):
                raise _StopError

        result = scipy.optimize.minimize(
            self.value_and_gradient,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(self.lower, self.upper, strict=True)),
            callback=after_step,
            options={
                "maxiter": self.maxiter,
                "ftol": 0.0,
                "gtol": 0.0,
                "maxfun": 20 * self.maxiter,
            },
        )
        if result.nit < self.maxiter:
            self.message = f"L-BFGS-B: {result.message.lower()}"

    def by_optax(self, x: np.ndarray, optimiser: Any, state: Any) -> Any:
        """An optax optimiser, with each step projected onto the bounds."""
        if state is None:
            state = optimiser.init(jnp.asarray(x))
        self.optimiser_state = state
        update = eqx.filter_jit(
            lambda gradient, state, x, value: optax.with_extra_args_support(optimiser).update(
                gradient, state, x, value=value, grad=gradient, value_fn=None
            )
        )
        for step in range(self.maxiter + 1):
            value, gradient = self.value_and_gradient(x)
            if self.record(x) or step == self.maxiter:
                break
            # The loss as an array: a number would be compiled into the update, anew in every step.
            change, state = update(jnp.asarray(gradient), state, jnp.asarray(x), jnp.asarray(value))
            self.optimiser_state = state
            x = np.clip(x + np.asarray(change), self.lower, self.upper)
        return state


def _flat_bounds(bounds: Any, hyperparams: Any, flat: Any) -> tuple[np.ndarray, np.ndarray]:
    if bounds is None:
        return np.full(flat.size, -np.inf), np.full(flat.size, np.inf)
    sides = []
    for side in members("bounds", bounds, ("lower", "upper")):
        structures: tuple[Any, Any] = jax.tree.structure(side), jax.tree.structure(hyperparams)
        if structures[0] == structures[1]:
            side = jax.tree.map(lambda s: float_array("a bound", s), side)
            side = jax.tree.map(lambda s, h: jnp.broadcast_to(s, jnp.shape(h)), side, hyperparams)
            sides.append(np.asarray(ravel_pytree(side)[0], float))
        else:
            one = np.asarray(float_array("a bound", side), float)
            if one.shape not in ((), (flat.size,)):
                raise InputError(
                    f"a bound has shape {one.shape}: give one number, {flat.size}, or the "
                    "structure of the hyperparameters"
                )
            sides.append(np.broadcast_to(one, (flat.size,)))
    lower, upper = sides
    if not np.all(lower <= upper):
        index = int(np.argmin(lower <= upper))
        raise InputError(
            f"the lower bound {lower[index]:g} of hyperparameter {index} is above its upper bound "
            f"{upper[index]:g}; exchange them."
        )
    return lower, upper
