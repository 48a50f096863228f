"""The mdsens command: exit statuses, one-line errors, and what it prints."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest

import mdsens
from mdsens.cli import warn_in_a_line
from mdsens.errors import MdsensWarning
from mdsens.study.find import ready_folder


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from mdsens import cli; cli.exit_status(['--help']);"
        "print([m for m in ('jax', 'numpy', 'matplotlib', 'pydantic', 'ase') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "verify" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["list"], 0),
        (["run", "argon-vacanzy"], 2),
        (["run", "argon-vacancy", "--set", "relaxation.max_steps=many"], 2),
        (["verify", "argon-vacancy", "--set", "structure.builder=crystal"], 2),
    ],
)
def test_what_needs_no_jax_does_not_wait_for_it(arguments, status):
    code = (
        f"import sys; from mdsens import cli; print(cli.exit_status({arguments}));"
        "print([m for m in ('jax', 'matplotlib', 'ase', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [str(status), "[]"]


def test_a_run_does_not_wait_for_what_other_commands_use():
    code = (
        "import sys, mdsens.study.run, mdsens.study.terminal;"
        "others = ('pandas', 'xarray', 'pyamg', 'scipy.interpolate', 'mdsens.batches');"
        "print([m for m in others if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(command):
    assert command("--version") == (0, f"mdsens {mdsens.__version__}\n", "")


def test_the_package_is_the_command():
    given = [sys.executable, "-m", "mdsens", "--version"]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout == f"mdsens {mdsens.__version__}\n"


def test_list_names_the_ready_studies(command):
    status, out, _ = command("list")
    assert status == 0
    for name in (path.parent.name for path in ready_folder().glob("*/study.toml")):
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
        (["run", "trimer", "--workers", "0"], ["--workers", "1. See mdsens --help."]),
        (["rnu", "trimer"], ["Did you mean 'run'? See mdsens --help."]),
        (["run", "trimer", "--out", ""], ["output folder", "''"]),
        (["run", "trimer", "--out", "trimer/study.toml"], ["study.toml", "no folder"]),
        (["run", "trimer", "--out", "a" * 255], ["too long", "--out"]),
        (["run", ""], ["study", "''"]),
        (["run", "a" * 5000], ["too long"]),
        (["run", "/dev/null"], ["/dev/null", "no such folder or file"]),
        (["report", ""], ["folder", "''"]),
        (["report", "trimer/study.toml"], ["study.toml", "no results"]),
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


@pytest.mark.slow
def test_an_unconverged_structure_is_status_1(trimer, tmp_path, command):
    status, _, errors = command("run", "trimer", "--set", "relaxation.max_steps=1")
    assert status == 1
    assert "unconverged" in errors.splitlines()[-1]
    assert "--allow-unconverged" in errors.splitlines()[-1]
    assert not (tmp_path / "results").exists()


#: Markup of the terminal and of pages, and characters that turn the text around or colour it.
DESCRIPTION = "[/] [bold]<b>:warning:\u202e\x1b[31m"


@pytest.mark.slow
def test_run_prints_a_summary_and_says_where_the_files_are(trimer, tmp_path, command):
    status, out, _ = command(
        "run", "trimer", "--set", "potential.epsilon=0.02", "--set", f"description={DESCRIPTION}"
    )
    assert status == 0
    assert "[/] [bold]<b>:warning:\\u202e\\x1b" in out
    page = (tmp_path / "results" / "trimer" / "report.html").read_text()
    assert "[/] [bold]&lt;b&gt;:warning:\\u202e\\x1b" in page
    results = json.loads((tmp_path / "results" / "trimer" / "results.json").read_text())
    # Three pairs, each at the bottom of its well.
    assert results["energy"] == pytest.approx(-3 * 0.02, rel=1e-9)
    for words in ("minimum", "3 translations, 3 rotations", "results/trimer", "sigma"):
        assert words in out
    assert re.search(r"^energy +-0\.06 +\S+ +eV", out, re.MULTILINE)
    status, out, _ = command("report", "results/trimer")
    assert status == 0
    assert "report.html" in out


def test_a_bare_name_works_from_any_folder(command, tmp_path):
    # Reads, checks and relaxes the ready study; one step is too few to converge.
    status, _, errors = command("run", "argon-cluster", "--set", "relaxation.max_steps=1")
    assert status == 1
    assert "unconverged" in errors


@pytest.mark.slow
def test_verify_has_status_0_or_1(trimer, command):
    status, out, _ = command("verify", "trimer")
    assert status == 0
    assert "passed: largest relative error" in out.splitlines()[-1]
    status, out, _ = command("verify", "trimer", "--set", "verify.tolerance=1e-30")
    assert status == 1
    assert out.splitlines()[-1].startswith("FAILED")


def _disk_full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_nobody_foresaw_is_one_line_and_a_file(trimer, tmp_path, command, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("an\nerror \x1b[31m of ours")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("mdsens.study.load_study", broken)
    status, out, errors = command("run", "trimer")
    assert (status, out) == (1, "")
    (file,) = (tmp_path / "temporary").iterdir()
    line = errors.splitlines()[-1]
    assert line.startswith("mdsens: unexpected ZeroDivisionError (an error \\x1b[31m of ours)")
    assert str(file) in line
    assert errors.count("mdsens: ") == 1
    assert "Traceback" not in errors
    assert "in broken" in file.read_text()
    # Where no file can be written, the traceback is at least there.
    monkeypatch.setattr("tempfile.NamedTemporaryFile", _disk_full)
    status, _, errors = command("run", "trimer")
    assert status == 1
    assert "in broken" in errors
    assert "ZeroDivisionError" in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&-", 0, ""),
        ("> /dev/full", 1, "mdsens: the output cannot be written: No space left on device\n"),
        ("| true", None, ""),
    ],
)
def test_output_that_nobody_can_take_is_no_traceback(streams, status, said):
    python = f"{sys.executable} -O -c 'from mdsens.cli import main; main()'"
    done = subprocess.run(
        ["sh", "-c", f"{python} --help {streams}"], capture_output=True, text=True, check=False
    )
    assert done.stderr == said
    assert status in (None, done.returncode)


def test_a_terminal_that_knows_ascii_alone_gets_plain_letters():
    code = (
        "from mdsens.streams import prepare_streams; prepare_streams()\n"
        "from mdsens.markup import console; console().print('d ln O / d ln θ: 3 Å², α')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.stdout == b"d ln O / d ln theta: 3 Ang^2, \\u03b1\n"
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("warning", "line"),
    [
        (MdsensWarning("a shell\nof \x1b[1m"), "mdsens: warning: a shell of \\x1b[1m\n"),
        (DeprecationWarning("old"), "mdsens: warning: DeprecationWarning: old\n"),
    ],
)
def test_a_warning_is_one_line(warning, line, capfd):
    warn_in_a_line(warning, type(warning), "file.py", 3)
    assert capfd.readouterr().err == line


@pytest.mark.slow
def test_without_assertions_nothing_is_begun(trimer, tmp_path):
    """ASE reads the lines of XYZ files in assertions."""
    code = "from mdsens.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-O", "-c", code, "run", "soft-spheres-2d"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "without -O" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["trimer"]
