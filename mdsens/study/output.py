"""The folder that results go to: written aside, and put in place when it is complete."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mdsens.errors import InputError

#: The file by which a folder is known to be of mdsens.
RESULTS_NAME = "results.json"


@contextlib.contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target that takes its place if all went well.

    Whatever ends the work early, an error or Ctrl-C, removes what was written; a folder of an
    earlier run is there until the very end.

    Arguments:
        target: where the results shall be.

    Yields:
        The temporary folder to write into.

    Raises:
        InputError: the place cannot be written to, or holds something that mdsens did not write.
    """
    target = Path(os.path.abspath(target))
    _require_replaceable(target)
    made = _make_parents(target.parent)
    try:
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        except OSError as error:
            raise _cannot_write(target, error) from None
        try:
            yield temporary
            _put_in_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        for folder in reversed(made):
            # Only what this run made, and only if nothing came to be in it.
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds the results of a run of mdsens.

    Arguments:
        folder: any path.

    Returns:
        True if its results.json is one of ours.
    """
    try:
        return "schema" in json.loads((folder / RESULTS_NAME).read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _require_replaceable(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"output {str(target)!r} is no folder: give another with --out")
    try:
        replaceable = not target.exists() or not any(target.iterdir()) or is_results_folder(target)
    except OSError as error:
        raise _cannot_write(target, error) from None
    if not replaceable:
        raise InputError(
            f"output folder {str(target)!r} holds files that are no results of mdsens: "
            "give another with --out"
        )


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the ones made, outermost first."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    for path in reversed(missing):
        try:
            path.mkdir()
        except OSError as error:
            for other in reversed(made):
                other.rmdir()
            raise _cannot_write(path, error) from None
        made.append(path)
    return made


def _put_in_place(temporary: Path, target: Path) -> None:
    # mkdtemp hides its folder from others; results are as open as any other folder.
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o777 & ~mask)
    try:
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            os.replace(target, old / target.name)
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(old / target.name, target)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from None


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"output folder {str(path)!r} cannot be written: {error.strerror}; give another with --out"
    )
