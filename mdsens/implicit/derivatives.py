"""One derivative of a solution of F(x, theta) = 0, along a direction or against a cotangent.

The implicit function theorem gives A J = B with A = -dF/dx and B = dF/dtheta (Blondel et al. 2021,
arXiv 2105.15183, equation 2).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mdsens.errors import InputError
from mdsens.implicit.arguments import directions_of, stacked_count, zero_tangents
from mdsens.implicit.block_solver import BlockSolver, solve_block
from mdsens.implicit.linear import LinearSolution, Solver
from mdsens.implicit.linear import solve as linear_solve
from mdsens.implicit.linear_map import LinearMap
from mdsens.implicit.linearisation import (
    compiled_change,
    compiled_pull_back,
    directional_change,
    linearise,
    pull_back,
    transposed_product,
)
from mdsens.implicit.proximal_system import ProximalSystem
from mdsens.values import choice

__all__ = [
    "SolveOptions",
    "SolverAt",
    "jvp_solution",
    "root_jvp",
    "root_vjp",
    "vjp_solution",
]

NullSpace: TypeAlias = PyTree | Callable[..., PyTree] | None
Preconditioner: TypeAlias = Callable[..., Callable[[PyTree], PyTree]] | None


@dataclasses.dataclass(frozen=True)
class SolverAt:
    """A linear solver that is made for each solution.

    Attributes:
        function: (sol, *args) -> a solver as in `mdsens.implicit.linear.solve`, or `None`.
        of_numbers: (condition, sol, varied, *args) -> a `BlockSolver`, asked for outside `jit`,
            where nothing is traced but the tangents; condition(sol, varied) is F as a function of
            those arguments that have any. `None`: there as inside.
    """

    function: Callable[..., Solver | None]
    of_numbers: Callable[..., BlockSolver] | None = None


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    """How the linear systems of a derivative are solved, and what is known of dF/dx.

    Attributes:
        solve: as in `custom_root`, as are all that follow.
        symmetric: dF/dx is symmetric.
        definite: a symmetric dF/dx is also definite, apart from its null space.
        null_space: vectors that span the null space of a symmetric dF/dx, or a function
            `(sol, *args)` that gives them.
        least_squares: where dF/dx is singular and the right-hand side leaves its range, the
            solution of smallest residual and norm instead of an error.
        preconditioner: a function `(sol, *args)` that returns v -> approximately (dF/dx)^-1 v.
    """

    solve: Solver | SolverAt | None = None
    symmetric: bool = False
    definite: bool = True
    null_space: NullSpace = None
    least_squares: bool = False
    preconditioner: Preconditioner = None

    @classmethod
    def of(
        cls, solve: "Solver | SolverAt | SolveOptions | None", others: Mapping[str, Any]
    ) -> "SolveOptions":
        """The options as they are, or those of a solver and the others by name.

        Arguments:
            solve: all options, or the first of them.
            others: the others by name.

        Returns:
            The SolveOptions.

        Raises:
            InputError: a name that is none of an option, or others beside all options.
        """
        if not isinstance(solve, SolveOptions):
            allowed = [field.name for field in dataclasses.fields(cls) if field.name != "solve"]
            for name in others:
                choice(name, "a keyword argument", allowed)
            return cls(solve, **others)
        if others:
            raise InputError(
                f"solve holds all options, and {', '.join(others)} beside it: give one or the other"
            )
        return solve

    def smallest(self) -> "SolveOptions":
        """These options, with the solution of smallest residual and norm of a singular system."""
        return dataclasses.replace(self, least_squares=True)

    def null_vectors(self, sol: PyTree, args: tuple[Any, ...]) -> PyTree:
        """The vectors of the null space at a solution; None where none are known."""
        return self.null_space(sol, *args) if callable(self.null_space) else self.null_space

    def at(
        self,
        optimality_fun: Callable[..., PyTree],
        sol: PyTree,
        args: tuple[Any, ...],
    ) -> BlockSolver:
        """The solver at one solution, for any number of right-hand sides.

        Arguments:
            optimality_fun: F.
            sol: the solution, or a point near it.
            args: the other arguments of F.

        Returns:
            A BlockSolver, which raises what `mdsens.implicit.linear.solve` does.
        """
        return _SolverByOptions(self, sol, args, linearise(optimality_fun, sol, args))

    def solution(
        self,
        sol: PyTree,
        args: tuple[Any, ...],
        matvec: Callable[[PyTree], PyTree],
        right: PyTree,
        transpose: bool = False,
        several: bool = False,
    ) -> LinearSolution:
        """Solve dF/dx v = right at a solution, or the transposed system.

        Arguments:
            sol: the solution of F(sol, *args) = 0.
            args: the other arguments of F.
            matvec: v -> dF/dx v, transposed where that is asked for.
            right: the right-hand side, with the structure of `sol`.
            transpose: whether the system is the transposed one, to which the preconditioner of a
                dF/dx that is not symmetric must be fitted.
            several: whether there are K right-hand sides, along an extra leading axis.

        Returns:
            The LinearSolution.

        Raises:
            LinearSolveError: as `mdsens.implicit.linear.solve`.
        """
        solver = self.solve
        if isinstance(solver, SolverAt):
            solver = solver.function(sol, *args)
        if isinstance(solver, ProximalSystem) and transpose:
            solver = solver.transposed()
        inverse = None if self.preconditioner is None else self.preconditioner(sol, *args)
        if inverse is not None and transpose and not self.symmetric:
            inverse = transposed_product(inverse, sol)
        return linear_solve(
            matvec,
            right,
            solver=solver,
            several=several,
            symmetric=self.symmetric,
            definite=self.definite,
            null_space=self.null_vectors(sol, args),
            least_squares=self.least_squares,
            preconditioner=inverse,
        )


class _SolverByOptions(BlockSolver):
    """Solves with dF/dx at one solution as the options say."""

    def __init__(
        self,
        how: SolveOptions,
        sol: PyTree,
        args: tuple[Any, ...],
        matvec: Callable[[PyTree], PyTree],
    ) -> None:
        self._how, self._given = how, (sol, args, matvec)

    def solve(self, columns: PyTree[Float[Array | np.ndarray, "K ..."]]) -> LinearSolution:
        """As of every BlockSolver."""
        return self._how.solution(*self._given, columns, several=True)

    def solve_transposed(
        self, columns: PyTree[Float[Array | np.ndarray, "K ..."]]
    ) -> LinearSolution:
        """As of every BlockSolver."""
        sol, args, matvec = self._given
        transposed = matvec if self._how.symmetric else transposed_product(matvec, sol)
        return self._how.solution(sol, args, transposed, columns, transpose=True, several=True)


def root_jvp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    **options: Any,
) -> PyTree:
    """Derivative of the solution of F(sol, *args) = 0 along directions of the arguments.

    One direction, or K of them at once, which share what is set up to solve for them.

    Arguments:
        optimality_fun: F, as in `custom_root`.
        sol: the solution, a pytree of floating-point arrays.
        args: the other arguments of F.
        tangents: one direction per argument, each with the structure of that argument; `None`, for
            a whole argument or a leaf of it, means no change. For K directions all leaves have an
            extra leading axis of length K.
        solve: how to solve the linear system, as in `custom_root`; or all `SolveOptions`; or a
            `BlockSolver` that is made for `sol`.
        **options: the other `SolveOptions`.

    Returns:
        The tangent J v of the solution, with the structure of `sol`; for K directions K of them,
        along an extra leading axis of every leaf.

    Raises:
        InputError: if `args` and `tangents` differ in length, structure or shapes or F has not the
            shape of `sol`.
        LinearSolveError: as `mdsens.implicit.linear.solve`.

    Solves dF/dx (J v) = -dF/dtheta v: Blondel et al. 2021, arXiv 2105.15183, equation 2.
    """
    return jvp_solution(optimality_fun, sol, args, tangents, solve, **options).value


def response_of_numbers(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    options: SolveOptions,
) -> PyTree:
    """`root_jvp` by the `BlockSolver` of a solution, also where the tangents are traced.

    Arguments:
        optimality_fun: as in `root_jvp`, as are all that follow.
        sol: the solution, numbers.
        args: the other arguments of F, likewise.
        tangents: one direction per argument, which may be traced.
        options: whose `solve` is a `SolverAt` with `of_numbers`; made when it is first needed.

    Returns:
        The tangent of the solution.
    """
    assert isinstance(options.solve, SolverAt)
    assert options.solve.of_numbers is not None
    of_numbers = options.solve.of_numbers
    leaves, structure = jax.tree.flatten(args)
    directions = directions_of(args, tangents)
    varies = [direction is not None for direction in directions]

    def chosen(wanted: bool) -> Any:
        pairs = zip(leaves, varies, strict=True)
        return jax.tree.unflatten(
            structure, [leaf if known == wanted else None for leaf, known in pairs]
        )

    varied = jax.tree.map(jnp.asarray, chosen(True))
    condition = jax.tree_util.Partial(_of_varied, optimality_fun, chosen(False))

    @functools.cache
    def solver() -> BlockSolver:
        return of_numbers(condition, sol, varied, *args)

    def forwards(directions: PyTree) -> PyTree:
        return root_jvp(condition, sol, (varied,), (directions,), solver())

    def backwards(cotangents: PyTree) -> PyTree:
        return root_vjp(condition, sol, (varied,), cotangents, solver())[0]

    def traced(directions: PyTree) -> PyTree:
        return root_jvp(optimality_fun, sol, args, directions, options)

    response = LinearMap(forwards, backwards, traced, varied, sol)
    return response(jax.tree.unflatten(structure, directions))


def _of_varied(
    optimality_fun: Callable[..., PyTree], constant: PyTree, sol: PyTree, varied: PyTree
) -> PyTree:
    return optimality_fun(sol, *eqx.combine(varied, constant))


def jvp_solution(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    *,
    change: PyTree = None,
    **options: Any,
) -> LinearSolution:
    """The linear solution behind `root_jvp`: the tangent, and how well its system was solved.

    Arguments:
        optimality_fun: as in `root_jvp`, as are all but the last.
        sol: the solution.
        args: the other arguments of F.
        tangents: one direction per argument, or several.
        solve: how to solve the linear system.
        change: dF/dtheta along the tangents where it is known, and `solve` is a `BlockSolver`;
            `None`: it is computed.
        **options: the other `SolveOptions`.

    Returns:
        A `LinearSolution`, whose value is the tangent; of K, with an extra leading axis.

    Raises:
        As `root_jvp`.
    """
    directions = directions_of(args, tangents)
    if not any(direction is not None for direction in directions):
        nothing = jnp.zeros(())
        return LinearSolution(zero_tangents(sol), nothing, nothing, jnp.asarray(0))
    several = stacked_count(jax.tree.leaves(tuple(args)), directions) is not None
    if isinstance(solve, BlockSolver):
        if change is None:
            apart = solve.one_by_one
            change = compiled_change(optimality_fun, sol, args, tangents, one_by_one=apart)
        return solve_block(solve.solve, jax.tree.map(lambda c: -c, change), several)
    matvec = linearise(optimality_fun, sol, args)
    change = directional_change(optimality_fun, sol, args, tangents)
    right = jax.tree.map(lambda c, x: -c.astype(jnp.result_type(x)), change, sol)
    return SolveOptions.of(solve, options).solution(sol, args, matvec, right, several=several)


def root_vjp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    cotangent: PyTree,
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    **options: Any,
) -> tuple[Any, ...]:
    """Derivative of <cotangent, solution of F(sol, *args) = 0> in all arguments.

    Of one cotangent, or of K at once, which share what is set up to solve for them.

    Arguments:
        optimality_fun: F, as in `custom_root`.
        sol: the solution, a pytree of floating-point arrays.
        args: the other arguments of F.
        cotangent: weights of the solution, with the structure of `sol`; for K cotangents with an
            extra leading axis of length K on every leaf.
        solve: how to solve the linear system, as in `custom_root`; or all `SolveOptions`; or a
            `BlockSolver` that is made for `sol`.
        **options: the other `SolveOptions`; `least_squares` makes no difference.

    Returns:
        A tuple with one cotangent per argument, each with the structure of that argument and `None`
        for leaves that are not floating-point numbers; for K cotangents with an extra leading axis
        on every leaf.

    Raises:
        As `root_jvp`.

    Solves A^T u = cotangent with A = -dF/dx and returns u^T dF/dtheta: Blondel et al. 2021, arXiv
    2105.15183, section 2.1.
    """
    return vjp_solution(optimality_fun, sol, args, cotangent, solve, **options)[0]


def vjp_solution(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    cotangent: PyTree,
    solve: Solver | SolverAt | SolveOptions | BlockSolver | None = None,
    *,
    pull: Callable[[PyTree], tuple[Any, ...]] | None = None,
    **options: Any,
) -> tuple[tuple[Any, ...], LinearSolution]:
    """The cotangents of `root_vjp`, and the linear solution behind them.

    Arguments:
        optimality_fun: as in `root_vjp`, as are all but the last.
        sol: the solution.
        args: the other arguments of F.
        cotangent: weights of the solution, of one cotangent or several.
        solve: how to solve the linear system.
        pull: what gives w^T dF/dtheta for the solution w, where there is more to say than of any F,
            and `solve` is a `BlockSolver`; `None`: it is computed.
        **options: the other `SolveOptions`.

    Returns:
        What `root_vjp` returns, and a `LinearSolution` whose value is minus u, or K of these.

    Raises:
        As `root_vjp`.
    """
    several = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(cotangent)) is not None
    if isinstance(solve, BlockSolver):
        right = jax.tree.map(lambda c: -c, cotangent)
        solution = solve_block(solve.solve_transposed, right, several)
        if pull is not None:
            return pull(solution.value), solution
        return compiled_pull_back(optimality_fun, sol, args, solution.value), solution
    right = jax.tree.map(lambda c, x: -jnp.asarray(c, jnp.result_type(x)), cotangent, sol)
    matvec = linearise(optimality_fun, sol, args)
    # A part of the cotangent in the null space is met by no tangent: it has no effect.
    how = SolveOptions.of(solve, options).smallest()
    transposed = matvec if how.symmetric else transposed_product(matvec, sol)
    solution = how.solution(sol, args, transposed, right, transpose=True, several=several)
    return pull_back(optimality_fun, sol, args, solution.value), solution
