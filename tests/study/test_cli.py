"""The mdsens command: exit statuses, one-line errors, and what it prints."""

import json
import subprocess
import sys

import pytest

import mdsens


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from mdsens import cli; cli._exit_status(['--help']);"
        "print([m for m in ('jax', 'numpy', 'matplotlib', 'pydantic', 'ase') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "verify" in done.stdout


def test_version(command):
    assert command("--version") == (0, f"mdsens {mdsens.__version__}\n", "")


def test_list_names_the_ready_studies(command):
    status, out, _ = command("list")
    assert status == 0
    for name in ("argon-cluster", "argon-vacancy", "silicon-vacancy", "soft-spheres-2d"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "trimer", "--set", "potential.sigm=3"], ["potential.sigm", "'sigma'?"]),
        (["verify", "trimer", "--set", "relaxation.method=fier"], ["'fier'", "'fire'?"]),
        (["run", "argon-clustr"], ["'argon-clustr'", "'argon-cluster'?"]),
        (["report", "trimer"], ["trimer", "no results"]),
        (["run", "trimer", "--out", "trimer"], ["trimer", "--out"]),
        (["run"], ["STUDY"]),
        (["rum", "trimer"], ["rum"]),
        (["run", "trimer", "--fast"], ["--fast"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(trimer, tmp_path, command, arguments, words):
    status, out, errors = command(*arguments)
    assert status == 2
    assert out == ""
    (line,) = [line for line in errors.splitlines() if line.startswith("mdsens: ")]
    assert errors.splitlines()[-1] == line
    for word in words:
        assert word in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trimer"]
    assert sorted(path.name for path in trimer.iterdir()) == ["study.toml", "trimer.xyz"]


def test_an_unconverged_structure_is_status_1(trimer, tmp_path, command):
    status, _, errors = command("run", "trimer", "--set", "relaxation.max_steps=1")
    assert status == 1
    assert "unconverged" in errors.splitlines()[-1]
    assert "--allow-unconverged" in errors.splitlines()[-1]
    assert not (tmp_path / "results").exists()


def test_run_prints_a_summary_and_says_where_the_files_are(trimer, tmp_path, command):
    status, out, _ = command("run", "trimer", "--set", "potential.epsilon=0.02")
    assert status == 0
    results = json.loads((tmp_path / "results" / "trimer" / "results.json").read_text())
    # Three pairs, each at the bottom of its well.
    assert results["energy"] == pytest.approx(-3 * 0.02, rel=1e-9)
    for words in ("minimum", "3 translations, 3 rotations", "-0.06 eV", "results/trimer", "sigma"):
        assert words in out
    status, out, _ = command("report", "results/trimer")
    assert status == 0
    assert "report.html" in out


def test_a_bare_name_works_from_any_folder(command, tmp_path):
    # Reads, checks and relaxes the ready study; one step is too few to converge.
    status, _, errors = command("run", "argon-cluster", "--set", "relaxation.max_steps=1")
    assert status == 1
    assert "unconverged" in errors


def test_verify_has_status_0_or_1(trimer, command):
    status, out, _ = command("verify", "trimer")
    assert status == 0
    assert "passed: largest relative error" in out.splitlines()[-1]
    status, out, _ = command("verify", "trimer", "--set", "verify.tolerance=1e-30")
    assert status == 1
    assert out.splitlines()[-1].startswith("FAILED")
