"""Names of species beside the atoms of ASE, and in the files that ASE writes."""

import urllib.parse
from collections.abc import Sequence

import ase
import ase.data
import numpy as np

from mdsens.values import index_array

#: Name of the ASE array that keeps species which are no chemical elements.
SPECIES_ARRAY = "species_name"
#: The same where a name has spaces or the like: percent-encoded, as in addresses of pages.
QUOTED_SPECIES_ARRAY = "species_name_percent_encoded"


def keep_species_names(atoms: ase.Atoms, names: Sequence[str]) -> None:
    """Keep names of species in an array, from which files of ASE lose nothing.

    Columns of extended XYZ end at a space, and arrays of NumPy lose zeros at the end of a text.

    Arguments:
        atoms: the structure; changed in place.
        names: one for each atom.
    """
    if all(name.isprintable() and name.split() == [name] for name in set(names)):
        atoms.set_array(SPECIES_ARRAY, np.array(names))
    else:
        quoted = [urllib.parse.quote(name, safe="") for name in names]
        atoms.set_array(QUOTED_SPECIES_ARRAY, np.array(quoted))


def species_names(atoms: ase.Atoms) -> list[str]:
    """Names of the species of a structure: those that were kept, else the chemical elements.

    Arguments:
        atoms: the structure.

    Returns:
        One name for each atom.

    Raises:
        InputError: an atomic number that is no element's.
    """
    index_array(atoms.numbers, "atomic numbers", len(ase.data.chemical_symbols), from_end=False)
    if QUOTED_SPECIES_ARRAY in atoms.arrays:
        return [urllib.parse.unquote(str(name)) for name in atoms.arrays[QUOTED_SPECIES_ARRAY]]
    return [str(name) for name in atoms.arrays.get(SPECIES_ARRAY, atoms.symbols)]


def same_species_names(atoms: ase.Atoms, others: ase.Atoms) -> bool:
    """Whether two structures keep the same names, or none; elements are not looked at."""
    none = np.zeros(0)
    return all(
        np.array_equal(atoms.arrays.get(array, none), others.arrays.get(array, none))
        for array in (SPECIES_ARRAY, QUOTED_SPECIES_ARRAY)
    )
