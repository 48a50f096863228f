"""Bilevel problems with mini-batches: inner problem, adjoint and outer problem in one loop."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from mdsens.errors import InputError
from mdsens.implicit.derivatives import root_vjp
from mdsens.implicit.linear import Solver
from mdsens.layers.checks import callables, counts, float_array, members
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.trees import dtype_of, norm

__all__ = ["BilevelPoint", "StochasticBilevel", "StochasticBilevelState"]


class BilevelPoint(NamedTuple):
    """The three unknowns of a bilevel problem; likewise the directions in which they move.

    Attributes:
        hyperparams: x of the outer problem.
        params: z of the inner problem.
        adjoint: v, which at the solution is minus the inverse Hessian of the inner loss times the
            gradient of the outer one; with the structure of `params`.
    """

    hyperparams: PyTree
    params: PyTree
    adjoint: PyTree


class StochasticBilevelState(NamedTuple):
    """The state of a stochastic bilevel method.

    Attributes:
        iter_num: iterations done.
        error: norm of the three directions of the last batch together, before its step; only
            of all data is it zero at a solution.
        converged: whether the error is at most the tolerance, once `run` has ended.
        value: outer loss of the last batch, before its step.
        hypergradient: its direction of the hyperparameters, an estimate of the outer gradient.
        optimiser_states: of the outer, inner and adjoint optimiser.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    value: Float[Array, ""]
    hypergradient: PyTree
    optimiser_states: BilevelPoint


@positional("inner_loss", "outer_loss", "inner_optimiser", "outer_optimiser")
class StochasticBilevel(IterativeSolver):
    """min_x F(z*(x), x) where z*(x) minimises G(z, x), from batches of the data of both.

    Every iteration takes one step of each of three problems, all from where the last one has left
    them: of the inner one, of the linear system whose solution is the adjoint of the implicit
    derivative, and of the outer one. So neither the inner problem nor the linear system is ever
    solved from the beginning; both follow the hyperparameters. The step sizes of the outer
    optimiser must be small beside those of the others, and all must decrease, as by a schedule of
    optax, for the noise of the batches to die out.

    Arguments:
        inner_loss: G(params, hyperparams, inner_batch) -> scalar, a mean over the batch, with one
            minimum in `params` nearby at which its Hessian is positive definite.
        outer_loss: F(params, hyperparams, outer_batch) -> scalar.
        inner_optimiser: an optax optimiser for `params`.
        outer_optimiser: one for `hyperparams`.
        adjoint_optimiser: one for the linear system, whose matrix is the Hessian of the inner loss;
            None: as `inner_optimiser`, whose step size suits the same Hessian.
        inner_steps: iterations for each step of the outer problem.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`; the error is the norm of all directions.

    Use `run_iterator(solver.init_point(hyperparams, params), batches)` with an iterator of pairs
    (inner_batch, outer_batch), or `update` in a loop of one's own. `run(point, data)` has the same
    pair of all the data for each iteration, and its solution is differentiable in them.

    z <- z - s grad_z G, v <- v - s (grad_zz G v + grad_z F), x <- x - r (grad_xz G v + grad_x F):
    Dagréou et al. 2022, arXiv 2201.13409, section 2, for `inner_steps=1`; several steps for
    each outer one, warm-started, as in Arbel & Mairal 2022, arXiv 2111.14580.
    """

    inner_loss: Callable[[PyTree, PyTree, Any], Scalar]
    outer_loss: Callable[[PyTree, PyTree, Any], Scalar]
    inner_optimiser: optax.GradientTransformation
    outer_optimiser: optax.GradientTransformation
    adjoint_optimiser: optax.GradientTransformation | None = eqx.field(kw_only=True, default=None)
    inner_steps: int = eqx.field(kw_only=True, default=1)

    def __check_init__(self) -> None:
        callables(self, "inner_loss", "outer_loss")
        counts(self, "inner_steps")
        for name in ("inner_optimiser", "outer_optimiser", "adjoint_optimiser"):
            given = getattr(self, name)
            if not isinstance(given, optax.GradientTransformation | None) or (
                given is None and name != "adjoint_optimiser"
            ):
                raise InputError(f"{name} is a {type(given).__name__}; give an optax optimiser")

    @property
    def optimisers(self) -> BilevelPoint:
        """The optimisers of hyperparameters, parameters and adjoint."""
        adjoint = self.inner_optimiser if self.adjoint_optimiser is None else self.adjoint_optimiser
        return BilevelPoint(self.outer_optimiser, self.inner_optimiser, adjoint)

    def init_point(self, hyperparams: PyTree, params: PyTree) -> BilevelPoint:
        """Where to begin, with an adjoint of zeros.

        Arguments:
            hyperparams: start of the outer problem, a pytree of floating-point arrays.
            params: start of the inner one, likewise.

        Returns:
            The start.

        Raises:
            InputError: for leaves that are no floating-point arrays; of a model that has others,
                such as its activation functions, give the arrays alone (`equinox.partition`,
                `flax.nnx.split`).
        """
        hyperparams = jax.tree.map(lambda leaf: float_array("hyperparams", leaf), hyperparams)
        params = jax.tree.map(lambda leaf: float_array("params", leaf), params)
        return BilevelPoint(hyperparams, params, jax.tree.map(jnp.zeros_like, params))

    def init_state(self, init_params: BilevelPoint, data: Any = None) -> StochasticBilevelState:
        """The state before the first iteration; the data make no difference."""
        del data
        if not isinstance(init_params, BilevelPoint):
            raise InputError(
                f"init_params is a {type(init_params).__name__}; give "
                "solver.init_point(hyperparams, params)"
            )
        states = [o.init(p) for o, p in zip(self.optimisers, init_params, strict=True)]
        infinite = jnp.asarray(jnp.inf, dtype_of(init_params))
        return StochasticBilevelState(
            iter_num=jnp.asarray(0),
            error=infinite,
            converged=jnp.asarray(False),
            value=infinite,
            hypergradient=jax.tree.map(jnp.zeros_like, init_params.hyperparams),
            optimiser_states=BilevelPoint(*states),
        )

    def update(self, params: BilevelPoint, state: StochasticBilevelState, data: Any) -> OptStep:
        """The point and the state after one more iteration.

        Arguments:
            params: the point.
            state: the state.
            data: (inner_batch, outer_batch), as the losses take them.

        Returns:
            Both anew.
        """
        value, directions = self._value_and_directions(params, data)

        def moved(direction: Any, state: Any, point: Any, optimiser: Any) -> tuple[Any, Any]:
            change, state = optimiser.update(direction, state, point)
            return optax.apply_updates(point, change), state

        given = zip(directions, state.optimiser_states, params, self.optimisers, strict=True)
        outer, *others = (functools.partial(moved, *one) for one in given)
        due = (state.iter_num + 1) % self.inner_steps == 0
        kept = (params.hyperparams, state.optimiser_states.hyperparams)
        first = outer() if self.inner_steps == 1 else jax.lax.cond(due, outer, lambda: kept)
        points, states = zip(first, *(other() for other in others), strict=True)
        state = StochasticBilevelState(
            iter_num=state.iter_num + 1,
            error=norm(directions),
            converged=state.converged,
            value=value,
            hypergradient=directions.hyperparams,
            optimiser_states=BilevelPoint(*states),
        )
        return OptStep(BilevelPoint(*points), state)

    def optimality_fun(self, params: BilevelPoint, data: Any) -> BilevelPoint:
        """The three directions, which of all the data vanish at a solution.

        Arguments:
            params: the point.
            data: (inner data, outer data).

        Returns:
            (grad_xz G v + grad_x F, grad_z G, grad_zz G v + grad_z F).
        """
        return self._value_and_directions(params, data)[1]

    def hypergradient(
        self, hyperparams: PyTree, params: PyTree, data: Any, solve: Solver | None = None
    ) -> PyTree:
        """The outer gradient at the inner solution, with the linear system solved to the end.

        What the stochastic directions are held against; of all data it costs one solve of the size
        of `params`.

        Arguments:
            hyperparams: x.
            params: the inner solution z there; off it the result is off by as much.
            data: (inner data, outer data).
            solve: how to solve, as in `mdsens.implicit.root_vjp`.

        Returns:
            The derivative of F(z*(x), x), with the structure of the hyperparameters.

        Raises:
            mdsens.errors.LinearSolveError: where the Hessian of the inner loss is singular, or the
                solve misses its tolerance.

        grad_x F - grad_xz G (grad_zz G)^-1 grad_z F: Blondel et al. 2021, arXiv 2105.15183, sec. 2.
        """
        inner, outer = _pair(data)
        by_params, direct = jax.grad(self.outer_loss, argnums=(0, 1))(params, hyperparams, outer)
        (through,) = root_vjp(
            lambda z, x: jax.grad(self.inner_loss)(z, x, inner),
            params,
            (hyperparams,),
            by_params,
            solve,
            symmetric=True,
            definite=False,
        )
        total: PyTree = jax.tree.map(jnp.add, direct, through)
        return total

    def _value_and_directions(
        self, params: BilevelPoint, data: Any
    ) -> tuple[Float[Array, ""], BilevelPoint]:
        inner, outer = _pair(data)
        x, z, v = params
        # The gradient in both and, along v, its products with both blocks of second derivatives.
        (gradient, _), (product, mixed) = jax.jvp(
            lambda z: jax.grad(self.inner_loss, argnums=(0, 1))(z, x, inner), (z,), (v,)
        )
        slopes = jax.value_and_grad(self.outer_loss, argnums=(0, 1))(z, x, outer)
        value, (by_params, direct) = slopes
        of_adjoint = jax.tree.map(jnp.add, product, by_params)
        of_hyperparams = jax.tree.map(jnp.add, mixed, direct)
        return value, BilevelPoint(of_hyperparams, gradient, of_adjoint)


def _pair(data: Any) -> tuple[Any, Any]:
    inner, outer = members("data", data, ("inner", "outer"))
    return inner, outer
