"""The measurements with LAMMPS, on one thread."""

import itertools
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lammps_library import open_lammps
from benchmarks.systems import ARGON, FMAX, MAX_STEPS, SILICON, Case
from benchmarks.timing import peak_memory, seconds_of

SKINS = (1.0, 2.0)
SUFFIXES = {"lj": ("", "opt", "omp"), "sw": ("", "omp")}
#: Time step of FIRE in ps; it grows up to tenfold. The best of a scan from 1 to 8 fs.
TIME_STEPS = {"lj": 0.006, "sw": 0.003}
#: Runs whose median is taken.
RUNS = 7


def evaluate(case: Case, options: dict) -> dict:
    """Time the pair style: the "Pair" time of the log's breakdown, atoms at rest.

    Once with the energy summed at every step, as the other programs do, and once without.
    """
    results = []
    for skin, suffix in itertools.product(SKINS, SUFFIXES[case.potential]):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.lammps"
            with open_lammps(str(log), suffix) as lmp:
                _set_up(lmp, case, skin, folder, "shifted")
                lmp.command("thermo_style custom step pe")
                lmp.command("run 2")
                trial, _ = seconds_of(lambda lmp=lmp: lmp.command("run 10"))
                steps = max(5, int(options["seconds"] / (2 * RUNS * 0.1 * trial)))
                energy = lmp.get_thermo("pe") / case.atom_count
                largest = _largest_force(lmp)
                for every in (1, steps):
                    lmp.command("thermo_style custom step pe")
                    lmp.command(f"thermo {every}")
                    for _ in range(RUNS):
                        lmp.command(f"run {steps}")
            text = log.read_text()
            # Two runs have only warmed up.
            pair = _pair_times(text)[2:]
        to_us = 1e6 / (steps * case.atom_count)
        results.append(
            {
                "setup": f"{_style(text)}, skin {skin} Å",
                "energy_per_atom": energy,
                "largest_force": largest,
                "force_us": to_us * statistics.median(pair[:RUNS]),
                "force_only_us": to_us * statistics.median(pair[RUNS:]),
                "force_compile_s": 0.0,
                "force_repeats": RUNS * steps,
            }
        )
    best = min(results, key=lambda result: result["force_us"])
    return best | {"force_memory_mib": peak_memory(), "variants": results}


def relax(case: Case, options: dict) -> dict:
    """Relax with each skin and variant; the fastest that came down to the tolerance counts."""
    results = []
    for skin, suffix in itertools.product(SKINS, SUFFIXES[case.potential]):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.lammps"
            with open_lammps(str(log), suffix) as lmp:
                _set_up(lmp, case, skin, folder, "force-shifted")
                lmp.command(f"timestep {TIME_STEPS[case.potential]}")
                lmp.command("thermo_style custom step pe")
                lmp.command("thermo 1000000")
                lmp.command(f"min_style {options['method']}")
                lmp.command("min_modify norm max")
                lmp.command(f"minimize 0.0 {FMAX} {MAX_STEPS} {10 * MAX_STEPS}")
                largest = _largest_force(lmp)
                positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
            text = log.read_text()
        results.append(
            {
                "setup": f"{_style(text)}, skin {skin} Å",
                "note": re.search(r"Stopping criterion = (.*)", text)[1],
                "largest_force": largest,
                "evaluations": int(re.search(r"force evaluations = \d+ (\d+)", text)[1]),
                "wall_s": float(re.search(r"Loop time of (\S+)", text)[1]),
                "compile_s": 0.0,
                "positions": positions,
            }
        )
    # The last digits of the force differ from program to program.
    best = min(
        results, key=lambda result: (result["largest_force"] > 1.01 * FMAX, result["wall_s"])
    )
    np.save(options["positions_file"], best["positions"])
    for result in results:
        del result["positions"]
    return best | {"memory_mib": peak_memory(), "variants": results}


def _set_up(lmp: Any, case: Case, skin: float, folder: str, truncation: str) -> None:
    """Create the atoms and the potential."""
    mass = 39.948 if case.potential == "lj" else 28.0855
    lmp.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map array",
            "boundary p p p",
            f"region box block 0 {case.box!r} 0 {case.box!r} 0 {case.box!r}",
            "create_box 1 box",
            f"mass 1 {mass}",
        ]
    )
    count = case.atom_count
    lmp.create_atoms(count, list(range(1, count + 1)), [1] * count, case.positions().reshape(-1))
    if lmp.get_natoms() != count:
        raise RuntimeError(f"LAMMPS took {lmp.get_natoms()} of {count} atoms")
    if case.potential == "lj":
        style = "lj/cut" if truncation == "shifted" else "lj/smooth/linear"
        lmp.command(f"pair_style {style} {ARGON['cutoff']!r}")
        lmp.command(f"pair_coeff * * {ARGON['epsilon']!r} {ARGON['sigma']!r}")
        if truncation == "shifted":
            lmp.command("pair_modify shift yes")
    else:
        path = Path(folder) / "Si.sw"
        path.write_text("Si Si Si " + " ".join(repr(value) for value in SILICON.values()) + " 0.0")
        lmp.command("pair_style sw")
        lmp.command(f"pair_coeff * * {path} Si")
    lmp.command(f"neighbor {skin} bin")
    lmp.command("neigh_modify every 1 delay 0 check yes")


def _largest_force(lmp: Any) -> float:
    """Largest norm of a force on an atom, eV/Angstrom."""
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    return float(np.linalg.norm(forces, axis=1).max())


def _pair_times(log: str) -> list[float]:
    """Seconds in the pair style, for each run in a log."""
    return [float(time) for time in re.findall(r"^Pair\s*\|[^|]*\|\s*(\S+)", log, re.MULTILINE)]


def _style(log: str) -> str:
    """The pair style that ran, accelerated or not."""
    return re.search(r"\) pair (\S+), perpetual", log)[1]
