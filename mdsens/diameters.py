"""How large particles are drawn, where their potential says."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mdsens.relaxation import Equilibrium


def diameters_of(equilibrium: "Equilibrium") -> dict[str, float]:
    """How large to draw each species.

    Arguments:
        equilibrium: a relaxed structure.

    Returns:
        Diameters by species, length, of spheres that touch; else empty.
    """
    potential, symbols = equilibrium.potential, equilibrium.system.symbols
    if not potential.contact:
        return {}
    size = getattr(potential, "diameter", getattr(potential, "sigma", None))
    if size is None:
        return {}
    numbers, names = np.asarray(size), potential.species or ()
    if numbers.ndim == 0:
        return dict.fromkeys(symbols, float(numbers))
    own = numbers if numbers.ndim == 1 else np.diag(numbers)
    return {name: float(own[names.index(name)]) for name in symbols}
