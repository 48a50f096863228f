"""The least stiffness of crystals, against pressures of cells and structures relaxed again."""

import functools

import ase
import ase.build
import numerical
import numpy as np
import pytest
import scipy.spatial.transform

import mdsens
from mdsens import System
from mdsens.observables import born_stability, elastic_constants
from mdsens.potentials import LennardJones
from mdsens.units import OWN_UNITS

GPA = OWN_UNITS["modulus"].size
#: No shell of the crystals below is inside its switch.
ARGON = LennardJones(0.0104, 3.4, 5.3, onset=4.9)
ALLOY = LennardJones(
    [[0.010, 0.012], [0.012, 0.014]], [[2.1, 2.15], [2.15, 2.2]], 4.3, species=("Ar", "Kr")
)


def argon(edge, turn=None, **options):
    """An fcc crystal, perhaps turned."""
    atoms = ase.build.bulk("Ar", "fcc", edge)
    if turn is not None:
        atoms.set_cell(atoms.cell[:] @ turn, scale_atoms=True)
    return mdsens.relax(System.from_ase(atoms), ARGON, fmax=1e-11, **options)


@functools.cache
def start():
    """Three layers of two kinds of atoms, in a triclinic cell."""
    cell = 2.35 * np.array([[1.0, 0.02, 0], [-0.5, 0.88, 0.03], [0.04, 0, np.sqrt(6.0)]])
    places = np.array([[0, 0, 0], [2, 1, 1], [1, 2, 2]]) / 3
    atoms = ase.Atoms(["Ar", "Ar", "Kr"], cell=cell, scaled_positions=places, pbc=True)
    return System.from_ase(atoms)


@functools.cache
def alloy():
    """Its atoms at rest under a stress."""
    return mdsens.relax(start(), ALLOY, fmax=1e-12)


@pytest.mark.parametrize("edge", [5.8, 5.9])
def test_a_stretched_crystal_gives_way_to_dilation_where_its_tension_is_largest(edge):
    """Then the least of the stiffnesses is three bulk moduli, -3 V dp/dV, of either sign."""
    crystal = argon(edge)

    def pressure(volume):
        size = (4.0 * volume) ** (1 / 3)
        return float(argon(size, max_steps=0).pressure)

    volume = float(crystal.volume)
    slope = numerical.derivative(pressure, volume, 0.006 * volume, noise=1e-16)
    found = GPA * float(born_stability()(crystal))
    numerical.agrees(-found / (3 * volume), slope, 1e-6)
    assert (found > 0.0) == (edge < 5.85)
    assert pressure(volume) < 0.0


def test_the_least_stiffness_is_that_of_the_tensor_whatever_the_axes():
    turn = scipy.spatial.transform.Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
    both = [float(born_stability()(argon(5.25, turn=one))) for one in (None, turn)]
    assert both[0] == pytest.approx(both[1], rel=1e-10)
    constants = np.asarray(elastic_constants()(argon(5.25)))
    shears = constants[0, 0] - constants[0, 1], 2.0 * constants[3, 3]
    assert both[0] == pytest.approx(min(shears), rel=1e-10)


def test_what_is_not_stable_or_not_relaxed_is_said_in_one_line():
    """Of simple cubic argon its cell alone holds the shape."""
    cubic = System.from_ase(ase.build.bulk("Ar", "sc", 3.6))
    apart = LennardJones(0.0104, 3.4, 5.9, onset=5.3)
    crystal = mdsens.relax(cubic, apart, cell="isotropic", fmax=1e-10)
    assert crystal.certificate.stable
    for name in ("elastic_constants", "elastic_constant(4,4)"):
        with pytest.warns(mdsens.MdsensWarning, match="a strain lowers its energy"):
            mdsens.observables.parse(name)(crystal)
    with pytest.warns(mdsens.MdsensWarning, match="not stable") as lines:
        mdsens.sensitivity(crystal, "elastic_constants", wrt="sigma", error_estimate=False)
    assert len(lines) == 1
    unrelaxed = mdsens.relax(start(), ALLOY, max_steps=0)
    for name in ("elastic_constants", "phonon_frequencies([0.5,0,0])"):
        with pytest.warns(mdsens.MdsensWarning, match="not relaxed.*as it is"):
            mdsens.observables.parse(name)(unrelaxed)


def test_ions_that_relax_make_it_less():
    free, clamped = (float(born_stability(relaxed)(alloy())) for relaxed in (True, False))
    assert free < 0.99 * clamped


@pytest.mark.slow
def test_its_derivative_is_that_of_structures_relaxed_again():
    names = ["born_stability", "born_stability(relaxed_ions=False)"]
    sens = mdsens.sensitivity(alloy(), names, wrt="sigma[Ar-Kr]")
    value = ALLOY.parameters["sigma[Ar-Kr]"]

    def again(sigma):
        changed = ALLOY.with_parameters({"sigma[Ar-Kr]": sigma})
        near = start().with_positions(alloy().positions)
        at = mdsens.relax(near, changed, fmax=1e-12)
        return np.array([float(born_stability(relaxed)(at)) for relaxed in (True, False)])

    oracle = numerical.derivative(again, value, 2e-4 * value, noise=1e-12)
    numerical.agrees(np.array([sens[name]["sigma[Ar-Kr]"] for name in names]), oracle, 1e-6)


@pytest.mark.slow
def test_equal_ones_have_the_derivative_of_their_mean():
    """Of the strains that share C11 - C12, or C44, each scales as a modulus does."""
    crystal = argon(5.25, cell="full")
    sens = mdsens.sensitivity(crystal, "born_stability", wrt=["epsilon", "sigma"])
    value, slopes = float(sens.observed["born_stability"]), sens["born_stability"]
    assert value > 0.0
    # The cutoff is no multiple of sigma, but no neighbour is near it.
    assert 0.0104 * float(slopes["epsilon"]) == pytest.approx(value, rel=1e-9)
    assert 3.4 * float(slopes["sigma"]) == pytest.approx(-3.0 * value, rel=1e-9)
