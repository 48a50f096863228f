"""The command `python -m benchmarks.layers`, run from the checkout."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.layers.problems import PROBLEMS

#: Each program, and the variants of it that are measured.
CONTESTANTS = (("mdsens", ""), ("JAXopt", ""), ("JAXopt", "tight"), ("optimistix", ""))
#: Seconds after which a measurement is given up.
TIME_LIMIT = 600.0
#: A gradient with a larger relative error is not compared: it is not the same work.
LARGEST_ERROR = 1e-4


def run_worker(request: dict) -> dict:
    """One measurement in a process of its own; a failure is a result with a ``status``."""
    command = [sys.executable, "-m", "benchmarks.layers.worker", json.dumps(request)]
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": f"gave up after {TIME_LIMIT:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        errors = re.findall(r"^[\w.]*(?:Error|Exception): (.+)$", done.stderr, re.MULTILINE)
        return {"status": f"failed: {errors[-1][:120] if errors else f'exit {done.returncode}'}"}
    return json.loads(lines[-1])


def verdict(row: dict, own: dict) -> str:
    """How much longer a program's gradient takes than ours, where both are right."""
    if row["status"] != "ok" or own["status"] != "ok" or row is own:
        return "–"
    if row["gradient_error"] > LARGEST_ERROR:
        return "wrong gradient"
    return f"{row['gradient_s'] / own['gradient_s']:.2g} times"


def table_of(name: str, rows: list[dict]) -> Table:
    """The rows of one problem."""
    table = Table(title=name, title_justify="left", header_style="bold")
    for column in (
        "program", "solution\nms", "solution and\ngradient, ms", "backward\nms",
        "buffers\nsolution\nMiB", "buffers\ngradient\nMiB", "process\ngrew by\nMiB",
        "compile\ngradient\ns", "relative\nerror of\ngradient", "time in units\nof mdsens",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "program" else "right")
    own = rows[0]
    for row in rows:
        label = f"{row['program']} {row['variant']}".strip()
        if row["status"] != "ok":
            table.add_row(label, row["status"])
            continue
        forward, both = 1e3 * row["forward_s"], 1e3 * row["gradient_s"]
        table.add_row(
            label, f"{forward:.3g}", f"{both:.3g}", f"{max(both - forward, 0):.3g}",
            f"{row['forward_buffers_mib']:.3g}", f"{row['gradient_buffers_mib']:.3g}",
            f"{row['gradient_memory_mib']:.0f}", f"{row['gradient_compile_s']:.1f}",
            f"{row['gradient_error']:.1e}", verdict(row, own),
        )  # fmt: skip
    return table


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes.")] = False,
    only: Annotated[str, typer.Option(help="Problems, with commas.")] = ",".join(PROBLEMS),
    out: Annotated[Path | None, typer.Option(help="File for JSON.")] = None,
) -> None:
    """Time mdsens, JAXopt and optimistix on the same layers."""
    chosen = [name.strip() for name in only.split(",")]
    if unknown := [name for name in chosen if name not in PROBLEMS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(PROBLEMS)}")
    console = Console(width=None if Console().is_terminal else 150)
    versions = {}
    for package in ("mdsens", "jax", "jaxopt", "optimistix", "lineax"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))
    console.print(
        "Medians, compiled, without compilation; every gradient against a closed form in NumPy.\n"
    )
    results = []
    for name in chosen:
        title = PROBLEMS[name](quick).name
        rows = []
        for program, variant in CONTESTANTS:
            print(f"{title}: {program} {variant}".strip(), file=sys.stderr, flush=True)
            request = {
                "problem": name, "program": program, "variant": variant, "quick": quick,
                "seconds": 0.3 if quick else 3.0,
            }  # fmt: skip
            rows.append({"program": program, "variant": variant, **run_worker(request)})
        results.append({"problem": title, "rows": rows})
        console.print(table_of(title, rows))
    if out is not None:
        out.write_text(json.dumps({"versions": versions, "results": results}, indent=2) + "\n")
        console.print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
