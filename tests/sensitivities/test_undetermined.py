"""Observables that change with what nothing determines, and those beside them that do not."""

import re
import warnings

import cases
import numpy as np
import pytest

import mdsens
from mdsens.errors import MdsensWarning
from mdsens.observables import phonon_frequencies
from mdsens.potentials import LennardJones

pytestmark = pytest.mark.xdist_group("undetermined")


def warned_of(equilibrium, observables, **options):
    """What is warned of: the name of an observable and what is free, of each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MdsensWarning)
        mdsens.sensitivity(equilibrium, observables, **options)
    found = [re.match(r"(\S+) changes with .* \((.*)\): ", str(one.message)) for one in caught]
    return {one[1]: one[2] for one in found if one}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_hinge_has_bonds_and_no_angle(mode):
    # Nothing acts between the ends of two bonds in a row: their angle and distance may be any.
    hinge = mdsens.System([[-1.1, 0.1, 0], [0, 0, 0], [1.1, 0, 0]], units="reduced")
    bonds = LennardJones(1.0, 1.0, cutoff=1.5, onset=1.3)
    equilibrium = mdsens.relax(hinge, bonds, fmax=1e-11)
    asked = ["energy", "distance(0,1)", "angle(0,1,2)", "distance(1,2)", "distance(0,2)"]
    free = warned_of(equilibrium, asked, mode=mode)
    assert free == dict.fromkeys(["angle(0,1,2)", "distance(0,2)"], "1 floppy mode")


def test_frequencies_of_a_hinge_follow_its_angle():
    hinge = mdsens.System([[-1.0, 0.5, 0], [0, 0, 0], [1.1, 0, 0]], units="reduced")
    bonds = LennardJones(1.0, 1.0, cutoff=1.5, onset=1.3)
    equilibrium = mdsens.relax(hinge, bonds, fmax=1e-11)
    asked = ["energy", phonon_frequencies(masses={"X": 1.0})]
    assert list(warned_of(equilibrium, asked)) == [asked[1].name]


def test_a_bond_that_is_held_leaves_an_end_that_turns_and_a_plane_leaves_none():
    ends = [[-1.1, 0.1], [0, 0], [1.1, 0]]
    bonds = LennardJones(1.0, 1.0, cutoff=1.5, onset=1.3)
    angle = "angle(0,1,2)"
    held = mdsens.System(ends, units="reduced", fixed=[0, 1])
    assert warned_of(mdsens.relax(held, bonds, fmax=1e-11), angle) == {angle: "1 floppy mode"}
    whole = mdsens.System(ends, units="reduced", fixed=[0, 1, 2])
    assert warned_of(mdsens.relax(whole, bonds, fmax=1e-11), angle) == {}


def test_what_a_rattler_is_a_part_of_is_warned_of():
    system, discs = cases.jammed_packing()
    equilibrium = mdsens.relax(system, discs, fmax=1e-12)
    assert np.flatnonzero(equilibrium.landscape.rattlers).tolist() == [5]
    asked = ["energy", "pressure", "distance(0,1)", "distance(0,5)"]
    assert warned_of(equilibrium, asked) == {"distance(0,5)": "rattler 5"}


def test_a_batch_says_which_of_its_structures_are_undetermined():
    bent = [[-1.1, 0.1, 0], [0, 0, 0], [1.1, 0, 0]]
    triangle = [[-0.6, 0.0, 0], [0, 1.0, 0], [0.6, 0, 0]]
    bonds = LennardJones(1.0, 1.0, cutoff=1.5, onset=1.3)
    systems = [mdsens.System(places, units="reduced") for places in (triangle, bent, bent)]
    asked = ["energy", "distance(0,1)", "angle(0,1,2)"]
    equilibria = mdsens.relax_batch(systems, bonds, fmax=1e-11)
    free = "structures 1, 2 changes with what nothing determines (1 floppy mode in the first)"
    assert warnings_of_a_batch(equilibria, asked) == [f"angle(0,1,2) of {free}"]
    assert warnings_of_a_batch(equilibria[:1], asked) == []


def test_a_batch_says_which_observables_a_rattler_is_a_part_of():
    system, discs = cases.jammed_packing()
    equilibria = mdsens.relax_batch([system], discs, fmax=1e-12)
    asked = ["energy", "pressure", "distance(0,1)", "distance(0,5)"]
    free = "structure 0 changes with what nothing determines (rattler 5)"
    assert warnings_of_a_batch(equilibria, asked) == [f"distance(0,5) of {free}"]


def warnings_of_a_batch(equilibria, observables):
    """What is warned of, without what to do."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MdsensWarning)
        mdsens.sensitivity_batch(equilibria, observables)
    found = [str(one.message) for one in caught if issubclass(one.category, MdsensWarning)]
    return [message.partition(": ")[0] for message in found]
