"""Annotations that hold at every call of a test, shapes included.

What users give is anything: `System` and the potentials' constructors look at it themselves, and
tests of their refusals must get past the annotations. Checked are rooms without such doors.
"""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

#: Modules of mdsens that are checked, with all that lies in them.
CHECKED = (
    "linalg",
    "mechanics",
    "particles.frames",
    "particles.lattice",
)

# An int is a float, as for every type checker. Beartype knows Self only where it decorates a whole
# class; jaxtyping decorates methods.
holds = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any})))
