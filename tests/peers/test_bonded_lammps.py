"""Bonds, angles and dihedrals of a molecule, and an elastic network, against LAMMPS."""

import ase
import lammps_runs
import numerical
import numpy as np
import pytest

from mdsens import System
from mdsens.mechanics import voigt
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.particles.edges import no_edges
from mdsens.potentials import Angles, Bonds, Dihedrals

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
TOLERANCE = 1e-10
ROOM = (
    "bond/types 1 angle/types 1 dihedral/types 1 extra/bond/per/atom 16 extra/angle/per/atom 4 "
    "extra/dihedral/per/atom 4 extra/special/per/atom 64"
)
NO_PAIRS = ["pair_style zero 4.0", "pair_coeff * *", "special_bonds lj/coul 1 1 1"]
#: Two chains of four atoms, one of which crosses the side of the cell.
PLACES = np.array([
    [1.0, 1.2, 1.1], [2.3, 1.9, 1.4], [3.1, 1.0, 2.3], [4.4, 1.6, 2.9],
    [7.2, 5.0, 5.1], [8.3, 5.9, 5.3], [9.4, 5.2, 6.2], [10.3, 6.2, 6.9],
])  # fmt: skip
CHAIN = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
BONDS, ANGLES = (
    np.concatenate([CHAIN[:, first : first + size] for first in range(5 - size)]) for size in (2, 3)
)
#: Stiffnesses are twice those of LAMMPS where the energy is a square.
TERMS = {
    "bonds": (
        Bonds(BONDS, 2 * 3.1, 1.4), ["bond_style harmonic", "bond_coeff 1 3.1 1.4"], "bond", BONDS,
    ),
    "angles": (
        Angles(ANGLES, 2 * 0.8, 105.0),
        ["angle_style harmonic", "angle_coeff 1 0.8 105"], "angle", ANGLES,
    ),
    "dihedrals": (
        Dihedrals(CHAIN, 0.37, 60.0, 3),
        ["dihedral_style charmm", "dihedral_coeff 1 0.37 3 60 0.0"], "dihedral", CHAIN,
    ),
}  # fmt: skip


def assert_agrees(lammps, atoms, potential, commands, kind, groups):
    made = [
        f"create_bonds single/{kind} 1 {' '.join(str(index + 1) for index in group)} special no"
        for group in groups
    ]
    run = lammps_runs.of(
        lammps, atoms, ["C"], [*NO_PAIRS, *commands, *made, "run 0 post no"], "molecular", room=ROOM
    )
    system = System.from_ase(atoms)
    energy, forces, virial = compiled_energy_forces_virial(
        system, potential.in_system(system), no_edges(len(atoms), 3)
    )
    assert float(energy) == pytest.approx(run.get_thermo("pe"), rel=TOLERANCE)
    expected = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3)
    assert np.abs(expected).max() > 0.1
    assert numerical.relative_error(forces, expected) < TOLERANCE
    stress = voigt(virial) / system.volume
    assert numerical.relative_error(stress, lammps_runs.stress(run)) < TOLERANCE
    run.close()


@pytest.mark.parametrize("name", TERMS)
def test_terms_of_a_molecule(lammps, name):
    potential, commands, kind, groups = TERMS[name]
    atoms = ase.Atoms("C8", PLACES, cell=[9.0, 8.0, 9.5], pbc=True)
    assert_agrees(lammps, atoms, potential, commands, kind, groups)


def test_an_elastic_network_from_a_list_of_edges(lammps):
    random = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * 2.0
    atoms = ase.Atoms("C27", sites + random.normal(scale=0.1, size=sites.shape), cell=[20.0] * 3)
    atoms.center()
    apart = atoms.get_all_distances()
    pairs = np.argwhere(np.triu((apart < 3.3) & (apart > 0.0)))
    assert len(pairs) > 100
    atoms.pbc = True
    network = Bonds(pairs, 2 * 0.7, 1.9)
    commands = ["bond_style harmonic", "bond_coeff 1 0.7 1.9"]
    assert_agrees(lammps, atoms, network, commands, "bond", pairs)
