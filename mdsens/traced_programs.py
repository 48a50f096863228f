"""What there is in programs that JAX has traced."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def calls_host(program: Jaxpr) -> bool:
    """Whether any step of a program is a call of the host, those within steps included."""
    return any(
        "callback" in equation.primitive.name or any(map(calls_host, _inner_programs(equation)))
        for equation in program.eqns
    )


def numbers_computed(program: Jaxpr) -> int:
    """About how many numbers a program computes on its way.

    Each entry of a product of matrices counts as many times as it has terms, what a loop does as
    often as it is known to be done: once where that depends on numbers.
    """
    total = 0
    for equation in program.eqns:
        inner = [numbers_computed(one) for one in _inner_programs(equation)]
        if equation.primitive.name == "cond":
            total += max(inner, default=0)
        elif inner:
            total += sum(inner) * equation.params.get("length", 1)
        else:
            shapes: list[Any] = [variable.aval for variable in equation.outvars]
            total += sum(math.prod(one.shape) for one in shapes) * _terms(equation)
    return total


def _terms(equation: Any) -> int:
    """How many terms each number has that a step computes, of those for which that matters."""
    if equation.primitive.name != "dot_general":
        return 1
    (summed, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in summed)


def _inner_programs(equation: Any) -> Iterator[Jaxpr]:
    for given in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
        if _is_program(given):
            yield given.jaxpr if isinstance(given, ClosedJaxpr) else given


def _is_program(given: Any) -> bool:
    return isinstance(given, (Jaxpr, ClosedJaxpr))
