"""BFGS, the quasi-Newton method with a dense model of the inverse Hessian."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.line_search import straight
from mdsens.layers.searching import SearchingMinimiser, flat_value_and_gradient
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import norm

__all__ = ["BFGS", "BFGSState"]


class BFGSState(NamedTuple):
    """The state of BFGS.

    Attributes:
        iter_num: iterations done.
        error: norm of the gradient.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        value: the objective.
        grad: its gradient, flattened.
        stepsize: multiple of the quasi-Newton step that was taken last; 0: none was found.
        H: the model of the inverse Hessian.
        fresh: whether the model holds no curvature yet.
        aux: auxiliary output of `fun`.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    grad: Float[Array, " n"]
    stepsize: Float[Array, ""]
    H: Float[Array, "n n"]
    fresh: Bool[Array, ""]
    aux: Any


@positional(
    "fun", "value_and_grad", "has_aux", "maxiter", "tol", "stepsize", "linesearch",
    "linesearch_init", "condition", "maxls", "decrease_factor", "increase_factor", "max_stepsize",
    "min_stepsize", "implicit_diff", "implicit_diff_solve", "jit", "unroll", "verbose",
)  # fmt: skip
class BFGS(SearchingMinimiser):
    """Minimise a smooth function of up to a few hundred unknowns; `LBFGS` is for more.

    Arguments:
        fun: the objective.
        value_and_grad, has_aux: as in `Minimiser`.
        stepsize, linesearch, linesearch_init, stop_if_linesearch_fails, condition, maxls,
            decrease_factor, increase_factor, max_stepsize, min_stepsize: as in
            `SearchingMinimiser`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.

    Use `run(init_params, *args, **kwargs)`.

    Nocedal & Wright 2006, algorithm 6.1, with the first model of equation 6.20. The condition is
    Blondel et al. 2021, equation 4.
    """

    symmetric: ClassVar[bool] = True

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> BFGSState:
        """The state before the first iteration."""
        value, aux, gradient = self.evaluate(init_params, *args, **kwargs)
        flat = ravel_pytree(gradient)[0]
        return BFGSState(
            iter_num=jnp.asarray(0),
            error=self.error_or_nan(norm(flat), value),
            converged=jnp.asarray(False),
            value=value,
            grad=flat,
            stepsize=jnp.full((), self.longest, flat.dtype),
            H=jnp.eye(flat.size, dtype=flat.dtype),
            fresh=jnp.asarray(True),
            aux=aux,
        )

    def update(self, params: PyTree, state: BFGSState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        x, unravel = ravel_pytree(params)
        direction = -state.H @ state.grad
        descends = jnp.vdot(direction, state.grad) < 0
        direction = jnp.where(descends, direction, -state.grad)
        fresh = state.fresh | ~descends
        length = jnp.maximum(norm(direction), jnp.finfo(x.dtype).tiny)
        natural = jnp.where(fresh, jnp.minimum(1, 1 / length), 1).astype(x.dtype)
        slope_0 = jnp.vdot(state.grad, direction)
        evaluate = flat_value_and_gradient(self, unravel, args, kwargs)
        found = self.search(straight(evaluate, x, direction, slope_0), state, slope_0, natural)
        step = found.stepsize * direction
        H, fresh = _updated(state.H, fresh, step, found.gradient - state.grad)
        # A search that fails forgets the model and begins again with the gradient.
        H = jnp.where(found.accepted, H, jnp.eye(x.size, dtype=x.dtype))
        params = unravel(x + step)
        state = BFGSState(
            iter_num=state.iter_num + 1,
            error=norm(found.gradient),
            converged=state.converged,
            value=found.value,
            grad=found.gradient,
            stepsize=found.stepsize,
            H=H,
            fresh=fresh | ~found.accepted,
            aux=self.objective(params, *args, **kwargs)[1] if self.has_aux else None,
        )
        return OptStep(params, state)


def _updated(H: Array, fresh: Array, s: Array, y: Array) -> tuple[Array, Array]:
    """The model with one step and its change of the gradient, if they tell of curvature."""
    sy, yy = jnp.vdot(s, y), jnp.vdot(y, y)
    useful = sy > jnp.finfo(s.dtype).eps * yy
    rho = 1 / jnp.where(useful, sy, 1)
    scale = jnp.where(fresh & useful, sy / jnp.where(yy > 0, yy, 1), 1)
    H = jnp.where(fresh, scale * jnp.eye(s.size, dtype=s.dtype), H)
    Hy = H @ y
    new = H - rho * (jnp.outer(s, Hy) + jnp.outer(Hy, s))
    new += (rho**2 * jnp.vdot(y, Hy) + rho) * jnp.outer(s, s)
    return jnp.where(useful, new, H), fresh & ~useful
