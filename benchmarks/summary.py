"""The page and the figure that sum up runs: `python -m benchmarks.summary FOLDER...`."""

import dataclasses
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.compare import SAME_MINIMUM, judged
from benchmarks.packings import FMAX, median_goals
from benchmarks.report import MATERIALS
from benchmarks.sections import SECTIONS
from benchmarks.shortfalls import SHORTFALLS

#: What the figure shows.
SHOWN = ("energy and forces", "relaxation to 1e-10", "one sensitivity")
#: And in which colours.
COLORS = ("tab:green", "tab:blue", "tab:red")
#: What programs of the figure are chosen by their labels.
LINES = ("mdsens", "mdsens auto", "LAMMPS, one core", "LAMMPS fire, one core")

HEADING = """# Speed beside LAMMPS

Written by `python -m benchmarks.summary` from what `python -m benchmarks` has measured; the command
is at the end. Ratios are of times of one run on one machine, or medians of as many as a line says,
by programs compiled without hurry, as a process has them in the long run, and without the time for
that, on the same structures with the same potential in double precision. Minima are
the same to {same:g} of energy per atom, but for packings from random places. What runs on one core,
or is a part of one process, is compared by the processor's time; nothing else ran on the machine.
"mdsens" runs on one core.
"""


def read(folders: Iterable[Path]) -> list[dict]:
    """What runs have written; later ones take the place of earlier ones, case by case."""
    return [json.loads((folder / "benchmarks.json").read_text()) for folder in folders]


def rows_of(runs: list[dict], word: str) -> list[dict]:
    """Rows of one section over all runs, of each measurement the latest.

    Arguments:
        runs: what `read` returns.
        word: of the section.
    """
    found: dict[tuple, dict] = {}
    for run in runs:
        for one in run["sections"].get(word, {}).get("rows", []):
            found[tuple(map(one.get, ("case", "quantity", "label", "cache")))] = one
    return list(found.values())


def ratios_of(runs: list[dict], word: str) -> list[dict]:
    """Ratios of one section over all runs, the median of those that were measured repeatedly.

    Arguments:
        runs: what `read` returns.
        word: of the section.
    """
    found: dict[tuple, list[dict]] = {}
    for run in runs:
        for one in run["sections"].get(word, {}).get("ratios", []):
            found.setdefault(tuple(map(one.get, ("case", "quantity", "programs"))), []).append(one)
    return [_median(repeats) for repeats in found.values()]


def _median(repeats: list[dict]) -> dict:
    """One ratio for those of several runs; where one of them has none, that one."""
    values = [one["value"] for one in repeats]
    of_one = repeats[-1 if None not in values else values.index(None)]
    if len(repeats) == 1 or None in values:
        return of_one
    words = (
        f"{of_one['programs']}, median of {len(values)} runs: {min(values):.3g} to "
        f"{max(values):.3g}"
    )
    given = of_one["case"], of_one["quantity"], words, statistics.median(values), of_one["goal"]
    return dataclasses.asdict(judged(*given))


def table(ratios: list[dict]) -> str:
    """Ratios as a table in Markdown."""
    lines = ["| system | what | ratio of | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for ratio in ratios:
        value = ratio["reason"] if ratio["value"] is None else f"{ratio['value']:.3g}"
        met = {True: "yes", False: "**no**", None: ""}[ratio["met"]]
        cells = ratio["case"], ratio["quantity"], ratio["programs"], value, ratio["goal"], met
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def where(runs: list[dict]) -> str:
    """Dates, machines and versions, each once."""
    lines = {}
    for run in runs:
        about = run["about"]
        versions = ", ".join(
            f"{name} {about['versions'][name]}"
            for name in ("python", "mdsens", "jax", "numpy", "lammps")
        )
        lines[f"{about['date']}: {about['machine']}. {versions}."] = None
    return "\n\n".join(lines)


def with_medians(ratios: list[dict], rows: list[dict]) -> list[dict]:
    """Ratios of packings with medians over the starts of all pieces, in place of those of each."""
    kinds: dict[str, dict[str, list[dict]]] = {}
    for row in rows:
        name, _, start = row["case"].rpartition(", start ")
        kinds.setdefault(name, {}).setdefault(start, []).append(row)
    found = [ratio for ratio in ratios if ", start " in ratio["case"]]
    for name, starts in kinds.items():
        found += map(dataclasses.asdict, median_goals(list(starts.values()), name))
    return sorted(found, key=lambda ratio: ratio["case"].partition(", start ")[0])


def page(runs: list[dict], figure: str) -> str:
    """The page in Markdown.

    Arguments:
        runs: what `read` returns.
        figure: path of the figure from the page.
    """
    parts = [HEADING.format(same=SAME_MINIMUM), where(runs)]
    parts.append(
        f"![time per atom over the number of atoms]({figure})\n\n"
        "Time per atom on one core, in double precision, both axes logarithmic: an evaluation of "
        "energy and forces, a relaxation to a largest force of 1e-10, and one sensitivity after "
        "it, of which LAMMPS has none."
    )
    for section in SECTIONS:
        ratios = ratios_of(runs, section.word)
        if section.word == "packing":
            ratios = with_medians(ratios, rows_of(runs, section.word))
        if ratios:
            parts.append(f"## {section.title}\n\n{table(ratios)}")
            if section.word in SHORTFALLS:
                parts.append(SHORTFALLS[section.word])
    commands = "\n".join(dict.fromkeys(run["about"]["command"] for run in runs))
    parts.append(f"## Commands\n\n```console\n{commands}\n```")
    return "\n\n".join(parts) + "\n"


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders with benchmarks.json.")],
    page_file: Annotated[Path, typer.Option("--page", help="Page to write.")],
    figure: Annotated[Path, typer.Option(help="Figure to write, in or below the page's folder.")],
) -> None:
    """Write the page and the figure that sum up one run, or one that was made in pieces."""
    runs = read(folders)
    rows = [row for section in SECTIONS for row in rows_of(runs, section.word)]
    draw(figure, chosen(rows))
    page_file.write_text(page(runs, figure.relative_to(page_file.parent).as_posix()))
    print(f"wrote {page_file} and {figure}")


def chosen(rows: list[dict]) -> list[dict]:
    """The rows that the figure shows, with the time per atom on one core.

    Those of packings from random places count; where a relaxation was timed before a derivative,
    it was to the same force as the others.
    """
    found = []
    for row in rows:
        quantity = row.get("quantity")
        if quantity == "relaxation" and row.get("fmax") == FMAX:
            quantity = SHOWN[1]
        if quantity in SHOWN and row["label"] in LINES and "near a minimum" not in row["case"]:
            row = {**row, "quantity": quantity}
            if "processor_s" in row:
                row["us_per_atom"] = 1e6 * row["processor_s"] / row["atoms"]
            found.append(row)
    return [row for row in found if row["status"] == "ok"]


def draw(path: Path, rows: list[dict]) -> None:
    """Time per atom over the number of atoms, both logarithmic, a material beside the other."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    materials = [name for name in MATERIALS if any(row["potential"] == name for row in rows)]
    figure = Figure(figsize=(1.5 + 3.6 * max(len(materials), 1), 4.6), layout="constrained")
    panels = figure.subplots(1, max(len(materials), 1), squeeze=False, sharex=True, sharey=True)[0]
    handles: dict[str, Any] = {}
    for axes, material in zip(panels, materials, strict=False):
        for quantity, color in zip(SHOWN, COLORS, strict=True):
            for program, style, marker in (("mdsens", "-", "o"), ("lammps", ":", "s")):
                times: dict[int, list[float]] = {}
                for row in rows:
                    key = row["potential"], row["quantity"], row["program"] == "lammps"
                    if key == (material, quantity, program == "lammps"):
                        times.setdefault(row["atoms"], []).append(row["us_per_atom"])
                if times:
                    name = f"{quantity}, {'LAMMPS' if program == 'lammps' else 'mdsens'}"
                    (handles[name],) = axes.loglog(
                        sorted(times), [statistics.median(times[atoms]) for atoms in sorted(times)],
                        color=color, linestyle=style, marker=marker, label=name,
                        markerfacecolor=color if program == "mdsens" else "white",
                    )  # fmt: skip
        axes.set(title=MATERIALS[material], xlabel="number of atoms", xlim=(800, 1.3e6))
        axes.grid(alpha=0.3, which="both")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("time per atom, µs")
    # No wider than the panels.
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(materials),
        fontsize="small",
    )  # fmt: skip
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    typer.run(main)
