"""Studies of several structures: what they find, write, and refuse."""

import json

import ase
import ase.io
import numpy as np
import pandas
import pytest
from ase.build import bulk

import mdsens
from mdsens.errors import InputError, UnreliableDerivativeError
from mdsens.study import load_study, run_study, verify_study, write_report
from mdsens.study.results_file import CompositeResults, read_results
from mdsens.study.study_sensitivity import StudySensitivity

STUDY = """
description = "a vacancy in a small crystal"
units = "ase"

[structures.crystal]
file = "crystal.extxyz"

[structures.vacancy]
file = "vacancy.extxyz"
rattle = { amplitude = 0.01, seed = 1 }

[structures.atom]
file = "atom.xyz"
relaxation = { cell = "none" }

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.405
onset = 4.6
cutoff = 5.2

[relaxation]
fmax = 1e-11
cell = "isotropic"

[sensitivity]
observables = ["energy"]

[formulas]
formation_energy = "vacancy.energy - vacancy.atoms / crystal.atoms * crystal.energy"
formation_volume = "vacancy.volume - vacancy.atoms / crystal.atoms * crystal.volume"
cohesive_energy = "atom.energy / atom.atoms - crystal.energy / crystal.atoms"
lattice_constant = "crystal.volume ** (1/3)"
energy_density = "vacancy.energy / vacancy.volume"
"""
#: Powers of epsilon and sigma in what has no energy and no length of its own.
DEGREES = {
    "formation_energy": (1, 0), "formation_volume": (0, 3), "cohesive_energy": (1, 0),
    "lattice_constant": (0, 1), "energy_density": (1, -3),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the study."""
    folder = tmp_path_factory.mktemp("composite") / "composite"
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY)
    vacancy = bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 1)
    del vacancy[5]
    ase.io.write(folder / "vacancy.extxyz", vacancy)
    ase.io.write(folder / "crystal.extxyz", bulk("Ar", "fcc", 5.3, cubic=True))
    ase.io.write(folder / "atom.xyz", ase.Atoms("Ar"))
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    return run_study(load_study(folder), tmp_path_factory.mktemp("runs") / "composite")


@pytest.mark.slow
def test_formulas_scale_as_their_dimensions_say(finished):
    """At no pressure a crystal has no energy but epsilon, and no length but sigma."""
    results, (epsilon, sigma) = finished.results, (0.0104, 3.405)
    for name, degrees in DEGREES.items():
        value = results["observables"][name]["value"]
        for parameter, theta, degree in zip(
            ("epsilon", "sigma"), (epsilon, sigma), degrees, strict=True
        ):
            slope = results["sensitivities"][name][parameter]
            assert slope * theta == pytest.approx(degree * value, abs=1e-8 * abs(value))
            if degree:
                logarithm = results["logarithmic_sensitivities"][name][parameter]
                assert logarithm == pytest.approx(degree, abs=1e-8)


def test_values_and_derivatives_follow_from_those_of_the_parts(finished):
    results = finished.results
    value = {name: of["value"] for name, of in results["observables"].items()}
    slope = {name: of["epsilon"] for name, of in results["sensitivities"].items()}
    formed = value["vacancy.energy"] - 15 / 4 * value["crystal.energy"]
    assert value["formation_energy"] == pytest.approx(formed, abs=1e-15)
    assert 0.05 < formed < 0.2
    quotient = value["vacancy.energy"] / value["vacancy.volume"]
    assert value["energy_density"] == pytest.approx(quotient, rel=1e-15)
    by_hand = (slope["vacancy.energy"] - quotient * slope["vacancy.volume"]) / value[
        "vacancy.volume"
    ]
    assert slope["energy_density"] == pytest.approx(by_hand, rel=1e-12)
    # An atom alone has no energy.
    assert value["atom.energy"] == 0.0
    assert value["cohesive_energy"] == pytest.approx(-value["crystal.energy"] / 4, rel=1e-15)


def test_errors_of_a_difference_hold_those_of_both_sides(finished):
    results = finished.results
    error = {name: of["error"] for name, of in results["observables"].items()}
    both = error["vacancy.energy"] + 15 / 4 * error["crystal.energy"]
    assert error["formation_energy"] >= both > 0.0
    errors = {name: of["sigma"] for name, of in results["sensitivity_errors"].items()}
    assert (
        errors["formation_energy"] >= errors["vacancy.energy"] + 15 / 4 * errors["crystal.energy"]
    )
    # Which is zero, and is shown as zero.
    assert abs(results["sensitivities"]["formation_energy"]["sigma"]) <= errors["formation_energy"]


@pytest.mark.slow
def test_a_structure_is_what_the_library_makes_of_it(folder, finished):
    study = load_study(folder)
    equilibrium = study.structures["vacancy"].relax()
    sens = mdsens.sensitivity(equilibrium, ["energy", "volume"])
    own = finished.results["structures"]["vacancy"]
    assert own["energy"] == pytest.approx(float(equilibrium.energy), rel=1e-12)
    assert (own["atoms"], own["kind"], own["converged"]) == (15, "minimum", True)
    assert own["cell_derivatives"]["sigma"][0][0] > 0.0
    assert "cell_derivatives" not in finished.results["structures"]["atom"]
    for name in ("energy", "volume"):
        found = finished.results["sensitivities"][f"vacancy.{name}"]["sigma"]
        assert found == pytest.approx(float(sens[name]["sigma"]), rel=1e-9, abs=1e-9)
    with pytest.raises(InputError, match="crystal, vacancy, atom"):
        study.relax()
    with pytest.raises(InputError, match="crystal, vacancy, atom"):
        finished.sensitivity  # noqa: B018


def test_files_are_named_after_structures_and_read_again(finished, tmp_path):
    folder = finished.folder
    results = CompositeResults.model_validate_json((folder / "results.json").read_bytes())
    assert results.model_extra == {}
    assert all(of.model_extra == {} for of in results.structures.values())
    assert json.loads((folder / "results.json").read_text())["schema"] == 2
    for name, count in (("crystal", 4), ("vacancy", 15), ("atom", 1)):
        assert len(ase.io.read(folder / f"relaxed-{name}.extxyz")) == count
    table = pandas.read_csv(folder / "sensitivities.csv")
    assert list(dict.fromkeys(table.observable))[:5] == list(DEGREES)
    row = table[(table.observable == "formation_energy") & (table.parameter == "epsilon")].iloc[0]
    assert row.derivative == finished.results["sensitivities"]["formation_energy"]["epsilon"]
    assert (row.value_units, row.derivative_units) == ("eV", "1")
    assert finished.results["observables"]["formation_volume"]["units"] == "Ang^3"
    made = [*folder.glob("*.png"), folder / "report.html"]
    names = {path.name for path in made}
    assert names >= {"formulas.png", "sensitivities.png", "convergence-vacancy.png"}
    page = (folder / "report.html").read_text()
    assert "vacancy.atoms / crystal.atoms * crystal.energy" in page
    assert page.index("<h2>Formulas") < page.index("<h2>Structure: crystal")
    for path in made:
        path.unlink()
    assert sorted(write_report(folder)) == sorted(made)
    assert (folder / "report.html").read_text() == page
    again = load_study(folder)
    assert again.structures["atom"].structure_file == folder / "input" / "atom" / "atom.xyz"
    start = finished.derivatives.structures["vacancy"].equilibrium.start
    np.testing.assert_array_equal(again.structures["vacancy"].system.positions, start)
    (folder / "relaxed-atom.extxyz").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"lacks relaxed-atom\.extxyz"):
        write_report(folder)
    (tmp_path / "kept").rename(folder / "relaxed-atom.extxyz")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("structures", {}),
        ("structures", {"a b": {}}),
        ("structures", {"atom": {"energy": "0"}}),
        ("formulas", {"nowhere": "energy"}),
        ("kind", "maximum"),
        ("sensitivities", {}),
    ],
)
def test_other_results_of_several_structures_are_one_line(finished, tmp_path, path, value):
    results = json.loads((finished.folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(results | {path: value}))
    with pytest.raises(InputError, match="no results of this version") as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_verification_relaxes_all_structures_anew(folder, monkeypatch):
    lines = []
    wrong = []
    right = StudySensitivity.__init__

    def spoiled(self, structures, formulas):
        """One derivative of one formula is off, and none of its parts."""
        right(self, structures, formulas)
        formulas["formation_volume"].derivatives["sigma"] *= 1.0 + 1e-5
        wrong.append(self)

    monkeypatch.setattr(StudySensitivity, "__init__", spoiled)
    found = verify_study(load_study(folder), lines.append)
    assert wrong
    bad = {(c.observable, c.parameter) for c in found.comparisons if c.verdict == "FAILED"}
    assert bad == {("formation_volume", "sigma")}
    names = {c.observable for c in found.comparisons}
    assert names >= {*DEGREES, "crystal.positions", "vacancy.volume", "atom.energy"}
    judged = [c for c in found.comparisons if c.verdict == "passed"]
    assert len(judged) > len(found.comparisons) - 4
    assert any(line.startswith("vacancy: sigma: step") for line in lines)
    assert any(line.startswith("formulas: sigma: step") for line in lines)


def test_the_command_shows_each_structure_and_the_formulas(folder, tmp_path, command):
    status, output, _ = command(
        "run", folder, "--out", tmp_path / "out", "--set", "sensitivity.error_estimate=false",
        "--set", "structures.vacancy.rattle.seed=2",
    )  # fmt: skip
    assert status == 0
    assert [f"{name}:" in output for name in ("crystal", "vacancy", "atom")] == [True] * 3
    rows = [line.split() for line in output.splitlines() if line.strip()]
    place = next(i for i, row in enumerate(rows) if row[0] == "formation_energy")
    assert rows[place][-1] == "eV"
    # Errors were not estimated, and yet no noise is shown.
    assert rows[place + 2][:3] == ["sigma", "0", "–"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["sensitivity_errors"]["formation_energy"]["sigma"] is None


def test_what_goes_wrong_names_the_structure_and_leaves_nothing(folder, tmp_path):
    few = load_study(folder, ["structures.vacancy.relaxation.max_steps=1"])
    with pytest.raises(UnreliableDerivativeError, match=r"structures\.vacancy: "):
        run_study(few, tmp_path / "out")
    zero = load_study(folder, ["formulas.nothing='1 / atom.energy'"])
    with pytest.raises(InputError, match=r"formulas\.nothing: division by zero: atom\.energy"):
        run_study(zero, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_one_structure_takes_formulas(trimer, tmp_path):
    study = load_study(
        trimer,
        ["formulas.mean='energy / atoms'", "formulas.bent='angle(0,1,2) - angle(1,2,0)'",
         "sensitivity.observables=['energy', 'energy_per_atom']"],
    )  # fmt: skip
    results = run_study(study, tmp_path / "out").results
    for key in ("sensitivities", "logarithmic_sensitivities"):
        assert results[key]["mean"] == pytest.approx(
            {p: float(d) for p, d in results[key]["energy_per_atom"].items()}, abs=1e-12
        )
    assert results["formulas"]["mean"] == "energy / atoms"
    assert results["observables"]["bent"]["units"] == "degree"
    assert results["observables"]["bent"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert list(results["sensitivities"])[:4] == ["mean", "bent", "energy", "energy_per_atom"]
    assert "Formulas" in (tmp_path / "out" / "report.html").read_text()
