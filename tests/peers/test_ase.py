"""Energies, forces and stress against the calculators of ASE."""

import ase
import ase.build
import numerical
import numpy as np
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.morse import MorsePotential as AseMorse

from mdsens import Calculator, System, mechanics
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, Morse

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("ase")]


def squeezed_crystal():
    """A rattled fcc crystal under pressure in a cell that is no box."""
    atoms = ase.build.bulk("Cu", "fcc", 1.5) * (2, 1, 2)
    atoms.rattle(0.03, seed=2)
    return atoms


@pytest.mark.parametrize("pbc", [True, (True, False, True), False], ids=["3D", "slab", "cluster"])
@pytest.mark.parametrize(
    ("calculator", "potential"),
    [
        # ASE shifts its energy to zero at the cutoff.
        (AseLennardJones(sigma=1.1, epsilon=0.7, rc=2.6), LennardJones(0.7, 1.1, 2.6, "shifted")),
        # ASE's switch is the quintic one, its exponent rho0 is alpha r0.
        (
            AseMorse(epsilon=0.9, rho0=5.5, r0=1.1, rcut1=1.7, rcut2=2.4),
            Morse(0.9, 5.0, 1.1, 2.64, onset=1.87),
        ),
    ],
    ids=["lennard-jones", "morse"],
)
def test_energy_forces_and_stress(calculator, potential, pbc):
    atoms = squeezed_crystal()
    atoms.pbc = pbc
    atoms.calc = calculator
    ours = atoms.copy()
    ours.calc = Calculator(potential)
    asked = ["energy", "energies", "forces", *(["stress"] if atoms.pbc.any() else [])]
    for name in asked:
        values = (one.calc.get_property(name, one) for one in (ours, atoms))
        assert numerical.relative_error(*values) < 1e-10, name


def test_a_squeezed_crystal_has_negative_stress():
    system = System.from_ase(ase.build.bulk("Cu", "fcc", 1.3))
    potential = LennardJones(1.0, 1.0, 2.5)
    edge_list = find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc, potential.cutoff
    )
    assert np.trace(mechanics.stress(system, potential, edge_list)) < 0
