"""First results of fresh processes: what a user waits for who has just begun."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The mdsens command, whether or not it is on the path.
COMMAND = ("-c", "from mdsens.cli import main; main()")
#: Fresh processes of which the median counts.
REPEATS = 3
#: How the names of settings begin of which a fresh process has none.
#: The last keeps Python from keeping what it makes of sources, which then takes a second each time.
SETTINGS = ("JAX_", "XLA_", "MDSENS_", "PYTHONDONTWRITEBYTECODE")


def import_of_jax(limit: float) -> dict:
    """The time of `import jax`, beside which all others are to be seen."""
    return _median([_fresh_process(("-c", "import jax"), "off", limit) for _ in range(REPEATS)])


def with_empty_cache(command: Sequence[str], limit: float, repeats: int = REPEATS) -> dict:
    """The median of fresh processes that find nothing compiled on disk.

    Arguments:
        command: arguments of Python; ``{out}`` among them stands for a new folder.
        limit: seconds after which one is given up.
        repeats: how many processes.

    Returns:
        A row: ``wall_s`` from the start to the end of the process, and what was compiled.
    """
    rows = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            rows.append(_fresh_process(command, cache, limit))
    return _median(rows)


def with_filled_cache(command: Sequence[str], limit: float) -> dict:
    """The same of processes that find on disk all that another has compiled."""
    with tempfile.TemporaryDirectory() as cache:
        first, *others = (_fresh_process(command, cache, limit) for _ in range(REPEATS + 1))
    return _median(others) if first["status"] == "ok" else first


def _median(rows: list[dict]) -> dict:
    failed = [row for row in rows if row["status"] != "ok"]
    if failed:
        return failed[0]
    middle = statistics.median_low(row["wall_s"] for row in rows)
    return next(row for row in rows if row["wall_s"] == middle)


def clean_environment(cache: str) -> dict[str, str]:
    """The environment of a process that keeps its programs in a folder, without other settings."""
    others = {name: of for name, of in os.environ.items() if not name.startswith(SETTINGS)}
    return others | {"MDSENS_CACHE": cache}


def _fresh_process(command: Sequence[str], cache: str, limit: float) -> dict:
    """Run Python with a folder for compiled code; the whole time counts."""
    environment = clean_environment(cache) | {"JAX_LOG_COMPILES": "1"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [part.replace("{out}", str(Path(folder) / "out")) for part in command]
        begin = time.perf_counter()
        try:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True,
                text=True, timeout=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"status": f"gave up after {limit:g} s"}
        wall = time.perf_counter() - begin
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"status": f"failed: {lines[-1] if lines else f'exit {done.returncode}'}"}
    programs = done.stderr.count("Finished XLA compilation")
    return {"status": "ok", "wall_s": wall, "programs": programs, **_reported(done.stdout)}


def _reported(output: str) -> dict:
    """What a process says of itself: a line of the command, or JSON of `first_result`."""
    lines = output.splitlines()
    told = [line for line in lines if line.startswith("relaxed in")]
    if told:
        return {"note": told[-1]}
    if not lines:
        return {"note": ""}
    reported = json.loads(lines[-1])
    seconds = {name[:-2]: of for name, of in reported.items() if name[-2:] == "_s"}
    note = ", ".join(f"{name.replace('_', ' ')} {_time(of)}" for name, of in seconds.items())
    others = {name: reported[name] for name in reported if name[-2:] != "_s"}
    return {"note": note, "stages": seconds, **others}


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 0.5 else f"{seconds:.1f} s"
