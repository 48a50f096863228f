"""The files by which a sweep knows what it has done: sweep.json, and a journal beside it.

The truth is on the disk at every moment: a run is finished when its folder is there, which is put
in place as a whole; that and each failure is a line of the journal, which only grows. From both
sweep.json is made anew now and then, for whoever wants to read all in one file.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mdsens.errors import InputError
from mdsens.files import read_bytes
from mdsens.study.marker import MARKER_NAME, read_marker
from mdsens.study.results_file import RESULTS_NAME
from mdsens.values import shown

SWEEP_NAME, JOURNAL_NAME = "sweep.json", "journal.jsonl"
#: The folder in which each run has its own.
RUNS_FOLDER = "runs"
#: Version of the layout of sweep.json.
SWEEP_SCHEMA = 1
#: Larger files are no manifest and no journal, bytes.
LARGEST_SWEEP = 1_000_000_000


class RunState(BaseModel):
    """What is known of a run: a line of the journal.

    Attributes:
        run: its number.
        state: ``"finished"`` or ``"failed"``.
        fingerprint: of the study that was run.
        seconds: how long it took.
        reason: why it failed; empty where it did not.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    run: int
    state: Literal["finished", "failed"]
    fingerprint: str
    seconds: float
    reason: str = ""


class Journal:
    """The lines that a sweep adds to its journal, each when a run has ended.

    Arguments:
        folder: the folder of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME

    def read(self) -> dict[int, RunState]:
        """What it says, the last word on each run; a line that was cut short is none.

        Raises:
            InputError: it cannot be read.
        """
        if not os.path.lexists(self._path):
            return {}
        found = {}
        for line in read_bytes(self._path, LARGEST_SWEEP).splitlines():
            try:
                state = RunState.model_validate_json(line)
            except ValidationError:
                continue
            found[state.run] = state
        return found

    def add(self, state: RunState) -> None:
        """Add a line, which is on the disk when this returns.

        Raises:
            OSError: it cannot be written.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        file = os.open(self._path, flags, 0o666)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            # What a full disk or a power cut has left of a line ends here.
            cut = end > 0 and os.pread(file, 1, end - 1) != b"\n"
            line = b"\n" * cut + state.model_dump_json().encode() + b"\n"
            while line:
                line = line[os.write(file, line) :]
            os.fsync(file)
        finally:
            os.close(file)

    @property
    def size(self) -> int:
        """How long it is, bytes; 0 where there is none."""
        return self._path.stat().st_size if self._path.is_file() else 0


def run_name(run: int) -> str:
    """The folder of a run, inside that of its sweep.

    Arguments:
        run: its number, from 0.

    Returns:
        E.g. ``"runs/0007"``.
    """
    return f"{RUNS_FOLDER}/{run:04d}"


def known_states(folder: Path) -> dict[int, RunState]:
    """What has become of the runs of a sweep, from their folders and its journal.

    Arguments:
        folder: that of the sweep.

    Returns:
        By number, those that are finished or have failed.

    Raises:
        InputError: the journal cannot be read.
    """
    said = Journal(folder).read()
    found = {run: state for run, state in said.items() if state.state == "failed"}
    for run in _finished_folders(folder / RUNS_FOLDER):
        state = said.get(run)
        if state is None or state.state != "finished":
            # The process ended between putting the folder in place and writing that down.
            if not is_whole(folder / run_name(run)):
                continue
            results = json.loads(read_bytes(folder / run_name(run) / RESULTS_NAME, LARGEST_SWEEP))
            state = RunState(
                run=run,
                state="finished",
                fingerprint=results.get("fingerprint") or "",
                seconds=sum(results["timing"][key] for key in ("relax_s", "sensitivity_s")),
            )
        found[run] = state
    return dict(sorted(found.items()))


def is_whole(folder: Path) -> bool:
    """Whether the files of a run are those that were written, as after a power cut they may not be.

    Arguments:
        folder: that of the run.

    Returns:
        False where one of them is missing or another.
    """
    try:
        marker = read_marker(folder)
    except (InputError, OSError):
        return False
    return (
        marker is not None
        and marker.complete
        and all((folder / name).is_file() for name in marker.files)
        and all(marker.is_unchanged(folder, name) for name in marker.files)
    )


def _finished_folders(folder: Path) -> Iterator[int]:
    """Numbers of the runs whose folders are in place."""
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        name = entry.name
        if not (name.isascii() and name.isdigit() and run_name(int(name)) == f"runs/{name}"):
            continue
        if all(os.path.isfile(os.path.join(entry.path, file)) for file in
               (MARKER_NAME, RESULTS_NAME)):  # fmt: skip
            yield int(name)


def manifest_text(head: Mapping[str, Any], runs: list[dict[str, Any]]) -> str:
    """The text of a sweep.json.

    Arguments:
        head: all but the runs.
        runs: what is said of each; it has a line of its own.

    Returns:
        JSON.
    """
    lines = ",\n  ".join(json.dumps(run, allow_nan=False) for run in runs)
    opened = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    return f'{opened},\n "runs": [\n  {lines}\n ]\n}}\n'


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep, with what has become of its runs by now.

    Arguments:
        folder: the folder of the sweep.

    Returns:
        What sweep.json holds, the states of the runs from the disk.

    Raises:
        InputError: there is none, or none of this version.
    """
    path = folder / SWEEP_NAME
    if not path.is_file():
        raise InputError(f"{shown(str(folder))} holds no sweep: give the folder of one")
    try:
        manifest = json.loads(read_bytes(path, LARGEST_SWEEP))
        runs, schema = manifest["runs"], manifest["schema"]
        if schema != SWEEP_SCHEMA:
            raise ValueError(f"layout {schema!r}, and this version reads {SWEEP_SCHEMA}")
        states = known_states(folder)
        manifest["runs"] = [
            described(run["run"], run["settings"], states.get(run["run"])) for run in runs
        ]
        manifest["counts"] = counts(manifest["runs"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{shown(str(path))} is no manifest of a sweep: {' '.join(str(error).split())}"
        ) from None
    return dict(manifest)


def described(run: int, settings: Mapping[str, Any], state: RunState | None) -> dict[str, Any]:
    """What sweep.json says of a run.

    Arguments:
        run: its number.
        settings: the values of the swept keys.
        state: what has become of it; None where it is still to be run.

    Returns:
        An entry of its list ``runs``.
    """
    known: dict[str, Any] = {"state": "pending"}
    if state is not None:
        known = {"state": state.state, "seconds": round(state.seconds, 3)}
        known |= {"reason": state.reason} if state.state == "failed" else {}
    return {"run": run, "folder": run_name(run), "settings": dict(settings), **known}


def counts(runs: list[dict[str, Any]]) -> dict[str, int]:
    """Numbers of runs by their state.

    Arguments:
        runs: from `described`.

    Returns:
        Those that are finished, failed and pending.
    """
    states = [run["state"] for run in runs]
    return {state: states.count(state) for state in ("finished", "failed", "pending")}
