"""Formulas: their values, derivatives, dimensions and errors; refusals are in bad_inputs.py."""

import jax
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.study.formulas import read_formula
from mdsens.study.study_file import read_study
from mdsens.study.study_sensitivity import Known, formula_sensitivity
from mdsens.units import dimension_of, powers

SPATIAL = {"bulk": 3, "slab": 3}
ATOMS = {"bulk": 4, "slab": 11}

#: A formula, the same as a function of its parts in their order, and values of these.
CASES = [
    ("bulk.energy", lambda e: e, [-3.2]),
    ("-bulk.energy / bulk.atoms", lambda e: -e / 4, [-3.2]),
    (
        "slab.energy - slab.atoms / bulk.atoms * bulk.energy",
        lambda s, b: s - 11 / 4 * b,
        [-7.5, -3.2],
    ),
    (
        "(slab.energy - slab.atoms / bulk.atoms * bulk.energy) / (2 * slab.area)",
        lambda s, b, a: (s - 11 / 4 * b) / (2 * a),
        [-7.5, -3.2, 14.0],
    ),
    ("bulk.volume ** (1/3)", lambda v: v ** (1 / 3), [147.9]),
    ("slab.distance(0, 1) / bulk.distance(0,1) - 1", lambda a, b: a / b - 1, [3.8, 3.7]),
    ("bulk.energy * slab.energy / bulk.energy", lambda b, s: s + 0 * b, [-3.2, -7.5]),
    ("(bulk.energy + slab.energy) ** -2", lambda b, s: (b + s) ** -2.0, [-3.2, 1.1]),
    ("bulk.energy ** 0 + (+1.5e-1)", lambda e: 1.15 + 0 * e, [-3.2]),
    ("bulk.energy ** 1", lambda e: e, [0.0]),
    ("bulk.energy ** 2", lambda e: e**2, [0.0]),
    ("bulk.pressure * bulk.volume + bulk.energy", lambda p, v, e: p * v + e, [0.01, 148.0, -3.2]),
    ("bulk.angle(0,1,2) - slab.angle(0,1,2)", lambda a, b: a - b, [109.5, 97.0]),
]


@pytest.mark.parametrize(("text", "function", "values"), CASES, ids=[case[0] for case in CASES])
def test_a_formula_and_its_derivatives_are_those_of_the_same_function(text, function, values):
    formula = read_formula("f", text, SPATIAL, "ase")
    names = [part.name for part in formula.parts]
    found = formula.expand(dict(zip(names, values, strict=True)), ATOMS)
    places = tuple(range(len(values)))
    assert found.value == pytest.approx(function(*values), rel=1e-14)
    scale = 1.0 + np.abs(found.curvatures).max()
    np.testing.assert_allclose(
        found.slopes, jax.grad(function, places)(*values), rtol=1e-13, atol=1e-14
    )
    np.testing.assert_allclose(
        found.curvatures, jax.hessian(function, places)(*values), rtol=1e-13, atol=1e-13 * scale
    )


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("slab.energy", "energy"),
        ("slab.atoms / bulk.atoms", "1"),
        ("slab.energy / slab.area", "energy/length^2"),
        ("bulk.volume ** (1/3)", "length"),
        ("(bulk.volume / bulk.atoms) ** (2/3) / slab.area", "1"),
        ("bulk.pressure * bulk.volume", "energy"),
        ("1 / bulk.energy / bulk.volume", "1/energy/length^3"),
        ("bulk.energy ** 2", "energy^2"),
        ("slab.angle(0,1,2)", "angle"),
        ("slab.angle(0,1,2) / bulk.angle(0,1,2)", "1"),
        ("bulk.energy_per_atom + bulk.energy", "energy"),
    ],
)
def test_the_dimension_follows_from_the_parts(text, dimension):
    assert read_formula("f", text, SPATIAL, "ase").dimension == dimension


def test_a_pressure_times_a_volume_is_an_energy_in_two_dimensions_too():
    formula = read_formula("f", "energy + pressure * volume", {"": 2}, "ase")
    assert formula.dimension == "energy"
    assert read_formula("f", "volume ** 0.5", {"": 2}, "ase").dimension == "length"


def test_a_modulus_counts_in_the_units_of_energies_and_volumes():
    """One GPa times one cubic Angstrom is 0.00624 eV, which is what the result is shown in."""
    formula = read_formula("f", "bulk.bulk_modulus * bulk.volume", SPATIAL, "ase")
    assert formula.dimension == "energy"
    values = {"bulk.bulk_modulus": 160.21766208, "bulk.volume": 2.0}
    found = formula.expand(values, ATOMS)
    assert found.value == pytest.approx(2.0, rel=1e-8)
    assert found.slopes == pytest.approx([2.0 / 160.21766208, 1.0], rel=1e-8)
    reduced = read_formula("f", "bulk.bulk_modulus * bulk.volume", SPATIAL, "reduced")
    assert reduced.expand(values, ATOMS).value == 2.0 * 160.21766208


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bulk.elastic_constants / slab.volume", "several numbers"),
        ("slab.lattice_constants", "several numbers"),
        ("bulk.vibrational_entropy(300,(2,2,2)) * 300", "no power of energy and length"),
    ],
)
def test_what_is_no_number_of_energies_and_lengths_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        read_formula("f", text, SPATIAL, "ase")


@pytest.mark.parametrize("energy", [-2, 0, 1, 3])
@pytest.mark.parametrize("length", [-3, -1, 0, 2])
def test_a_dimension_is_read_back_from_its_powers(energy, length):
    assert powers(dimension_of(energy, length)) == {"energy": energy, "length": length}


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("1 / (bulk.energy - slab.energy)", [1.0, 1.0], ["division by zero", "bulk.energy - "]),
        ("bulk.volume / bulk.energy", [1.0, 1e-9], ["division by zero", "1e-09"]),
        ("bulk.energy ** (1/3) / slab.energy ** (1/3)", [-1.0, 1.0], ["root of -1"]),
        ("bulk.energy ** 9", [1e40], ["not finite", "bulk.energy = 1e+40"]),
        ("bulk.energy ** 4 * bulk.energy ** 4", [1e60], ["not finite"]),
    ],
)
def test_what_shows_with_the_values_alone_is_one_line(text, values, words):
    formula = read_formula("f", text, SPATIAL, "ase")
    names = [part.name for part in formula.parts]
    with pytest.raises(InputError) as caught:
        formula.expand(dict(zip(names, values, strict=True)), ATOMS, dict.fromkeys(names, 1e-8))
    assert str(caught.value).startswith("formulas.f")
    for word in words:
        assert word in str(caught.value)


def of_known(text, bulk, slab):
    """A formula of two energies, each given by its value, its derivative, and their errors."""
    known = {
        f"{name}.energy": Known(value, error, {"x": derivative}, {"x": derivative_error})
        for name, (value, error, derivative, derivative_error) in (("bulk", bulk), ("slab", slab))
    }
    return formula_sensitivity(read_formula("f", text, SPATIAL, "ase"), known, ATOMS, {"x": 2.0})


def test_errors_of_a_difference_of_large_energies_add_up():
    found = of_known(
        "slab.energy - bulk.energy", (-1e4, 1e-6, 50.0, 2e-5), (-1e4 + 1.0, 3e-6, 50.5, 4e-5)
    )
    assert found.value == pytest.approx(1.0, abs=1e-11)
    assert found.error == pytest.approx(4e-6, rel=1e-4)
    assert found.derivatives["x"] == pytest.approx(0.5)
    assert found.errors["x"] == pytest.approx(6e-5, rel=1e-4)
    # What is less than rounding of the terms is no difference.
    exact = of_known("slab.energy - bulk.energy", (-1e4, 0.0, 1.0, 0.0), (-1e4, 0.0, 1.0, 0.0))
    assert exact.errors["x"] > 0.0


@pytest.mark.parametrize("text", ["slab.energy / bulk.energy", "slab.energy ** 3 * bulk.energy"])
def test_errors_bound_what_errors_of_the_parts_do_and_hardly_more(text):
    """The worst of all signs of the errors of values and derivatives."""
    bulk, slab, off = (1.7, 1e-6, 0.3, 2e-6), (2.3, 3e-6, -0.8, 1e-6), np.array([-1.0, 1.0])
    found = of_known(text, bulk, slab)

    def moved(signs):
        (b, db), (s, ds) = (
            (one[0] + sign * one[1], one[2] + other * one[3])
            for one, sign, other in ((bulk, signs[0], signs[1]), (slab, signs[2], signs[3]))
        )
        again = of_known(text, (b, 0.0, db, 0.0), (s, 0.0, ds, 0.0))
        return again.value - found.value, again.derivatives["x"] - found.derivatives["x"]

    grid = np.stack(np.meshgrid(off, off, off, off), axis=-1).reshape(-1, 4)
    worst = np.abs([moved(signs) for signs in grid]).max(axis=0)
    assert worst[0] == pytest.approx(found.error, rel=1e-4)
    assert worst[1] <= found.errors["x"] * 1.0001
    assert worst[1] > 0.3 * found.errors["x"]
    logarithm = 2.0 * found.derivatives["x"] / found.value
    assert found.logarithmic()["x"] == pytest.approx(logarithm, rel=1e-14)


def test_a_structure_has_keys_of_the_relaxation_for_itself(tmp_path):
    (tmp_path / "study.toml").write_text(
        "[potential]\ntype = 'lennard-jones'\n[relaxation]\nmax_steps = 7\ncell = 'full'\n"
        "[structures.a]\nfile = 'a'\n[structures.b]\nfile = 'b'\nrelaxation.cell = 'none'\n"
    )
    text = read_study(tmp_path, ["structures.b.relaxation.fmax=1e-3"])
    a, b = (text.structures[name].relaxation for name in "ab")
    assert (a.max_steps, a.cell, a.fmax) == (7, "full", 1e-8)
    assert (b.max_steps, b.cell, b.fmax) == (7, "none", 1e-3)
    assert text.structures["b"].relaxation_key("cell") == "structures.b.relaxation.cell"
    assert text.structures["b"].relaxation_key("max_steps") == "relaxation.max_steps"
