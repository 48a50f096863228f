"""Traced values that a function closes over: finding them, and turning them into arguments.

A rule for derivatives sees arguments only, so what a solver or a condition closes over has to
become one.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax

from mdsens.errors import InputError


def closes_over_tracers(*functions: Any) -> bool:
    """Whether any of the functions reads a value that JAX is tracing.

    Arguments:
        functions: functions, partials, bound methods, jitted functions, or pytrees of arrays.

    Returns:
        True if a tracer is found in a closure, at any depth. Globals are not searched.
    """
    return any(isinstance(value, jax.core.Tracer) for value in _reachable(functions, set()))


def _reachable(value: Any, seen: set[int]) -> Iterator[Any]:
    for leaf in jax.tree.leaves(value):
        if id(leaf) in seen:
            continue
        seen.add(id(leaf))
        yield leaf
        inside: list[Any] = []
        for cell in getattr(leaf, "__closure__", None) or ():
            try:
                inside.append(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                continue
        if isinstance(leaf, functools.partial):
            inside += [leaf.func, leaf.args, leaf.keywords]
        if callable(leaf):
            attributes = ("__wrapped__", "__self__", "__func__", "__defaults__")
            inside += [getattr(leaf, name, None) for name in attributes]
        for part in inside:
            yield from _reachable(part, seen)


def hoist(
    solver: Callable[[Any, Any], Any], condition: Callable[[Any, Any], Any], init: Any, dynamic: Any
) -> tuple[Any, Any]:
    """The same two functions as pytrees, whose leaves are the arrays that they close over.

    Arguments:
        solver: (init, dynamic) -> (sol, aux), traceable by JAX.
        condition: (sol, dynamic) -> residual.
        init: a pytree of arrays, an example of the start.
        dynamic: likewise, of the other arguments.

    Returns:
        The two callable pytrees.

    Raises:
        InputError: if the solver is host code, which cannot be traced.
    """
    try:
        explicit_solver = eqx.filter_closure_convert(solver, init, dynamic)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        raise InputError(
            "the solver or the condition closes over traced values, and the solver is not written "
            "in JAX; pass these values as arguments."
        ) from None
    sol, _ = eqx.filter_eval_shape(explicit_solver, init, dynamic)
    return explicit_solver, eqx.filter_closure_convert(condition, sol, dynamic)
