"""Tables, JSON and a figure from the results."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Ratio
from benchmarks.systems import FMAX


def number(row: dict, key: str, form: str) -> str:
    """One cell: a number, or a dash where there is none."""
    return format(row[key], form) if row.get(key) is not None else "–"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        words = index < 2 or column in ("setup", "remark", "goal", "met")
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    return table


def evaluations_table(results: list[dict]) -> Table:
    """Times and memory of single evaluations."""
    table = _table(
        "Evaluations: median time per atom; memory: peak of the process so far",
        "system", "program", "energy\n+ forces\nµs/atom", "forces\nonly\nµs/atom",
        "Hessian\n× vector\nµs/atom", "compile\nforces\ns", "compile\nproduct\ns",
        "memory\nforces\nMiB", "memory\nproduct\nMiB", "setup",
    )  # fmt: skip
    for result in results:
        for row in result["rows"]:
            if row["task"] != "evaluate":
                continue
            table.add_row(
                result["case"], row["label"], number(row, "force_us", ".3f"),
                number(row, "force_only_us", ".3f"), number(row, "hvp_us", ".3f"),
                number(row, "force_compile_s", ".2f"), number(row, "hvp_compile_s", ".2f"),
                number(row, "force_memory_mib", ".0f"), number(row, "hvp_memory_mib", ".0f"),
                row["setup"] if row["status"] == "ok" else row["status"],
            )  # fmt: skip
        table.add_section()
    return table


def relaxations_table(results: list[dict]) -> Table:
    """Times and memory of relaxations, and what they reached."""
    table = _table(
        f"Relaxations to a largest force of {FMAX:g} eV/Å; force and energy reached as mdsens "
        "measures them at the final positions",
        "system", "program", "largest\nforce\neV/Å", "energy\neV/atom", "force\nevaluations",
        "time\ns", "compile\ns", "memory\nMiB", "setup", "remark",
    )  # fmt: skip
    for result in results:
        for row in result["rows"]:
            if row["task"] != "relax":
                continue
            ok = row["status"] == "ok"
            table.add_row(
                result["case"], row["label"], number(row, "largest_force", ".1e"),
                number(row, "energy_per_atom", ".10f"), number(row, "evaluations", "d"),
                number(row, "wall_s", ".3f"), number(row, "compile_s", ".2f"),
                number(row, "memory_mib", ".0f"), row.get("setup", "–"),
                row["note"] if ok else row["status"],
            )  # fmt: skip
        table.add_section()
    return table


def ratios_table(ratios: list[Ratio]) -> Table:
    """Ratios of times without compilation, with the goals beside them."""
    table = _table(
        "Ratios of times, without compilation (LAMMPS: its best)",
        "system", "quantity", "ratio of", "ratio", "goal", "met",
    )  # fmt: skip
    previous = ratios[0].case if ratios else ""
    for ratio in ratios:
        if ratio.case != previous:
            table.add_section()
            previous = ratio.case
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}[ratio.met]
        table.add_row(
            ratio.case, ratio.quantity, ratio.programs,
            ratio.reason if ratio.value is None else f"{ratio.value:.2f}", ratio.goal or "–", met,
        )  # fmt: skip
    return table


def print_report(console: Console, results: list[dict], ratios: list[Ratio]) -> None:
    """Print the three tables and what they leave unsaid."""
    console.print(evaluations_table(results))
    console.print(
        'LAMMPS: one thread; the "Pair" time of its log, atoms at rest, the energy summed at every '
        "step as the other programs do (and without, for comparison); the best of skins 1 and 2 Å "
        "and of the plain, opt and omp styles. Its pair style has no Hessian-vector product. "
        "No program rebuilds its neighbour list here. A dash: there is none.\n"
    )
    console.print(relaxations_table(results))
    console.print("Time: the whole relaxation with all neighbour lists, from compiled code.\n")
    console.print(ratios_table(ratios))


def save(folder: Path, about: dict[str, Any], results: list[dict], ratios: list[Ratio]) -> None:
    """Write benchmarks.json and benchmarks.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "about": about,
        "results": results,
        "ratios": [dataclasses.asdict(ratio) for ratio in ratios],
    }
    (folder / "benchmarks.json").write_text(json.dumps(content, indent=2) + "\n")
    draw(folder / "benchmarks.png", results)


def draw(path: Path, results: list[dict]) -> None:
    """Bars of all times, one row of axes per case."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    colors = {"mdsens": "tab:blue", "lammps": "tab:gray", "jax-md": "tab:orange"}
    panels = (
        ("evaluate", "force_us", "energy and forces, µs/atom"),
        ("evaluate", "hvp_us", "Hessian-vector product, µs/atom"),
        ("relax", "wall_s", "relaxation, s"),
    )
    figure = Figure(figsize=(14, 2.6 * len(results)), layout="constrained")
    grid = figure.subplots(len(results), len(panels), squeeze=False)
    for axes_row, result in zip(grid, results, strict=True):
        for axes, (task, key, title) in zip(axes_row, panels, strict=True):
            rows = [row for row in result["rows"] if row["task"] == task and row.get(key)]
            bars = axes.barh(
                [row["label"] for row in rows],
                [row[key] for row in rows],
                color=[colors[row["program"]] for row in rows],
            )
            axes.bar_label(bars, fmt="%.3g", padding=3)
            axes.set(xlabel=title, title=result["case"])
            axes.margins(x=0.15)
            axes.invert_yaxis()
    figure.savefig(path, dpi=150)
