"""Where a potential ends: a length, or a multiple of one of its parameters such as "2.5 sigma"."""

import re
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.potentials.parameters import Parameter, parameter_fields
from mdsens.values import nearest, real, shown

#: A number, perhaps a sign of multiplication, and a name; a name alone is once the parameter.
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MULTIPLE = re.compile(rf"(?!{_NUMBER}\s*$)(?:({_NUMBER})\s*\*?\s*)?([A-Za-z]\w*)", re.ASCII)


class Multiple(NamedTuple):
    """A length in units of a parameter.

    Attributes:
        factor: how many times the parameter.
        name: of the parameter.
    """

    factor: float
    name: str

    def __str__(self) -> str:
        return f"{repr(self.factor).removesuffix('.0')} {self.name}"


def multiple_of(value: Any) -> Multiple | None:
    """A multiple of a parameter from its text.

    Arguments:
        value: e.g. ``"2.5 sigma"``, ``"2.5*sigma"`` or ``"sigma"``.

    Returns:
        The Multiple; None where it is no such text, as a number or ``"8.5"``.
    """
    found = _MULTIPLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if found is None else Multiple(float(found[1] or 1.0), found[2])


def lengths_of_pairs(kind: Any) -> list[str]:
    """Names of the parameters that a cutoff can be a multiple of.

    Arguments:
        kind: a potential, or its class.

    Returns:
        Those that are lengths, one for all pairs or one for each pair of species.
    """
    return [
        field.name
        for field in parameter_fields(kind)
        if field.metadata["dimension"] == "length" and field.metadata["per"] in ("all", "pair")
    ]


def checked_length(kind: Any, value: Any, label: str, at_least: float | None = None) -> float | str:
    """A cutoff or an onset as a potential holds it.

    Arguments:
        kind: the potential, or its class.
        value: a length, or text such as ``"2.5 sigma"``.
        label: what it is called, for the message.
        at_least: the smallest number allowed; None: it must be above zero.

    Returns:
        The number, or the text in one way to write it.

    Raises:
        InputError: no number within its bounds, or a multiple of what is no length of the pairs.
    """
    multiple = multiple_of(value)
    bounds: dict[str, float] = {"above": 0.0} if at_least is None else {"at_least": at_least}
    if multiple is None:
        return real(value, label, **bounds)
    allowed = lengths_of_pairs(kind)
    if multiple.name not in allowed:
        name = kind.__name__ if isinstance(kind, type) else type(kind).__name__
        if not allowed:
            raise InputError(
                f"{label} = {shown(value)}: {name} has no parameter that is a length of pairs; "
                "give a number"
            )
        known = multiple.name in [field.name for field in parameter_fields(kind)]
        what = "is no length of pairs" if known else "is no parameter"
        raise InputError(
            f"{label} = {shown(value)}: {multiple.name} {what} of {name}; give a number, or a "
            f"multiple of {' or '.join(allowed)} as in {f'2.5 {allowed[0]}'!r}"
            f"{'' if known else nearest(multiple.name, allowed)}"
        )
    real(multiple.factor, f"{label} = {shown(value)}: its number", **bounds)
    return str(multiple)


def length_of(potential: Any, length: float | str) -> float | Float[Array, "..."]:
    """A cutoff or an onset in units of length.

    Arguments:
        potential: the potential that it is of, with its parameters as they are now.
        length: what `checked_length` has given.

    Returns:
        The number; of a multiple of a parameter, with the shape of that parameter.
    """
    multiple = multiple_of(length)
    if multiple is None:
        assert not isinstance(length, str)
        return length
    parameter: Parameter = getattr(potential, multiple.name)
    return multiple.factor * parameter
