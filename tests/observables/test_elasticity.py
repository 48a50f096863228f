"""Elastic constants and moduli, against stresses of strained crystals and other programs."""

import functools

import ase.build
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from cases import SILICON

import mdsens
from mdsens import InputError, System
from mdsens.mechanics.elasticity import unit_strains
from mdsens.observables import (
    bulk_modulus,
    elastic_constant,
    elastic_constants,
    poisson_ratio,
    shear_modulus,
    universal_anisotropy,
    youngs_modulus,
)
from mdsens.particles import random_packing
from mdsens.potentials import LennardJones, SoftSphere, StillingerWeber
from mdsens.units import OWN_UNITS

SW = StillingerWeber(2.1683, 2.0951, **SILICON)
GPA = OWN_UNITS["modulus"].size


@functools.cache
def silicon(cell="full"):
    """Diamond at rest."""
    atoms = ase.build.bulk("Si", "diamond", 5.43)
    return mdsens.relax(System.from_ase(atoms), SW, fmax=1e-11, cell=cell)


def skewed_alloy():
    """A few atoms of two kinds in a triclinic cell, under stress; nothing is symmetric."""
    cell = np.array([[3.3, 0.2, 0.1], [0.5, 3.1, -0.2], [-0.3, 0.4, 3.2]])
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.02], [0.5, 0, 0.5], [0.03, 0.5, 0.5]])
    system = System.from_ase(
        ase.Atoms(["Ar", "Kr", "Ar", "Ar"], cell=cell, scaled_positions=fractional, pbc=True)
    )
    tables = [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]]
    return system, LennardJones(*tables, 4.3, species=("Ar", "Kr"))


def packing():
    """Discs in two dimensions under pressure, rattlers among them."""
    system = random_packing({"A": 12, "B": 12}, {"A": 1.0, "B": 1.4}, 0.90, seed=1)
    return system, SoftSphere([[1.0, 1.2], [1.2, 1.4]], 1.0, 2.5, ("A", "B"))


def disordered_silicon():
    """Silicon in a cell that is sheared and out of its lattice constant."""
    atoms = ase.build.bulk("Si", "diamond", 5.35, cubic=True)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0, 0, 0.03], [0, 0, 0]]), True)
    atoms.rattle(0.05, seed=3)
    return System.from_ase(atoms), SW


CRYSTALS = {
    "skewed alloy under stress": skewed_alloy,
    "packing": packing,
    "sheared silicon": disordered_silicon,
}


@pytest.mark.parametrize("relaxed_ions", [True, False])
@pytest.mark.parametrize("name", CRYSTALS)
def test_constants_are_the_slopes_of_stresses_in_strains(name, relaxed_ions):
    start, potential = CRYSTALS[name]()
    equilibrium = mdsens.relax(start, potential, fmax=1e-12)
    at_rest, settled = equilibrium.system, equilibrium.positions
    strains = unit_strains(at_rest.dimension)

    def stresses(amount):
        found = []
        for strain in strains:
            matrix = np.eye(at_rest.dimension) + amount * strain
            cell = np.asarray(at_rest.cell) @ matrix
            strained = System(
                np.asarray(settled) @ matrix, cell, at_rest.pbc, at_rest.species,
                at_rest.species_names, units=at_rest.units,
            )  # fmt: skip
            steps = 20_000 if relaxed_ions else 0
            relaxed = mdsens.relax(strained, potential, fmax=1e-12, max_steps=steps)
            found.append(np.asarray(relaxed.stress))
        return np.stack(found, axis=-1)

    oracle = numerical.derivative(stresses, 0.0, 2e-4)
    found = elastic_constants(relaxed_ions)(equilibrium)
    unit = GPA if at_rest.units == "ase" else 1.0
    numerical.agrees(np.asarray(found) * unit, oracle, 1e-6)
