"""What there is in programs that JAX has traced."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

#: Terms in the entries of products of matrices that take as long as a number that is computed by
#: itself: what multiplies matrices is fast in code that was compiled in a hurry, too.
TERMS = 16


def calls_host(program: Jaxpr) -> bool:
    """Whether any step of a program is a call of the host, those within steps included."""
    seen: dict[int, bool] = {}

    def found_in(program: Jaxpr) -> bool:
        # Programs of small functions are there many times.
        if id(program) not in seen:
            seen[id(program)] = any(
                "callback" in equation.primitive.name
                or any(map(found_in, _inner_programs(equation.params.values())))
                for equation in program.eqns
            )
        return seen[id(program)]

    return found_in(program)


def numbers_computed(program: Jaxpr) -> int:
    """About how many numbers a program computes on its way.

    Each entry of a product of matrices counts as many times as it has `TERMS`, what a loop does as
    often as it is known to be done: once where that depends on numbers.
    """
    known: dict[int, int] = {}

    def computed_by(program: Jaxpr) -> int:
        if id(program) not in known:
            known[id(program)] = sum(map(computed_in, program.eqns))
        return known[id(program)]

    def computed_in(equation: Any) -> int:
        inner = list(map(computed_by, _inner_programs(equation.params.values())))
        if equation.primitive.name == "cond":
            return max(inner, default=0)
        if inner:
            return sum(inner) * equation.params.get("length", 1)
        shapes: list[Any] = [variable.aval for variable in equation.outvars]
        return sum(math.prod(one.shape) for one in shapes) * _terms(equation)

    return computed_by(program)


def _terms(equation: Any) -> int:
    """How many `TERMS` each number has that a step computes, of those for which that matters."""
    if equation.primitive.name != "dot_general":
        return 1
    (summed, _), _ = equation.params["dimension_numbers"]
    return -(-math.prod(equation.invars[0].aval.shape[axis] for axis in summed) // TERMS)


def _inner_programs(given: Iterable[Any]) -> Iterator[Jaxpr]:
    for one in given:
        if isinstance(one, ClosedJaxpr):
            yield one.jaxpr
        elif isinstance(one, Jaxpr):
            yield one
        elif isinstance(one, (tuple, list)):
            yield from _inner_programs(one)
        elif isinstance(one, dict):
            yield from _inner_programs(one.values())
