"""Compiled code that the command keeps for its next run."""

import os
import subprocess
import sys
from pathlib import Path

import jaxlib
import pytest

from mdsens import compilation_cache
from mdsens.cli import exit_status

pytestmark = pytest.mark.xdist_group("cli_cache")
CPUINFO = "processor : 0\nmodel name : Fast\ncpu MHz : {clock}\nflags : sse avx{more}\n"


def folder_of(environment):
    return str(compilation_cache.cache_folder(environment))


keeps = pytest.mark.skipif(
    tuple(map(int, jaxlib.__version__.split(".")[:2])) < compilation_cache.CACHE_JAXLIB,
    reason="this release of jaxlib cannot load on macOS what it has compiled: nothing is kept",
)


@pytest.fixture
def able(monkeypatch):
    """A release of jaxlib that can load what it has compiled."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.0")


@pytest.mark.usefixtures("able")
def test_it_is_kept_in_the_cache_of_the_user(tmp_path):
    default = folder_of({"XDG_CACHE_HOME": str(tmp_path)})
    assert default.startswith(str(tmp_path / "mdsens"))
    assert oct(os.stat(default).st_mode).endswith("700")
    chosen = {"XDG_CACHE_HOME": str(tmp_path), "MDSENS_CACHE": str(tmp_path / "chosen")}
    assert folder_of(chosen).startswith(str(tmp_path / "chosen"))


def kept_by_a_process(code="", **environment):
    """Where a new process says that it keeps programs, and whatever else it says."""
    code = f"import mdsens, sys\n{code}\nfrom mdsens import compilation_cache as cache\n" + (
        "cache.keep_compiled_code(); print(cache.folder_of_programs(), cache.folder_of_programs())"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "MDSENS_CACHE"}
    given = inherited | {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    return done.stdout.split()[0], done.stderr


@keeps
def test_it_is_kept_where_the_environment_says(tmp_path):
    (found, said), chosen = kept_by_a_process(MDSENS_CACHE=tmp_path / "a"), tmp_path / "a"
    assert (Path(found).parent, said) == (chosen, "")
    assert kept_by_a_process(XDG_CACHE_HOME=tmp_path)[0].startswith(str(tmp_path / "mdsens"))


def test_it_is_not_kept_where_that_was_said_nor_where_jax_was_imported_before(tmp_path):
    environment = {"XDG_CACHE_HOME": tmp_path, "MDSENS_CACHE": "off"}
    assert kept_by_a_process(**environment) == ("None", "")
    assert kept_by_a_process("import jax", XDG_CACHE_HOME=tmp_path) == ("None", "")
    assert not list(tmp_path.iterdir())


def test_importing_mdsens_makes_no_folder(tmp_path):
    environment = os.environ | {"MDSENS_CACHE": str(tmp_path / "new")}
    subprocess.run([sys.executable, "-c", "import mdsens"], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_it_is_not_kept_by_releases_that_cannot_load_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.9.2")
    assert compilation_cache.cache_folder({"MDSENS_CACHE": str(tmp_path)}) is None


@keeps
def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    found, said = kept_by_a_process(MDSENS_CACHE=tmp_path / "file")
    assert found == "None"
    assert said.count("set MDSENS_CACHE to a folder, or to off") == said.count("\n") == 1


def test_processors_that_differ_share_nothing(tmp_path):
    def name(text):
        (tmp_path / "cpuinfo").write_text(text)
        return compilation_cache.processor_name(tmp_path / "cpuinfo")

    first = name(CPUINFO.format(clock=1000, more=""))
    assert name(CPUINFO.format(clock=2000, more="")) == first
    assert name(CPUINFO.format(clock=1000, more=" avx512f")) != first
    assert name("") == compilation_cache.processor_name(tmp_path / "none") != first


def test_the_oldest_is_forgotten(tmp_path):
    for age in range(4):
        (tmp_path / f"{age}-cache").write_bytes(bytes(10))
        os.utime(tmp_path / f"{age}-cache", (1000 - age, 1000 - age))
    (tmp_path / "other").write_bytes(bytes(100))
    compilation_cache.forget_oldest(tmp_path, limit=40)
    assert len(list(tmp_path.iterdir())) == 5
    compilation_cache.forget_oldest(tmp_path, limit=39)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-cache", "other"]


@pytest.fixture
def some_kept(tmp_path, monkeypatch):
    """A folder that holds two files of compiled code, and one of something else."""
    monkeypatch.setenv("MDSENS_CACHE", str(tmp_path))
    (tmp_path / "jaxlib-1-abc").mkdir()
    for name in ("a-cache", "b-cache", "notes.txt"):
        (tmp_path / "jaxlib-1-abc" / name).write_bytes(bytes(600_000))
    return tmp_path


def test_the_command_shows_what_is_kept_and_removes_it(some_kept, capsys):
    assert exit_status(["cache"]) == 0
    assert capsys.readouterr().out == f"{some_kept}: keeps 2 files of compiled code, 1.2 MB\n"
    assert exit_status(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"{some_kept}: removed 2 files of compiled code, 1.2 MB\n"
    assert [path.name for path in some_kept.glob("*/*")] == ["notes.txt"]
    assert exit_status(["cache"]) == 0
    assert capsys.readouterr().out == f"{some_kept}: keeps 0 files of compiled code, 0.0 MB\n"


def test_the_command_says_where_nothing_is_kept(monkeypatch, capsys):
    monkeypatch.setenv("MDSENS_CACHE", "off")
    assert exit_status(["cache"]) == 2
    assert capsys.readouterr().err == (
        "mdsens: MDSENS_CACHE is off: nothing is kept; unset it, or name a folder\n"
    )
