"""What a study will take: its runs, and after the first of them time, memory and disk."""

import dataclasses
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mdsens.errors import MdsensError
from mdsens.markup import console, for_terminal, print_numbers
from mdsens.study.study_file import read_study
from mdsens.study.sweep import Sweep, read_sweep


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study will take.

    Attributes:
        runs: number of runs; 1 without a sweep.
        mode: how the values of several keys meet; empty without a sweep.
        keys: the values of each swept key, or those of the runs.
        first: seconds that the first run took, with those beside it; None where it was not
            measured.
        each: seconds that each of the others will take, if its arrays have the same shapes.
        memory: the most that the process has held, bytes.
        disk: size of the files of a run, bytes.
        together: runs that are done side by side, the first of them.
    """

    runs: int
    mode: str
    keys: dict[str, tuple[Any, ...]]
    first: float | None = None
    each: float | None = None
    memory: int | None = None
    disk: int | None = None
    together: int = 1

    @property
    def total(self) -> float | None:
        """Seconds that all runs will take; None where the first was not measured."""
        if self.first is None or self.each is None:
            return None
        return self.first + (self.runs - self.together) * self.each


def plan_study(study: str | Path, settings: Iterable[str] = (), measure: bool = False) -> Plan:
    """What a study will take.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.
        settings: changes such as ``"relaxation.fmax=1e-6"``.
        measure: do the first run and those beside it, twice where there are others, and throw the
            results away.

    Returns:
        The Plan.

    Raises:
        InputError: a mistake in the study.
        MdsensError: measuring, the first run failed.
    """
    settings = list(settings)
    sweep = read_sweep(study, settings)
    if sweep is None:
        text, runs, mode = read_study(study, settings), 1, ""
        keys: dict[str, tuple[Any, ...]] = {}
    else:
        text, runs, mode = sweep.text_of(0), sweep.count, sweep.options.mode
        keys = {key.key: key.values for key in sweep.keys}
    if not measure:
        return Plan(runs, mode, keys)
    from mdsens.study.run import run_study
    from mdsens.study.study import study_of

    took, together = [], 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # The second time there is nothing to compile.
        for number in range(min(runs, 2)):
            begun = time.perf_counter()
            if sweep is None:
                run_study(study_of(text), folder / str(number))
            else:
                together = _first_group(sweep, folder / str(number))
            took.append(time.perf_counter() - begun)
        files = [path for path in (folder / "0").rglob("*") if path.is_file()]
        disk = sum(path.stat().st_size for path in files) // together
    return Plan(runs, mode, keys, took[0], took[-1] / together, _peak_memory(), disk, together)


def _first_group(sweep: Sweep, folder: Path) -> int:
    """Do the first run of a sweep and those beside it; how many they are."""
    from mdsens.study.sweep_attempt import attempt
    from mdsens.study.sweep_batch import groups_of, size_of_batches
    from mdsens.study.sweep_workers import Task, TaskRun

    groups = groups_of(sweep)
    group = groups[0]
    runs = tuple(TaskRun(run, sweep.table_of(run), folder / str(run), {}) for run in group)
    task = Task(sweep.path.absolute(), runs, False, sweep.options.reports)
    for run, ended in attempt(dataclasses.replace(task, size=size_of_batches(groups))):
        if ended.reason or ended.fatal:
            raise MdsensError(f"run {run}: {ended.reason or ended.fatal}")
    return len(group)


def _peak_memory() -> int | None:
    """The most memory that this process has held, bytes; None where nobody counts it."""
    try:
        import resource
        import sys
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def show_plan(plan: Plan) -> None:
    """Print what a study will take.

    Arguments:
        plan: from `plan_study`.
    """
    from rich.table import Table

    to = console()
    what = f" ({plan.mode})" if plan.mode else ""
    to.print(for_terminal(f"{plan.runs} run{'s' * (plan.runs != 1)}{what}", "bold"))
    if plan.keys:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("swept key", "values", "from", "to"):
            table.add_column(title, justify="right" if title == "values" else "left")
        for key, values in plan.keys.items():
            row = (key, str(len(values)), _shown(values[0]), _shown(values[-1]))
            if plan.mode in ("random", "latin-hypercube"):
                ordered = sorted(values, key=lambda value: float(str(value).split()[0]))
                row = (key, str(len(values)), _shown(ordered[0]), _shown(ordered[-1]))
            table.add_row(*map(for_terminal, row))
        print_numbers(to, table)
    total = plan.total
    if plan.first is None or plan.each is None or total is None:
        to.print("--measure does the first run or batch, and estimates time, memory and disk")
        return
    which = "run" if plan.together == 1 else f"{plan.together} runs, side by side,"
    to.print(f"the first {which} took {_time(plan.first)}, compiling included")
    if plan.runs > 1:
        to.print(
            f"each of the others about {_time(plan.each)}, if they are alike; about {_time(total)} "
            "in all"
        )
    if plan.memory is not None:
        to.print(f"memory: {plan.memory / 1e9:.2f} GB")
    if plan.disk is not None:
        to.print(f"disk: about {plan.disk * plan.runs / 1e6:.2f} MB")


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
