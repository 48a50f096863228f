"""Angular-dependent tables of cubics, which splines give exactly, against the cubics."""

import re

import ase.build
import cases
import numerical
import numpy as np
import pytest
from ase.calculators.lammps import convert

import mdsens
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.potentials import ADP, EAM
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("adp")

KNOTS, SPACING, CUTOFF = 27, 0.25, 5.5
DENSITY_KNOTS, DENSITY_SPACING = 31, 2.0
ELEMENTS = ("Cu", "Ag")
#: Of (c - r)^3: r phi, u and w of pairs, and rho of elements; F = -b x + g x^2.
PAIR = np.array([[0.09, 0.11], [0.11, 0.15]])
DIPOLE = np.array([[0.004, -0.006], [-0.006, 0.005]])
QUADRUPOLE = np.array([[0.003, 0.002], [0.002, -0.001]])
DENSITY, EMBEDDING = np.array([0.11, 0.15]), np.array([[-0.12, 1.1e-3], [-0.10, 0.9e-3]])


def text(units="metal", energy=1.0, length=1.0):
    """A file of cubics, in whose inner intervals splines are the cubics themselves.

    In units that are so many eV and Angstrom.
    """
    cube, x = (CUTOFF - SPACING * np.arange(KNOTS)) ** 3, DENSITY_SPACING * np.arange(DENSITY_KNOTS)
    lines = [f"DATE: 2026-01-01 UNITS: {units} CITATION: none", "cubics", "", "2 Cu Ag"]
    lines += [f"{DENSITY_KNOTS} {DENSITY_SPACING} {KNOTS} {SPACING / length!r} {CUTOFF / length!r}"]
    tables = []
    for (b, g), factor, atom in zip(EMBEDDING, DENSITY, ("29 63.55", "47 107.87"), strict=True):
        tables += [atom, (b * x + g * x**2) / energy, factor * cube]
    sizes = (energy * length, energy**0.5 / length, energy**0.5 / length**2)
    for factors, size in zip((PAIR, DIPOLE, QUADRUPOLE), sizes, strict=True):
        tables += [factors[i, j] / size * cube for i, j in [(0, 0), (1, 0), (1, 1)]]
    for table in tables:
        lines.append(table if isinstance(table, str) else " ".join(map(repr, table.tolist())))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    path = tmp_path_factory.mktemp("adp") / "cubics.adp"
    path.write_text(text())
    return ADP.from_file(path)


def alloy():
    atoms = ase.build.bulk("Cu", "fcc", 3.9, cubic=True)
    atoms.symbols = ["Cu", "Ag", "Ag", "Cu"]
    atoms.set_cell([[3.9, 0, 0], [0.4, 3.8, 0], [-0.3, 0.5, 4.0]], scale_atoms=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def energy_of(potential, atoms):
    system = mdsens.System.from_ase(atoms)
    edge_list = potential.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    return float(compiled_energy_forces_virial(system, potential, edge_list)[0])


def test_the_energy_is_the_closed_form(potential):
    atoms, scale = alloy(), 1.05
    kinds = np.array([ELEMENTS.index(symbol) for symbol in atoms.symbols])
    dipole, quadrupole = DIPOLE.copy(), 1.3 * QUADRUPOLE
    dipole[0, 1] = dipole[1, 0] = 0.7 * DIPOLE[0, 1]
    first, second, _, vectors = numerical.images(
        atoms.positions, atoms.cell[:], atoms.pbc, scale * CUTOFF
    )
    vectors = vectors / scale
    s = np.linalg.norm(vectors, axis=1)
    cube, pairs = (CUTOFF - s) ** 3, (kinds[first], kinds[second])
    rho = np.bincount(first, DENSITY[kinds[second]] * cube)
    assert rho.max() < DENSITY_SPACING * (DENSITY_KNOTS - 3)
    expected = np.sum(EMBEDDING[kinds, 0] * rho + EMBEDDING[kinds, 1] * rho**2)
    expected += 0.5 * np.sum(PAIR[pairs] * cube / s)
    for i in range(len(atoms)):
        of_atom = first == i
        around, weights = vectors[of_atom], cube[of_atom]
        kind = (kinds[first][of_atom], kinds[second][of_atom])
        mu = (dipole[kind] * weights) @ around
        moment = (quadrupole[kind] * weights * around.T) @ around
        expected += 0.5 * mu @ mu + 0.5 * np.sum(moment**2) - np.trace(moment) ** 2 / 6
    changes = {
        "dipole_scale[Cu-Ag]": 0.7, "length_scale": scale,
        **{f"quadrupole_scale[{pair}]": 1.3 for pair in ("Cu-Cu", "Cu-Ag", "Ag-Ag")},
    }  # fmt: skip
    found = energy_of(potential.with_parameters(changes), atoms)
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_angles_it_is_that_of_embedded_atoms(potential, tmp_path):
    lines = text().splitlines()
    path = tmp_path / "cubics.alloy"
    path.write_text("\n".join(lines[:-6]) + "\n")
    plain = ADP.from_file(_written(tmp_path, text()), dipole_scale=0.0, quadrupole_scale=0.0)
    expected = energy_of(EAM.from_file(path), alloy())
    assert energy_of(plain, alloy()) == pytest.approx(expected, rel=1e-13)
    assert abs(energy_of(potential, alloy()) - expected) > 1e-3


def test_knots_are_parameters_on_request(potential, tmp_path):
    with_knots = ADP.from_file(_written(tmp_path, text()), knots=True)
    added = 11 * KNOTS + 2 * DENSITY_KNOTS
    assert len(with_knots.parameter_names) == len(potential.parameter_names) + added
    assert with_knots.parameters["u[Cu-Ag,17]"] == pytest.approx(-0.006 * 1.25**3)
    changed = with_knots.with_parameters({"w[Cu-Ag,12]": 0.1})
    assert float(changed.w[1, 0, 12]) == 0.1
    assert abs(energy_of(changed, alloy()) - energy_of(potential, alloy())) > 1e-6
    assert "cubics" in str(with_knots)
    assert ",17]" not in str(with_knots)


def test_what_is_written_is_read_again(potential, tmp_path):
    changed = potential.with_parameters({"dipole_scale[Cu-Ag]": 0.9, "length_scale": 1.05})
    changed.to_file(tmp_path / "again.adp")
    again = ADP.from_file(tmp_path / "again.adp", ["Ag", "Cu"])
    assert again.comments == potential.comments
    assert energy_of(again, alloy()) == pytest.approx(energy_of(changed, alloy()), rel=1e-13)
    with pytest.raises(InputError, match=re.escape("allowed ending is .adp")):
        changed.to_file(tmp_path / "again.alloy")


def test_tables_in_other_units_are_those_in_metal_ones(potential, tmp_path):
    sizes = [convert(1.0, name, "electron", "ASE") for name in ("energy", "distance")]
    found = ADP.from_file(_written(tmp_path, text("electron", *sizes)))
    assert energy_of(found, alloy()) == pytest.approx(energy_of(potential, alloy()), rel=1e-7)
    assert "UNITS: metal" in found.comments[0]


@pytest.mark.slow
@cases.thorough("the checks below, and tables of copper relaxed again by LAMMPS")
def test_sensitivities_are_those_of_relaxing_again(potential):
    atoms = ase.build.bulk("CuAg", "rocksalt", 4.4)
    options = {"cell": "isotropic", "fmax": 1e-11, "method": "lbfgs"}
    here = mdsens.relax(mdsens.System.from_ase(atoms), potential, **options)
    names = ["quadrupole_scale[Cu-Ag]", "length_scale"]
    found = mdsens.sensitivity(here, "volume", wrt=names, error_estimate=False)
    for name in names:

        def volume(change, name=name):
            moved = potential.with_parameters({name: 1.0 + change})
            return float(mdsens.relax(here.system, moved, **options).volume)

        wide, narrow = ((volume(h) - volume(-h)) / (2 * h) for h in (2e-3, 1e-3))
        expected = (4 * narrow - wide) / 3
        assert float(found["volume"][name]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_checks_of_a_potential_pass(potential):
    check_potential(potential, alloy()).require()


def _written(folder, content):
    path = folder / "written.adp"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text()[:-20], "the file ends before the 27 numbers of w(r) of Ag-Ag do"),
        (text() + "1.0\n", "line 21: '1.0' follows where the last table ends"),
        (
            "\n".join(text().splitlines()[:-6]),
            "line 15: the file ends before the 27 numbers of u(r)",
        ),
        (text("lj"), "line 1: UNITS: 'lj': allowed are metal"),
    ],
    ids=["cut off", "too long", "without angles", "units"],
)
def test_a_damaged_file_is_an_error_with_the_line(tmp_path, content, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ADP.from_file(_written(tmp_path, content))
