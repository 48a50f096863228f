"""Calculators of ASE that a study can name, with their parameters in eV and Angstrom."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ase.units
import numpy as np

from mdsens.errors import InputError
from mdsens.potentials.calculator import Calculator
from mdsens.values import distinct_names, nearest, shown

#: What the numbers of EMT are for each element, in the order of ASE's table, with dimensions.
EMT_DIMENSIONS = {
    "E0": "energy",
    "s0": "length",
    "V0": "energy",
    "eta2": "1/length",
    "kappa": "1/length",
    "lambda": "1/length",
    "n0": "1/length^3",
}
#: Powers of the Bohr radius in each of them as ASE's table has them.
EMT_BOHRS = {"s0": 1, "eta2": -1, "kappa": -1, "lambda": -1, "n0": -3}


def _make_emt(**parameters: float) -> Any:
    from mdsens.potentials.effective_medium import EffectiveMedium

    return EffectiveMedium(parameters)


def emt(elements: Sequence[str], values: Mapping[str, Any] | None = None) -> Calculator:
    """ASE's effective medium theory (EMT), with its numbers for some elements as parameters.

    K. W. Jacobsen, P. Stoltze, J. K. Norskov, Surf. Sci. 366, 394 (1996), as ASE has it. Of one
    element alone the density n0 has no effect, and is no parameter.

    Arguments:
        elements: whose numbers are parameters, e.g. ``["Cu", "Pt"]``.
        values: of some parameters by name, e.g. ``{"s0[Cu]": 1.41}``, in eV and Angstrom; ASE's of
            all others.

    Returns:
        The Calculator, with parameters ``E0``, ``s0``, ``V0``, ``eta2``, ``kappa``, ``lambda`` and
        ``n0`` of each element.

    Raises:
        InputError: an element or a parameter that EMT does not know.
    """
    # Not with all potentials: ASE's calculator imports much of SciPy.
    from mdsens.potentials.effective_medium import EMT_PARAMETERS

    names = distinct_names(elements, "elements")
    found: dict[str, Any] = {}
    for element in names:
        if element not in EMT_PARAMETERS:
            raise InputError(
                f"elements: EMT does not know {shown(element)}: allowed are "
                f"{', '.join(EMT_PARAMETERS)}{nearest(element, EMT_PARAMETERS)}"
            )
        for kind, number in zip(EMT_DIMENSIONS, EMT_PARAMETERS[element], strict=True):
            if kind != "n0" or len(names) > 1:
                size = float(ase.units.Bohr) ** EMT_BOHRS.get(kind, 0)
                found[f"{kind}[{element}]"] = float(np.float64(number) * size)
    for name, value in (values or {}).items():
        if name not in found:
            raise InputError(
                f"values: EMT of {', '.join(names)} has no parameter {shown(name)}: allowed are "
                f"{', '.join(found)}{nearest(name, found)}"
            )
        found[name] = value
    dimensions = {name: EMT_DIMENSIONS[name.partition("[")[0]] for name in found}
    return Calculator(_make_emt, found, dimensions)


@dataclasses.dataclass(frozen=True)
class KnownCalculator:
    """A calculator that a study can name.

    Attributes:
        make: makes the potential from elements, and values of parameters by name.
        dimensions: of its parameters by what stands before the element.
    """

    make: Callable[[Sequence[str], Mapping[str, Any] | None], Calculator]
    dimensions: Mapping[str, str]


#: What a study file calls each.
KNOWN = {"emt": KnownCalculator(emt, EMT_DIMENSIONS)}
