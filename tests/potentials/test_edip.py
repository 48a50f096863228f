"""EDIP against plain sums over atoms, and its derivatives against re-relaxation."""

import itertools

import ase
import ase.build
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial, compiled_site_energies
from mdsens.particles import find_edges
from mdsens.potentials import EDIP
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("edip")

NAMES = ("Si", "C")
#: Numbers near those of silicon, with a range that reaches second neighbours of a dense crystal.
NUMBERS = {
    "A": 7.98, "B": 1.51, "a": 3.12, "c": 2.36, "alpha": 3.1, "beta": 0.007, "eta": 0.25,
    "gamma": 1.12, "lambda_": 1.45, "mu": 0.7, "rho": 1.21, "sigma": 0.58, "Q0": 312.0,
    "u1": -0.166, "u2": 32.6, "u3": 0.286, "u4": 0.66,
}  # fmt: skip
OVER_TRIPLETS = ("eta", "lambda_", "mu", "Q0", "u1", "u2", "u3", "u4")


def mixture():
    """Two species whose every entry differs."""
    generator = np.random.default_rng(5)
    tables = {
        name: value * (1.0 + 0.05 * generator.uniform(-1, 1, (2,) * (2 + (name in OVER_TRIPLETS))))
        for name, value in NUMBERS.items()
    }
    return EDIP(**tables, species=NAMES)


def site_energies(potential, positions, kinds):
    """The formula of the docstring, in loops over atoms."""

    def number(name, *index):
        value = np.asarray(getattr(potential, name))
        return float(value[index[: value.ndim]])

    def counted(r, a, c, alpha):
        if r < c:
            return 1.0
        return 0.0 if r >= a else np.exp(alpha / (1.0 - ((r - c) / (a - c)) ** -3))

    found = np.zeros(len(positions))
    for i in range(len(positions)):
        bonds = []
        for j in range(len(positions)):
            vector = positions[j] - positions[i]
            r, pair = np.linalg.norm(vector), (kinds[i], kinds[j], kinds[j])
            if j != i and r < number("a", *pair):
                bonds.append((vector / r, r, pair))
        Z = sum(
            counted(r, *(number(name, *pair) for name in ("a", "c", "alpha")))
            for _, r, pair in bonds
        )
        for _, r, pair in bonds:
            repulsion = (number("B", *pair) / r) ** number("rho", *pair)
            order = np.exp(-number("beta", *pair) * Z**2)
            decay = np.exp(number("sigma", *pair) / (r - number("a", *pair)))
            found[i] += number("A", *pair) * (repulsion - order) * decay
        for (u, r, first), (v, s, second) in itertools.permutations(bonds, 2):
            place = (kinds[i], first[1], second[1])
            u1, u2, u3, u4 = (number(name, *place) for name in ("u1", "u2", "u3", "u4"))
            tau = u1 + u2 * (u3 * np.exp(-u4 * Z) - np.exp(-2 * u4 * Z))
            square = number("Q0", *place) * np.exp(-number("mu", *place) * Z) * (u @ v + tau) ** 2
            angular = 1.0 - np.exp(-square) + number("eta", *place) * square
            weights = np.exp(
                number("gamma", *first) / (r - number("a", *first))
                + number("gamma", *second) / (s - number("a", *second))
            )
            found[i] += 0.5 * number("lambda_", *place) * angular * weights
    return found


def edges_of(system, potential):
    return find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc,
        float(potential.interaction_range),
    )  # fmt: skip


def test_energies_of_atoms_are_the_sums_over_bonds_and_triplets():
    potential, kinds = mixture(), [0, 1, 0, 1, 1]
    positions = np.array(
        [[0, 0, 0], [2.2, 0.1, 0], [0.3, 2.5, 0.2], [-0.7, -0.5, 2.1], [1.6, 1.9, 1.5]]
    )
    system = System.from_ase(ase.Atoms([NAMES[kind] for kind in kinds], positions))
    found = compiled_site_energies(system, potential, edges_of(system, potential))
    np.testing.assert_allclose(found, site_energies(potential, positions, kinds), rtol=1e-12)


def test_an_atom_alone_and_a_pair_at_the_end_of_the_range_have_no_energy():
    potential = EDIP(**NUMBERS)
    for r in (NUMBERS["a"] * (1.0 - 1e-12), NUMBERS["a"], 50.0):
        system = System.from_ase(ase.Atoms("Si2", [[0, 0, 0], [r, 0, 0]]))
        energy, forces, _ = compiled_energy_forces_virial(
            system, potential, edges_of(system, potential)
        )
        assert float(energy) == 0.0
        assert np.all(np.asarray(forces) == 0.0)


@pytest.mark.slow
def test_sensitivities_are_those_of_relaxing_again():
    potential = EDIP(**NUMBERS | {"c": 2.2})
    system = System.from_ase(ase.build.bulk("Si", "diamond", 5.4))
    options = {"cell": "isotropic", "fmax": 1e-11, "method": "lbfgs"}
    equilibrium = mdsens.relax(system, potential, **options)
    names = ["beta", "c"]
    found = mdsens.sensitivity(equilibrium, "volume", wrt=names, error_estimate=False)
    for name in names:
        value = potential.parameters[name]

        def volume(step, name=name, value=value):
            changed = potential.with_parameters({name: value * (1.0 + step)})
            return float(mdsens.relax(equilibrium.system, changed, **options).volume)

        slopes = [(volume(h) - volume(-h)) / (2 * h * value) for h in (1e-3, 5e-4)]
        expected = (4 * slopes[1] - slopes[0]) / 3
        assert float(found["volume"][name]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_checks_of_a_potential_pass():
    check_potential(mixture(), ase.build.bulk("SiC", "zincblende", 4.6)).require()


def test_a_coordination_that_ends_before_it_begins_to_is_refused():
    with pytest.raises(InputError, match=r"c = 3\.2 is not below a = 3\.12"):
        EDIP(**NUMBERS | {"c": 3.2})
