"""Derivatives in conditions: pressure, stress, strain, and where fixed atoms are held."""

import functools
import re

import ase.build
import cases
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from ase.constraints import FixAtoms, FixCom, FixedLine, FixedPlane
from cases import SILICON

import mdsens
from mdsens import InputError, System
from mdsens.mechanics.elasticity import unit_strains
from mdsens.particles import random_packing
from mdsens.potentials import (
    LennardJones,
    Parameter,
    SoftSphere,
    StillingerWeber,
    TruncatedPairPotential,
    parameter,
)
from mdsens.relaxation.relax import relax_further
from mdsens.sensitivities.variables import Variables, kind_of
from mdsens.units import OWN_UNITS

GPA = OWN_UNITS["modulus"].size
ARGON = LennardJones(0.0104, 3.4, 7.1)


def alloy():
    """Two kinds of atoms in a triclinic cell, where nothing is symmetric."""
    cell = np.array([[3.3, 0.2, 0.1], [0.5, 3.1, -0.2], [-0.3, 0.4, 3.2]])
    fractional = np.array([[0, 0, 0], [0.5, 0.5, 0.02], [0.5, 0, 0.5], [0.03, 0.5, 0.5]])
    atoms = ase.Atoms(["Ar", "Kr", "Ar", "Ar"], cell=cell, scaled_positions=fractional, pbc=True)
    tables = [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]]
    return System.from_ase(atoms), LennardJones(*tables, 4.3, species=("Ar", "Kr"))


def slab():
    """A slab with its lowest layer held, out of its lattice constant."""
    atoms = ase.build.fcc100("Ar", (2, 2, 3), a=5.2, vacuum=8.0)
    atoms.rattle(0.05, seed=4)
    held = atoms.positions[:, 2] < atoms.positions[:, 2].min() + 0.5
    return System.from_ase(atoms).with_fixed(held), ARGON


def wire():
    """A chain of silicon tetrahedra, periodic along one direction that is no axis."""
    atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True)
    atoms.set_cell([[5.43, 0, 0], [0, 30, 0], [0, 0, 30]])
    atoms.pbc = (True, False, False)
    atoms.rotate(20, "z", rotate_cell=True)
    atoms.rattle(0.05, seed=2)
    return System.from_ase(atoms), StillingerWeber(2.1683, 2.0951, **SILICON)


def packing():
    """Discs in two dimensions."""
    system = random_packing(16, {"A": 1.0, "B": 1.4}, 1.0, seed=3)
    return system, SoftSphere([[1.0, 1.2], [1.2, 1.4]], 1.0, 2.5, ("A", "B"))


STRUCTURES = {"alloy": alloy, "slab": slab, "wire": wire, "packing": packing}


@functools.cache
def relaxed(name, cell=None, pressure=0.0):
    return mdsens.relax(*STRUCTURES[name](), fmax=1e-11, cell=cell, pressure=pressure)


#: Other components of a stress are given to `relax`, and other held atoms pull, in tests below.
CASES = [
    ("alloy", "full", 0.0, "pressure"),
    ("alloy", "shape", 0.0, "stress[xz]"),
    ("packing", "full", 0.05, "pressure"),
    ("packing", None, 0.0, "strain[xy]"),
    ("slab", None, 0.0, "strain[xx]"),
    ("slab", None, 0.0, "fixed_positions[2,z]"),
    ("wire", None, 0.0, "strain[xx]"),
    *cases.with_others(
        [],
        [
            ("packing", "isotropic", 0.05, "stress[yy]"),
            ("alloy", None, 0.0, "strain[xx]"),
            ("alloy", None, 0.0, "strain[yz]"),
        ],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cell", "pressure", "variable"), CASES)
def test_derivatives_in_conditions_are_those_of_relaxing_again(name, cell, pressure, variable):
    equilibrium = relaxed(name, cell, pressure)
    # In the relaxed alloy two images of an atom are as near as each other, where distances bend.
    bends = name == "alloy" and cell is not None
    asked = ["energy", "lattice_constants" if bends else "distance(0,3)"]
    asked += ["stress"] if all(equilibrium.system.pbc) else []
    sens = mdsens.sensitivity(equilibrium, asked, wrt=variable)
    variables = Variables.of(equilibrium.landscape, [variable])

    def again(change):
        moved = variables.changed(variable, change).at(equilibrium, equilibrium.q)
        found = relax_further(moved, moved.potential, "newton", 1e-13, 100, 0.2, None)
        return np.concatenate([np.ravel(o(found)) for o in sens.observables.values()])

    noise = 4e-15 * np.abs(again(0.0)).max()
    # Each knows how wrong it may be: the one that knows best judges.
    oracles = [numerical.derivative(again, 0.0, step, noise=noise) for step in (1e-3, 1e-4, 3e-5)]
    oracle = min(oracles, key=lambda one: np.linalg.norm(one.error))
    found = np.concatenate([np.ravel(sens[o][variable]) for o in sens.observables])
    numerical.agrees(found, oracle, 1e-6)


@pytest.mark.slow
def test_the_changed_conditions_are_the_ones_that_relax_is_given():
    """Pressure and stress as relax takes them."""
    start, potential = alloy()
    equilibrium = relaxed("alloy", "full")
    for name, options in (
        ("pressure", {"pressure": 1e-4}),
        ("stress[xy]", {"stress": [0, 0, 0, 0, 0, 1e-4]}),
        ("stress[zz]", {"stress": [0, 0, 1e-4, 0, 0, 0]}),
    ):
        expected = mdsens.relax(start, potential, fmax=1e-12, cell="full", **options)
        variables = Variables.of(equilibrium.landscape, [name])
        moved = variables.changed(name, 1e-4).at(equilibrium, equilibrium.q)
        found = relax_further(moved, potential, "newton", 1e-13, 100, 0.2, None)
        assert float(found.volume) == pytest.approx(float(expected.volume), rel=1e-10)
        np.testing.assert_allclose(found.cell, expected.cell, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alloy", "packing"])
def test_a_volume_gives_way_to_a_pressure_as_the_bulk_modulus_says(name):
    equilibrium = relaxed(name, "full", 0.05 if name == "packing" else 0.0)
    sens = mdsens.sensitivity(equilibrium, "volume", wrt="pressure")
    modulus = float(mdsens.observables.bulk_modulus("reuss")(equilibrium))
    modulus *= GPA if equilibrium.system.units == "ase" else 1.0
    slope = -float(equilibrium.volume) / modulus
    assert float(sens["volume"]["pressure"]) == pytest.approx(slope, rel=1e-9)
    assert sens.units("volume", "pressure") == (
        "Ang^3/(eV/Ang^3)" if name == "alloy" else "reduced"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alloy", "packing"])
def test_stresses_follow_strains_as_the_elastic_constants_say(name):
    equilibrium = relaxed(name)
    sens = mdsens.sensitivity(equilibrium, ["stress", "energy"], wrt="strain")
    slopes = np.stack([np.asarray(slope) for slope in sens["stress"].values()], axis=1)
    constants = np.asarray(mdsens.observables.elastic_constants()(equilibrium))
    constants = constants * (GPA if equilibrium.system.units == "ase" else 1.0)
    np.testing.assert_allclose(slopes, constants, atol=1e-9 * np.abs(constants).max())
    work = [float(slope) for slope in sens["energy"].values()]
    expected = float(equilibrium.volume) * np.asarray(equilibrium.stress)
    np.testing.assert_allclose(work, expected, atol=1e-9 * np.abs(expected).max())


def test_an_atom_that_is_held_pulls_with_its_force():
    equilibrium = relaxed("slab")
    fixed = np.flatnonzero(np.asarray(equilibrium.system.fixed))
    sens = mdsens.sensitivity(equilibrium, "energy", wrt="fixed_positions")
    slopes = np.array([float(slope) for slope in sens["energy"].values()]).reshape(-1, 3)
    np.testing.assert_allclose(slopes, -np.asarray(equilibrium.forces)[fixed], atol=1e-10)
    assert sens.mode == "reverse"
    # All held atoms together take the others along.
    moved = sum(np.asarray(sens.positions[f"fixed_positions[{atom},x]"]) for atom in fixed)
    np.testing.assert_allclose(moved, np.tile([1.0, 0.0, 0.0], (len(moved), 1)), atol=1e-9)


def test_a_strain_moves_atoms_and_cell_alike_where_they_are_all_equal():
    atoms = ase.build.bulk("Ar", "fcc", 5.2, cubic=True)
    equilibrium = mdsens.relax(System.from_ase(atoms), ARGON, fmax=1e-11)
    sens = mdsens.sensitivity(equilibrium, wrt=["strain[xy]", "strain[zz]"])
    assert sens.relaxes_cell
    for name, strain in zip(("strain[xy]", "strain[zz]"), unit_strains(3)[[5, 2]], strict=True):
        np.testing.assert_allclose(sens.cell[name], equilibrium.cell @ strain, atol=1e-12)
        expected = np.asarray(equilibrium.positions) @ strain
        np.testing.assert_allclose(sens.positions[name], expected, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cell", "wrt"),
    [("slab", None, ["strain", "fixed_positions", "sigma"]), ("alloy", "full", ["stress"])],
)
def test_forward_and_reverse_agree(name, cell, wrt):
    equilibrium = relaxed(name, cell)
    both = [
        mdsens.sensitivity(equilibrium, ["energy", "distance(0,3)"], wrt, mode=mode)
        for mode in ("forward", "reverse")
    ]
    for observable in both[0]:
        for variable in both[0].parameters:
            one, other = (float(sens[observable][variable]) for sens in both)
            assert one == pytest.approx(other, rel=1e-9, abs=1e-10)


def test_conditions_are_kept_with_a_file(tmp_path):
    sens = mdsens.sensitivity(relaxed("alloy", "full"), "volume", wrt=["pressure", "epsilon"])
    sens.save(tmp_path / "kept.npz")
    again = mdsens.Sensitivity.load(tmp_path / "kept.npz")
    assert float(again["volume"]["pressure"]) == float(sens["volume"]["pressure"])
    assert again.units("volume", "pressure") == "Ang^3/(eV/Ang^3)"
    np.testing.assert_array_equal(again.cell["pressure"], sens.cell["pressure"])
    table = sens.to_dataframe()
    assert set(table["parameter"]) == {"pressure", *[p for p in sens.parameters if "eps" in p]}


def test_a_parameter_of_the_potential_is_meant_before_a_condition_of_its_name():
    class Pressed(TruncatedPairPotential):
        """With a parameter that has the name of a condition."""

        strain: Parameter = parameter("energy")

        def pair_energies(self, r):
            return self.strain * jnp.exp(-r)

    assert kind_of("strain", ARGON) == "strain"
    assert kind_of("strain", Pressed(strain=1.0, cutoff=3.0)) is None


@pytest.mark.parametrize(
    ("name", "cell", "wrt", "message"),
    [
        ("alloy", None, "pressure", "acts on a cell that relaxes, and the cell is fixed"),
        ("alloy", None, "stress", "acts on a cell that relaxes, and the cell is fixed"),
        ("alloy", "full", "strain", "the cell relaxes, and has the strain that its load gives"),
        ("alloy", None, "fixed_positions", "no atom is fixed"),
        ("slab", None, "fixed_positions[11,x]", "did you mean 'fixed_positions["),
        ("alloy", "full", "stress[zx]", "did you mean 'stress["),
        ("packing", None, "strain[zz]", "did you mean 'strain["),
        ("alloy", "full", "presure", "did you mean 'pressure'?"),
    ],
)
def test_conditions_that_a_structure_has_not_are_refused(name, cell, wrt, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        mdsens.sensitivity(relaxed(name, cell), "energy", wrt=wrt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("constraint", [FixedPlane, FixedLine])
def test_the_energy_of_what_slides_follows_a_strain_by_its_virial(constraint):
    # What is held is strained where it is, and what slides is at rest: nothing else has a part.
    atoms = ase.build.bulk("Ar", "fcc", 5.2, cubic=True)
    del atoms[3]
    atoms.positions += np.random.default_rng(2).normal(scale=0.02, size=(3, 3))
    atoms.set_constraint(constraint([1], (1, 2, 1)))
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-11)
    found = mdsens.sensitivity(equilibrium, "energy", wrt="strain", error_estimate=False)
    slopes = [float(slope) for slope in found["energy"].values()]
    virial = np.asarray(equilibrium.stress) * float(equilibrium.volume)
    np.testing.assert_allclose(slopes, virial, rtol=1e-9, atol=1e-10)


def test_what_slides_is_at_rest_on_planes_that_a_strain_has_turned():
    # Relaxed anew with what holds it turned, a structure is where its derivative says.
    atoms = ase.build.bulk("Ar", "fcc", 5.2, cubic=True)
    del atoms[3]
    atoms.positions += np.random.default_rng(2).normal(scale=0.02, size=(3, 3))
    atoms.set_constraint([FixedPlane([1], (1, 2, 1)), FixedLine([2], (1, -2, 0.3)), FixCom()])
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-11)
    found = mdsens.sensitivity(equilibrium, wrt="strain[xy]", error_estimate=False)
    variables = Variables.of(equilibrium.landscape, ["strain[xy]"])

    def again(change):
        moved = variables.changed("strain[xy]", change).at(equilibrium, equilibrium.q)
        return relax_further(moved, ARGON, "newton", 1e-13, 100, 0.2, None).positions

    slope = (again(1e-5) - again(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, found.positions["strain[xy]"], atol=1e-5)
    slid = slope - equilibrium.positions @ unit_strains(3)[5]
    assert np.abs(slid).max() > 1e-2


def test_what_may_not_move_at_all_has_no_response_but_a_derivative():
    atoms = ase.build.bulk("Ar", "fcc", 5.2, cubic=True)
    del atoms[3]
    # Where one of two slides, the other has to follow, and may not.
    line, plane = FixedLine([2], (1, -2, 0.3)), FixedPlane([1], (1, 2, 1))
    atoms.set_constraint([FixAtoms([0]), plane, line, FixCom()])
    equilibrium = mdsens.relax(mdsens.System.from_ase(atoms), ARGON, fmax=1e-11)
    found = mdsens.sensitivity(equilibrium, "energy", wrt=["strain[xx]", "sigma"])
    np.testing.assert_allclose(found.positions["sigma"], 0.0, atol=1e-14)
    virial = float(equilibrium.stress[0] * equilibrium.volume)
    assert float(found["energy"]["strain[xx]"]) == pytest.approx(virial, rel=1e-9)
