"""Starting one process per measurement and collecting what they print."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def run_worker(request: dict, limit: float = TIME_LIMIT) -> dict:
    """One measurement in a process of its own; a failure is a result with a ``status``."""
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(request)]
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": f"gave up after {limit:g} s"}
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
                file = str(Path(folder) / f"{len(rows)}.npy")
                own = {**options, "method": method, "positions_file": file}
                request = request_for(program, case, "relax" if method else "evaluate", own)
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
        measure_minima(case, rows, files, options["cores"], TIME_LIMIT)
    return rows


def request_for(program: str, case: Case, task: str, options: dict) -> dict:
    """What a worker is asked for."""
    return {"program": program, "task": task, "options": options, **dataclasses.asdict(case)}


def measure_minima(
    case: Case, rows: list[dict], files: dict[str, str], cores: int, limit: float
) -> None:
    """Give rows the energies and largest forces of their minima as one program measures them.

    Arguments:
        case: the atoms.
        rows: results of relaxations.
        files: for the number of a row, the file with its positions.
        cores: cores to use.
        limit: seconds after which to give up.
    """
    if not files:
        return
    checked = run_worker(
        request_for("mdsens", case, "check", {"cores": cores, "files": files}), limit
    )
    for index in files:
        row = rows[int(index)]
        if checked["status"] == "ok":
            # The program's own numbers give way to the common measure.
            row.update(checked["measured"][index])
        else:
            row["status"] = f"minimum not checked ({checked['status']})"


class NoStartError(RuntimeError):
    """There is no start from which to measure.

    Arguments:
        row: what became of the attempt to make one.
    """

    def __init__(self, row: dict) -> None:
        super().__init__(f"{row['label']}: {row['status']}")
        self.row = row


class Runner:
    """Runs measurements one after the other, each in a process of its own, and each once.

    Arguments:
        options: given to all, unless a measurement has its own: ``seconds`` and ``cores``.
        limit: seconds after which a measurement is given up.
        folder: for the structures that go from one process to the next.
        tell: told what runs now.
    """

    def __init__(self, options: dict, limit: float, folder: Path, tell: Callable[[str], None]):
        self.options, self.limit, self.folder, self.tell = options, limit, folder, tell
        self._known: dict[str, dict] = {}
        self._missing: set[str] = set()
        self._starts: dict[tuple[int, int], str] = {}
        self.files = 0

    def new_file(self) -> str:
        """The path of a file that is not there yet."""
        self.files += 1
        return str(self.folder / f"{self.files}.npy")

    def run(
        self,
        program: str,
        case: Case,
        task: str,
        label: str,
        limit: float | None = None,
        **own: Any,
    ) -> dict:
        """One measurement; with what was measured on, in a row of its own."""
        options = {**self.options, **own}
        about = {
            "program": program, "task": task, "label": label, "case": case.name,
            "potential": case.potential, "atoms": case.atom_count,
        }  # fmt: skip
        if program in self._missing:
            return {**about, "status": "not installed"}
        request = request_for(program, case, task, options)
        keep = {name: value for name, value in options.items() if not name.endswith("_file")}
        key = json.dumps({**request, "options": keep})
        if key not in self._known:
            self.tell(f"{case.name}: {label}")
            self._known[key] = run_worker(request, limit or self.limit)
            if self._known[key]["status"] == "not installed":
                self._missing.add(program)
        return {**self._known[key], **about}

    def started(self, case: Case) -> Case:
        """The case with its start in a file, if it is one of discs; else the case itself."""
        if case.potential != "discs":
            return case
        key = case.repeats, case.seed
        if key not in self._starts:
            file = self.new_file()
            prepared = self.run("mdsens", case, "prepare", "start of the packing", start_file=file)
            if prepared["status"] != "ok":
                raise NoStartError(prepared)
            self._starts[key] = file
        return dataclasses.replace(case, start=self._starts[key])

    def relaxations(
        self, case: Case, fmax: float, contestants: list[tuple], limit: float | None = None
    ) -> list[dict]:
        """Relaxations of one case, measured by one program.

        Arguments:
            case: the atoms.
            fmax: largest force at which to stop.
            contestants: program, label, and options of each.
            limit: seconds after which one of them is given up.
        """
        rows, files = [], {}
        for program, label, own in contestants:
            file = self.new_file()
            row = self.run(
                program, case, "relax", label, limit, fmax=fmax, positions_file=file, **own
            )
            row["fmax"] = fmax
            row["group"] = own.get("group", program)
            if row["status"] == "ok":
                files[str(len(rows))] = file
                one_core = own.get("cores", self.options["cores"]) == 1
                seconds = row["processor_s" if one_core else "wall_s"]
                row["us_per_atom"] = 1e6 * seconds / case.atom_count
            rows.append(row)
        self.tell(f"{case.name}: energies and forces of all minima")
        measure_minima(case, rows, files, self.options["cores"], self.limit)
        return rows
