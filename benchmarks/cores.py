"""The command `python -m benchmarks.cores`: relaxations on one core beside all cores.

Processes with one core and with all of them take turns, so that what else the machine does meets
both; each compiles first, and then relaxes a few times.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.jobs import request_for, run_worker
from benchmarks.systems import Case

#: Rounds of processes, and relaxations in each besides the one that compiles.
ROUNDS, REPEATS = 3, 3
#: Cubic cells along an edge of argon and of silicon: 16 thousand and 14 thousand atoms.
CELLS = {"lj": 16, "sw": 12}


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


def main(
    rounds: Annotated[int, typer.Option(help="Processes of each kind, of which medians.")] = ROUNDS,
    cells: Annotated[int, typer.Option(help="Cubic cells along an edge; 0: as documented.")] = 0,
) -> None:
    """Relax a vacancy in argon and in silicon on one core and on all, and print both."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not cores or cores < 2:
        raise typer.BadParameter("there is one core alone: give the process more")
    table = Table("case", "fmax, eV/Å", "one core, s", f"{cores} cores, s", "gain",
                  "processor time, s", "memory, MiB")  # fmt: skip
    for potential, edge in CELLS.items():
        case = Case(potential, cells or edge, vacancy=True)
        for fmax in (1e-6, 1e-10):
            row = beside(case, cores, fmax, rounds)
            one, all_of_them = row["wall_s_1"], row[f"wall_s_{cores}"]
            table.add_row(
                case.name, f"{fmax:g}", f"{one:.3f}", f"{all_of_them:.3f}",
                f"{one / all_of_them:.2f}",
                f"{row['processor_s_1']:.3f}, {row[f'processor_s_{cores}']:.3f}",
                f"{row['memory_mib_1']:.0f}, {row[f'memory_mib_{cores}']:.0f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
