"""A warning where a shell of a crystal lies inside a potential's switch, and none elsewhere."""

import warnings

import ase.build
import cases
import numpy as np
import pytest
from ase.neighborlist import neighbor_list

import mdsens
from mdsens.errors import MdsensWarning
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, SoftSphere, SuttonChen
from mdsens.relaxation import switched_shells
from mdsens.relaxation.switched_shells import distances_of, warn_of_switched_shells

pytestmark = pytest.mark.xdist_group("switched-shells")

#: Lattice constant of argon, and the distances of its first shells.
ARGON = 5.26
SHELLS = ARGON * np.sqrt(np.arange(1, 8) / 2)


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(switched_shells, "_told", set())


def edges_of(system, cutoff):
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    return find_edges(positions, cell, system.pbc, cutoff, 0.1 * cutoff)


def told(system, potential):
    """What is warned of, without a relaxation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        edge_list = edges_of(system, float(potential.interaction_range))
        warn_of_switched_shells(system, potential, edge_list)
    assert all(one.category is MdsensWarning for one in caught)
    return [str(one.message) for one in caught]


def argon(rattle=0.0, repeats=3, vacancies=0):
    atoms = ase.build.bulk("Ar", "fcc", ARGON, cubic=True) * ((repeats,) * 3)
    del atoms[:vacancies]
    atoms.rattle(rattle, seed=1)
    return mdsens.System.from_ase(atoms)


def lennard_jones(cutoff, **options):
    return LennardJones(0.0104, 3.405, cutoff, **options)


@pytest.mark.parametrize("rattle", [0.0, 0.02])
@pytest.mark.parametrize(
    ("cutoff", "onset", "shell"), [(7.5, None, 4), (8.5, None, 5), (6.6, 6.3, 3), (5.4, 0.0, 1)]
)
def test_a_shell_inside_is_told_with_its_distance_and_what_to_do(cutoff, onset, shell, rattle):
    [message] = told(argon(rattle), lennard_jones(cutoff, onset=onset))
    start = 0.9 * cutoff if onset is None else onset
    assert f"at {SHELLS[shell - 1]:.3g}"[:-1] in message
    assert f"onset at {start:.4g} to its cutoff at {cutoff:.4g}" in message
    assert "\n" not in message
    # What is advised is right: nothing is told of it.
    advice = message.split("as in ")[1]
    onset, cutoff = (float(part.split("=")[1]) for part in advice.split(", "))
    assert not told(argon(rattle), lennard_jones(cutoff, onset=onset))


def test_a_metal_is_told_of_and_a_potential_of_many_is_told_once():
    copper = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", 3.61, cubic=True))
    potential = SuttonChen(1.2382e-2, 3.61, 39.432, 9.0, 6.0, 7.8)
    assert "SuttonChen" in told(copper, potential)[0]
    assert not told(copper, potential.with_parameters({"a": 3.62}))


def glass(count, dimension):
    """Soft particles pushed apart from random places, at a density of one."""
    generator = np.random.default_rng(count)
    length = count ** (1 / dimension)
    positions = generator.random((count, dimension)) * length
    for _ in range(100):
        vectors = positions[:, None] - positions
        vectors -= length * np.round(vectors / length)
        distances = np.linalg.norm(vectors, axis=-1) + 9.0 * np.eye(count)
        push = np.where(distances < 1.05, (1.05 - distances) / distances, 0.0)
        positions = positions + 0.3 * (push[..., None] * vectors).sum(axis=1)
    return mdsens.System(positions, length * np.eye(dimension), units="reduced")


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("count", [20, 100])
def test_pairs_of_a_glass_are_inside_and_nothing_is_told(count, dimension):
    system = glass(count, dimension)
    for cutoff in (1.3, 1.9, 2.5):
        distances = distances_of(system, edges_of(system, cutoff), np.arange(count))
        assert ((0.9 * cutoff < distances) & (distances < cutoff)).any()
        assert not told(system, LennardJones(1.0, 1.0, cutoff))


@pytest.mark.parametrize(
    ("system", "potential"),
    [
        (argon(), lennard_jones(8.2, onset=7.6)),
        (argon(), lennard_jones(8.5, truncation="force-shifted")),
        (argon(0.3), lennard_jones(8.5)),
        (cases.bipyramid(("A",), (0,) * 5), LennardJones(1.0, 1.0, 1.7)),
        (cases.dimer(1.4), LennardJones(1.0, 1.0, 1.5)),
        (cases.jammed_packing()[0], SoftSphere([1.0, 0.4], species=("large", "small"))),
        (mdsens.System([[0.0, 0.0, 0.0]]), lennard_jones(8.5)),
    ],
    ids=["between shells", "no switch", "hot", "cluster", "dimer", "packing", "lone atom"],
)
def test_nothing_is_told_elsewhere(system, potential):
    assert not told(system, potential)


def test_distances_are_those_of_ase():
    atoms = ase.build.bulk("Mg", "hcp", 3.2, c=5.2) * (2, 1, 1)
    atoms.rattle(0.1, seed=3)
    system = mdsens.System.from_ase(atoms)
    ours = distances_of(system, edges_of(system, 6.0), np.arange(len(atoms)))
    np.testing.assert_allclose(ours, np.sort(neighbor_list("d", atoms, 6.6)), atol=1e-12)


@pytest.mark.slow
def test_a_relaxation_tells_once_where_it_was_called():
    # Nearest neighbours of the crystal of the cases are at about 1.1, the next at 1.55.
    crystal, potential = cases.vacancy_crystal(), LennardJones(1.0, 1.0, 1.6, onset=1.4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            mdsens.relax(crystal, potential, max_steps=0)
    [one] = caught
    assert one.category is MdsensWarning
    assert "onset at 1.4 to its cutoff at 1.6" in str(one.message)
    assert one.filename == __file__
