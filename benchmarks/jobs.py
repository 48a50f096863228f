"""Starting one process per measurement and collecting what they print."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.systems import Case

#: The relaxations of each program.
METHODS = {
    "mdsens": ("auto", "lbfgs", "fire"),
    "lammps": ("fire", "cg"),
    "jax-md": ("fire_descent",),
}
LABELS = {"mdsens": "mdsens", "lammps": "LAMMPS", "jax-md": "jax-md"}
#: Seconds after which a measurement is given up.
TIME_LIMIT = 300.0


def run_worker(request: dict) -> dict:
    """One measurement in a process of its own; a failure is a result with a ``status``."""
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(request)]
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": f"gave up after {TIME_LIMIT:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        error = done.stderr.strip().splitlines()
        return {"status": f"failed: {error[-1] if error else f'exit {done.returncode}'}"}
    return json.loads(lines[-1])


def run_case(
    case: Case, programs: list[str], options: dict, tell: Callable[[str], None]
) -> list[dict]:
    """All measurements of one case.

    Arguments:
        case: the atoms.
        programs: the programs to run.
        options: ``seconds`` to spend on a timing and ``cores`` to use.
        tell: told what runs now.

    Returns:
        A row per measurement.
    """
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            missing = False
            for method in (None, *METHODS[program]):
                label = f"{LABELS[program]} {method}" if method else LABELS[program]
                request = {
                    "program": program,
                    "potential": case.potential,
                    "repeats": case.repeats,
                    "task": "relax" if method else "evaluate",
                    "options": {**options, "method": method},
                }
                request["options"]["positions_file"] = str(Path(folder) / f"{len(rows)}.npy")
                tell(f"{case.name}: {label}")
                result = {"status": "not installed"} if missing else run_worker(request)
                missing = result["status"] == "not installed"
                rows.append({**result, "program": program, "task": request["task"], "label": label})
        tell(f"{case.name}: energies and forces of all minima")
        files = {
            str(index): str(Path(folder) / f"{index}.npy")
            for index, row in enumerate(rows)
            if row["task"] == "relax" and row["status"] == "ok"
        }
        checked = run_worker(
            {
                "program": "mdsens",
                "potential": case.potential,
                "repeats": case.repeats,
                "task": "check",
                "options": {"cores": options["cores"], "files": files},
            }
        )
    for index in files:
        row = rows[int(index)]
        if checked["status"] == "ok":
            # The program's own numbers give way to the common measure.
            row.update(checked["measured"][index])
        else:
            row["status"] = f"minimum not checked ({checked['status']})"
    return rows
