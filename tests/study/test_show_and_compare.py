"""What mdsens shows of structures and of several runs, for people and for scripts."""

import json
import os
import shutil
import subprocess
import sys

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms

from mdsens.study import load_study, run_study

pytestmark = pytest.mark.xdist_group("show and compare")


def test_a_crystal_is_shown_with_its_space_group(command):
    # Rock salt: the shortest distances of the three pairs follow from the lattice constant.
    ase.io.write("salt.cif", ase.build.bulk("NaCl", "rocksalt", 5.64))
    status, out, _ = command("show", "salt.cif", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["species"] == {"Na": 1, "Cl": 1}
    assert found["pbc"] == [True, True, True]
    assert found["volume"] == pytest.approx(5.64**3 / 4, rel=1e-6)
    assert found["cell_angles"] == pytest.approx([60.0] * 3, rel=1e-6)
    distances = found["shortest_distances"]
    assert distances["Cl-Na"] == pytest.approx(2.82, rel=1e-6)
    assert distances["Na-Na"] == pytest.approx(5.64 / np.sqrt(2), rel=1e-6)
    assert found["space_group"]["number"] == 225
    status, out, _ = command("show", "salt.cif")
    assert status == 0
    for words in ("Fm-3m (number 225", "Cl-Na  2.82 Ang", "volume", "Ang^3", "degree"):
        assert words in out


def test_a_slab_and_a_plane_are_shown_with_boundaries_and_constraints(command):
    slab = ase.build.fcc111("Cu", (1, 1, 3), 3.6, vacuum=8.0)
    slab.info.clear()
    slab.set_constraint(FixAtoms([0]))
    ase.io.write("slab.extxyz", slab)
    _, out, _ = command("show", "slab.extxyz", "--json")
    found = json.loads(out)
    assert found["pbc"] == [True, True, False]
    assert found["space_group"] is None
    assert found["constraints"] == ["FixAtoms of 1 atoms", "1 of 3 atoms fixed altogether"]
    plane = ase.Atoms("Ar2", [(0, 0, 0), (1.0, 0.5, 0)], cell=[4, 4, 1], pbc=(1, 1, 0))
    ase.io.write("plane.extxyz", plane)
    _, out, _ = command("show", "plane.extxyz", "--dimension", "2", "--units", "reduced")
    for words in ("dimension       2", "area", "16 reduced"):
        assert words in out
    status, _, errors = command("show", "nowhere.cif")
    assert (status, errors.count("\n")) == (2, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, trimer_files):
    """Two runs of a trimer, the second with a well twice as deep."""
    folder = tmp_path_factory.mktemp("runs")
    for name, text in trimer_files.items():
        (folder / name).write_text(text)
    for name, settings in (("one", []), ("two", ["potential.epsilon=0.0208"])):
        run_study(load_study(folder, settings), folder / name, report=False)
    return folder


def test_two_runs_side_by_side(runs, command):
    status, out, _ = command("compare", runs / "one", runs / "two", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["settings"] == {"potential.epsilon": [0.0104, 0.0208]}
    by_name = {(one["observable"], one["parameter"]): one for one in found["numbers"]}
    # Three pairs at the bottom of their wells; the smooth cutoff is far away.
    energy = by_name["energy", ""]
    assert energy["differences"] == pytest.approx([-3 * 0.0104], rel=1e-8)
    assert energy["units"] == "eV"
    assert energy["difference_errors"][0] == pytest.approx(sum(energy["errors"]))
    distance = by_name["distance(0,1)", "sigma"]
    assert distance["values"] == pytest.approx([2 ** (1 / 6)] * 2, rel=1e-8)
    assert found["not_comparable"] == []
    _, out, _ = command("compare", runs / "one", runs / "two")
    line = next(line.split() for line in out.splitlines() if line.startswith("energy "))
    assert line[1] == "-0.0312"
    assert line[5] == "-0.0312"
    assert line[-1] == "eV"
    # Below its error a difference is none.
    line = next(line.split() for line in out.splitlines() if line.startswith("distance(0,1) "))
    assert line[5] == "0"


def test_what_cannot_be_compared_is_said(runs, tmp_path, command):
    shutil.copytree(runs / "two", tmp_path / "other")
    path = tmp_path / "other" / "results.json"
    text = path.read_text().replace("distance(0,1)", "distance(1,2)")
    path.write_text(text.replace('"kind": "minimum"', '"kind": "saddle"'))
    status, out, _ = command("compare", runs / "one", "other")
    assert status == 0
    said = " ".join(out.split())
    assert "not comparable: other is saddle" in said
    assert "distance(1,2): not in" in said
    for arguments in ([runs / "one"], [runs / "one", tmp_path]):
        status, _, errors = command("compare", *arguments)
        assert (status, errors.count("\n")) == (2, 1)


def test_scripts_get_json_and_pipes_no_colours(trimer, command):
    status, out, errors = command("run", "trimer", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["folder"] == "results/trimer"
    assert found["observables"]["energy"]["units"] == "eV"
    assert found["sensitivities"]["energy"]["epsilon"] == pytest.approx(-3.0, rel=1e-8)
    # What goes on is said elsewhere, in whole lines.
    assert errors.splitlines() == ["reading the study", "running trimer"]
    status, out, errors = command("run", "trimer")
    for sign in "\x1b\r\b":
        assert sign not in out
        assert sign not in errors
    _, out, _ = command("plan", "trimer", "--json")
    assert json.loads(out)["runs"] == 1
    _, out, errors = command("run", "trimer", "--resume", "--json")
    assert json.loads(out)["kind"] == "minimum"


def test_the_cache_tells_scripts_its_size(command, monkeypatch, tmp_path):
    monkeypatch.setenv("MDSENS_CACHE", str(tmp_path / "kept"))
    status, out, _ = command("cache", "--json")
    assert status == 0
    assert json.loads(out)["bytes"] == 0


MAIN = "from mdsens.cli import main; main()"


def test_a_shell_completes_commands_and_options(tmp_path):
    """By the protocol of typer: what bash asks, and what it is told."""

    def said(words, place, *arguments):
        asked = {"_MDSENS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
        code = f"import sys; sys.argv[0] = 'mdsens'; {MAIN}"
        environment = os.environ | (asked if words else {}) | {
            "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        return done.stdout.split()

    assert said("mdsens ver", "1") == ["verify"]
    assert "--json" in said("mdsens compare --", "2")
    said("", "", "--install-completion", "bash")
    assert "mdsens" in (tmp_path / ".bash_completions" / "mdsens.sh").read_text()
