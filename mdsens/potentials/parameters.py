"""What a parameter of a potential is: a field of numbers that derivatives can be asked for."""

import dataclasses
from typing import Any, TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.values import is_traced, shown

#: One value for all species, a value per species (S,), a table per pair (S, S), symmetric unless it
#: is one of bonds, a table per triplet (S, S, S), or a row of M numbers per species (S, M).
Parameter: TypeAlias = Float[Array, "..."]

#: How many dimensions the table of a parameter may have; none is one value for all.
DIMENSIONS: dict[str, tuple[int, ...]] = {
    "all": (0,), "atom": (0, 1), "pair": (0, 2), "species": (0, 1, 2), "bond": (0, 2),
    "triplet": (0, 3), "coefficient": (2,),
}  # fmt: skip


def parameter(
    dimension: str = "1",
    positive: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    per: str = "pair",
    **field_options: Any,
) -> Any:
    """Declare a parameter of a potential: a float leaf that derivatives can be asked for.

    Arguments:
        dimension: physical dimension in powers of energy and length, e.g. ``"energy/length^3"``.
        positive: whether only values above zero are allowed.
        minimum: the smallest value allowed; None for no bound.
        maximum: the largest value allowed; None for no bound.
        per: ``"pair"`` if the parameter may be a table over pairs of species, ``"species"`` if it
            may also be one value per species, ``"atom"`` if it may be that alone, ``"bond"`` if a
            pair's two orders are entries of their own, [A-B] that of an atom A with a neighbour B,
            ``"triplet"`` if it may be a table over triplets, [A-B-C] that of an atom A with
            neighbours B and C, ``"coefficient"`` if each species has a row of numbers, [A,17] its
            number 17 counted from 0, ``"all"`` if there is one value only.
        field_options: further options of ``equinox.field``, such as ``default``.

    Returns:
        The field, for use in the body of a Potential.
    """
    if per not in DIMENSIONS:
        raise InputError(f"per = {shown(per)}: allowed are {', '.join(DIMENSIONS)}")
    bounds = {"above": 0.0 if positive else None, "at_least": minimum, "at_most": maximum}
    metadata = {"parameter": True, "dimension": dimension, "bounds": bounds, "per": per}
    return eqx.field(metadata=metadata, **field_options)


def require_higher_power(potential: Any, repulsion: str, attraction: str) -> None:
    """Raise InputError unless one of a potential's exponents is above another, for all species.

    Arguments:
        potential: the potential.
        repulsion: name of the exponent of the repulsion.
        attraction: name of that of the attraction.
    """
    high, low = getattr(potential, repulsion), getattr(potential, attraction)
    if not is_traced((high, low)) and not np.all(np.asarray(high) > np.asarray(low)):
        raise InputError(
            f"{type(potential).__name__}: {repulsion} = {shown(high.tolist())} is not above "
            f"{attraction} = {shown(low.tolist())}: give a repulsion of higher power"
        )


def parameter_fields(potential: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a potential that are parameters."""
    return [field for field in dataclasses.fields(potential) if field.metadata.get("parameter")]


def is_symmetric(field: dataclasses.Field[Any]) -> bool:
    """Whether both orders of a pair of species are one entry of a parameter's table."""
    return field.metadata["per"] in ("pair", "species")
