"""Tables, JSON and a figure from the results."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.compare import TOLERANCE_SLACK, Ratio
from benchmarks.systems import FMAX


def number(row: dict, key: str, form: str) -> str:
    """One cell: a number, or a dash where there is none."""
    return format(row[key], form) if row.get(key) is not None else "–"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        words = index < 2 or column in ("what", "ratio of", "setup", "remark", "goal", "met")
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


#: Columns of a section's table: heading, key, format. Those without a number are left out.
COLUMNS = (
    ("largest\nforce", "largest_force", ".1e"),
    ("energy\nper atom", "energy_per_atom", ".10f"),
    ("force\nevaluations", "evaluations", "d"),
    ("linear\niterations", "linear_iterations", "d"),
    ("most of\na solve", "most_iterations", "d"),
    ("relative\nerror", "error", ".1e"),
    ("time\ns", "wall_s", ".4g"),
    ("of a\nprocessor\ns", "processor_s", ".4g"),
    ("time\nµs/atom", "us_per_atom", ".3g"),
    ("compile\ns", "compile_s", ".2f"),
    ("programs\ncompiled", "programs", "d"),
    ("longest\ncompile\ns", "longest_compile_s", ".2f"),
    ("memory\nMiB", "memory_mib", ".0f"),
)


def section_table(title: str, rows: list[dict]) -> Table:
    """What was measured in a section, and what was reached."""
    columns = [column for column in COLUMNS if any(row.get(column[1]) is not None for row in rows)]
    headings = [heading for heading, _, _ in columns]
    table = _table(title, "system", "program", "what", *headings, "remark")
    previous = rows[0]["case"] if rows else ""
    for row in rows:
        if row["case"] != previous:
            table.add_section()
            previous = row["case"]
        remarks = [row.get("setup", ""), row.get("note", "")]
        if row["status"] != "ok":
            remarks = [row["status"]]
        elif row.get("largest_force") and not (
            row["largest_force"] <= TOLERANCE_SLACK * row.get("fmax", row["largest_force"])
        ):
            remarks.append("not converged")
        table.add_row(
            row["case"], row["label"], row.get("quantity", ""),
            *(number(row, key, form) for _, key, form in columns),
            "; ".join(escape(remark) for remark in remarks if remark),
        )  # fmt: skip
    return table


def ratios_table(
    ratios: list[Ratio], title: str = "Ratios of times, without compilation (LAMMPS: its best)"
) -> Table:
    """Ratios and other numbers with the goals beside them."""
    table = _table(
        title,
        "system", "quantity", "ratio of", "ratio", "goal", "met",
    )  # fmt: skip
    previous = ratios[0].case if ratios else ""
    for ratio in ratios:
        if ratio.case != previous:
            table.add_section()
            previous = ratio.case
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}[ratio.met]
        shown = "" if ratio.value is None else f"{ratio.value:.3g}"
        if ratio.reason:
            shown = f"{shown} ({ratio.reason})" if shown else ratio.reason
        table.add_row(
            ratio.case, ratio.quantity, ratio.programs, escape(shown), ratio.goal or "–", met
        )
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


def print_section(console: Console, title: str, rows: list[dict], ratios: list[Ratio]) -> None:
    """Print what a section has found."""
    if rows:
        console.print(section_table(title, rows))
    if ratios:
        console.print(ratios_table(ratios, "Goals"))
    console.print()


def save(
    folder: Path,
    about: dict[str, Any],
    results: list[dict],
    ratios: list[Ratio],
    sections: dict[str, dict] | None = None,
) -> list[Path]:
    """Write benchmarks.json and the figures of what there is so far into a folder.

    Arguments:
        folder: is made if there is none.
        about: versions, machine, settings.
        results: of the comparison with peers.
        ratios: likewise.
        sections: rows and ratios of every other section, by its word.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = sections or {}
    content = {
        "about": about,
        "results": results,
        "ratios": [dataclasses.asdict(ratio) for ratio in ratios],
        "sections": {
            word: {
                "rows": section["rows"],
                "ratios": [dataclasses.asdict(ratio) for ratio in section["ratios"]],
            }
            for word, section in sections.items()
        },
    }
    written = [folder / "benchmarks.json"]
    written[0].write_text(json.dumps(content, indent=2) + "\n")
    if results:
        draw(folder / "benchmarks.png", results)
        written.append(folder / "benchmarks.png")
    rows = [row for section in sections.values() for row in section["rows"]]
    if draw_sizes(folder / "time_per_atom.png", rows):
        written.append(folder / "time_per_atom.png")
    return written


#: How programs and materials look in the figure of sizes.
STYLES = {
    "mdsens auto": ("tab:blue", "-"), "mdsens lbfgs": ("tab:cyan", "--"),
    "mdsens auto, two cores": ("tab:purple", "--"),
    "mdsens": ("tab:blue", "-"), "LAMMPS, one core": ("black", ":"),
    "LAMMPS fire, one core": ("black", ":"), "LAMMPS cg, one core": ("tab:gray", ":"),
    "LAMMPS fire, two threads": ("tab:brown", "-."), "LAMMPS cg, two threads": ("tab:olive", "-."),
}  # fmt: skip
MARKERS = {"lj": "o", "sw": "s", "discs": "^"}
MATERIALS = {"lj": "LJ argon", "sw": "SW silicon", "discs": "soft discs (2D)"}
#: What the figure of sizes shows, one material beside the other.
QUANTITIES = ("energy and forces", "relaxation to 1e-06", "relaxation to 1e-10", "relaxation",
              "one sensitivity")  # fmt: skip


def draw_sizes(path: Path, rows: list[dict]) -> bool:
    """Time per atom over the number of atoms, both logarithmic; False if there is nothing to draw.

    Where a relaxation did not come down, its marker is hollow.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    lines: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        quantity = row.get("quantity")
        if row["status"] != "ok" or "us_per_atom" not in row or row["label"] not in STYLES:
            continue
        if quantity in QUANTITIES and row["potential"] in MATERIALS:
            line = lines.setdefault((quantity, row["potential"], row["label"]), {})
            line[row["atoms"]] = row
    quantities = [name for name in QUANTITIES if any(key[0] == name for key in lines)]
    materials = [name for name in MATERIALS if any(key[1] == name for key in lines)]
    if not lines:
        return False
    figure = Figure(
        figsize=(1.6 + 3.4 * len(materials), 0.8 + 2.6 * len(quantities)), layout="constrained"
    )
    grid = figure.subplots(len(quantities), len(materials), squeeze=False, sharex="col")
    handles = {}
    for axes_row, quantity in zip(grid, quantities, strict=True):
        for axes, material in zip(axes_row, materials, strict=True):
            for (of, potential, label), line in lines.items():
                if (of, potential) != (quantity, material):
                    continue
                color, style = STYLES[label]
                points = [line[atoms] for atoms in sorted(line)]
                (handles[label],) = axes.loglog(
                    [row["atoms"] for row in points], [row["us_per_atom"] for row in points],
                    color=color, linestyle=style, label=label,
                )  # fmt: skip
                for row in points:
                    fmax = row.get("fmax", math.inf)
                    down = not row.get("largest_force", 0.0) > TOLERANCE_SLACK * fmax
                    axes.loglog(
                        row["atoms"], row["us_per_atom"], MARKERS[material],
                        color=color, markerfacecolor=color if down else "white",
                    )  # fmt: skip
            axes.set_title(f"{MATERIALS[material]}\n{quantity}", fontsize="medium")
            axes.grid(alpha=0.3, which="both")
            for axis in (axes.xaxis, axes.yaxis):
                # Several labels within a decade, and none over another.
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_major_formatter(EngFormatter(sep=""))
                axis.set_minor_formatter(NullFormatter())
            if not axes.lines:
                axes.set_visible(False)
        axes_row[0].set_ylabel("time per atom, µs")
    for axes in grid[-1]:
        axes.set_xlabel("number of atoms")
    # As many columns as the width has room for.
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center",
        ncols=1 + min(2, len(materials)), fontsize="small",
    )  # fmt: skip
    figure.savefig(path, dpi=150)
    return True


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
