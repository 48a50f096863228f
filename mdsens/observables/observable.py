"""What an observable is, and how its name is read."""

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.units import unit_name

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium


@dataclasses.dataclass(frozen=True)
class Observable:
    """A differentiable function of an Equilibrium.

    Attributes:
        name: what it is called in results, e.g. ``"distance(0,1)"``.
        dimension: its physical dimension, e.g. ``"energy/length^3"``.
        function: takes an Equilibrium, returns a scalar or an array.
        labels: names of the entries of an array, e.g. ``("xx", "yy", "xy")``; empty for numbers.
        traceable: whether the function may be compiled; False if it searches for edges.
    """

    name: str
    dimension: str
    function: Callable[["Equilibrium"], Float[Array, "..."]]
    labels: tuple[str, ...] = ()
    traceable: bool = True

    def __call__(self, equilibrium: "Equilibrium") -> Float[Array, "..."]:
        """The value at an equilibrium, in the units of its system."""
        return self.function(equilibrium)

    @property
    def units(self) -> str:
        """Unit of the value for a system in ASE's units."""
        return unit_name(self.dimension)

    def __repr__(self) -> str:
        return f"Observable({self.name!r}, units={self.units!r})"


def parse(text: str) -> Observable:
    """Read an observable from text such as ``"volume"`` or ``"distance(0, 1)"``.

    Arguments:
        text: the observable's name, with arguments as in Python; numbers and lists are allowed.

    Returns:
        The Observable.

    Raises:
        InputError: there is no such observable (the nearest is named), or wrong arguments.
    """
    from mdsens.observables import BY_NAME

    try:
        expression = ast.parse(text.strip(), mode="eval").body
        call = expression if isinstance(expression, ast.Call) else None
        target = call.func if call is not None else expression
        if not isinstance(target, ast.Name):
            raise ValueError
        arguments = [ast.literal_eval(node) for node in call.args] if call else []
        options = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg} if call else {}
    except (SyntaxError, ValueError):
        raise InputError(
            f"observable {text!r} cannot be read: write a name, or a name with numbers as in "
            "distance(0,1)"
        ) from None
    if target.id not in BY_NAME:
        near = difflib.get_close_matches(target.id, BY_NAME, 1, 0.0)[0]
        raise InputError(
            f"observable {text!r} does not exist: allowed are {', '.join(BY_NAME)}; "
            f"did you mean {near!r}?"
        )
    factory: Callable[..., Observable] = BY_NAME[target.id]
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except TypeError as error:
        raise InputError(
            f"observable {text!r}: {error}; write {target.id}{inspect.signature(factory)}"
        ) from None
    return factory(*arguments, **options)
