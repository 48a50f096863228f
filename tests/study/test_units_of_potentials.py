"""Potentials of studies whose numbers are in units of LAMMPS's."""

import ase.units
import pytest

from mdsens.errors import InputError
from mdsens.study import load_study

KCAL = ase.units.kcal / ase.units.mol


def potential_of(trimer, *lines):
    path = trimer / "study.toml"
    head, _, tail = path.read_text().partition("[potential]")
    _, _, rest = tail.partition("[relaxation]")
    path.write_text(head + "\n".join(["[potential]", *lines, "", "[relaxation]"]) + rest)
    return load_study(trimer).potential


def test_numbers_are_in_the_units_of_the_style_and_text_in_its_own(trimer):
    lines = ['type = "lennard-jones"', "epsilon = 0.238", "sigma = 3.405"]
    real = potential_of(trimer, *lines, 'units = "real"', "cutoff = 12.0")
    assert real.parameters["epsilon"] == pytest.approx(0.238 * KCAL, rel=1e-14)
    assert real.parameters["sigma"] == pytest.approx(3.405, rel=1e-14)
    # The Bohr radius is a length of the style electron, but not where a unit is given.
    electron = potential_of(trimer, *lines, 'units = "electron"', 'cutoff = "12 Ang"')
    assert electron.parameters["epsilon"] == pytest.approx(0.238 * ase.units.Hartree, rel=1e-14)
    assert electron.parameters["sigma"] == pytest.approx(3.405 * ase.units.Bohr, rel=1e-14)
    assert electron.cutoff == 12.0


def test_compound_units_and_parts_of_sums(trimer):
    summed = potential_of(
        trimer, 'type = "sum"', "[potential.parts.a]", 'type = "buckingham"', 'units = "real"',
        "A = 1000.0", "rho = 0.3", "C = 100.0", "cutoff = 10.0", "[potential.parts.b]",
        'type = "wca"', "epsilon = 0.01", "sigma = 1.0",
    )  # fmt: skip
    assert summed.parameters["C"] == pytest.approx(100.0 * KCAL, rel=1e-14)
    assert summed.parameters["epsilon"] == 0.01
    morse = potential_of(
        trimer, 'type = "morse"', 'units = "nano"', "epsilon = 1.0", "alpha = 10.0", "r0 = 0.3",
        "cutoff = 1.0",
    )  # fmt: skip
    # Attogrammes and nanometres: 1e-21 J, and 1/nm.
    assert morse.parameters["alpha"] == pytest.approx(1.0, rel=1e-14)
    assert morse.parameters["epsilon"] == pytest.approx(1e-21 * ase.units.J, rel=1e-14)
    assert morse.cutoff == pytest.approx(10.0, rel=1e-14)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["potential.units=lj"], "potential.units = 'lj': allowed are metal, real"),
        (["potential.units=real", "units=reduced", "potential.sigma=1"], "pure numbers"),
        (["potential.units=[]"], "potential.units"),
    ],
)
def test_other_units_are_refused(trimer, settings, words):
    with pytest.raises(InputError, match=words.replace("[", "\\[")):
        load_study(trimer, settings)
