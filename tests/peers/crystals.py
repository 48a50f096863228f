"""Crystals that are relaxed here and by other programs, in potentials that all of them have."""

import functools

import ase
import ase.build
import cases
import lammps_runs
import numpy as np

import mdsens
from mdsens import System
from mdsens.mechanics.elasticity import unit_strains
from mdsens.potentials import LennardJones, StillingerWeber

#: Epsilon and sigma of two kinds of atoms.
TABLES = np.array([[0.010, 0.012], [0.012, 0.014]]), np.array([[2.1, 2.15], [2.15, 2.2]])
CUTOFF, PAIRS = 4.3, ((0, 0), (0, 1), (1, 1))
LJ = LennardJones(*TABLES, CUTOFF, "shifted", species=("Ar", "Kr"))
SW = StillingerWeber(2.1683, 2.0951, **cases.SILICON)


def pair_commands():
    """The potential of the alloy in LAMMPS's words."""
    return [f"pair_style lj/cut {CUTOFF}", "pair_modify shift yes"] + [
        f"pair_coeff {i + 1} {j + 1} {TABLES[0][i, j]} {TABLES[1][i, j]}" for i, j in PAIRS
    ]


def silicon_commands(folder):
    """That of silicon, with a file in a folder."""
    numbers = [2.1683, 2.0951, *(cases.SILICON[name] for name in cases.SILICON), 0.0]
    path = folder / "silicon.sw"
    path.write_text("Si Si Si " + " ".join(f"{number:.17g}" for number in numbers))
    return ["pair_style sw", f"pair_coeff * * {path} Si"]


@functools.cache
def alloy():
    """Layers Ar Ar Kr of an fcc crystal at rest, in a cell with right angles.

    Ar has another layer on either side, and moves in a strain.
    """
    places = np.array([[0, 0, 0], [0, 1 / 3, 1 / 3], [0, 2 / 3, 2 / 3]])
    places = np.concatenate([places, places + np.array([0.5, 0.5, 0.0])])
    edges = 2.35 * np.sqrt([1, 3, 6])
    atoms = ase.Atoms("ArArKrArArKr", cell=edges, scaled_positions=places, pbc=True)
    found = mdsens.relax(System.from_ase(atoms), LJ, fmax=1e-9, cell="diagonal").to_ase()
    found.calc = None
    return found


def strained(atoms, strain):
    """The same with a strain, in Voigt components, turned as LAMMPS wants it."""
    changed = atoms.copy()
    cell = atoms.cell[:] @ (np.eye(3) + np.tensordot(strain, unit_strains(3), 1))
    changed.set_cell(lammps_runs.lower_triangular(cell), scale_atoms=True)
    return changed


def wurtzite():
    """Silicon's other tetrahedra, with a distance of layers that is not at rest."""
    return ase.build.bulk("SiSi", "wurtzite", a=3.8, c=6.3, u=0.37)
