"""The package as a whole: fast to import, in double precision, with arrows that go one way."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mdsens

SOURCE = Path(mdsens.__file__).parent
#: Rooms that a room may not know.
FORBIDDEN = {
    "implicit": {
        "particles", "potentials", "mechanics", "relaxation", "observables", "sensitivities",
        "study", "plots", "cli",
    },
    "particles": {
        "potentials", "mechanics", "relaxation", "observables", "sensitivities", "study", "plots",
    },
    "potentials": {
        "mechanics", "relaxation", "observables", "sensitivities", "study", "plots", "implicit",
    },
    "mechanics": {"relaxation", "observables", "sensitivities", "study", "plots", "implicit"},
    "relaxation": {"observables", "sensitivities", "study", "plots"},
    "observables": {"sensitivities", "study", "plots"},
    "sensitivities": {"study", "plots"},
}  # fmt: skip


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_mdsens_imports_no_jax():
    python("import mdsens, sys; assert 'jax' not in sys.modules")


def test_importing_mdsens_is_fast():
    start = time.perf_counter()
    python("import mdsens")
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize("order", ["import mdsens, jax", "import jax, mdsens"])
def test_double_precision_is_on_whatever_is_imported_first(order):
    python(f"{order}, jax.numpy; assert jax.numpy.zeros(1).dtype == 'float64'")


def imported(path):
    """Rooms of mdsens that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "mdsens":
                names = [f"mdsens.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("mdsens."))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_those_below_it(room):
    files = list((SOURCE / room).glob("**/*.py"))
    assert files
    for path in files:
        assert not set(imported(path)) & FORBIDDEN[room], path


def test_nothing_imports_the_command_line():
    for path in SOURCE.glob("**/*.py"):
        if path.name not in ("cli.py", "__main__.py"):
            assert "cli" not in set(imported(path)), path


def test_every_public_name_is_there():
    python("import mdsens; [getattr(mdsens, name) for name in mdsens.__all__]")
