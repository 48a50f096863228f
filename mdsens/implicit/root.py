"""Derivatives of the solution of an optimality condition F(x, theta) = 0.

The implicit function theorem gives A J = B with A = -dF/dx and B = dF/dtheta (Blondel et al. 2021,
arXiv 2105.15183, equation 2). Names and the order of arguments follow JAXopt 0.8.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mdsens.implicit.arguments import (
    bind_arguments,
    directions_of,
    floats_to_arrays,
    hashable,
    is_differentiable,
    is_symbolic_zero,
    without_zeros,
    zero_tangents,
)
from mdsens.implicit.closures import closes_over_tracers, hoist
from mdsens.implicit.linear import LinearSolution, Solver
from mdsens.implicit.linear import solve as linear_solve

__all__ = [
    "custom_fixed_point",
    "custom_root",
    "jvp_solution",
    "root_jvp",
    "root_vjp",
    "vjp_solution",
]

NullSpace: TypeAlias = PyTree | Callable[..., PyTree] | None


def custom_root(
    optimality_fun: Callable[..., PyTree],
    has_aux: bool = False,
    solve: Solver | None = None,
    reference_signature: Callable | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
) -> Callable[[Callable], Callable]:
    """Make a solver differentiable through the condition that its solutions fulfil.

    The decorated `solver(init_params, *args, **kwargs)` returns what it returned before; its
    derivatives, in both modes and of any order, are those of the solution. The solver itself is
    never differentiated, so it may be host code (NumPy, SciPy) as long as it is not under
    `jax.jit` or `jax.vmap`. There is no derivative in `init_params`. Traced values that a solver
    or condition written in JAX closes over are differentiated like arguments, but compiled anew
    in every call: arguments are better.

    **Arguments:**

    - `optimality_fun`: F(sol, *args, **kwargs), traceable by JAX, zero at the solution, with the
      structure and shapes of `sol`.
    - `has_aux`: the solver returns `(sol, aux)`; `aux` has zero derivatives.
    - `solve`: how to solve the linear systems, as in `mdsens.implicit.linear.solve`; `None` means
      dense up to `linear.DENSE_LIMIT` unknowns and iterative above. Also a function
      `solve(matvec, b)` as in JAXopt.
    - `reference_signature`: a function whose signature tells the position at which a keyword
      argument reaches `optimality_fun`; `None`: that of `optimality_fun`.
    - `symmetric`: dF/dx is symmetric, as it is when F is a gradient.
    - `null_space`: vectors that span the null space of a symmetric dF/dx, with the structure of
      `sol` and an extra leading axis on every leaf, or a function `(sol, *args)` that gives them;
      the derivative is then the one of smallest norm.

    **Returns:** a decorator for `solver`.

    **Raises:** `TypeError` if keyword arguments do not fit the signature, `ValueError` if F has
    not the shape of the solution; when a derivative is evaluated, `LinearSolveError` or the
    runtime's error with the same message.
    """
    signature_of = optimality_fun if reference_signature is None else reference_signature

    def bind(function: Callable) -> Callable:
        """Call `function` as the condition from the arguments that the solver was given."""

        def call(sol: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
            if not kwargs:
                return function(sol, *args)
            bound = bind_arguments(signature_of, sol, args, kwargs)
            return function(*bound.args, **bound.kwargs)

        return call

    condition = bind(optimality_fun)
    vectors = bind(null_space) if callable(null_space) else null_space

    def tangent_of_solution(sol: Any, arguments: Any, tangents: Any) -> Any:
        return root_jvp(
            condition, sol, arguments, tangents, solve, symmetric=symmetric, null_space=vectors
        )

    # Compiled once per decorated solver and kind of arguments: the rule evaluates F many times.
    compiled_tangent = eqx.filter_jit(tangent_of_solution)

    def with_explicit_closures(solver: Callable, init_params: Any, arguments: Any) -> Any:
        """The same call with what solver and condition close over among the arguments."""
        dynamic, static = eqx.partition(arguments, eqx.is_array)
        initial, static_initial = eqx.partition(init_params, eqx.is_array)

        def call_solver(initial: Any, dynamic: Any) -> Any:
            args, kwargs = eqx.combine(dynamic, static)
            result = solver(eqx.combine(initial, static_initial), *args, **kwargs)
            return result if has_aux else (result, None)

        def call_null_space(sol: Any, dynamic: Any, _: Any) -> Any:
            return vectors(sol, *eqx.combine(dynamic, static)) if callable(vectors) else vectors

        @custom_root(
            lambda sol, dynamic, functions: functions[1](sol, dynamic),
            has_aux=True,
            solve=solve,
            symmetric=symmetric,
            null_space=None if null_space is None else call_null_space,
        )
        def explicit(initial: Any, dynamic: Any, functions: Any) -> Any:
            return functions[0](initial, dynamic)

        functions = hoist(
            call_solver,
            lambda sol, dynamic: condition(sol, *eqx.combine(dynamic, static)),
            initial,
            dynamic,
        )
        result = explicit(initial, dynamic, functions)
        return result if has_aux else result[0]

    def decorate(solver: Callable) -> Callable:
        @functools.wraps(solver)
        def differentiable_solver(init_params: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs:
                bind_arguments(signature_of, init_params, args, kwargs)
            if closes_over_tracers(null_space):
                raise ValueError(
                    "null_space closes over traced values; pass a function (sol, *args) of the "
                    "solver's arguments instead."
                )
            if closes_over_tracers(solver, optimality_fun):
                return with_explicit_closures(solver, init_params, (args, kwargs))
            # Whatever is not a JAX array cannot carry a derivative and reaches the solver as is.
            dynamic, static = eqx.partition((init_params, args, kwargs), eqx.is_array)
            # What the solver reports beside arrays (words, objects) travels around JAX.
            remarks: list[Any] = [None]

            @jax.custom_jvp
            def run(dynamic: Any) -> Any:
                init, run_args, run_kwargs = eqx.combine(dynamic, static)
                result = solver(init, *run_args, **run_kwargs)
                sol, aux = result if has_aux else (result, None)
                aux, remarks[0] = eqx.partition(aux, eqx.is_array_like)
                return jax.tree.map(jnp.asarray, (sol, aux))

            @functools.partial(run.defjvp, symbolic_zeros=True)
            def rule(primals: Any, tangents: Any) -> Any:
                (dynamic,), ((_, *directions),) = primals, tangents
                sol, aux = run(dynamic)
                _, *arguments = eqx.combine(dynamic, static)
                directions = jax.tree.map(without_zeros, directions, is_leaf=is_symbolic_zero)
                evaluate = compiled_tangent if hashable(static) else tangent_of_solution
                if jax.tree.leaves(directions):
                    arguments = jax.tree.map(floats_to_arrays, arguments)
                    sol_dot = evaluate(sol, tuple(arguments), tuple(directions))
                else:
                    sol_dot = zero_tangents(sol)
                return (sol, aux), (sol_dot, zero_tangents(aux))

            sol, aux = run(dynamic)
            return (sol, eqx.combine(aux, remarks[0])) if has_aux else sol

        return differentiable_solver

    return decorate


def custom_fixed_point(
    fixed_point_fun: Callable[..., PyTree],
    has_aux: bool = False,
    solve: Solver | None = None,
    reference_signature: Callable | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
) -> Callable[[Callable], Callable]:
    """Make a solver differentiable through the map T of which its solutions are fixed points.

    **Arguments:**

    - `fixed_point_fun`: T(sol, *args, **kwargs), equal to `sol` at the solution.
    - The others are those of `custom_root`, for the residual T(x, theta) - x.

    **Returns:** a decorator for `solver(init_params, *args, **kwargs)`.

    **Raises:** what `custom_root` raises.

    Blondel et al. 2021, arXiv 2105.15183, equation 3.
    """

    def residual(sol: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.tree.map(jnp.subtract, fixed_point_fun(sol, *args, **kwargs), sol)

    return custom_root(
        residual,
        has_aux,
        solve,
        fixed_point_fun if reference_signature is None else reference_signature,
        symmetric=symmetric,
        null_space=null_space,
    )


def root_jvp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
) -> PyTree:
    """Derivative of the solution of F(sol, *args) = 0 along one direction of the arguments.

    **Arguments:**

    - `optimality_fun`, `solve`, `symmetric`, `null_space`: as in `custom_root`.
    - `sol`: the solution, a pytree of floating-point arrays.
    - `args`: the other arguments of F.
    - `tangents`: one direction per argument, each with the structure of that argument; `None`, for
      a whole argument or a leaf of it, means no change.

    **Returns:** the tangent J v of the solution, with the structure of `sol`.

    **Raises:** `ValueError` if `args` and `tangents` differ in length or structure or F has not
    the shape of `sol`; `LinearSolveError` as `mdsens.implicit.linear.solve`.

    Solves dF/dx (J v) = -dF/dtheta v: Blondel et al. 2021, arXiv 2105.15183, equation 2.
    """
    return jvp_solution(
        optimality_fun, sol, args, tangents, solve, symmetric=symmetric, null_space=null_space
    ).value


def jvp_solution(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
    matvec: Callable[[PyTree], PyTree] | None = None,
) -> LinearSolution:
    """The linear solution behind `root_jvp`: the tangent, and how well its system was solved.

    **Arguments:** those of `root_jvp`, and

    - `matvec`: v -> dF/dx v, where the caller has it at hand; `None`: from F.

    **Returns:** a `LinearSolution`, whose value is the tangent.

    **Raises:** as `root_jvp`.
    """
    leaves, structure = jax.tree.flatten(tuple(args))
    directions = directions_of(args, tangents)
    varied = [index for index, direction in enumerate(directions) if direction is not None]
    matvec, vectors = linearise(optimality_fun, sol, args, null_space, matvec)
    if not varied:
        nothing = jnp.zeros(())
        return LinearSolution(zero_tangents(sol), nothing, nothing, jnp.asarray(0))

    def of_varied(values: list[Any]) -> Any:
        filled = list(leaves)
        for index, value in zip(varied, values, strict=True):
            filled[index] = value
        return optimality_fun(sol, *jax.tree.unflatten(structure, filled))

    values = [jnp.asarray(leaves[index]) for index in varied]
    steps = [
        jnp.asarray(directions[index], value.dtype)
        for index, value in zip(varied, values, strict=True)
    ]
    change = jax.jvp(of_varied, (values,), (steps,))[1]
    right = jax.tree.map(lambda c, x: -c.astype(jnp.result_type(x)), change, sol)
    return linear_solve(matvec, right, solver=solve, symmetric=symmetric, null_space=vectors)


def root_vjp(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    cotangent: PyTree,
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
) -> tuple[Any, ...]:
    """Derivative of <cotangent, solution of F(sol, *args) = 0> in all arguments.

    **Arguments:**

    - `optimality_fun`, `solve`, `symmetric`, `null_space`: as in `custom_root`.
    - `sol`: the solution, a pytree of floating-point arrays.
    - `args`: the other arguments of F.
    - `cotangent`: weights of the solution, with the structure of `sol`.

    **Returns:** a tuple with one cotangent per argument, each with the structure of that argument
    and `None` for leaves that are not floating-point numbers.

    **Raises:** as `root_jvp`.

    Solves A^T u = cotangent with A = -dF/dx and returns u^T dF/dtheta: Blondel et al. 2021, arXiv
    2105.15183, section 2.1.
    """
    return vjp_solution(
        optimality_fun, sol, args, cotangent, solve, symmetric=symmetric, null_space=null_space
    )[0]


def vjp_solution(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    cotangent: PyTree,
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
    null_space: NullSpace = None,
    matvec: Callable[[PyTree], PyTree] | None = None,
) -> tuple[tuple[Any, ...], LinearSolution]:
    """The cotangents of `root_vjp`, and the linear solution behind them.

    **Arguments:** those of `root_vjp`, and

    - `matvec`: v -> dF/dx v, where the caller has it at hand; `None`: from F.

    **Returns:** what `root_vjp` returns, and a `LinearSolution` whose value is minus u.

    **Raises:** as `root_vjp`.
    """
    matvec, vectors = linearise(optimality_fun, sol, args, null_space, matvec)
    transposed = matvec if symmetric else _transpose(matvec, sol)
    right = jax.tree.map(lambda c, x: -jnp.asarray(c, jnp.result_type(x)), cotangent, sol)
    solution = linear_solve(
        transposed, right, solver=solve, symmetric=symmetric, null_space=vectors
    )
    varied, constant = eqx.partition(tuple(args), is_differentiable)
    varied = jax.tree.map(jnp.asarray, varied)
    value, pull_back = jax.vjp(
        lambda values: optimality_fun(sol, *eqx.combine(values, constant)), varied
    )
    weights = jax.tree.map(lambda w, f: w.astype(f.dtype), solution.value, value)
    return pull_back(weights)[0], solution


def linearise(
    optimality_fun: Callable,
    sol: Any,
    args: tuple,
    null_space: NullSpace,
    matvec: Callable | None = None,
) -> tuple[Callable, Any]:
    """The map v -> dF/dx v, and the vectors of the null space."""
    sol = jax.tree.map(jnp.asarray, sol)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(sol)):
        raise ValueError(
            f"the solution holds {sorted({str(leaf.dtype) for leaf in jax.tree.leaves(sol)})}; "
            "allowed are floating-point arrays: convert it in the solver, or return it as aux."
        )
    if matvec is None:
        value, matvec = jax.linearize(lambda x: optimality_fun(x, *args), sol)
        if _shapes(value) != _shapes(sol):
            raise ValueError(
                f"optimality_fun returned {_shapes(value)}, but the solution is {_shapes(sol)}; "
                "they must have the same structure and shapes."
            )
    vectors = null_space(sol, *args) if callable(null_space) else null_space
    return matvec, vectors


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float64), tree)


def _transpose(matvec: Callable, sol: Any) -> Callable:
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), sol)
    transposed = jax.linear_transpose(matvec, example)
    return lambda v: transposed(v)[0]
