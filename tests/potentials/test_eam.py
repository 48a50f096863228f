"""Tables of cubics, which splines give exactly, against the cubics; files; knots; a vacancy."""

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
from mdsens.potentials import EAM
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("eam")

KNOTS, SPACING, CUTOFF = 27, 0.25, 5.5
DENSITY_KNOTS, DENSITY_SPACING = 31, 2.0
ELEMENTS = ("Cu", "Ag")
#: r phi = A (c - r)^3 (1 + ...), rho = B (c - r)^3, F = -b x + g x^2 + h x^3.
PAIR = np.array([[0.09, 0.11], [0.11, 0.15]])
#: By source and host; a file without hosts takes the first column.
DENSITY = np.array([[0.11, 0.12], [0.15, 0.16]])
EMBEDDING = np.array([[-0.12, 1.1e-3, -2e-6], [-0.10, 0.9e-3, -1e-6]])


def text(by_pair=False, units="metal"):
    """A file of cubics, in whose inner intervals splines are the cubics themselves."""
    energy, length = (convert(1.0, name, "ASE", units) if units in ("real", "electron") else 1.0
                      for name in ("energy", "distance"))  # fmt: skip
    r, x = SPACING * np.arange(KNOTS), DENSITY_SPACING * np.arange(DENSITY_KNOTS)
    cube = (CUTOFF - r) ** 3
    lines = [f"DATE: 2026-01-01 UNITS: {units} CITATION: none", "cubics", "", "2 Cu Ag"]
    lines += [f"{DENSITY_KNOTS} {DENSITY_SPACING} {KNOTS} {length * SPACING} {length * CUTOFF}"]
    for i in range(2):
        lines.append(["29 63.55 3.615 FCC", "47 107.87 4.09 FCC"][i])
        b, g, h = EMBEDDING[i]
        tables = [energy * (b * x + g * x**2 + h * x**3)]
        tables += [DENSITY[i, j] * cube for j in (range(2) if by_pair else [0])]
        lines += [" ".join(map(repr, table.tolist())) for table in tables]
    for i, j in [(0, 0), (1, 0), (1, 1)]:
        lines.append(" ".join(map(repr, (energy * length * PAIR[i, j] * cube).tolist())))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=[False, True], ids=["alloy", "finnis-sinclair"])
def potential(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("eam") / f"cubics.{'fs' if request.param else 'alloy'}"
    path.write_text(text(request.param))
    return EAM.from_file(path)


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
    atoms = alloy()
    kinds = np.array([ELEMENTS.index(symbol) for symbol in atoms.symbols])
    scales = {
        "pair_scale[Cu-Ag]": 1.1, "density_scale[Ag]": 0.9, "embedding_scale[Cu]": 1.2,
        "length_scale": 1.05,
    }  # fmt: skip
    pair, density = PAIR.copy(), DENSITY.copy()
    pair[0, 1] = pair[1, 0] = 1.1 * PAIR[0, 1]
    density[1] *= 0.9
    if potential.rho.ndim == 2:
        density[:, 1] = density[:, 0]
    first, second, _, vectors = numerical.images(
        atoms.positions, atoms.cell[:], atoms.pbc, 1.05 * CUTOFF
    )
    s = np.linalg.norm(vectors, axis=1) / 1.05
    cube = (CUTOFF - s) ** 3
    rho = np.bincount(first, density[kinds[second], kinds[first]] * cube)
    assert rho.max() < DENSITY_SPACING * (DENSITY_KNOTS - 3)
    b, g, h = EMBEDDING[kinds].T
    embedding = (b * rho + g * rho**2 + h * rho**3) * np.where(kinds == 0, 1.2, 1.0)
    expected = embedding.sum() + 0.5 * np.sum(pair[kinds[first], kinds[second]] * cube / s)
    assert energy_of(potential.with_parameters(scales), atoms) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_the_checks_of_a_potential_pass(potential):
    check_potential(potential, alloy()).require()


def test_forces_of_a_single_element_are_the_slopes_of_its_energy(tmp_path):
    """Whose atoms add the same to one another's densities, which is computed once."""
    path = tmp_path / "cubics.alloy"
    path.write_text(text())
    potential, atoms = EAM.from_file(path, ["Cu"]), alloy()
    atoms.symbols = ["Cu"] * len(atoms)
    system = mdsens.System.from_ase(atoms)
    edge_list = potential.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    along = np.random.default_rng(4).normal(size=atoms.positions.shape)

    def found(change):
        moved = system.with_positions(system.positions + change * along)
        return compiled_energy_forces_virial(moved, potential, edge_list)

    slope = numerical.derivative(lambda h: found(h)[0], 0.0, 1e-3, noise=1e-14)
    numerical.agrees(-np.vdot(found(0.0)[1], along), slope, 1e-7)


def test_elements_are_taken_in_the_order_that_is_asked_for(tmp_path):
    path = tmp_path / "cubics.fs"
    path.write_text(text(True))
    atoms, turned = alloy(), EAM.from_file(path, ["Ag", "Cu"])
    assert turned.species == ("Ag", "Cu")
    assert energy_of(turned, atoms) == pytest.approx(
        energy_of(EAM.from_file(path), atoms), rel=1e-13
    )


def test_the_summary_says_what_the_file_says(potential):
    assert "CITATION: none" in str(potential)
    assert "cutoff" in str(potential)
    assert "r_phi" not in str(potential)


def test_knots_are_parameters_on_request(tmp_path):
    path = tmp_path / "cubics.alloy"
    path.write_text(text())
    assert len(EAM.from_file(path).parameter_names) == 8
    potential = EAM.from_file(path, knots=True)
    assert len(potential.parameter_names) == 8 + 5 * KNOTS + 2 * DENSITY_KNOTS
    assert potential.parameter_units("r_phi[Ag-Cu,17]") == "eV*Ang"
    assert potential.parameters["r_phi[Cu-Ag,17]"] == pytest.approx(0.11 * 1.25**3)
    # The energy is linear in the knots of r phi and of F.
    changed = potential.with_parameters({"r_phi[Cu-Ag,12]": 3.0, "F[Ag,9]": -1.0})
    atoms = alloy()
    first = potential.parameters
    halfway = potential.with_parameters(
        {
            name: 0.5 * (first[name] + value)
            for name, value in {"r_phi[Cu-Ag,12]": 3.0, "F[Ag,9]": -1.0}.items()
        }
    )
    ends = [energy_of(one, atoms) for one in (potential, changed)]
    assert abs(ends[1] - ends[0]) > 1e-3
    assert energy_of(halfway, atoms) == pytest.approx(0.5 * sum(ends), rel=1e-12)


def test_what_is_written_is_read_again(potential, tmp_path):
    changed = potential.with_parameters({"density_scale[Ag]": 0.9, "length_scale": 1.05})
    path = tmp_path / f"again.{'fs' if potential.rho.ndim == 3 else 'alloy'}"
    changed.to_file(path)
    again = EAM.from_file(path)
    assert again.comments == potential.comments
    assert energy_of(again, alloy()) == pytest.approx(energy_of(changed, alloy()), rel=1e-13)


@pytest.mark.slow
@cases.thorough("the study of a vacancy in copper, which is verified")
def test_a_relaxed_vacancy_follows_the_scales_as_if_relaxed_again(tmp_path):
    path = tmp_path / "cubics.alloy"
    path.write_text(text())
    potential = EAM.from_file(path, ["Cu"])
    atoms = ase.build.bulk("Cu", "fcc", 3.9, cubic=True) * (2, 1, 1)
    del atoms[0]
    atoms.rattle(0.02, seed=4)
    names = ["density_scale[Cu]", "length_scale"]
    system, observables = mdsens.System.from_ase(atoms), ["energy", "distance(0,1)"]
    here = mdsens.relax(system, potential, method="newton", fmax=1e-11)
    sensitivity = mdsens.sensitivity(here, observables, wrt=names)
    for name in names:

        def observed(change, name=name):
            moved = potential.with_parameters({name: 1.0 + change})
            again = mdsens.relax(here.system, moved, method="newton", fmax=1e-11)
            return np.array([mdsens.observables.parse(one)(again) for one in observables])

        wide, narrow = ((observed(h) - observed(-h)) / (2 * h) for h in (2e-4, 1e-4))
        expected = (4 * narrow - wide) / 3
        found = [float(sensitivity[one][name]) for one in observables]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("units", ["real", "electron"])
def test_tables_in_other_units_are_those_in_metal_ones(tmp_path, potential, units):
    path = tmp_path / f"cubics.{'fs' if potential.rho.ndim == 3 else 'alloy'}"
    path.write_text(text(potential.rho.ndim == 3, units))
    read = EAM.from_file(path)
    # The constants differ by some 4e-8.
    assert energy_of(read, alloy()) == pytest.approx(energy_of(potential, alloy()), rel=1e-6)
    again = tmp_path / f"again{path.suffix}"
    read.to_file(again)
    assert "UNITS: metal" in again.read_text().splitlines()[0]


def test_charges_of_funcfl_in_units_that_give_them_no_meaning_are_refused(tmp_path):
    (tmp_path / "one.eam").write_text("# UNITS: electron\n29 63.55 3.615 FCC\n")
    with pytest.raises(mdsens.InputError, match="'electron': the charges"):
        EAM.from_file(tmp_path / "one.eam")


def lines_with(number, line):
    lines = text().splitlines()
    lines[number - 1] = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(units="lj"), "line 1: UNITS: 'lj': allowed are metal, real, electron,"),
        (text(units="rael"), "micro, nano; did you mean 'real'?"),
        (lines_with(4, "3 Cu Ag"), "line 4: 2 different names where 3 elements"),
        (lines_with(5, "31 2.0 27.5 0.25 5.5"), "line 5: nr = '27.5': give a whole number"),
        (lines_with(5, "31 -2.0 27 0.25 5.5"), "line 5: drho = '-2.0': give a positive number"),
        (lines_with(7, "0.0 0.1 oops"), "line 7: F(rho) of Cu = 'oops': give a number"),
        (lines_with(7, " ".join(["1.0"] * 32)), "line 7: 1 numbers too many"),
        (text()[:2000], "the file ends before the 27 numbers of"),
        (text() + "1.0 2.0\n", "line 15: '1.0 2.0' follows where the last table ends"),
        ("", "line 1: the file ends before its header does"),
    ],
)
def test_a_damaged_file_is_an_error_with_the_line(tmp_path, content, message):
    path = tmp_path / "damaged.alloy"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        EAM.from_file(path)


def test_an_element_that_is_missing_is_named(tmp_path):
    path = tmp_path / "cubics.alloy"
    path.write_text(text())
    with pytest.raises(InputError, match="no element 'Ni': it has Cu, Ag"):
        EAM.from_file(path, ["Ni"])
