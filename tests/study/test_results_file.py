"""results.json: what it may hold, and what a report says about another."""

import copy
import json

import pytest

from mdsens.errors import InputError
from mdsens.study.report import write_report
from mdsens.study.results_file import read_results

#: The smallest results.json there is.
RESULTS = {
    "schema": 2, "study": "a", "description": "b", "energy": -1.0,
    "largest_force": 1e-12,
    "fmax": 1e-10, "converged": True, "stable": True, "kind": "minimum", "steps": 3,
    "atoms": 2, "dimension": 3, "cell": [[0.0] * 3] * 3, "pbc": [False] * 3,
    "units": {
        "system": "ase", "energy": "eV", "largest_force": "eV/Ang", "fmax": "eV/Ang",
        "length": "Ang",
        "lowest_eigenvalue": "eV/Ang^2", "timing": "s", "parameters": {"sigma": "Ang"},
        "vectors": {"sigma": "1"}, "sensitivities": {"energy": {"sigma": "eV/Ang"}},
    },
    "parameters": {"sigma": 3.0}, "vectors": {"sigma": "dsigma"}, "diameters": {},
    "observables": {"energy": {"value": -1.0, "units": "eV"}},
    "sensitivities": {"energy": {"sigma": None}},
    "logarithmic_sensitivities": {"energy": {"sigma": 0.0}},
    "certificate": {
        "lowest_eigenvalue": 1.0, "lowest_eigenvalue_estimated": False, "null_modes": 5,
        "null_modes_by_kind": {"translations": 3}, "linear_residual": 0.0,
        "derivative_error": None, "linear_solver": None,
    },
    "timing": {"relax_s": 1.0}, "mode": "forward", "logarithmic": False, "versions": {"jax": "1"},
}  # fmt: skip


def test_the_smallest_results_are_read(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    assert read_results(tmp_path) == RESULTS
    # Complete as they are, they are of no run of this program: no marker lists them.
    with pytest.raises(InputError, match=r"has no \.mdsens\.json.*run the study again"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema": 2}', "study is missing"),
        ('{"schema": 1}', "schema"),
        ('{"schema": "x"}', "schema"),
        ("{}", "schema is missing"),
        ("[]", "object"),
        ("", "Invalid JSON"),
        ('{"schema": 2, "study": "a', "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("\0\0", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_another_results_json_is_one_line(tmp_path, content, words):
    (tmp_path / "results.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(InputError) as caught:
        write_report(tmp_path)
    message = str(caught.value)
    assert words in message
    assert "holds no results" in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("energy", "-1"),
        ("energy", True),
        ("energy", float("nan")),
        ("kind", "maximum"),
        ("dimension", 4),
        ("atoms", 2.5),
        ("study", 3),
        ("description", ["<b>"]),
        ("parameters", {"sigma": "3"}),
        ("parameters", {"sigma": 3.0, "epsilon": 1.0}),
        ("vectors", {}),
        ("vectors", {"sigma": "forces"}),
        ("vectors", {"sigma": "../../dsigma"}),
        ("observables", {"energy": {"value": {}, "units": "eV"}}),
        ("observables", {}),
        ("sensitivities", {"energy": {}}),
        ("sensitivities", {"energy": {"sigma": "<script>"}}),
        ("logarithmic_sensitivities", {"volume": {"sigma": 1.0}}),
        ("units", {"system": "si"}),
        ("certificate", {}),
        ("timing", {"relax_s": "1"}),
        ("versions", {"jax": 1}),
        ("ensemble", {}),
        ("ensemble", {"parameter": "sigma", "minimiser": "FIRE", "steps": 1, "marks": [1],
                      "units": {"norms": "1", "largest_force": "1"}, "starts": [{"seed": 1}]}),
    ],
)  # fmt: skip
def test_every_key_has_its_type_and_names_agree(tmp_path, path, value):
    results = copy.deepcopy(RESULTS)
    results[path] = value
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="no results of this version") as caught:
        read_results(tmp_path)
    assert path in str(caught.value) or "are expected" in str(caught.value)
    assert "\n" not in str(caught.value)
