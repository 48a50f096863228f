"""What the values of a swept key measure, and their numbers in the units of results."""

import json
from typing import Any

from mdsens.errors import InputError
from mdsens.potentials import BY_NAME
from mdsens.study.build import SUM, potential_dimensions, quantity
from mdsens.study.study import Study
from mdsens.study.sweep import SweptKey
from mdsens.units import in_dimensions, unit_name

#: Physical dimensions of keys of a relaxation; those of a stress are per volume or per area.
RELAXATION = {
    "fmax": "energy/length", "pressure": "energy/volume", "stress": "energy/volume",
    "smax": "energy/volume", "max_step": "length", "skin": "length",
}  # fmt: skip


def swept_axis(key: SweptKey, study: Study) -> dict[str, Any]:
    """A swept key as sweep.json describes it.

    Arguments:
        key: the key.
        study: the study of the first run.

    Returns:
        ``units``, empty where the values are no quantities, and ``values``: numbers in these units,
        or texts where one of them is no number.
    """
    dimension, units = _dimension(key.parts, study), study.file.units
    if dimension is not None:
        try:
            numbers = [quantity(value, dimension, units, key.key) for value in key.values]
        except InputError:
            # Such as a cutoff that is a multiple of a parameter.
            pass
        else:
            # Without the last digit, which is that of rounding: 3.36 and not 3.3600000000000003.
            rounded = [float(f"{number:.15g}") for number in numbers]
            return {"units": unit_name(dimension, units), "values": rounded}
    return {"units": "", "values": _plain(key.values)}


def _plain(values: tuple[Any, ...]) -> list[Any]:
    """Values as an axis can have them: all numbers, or all texts."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return list(values)
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def _dimension(parts: tuple[str, ...], study: Study) -> str | None:
    """The physical dimension of a key; None where its values are no quantities."""
    table, *inner = parts
    if table == "structures":
        inner = inner[1:]
        table = "relaxation" if inner[:1] == ["relaxation"] else "structure"
        inner = inner[1:] if table == "relaxation" else inner
    if table == "relaxation" and len(inner) == 1 and inner[0] in RELAXATION:
        spatial = next(iter(study.structures.values())).structure.dimension
        return in_dimensions(RELAXATION[inner[0]], spatial)
    if table == "structure" and (inner == ["rattle", "amplitude"] or inner[:1] == ["diameters"]):
        return "length"
    if table == "potential":
        given: Any = study.table["potential"]
        while given.get("type") == SUM and inner[:1] == ["parts"] and len(inner) > 2:
            given, inner = given["parts"][inner[1]], inner[2:]
        kind = BY_NAME.get(given.get("type"))
        return None if kind is None else potential_dimensions(kind).get(inner[0])
    return None
