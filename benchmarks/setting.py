"""What is asked of the benchmark's sections, and what they give."""

import dataclasses

from benchmarks.compare import Ratio, evaluation_refusal
from benchmarks.jobs import Runner
from benchmarks.systems import Case

#: Rows and what follows from them, case by case.
Part = tuple[list[dict], list[Ratio]]
#: Cubic cells along an edge, or numbers of discs: from 2 thousand on, and a million.
SIZES = {"lj": (8, 16, 32), "sw": (6, 12, 24), "discs": (2048, 8192, 65_536)}
QUICK_SIZES = {"lj": (4, 5), "sw": (3, 4), "discs": (128, 256)}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is asked for.

    Arguments:
        runner: runs the measurements.
        materials: names of potentials: ``"lj"``, ``"sw"``, ``"discs"``.
        programs: names of programs.
        quick: whether small sizes are enough.
        million: whether to run a million atoms too.
    """

    runner: Runner
    materials: tuple[str, ...]
    programs: tuple[str, ...]
    quick: bool
    million: bool

    def sizes(self, potential: str, smallest: int = 0) -> tuple[int, ...]:
        """The sizes of one potential."""
        if self.quick:
            return QUICK_SIZES[potential][smallest and 1 :]
        return SIZES[potential][smallest:]

    def crystals(self) -> list[str]:
        """The crystals among the materials."""
        return [name for name in ("lj", "sw") if name in self.materials]


def evaluations(setting: Setting, case: Case, limit: float | None = None) -> tuple[list[dict], str]:
    """Energy and forces of one structure by mdsens and LAMMPS, each on one core.

    Arguments:
        setting: what is asked for.
        case: the atoms.
        limit: seconds after which a measurement is given up.

    Returns:
        A row of each program that is asked for; why they may not be compared, or nothing.
    """
    rows = []
    for program, label in (("mdsens", "mdsens"), ("lammps", "LAMMPS, one core")):
        if program not in setting.programs:
            continue
        row = setting.runner.run(
            program, case, "evaluate", label, limit=limit, products=False, cores=1
        )
        row |= {"quantity": "energy and forces"}
        if row["status"] == "ok":
            row |= {
                "us_per_atom": row["force_us"],
                "wall_s": 1e-6 * row["force_us"] * case.atom_count,
                "compile_s": row["force_compile_s"],
                "memory_mib": row["force_memory_mib"],
                "evaluations": row["force_repeats"],
            }
        rows.append(row)
    return rows, evaluation_refusal(*rows, "force_us") if len(rows) == 2 else ""
