"""Masses of atoms: those of the elements, or others by species or by atom."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.particles.standard_masses import standard_mass
from mdsens.particles.system import System
from mdsens.values import listing, real, real_array, shown, text


@dataclasses.dataclass(frozen=True)
class Masses:
    """What masses the atoms of a system have; two that say the same are equal.

    Attributes:
        by_species: names of species and their masses; others have the standard mass of the element
            (ASE's, of IUPAC 2016), or 1 in reduced units.
        by_atom: one mass for each atom in the place of all these; None: by species.
    """

    by_species: tuple[tuple[str, float], ...] = ()
    by_atom: tuple[float, ...] | None = None

    @staticmethod
    def given(masses: Any, name: str) -> "Masses":
        """Masses as a user gives them.

        Arguments:
            masses: a dict by species, numbers for all atoms, or None.
            name: what they are called, for the message.

        Returns:
            The Masses.

        Raises:
            InputError: no positive numbers.
        """
        if masses is None:
            return Masses()
        if not isinstance(masses, Mapping):
            return Masses(by_atom=tuple(real_array(masses, name, ("N",), above=0.0).tolist()))
        checked = {
            text(species, f"{name}: a species"): real(mass, f"{name}[{shown(species)}]", above=0.0)
            for species, mass in masses.items()
        }
        return Masses(tuple(sorted(checked.items())))

    @property
    def argument(self) -> dict[str, float] | tuple[float, ...] | None:
        """The same as it may be given; None where nothing was."""
        return self.by_atom if self.by_atom is not None else dict(self.by_species) or None

    def require(self, system: System, name: str) -> None:
        """Raise InputError where they do not suit a system.

        Arguments:
            system: N atoms.
            name: of what needs them, for the message.
        """
        if self.by_atom is not None:
            if len(self.by_atom) != system.atom_count:
                raise InputError(
                    f"{name}: {len(self.by_atom)} masses for {system.atom_count} atoms: give one "
                    "for each, or a dict by species"
                )
            return
        known = dict(self.by_species)
        for species in known:
            if species not in system.symbols:
                raise InputError(
                    f"{name}: masses names the species {shown(species)}, of which there is no "
                    f"atom; give them for {listing(system.symbols)}"
                )
        for species in system.symbols:
            if species not in known and not standard_mass(species, system.units):
                raise InputError(
                    f"{name}: the species {shown(species)} is no chemical element and has no mass: "
                    f"give it one, as in masses={{{species!r}: 40.0}}"
                )

    def of(self, system: System) -> Float[np.ndarray, " M"]:
        """The masses of a system's atoms, or of its species in the order of their names.

        Arguments:
            system: N atoms, for which `require` has held.

        Returns:
            Shape (N,) where they were given by atom, else (S,); in u, or reduced.
        """
        if self.by_atom is not None:
            return np.array(self.by_atom)
        known = dict(self.by_species)
        return np.array(
            [known.get(name) or standard_mass(name, system.units) for name in system.symbols]
        )
