"""What was measured as Markdown: a table of each problem, and the page of all."""

import datetime
import importlib.metadata
import math
import os
import platform

from benchmarks.layers.measure import KINDS, LARGEST_ERROR, ratio
from benchmarks.layers.problems import PROBLEMS
from benchmarks.layers.reasons import REASONS

PACKAGES = (
    "mdsens", "jax", "jaxopt", "optimistix", "lineax", "cvxpylayers", "diffcp", "qpax", "diffqcp",
    "scipy", "scikit-learn",
)  # fmt: skip

_INTRODUCTION = f"""# Layers beside other programs

Written by `python -m benchmarks.layers --out results.json --page docs/layers_beside_others.md`, or
part by part with `--part 60 --resume`; the packages come with `pip install -e '.[bench]'`. Every
problem has a solution x(theta) and a loss of x; a gradient's time is that of the solution, the loss
and the loss's gradient in theta. Errors are relative, against a closed form in NumPy, SciPy or
scikit-learn. Times are medians in milliseconds, without compilation: wall time, and in brackets
processor time of all threads. The programs take turns within one process; what takes longer than
two seconds is called once, and what has not ended after ten is given up: its line says so. The last
two columns are processor times in units of the first line, and empty where a solution or a gradient
is off by more than {LARGEST_ERROR:g}: that is not the same work. "tight": with tolerances that
reach this where those that come with the program do not. Layers of cvxpylayers cannot be compiled
by JAX but with a solver that is not free, and run as they are. Below a millisecond wall times are
the better ones: clocks of processor time tick coarsely. Where another program is ahead, the lines
below the table say why.
"""


def heading() -> str:
    """Date, kind of machine and versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    python = f"Python {platform.python_version()}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{today}, {machine}, {python}: {', '.join(versions)}."


def _milliseconds(row: dict, kind: str) -> str:
    if f"{kind}_over_s" in row:
        return f"> {row[f'{kind}_over_s']:g} s"
    if f"{kind}_wall_s" not in row:
        return "–"
    return f"{1e3 * row[f'{kind}_wall_s']:.3g} ({1e3 * row[f'{kind}_processor_s']:.3g})"


def _error(row: dict, kind: str) -> str:
    return f"{row[f'{kind}_error']:.0e}" if f"{kind}_error" in row else "–"


def _times(row: dict, own: dict, kind: str) -> str:
    value = ratio(row, own, kind)
    return "" if value is None else f"{value:.2g}"


def markdown(problem: str, result: dict) -> str:
    """The table of one problem, and why others are ahead where they are."""
    lines = [
        f"## {result['name'][0].upper()}{result['name'][1:]}\n",
        "| program | solution, ms | its error | gradient, ms | its error | buffers, MiB "
        "| solution / mdsens | gradient / mdsens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    own = result["rows"][0]
    behind = []
    for row in result["rows"]:
        label = f"{row['program']} {row['variant']}".strip()
        if row["status"] != "ok":
            lines.append(f"| {label} | {row['status']} | | | | | | |")
            continue
        memory = row["gradient_mib"]
        size = "–" if math.isnan(memory) else f"{memory:.2g}"
        lines.append(
            f"| {label} | {_milliseconds(row, 'solution')} | {_error(row, 'solution')} "
            f"| {_milliseconds(row, 'gradient')} | {_error(row, 'gradient')} | {size} "
            f"| {_times(row, own, 'solution')} | {_times(row, own, 'gradient')} |"
        )
        # By both clocks: either alone differs by more for one and the same program.
        ahead = any(
            max(ratio(row, own, kind, clock) or 1.0 for clock in ("wall", "processor")) < 0.95
            for kind in KINDS
        )
        if ahead and row["program"] != own["program"]:
            behind.append(row["program"])
    for program in dict.fromkeys(behind):
        reason = REASONS.get((problem, program), "not explained yet.")
        lines.append(f"\n{program} is ahead: {reason}")
    return "\n".join(lines) + "\n"


def of_file(results: dict) -> str:
    """The page of all problems."""
    headings = dict.fromkeys(result["heading"] for result in results.values())
    tables = [markdown(name, result) for name, result in results.items()]
    missing = [name for name in PROBLEMS if name not in results]
    if missing:
        tables.append(f"Not measured here: {', '.join(missing)}.\n")
    return "\n".join([_INTRODUCTION, *(f"{line}\n" for line in headings), *tables])
