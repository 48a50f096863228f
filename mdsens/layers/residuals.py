"""What solvers of F(x) = 0 and of least squares share: flat residuals."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import lineax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdsens.implicit.backends import probe
from mdsens.layers.checks import booleans
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.trees import dtype_of, norm

__all__ = ["ResidualSolver", "ResidualState", "shortest_solution"]


class ResidualState(NamedTuple):
    """The state of a method of Newton's kind.

    Attributes:
        iter_num: iterations done.
        error: what is compared with the tolerance.
        converged: whether the error is at most the tolerance, once the iterations have ended.
        aux: auxiliary output of the function where it was evaluated last.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]
    converged: Bool[Array, ""]
    aux: Any


class ResidualSolver(IterativeSolver):
    """A solver that works on a pytree of residuals and their Jacobian.

    Arguments:
        has_aux: the function it works on returns `(residuals, aux)`.
        maxiter, tol, throw, derivative, implicit_diff_solve, implicit_diff, verbose, jit, unroll:
            as in `IterativeSolver`.
    """

    has_aux: bool = eqx.field(kw_only=True, default=False)

    def __check_init__(self) -> None:
        booleans(self, "has_aux")

    @abc.abstractmethod
    def evaluate(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[PyTree, Any]:
        """The residuals and the auxiliary output, None without."""

    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> Any:
        """The state before the first iteration."""
        return ResidualState(
            iter_num=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, dtype_of(init_params)),
            converged=jnp.asarray(False),
            aux=self.evaluate(init_params, *args, **kwargs)[1] if self.has_aux else None,
        )

    def flat_residual(
        self, params: PyTree, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[Float[Array, " n"]], Float[Array, " m"]]:
        """The residuals, flattened, as a function of flattened parameters."""
        unravel = ravel_pytree(params)[1]

        def residual(x: Array) -> Array:
            values, _ = self.evaluate(unravel(x), *args, **kwargs)
            return ravel_pytree(jax.tree.map(jnp.asarray, values))[0]

        return residual


def shortest_solution(
    matrix: Float[Array, "m n"], right: Float[Array, " m"], any_rank: bool = False
) -> Float[Array, " n"]:
    """The least-squares solution, the shortest of several; of any rank only where that is said."""
    operator = lineax.MatrixLinearOperator(matrix)
    solver = lineax.AutoLinearSolver(well_posed=None)
    # One factorisation for two right-hand sides; its derivatives are those of the matrix.
    state = solver.init(lineax.MatrixLinearOperator(jax.lax.stop_gradient(matrix)), {})

    def factorised(right: Array) -> Array:
        solution = lineax.linear_solve(operator, right, solver, state=state, throw=False)
        value: Array = solution.value
        return value

    if not any_rank:
        return factorised(right)
    # A vector without structure tells a matrix that is singular, whatever the right-hand side is.
    test = probe(len(right), right.dtype)
    growth = norm(matrix) * norm(jax.lax.stop_gradient(factorised(test)))
    dependent = ~(growth * max(matrix.shape) * jnp.finfo(right.dtype).eps <= norm(test))
    dependent |= ~jnp.any(matrix != 0)

    def of_any_rank() -> Array:
        solution = lineax.linear_solve(operator, right, lineax.SVD(), throw=False)
        return jnp.where(dependent, solution.value, jnp.where(dependent, 0, factorised(right)))

    # One condition for all elements of a vmap: singular values take several times as long.
    return jax.lax.cond(eqxi.unvmap_any(dependent), of_any_rank, lambda: factorised(right))
