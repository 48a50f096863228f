"""The folder beside an output folder in which a run works, and the lock that keeps others out.

It holds a file that the run keeps locked, which says whose it is. A run that is killed leaves it
behind; the lock went with the run, so that the next one into the same folder may take it over.
"""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.study.marker import MARKER_NAME

#: What a run's own folder holds: what tells whose it is, and keeps others out; and two folders.
LOCK_NAME, NEW_NAME, EARLIER_NAME = "run.json", "results", "earlier"
#: And one more, of relaxations that are under way.
CHECKPOINTS_NAME = "checkpoints"
#: What tells whose a folder is, is shorter, bytes.
LARGEST_CLAIM = 100_000
#: How often to look again where another run comes or goes at this moment.
ATTEMPTS = 20


def run_folder(target: Path) -> Path:
    """The folder beside a target in which a run prepares what is to go there.

    Arguments:
        target: an output folder.

    Returns:
        Its path.
    """
    return target.parent / f".{target.name}.mdsens"


def acquire(target: Path, made: list[Path]) -> int:
    """Make the folder of a run, and lock its file.

    Arguments:
        target: the output folder.
        made: a list to which the folders above it are added that had to be made.

    Returns:
        The descriptor of the locked file, to be closed at the end.

    Raises:
        InputError: another run works there, or the folder is none of ours.
        OSError: it cannot be made.
    """
    folder = run_folder(target)
    path = folder / LOCK_NAME
    gone: OSError = BlockingIOError(errno.EBUSY, "other runs of mdsens come and go there")
    for _ in range(ATTEMPTS):
        try:
            _make_parents(target.parent, made)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            existed = path.exists()
            if not existed and any(folder.iterdir()):
                raise _not_ours(folder)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError as error:
            # Another run that tidies up may have removed it at this moment.
            gone = error
            continue
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise
        try:
            _lock(lock, path, existed)
            if _is_at(lock, path):
                _claim(lock, folder, target)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    raise gone


def _lock(lock: int, path: Path, existed: bool) -> None:
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        target = path.parent.parent / path.parent.name.removeprefix(".").removesuffix(".mdsens")
        raise InputError(
            f"output folder {str(target)!r}: another run of mdsens is writing to it; wait for it, "
            "or give another with --out"
        ) from None
    except (ImportError, OSError):
        # This file system or computer has no locks: whether a run still lives that was killed, or
        # that works on another computer, is not known.
        if existed and _claimed(os.pread(lock, LARGEST_CLAIM, 0)).get("process", 0) is not None:
            raise InputError(
                f"output folder: {str(path.parent)!r} is of another run of mdsens; if that has "
                "ended, remove it, or give another folder with --out"
            ) from None


def _is_at(lock: int, path: Path) -> bool:
    """Whether the file that is locked is still the one that others find there."""
    try:
        return os.path.samestat(os.fstat(lock), path.lstat())
    except FileNotFoundError:
        return False


def _claim(lock: int, folder: Path, target: Path) -> None:
    """Make sure that the folder is of a run into this target that is gone, and make it ours."""
    others = {path.name for path in folder.iterdir()} - {LOCK_NAME}
    claimed = _claimed(os.pread(lock, LARGEST_CLAIM, 0))
    if others and (
        claimed.get("program") != "mdsens"
        or claimed.get("folder") != target.name
        or not others <= {NEW_NAME, EARLIER_NAME, CHECKPOINTS_NAME, MARKER_NAME}
    ):
        raise _not_ours(folder)
    os.ftruncate(lock, 0)
    os.pwrite(lock, claim_of(target, os.getpid()).encode(), 0)


def claim_of(target: Path, process: int | None) -> str:
    """What the locked file says: whose the folder is, and which process works there, if any.

    Arguments:
        target: the output folder.
        process: number of the process; None where the run has ended and left something to go on
            from.

    Returns:
        JSON.
    """
    return json.dumps({"program": "mdsens", "folder": target.name, "process": process})


def _claimed(written: bytes) -> dict[str, Any]:
    """What a locked file says; nothing where it is none of ours."""
    try:
        found = json.loads(written)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        if path not in made:
            made.append(path)


def _not_ours(folder: Path) -> InputError:
    return InputError(
        f"{str(folder)!r} stands where mdsens prepares its results, and it did not write it: move "
        "it away, or give another folder with --out"
    )
