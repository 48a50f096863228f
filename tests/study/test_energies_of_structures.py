"""Energies that are differences between structures, by the formulas of docs/energies.md."""

import re
from pathlib import Path

import ase
import ase.build
import ase.io
import cases
import numpy as np
import pytest

import mdsens
from mdsens.study import load_study, verify_study
from mdsens.study.study_sensitivity import study_sensitivity

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "energies.md"
#: What rows of its table begin with; vacancies and surfaces are ready studies with tests of theirs.
NAMES = {
    "cohesion": "cohesive_energy",
    "solution of an impurity in": "substitution_energy",
    "solution of an impurity between": "interstitial_energy",
    "stacking fault": "fault_energy",
    "difference of the ends": "energy_of_the_jump",
}
#: Powers of energy and of length.
DEGREES = {name: (1, -2 if name == "fault_energy" else 0) for name in NAMES.values()}
#: Of pairs in alphabetical order. Nothing depends on the cutoff, with shells on both sides of it.
PAIRS = ("Ar-Ar", "Ar-He", "Ar-Kr", "He-He", "He-Kr", "Kr-Kr")
EPSILON = dict(zip(PAIRS, (0.0104, 0.0040, 0.0118, 0.0010, 0.0044, 0.0135), strict=True))
SIGMA = dict(zip(PAIRS, (3.40, 2.35, 3.45, 2.60, 2.40, 3.52), strict=True))
CUTOFF = 6.95


def table(numbers):
    """As a study file has it."""
    return "{ " + ", ".join(f"{pair} = {number}" for pair, number in numbers.items()) + " }"


STUDY = f"""
description = "energies of several structures"
units = "ase"

[potential]
type = "lennard-jones"
species = ["Ar", "He", "Kr"]
epsilon = {table(EPSILON)}
sigma = {table(SIGMA)}
cutoff = {CUTOFF}
truncation = "none"

[relaxation]
method = "newton"
fmax = 1e-11
cell = "isotropic"

"""


def formulas():
    """The second column of the page's table by the names above."""
    found = {}
    for row in PAGE.read_text().splitlines():
        if match := re.match(r"\| ([^|]*) \| `([^`]*)` \|", row):
            found |= {name: match[2] for start, name in NAMES.items() if match[1].startswith(start)}
    assert found.keys() == DEGREES.keys()
    return found


def structures():
    """As small as they may be: four atoms, with one more in the hole at the centre."""
    bulk = ase.build.bulk("Ar", "fcc", 5.25, cubic=True)
    centre, edge = np.array([[2.625, 2.625, 2.625], [2.625, 0.0, 0.0]])
    # They begin alike, and share what is compiled.
    substitution, solute = bulk.copy(), bulk.copy()
    solute.symbols[:] = "Kr"
    substitution.symbols[0] = "Kr"
    layers = ase.build.fcc111("Ar", (1, 1, 4), a=5.25, periodic=True)
    # ABCA and then ABCA shifted: by one step BCAB, as in the crystal; by two CABC, a fault.
    step = layers.positions[1, :2] - layers.positions[0, :2]
    layers.cell[2, :2] = step
    layers.info = {}
    fault = layers.copy()
    fault.cell[2, :2] = 2.0 * step
    return {
        "bulk": bulk,
        "atom": ase.Atoms("Ar"),
        "solute": solute,
        "substitution": substitution,
        "interstitial": bulk + ase.Atoms("He", [centre]),
        "before": substitution + ase.Atoms("He", [centre]),
        "after": substitution + ase.Atoms("He", [edge]),
        "fault": fault,
        "layers": layers,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("energies")
    text = STUDY
    for name, atoms in structures().items():
        ase.io.write(folder / f"{name}.extxyz", atoms)
        text += f'[structures.{name}]\nfile = "{name}.extxyz"\n'
        if name == "atom":
            text += 'relaxation = { cell = "none" }\n'
    text += "[formulas]\n"
    text += "".join(f'{name} = "{formula}"\n' for name, formula in formulas().items())
    text += f'no_fault = "{formulas()["fault_energy"].replace("fault", "layers")}"\n'
    (folder / "study.toml").write_text(text)
    return load_study(folder)


@pytest.fixture(scope="module")
def found(study):
    parts = {
        name: mdsens.sensitivity(of.relax(), of.observables, mode="reverse", error_estimate=False)
        for name, of in study.structures.items()
    }
    return study_sensitivity(parts, study.formulas)


def test_they_scale_as_their_dimensions_say(found):
    """At no pressure all energies scale with epsilon, all lengths with sigma."""
    for name in DEGREES:
        of = found.formulas[name]
        for letter, degree in zip(("epsilon", "sigma"), DEGREES[name], strict=True):
            slopes = [v * of.derivatives[p] for p, v in of.parameters.items() if letter in p]
            size = max(abs(of.value), 1e-3)
            assert sum(slopes) == pytest.approx(degree * of.value, abs=1e-8 * size), name


def test_what_they_are(found):
    value = {name: of.value for name, of in found.formulas.items()}
    # Of lattice sums over the neighbours within the cutoff, in units of the lattice constant.
    grid = np.stack(np.meshgrid(*3 * [np.arange(-4, 5)]), -1).reshape(-1, 3)
    r = np.linalg.norm(grid[grid.sum(axis=1) % 2 == 0], axis=1) / 2
    r = r[(r > 0) & (r < CUTOFF / 5.25)]
    closed = EPSILON["Ar-Ar"] * np.sum(r**-6.0) ** 2 / (2 * np.sum(r**-12.0))
    assert value["cohesive_energy"] == pytest.approx(closed, rel=1e-10)
    # Layers as they are in the crystal have no fault, however the cell is tilted.
    assert value["no_fault"] == pytest.approx(0.0, abs=1e-12)
    assert 0.0 < value["fault_energy"] < 1e-3


@cases.thorough("the ready studies of several structures, which are verified")
def test_their_derivatives_are_those_of_structures_relaxed_again(study):
    chosen = load_study(study.folder, ["sensitivity.wrt=['epsilon[Ar-Ar]', 'sigma[Ar-He]']"])
    verified = verify_study(chosen)
    of_formulas = [c for c in verified.comparisons if c.observable in DEGREES]
    assert len(of_formulas) == 2 * len(DEGREES)
    assert sum(c.verdict == "passed" for c in of_formulas) > 6
    assert [c for c in of_formulas if c.verdict == "FAILED"] == []
