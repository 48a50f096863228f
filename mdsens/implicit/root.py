"""Derivatives of the solution of an optimality condition F(x, theta) = 0.

The implicit function theorem gives A J = B with A = -dF/dx and B = dF/dtheta (Blondel et al. 2021,
arXiv 2105.15183, equation 2). Names and the order of arguments follow JAXopt 0.8.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.implicit.arguments import (
    bind_arguments,
    directions_of,
    floats_to_arrays,
    hashable,
    is_differentiable,
    is_symbolic_zero,
    split_result,
    without_zeros,
    zero_tangents,
)
from mdsens.implicit.closures import closes_over_tracers, hoist
from mdsens.implicit.derivatives import (
    NullSpace,
    Preconditioner,
    SolveOptions,
    SolverAt,
    response_of_numbers,
    root_jvp,
    root_vjp,
)
from mdsens.implicit.host import (
    HOST_CODE_ERRORS,
    announced_shape,
    arrays_only,
    call_on_host,
)
from mdsens.implicit.inspection import problem_of_condition, raise_problem
from mdsens.implicit.linear import Solver
from mdsens.implicit.linearisation import directional_change, shapes_of
from mdsens.implicit.precision import newton_step
from mdsens.values import is_traced, real

__all__ = ["custom_fixed_point", "custom_root", "root_jvp", "root_vjp"]


def custom_root(
    optimality_fun: Callable[..., PyTree],
    has_aux: bool = False,
    solve: Solver | SolverAt | None = None,
    reference_signature: Callable[..., Any] | None = None,
    *,
    symmetric: bool = False,
    definite: bool = True,
    null_space: NullSpace = None,
    least_squares: bool = False,
    preconditioner: Preconditioner = None,
    correct: bool = False,
    aux_fun: Callable[..., PyTree] | None = None,
    host: bool | None = None,
    result_shape: PyTree | Callable[..., PyTree] = None,
    root_tol: float | None = 0.1,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a solver differentiable through the condition that its solutions fulfil.

    The decorated `solver(init_params, *args, **kwargs)` returns what it returned before; its
    derivatives, in both modes and of any order, are those of the solution. The solver itself is
    never differentiated, so it may be host code: NumPy, SciPy, a program. Under `jax.jit` and
    `jax.vmap` such a solver is called back with NumPy arrays when the compiled code runs. There is
    no derivative in `init_params`, nor in the aux of a solver unless `aux_fun` says what it is.
    Traced values that a solver or condition written in JAX closes over, or a function among their
    arguments, are differentiated like arguments, but compiled anew in every call: arguments are
    better.

    Arguments:
        optimality_fun: F(sol, *args, **kwargs), traceable by JAX, zero at the solution, with the
            structure and shapes of `sol`.
        has_aux: the solver returns `(sol, aux)`; `aux` has zero derivatives without `aux_fun`.
        solve: how to solve the linear systems, as in `mdsens.implicit.linear.solve`; `None` means
            dense up to `linear.DENSE_LIMIT` unknowns and iterative above. Also a function
            `solve(matvec, b)` as in JAXopt, or a `SolverAt` that makes the solver for each
            solution.
        reference_signature: a function whose signature tells the position at which a keyword
            argument reaches `optimality_fun`; `None`: that of `optimality_fun`.
        symmetric: dF/dx is symmetric, as it is when F is a gradient.
        definite: a symmetric dF/dx is also definite, of either sign, apart from its null space.
        null_space: vectors that span the null space of a symmetric dF/dx, with the structure of
            `sol` and an extra leading axis on every leaf, or a function `(sol, *args)` that gives
            them; the derivative is then the one of smallest norm. `solve="svd"` finds them for any
            dF/dx.
        least_squares: do not look, before a derivative, whether F is finite, zero and as symmetric
            as said, `null_space` what it is said to be, and whether every argument moves the
            condition within the range of a singular dF/dx.
        preconditioner: a function `(sol, *args)` that returns v -> approximately (dF/dx)^-1 v, for
            iterative solvers; symmetric for a symmetric dF/dx.
        correct: take the derivative where one Newton step leads from `sol`, which makes its error
            of second order in that of `sol`, for one more linear solve.
        aux_fun: a function `(sol, *args)` that gives the derivatives of `aux`, with its structure;
            its values remain the solver's.
        host: the solver is host code; `None`: found out by tracing it.
        result_shape: what host code returns under `jit` and `vmap`: `sol`, or `(sol, aux)`, with
            leaves that have a shape and a dtype, or a function `(init_params, *args)` that gives
            it; `None`: the solution has the structure of `init_params`.
        root_tol: before a derivative, refuse a solution that is plainly no root: one whose distance
            to it, estimated as |F| / |dF/dx| by a few products, is above `root_tol` (|sol| + 0.1),
            in root mean squares over its numbers. What solvers give that stop at a loose tolerance
            passes 0.1. `None`: do not look.

    Returns:
        A decorator for `solver`.

    Raises:
        InputError: if keyword arguments do not fit the signature, the result of host code is not
            known, or F has not the shape of the solution.
        LinearSolveError: when a derivative is evaluated, where dF/dx is singular or not what it is
            said to be. Inside compiled code, and of a singular dF/dx for more than
            `linear.DENSE_FIRST` unknowns, it is the runtime's error with the same message.
        UnreliableDerivativeError: likewise, where the solver returned no root.
    """
    if root_tol is not None:
        root_tol = real(root_tol, "root_tol", above=0.0)
    if aux_fun is not None and not has_aux:
        raise InputError("aux_fun was given with has_aux=False; pass has_aux=True.")
    signature_of = optimality_fun if reference_signature is None else reference_signature

    def bind(function: Callable[..., Any]) -> Callable[..., Any]:
        """Call `function` as the condition from the arguments that the solver was given."""

        def call(sol: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not kwargs:
                return function(sol, *args)
            bound = bind_arguments(signature_of, sol, args, kwargs)
            return function(*bound.args, **bound.kwargs)

        return call

    condition = bind(optimality_fun)
    auxiliary = None if aux_fun is None else bind(aux_fun)

    options = SolveOptions(
        SolverAt(bind(solve.function)) if isinstance(solve, SolverAt) else solve,
        symmetric=symmetric,
        definite=definite,
        null_space=bind(null_space) if callable(null_space) else null_space,
        # The check of the range is made for all directions at once, by `problem_of_condition`:
        # the right-hand side of a rule may be that of a derivative that will be transposed.
        least_squares=True,
        preconditioner=None if preconditioner is None else bind(preconditioner),
    )
    # The same where the condition is called as the solver's user wrote it.
    unbound = dataclasses.replace(
        options, solve=solve, null_space=null_space, preconditioner=preconditioner
    )

    def tangent_of_solution(sol: Any, arguments: Any, tangents: Any) -> Any:
        if correct:
            sol = newton_step(condition, sol, arguments, options)
        return root_jvp(condition, sol, arguments, tangents, options)

    def inspect(sol: Any, arguments: Any, varied: tuple[bool, ...], traced: bool) -> Any:
        return problem_of_condition(condition, sol, arguments, varied, options, root_tol, traced)

    of_numbers = solve.of_numbers if isinstance(solve, SolverAt) else None
    solves_for_numbers = of_numbers is not None and not correct
    # Compiled once per decorated solver and kind of arguments: the rule evaluates F many times.
    compiled_tangent = compiled(tangent_of_solution)
    compiled_inspection = compiled(inspect)
    # What the linear solve itself finds out in compiled code.
    looks_when_traced = root_tol is not None or null_space is not None or solve == "svd"

    def with_explicit_closures(solver: Callable[..., Any], init_params: Any, arguments: Any) -> Any:
        """The same call with what solver and condition close over among the arguments."""
        dynamic, static = eqx.partition(arguments, eqx.is_array)
        initial, static_initial = eqx.partition(init_params, eqx.is_array)

        def call_solver(initial: Any, dynamic: Any) -> Any:
            args, kwargs = eqx.combine(dynamic, static)
            result = solver(eqx.combine(initial, static_initial), *args, **kwargs)
            return result if has_aux else (result, None)

        def of_solution(function: Any) -> Any:
            """The same function of the solution, its arguments among the dynamic ones."""
            if not callable(function):
                return function
            return lambda sol, dynamic, _: function(sol, *eqx.combine(dynamic, static))

        solver_of_solution = options.solve
        if isinstance(solver_of_solution, SolverAt):
            solver_of_solution = SolverAt(of_solution(solver_of_solution.function))

        @custom_root(
            lambda sol, dynamic, functions: functions[1](sol, dynamic),
            has_aux=True,
            solve=solver_of_solution,
            symmetric=symmetric,
            definite=definite,
            null_space=of_solution(options.null_space),
            least_squares=least_squares,
            preconditioner=of_solution(options.preconditioner),
            correct=correct,
            aux_fun=of_solution(auxiliary),
            host=False,
            root_tol=root_tol,
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

    def decorate(solver: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(solver)
        def differentiable_solver(init_params: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs:
                bind_arguments(signature_of, init_params, args, kwargs)
            if closes_over_tracers(null_space, preconditioner, aux_fun):
                raise InputError(
                    "null_space, preconditioner or aux_fun closes over traced values; pass a "
                    "function (sol, *args) of the solver's arguments instead."
                )
            # Whatever is not a JAX array cannot carry a derivative and reaches the solver as is,
            # but a function may close over what does.
            dynamic, static = eqx.partition((init_params, args, kwargs), eqx.is_array)
            if closes_over_tracers(solver, optimality_fun, static):
                return with_explicit_closures(solver, init_params, (args, kwargs))
            # What the solver reports beside arrays (words, objects) travels around JAX, and so does
            # the kind of tuple that it returns.
            remarks: list[Any] = [None]
            assemble: list[Callable[[Any, Any], Any]] = []

            def call_solver(dynamic: Any) -> Any:
                init, run_args, run_kwargs = eqx.combine(dynamic, static)
                result = solver(init, *run_args, **run_kwargs)
                sol, aux, together = split_result(result, has_aux)
                assemble.append(together)
                aux, remarks[0] = arrays_only(aux)
                return sol, aux

            @jax.custom_jvp
            def run(dynamic: Any) -> Any:
                if not is_traced(dynamic):
                    return numbers(call_solver(dynamic))
                if not host:
                    try:
                        return numbers(call_solver(dynamic))
                    except HOST_CODE_ERRORS:
                        if host is not None:
                            raise
                init, run_args, run_kwargs = eqx.combine(dynamic, static)
                shape = announced_shape(result_shape, has_aux, init, run_args, run_kwargs)
                *shapes, together = split_result(shape, True)
                assemble.append(together)
                return call_on_host(call_solver, dynamic, tuple(shapes))

            @functools.partial(run.defjvp, symbolic_zeros=True)
            def rule(primals: Any, tangents: Any) -> Any:
                (dynamic,), ((_, *directions),) = primals, tangents
                # Without `run` what is known stays known, also inside an eager vmap (jax.jacfwd).
                known = not is_traced(dynamic)
                sol, aux = numbers(call_solver(dynamic)) if known else run(dynamic)
                _, *arguments = eqx.combine(dynamic, static)
                directions = jax.tree.map(without_zeros, directions, is_leaf=is_symbolic_zero)
                cached = hashable(static)
                nothing = not any(jnp.size(leaf) for leaf in jax.tree.leaves(sol))
                if nothing or not jax.tree.leaves(directions):
                    return (sol, aux), (zero_tangents(sol), zero_tangents(aux))
                primals_of_rule = tuple(jax.tree.map(floats_to_arrays, arguments))
                of_solution = (primals_of_rule, tuple(directions))
                # In compiled code the error arrives in that of the runtime; here there can be a
                # plain one.
                traced = is_traced(sol)
                if not least_squares and (looks_when_traced or not traced):
                    look = compiled_inspection if cached else inspect
                    varied = tuple(leaf is not None for leaf in directions_of(*of_solution))
                    sol = raise_problem(sol, look(sol, primals_of_rule, varied, traced))
                if solves_for_numbers and not arguments[1] and not is_traced((sol, arguments)):
                    given = primals_of_rule[0], directions[0]
                    sol_dot = response_of_numbers(optimality_fun, sol, *given, unbound)
                else:
                    evaluate = compiled_tangent if cached else tangent_of_solution
                    sol_dot = evaluate(sol, *of_solution)
                aux_dot = zero_tangents(aux)
                if auxiliary is not None:
                    aux_dot = tangent_of_aux(
                        auxiliary, aux, (sol, *primals_of_rule), (sol_dot, *directions)
                    )
                return (sol, aux), (sol_dot, aux_dot)

            sol, aux = run(dynamic)
            return assemble[0](sol, eqx.combine(aux, remarks[0])) if has_aux else sol

        return differentiable_solver

    return decorate


def numbers(tree: PyTree) -> PyTree:
    """The same with arrays of JAX for leaves."""
    return jax.tree.map(jnp.asarray, tree)


def tangent_of_aux(
    aux_fun: Callable[..., Any], aux: PyTree, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> PyTree:
    """The tangent of what a solver returns beside the solution, by the chain rule.

    Arguments:
        aux_fun: (sol, args, kwargs) -> aux.
        aux: what the solver returned.
        primals: the solution and the arguments.
        tangents: their directions; None where nothing changes.

    Returns:
        Tangents of `aux`, zero for what is not a floating-point number.

    Raises:
        InputError: if `aux_fun` gives something of another structure or shape.
    """
    change = directional_change(lambda _, *inputs: aux_fun(*inputs), None, primals, tangents)
    computed = jax.eval_shape(aux_fun, *primals)
    if shapes_of(computed) != shapes_of(aux):
        raise InputError(
            f"aux_fun returned {shapes_of(computed)}, but aux is {shapes_of(aux)}; they must have "
            "the same structure and shapes."
        )
    return jax.tree.map(
        lambda leaf, zero: leaf.astype(zero.dtype) if is_differentiable(zero) else zero,
        change,
        zero_tangents(aux),
    )


def custom_fixed_point(
    fixed_point_fun: Callable[..., PyTree],
    has_aux: bool = False,
    solve: Solver | SolverAt | None = None,
    reference_signature: Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a solver differentiable through the map T of which its solutions are fixed points.

    Arguments:
        fixed_point_fun: T(sol, *args, **kwargs), equal to `sol` at the solution.
        has_aux: as in `custom_root`, as are all that follow.
        solve: how to solve the linear systems, for the residual T(x, theta) - x.
        reference_signature: a function whose signature is that of the solver's arguments.
        **options: the others of `custom_root`.

    Returns:
        A decorator for `solver(init_params, *args, **kwargs)`.

    Raises:
        What `custom_root` raises.

    Blondel et al. 2021, arXiv 2105.15183, equation 3.
    """

    def residual(sol: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.tree.map(jnp.subtract, fixed_point_fun(sol, *args, **kwargs), sol)

    return custom_root(
        residual,
        has_aux,
        solve,
        fixed_point_fun if reference_signature is None else reference_signature,
        **options,
    )
