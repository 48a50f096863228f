"""Values with units as a study gives them, and the names of units."""

import ase.units
import pytest
from ase.calculators.lammps import convert

from mdsens.errors import InputError
from mdsens.units import (
    LAMMPS_UNITS,
    in_dimensions,
    powers,
    quotient_unit_name,
    size_of_lammps_unit,
    to_ase_units,
    unit_name,
)


@pytest.mark.parametrize(
    ("value", "dimension", "expected"),
    [
        ("0.3405 nm", "length", 3.405),
        ("1 Bohr", "length", ase.units.Bohr),
        (3, "length", 3.0),
        (" 2.5 \t kJ/mol ", "energy", 2.5 * ase.units.kJ / ase.units.mol),
        ("1 GPa", "energy/length^3", ase.units.GPa),
        # A force of one newton on each metre of the edge of a sheet: 0.0624 eV/Ang^2.
        ("1 N/m", "energy/length^2", 1.0 / 16.02176634),
        ("2 nm^2", "length^2", 200.0),
        ("1e-3 nm^3", "length^3", 1.0),
        ("4.", "1", 4.0),
        (".5", "1", 0.5),
    ],
)
def test_values_come_in_ase_units(value, dimension, expected):
    # ASE's constants are those of 2014, a few parts in 1e9 from today's.
    assert to_ase_units(value, dimension, "x") == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    "value",
    ["nan eV", "NaN", "inf", "inf nm", "-infinity nm", "1e999", "1e308 nm", "", "   ", "nm", "1_0",
     "0x10", "\u0663", "\uff13 nm", "3 eV", "3 nm nm", "3 nm\n5", "1,5 nm", "--1", "1e", "3nm", "+",
     True, None, float("nan"), float("inf"), [], {}, b"3", 10**400, 1j],
)  # fmt: skip
def test_what_is_no_length_is_refused_in_one_line(value):
    with pytest.raises(InputError, match=r"^sigma = ") as caught:
        to_ase_units(value, "length", "sigma")
    assert "\n" not in str(caught.value)


def test_dimensions_are_powers_of_energy_and_length():
    assert powers("energy/volume", 2) == {"energy": 1, "length": -2}
    assert powers("energy/volume", 3) == powers("energy/length^3")
    assert powers("1/length") == {"energy": 0, "length": -1}
    assert in_dimensions("volume^2", 2) == "length^4"
    assert unit_name("volume") == "Ang^3"
    assert unit_name("energy/volume", "reduced") == "reduced"
    assert quotient_unit_name(in_dimensions("energy/volume", 2), "length") == "(eV/Ang^2)/Ang"


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ("energy", "eV Ang"),
        ("energy/length^3", "(eV/Ang^3) Ang"),
        ("length", "Ang^2"),
        ("volume", "Ang^4"),
        ("1", "Ang"),
        ("angle", "degree Ang"),
        ("1/length", "1"),
    ],
)
def test_a_derivative_in_an_inverse_length_has_a_unit_that_reads_well(dimension, expected):
    assert quotient_unit_name(dimension, "1/length") == expected


@pytest.mark.parametrize(
    "dimension", ["energi", "", "1/1", "energy//length", "length^1.5", "length^", "mass", None, 3]
)
def test_what_is_no_dimension_is_refused(dimension):
    with pytest.raises(InputError, match="give powers of energy, length and volume"):
        powers(dimension)


@pytest.mark.parametrize("style", LAMMPS_UNITS)
def test_units_of_lammps_have_the_sizes_that_ase_gives_them(style):
    quantities = {"energy": "energy", "length": "distance", "energy/length": "force"}
    for dimension, quantity in quantities.items():
        expected = convert(1.0, quantity, style, "ASE")
        assert size_of_lammps_unit(dimension, style) == pytest.approx(expected, rel=1e-7)
    pressure = convert(1.0, "pressure", style, "ASE") / ase.units.GPa
    assert size_of_lammps_unit("modulus", style) == pytest.approx(pressure, rel=1e-7)
    assert size_of_lammps_unit("1", style) == 1.0


def test_reduced_units_are_those_of_the_atoms_that_they_are_reduced_by():
    # Argon: a reduced pressure of 1 is 42.2 MPa, and one of energy over square length 14 mN/m.
    argon = {"energy": 0.0104, "length": 3.405}
    assert size_of_lammps_unit("modulus", "lj", **argon) == pytest.approx(0.0422, rel=1e-3)
    stiffness = size_of_lammps_unit("energy/length^2", "lj", **argon)
    assert stiffness == pytest.approx(0.0104 / 3.405**2, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("energy", "rael"), "'real'"),
        (("energy", "lj"), "epsilon and sigma"),
        (("energy", "lj", 1.0), "epsilon and sigma"),
        (("energy", "metal", 1.0, 1.0), "no other style"),
        (("energy", "lj", -1.0, 1.0), "above 0"),
        (("frequency", "metal"), "'modulus'"),
        (("force", "metal"), "powers of energy"),
    ],
)
def test_what_has_no_size_in_units_of_lammps_is_refused_in_one_line(arguments, word):
    with pytest.raises(InputError, match=word) as caught:
        size_of_lammps_unit(*arguments)
    assert "\n" not in str(caught.value)
