"""Masses of the elements, and a word where a structure brings others along."""

from collections.abc import Sequence

import ase
import ase.data
import numpy as np

from mdsens.errors import warn
from mdsens.values import shown

#: Masses that differ by less are those of the element in another table; isotopes differ by more.
SAME_MASS = 0.01


def standard_mass(species: str, units: str) -> float:
    """That of an element in u (ASE's, of IUPAC 2016), 0 of what is none; 1 in reduced units.

    Arguments:
        species: the name of a species.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        The mass.
    """
    if units == "reduced":
        return 1.0
    number = ase.data.atomic_numbers.get(species, 0)
    return float(ase.data.atomic_masses[number]) if number else 0.0


def warn_of_own_masses(atoms: ase.Atoms, names: Sequence[str], units: str) -> None:
    """Warn where atoms have masses of their own, which a System does not keep.

    Arguments:
        atoms: N atoms.
        names: of their species, N of them.
        units: ``"ase"`` or ``"reduced"``.
    """
    if not atoms.has("masses"):
        return
    own = atoms.get_masses()
    others = np.array([standard_mass(name, units) for name in names])
    differ = (others > 0.0) & (np.abs(own - others) > SAME_MASS * others)
    if not differ.any():
        return
    of = {name: np.unique(own[np.array(names) == name]) for name in dict.fromkeys(names)}
    masses = "[...], one for each atom"
    if all(len(found) == 1 for found in of.values()):
        masses = shown({name: float(found[0]) for name, found in of.items()})
    first = int(np.flatnonzero(differ)[0])
    warn(
        f"the structure's own masses, such as {own[first]:.6g} of atom {first}, {names[first]}, "
        f"are not kept: where they matter, in vibrations, give masses={masses}"
    )
