"""The quick set of the benchmarks: mdsens and LAMMPS in processes of one environment."""

import lammps_library
import pytest

from benchmarks import with_mdsens
from benchmarks.jobs import request_for, run_worker
from benchmarks.systems import Case

pytestmark = pytest.mark.peer
#: Times of LAMMPS's that are allowed here, where others run beside: about five times what a quiet
#: machine shows, of forces of two thousand atoms (1.0) and of a relaxation of a thousand (2).
FORCES, RELAXATION = 5.0, 10.0


@pytest.fixture(autouse=True)
def _measured_as_users_run_it(monkeypatch):
    lammps_library.lammps_module()
    # Other tests compile in a hurry, and what they compile is slow.
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def measured(program, case, task, **options):
    row = run_worker(request_for(program, case, task, {"cores": 1, **options}), limit=240.0)
    assert row["status"] == "ok", row
    return row


def test_forces_take_no_longer_than_several_evaluations_of_lammps():
    case, options = Case("lj", 8), {"seconds": 0.2, "products": False}
    mine, other = (measured(name, case, "evaluate", **options) for name in ("mdsens", "lammps"))
    assert mine["energy_per_atom"] == pytest.approx(other["energy_per_atom"], rel=1e-10)
    assert mine["force_us"] < FORCES * other["force_us"]


def test_a_relaxation_to_the_same_minimum_takes_no_longer_than_several_of_lammps(tmp_path):
    case, fmax = Case("lj", 6, vacancy=True), 1e-8
    ways = {"mdsens": {"method": "auto"}, "lammps": {"method": "fire", "variants": [(1.0, "")]}}
    rows, files = {}, {}
    for name, way in ways.items():
        files[name] = str(tmp_path / f"{name}.npy")
        rows[name] = measured(name, case, "relax", fmax=fmax, positions_file=files[name], **way)
    mine, other = with_mdsens.check(case, {"files": files})["measured"].values()
    assert max(mine["largest_force"], other["largest_force"]) <= 1.1 * fmax
    assert mine["energy_per_atom"] == pytest.approx(other["energy_per_atom"], rel=1e-8)
    assert rows["mdsens"]["processor_s"] < RELAXATION * rows["lammps"]["processor_s"]
