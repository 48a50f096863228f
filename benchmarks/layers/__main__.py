"""The command `python -m benchmarks.layers`, run from the checkout."""

import os

# JAX calls LAPACK from as many threads as there are cores; more threads in each only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.layers.limits import Apart
from benchmarks.layers.measure import PROGRAMS, rows_of
from benchmarks.layers.problems import PROBLEMS
from benchmarks.layers.tables import heading, markdown, of_file


def chosen(given: str, allowed: dict, what: str) -> list[str]:
    """The names in a list with commas."""
    names = [name.strip() for name in given.split(";" if what == "programs" else ",")]
    if unknown := [name for name in names if name not in allowed]:
        raise typer.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(allowed)}")
    return names


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, a second each.")] = False,
    only: Annotated[str, typer.Option(help="Problems, with commas.")] = ",".join(PROBLEMS),
    programs: Annotated[str, typer.Option(help="Programs, with semicolons.")] = ";".join(PROGRAMS),
    seconds: Annotated[float, typer.Option(help="For each measurement; 0: once.")] = 0.4,
    limit: Annotated[float, typer.Option(help="Seconds after which one is given up.")] = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="JSON, whose other problems and programs are kept.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip problems in --out.")] = False,
    part: Annotated[
        float, typer.Option(help="Seconds after which no other problem is begun; --resume goes on.")
    ] = float("inf"),
    page: Annotated[Path | None, typer.Option(help="Page to write from --out.")] = None,
) -> None:
    """Time mdsens and other programs on the same layers, each against a closed form."""
    begun = time.monotonic()
    names, contestants = chosen(only, PROBLEMS, "problems"), chosen(programs, PROGRAMS, "programs")
    print(heading())
    results = json.loads(out.read_text()) if out is not None and out.exists() else {}
    left = [name for name in names if not (resume and name in results)]
    with Apart(rows_of, limit) as measured:
        while left and time.monotonic() - begun < part:
            name = left.pop(0)
            title, rows = measured(name, quick, contestants, 0.0 if quick else seconds)
            kept = results.get(name, {}).get("rows", [])
            rows += [row for row in kept if row["program"] in set(PROGRAMS) - set(contestants)]
            rows.sort(key=lambda row: [*PROGRAMS, row["program"]].index(row["program"]))
            results[name] = {"name": title, "heading": heading(), "rows": rows}
            print(markdown(name, results[name]), flush=True)
            if out is not None:
                out.write_text(json.dumps(results, indent=1) + "\n")
    if left:
        print(f"left for --resume: {', '.join(left)}")
    if page is not None:
        page.write_text(of_file({name: results[name] for name in PROBLEMS if name in results}))
        print(f"wrote {page}")


if __name__ == "__main__":
    typer.run(main)
