"""The benchmark of one core beside all of them: who takes turns, and what it prints."""

import pytest

from benchmarks import cores
from benchmarks.systems import Case


def test_processes_with_one_core_and_with_all_take_turns_and_medians_are_told(monkeypatch):
    walls, turns = iter([4.0, 2.0, 5.0, 1.0, 9.0, 3.0]), []

    def measured(case, count, fmax):
        turns.append(count)
        return {"wall_s": next(walls), "processor_s": 10.0 * count, "memory_mib": 100.0}

    monkeypatch.setattr(cores, "measured", measured)
    found = cores.beside(Case("lj", 2, vacancy=True), 2, 1e-6, rounds=3)
    assert turns == [1, 2, 1, 2, 1, 2]
    assert (found["wall_s_1"], found["wall_s_2"]) == (5.0, 2.0)
    assert (found["processor_s_1"], found["processor_s_2"]) == (10.0, 20.0)


@pytest.mark.slow
def test_a_relaxation_is_timed_in_a_process_of_its_own():
    found = cores.measured(Case("lj", 1, vacancy=True), 1, 1e-2)
    assert 0.0 < found["processor_s"] <= 1.1 * found["wall_s"] + 0.05


def test_a_process_that_fails_is_no_time(monkeypatch):
    monkeypatch.setattr(cores, "run_worker", lambda request: {"status": "failed: no memory"})
    with pytest.raises(RuntimeError, match="31 atoms on 2 cores: failed: no memory"):
        cores.measured(Case("lj", 2, vacancy=True), 2, 1e-2)


@pytest.mark.parametrize(
    ("energies", "forces", "expected"),
    [
        ((-1.0, -1.0, -1.0), (1e-7, 1e-7, 1e-7), "2.000 (cg)"),
        ((-1.0, -1.0, -1.0 - 1e-6), (1e-7, 1e-7, 1e-7), "3.000 (fire)"),
        (
            (-1.0, -1.0 - 1e-6, -1.0),
            (1e-7, 1e-7, 1e-3),
            "fire: another minimum; cg: ended at 1e-03",
        ),
    ],
)
def test_lammps_counts_where_it_comes_to_the_same_minimum(energies, forces, expected, monkeypatch):
    walls = iter([1.0, 3.0, 2.0])
    measured = {
        str(i): {"energy_per_atom": e, "largest_force": f}
        for i, (e, f) in enumerate(zip(energies, forces, strict=True))
    }

    def run_worker(request):
        return {"status": "ok", "wall_s": next(walls)}

    def measure(case, rows, files, *limits):
        for index in files:
            rows[int(index)].update(measured[index])

    monkeypatch.setattr(cores, "run_worker", run_worker)
    monkeypatch.setattr(cores, "measure_minima", measure)
    assert cores.beside_lammps(Case("lj", 2, vacancy=True), 2, 1e-6) == expected
