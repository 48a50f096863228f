"""What `pip install mdsens` would bring: the wheel, built and looked into."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def python(*arguments):
    # Twine writes in colours where it is told that somebody looks.
    environment = {**os.environ, "NO_COLOR": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The wheel and the archive of sources."""
    for module in ("build", "hatchling", "twine"):
        pytest.importorskip(module, reason="wheels take pip install -e '.[release]'")
    folder = tmp_path_factory.mktemp("dist")
    python("build", "--no-isolation", "--outdir", folder, ROOT)
    return sorted(folder.iterdir())


def test_a_wheel_and_an_archive_are_built_that_an_index_would_take(packages):
    assert [path.suffix for path in packages] == [".whl", ".gz"]
    python("twine", "check", "--strict", *packages)


def test_the_wheel_has_the_ready_studies_the_annotations_and_the_licence(packages):
    with zipfile.ZipFile(packages[0]) as wheel:
        held = set(wheel.namelist())
        (command,) = [name for name in held if name.endswith(".dist-info/entry_points.txt")]
        assert "mdsens = mdsens.cli:main" in wheel.read(command).decode()
    command = ["git", "ls-files", "systems", "mdsens"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split():
        assert (f"mdsens/{name}" if name.startswith("systems/") else name) in held
    assert "mdsens/py.typed" in held
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    tops = {name.split("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mdsens"}
