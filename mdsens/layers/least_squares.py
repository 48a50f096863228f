"""Nonlinear least squares: the methods of Gauss and Newton, and of Levenberg and Marquardt."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.implicit import conditions
from mdsens.implicit.backends import either
from mdsens.layers.checks import booleans, callables, known_real
from mdsens.layers.residuals import ResidualSolver, ResidualState, shortest_solution
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import dtype_of, in_precision, inner, norm
from mdsens.values import choice

__all__ = ["GaussNewton", "LevenbergMarquardt", "LevenbergMarquardtState"]

_SOLVERS = ("qr", "cholesky", "lu", "inv")
_LARGEST_RATIO = 0.75  # of acceleration to velocity: Transtrum & Sethna 2012, equation 15


class _LeastSquaresSolver(ResidualSolver):
    """What both share: the condition J' r = 0."""

    residual_fun: Callable[..., Any]

    symmetric: ClassVar[bool] = True

    def __check_init__(self) -> None:
        callables(self, "residual_fun")

    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """The residuals and the auxiliary output."""
        output = self.residual_fun(params, *args, **kwargs)
        value, aux = output if self.has_aux else (output, None)
        return in_precision(value, params), aux

    def objective(self, params: PyTree, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """Half the sum of squares."""
        residuals = self.evaluate(params, *args, **kwargs)[0]
        return 0.5 * inner(residuals, residuals)

    def optimality_fun(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The gradient of half the sum of squares, J' r."""
        return conditions.stationary(self.objective)(params, *args, **kwargs)


@positional(
    "residual_fun", "maxiter", "tol", "implicit_diff", "implicit_diff_solve", "has_aux", "verbose",
    "jit", "unroll",
)  # fmt: skip
class GaussNewton(_LeastSquaresSolver):
    """Minimise half the sum of squares of residuals, from nearby or where they are almost linear.

    Arguments:
        residual_fun: `residual_fun(params, *args, **kwargs)`, a pytree of residuals r.
        has_aux: it returns `(residuals, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is the length of the last step.

    Use `run(init_params, *args, **kwargs)`.

    x <- x - argmin_d |J d - r|: Nocedal & Wright 2006, section 10.3. The condition is Blondel et
    al. 2021, equation 4, with the full Hessian.
    """

    def update(self, params: PyTree, state: ResidualState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)
        residual = self.flat_residual(params, args, kwargs)
        step = shortest_solution(jax.jacfwd(residual)(x), residual(x), any_rank=True)
        state = state._replace(
            iter_num=state.iter_num + 1,
            error=norm(step),
            aux=self.evaluate(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(unravel(x - step), state)


class LevenbergMarquardtState(NamedTuple):
    """The state of the method of Levenberg and Marquardt.

    Attributes:
        iter_num: iterations done.
        error: norm of the gradient.
        converged: whether the iterations have ended at a solution.
        value: half the sum of squares.
        residual: the residuals, flattened.
        gradient: J' r, flattened.
        jac: J, None where there are products with it alone.
        damping_factor: the weight of the step's length in the next model.
        increase_factor: by which it grows if the next step is refused.
        delta: the last step, flattened, whether it was taken or not.
        aux: auxiliary output of the residuals.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    residual: Float[Array, " m"]
    gradient: Float[Array, " n"]
    jac: Float[Array, "m n"] | None
    damping_factor: Float[Array, ""]
    increase_factor: Float[Array, ""]
    delta: Float[Array, " n"]
    aux: Any


@positional(
    "residual_fun", "maxiter", "damping_parameter", "stop_criterion", "tol", "xtol", "gtol",
    "solver", "geodesic", "verbose", "jac_fun", "materialize_jac", "implicit_diff",
    "implicit_diff_solve", "has_aux", "jit", "unroll",
)  # fmt: skip
class LevenbergMarquardt(_LeastSquaresSolver):
    """Minimise half the sum of squares of residuals with steps that are damped where needed.

    Arguments:
        residual_fun: `residual_fun(params, *args, **kwargs)`, a pytree of residuals r.
        damping_parameter: the first damping factor, relative to the largest diagonal entry of J'J.
        stop_criterion: "grad-l2-norm": |J' r| is at most `tol`; "madsen-nielsen": no entry of J' r
            is above `gtol`, or the last step d has |d| <= xtol (|x| + xtol).
        xtol, gtol: as in `stop_criterion`; None: the square root of the machine precision.
        solver: of the linear systems: "qr", of J with the damping below it; "cholesky", "lu" or
            "inv", of J'J + lambda, which squares J's condition number; or a function
            `solver(matvec, b, ridge=..., init=...)`, which needs no J, as in
            `mdsens.implicit.linear_solve`.
        geodesic: whether steps are corrected by the residuals' second derivative along them.
        jac_fun: `jac_fun(params, *args, **kwargs)`, J as an array (m, n); None: by automatic
            differentiation.
        materialize_jac: without effect: there is a J for solvers by name, and none for functions.
        has_aux: it returns `(residuals, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is |J' r|, and what rounding of x and r makes of it
            is no error.

    Use `run(init_params, *args, **kwargs)`.

    x <- x - argmin_d |J d - r|^2 + lambda |d|^2, with lambda by Madsen & Nielsen 2010, Introduction
    to Optimization and Data Fitting, algorithm 6.18; the correction by Transtrum & Sethna 2012,
    arXiv 1201.5885, equation 13. The condition is Blondel et al. 2021, equation 4, with the full
    Hessian.
    """

    damping_parameter: float = eqx.field(kw_only=True, default=1e-6)
    stop_criterion: Literal["grad-l2-norm", "madsen-nielsen"] = eqx.field(
        kw_only=True, default="grad-l2-norm"
    )
    xtol: float | None = eqx.field(kw_only=True, default=None)
    gtol: float | None = eqx.field(kw_only=True, default=None)
    solver: Literal["qr", "cholesky", "lu", "inv"] | Callable[..., Any] = eqx.field(
        kw_only=True, default="qr"
    )
    geodesic: bool = eqx.field(kw_only=True, default=False)
    jac_fun: Callable[..., Any] | None = eqx.field(kw_only=True, default=None)
    materialize_jac: bool = eqx.field(kw_only=True, default=True)

    def __check_init__(self) -> None:
        known_real(self.damping_parameter, "damping_parameter", above=0.0)
        choice(self.stop_criterion, "stop_criterion", ("grad-l2-norm", "madsen-nielsen"))
        for name in ("xtol", "gtol"):
            if getattr(self, name) is not None:
                known_real(getattr(self, name), name, at_least=0.0)
        if not callable(self.solver):
            choice(self.solver, "solver", _SOLVERS)
        booleans(self, "geodesic", "materialize_jac")
        if self.jac_fun is not None:
            callables(self, "jac_fun")
            if callable(self.solver):
                raise InputError(
                    "jac_fun beside a solver that needs no Jacobian: give solver='qr', or leave "
                    "jac_fun out"
                )

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> LevenbergMarquardtState:
        """The state before the first iteration."""
        x = ravel_pytree(init_params)[0]
        residual, jac, gradient = self._linearised(init_params, x, args, kwargs)
        if jac is None:
            product = self._product(init_params, x, args, kwargs)
            squares = jnp.diag(jax.lax.map(product, jnp.eye(x.size, dtype=x.dtype)))
        else:
            squares = jnp.sum(jac**2, axis=0)
        damping = jnp.asarray(self.damping_parameter, x.dtype) * jnp.max(squares)
        return LevenbergMarquardtState(
            iter_num=jnp.asarray(0),
            error=norm(gradient),
            converged=jnp.asarray(False),
            value=0.5 * jnp.vdot(residual, residual),
            residual=residual,
            gradient=gradient,
            jac=jac,
            damping_factor=jax.lax.stop_gradient(damping),
            increase_factor=jnp.asarray(2, x.dtype),
            delta=jnp.full_like(x, jnp.inf),
            aux=self.evaluate(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def update(
        self, params: PyTree, state: LevenbergMarquardtState, *args: Any, **kwargs: Any
    ) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)
        damping = state.damping_factor
        solve = self._damped_solver(params, x, state, args, kwargs)
        step = solve(state.residual, state.gradient)
        straight_enough = jnp.asarray(True)
        if self.geodesic:
            residual = self.flat_residual(params, args, kwargs)
            bend = _second_derivative(residual, x, step)
            correction = solve(bend, jax.vjp(residual, x)[1](bend)[0])
            straight_enough = norm(correction) <= _LARGEST_RATIO * norm(step)
            step = step + 0.5 * correction
        new_residual, new_jac, new_gradient = self._linearised(params, x - step, args, kwargs)
        # The difference of the squares, without that of two large numbers.
        gain = 0.5 * jnp.vdot(state.residual - new_residual, state.residual + new_residual)
        predicted = 0.5 * jnp.vdot(step, damping * step + state.gradient)
        # Where both drown in rounding, slopes at both ends still tell of the gain.
        drowned = jnp.abs(predicted) <= 10 * jnp.finfo(x.dtype).eps * state.value
        by_slopes = 0.5 * jnp.vdot(step, state.gradient + new_gradient)
        gain = jnp.where(drowned, by_slopes, gain)
        ratio = gain / jnp.where(predicted == 0, 1, predicted)
        accepted = (ratio > 0) & straight_enough & jnp.isfinite(gain)
        shrunk = damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        largest = jnp.asarray(2.0**32, x.dtype)
        grown = jnp.minimum(damping * state.increase_factor, jnp.maximum(largest, damping))
        # Longer steps again, where they have become too short to move anything.
        unmoved = jnp.all(x - step == x)
        grown = jnp.where(unmoved, jnp.finfo(x.dtype).eps ** 0.5 * damping, grown)

        def chosen(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

        params = unravel(chosen(x - step, x))
        residual, jac, gradient = chosen(
            (new_residual, new_jac, new_gradient), (state.residual, state.jac, state.gradient)
        )
        state = LevenbergMarquardtState(
            iter_num=state.iter_num + 1,
            error=norm(gradient),
            converged=state.converged,
            value=0.5 * jnp.vdot(residual, residual),
            residual=residual,
            gradient=gradient,
            jac=jac,
            damping_factor=jax.lax.stop_gradient(jnp.where(accepted, shrunk, grown)),
            increase_factor=jnp.where(
                accepted | unmoved, 2, jnp.minimum(2 * state.increase_factor, largest)
            ),
            delta=step,
            aux=self.evaluate(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)

    def one_step(
        self, params: PyTree, state: LevenbergMarquardtState, *args: Any, **kwargs: Any
    ) -> PyTree:
        """One step with the last damping factor."""
        x, unravel = ravel_pytree(params)
        residual, jac, gradient = self._linearised(params, x, args, kwargs)
        solve = self._damped_solver(params, x, state._replace(jac=jac), args, kwargs)
        return unravel(x - solve(residual, gradient))

    def converged(
        self, params: PyTree, state: LevenbergMarquardtState, tol: float
    ) -> Bool[Array, ""]:
        """Whether a state is a solution's, by `stop_criterion`."""
        if self.stop_criterion == "grad-l2-norm":
            x = ravel_pytree(params)[0]
            # Rounding has the last word only where steps have come to nothing.
            idle = (state.increase_factor > 2) | jnp.all(x - state.delta == x)
            small = state.error <= tol
            # Asked only where it matters: products with J take longer than most of a step.
            rounding = either(
                eqxi.unvmap_any(idle & ~small),
                lambda: _rounding_of_gradient(params, state),
                lambda: jnp.zeros_like(state.error),
            )
            return small | (idle & (state.error <= rounding))
        precision = float(jnp.finfo(dtype_of(params)).eps) ** 0.5
        gtol, xtol = (precision if t is None else t for t in (self.gtol, self.xtol))
        flat = jnp.max(jnp.abs(state.gradient)) <= gtol
        return flat | (norm(state.delta) <= xtol * (norm(params) + xtol))

    def _linearised(
        self, params: PyTree, x: Array, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Array, Array | None, Array]:
        """The residuals at x, their Jacobian, and the gradient."""
        residual = self.flat_residual(params, args, kwargs)
        if callable(self.solver):
            values, pull_back = jax.vjp(residual, x)
            return values, None, pull_back(values)[0]
        values = residual(x)
        if self.jac_fun is None:
            jac = jax.jacfwd(residual)(x)
        else:
            jac = jnp.asarray(self.jac_fun(ravel_pytree(params)[1](x), *args, **kwargs))
            if jac.shape != (values.size, x.size):
                raise InputError(
                    f"jac_fun returned the shape {jac.shape}; allowed is "
                    f"{(values.size, x.size)}, residuals by parameters"
                )
        return values, jac, values @ jac

    def _product(
        self, params: PyTree, x: Array, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[Array], Array]:
        """The function v -> J'J v."""
        residual = self.flat_residual(params, args, kwargs)
        _, push = jax.linearize(residual, x)
        pull = jax.linear_transpose(push, x)
        return lambda v: pull(push(v))[0]

    def _damped_solver(
        self,
        params: PyTree,
        x: Array,
        state: LevenbergMarquardtState,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Callable[[Array, Array], Array]:
        """The function (r, J' r) -> argmin_d |J d - r|^2 + lambda |d|^2."""
        damping, solver = state.damping_factor, self.solver
        if state.jac is None:
            product = self._product(params, x, args, kwargs)
            start = jnp.where(jnp.isfinite(state.delta), state.delta, 0)
            return lambda _, g: solver(product, g, ridge=damping, init=start)  # type: ignore[operator]
        jac, identity = state.jac, jnp.eye(x.size, dtype=x.dtype)
        if solver == "qr":
            below = jnp.sqrt(damping) * identity
            matrix = jnp.concatenate([jac, below])
            return lambda r, _: shortest_solution(matrix, jnp.concatenate([r, jnp.zeros_like(x)]))
        squared = jac.T @ jac + damping * identity
        if solver == "inv":
            inverse = jnp.linalg.inv(squared)
            return lambda _, g: inverse @ g
        kind = "pos" if solver == "cholesky" else "gen"
        return lambda _, g: jax.scipy.linalg.solve(squared, g, assume_a=kind)


def _second_derivative(function: Callable[[Array], Array], x: Array, v: Array) -> Array:
    """The second derivative of a function along a direction."""

    def along(point: Array) -> Array:
        return jax.jvp(function, (point,), (v,))[1]

    return jax.jvp(along, (x,), (v,))[1]


def _rounding_of_gradient(params: PyTree, state: LevenbergMarquardtState) -> Float[Array, ""]:
    """What the last digits of x and of the residuals change in J' r, without a J nothing."""
    if state.jac is None:
        return jnp.zeros_like(state.error)
    jac, x = jnp.abs(state.jac), jnp.abs(ravel_pytree(params)[0])
    # (J'J) x by way of J x, and r, each rounded to half of its last digit.
    return norm((jac @ x + jnp.abs(state.residual)) @ jac) * jnp.finfo(x.dtype).eps / 2
