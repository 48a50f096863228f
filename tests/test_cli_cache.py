"""Compiled code that the command keeps for its next run."""

import os
import subprocess
import sys

import pytest

from mdsens import compilation_cache

pytestmark = pytest.mark.xdist_group("cli_cache")
CPUINFO = "processor : 0\nmodel name : Fast\ncpu MHz : {clock}\nflags : sse avx{more}\n"


def folder_of(settings):
    return settings.get("JAX_COMPILATION_CACHE_DIR")


@pytest.fixture
def able(monkeypatch):
    """A release of jaxlib that can load what it has compiled."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.0")


@pytest.mark.usefixtures("able")
def test_it_is_kept_in_the_cache_of_the_user(tmp_path):
    default = folder_of(compilation_cache.cache_settings({"XDG_CACHE_HOME": str(tmp_path)}))
    assert default.startswith(str(tmp_path / "mdsens"))
    assert oct(os.stat(default).st_mode).endswith("700")
    chosen = {"XDG_CACHE_HOME": str(tmp_path), "MDSENS_CACHE": str(tmp_path / "chosen")}
    assert folder_of(compilation_cache.cache_settings(chosen)).startswith(str(tmp_path / "chosen"))


@pytest.mark.parametrize(
    "given", [{"MDSENS_CACHE": "off"}, {"JAX_COMPILATION_CACHE_DIR": "elsewhere"}]
)
def test_it_is_not_kept_where_that_was_said(tmp_path, given):
    assert compilation_cache.cache_settings({"XDG_CACHE_HOME": str(tmp_path), **given}) == {}
    assert not list(tmp_path.iterdir())


def test_it_is_not_kept_by_releases_that_cannot_load_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.9.2")
    assert compilation_cache.cache_settings({"MDSENS_CACHE": str(tmp_path)}) == {}


@pytest.mark.usefixtures("able")
def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert compilation_cache.cache_settings({"MDSENS_CACHE": str(tmp_path / "file")}) == {}
    assert "set MDSENS_CACHE to a folder, or to off" in capsys.readouterr().err


def test_a_jax_that_is_imported_already_is_left_alone(monkeypatch):
    monkeypatch.setattr(
        compilation_cache, "cache_settings", lambda environment: pytest.fail("called")
    )
    compilation_cache.keep_compiled_code()


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


@pytest.mark.slow
def test_a_second_process_loads_it_without_a_word(tmp_path):
    code = (
        "from mdsens import compilation_cache; compilation_cache.keep_compiled_code()\n"
        "import jax\n"
        "events = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: events.append(event))\n"
        "print(float(jax.jit(lambda x: (x * x).sum())(jax.numpy.arange(8.0))))\n"
        "print(sum('cache_hits' in event for event in events) > 0)\n"
    )
    # JAX has left some of its own in the environment of this process.
    kept = {name: value for name, value in os.environ.items() if name[:3] not in ("JAX", "TF_")}
    given = {**kept, "MDSENS_CACHE": str(tmp_path)}
    for found in ("False", "True", "damaged"):
        if found == "damaged":
            # Costs the time that it would have saved, nothing else.
            for path in tmp_path.glob("*/*-cache"):
                path.write_bytes(path.read_bytes()[:-9])
            found = "False"
        done = subprocess.run(
            [sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["140.0", found]
        assert done.stderr == ""
