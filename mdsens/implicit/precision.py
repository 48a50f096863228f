"""How wrong is an implicit derivative that was taken at an approximate solution."""

import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from mdsens.arrays import in_numpy
from mdsens.errors import InputError
from mdsens.implicit import backends
from mdsens.implicit.arguments import stacked_count
from mdsens.implicit.block_solver import BlockSolver, solve_block
from mdsens.implicit.derivatives import SolveOptions, SolverAt, jvp_solution
from mdsens.implicit.linear import DENSE_LIMIT, Solver
from mdsens.implicit.linearisation import directional_change
from mdsens.implicit.null_space import flat_null_space, project_out
from mdsens.implicit.refinement import refined_jvp
from mdsens.values import is_traced

__all__ = [
    "JacobianBound",
    "JacobianError",
    "jacobian_error_bound",
    "jacobian_error_estimate",
    "newton_step",
]


class JacobianError(eqx.Module):
    """An implicit derivative at an approximate solution, and an estimate of its error.

    Attributes:
        absolute: estimated norm of the error of `derivative`.
        relative: the same divided by the norm of `corrected`; 0 if both are 0.
        derivative: the derivative at the approximate solution.
        corrected: the derivative after one Newton step, with an error of second order.
        solution_error: norm of the Newton step, an estimate of the error of the solution.
        residual: relative residual of the linear solve for `derivative`.
        left: norm of what `derivative` leaves of the linear system after the Newton step.

    Of K directions all but `solution_error` have an extra leading axis.
    """

    absolute: Float[Array | np.ndarray, "*K"]
    relative: Float[Array | np.ndarray, "*K"]
    derivative: PyTree[Float[Array | np.ndarray, "..."]]
    corrected: PyTree[Float[Array | np.ndarray, "..."]]
    solution_error: Float[Array | np.ndarray, ""]
    residual: Float[Array | np.ndarray, "*K"]
    left: Float[Array | np.ndarray, "*K"]


def jacobian_error_estimate(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    *,
    improved: PyTree = None,
    change: PyTree = None,
    left_by: Callable[[PyTree], PyTree] | None = None,
    **options: Any,
) -> JacobianError:
    """Estimate the error of the implicit derivative at a point that solves F = 0 only nearly.

    With J the derivative as a function of the point x where it is evaluated, the error of J(x) is
    at most a constant times the error of x (Blondel et al. 2021, arXiv 2105.15183, theorem 1;
    `jacobian_error_bound`). Here that error itself is estimated: one Newton step
    d = -(dF/dx)^-1 F(x) leaves an error of second order, and so does J(x) refined at x + d once
    (`refined_jvp`), which takes the error of the linear solve along: their difference is the error
    of J(x) up to second order. It needs two linear solves more than the derivative, with the same
    matrix.

    Arguments:
        optimality_fun: F, as in `custom_root`.
        sol: the approximate solution, a pytree of floating-point arrays.
        args: the other arguments of F.
        tangents: one direction for each, or K, as in `root_jvp`.
        solve: how to solve the linear systems, as in `root_jvp`.
        improved: the point after the Newton step, where it is known; `None`: it is computed.
        change: as in `jvp_solution`.
        left_by: as in `refined_jvp`, after the Newton step.
        **options: the other `SolveOptions`.

    Returns:
        A `JacobianError`; in NumPy where the solver is, and nothing is traced.

    Raises:
        As `root_jvp`.
    """
    sol = jax.tree.map(jnp.asarray, sol)
    if not isinstance(solve, BlockSolver):
        solve = SolveOptions.of(solve, options).smallest().at(optimality_fun, sol, args)
    roughly = solve.roughly()
    if improved is None:
        improved = newton_step(optimality_fun, sol, args, roughly)
    found = jvp_solution(optimality_fun, sol, args, tangents, solve, change=change)
    corrected, left = refined_jvp(
        optimality_fun, improved, args, tangents, found.value, roughly, left_by
    )
    sol, improved, derivative = in_numpy((sol, improved, found.value))
    several = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(derivative)) is not None
    absolute = _norms(jax.tree.map(operator.sub, corrected, derivative), several)
    size = _norms(corrected, several)
    where = jnp.where if is_traced(size) else np.where
    relative = where((size == 0) & (absolute > 0), np.inf, absolute / where(size > 0, size, 1.0))
    distance = _norms(jax.tree.map(operator.sub, improved, sol), several=False)
    left = _norms(in_numpy(left), several)
    absolute, relative, distance, left = in_numpy((absolute, relative, distance, left))
    return JacobianError(absolute, relative, derivative, corrected, distance, found.residual, left)


class JacobianBound(eqx.Module):
    """A bound of the error of an implicit derivative, and what it is made of.

    Attributes:
        absolute: largest norm that the error of the derivative can have.
        constant: the same per distance from the solution, C = beta / alpha + gamma R / alpha^2.
        alpha: smallest singular value of A = -dF/dx, apart from its null space.
        beta: change of B = dF/dtheta v per distance.
        gamma: change of A per distance, in the spectral norm.
        R: norm of B.
        solution_error: distance from the solution.
    """

    absolute: Float[Array, ""]
    constant: Float[Array, ""]
    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    gamma: Float[Array, ""]
    R: Float[Array, ""]
    solution_error: Float[Array, ""]


def jacobian_error_bound(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | SolverAt | SolveOptions | None = None,
    *,
    solution_error: Float[Array, ""] | float | None = None,
    **options: Any,
) -> JacobianBound:
    """Bound the error of the implicit derivative by the error of the solution.

    The theorem's constants hold in a neighbourhood; here they are evaluated at the approximate
    solution and along the Newton step, which points to the solution. The bound is therefore
    rigorous where F is quadratic, and otherwise up to second order in the error. It needs dense
    matrices; `jacobian_error_estimate` does not, and is closer to the error.

    Arguments:
        optimality_fun: F, as in `custom_root`.
        sol: the approximate solution, a pytree of at most `linear.DENSE_LIMIT` numbers.
        args: the other arguments of F.
        tangents: one direction for each, as in `root_jvp`.
        solve: how to solve the linear systems, as in `custom_root`; or all `SolveOptions`.
        solution_error: distance of `sol` from the solution, where it is known; `None`: the length
            of the Newton step.
        **options: the other `SolveOptions`.

    Returns:
        A `JacobianBound`.

    Raises:
        InputError: if there are too many unknowns, and what `root_jvp` raises.

    |J(x) - J(x*)| <= (beta / alpha + gamma R / alpha^2) |x - x*|: Blondel et al. 2021, arXiv
    2105.15183, theorem 1.
    """
    sol = jax.tree.map(jnp.asarray, sol)
    flat, unravel = ravel_pytree(sol)
    if flat.size > DENSE_LIMIT:
        raise InputError(
            f"sol has {flat.size} numbers; allowed are {DENSE_LIMIT}, since the bound needs a "
            "dense matrix: use jacobian_error_estimate."
        )
    improved = newton_step(optimality_fun, sol, args, solve, **options)
    step = ravel_pytree(improved)[0] - flat
    length = jnp.linalg.norm(step)
    anywhere = backends.probe(flat.size, flat.dtype)
    direction = jnp.where(length > 0, step, anywhere)
    direction = direction / jnp.linalg.norm(direction)
    basis = flat_null_space(SolveOptions.of(solve, options).null_vectors(sol, args), sol)

    def condition(x: Array) -> Array:
        return ravel_pytree(optimality_fun(unravel(x), *args))[0]

    def matrix(x: Array) -> Array:
        def product(v: Array) -> Array:
            return jax.jvp(condition, (x,), (v,))[1]

        return backends.materialise(product, flat.size, flat.dtype)

    def right(x: Array) -> Array:
        change = directional_change(optimality_fun, unravel(x), args, tangents)
        return project_out(basis, ravel_pytree(change)[0])

    A, A_change = jax.jvp(matrix, (flat,), (direction,))
    B, B_change = jax.jvp(right, (flat,), (direction,))
    values = jnp.linalg.svd(A, compute_uv=False)
    # The smallest ones belong to the null space.
    nullity = 0 if basis is None else jnp.sum(jnp.sum(basis**2, axis=1) > 0.5)
    alpha = values[flat.size - 1 - nullity]
    beta, R = jnp.linalg.norm(B_change), jnp.linalg.norm(B)
    gamma = jnp.linalg.norm(A_change, 2)
    constant = beta / alpha + gamma * R / alpha**2
    distance = length if solution_error is None else jnp.asarray(solution_error)
    return JacobianBound(constant * distance, constant, alpha, beta, gamma, R, distance)


def newton_step(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    **options: Any,
) -> PyTree:
    """The point after one Newton step on F(x, *args) = 0, of smallest norm in the null space.

    Arguments:
        optimality_fun: F, as in `custom_root`.
        sol: an approximate solution, a pytree of floating-point arrays.
        args: the other arguments of F.
        solve: how to solve the linear system, as in `root_jvp`.
        **options: the other `SolveOptions`.

    Returns:
        x - (dF/dx)^-1 F(x), with the structure of `sol`.

    Raises:
        As `root_jvp`.
    """
    right = jax.tree.map(lambda f, x: -f.astype(x.dtype), optimality_fun(sol, *args), sol)
    # What F has in the null space, no step can remove.
    if not isinstance(solve, BlockSolver):
        solve = SolveOptions.of(solve, options).smallest().at(optimality_fun, sol, args)
    step = solve_block(solve.solve, right, several=False).value
    return jax.tree.map(jnp.add, sol, step)


def _norms(tree: PyTree, several: bool) -> Any:
    """The norm of a tree, or of each of K along an extra leading axis."""
    first = int(several)
    leaves = [leaf.reshape(*leaf.shape[:first], -1) for leaf in jax.tree.leaves(tree)]
    return sum((leaf**2).sum(axis=-1) for leaf in leaves) ** 0.5
