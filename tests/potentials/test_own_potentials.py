"""The potentials of the documentation, as a reader takes them from it, against plain sums."""

import itertools
import re
from pathlib import Path

import ase
import numpy as np
import pytest

import mdsens
from mdsens.mechanics.energy import compiled_energy_forces_virial

pytestmark = pytest.mark.xdist_group("own-potentials")
PAGE = Path(__file__).parents[2] / "docs" / "own_potentials.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
PLACES = np.array([[0, 0, 0], [2.3, 0.3, 0], [0.4, 2.4, -0.2], [1.9, 2.2, 0.9]])


@pytest.fixture(scope="module")
def names():
    found = {"__name__": __name__}
    exec("\n".join(BLOCKS[:3]), found)
    return found


def energy_of(potential, symbols="X4"):
    atoms = ase.Atoms(symbols, PLACES)
    system = mdsens.System.from_ase(atoms)
    edges = potential.edge_search(system).find(PLACES, np.asarray(system.cell))
    return float(compiled_energy_forces_virial(system, potential, edges)[0])


def pairs(function):
    """The sum of a function of distances over all pairs, each once."""
    return sum(
        function(np.linalg.norm(PLACES[i] - PLACES[j]))
        for i, j in itertools.combinations(range(4), 2)
    )


def end(r, reach):
    t = np.clip(5 * (r / reach - 0.8), 0, 1)
    return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5


def test_the_pair_potential_of_the_documentation_is_its_formula(names):
    # Nothing is beyond the onset, 3.6.
    expected = pairs(lambda r: np.exp(-((r / 2.0) ** 4)))
    assert energy_of(names["clusters"]) == pytest.approx(expected, rel=1e-12)


def test_the_three_body_potential_of_the_documentation_is_its_formula(names):
    def bond(r):
        y = np.exp(-1.5 * (r - 2.35))
        return 2.0 * y * (y - 2.0) * end(r, 3.6)

    expected = pairs(bond)
    for i in range(4):
        for j, k in itertools.permutations([n for n in range(4) if n != i], 2):
            first, second = PLACES[j] - PLACES[i], PLACES[k] - PLACES[i]
            a, b = np.linalg.norm(first), np.linalg.norm(second)
            angle = (first @ second / (a * b) + 1 / 3) ** 2
            expected += 0.5 * 2.0 * angle * end(a, 3.6) * end(b, 3.6)
    assert energy_of(names["network"]) == pytest.approx(expected, rel=1e-12)


def test_the_metal_of_the_documentation_is_its_formula(names):
    # Nothing is beyond the onset, 5.05.
    expected = pairs(lambda r: 0.2 * np.exp(-11.0 * (r / 2.55 - 1)))
    for i in range(4):
        r = [np.linalg.norm(PLACES[i] - PLACES[j]) for j in range(4) if j != i]
        expected -= 1.5 * np.log1p(sum(np.exp(-5.0 * (x / 2.55 - 1)) for x in r))
    assert energy_of(names["metal"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_the_potentials_of_the_documentation_pass_its_check(names):
    exec(BLOCKS[3], names)


def test_tables_over_species_come_with_a_potential_of_ones_own(names):
    """Silicon by two names is silicon, with the parameters of both."""
    numbers = {"depth": 2.0, "alpha": 1.5, "r0": 2.35, "reach": 3.6}
    tables = {name: np.full((2, 2), value) for name, value in numbers.items()}
    stiffness = np.full((2, 2, 2), 2.0)
    mixed = names["Network"](**tables, stiffness=stiffness, cosine=-1 / 3, species=("Si", "Ge"))
    energy = energy_of(names["network"])
    assert energy_of(mixed, "SiGe2Si") == pytest.approx(energy, rel=1e-13)
    assert sum(name.startswith("stiffness[") for name in mixed.parameter_names) == 8
    stiffer = mixed.with_parameters({"stiffness[Ge-Si-Ge]": 3.0})
    assert energy_of(stiffer, "SiGe2Si") > energy
    assert energy_of(stiffer, "Si4") == pytest.approx(energy, rel=1e-13)
