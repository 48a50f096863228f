"""Solvers of Optimistix as layers: its iterations, our loop, verdict and derivatives."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.implicit.host import arrays_only
from mdsens.layers.checks import booleans
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.trees import dtype_of

__all__ = ["OptimistixSolver", "OptimistixState"]


class OptimistixState(NamedTuple):
    """The state of a solver of Optimistix.

    Attributes:
        iter_num: iterations done.
        error: norm of the condition.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        internal_state: Optimistix's own.
        aux: auxiliary output of the function where it was evaluated last.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    internal_state: Any
    aux: Any


class OptimistixSolver(IterativeSolver):
    """A solver whose iterations are those of Optimistix.

    It stops by its condition, the same for all solvers, and not by the size of a step. Subclasses
    give Optimistix's `solver`, what it works on (`evaluate`) and the condition.

    Arguments:
        has_aux: the function it works on returns `(value, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve: as in `IterativeSolver`.
    """

    has_aux: bool = eqx.field(kw_only=True, default=False)

    def __check_init__(self) -> None:
        booleans(self, "has_aux")

    @property
    @abc.abstractmethod
    def solver(
        self,
    ) -> (
        optimistix.AbstractRootFinder[Any, Any, Any, Any]
        | optimistix.AbstractLeastSquaresSolver[Any, Any, Any, Any]
    ):
        """The solver of Optimistix."""

    @abc.abstractmethod
    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """The value of the function that Optimistix works on, and the auxiliary output."""

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> OptimistixState:
        """The state before the first iteration."""
        evaluate, words = self._for_optimistix(args, kwargs)
        value, aux = jax.eval_shape(lambda params: evaluate(params, None), init_params)
        internal = self.solver.init(evaluate, init_params, None, {}, value, aux, frozenset())
        return OptimistixState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, dtype_of(init_params)),
            converged=jnp.asarray(False),
            internal_state=internal,
            aux=eqx.combine(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), aux), words[0]),
        )

    def update(self, params: PyTree, state: OptimistixState, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""
        evaluate, words = self._for_optimistix(args, kwargs)
        params, internal, aux = self.solver.step(
            evaluate, params, None, {}, state.internal_state, frozenset()
        )
        state = OptimistixState(
            iter_num=state.iter_num + 1,
            error=self.l2_optimality_error(params, *args, **kwargs),
            converged=state.converged,
            internal_state=internal,
            aux=eqx.combine(aux, words[0]),
        )
        return OptStep(params, state)

    def _for_optimistix(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[Any, Any], Any], list[Any]]:
        """The function as Optimistix calls it, and what of its auxiliary output is no array."""
        words: list[Any] = [None]

        def evaluate(params: PyTree, _: Any) -> tuple[PyTree, Any]:
            value, aux = self.evaluate(params, *args, **kwargs)
            aux, words[0] = arrays_only(aux)
            return value, jax.tree.map(jnp.asarray, aux)

        return evaluate, words
