"""What is asked of the benchmark's sections, and what they give."""

import dataclasses
import os

from benchmarks.compare import Ratio, evaluation_refusal
from benchmarks.jobs import Runner
from benchmarks.systems import Case

#: Rows and what follows from them, case by case.
Part = tuple[list[dict], list[Ratio]]
#: Cubic cells along an edge, or numbers of discs: from 2 thousand on; of a thousand atoms.
SIZES = {"lj": (8, 16, 32), "sw": (6, 12, 24), "discs": (2048, 8192, 65_536)}
THOUSAND = {"lj": 7, "sw": 5}
#: Between these, up to a million atoms, for times of forces over the number of atoms.
BETWEEN = {"lj": (12, 23, 46), "sw": (8, 17, 35)}
QUICK_SIZES = {"lj": (4, 5), "sw": (3, 4), "discs": (128, 256)}
#: Starts of packings.
STARTS, QUICK_STARTS = (0, 1, 2, 3, 4), (0, 1)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is asked for.

    Arguments:
        runner: runs the measurements.
        materials: names of potentials: ``"lj"``, ``"sw"``, ``"discs"``.
        programs: names of programs.
        quick: whether small sizes are enough.
        million: whether to run a million atoms too.
        only_sizes: the sizes to run, cubic cells along an edge or numbers of discs; empty: all.
        starts: seeds of the random places that packings begin at.
        one_core: whether to leave out what runs on two.
    """

    runner: Runner
    materials: tuple[str, ...]
    programs: tuple[str, ...]
    quick: bool
    million: bool
    only_sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = STARTS
    one_core: bool = False

    @property
    def two_cores(self) -> bool:
        """Whether there are two cores to run on, and they are wanted."""
        return not self.one_core and (os.cpu_count() or 1) > 1

    def sizes(self, potential: str, smallest: int = 0) -> tuple[int, ...]:
        """The sizes of one potential."""
        found = QUICK_SIZES[potential][smallest and 1 :]
        if not self.quick:
            found = SIZES[potential][smallest:]
        return tuple(filter(self.wants, found))

    def wants(self, size: int) -> bool:
        """Whether a size is among those to run."""
        return not self.only_sizes or size in self.only_sizes

    def from_a_thousand(self, potential: str) -> tuple[int, ...]:
        """The same, and before them one of a thousand atoms."""
        sizes = self.sizes(potential)
        small = THOUSAND.get(potential)
        if small is None or self.quick or not self.wants(small):
            return sizes
        return (small, *sizes)

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
