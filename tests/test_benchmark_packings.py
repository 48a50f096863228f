"""Packings in the benchmark: what is compared from which start, and the page that sums up."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import packings, summary
from benchmarks.__main__ import command, machine, numbers
from benchmarks.compare import judged
from benchmarks.jobs import Runner
from benchmarks.report import save
from benchmarks.setting import Setting
from benchmarks.systems import Case


def relaxed(program, label, group, seconds, energy):
    return {
        "program": program, "label": label, "group": group, "status": "ok", "case": "discs",
        "quantity": "relaxation to 1e-10", "processor_s": seconds, "wall_s": 7.0, "atoms": 100,
        "energy_per_atom": energy, "largest_force": 5e-11, "fmax": 1e-10, "potential": "discs",
        "us_per_atom": 3.0,
    }  # fmt: skip


def both(mine, other, energy=1.0):
    return [
        relaxed("mdsens", "mdsens auto", "mdsens, one core", mine, energy),
        relaxed("lammps", "LAMMPS fire, one core", "LAMMPS, one core", other, 1.0),
    ]


def test_from_random_places_every_program_has_a_minimum_of_its_own():
    (ratio,) = packings.start_goals(both(1.0, 2.5, energy=1.01), same_minimum=False)
    assert (ratio.value, ratio.met) == (2.5, True)
    (ratio,) = packings.start_goals(both(1.0, 2.5, energy=1.01), same_minimum=True)
    assert (ratio.value, ratio.reason) == (None, "other minimum")
    (ratio,) = packings.start_goals(both(2.0, 2.5), same_minimum=True)
    assert (ratio.value, ratio.met) == (1.25, False)


def test_starts_count_by_their_median_and_energies_are_compared():
    every = [both(1.0, 1.0, energy=1.02), both(1.0, 3.0, energy=1.04), both(1.0, 2.0, energy=0.99)]
    time, energy = packings.median_goals(every, "discs")
    assert (time.value, time.met) == (2.0, True)
    assert energy.value == pytest.approx(0.02)


def test_starts_of_other_seeds_are_other_starts_and_are_the_same_for_all():
    first, again, other = (Case("discs", 50, seed=seed).positions() for seed in (1, 1, 2))
    assert (first == again).all()
    assert np.abs(first - other).max() > 1.0


def test_slabs_have_room_above_them_and_voids_lack_a_ball():
    slab, void, whole = Case("lj", 3, shape="slab"), Case("lj", 5, shape="void"), Case("lj", 5)
    assert slab.lengths == pytest.approx((slab.box, slab.box, 1.5 * slab.box))
    assert slab.positions().shape == (slab.atom_count, 3) == (108, 3)
    assert len(void.positions()) == void.atom_count < whole.atom_count
    centre = np.linalg.norm(void.sites() - void.box / 2, axis=1)
    assert centre.min() > void.box / 10
    assert (np.linalg.norm(whole.sites() - whole.box / 2, axis=1) > void.box / 10).sum() == len(
        centre
    )


def test_sizes_and_starts_may_be_chosen(tmp_path):
    runner = Runner({}, 1.0, tmp_path, print)
    setting = Setting(runner, ("discs",), ("mdsens",), False, False, numbers("8192, 7"), (3,), True)
    assert setting.sizes("discs", smallest=1) == (8192,)
    assert setting.from_a_thousand("lj") == (7,)
    assert not setting.two_cores


def test_the_page_holds_what_runs_measured_and_the_median_of_each(tmp_path):
    for name, seconds in (("a", 2.0), ("b", 1.0)):
        rows = [row | {"case": "discs, start 4"} for row in both(seconds, 3.0)]
        rows += [row | {"case": f"discs, start {name}"} for row in both(2.0, 3.0 * seconds)]
        about = {
            "date": f"2026-01-0{seconds:.0f}", "machine": machine(),
            "command": command(["--only", "packing", "--out", "/somewhere/else"]),
            "versions": dict.fromkeys(("python", "mdsens", "jax", "numpy", "lammps"), "1"),
        }  # fmt: skip
        found = {"rows": rows, "ratios": packings.start_goals(rows, same_minimum=True)}
        save(tmp_path / name, about, [], [], {"packing": found})
    runs = summary.read([tmp_path / "a", tmp_path / "b"])
    page = summary.page(runs, "figure.png")
    words = "relaxation to 1e-10 | LAMMPS fire, one core / mdsens auto"
    # Measured twice; what took one second met the goal, and so does the median.
    assert f"| discs, start 4 | {words}, median of 2 runs: 1.5 to 3 | 2.25 | ≥ 2 | yes |" in page
    # Of the starts 4, a and b: 3, 3 and 1.5.
    assert f"| discs | {words}, median of 3 starts | 3 |" in page
    assert page.count("median of") == 2
    assert page.count("--only packing") == 1
    assert "2026-01-02" in page
    assert "2026-01-01" in page
    assert "/somewhere" not in page
    rows = summary.rows_of(runs, "packing")
    assert [row["processor_s"] for row in rows] == [1.0, 3.0, 2.0, 6.0, 2.0, 3.0]
    first = summary.chosen(rows)[0]
    assert first["us_per_atom"] == pytest.approx(1.0 / 100 * 1e6)
    assert json.dumps(rows)


def test_a_ratio_that_one_of_several_runs_has_not_got_is_not_hidden():
    known = dataclasses.asdict(judged("discs", "time", "a / b", 3.0, "≤ 4"))
    unknown = dataclasses.asdict(judged("discs", "time", "a / b", None, "≤ 4", "gave up"))
    runs = [{"sections": {"packing": {"ratios": [one]}}} for one in (known, unknown)]
    assert summary.ratios_of(runs, "packing") == [unknown]
    assert summary.ratios_of(runs[::-1], "packing") == [unknown]
