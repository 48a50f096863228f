"""Studies that mdsens new writes: they run as they are, whatever format the structure has."""

import json
import tomllib

import ase.build
import ase.io
import numpy as np
import pytest

from mdsens.study import load_study
from mdsens.study.find import ready_folder

pytestmark = pytest.mark.xdist_group("study new")

#: Formats of structures by their file's name, with what ASE is told to write them.
FORMATS = {
    "argon.cif": {},
    "POSCAR": {},
    "argon.extxyz": {},
    "argon.data": {"format": "lammps-data", "atom_style": "atomic", "masses": True},
    "argon.xyz": {"format": "xyz"},
}


@pytest.fixture
def structures(tmp_path):
    argon = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    for name, options in FORMATS.items():
        ase.io.write(tmp_path / name, argon, **options)
    return tmp_path


@pytest.fixture(scope="module")
def energies():
    return {}


@pytest.mark.parametrize("name", FORMATS)
def test_a_study_from_each_format_runs(structures, command, name, energies):
    new = ("new", "study", "--from", name, "--potential", "lennard-jones")
    status, out, errors = command(*new)
    assert (status, errors) == (0, "")
    assert "mdsens run study" in out
    table = tomllib.loads((structures / "study" / "study.toml").read_text())
    # The numbers are those of a ready study, and their source is said.
    ready = tomllib.loads((ready_folder() / "argon-vacancy" / "study.toml").read_text())
    assert table["potential"] == ready["potential"]
    text = (structures / "study" / "study.toml").read_text()
    assert "epsilon = 0.0104  # eV; as in the ready study argon-vacancy" in text
    crystal = name != "argon.xyz"
    assert ("lattice_constants" in table["sensitivity"]["observables"]) == crystal
    assert table["relaxation"]["cell"] == ("full" if crystal else "none")
    observable = "energy_per_atom" if crystal else "energy"
    status, _, errors = command(
        "run", "study", "--set", f'sensitivity.observables=["{observable}"]', "--out", "out"
    )
    assert status == 0, errors
    results = json.loads((structures / "out" / "results.json").read_text())
    assert results["kind"] == "minimum"
    energies[name] = results["observables"][observable]["value"]
    if not crystal:
        # A regular tetrahedron with its six pairs at the bottom of the well.
        assert energies[name] == pytest.approx(-6 * 0.0104, rel=1e-9)
    else:
        assert energies[name] == pytest.approx(next(iter(energies.values())), rel=1e-9)
    # Nothing is written over.
    status, _, errors = command(*new)
    assert (status, errors.count("\n")) == (2, 1)
    assert "there already" in errors
    assert (structures / "study" / "study.toml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gupta"], ["A (eV), xi (eV), p, q, r0 (Ang), cutoff (Ang)", "--parameter A=..."]),
        (["morse", "--parameter", "epsilon=0.02"], ["alpha (1/Ang), r0 (Ang)", "Ar"]),
        (["lennard-jones", "--parameter", "sigma"], ["'sigma'", "name=value"]),
        (["lennard-jones", "--parameter", "sigm=3.4"], ["potential.sigm", "'sigma'"]),
        (["lenard-jones"], ["'lennard-jones'?", "mdsens potentials"]),
        (["eam"], [".eam", "in the place of the type"]),
        (["nowhere.eam.alloy"], ["nowhere.eam.alloy", "no such file"]),
        (["lennard-jones", "--units", "metal"], ["units", "'metal'"]),
        (["jax-md", "--parameter", "energy=morse"], ["sigma (Ang), epsilon (eV), alpha (1/Ang)"]),
        (["jax-md", "--parameter", "energy=mors"], ["'mors'", "'morse'"]),
        (["lennard-jones", "--from", "nowhere.cif"], ["nowhere.cif", "does not exist"]),
    ],
)
def test_what_is_missing_is_asked_for_in_a_line(structures, command, arguments, words):
    before = {path.name for path in structures.iterdir()}
    command_line = ["new", "study", "--from", "argon.cif", "--potential", *arguments]
    status, out, errors = command(*command_line)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    for word in words:
        assert word in errors
    assert {path.name for path in structures.iterdir()} == before


def test_bonds_relax_to_their_lengths(structures, command):
    """Of four atoms, all of whose six distances are the same."""
    pairs = [[i, j] for i in range(4) for j in range(i)]
    given = [f"--parameter=pairs={pairs}", "--parameter=stiffness=1.0", "--parameter=length=3.5"]
    new = ("new", "springs", "--from", "argon.xyz", "--potential", "bonds", *given)
    assert command(*new)[0] == 0
    equilibrium = load_study(structures / "springs").relax()
    distances = equilibrium.to_ase().get_all_distances()[np.triu_indices(4, 1)]
    assert distances == pytest.approx([3.5] * 6, rel=1e-8)


def test_parameters_of_pairs_of_species_make_tables(structures, command):
    argon = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    argon.symbols[0] = "Kr"
    ase.io.write("mixed.extxyz", argon)
    given = {"epsilon": (0.014, 0.012, 0.0104), "sigma": (3.6, 3.5, 3.4)}
    pairs = ("Kr-Kr", "Ar-Kr", "Ar-Ar")
    parameters = [
        f"--parameter={name}[{pair}]={value}"
        for name, values in given.items()
        for pair, value in zip(pairs, values, strict=True)
    ]
    status, _, errors = command(
        "new", "mixed", "--from", "mixed.extxyz", "--potential", "lennard-jones", *parameters
    )
    assert status == 0, errors
    potential = tomllib.loads((structures / "mixed" / "study.toml").read_text())["potential"]
    assert potential["species"] == ["Kr", "Ar"]
    assert potential["sigma"] == dict(zip(pairs, given["sigma"], strict=True))
    assert potential["cutoff"] == "2.5 sigma"


def test_a_potential_file_goes_with_the_study(structures, command):
    (structures / "Si.sw").write_text(
        "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.3333333333 7.049556277 0.6022245584 4 0 0\n"
    )
    ase.io.write("silicon.cif", ase.build.bulk("Si", "diamond", 5.43))
    status, _, errors = command("new", "si", "--from", "silicon.cif", "--potential", "Si.sw")
    assert status == 0, errors
    assert sorted(p.name for p in (structures / "si").iterdir()) == [
        "Si.sw", "silicon.cif", "study.toml"
    ]  # fmt: skip
    table = tomllib.loads((structures / "si" / "study.toml").read_text())
    assert table["potential"] == {"type": "stillinger-weber", "file": "Si.sw", "elements": ["Si"]}


def test_names_are_no_keys_of_the_file(structures, command):
    """What stands in a name goes into comments and texts, and nowhere else."""
    ase.io.read("argon.cif").write('a"]\n[sweep].extxyz', format="extxyz")
    status, _, errors = command(
        "new", 'st "udy', "--from", 'a"]\n[sweep].extxyz', "--potential", "lennard-jones"
    )
    assert status == 0, errors
    table = tomllib.loads((structures / 'st "udy' / "study.toml").read_text())
    assert "sweep" not in table
    assert table["structure"]["file"] == 'a"]\n[sweep].extxyz'
