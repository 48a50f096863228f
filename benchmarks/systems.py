"""What is computed: two materials in several sizes, and the numbers of their potentials.

This module imports nothing heavy, so that the program that starts the workers stays small.
"""

import dataclasses
from typing import Any

#: Lennard-Jones argon, in eV and Angstrom.
ARGON = {"epsilon": 0.0104, "sigma": 3.405, "cutoff": 8.5}
#: Silicon of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), in eV and Angstrom.
SILICON = {
    "epsilon": 2.1683,
    "sigma": 2.0951,
    "a": 1.80,
    "lambda_": 21.0,
    "gamma": 1.20,
    "costheta0": -1.0 / 3.0,
    "A": 7.049556277,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
}
#: Standard deviation of each coordinate about its lattice site, Angstrom.
RATTLE = 0.1
#: Largest force at which relaxations stop, eV/Angstrom, and steps that they may take.
FMAX = 1e-6
MAX_STEPS = 20_000
#: Skin of the edges of the JAX programs, as a fraction of the range: what `mdsens.relax` uses.
SKIN_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """A crystal of one material.

    Arguments:
        potential: ``"lj"`` (argon, fcc) or ``"sw"`` (silicon, diamond, one atom missing).
        repeats: cubic cells along each edge of the box.
    """

    potential: str
    repeats: int

    @property
    def atom_count(self) -> int:
        """Number of atoms."""
        return 4 * self.repeats**3 if self.potential == "lj" else 8 * self.repeats**3 - 1

    @property
    def name(self) -> str:
        """What tables call it."""
        label = "LJ argon" if self.potential == "lj" else "SW silicon"
        return f"{label}, {self.atom_count:,} atoms"

    @property
    def lattice_constant(self) -> float:
        """Edge of the cubic cell, Angstrom."""
        return 5.26 if self.potential == "lj" else 5.431

    @property
    def box(self) -> float:
        """Edge of the cubic box, Angstrom."""
        return self.lattice_constant * self.repeats

    @property
    def interaction_range(self) -> float:
        """Distance beyond which atoms do not interact, Angstrom."""
        return ARGON["cutoff"] if self.potential == "lj" else SILICON["a"] * SILICON["sigma"]

    @property
    def skin(self) -> float:
        """Skin of the JAX programs' edges, Angstrom."""
        return SKIN_FRACTION * self.interaction_range

    def positions(self) -> Any:
        """Rattled positions within the box, shape (N, 3), Angstrom; the same in every process."""
        import numpy as np
        from ase.build import bulk

        element, lattice = ("Ar", "fcc") if self.potential == "lj" else ("Si", "diamond")
        atoms = bulk(element, lattice, a=self.lattice_constant, cubic=True) * ((self.repeats,) * 3)
        sites = atoms.positions if self.potential == "lj" else atoms.positions[1:]
        rattled = sites + np.random.default_rng(0).normal(scale=RATTLE, size=sites.shape)
        return np.mod(rattled, self.box)


#: The cases of a full and of a quick run.
FULL = (Case("lj", 8), Case("lj", 16), Case("sw", 6), Case("sw", 12))
QUICK = (Case("lj", 5), Case("sw", 4))
