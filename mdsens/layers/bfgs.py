"""BFGS, the quasi-Newton method with a dense model of the inverse Hessian."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.layers.searching import SearchingMinimiser, descending
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep

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
        fields = self.start(init_params, args, kwargs)
        identity = jnp.eye(fields["grad"].size, dtype=fields["grad"].dtype)
        return BFGSState(**fields, H=identity, fresh=jnp.asarray(True))

    def update(self, params: PyTree, state: BFGSState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        direction, fresh, natural = descending(-state.H @ state.grad, state.grad, state.fresh)
        params, found, fields = self.step_along(direction, natural, params, state, args, kwargs)
        step, change = found.stepsize * direction, found.gradient - state.grad
        H, fresh = _updated(state.H, fresh, step, change)
        # A search that fails forgets the model and begins again with the gradient.
        H = jnp.where(found.accepted, H, jnp.eye(step.size, dtype=step.dtype))
        return OptStep(params, state._replace(**fields, H=H, fresh=fresh | ~found.accepted))

    def one_step(self, params: PyTree, state: BFGSState, *args: Any, **kwargs: Any) -> PyTree:
        """One quasi-Newton step with the last model of the curvature."""
        return self.quasi_newton_step(lambda g: state.H @ g, params, args, kwargs)


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
