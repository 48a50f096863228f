"""A study small enough to be run many times."""

import base64
import contextlib
import subprocess
import sys
from collections.abc import Iterable
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


#: Tests of studies that look at what figures show. Those of the others are made and not drawn: it
#: takes as long as all else that a run of a few atoms does.
DRAWN = (
    "test_column_names", "test_pages_in_a_browser", "test_ready_studies", "test_report_of_crystals",
    "test_report_process", "test_run",
)  # fmt: skip
#: A picture of one point.
POINT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


@pytest.fixture(autouse=True, scope="module")
def _figures_are_made_and_not_drawn(request):
    if request.path.parent.name != "study" or request.path.stem in DRAWN:
        yield
        return
    import mdsens.plots

    def written(figures: Iterable) -> list[Path]:
        paths = [path for path, _ in figures]
        for path in paths:
            path.write_bytes(POINT)
        return paths

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mdsens.plots, "write_figures", written)
        yield


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_rehearsed(request):
    """A core waits for nobody here: what is computed twice takes twice as long.

    Runs in processes of their own, of which two are ready studies, rehearse.
    """
    if request.path.parent.name != "study":
        yield
        return
    import mdsens.study.rehearsal

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mdsens.study.rehearsal, "available_cores", lambda: 1)
        yield


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
