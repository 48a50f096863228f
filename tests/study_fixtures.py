"""A study small enough to be run many times."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
description = "three argon atoms"
units = "ase"

[structure]
file = "trimer.xyz"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = "0.3405 nm"
cutoff = 12.0

[relaxation]
method = "lbfgs"
fmax = 1e-9

[sensitivity]
observables = ["energy", "distance(0,1)"]
"""
TRIMER = "3\ntrimer\nAr 0.0 0.0 0.0\nAr 3.7 0.1 0.0\nAr 1.9 3.2 0.1\n"


@pytest.fixture(scope="session")
def trimer_files() -> dict[str, str]:
    """The files of a study of three atoms."""
    return {"study.toml": STUDY, "trimer.xyz": TRIMER}


@pytest.fixture
def trimer(tmp_path: Path, trimer_files: dict[str, str]) -> Path:
    """The folder of a study of three atoms, in an otherwise empty folder."""
    folder = tmp_path / "trimer"
    folder.mkdir()
    for name, text in trimer_files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    """Run the mdsens command in this process, in tmp_path: exit status, output, errors."""
    from mdsens import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = cli.exit_status([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


#: The command as a terminal starts it: a job in the background, as tests may be, ignores Ctrl-C.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mdsens.cli import main
main()
"""


def ended(process: subprocess.Popen) -> None:
    """End a process, and leave neither it nor its pipes behind, however its test went."""
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


@pytest.fixture
def program(tmp_path):
    """Start the installed command as a process of its own, which does not outlive the test."""
    with contextlib.ExitStack() as started:

        def start(*arguments: object) -> subprocess.Popen:
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *map(str, arguments)],
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.callback(ended, process)
            return process

        yield start
