"""Elastic constants and moduli, against stresses of strained crystals and other programs."""

import dataclasses
import functools

import ase.build
import cases
import equinox as eqx
import jax
import numerical
import numpy as np
import pytest
from cases import SILICON
from scipy.spatial.transform import Rotation

import mdsens
from mdsens import InputError, System
from mdsens.mechanics.elasticity import curvature_in_strain, unit_strains
from mdsens.observables import (
    born_stability,
    bulk_modulus,
    elastic_constant,
    elastic_constants,
    poisson_ratio,
    shear_modulus,
    slab_elastic_constants,
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
    atoms = ase.Atoms(["Ar", "Kr", "Ar", "Ar"], cell=cell, scaled_positions=fractional, pbc=True)
    tables = [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]]
    return System.from_ase(atoms), LennardJones(*tables, 4.3, species=("Ar", "Kr"))


def packing():
    """Discs in two dimensions under pressure, with one that nothing holds."""
    system = random_packing(24, {"A": 1.0, "B": 1.4}, 0.95, seed=1)
    return system, SoftSphere([[1.0, 1.2], [1.2, 1.4]], 1.0, 2.5, ("A", "B"))


def sheared_silicon():
    """Silicon in a cell that is sheared and away from its lattice constant."""
    atoms = ase.build.bulk("Si", "diamond", 5.35, cubic=True)
    shear = np.array([[1, 0.02, 0], [0, 1, 0.03], [0, 0, 1]])
    atoms.set_cell(atoms.cell @ shear, True)
    return System.from_ase(atoms), SW


CRYSTALS = {"alloy under stress": skewed_alloy, "packing": packing, "silicon": sheared_silicon}


@functools.cache
def relaxed(name, cell=None):
    return mdsens.relax(*CRYSTALS[name](), fmax=1e-12, cell=cell)


def in_base_units(constants, equilibrium):
    """Constants in energy/length^D."""
    return np.asarray(constants) * (GPA if equilibrium.system.units == "ase" else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "relaxed_ions"),
    cases.with_others(
        [*((name, True) for name in CRYSTALS), ("alloy under stress", False)],
        [("packing", False), ("silicon", False)],
    ),
)
def test_constants_are_the_slopes_of_stresses_in_strains(name, relaxed_ions):
    equilibrium = relaxed(name)
    system, potential = equilibrium.system, equilibrium.potential
    strains = unit_strains(system.dimension)

    def stresses(amount):
        found = []
        for strain in strains:
            matrix = np.eye(system.dimension) + amount * strain
            strained = eqx.tree_at(
                lambda s: (s.positions, s.cell), system,
                (system.positions @ matrix, system.cell @ matrix),
            )  # fmt: skip
            steps = 20_000 if relaxed_ions else 0
            moved = mdsens.relax(strained, potential, fmax=1e-12, max_steps=steps)
            found.append(np.asarray(moved.stress))
        return np.stack(found, axis=-1)

    # A relaxation leaves forces of this size times a stress, and rounding no more.
    size = np.abs(in_base_units(elastic_constants(False)(equilibrium), equilibrium)).max()
    oracle = numerical.derivative(stresses, 0.0, 2e-4, noise=1e-13 * size)
    found = elastic_constants(relaxed_ions)(equilibrium)
    numerical.agrees(in_base_units(found, equilibrium), oracle, 1e-6)


def test_ions_make_silicon_softer_in_shear_alone():
    clamped, free = (np.asarray(elastic_constants(r)(silicon())) for r in (False, True))
    # E. R. Cowley, Phys. Rev. Lett. 60, 2379 (1988), of this potential.
    assert free[[0, 0, 3], [0, 1, 3]] == pytest.approx([151.4, 76.4, 56.4], abs=0.1)
    assert clamped[3, 3] == pytest.approx(117.2, rel=0.1)
    np.testing.assert_allclose(clamped[:3, :3], free[:3, :3], rtol=1e-10)


@pytest.mark.slow
def test_constants_do_not_depend_on_the_cell_that_stands_for_the_crystal():
    cubic = mdsens.relax(
        System.from_ase(ase.build.bulk("Si", "diamond", 5.43, cubic=True) * (4, 4, 4)),
        SW, fmax=1e-11, cell="isotropic",
    )  # fmt: skip
    # 512 atoms: a sparse matrix in the one, a dense one in the other.
    found = (elastic_constants()(equilibrium) for equilibrium in (cubic, silicon()))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-9 * 150)


def test_clamped_and_relaxed_ions_may_be_asked_for_together(monkeypatch):
    asked = [elastic_constant(4, 4, relaxed_ions=relaxed) for relaxed in (False, True)]
    loops = []

    def counted(landscape, q, displacements, forces):
        loops.append(displacements.shape[0])
        return curvature_in_strain(landscape, q, displacements, forces)

    monkeypatch.setattr("mdsens.relaxation.equilibrium.curvature_in_strain", counted)
    sens = mdsens.sensitivity(silicon(), asked, wrt="epsilon", mode="forward")
    # Values and derivatives each from one loop over both.
    assert set(loops) == {2}
    for observable in asked:
        # The blocks of the Hessian tell it without a program; all energies scale with epsilon.
        alone = float(observable(silicon()))
        assert float(sens.observed[observable.name]) == pytest.approx(alone, rel=1e-9)
        slope = 2.1683 * float(sens[observable.name]["epsilon"])
        assert slope == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alloy under stress", "packing"])
def test_derivatives_are_those_of_relaxations_again(name):
    start, potential = CRYSTALS[name]()
    equilibrium = relaxed(name)
    parameter = {"packing": "diameter[A-B]", "alloy under stress": "sigma[Ar-Kr]"}[name]
    asked = [elastic_constants(), bulk_modulus("voigt"), elastic_constants(relaxed_ions=False)]
    sens = mdsens.sensitivity(equilibrium, asked, wrt=parameter)
    value = potential.parameters[parameter]

    def again(change):
        changed = potential.with_parameters({parameter: value + change})
        near = start.with_positions(equilibrium.positions)
        at = mdsens.relax(near, changed, fmax=1e-12)
        return np.concatenate([np.ravel(observable(at)) for observable in asked])

    size = np.abs(again(0.0)).max()
    oracle = numerical.derivative(again, 0.0, 2e-4 * value, noise=1e-13 * size)
    found = np.concatenate([np.ravel(sens[o.name][parameter]) for o in asked])
    numerical.agrees(found, oracle, 1e-6)
    # What is said of the error holds: the difference is below it and that of the oracle.
    said = np.concatenate([np.ravel(sens.errors[o.name][parameter]) for o in asked])
    assert np.all(np.abs(found - oracle.value) <= said + oracle.error)


@pytest.mark.slow
@cases.thorough("Euler's theorem, which the studies of silicon have to obey")
def test_constants_scale_with_the_parameters_that_set_the_scales():
    sens = mdsens.sensitivity(silicon(), "elastic_constants", wrt=["epsilon", "sigma"])
    value = np.asarray(sens.observed["elastic_constants"])
    for name, power, theta in (("epsilon", 1.0, 2.1683), ("sigma", -3.0, 2.0951)):
        slope = theta * np.asarray(sens["elastic_constants"][name])
        np.testing.assert_allclose(slope, power * value, atol=1e-9 * value.max())


@pytest.mark.slow
def test_jax_finds_the_same_derivatives_through_relax_and_no_second_ones():
    system, potential = CRYSTALS["packing"]()
    observable, equilibrium = elastic_constant(3, 3), relaxed("packing")
    near = system.with_positions(equilibrium.positions)

    def modulus(potential):
        return observable(mdsens.relax(near, potential, fmax=1e-12))

    gradient_of = jax.jit(jax.grad(modulus))
    gradient = gradient_of(potential)
    sens = mdsens.sensitivity(equilibrium, observable)
    for name, expected in sens[observable.name].items():
        found = float(potential.derivative(gradient, name))
        assert found == pytest.approx(float(expected), rel=1e-8, abs=1e-8)
    direction = potential.direction("epsilon")
    with pytest.raises(InputError, match="first derivatives alone"):
        jax.jvp(
            lambda p: potential.derivative(gradient_of(p), "epsilon"),
            (potential,), (direction,),
        )  # fmt: skip


@pytest.mark.slow
def test_forward_and_reverse_agree():
    equilibrium, asked = relaxed("packing"), [elastic_constant(1, 2), shear_modulus("voigt")]
    both = [mdsens.sensitivity(equilibrium, asked, mode=mode) for mode in ("forward", "reverse")]
    for observable in asked:
        for name in both[0].parameters:
            one, other = (float(sens[observable.name][name]) for sens in both)
            assert one == pytest.approx(other, rel=1e-9, abs=1e-11)


def turned(constants, turn):
    """Constants of a crystal that is turned, through the tensor of all four indices."""
    strains = unit_strains(len(turn))
    shears = np.array([np.trace(e @ e) for e in strains])
    duals = strains / shears[:, None, None]
    tensor = np.einsum("ab,aij,bkl->ijkl", constants, duals, duals)
    tensor = np.einsum("ijkl,pi,qj,rk,sl->pqrs", tensor, turn, turn, turn, turn, optimize=True)
    return np.einsum("ijkl,aij,bkl->ab", tensor, strains, strains)


@functools.cache
def jammed():
    """Discs that a pressure holds in a cell of their own shape."""
    return mdsens.relax(*packing(), fmax=1e-11, cell="full", pressure=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "crystal", [jammed, silicon, lambda: relaxed("alloy under stress", "full")]
)
def test_averages_are_those_over_all_orientations(crystal):
    """Of Voigt the mean of stiffnesses, of Reuss that of compliances; by brute force."""
    equilibrium = crystal()
    constants = np.asarray(elastic_constants()(equilibrium))
    constants = (constants + constants.T) / 2
    dimension = equilibrium.system.dimension
    # Designs that average polynomials of degree four exactly.
    if dimension == 2:
        angles = np.arange(5) * 2 * np.pi / 5
        turns = [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in angles]
    else:
        turns = Rotation.create_group("I").as_matrix()
    stiff = np.mean([turned(constants, turn) for turn in turns], axis=0)
    soft = np.linalg.inv(np.mean([np.linalg.inv(turned(constants, turn)) for turn in turns], 0))
    for average, matrix in (("voigt", stiff), ("reuss", soft)):
        bulk = matrix[:dimension, :dimension].mean()
        assert float(bulk_modulus(average)(equilibrium)) == pytest.approx(bulk, rel=1e-12)
        shear = float(shear_modulus(average)(equilibrium))
        assert shear == pytest.approx(matrix[-1, -1], rel=1e-12)
        # Young's modulus and Poisson's ratio are those of the isotropic body under tension.
        compliance = np.linalg.inv(matrix)
        young, ratio = 1.0 / compliance[0, 0], -compliance[0, 1] / compliance[0, 0]
        assert float(youngs_modulus(average)(equilibrium)) == pytest.approx(young, rel=1e-12)
        assert float(poisson_ratio(average)(equilibrium)) == pytest.approx(ratio, rel=1e-12)
    strains = dimension * (dimension + 1) // 2 - 1
    # K_V / K_R + n G_V / G_R: the trace of C_V S_R, a tensor of rank four, over all strains.
    expected = np.trace(stiff @ np.linalg.inv(soft)) - (strains + 1)
    assert float(universal_anisotropy()(equilibrium)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
def test_the_bulk_modulus_of_reuss_is_the_resistance_to_a_pressure():
    start, potential = CRYSTALS["alloy under stress"]()

    def volume(pressure):
        at = mdsens.relax(start, potential, fmax=1e-11, cell="full", pressure=pressure)
        return float(at.volume)

    equilibrium = relaxed("alloy under stress", "full")
    modulus = in_base_units(bulk_modulus("reuss")(equilibrium), equilibrium)
    slope = numerical.derivative(volume, 0.0, 1e-4, noise=1e-12 * volume(0.0))
    numerical.agrees(-float(equilibrium.volume) / modulus, slope, 1e-6)


def test_units_are_those_of_moduli():
    assert elastic_constants().units == "GPa"
    assert elastic_constants().units_of(relaxed("packing").system) == "reduced"
    assert elastic_constants().units_of(System(np.zeros((1, 2)))) == "N/m"
    assert poisson_ratio().units == "1"
    assert bulk_modulus() is mdsens.observables.parse("bulk_modulus")
    assert mdsens.observables.parse("elastic_constant(1, 2)") is elastic_constant(1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: elastic_constant(0, 1), "elastic_constant: i = 0"),
        (lambda: elastic_constant(1, 7), "elastic_constant: j = 7"),
        (lambda: bulk_modulus("mean"), "bulk_modulus: average = 'mean'"),
        (lambda: elastic_constants("yes"), "elastic_constants: relaxed_ions = 'yes'"),
        (lambda: elastic_constant(1, 6)(relaxed("packing")), "components 1, 2 and 3"),
        (lambda: elastic_constants()(slab()), "periodic in every direction"),
        (lambda: born_stability()(slab()), "born_stability with pbc"),
        (lambda: born_stability()(saddle()), "ions that relax in a strain would leave it"),
        (lambda: elastic_constants()(saddle()), "ions that relax in a strain would leave it"),
        (lambda: bulk_modulus("reuss", False)(stretched()), "a strain lowers the energy"),
        (
            lambda: mdsens.sensitivity(stretched(), "bulk_modulus('reuss',False)"),
            "a strain lowers the energy",
        ),
    ],
)
def test_what_has_no_elastic_constants_is_refused(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def slab():
    atoms = ase.build.fcc111("Ar", (1, 1, 4), a=5.3, vacuum=10.0)
    return mdsens.relax(System.from_ase(atoms), LennardJones(0.0104, 3.4, 8.0), fmax=1e-8)


@functools.cache
def stretched_slab():
    """Two sheared layers under a tension, of which one atom leaves its place across and along."""
    atoms = ase.build.fcc111("Ar", (2, 2, 2), a=5.3, vacuum=8.0)
    cell = atoms.cell.array.copy()
    cell[1, 0] += 0.15
    cell[0] *= 1.004
    atoms.set_cell(cell, scale_atoms=True)
    return mdsens.relax(System.from_ase(atoms), SLAB_POTENTIAL, fmax=1e-11)


SLAB_POTENTIAL = LennardJones(0.0104, 3.405, 8.0, onset=7.0)


@pytest.mark.slow
def test_constants_of_a_slab_are_the_slopes_of_its_tension_in_strains_of_its_plane():
    at = stretched_slab()

    def tensions(amount):
        found = []
        for strain in unit_strains(2):
            stretch = np.eye(3)
            stretch[:2, :2] += amount * strain
            strained = eqx.tree_at(
                lambda s: (s.positions, s.cell), at.system,
                (at.positions @ stretch, at.cell @ stretch),
            )  # fmt: skip
            there = mdsens.relax(strained, SLAB_POTENTIAL, fmax=1e-12)
            area = np.linalg.det(np.asarray(there.cell)[:2, :2])
            found.append(np.asarray(there.stress)[[0, 1, 5]] * float(there.volume) / area)
        return np.stack(found, axis=-1)

    constants = np.asarray(slab_elastic_constants()(at)) * OWN_UNITS["planar modulus"].size
    oracle = numerical.derivative(tensions, 0.0, 4e-4, noise=1e-13 * np.abs(constants).max())
    numerical.agrees(constants, oracle, 1e-6)


@pytest.mark.slow
def test_derivatives_of_a_slab_s_constants_are_those_of_relaxations_again():
    at, observable = stretched_slab(), slab_elastic_constants()

    def constants(change):
        potential = SLAB_POTENTIAL.with_parameters({"sigma": 3.405 + change})
        return np.asarray(observable(mdsens.relax(at.system, potential, fmax=1e-12)))

    found = np.asarray(mdsens.sensitivity(at, observable, wrt="sigma")[observable.name]["sigma"])
    size = np.abs(np.asarray(observable(at))).max()
    numerical.agrees(found, numerical.derivative(constants, 0.0, 7e-4, noise=1e-13 * size), 1e-6)


def test_a_slab_has_constants_in_the_plane_of_any_two_axes():
    at, order = stretched_slab(), [2, 0, 1]
    turned = [np.asarray(part)[:, order] for part in (at.positions, at.cell)]
    start = System(turned[0], turned[1][order], ("Ar",), pbc=(False, True, True))
    there = mdsens.relax(start, SLAB_POTENTIAL, fmax=1e-10)
    for relaxed_ions in (True, False):
        expected = slab_elastic_constants(relaxed_ions)(at)
        found = slab_elastic_constants(relaxed_ions)(there)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def saddle():
    """Two atoms where each sees the other on both sides."""
    row = ase.Atoms("Ar2", [[0, 0, 0], [4.75, 0, 0]], cell=[9.5, 4.0, 4.0], pbc=True)
    return mdsens.relax(System.from_ase(row), LennardJones(0.0104, 3.4, 8.0), fmax=1e-6)


def stretched():
    """A crystal beyond the strain at which it breaks, held by its cell."""
    atoms = ase.build.bulk("Ar", "fcc", 6.6)
    return mdsens.relax(System.from_ase(atoms), LennardJones(0.0104, 3.4, 8.0), fmax=1e-8)


@pytest.mark.parametrize("name", cases.with_others(["alloy under stress"], ["packing"]))
def test_displacements_are_refined_from_those_of_a_place_nearby(name):
    """What errors are told by: to second order in the way, with the linear solves of the place."""
    equilibrium = relaxed(name)
    here = np.asarray(equilibrium.displacements_in_strain)
    way = np.random.default_rng(0).normal(size=equilibrium.q.shape)
    way[np.asarray(equilibrium.landscape.rattlers)] = 0.0
    q = equilibrium.q + 1e-5 * way
    there = np.asarray(dataclasses.replace(equilibrium, q=q).displacements_in_strain)
    refined = np.asarray(equilibrium.moved_little(q).displacements_in_strain)
    change = np.linalg.norm(there - here)
    assert np.linalg.norm(refined - there) < 0.02 * change
    assert change > 1e-7 * np.linalg.norm(here)
