"""What a layer returns: the solution and the solver's own account of it."""

from typing import Any, NamedTuple

from jaxtyping import PyTree

__all__ = ["OptStep"]


class OptStep(NamedTuple):
    """A solution, or one step on the way to it.

    Attributes:
        params: what is solved for.
        state: what the solver knows beside it: the number of iterations, the error reached.
    """

    params: PyTree
    state: Any
