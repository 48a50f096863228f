"""The command `python -m benchmarks.cores`: relaxations on one core, on all, and by LAMMPS on all.

Processes with one core and with all of them take turns, so that what else the machine does meets
both; each compiles first, and then relaxes a few times. LAMMPS has as many threads as there are
cores (its package OPENMP), and its best minimiser counts that comes to the same minimum.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.jobs import METHODS, measure_minima, request_for, run_worker
from benchmarks.systems import Case

#: Rounds of processes, and relaxations in each besides the one that compiles.
ROUNDS, REPEATS = 3, 3
#: Cubic cells along an edge of argon and of silicon: 16 thousand and 14 thousand atoms; and of
#: argon with 131 thousand.
CELLS, LARGE_CELLS = {"lj": 16, "sw": 12}, {"lj": 32}
#: Seconds after which LAMMPS ends a minimisation, and how far energies of one minimum may differ.
LAMMPS_LIMIT, SAME_MINIMUM = 60, 1e-9
#: Seconds after which a check of minima is given up.
LIMIT = 300.0


def measured(case: Case, cores: int, fmax: float) -> dict:
    """A relaxation in a process of its own that has so many cores.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "method": "auto", "fmax": fmax, "cores": cores, "repeats": REPEATS,
            "positions_file": str(Path(folder) / "positions.npy"),
        }  # fmt: skip
        found = run_worker(request_for("mdsens", case, "relax", options))
    if found["status"] != "ok":
        raise RuntimeError(f"{case.name} on {cores} cores: {found['status']}")
    return found


def beside(case: Case, cores: int, fmax: float, rounds: int) -> dict[str, float]:
    """Medians of wall and processor time in seconds, and MiB, on one core and on all."""
    runs: dict[int, list[dict]] = {1: [], cores: []}
    for _ in range(rounds):
        for count, found in runs.items():
            found.append(measured(case, count, fmax))
    return {
        f"{name}_{count}": statistics.median(run[name] for run in found)
        for count, found in runs.items()
        for name in ("wall_s", "processor_s", "memory_mib")
    }


def beside_lammps(case: Case, cores: int, fmax: float) -> str:
    """Seconds of LAMMPS's best minimiser on so many threads, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        rows, files = [], {}
        for program, method in [("mdsens", "auto"), *(("lammps", m) for m in METHODS["lammps"])]:
            own = {"method": method, "fmax": fmax, "cores": cores}
            if program == "lammps":
                own |= {"threads": cores, "minimisation_limit": LAMMPS_LIMIT}
            own["positions_file"] = str(Path(folder) / f"{len(rows)}.npy")
            found = run_worker(request_for(program, case, "relax", own))
            if found["status"] == "ok":
                files[str(len(rows))] = own["positions_file"]
            rows.append(found | {"method": method})
        measure_minima(case, rows, files, cores, LIMIT)
    mine, *others = rows
    for row in others:
        if row["status"] == "ok" and row["largest_force"] > 1.01 * fmax:
            row["status"] = f"ended at {row['largest_force']:.0e}"
        elif row["status"] == "ok":
            apart = abs(row["energy_per_atom"] - mine["energy_per_atom"])
            if apart > SAME_MINIMUM * abs(mine["energy_per_atom"]):
                row["status"] = "another minimum"
    there = [row for row in others if row["status"] == "ok"]
    if not there:
        return "; ".join(f"{row['method']}: {row['status']}" for row in others)
    best = min(there, key=lambda row: row["wall_s"])
    return f"{best['wall_s']:.3f} ({best['method']})"


def main(
    rounds: Annotated[int, typer.Option(help="Processes of each kind, of which medians.")] = ROUNDS,
    cells: Annotated[int, typer.Option(help="Cubic cells along an edge; 0: as documented.")] = 0,
    large: Annotated[bool, typer.Option(help="Argon with 131 thousand atoms alone.")] = False,
    lammps: Annotated[bool, typer.Option(help="Whether LAMMPS runs beside it.")] = True,
) -> None:
    """Relax a vacancy in argon and in silicon on one core and on all, and print all times."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not cores or cores < 2:
        raise typer.BadParameter("there is one core alone: give the process more")
    table = Table("case", "fmax, eV/Å", "one core, s", f"{cores} cores, s", "gain",
                  f"LAMMPS, {cores} threads, s", "processor time, s", "memory, MiB")  # fmt: skip
    for potential, edge in (LARGE_CELLS if large else CELLS).items():
        case = Case(potential, cells or edge, vacancy=True)
        for fmax in (1e-6, 1e-10):
            row = beside(case, cores, fmax, rounds)
            one, all_of_them = row["wall_s_1"], row[f"wall_s_{cores}"]
            table.add_row(
                case.name, f"{fmax:g}", f"{one:.3f}", f"{all_of_them:.3f}",
                f"{one / all_of_them:.2f}",
                beside_lammps(case, cores, fmax) if lammps else "not asked for",
                f"{row['processor_s_1']:.3f}, {row[f'processor_s_{cores}']:.3f}",
                f"{row['memory_mib_1']:.0f}, {row[f'memory_mib_{cores}']:.0f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
