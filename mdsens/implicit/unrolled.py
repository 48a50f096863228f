"""The derivative of a solver's iterations, to compare with that of its solution.

Both converge to the same derivative, but not at the same speed: the derivative of iterations may
first grow far beyond it (Scieur et al. 2022, arXiv 2209.13271, the curse of unrolling).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mdsens.errors import InputError
from mdsens.implicit.arguments import bind_arguments, is_differentiable, split_result
from mdsens.implicit.root import custom_root

__all__ = ["one_step", "unrolled"]


def unrolled(
    fixed_point_fun: Callable[..., PyTree],
    has_aux: bool = False,
    steps: int = 100,
    reference_signature: Callable[..., Any] | None = None,
    *,
    start: str = "init",
    checkpoints: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a solver differentiable through iterations x <- T(x, theta).

    It stands where `custom_fixed_point(T)` stands, and takes the same solvers. The result is
    T applied `steps` times, and its derivatives, in both modes and of any order, are those of these
    applications: unlike implicit ones they depend on the start, on T and on the number of steps.
    T may be any step of a method, with velocities and step sizes in its x.

    Arguments:
        fixed_point_fun: T(x, *args, **kwargs), one iteration, traceable by JAX, which returns
            something of the structure, shapes and types of x.
        has_aux: the solver returns `(sol, aux)`; `aux` has no derivative.
        steps: number of iterations to differentiate.
        reference_signature: a function whose signature tells the position at which a keyword
            argument reaches T; `None`: that of T.
        start: where they begin: `"init"`, the solver's own start, so that the iterations are the
            solver (the one given is called for its aux alone, and may be `None`); or `"solution"`,
            what the solver returns, as a constant: the derivative is truncated to the last steps.
        checkpoints: in reverse mode, keep about sqrt(steps) iterates and compute the others anew,
            instead of keeping all of them.

    Returns:
        A decorator for `solver(init_params, *args, **kwargs)`.

    Raises:
        InputError: if `steps` is negative, `start` is unknown, or T returns something of another
            structure, shape or type than x.

    Truncation: Shaban et al. 2019, arXiv 1810.10667. Its error shrinks by the contraction of T with
    every step.
    """
    if steps < 0:
        raise InputError(f"steps={steps} is negative; allowed are 0 and above.")
    if start not in ("init", "solution"):
        raise InputError(f"start={start!r} is unknown; allowed are 'init' and 'solution'.")
    signature_of = fixed_point_fun if reference_signature is None else reference_signature

    def decorate(solver: Callable[..., Any] | None) -> Callable[..., Any]:
        if solver is None and (has_aux or start == "solution"):
            raise InputError(
                "there is no solver, but has_aux or start='solution' needs one; give a solver."
            )

        # The solver may be host code under jit, too; its derivatives are never asked for.
        no_condition = custom_root(lambda sol, *args, **kwargs: sol, has_aux, least_squares=True)
        without_derivative = no_condition(solver or (lambda init, *args, **kwargs: init))

        def unrolled_solver(init_params: Any, *args: Any, **kwargs: Any) -> Any:
            sol, aux = init_params, None
            if start == "solution" or has_aux:
                begin, constants, named_constants = _constant((init_params, args, kwargs))
                result = without_derivative(begin, *constants, **named_constants)
                found, aux, together = split_result(result, has_aux)
                sol = found if start == "solution" else init_params
            sol = _constant(jax.tree.map(jnp.asarray, sol))
            if kwargs:
                bound = bind_arguments(signature_of, sol, args, kwargs)
                rest, named = bound.args[1:], bound.kwargs
            else:
                rest, named = args, {}
            sol = iterate(lambda x: fixed_point_fun(x, *rest, **named), sol, steps, checkpoints)
            return together(sol, _constant(aux)) if has_aux else sol

        return unrolled_solver if solver is None else functools.wraps(solver)(unrolled_solver)

    return decorate


def one_step(
    fixed_point_fun: Callable[..., PyTree],
    has_aux: bool = False,
    reference_signature: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a solver differentiable through one more iteration from its solution.

    The derivative is dT/dtheta alone, without any linear solve. It is off by the contraction of T
    times the derivative; for Newton's method, where that is zero, it is exact.

    Arguments:
        fixed_point_fun: as in `unrolled`, as are all that follow.
        has_aux: whether the solver returns `(sol, aux)`.
        reference_signature: a function whose signature is that of the solver's arguments.

    Returns:
        A decorator for `solver(init_params, *args, **kwargs)`.

    Raises:
        What `unrolled` raises.

    Bolte, Pauwels and Vaiter 2023, arXiv 2305.13768, equation 3.
    """
    return unrolled(fixed_point_fun, has_aux, 1, reference_signature, start="solution")


def _constant(tree: PyTree) -> PyTree:
    def constant(leaf: Any) -> Any:
        return jax.lax.stop_gradient(leaf) if is_differentiable(leaf) else leaf

    return jax.tree.map(constant, tree)


def iterate(
    step: Callable[[PyTree], PyTree], start: PyTree, steps: int, checkpoints: bool
) -> PyTree:
    """The result of applying a function a number of times.

    Arguments:
        step: x -> x, of the same structure, shapes and types.
        start: the first x.
        steps: how often.
        checkpoints: whether reverse mode keeps only about sqrt(steps) of the iterates.

    Returns:
        The last x.

    Raises:
        InputError: if `step` returns something of another kind than it gets.
    """

    def several(x: Any, count: int) -> Any:
        return jax.lax.scan(lambda y, _: (step(y), None), x, None, length=count)[0]

    if not checkpoints or steps < 4:
        return several(start, steps)
    inner = math.isqrt(steps)
    outer, remaining = divmod(steps, inner)
    segment = jax.checkpoint(lambda x: several(x, inner))
    x = jax.lax.scan(lambda y, _: (segment(y), None), start, None, length=outer)[0]
    return several(x, remaining)
